//! Which step is sent now, to whom, and how long it may take.

use std::collections::BTreeMap;

use model::action::{Command, Size, Verb};
use model::cassandra::CassandraStep;
use model::hdfs::HdfsStep;
use model::id::NodeId;
use model::reason::Direction;
use model::workload::{Mode, WorkloadKind};
use model::yarn::YarnStep;

use super::{Controller, Own};
use crate::cluster::cassandra::Place;
use crate::cluster::change::{Machine, Step};
use crate::cluster::gate::{Gate, place};
use crate::cluster::{cassandra, hdfs, yarn};
use crate::controller::Context;
use crate::event::Time;
use crate::place::Link;
use crate::rollout::{ANSWER_MS, Fence, START_MS};

/// Changing a list of hosts: the tool is a JVM and has 60 s, what it does must show within 20 s, and putting it back takes as long.
const LIST_MS: u64 = 180_000;
/// A node that is asked to leave the ring is seen leaving within seconds; a loaded one takes longer to say so.
const ASK_MS: u64 = 90_000;
/// Rewriting all that a node has: at 24 MiB/s two terabytes take a day.
const CLEANUP_MS: u64 = 86_400_000;
/// Moving blocks: the agent gives up after a day.
const BALANCE_MS: u64 = 90_000_000;
/// What can wait begins within a day, whatever that is like.
const WAIT_MS: u64 = 86_400_000;
/// YARN kills containers when the timeout that it was told is over. It is told so many times ours and an hour.
const TIMEOUT_TIMES: u64 = 10;

impl Controller {
    /// Commands for the step that is due, if any, and for what members advertise.
    pub(crate) fn orders(&mut self, fence: &mut Fence, context: &Context<'_>) -> Vec<(NodeId, Command)> {
        let mut commands = self.step_orders(fence, context);
        commands.extend(self.amount_orders(fence, context));
        commands
    }

    fn step_orders(&mut self, fence: &mut Fence, context: &Context<'_>) -> Vec<(NodeId, Command)> {
        let may = match self.workload.spec.mode {
            Mode::Observe => false,
            Mode::Recommend => self.underway.as_ref().is_some_and(|underway| underway.approved),
            Mode::Auto => true,
        };
        let paused = self.paused(context).is_some();
        self.leave_uneven(context.now);
        let Some(underway) = self.underway.as_ref().filter(|_| may && self.in_force) else {
            return Vec::new();
        };
        let Some(step) = underway.change.due(context.now) else { return Vec::new() };
        // While paused nothing goes further; what goes back does.
        if paused && !goes_back(step) {
            return Vec::new();
        }
        if asks_to_leave(step) && !self.still_may_leave(context) {
            return Vec::new();
        }
        // Somebody may have put it back into service since: on old reports nobody knows.
        if ends(step) && self.leaves() && self.seen.doubt(context.now).is_some() {
            return Vec::new();
        }
        if let Some(what) = can_wait(step)
            && self.waits_for_valley(what, context.now)
        {
            return Vec::new();
        }
        let Some(underway) = self.underway.as_ref() else { return Vec::new() };
        let Some((to, verb, within_ms)) = self.issue(step) else { return Vec::new() };
        let able = context.nodes.get(&to).is_some_and(|node| match &verb {
            Verb::Start { launcher, .. } => node.can_start(launcher.as_str()),
            _ => node.link == Link::Up,
        });
        let task = underway.change.task.clone().or_else(|| self.pseudo());
        let (Some(task), true) = (task, able) else { return Vec::new() };
        let of = (&self.workload.name, &task);
        let (command, due) = fence.command(&mut self.generation, of, verb, within_ms, context.now);
        if let Some(underway) = &mut self.underway {
            underway.change.sent(command.id, due);
        }
        vec![(to, command)]
    }

    /// The step by which a leave begins is about to be sent, maybe again: what held when it was decided may not hold any more. On old reports
    /// it waits; behind a closed gate it goes back.
    fn still_may_leave(&mut self, context: &Context<'_>) -> bool {
        let now = context.now;
        let Some(underway) = self.underway.as_ref() else { return false };
        if underway.change.began == now {
            // It was decided in this very round.
            return true;
        }
        if self.seen.doubt(now).is_some() {
            return false;
        }
        let member = underway.change.member.clone();
        // Nothing is asked of one that others do not see in its place: it may be leaving already.
        if self.kind() == WorkloadKind::Cassandra
            && place(&self.seen.fresh_ring(now), &member) != Place::Normal
        {
            return false;
        }
        // A try that was not answered may have changed how the member itself is.
        let own = |gate: &Gate| matches!(gate, Gate::NotWell { member: of, .. } if *of == member);
        let closed: Vec<String> =
            self.gates(&member, context).0.iter().filter(|gate| !own(gate)).map(Gate::to_string).collect();
        if closed.is_empty() {
            return true;
        }
        self.news_told.push((member, format!("it stays: {}", closed.join("; "))));
        self.take_back(now);
        false
    }

    /// Another member is needed: nobody joins while a change is on its way.
    fn is_urgent(&self) -> bool {
        let there = u32::try_from(self.seen.there().len()).unwrap_or(u32::MAX);
        self.wanted.is_some_and(|wanted| wanted > there)
    }

    /// Blocks that are not moved yet are moved after the next node has come.
    fn leave_uneven(&mut self, now: Time) {
        if self.balances() && self.is_urgent() {
            self.take_back(now);
        }
    }

    /// Housekeeping can wait for the time of the day with the fewest requests, but no longer than a day, and not while the cluster needs another
    /// member.
    fn waits_for_valley(&mut self, what: &str, now: Time) -> bool {
        let urgent = self.is_urgent();
        let wait_ms = self.seen.valley.wait_ms(now).unwrap_or(0);
        let Some(underway) = &mut self.underway else { return false };
        let late = now.since(underway.change.began) >= WAIT_MS;
        if wait_ms == 0 || urgent || late {
            underway.waits = None;
            return false;
        }
        if underway.waits.is_none() {
            underway.waits = Some(now);
            let minutes = wait_ms.div_ceil(60_000);
            let when = format!("in {} h {} min, as the last day was", minutes / 60, minutes % 60);
            self.news_told.push((underway.change.member.clone(), format!("{what}: {when}")));
        }
        true
    }

    fn issue(&self, step: Step) -> Option<(NodeId, Verb, u64)> {
        let underway = self.underway.as_ref()?;
        let (spec, change) = (self.cluster()?, &underway.change);
        let (cluster, member) = (spec.cluster.clone(), change.member.clone());
        let own = || self.own.get(change.task.as_ref()?);
        let start = || own().and_then(|own| Some((own.node.clone(), self.start(own)?, START_MS)));
        let stop = || {
            let grace_ms = self.workload.spec.behavior.stop_grace.0;
            let verb = Verb::Stop { grace_ms: u32::try_from(grace_ms).unwrap_or(u32::MAX) };
            own().map(|own| (own.node.clone(), verb, grace_ms + ANSWER_MS))
        };
        match step {
            Step::Yarn(step) => {
                let beside = || self.seen.yarn.as_ref().map(|seen| seen.node.clone());
                let list = |step| Some((beside()?, Verb::Yarn { cluster: cluster.clone(), step }, LIST_MS));
                match step {
                    yarn::Step::Exclude => {
                        let seconds = spec.drain_ms().saturating_mul(TIMEOUT_TIMES) / 1_000 + 3_600;
                        let timeout_s = u32::try_from(seconds).unwrap_or(u32::MAX);
                        list(YarnStep::Exclude { host: member, timeout_s })
                    }
                    yarn::Step::Include => list(YarnStep::Include { host: member }),
                    yarn::Step::Start => start(),
                    yarn::Step::Stop => stop(),
                }
            }
            Step::Hdfs(step) => {
                let beside = || self.seen.hdfs.as_ref().map(|seen| seen.node.clone());
                let ask = |step, within_ms| {
                    Some((beside()?, Verb::Hdfs { cluster: cluster.clone(), step }, within_ms))
                };
                match step {
                    hdfs::Step::Decommission => ask(HdfsStep::Decommission { node: member }, LIST_MS),
                    hdfs::Step::Recommission => ask(HdfsStep::Recommission { node: member }, LIST_MS),
                    hdfs::Step::Balance => ask(HdfsStep::Balance { node: member }, BALANCE_MS),
                    hdfs::Step::Start => start(),
                    hdfs::Step::Stop => stop(),
                }
            }
            Step::Cassandra(step) => {
                let ask = |node: String, step, within_ms| {
                    let to = self.seen.ring.get(&node)?.node.clone();
                    Some((to, Verb::Cassandra { cluster: cluster.clone(), node, step }, within_ms))
                };
                match step {
                    cassandra::Step::Decommission => ask(member, CassandraStep::Decommission, ASK_MS),
                    cassandra::Step::Cleanup => {
                        let Machine::Cassandra(cassandra::State::Cleaning { through, .. }) = change.machine
                        else {
                            return None;
                        };
                        ask(self.to_clean(through)?, CassandraStep::Cleanup, CLEANUP_MS)
                    }
                    // Its directory is named by its task: the same one, and never another's.
                    cassandra::Step::Start | cassandra::Step::Restart => start(),
                    cassandra::Step::Stop => stop(),
                }
            }
        }
    }

    fn start(&self, own: &Own) -> Option<Verb> {
        let spec = &self.workload.spec;
        let mut parameters: BTreeMap<String, String> =
            self.cluster().map(|spec| spec.parameters.clone()).unwrap_or_default();
        if let Some(slot) = self.cluster().and_then(|spec| spec.slot(own.number)) {
            parameters.insert("slot".to_owned(), slot.to_string());
        }
        let size = Size {
            cpu_max_millis: spec.size.cpu.map(|cpu| cpu.0),
            memory_max_bytes: spec.size.memory.map(|memory| memory.0),
            ..Size::default()
        };
        Some(Verb::Start {
            launcher: self.cluster()?.launcher.clone()?,
            parameters,
            size,
            startup_cpu_millis: spec.size.startup_cpu.map(|cpu| cpu.0),
            class: spec.class(),
        })
    }

    /// The change grows the cluster.
    pub(super) fn grows(&self) -> bool {
        self.underway.as_ref().is_some_and(|underway| underway.direction == Direction::Grow)
    }

    /// The change shrinks it.
    pub(super) fn leaves(&self) -> bool {
        self.underway.as_ref().is_some_and(|underway| underway.direction == Direction::Shrink)
    }
}

fn asks_to_leave(step: Step) -> bool {
    matches!(
        step,
        Step::Yarn(yarn::Step::Exclude)
            | Step::Hdfs(hdfs::Step::Decommission)
            | Step::Cassandra(cassandra::Step::Decommission)
    )
}

fn ends(step: Step) -> bool {
    matches!(
        step,
        Step::Yarn(yarn::Step::Stop) | Step::Hdfs(hdfs::Step::Stop) | Step::Cassandra(cassandra::Step::Stop)
    )
}

/// What is put off until there is less to do, in words; `None` = a step that is not put off.
fn can_wait(step: Step) -> Option<&'static str> {
    match step {
        Step::Cassandra(cassandra::Step::Cleanup) => {
            Some("what other members do not own any more is deleted when there are fewer requests")
        }
        Step::Hdfs(hdfs::Step::Balance) => Some("blocks are moved to it when there are fewer transfers"),
        _ => None,
    }
}

fn goes_back(step: Step) -> bool {
    matches!(step, Step::Yarn(yarn::Step::Include) | Step::Hdfs(hdfs::Step::Recommission))
}
