//! What an event means for the change that is on its way, and for the processes of ours.

use std::collections::BTreeSet;

use model::action::{Outcome, TaskEvent, TaskEventKind};
use model::decision::{Decision, DecisionId, DecisionKind};
use model::id::{NodeId, TaskName};
use model::reason::{Direction, Reason};
use model::workload::WorkloadKind;
use model::yarn::YarnState;

use super::{APPROVED_MS, Controller, DECLINED_MS, Declined, Own, TOLD_KEPT};
use crate::cluster::change::{Event, Machine, Told};
use crate::cluster::gate::{COMPACTIONS, place};
use crate::cluster::{cassandra, hdfs, yarn};
use crate::controller::number_of;
use crate::event::{ClusterDigest, RunningTask, Time};
use crate::view::Anomaly;

/// An agent may have begun to read before the step was answered whose effect its report is to show, ms: reads are given up after 3 s.
const READ_MS: u64 = 5_000;
/// A number that far above the next one is not ours.
const NUMBERS_AHEAD: u32 = 100_000;

impl Controller {
    /// An agent's report of the cluster.
    pub(crate) fn report(&mut self, digest: ClusterDigest, now: Time) {
        let ClusterDigest { node, at, report, .. } = digest;
        let before = self.seen.there();
        self.seen.take(node, at, report);
        let anew = self.seen.restarts(at);
        let changes = self.underway.as_ref().map(|underway| underway.change.member.clone());
        let mut runs: BTreeSet<String> = BTreeSet::new();
        let mut others: BTreeSet<String> = changes.into_iter().collect();
        for own in self.own.values() {
            let stays = own.runs && !others.contains(&own.member);
            if stays { &mut runs } else { &mut others }.insert(own.member.clone());
        }
        self.seen.miss(before, &runs, &others, at);
        self.news = true;
        if anew && self.kind() == WorkloadKind::Yarn {
            self.tell(Event::Yarn(yarn::Event::Restarted), now);
        }
        self.show_change(now);
    }

    /// Shows the change what the newest reports say of its member.
    fn show_change(&mut self, now: Time) {
        if let Some(event) = self.shown(now) {
            self.tell(event, now);
        }
        let own_word = self.underway.as_ref().and_then(|underway| {
            let known = self.seen.ring.get(&underway.change.member)?;
            let failed = known.report.mode == model::cassandra::CassandraMode::DecommissionFailed;
            (failed && underway.change.settled_before(Time(known.at.0.saturating_sub(READ_MS)))).then_some(())
        });
        // It is a full member in everybody's view then, and was not let go.
        if own_word.is_some()
            && self.underway.as_ref().is_some_and(|underway| {
                matches!(underway.change.machine, Machine::Cassandra(cassandra::State::Leaving { .. }))
                    && place(&self.seen.fresh_ring(now), &underway.change.member) == cassandra::Place::Normal
            })
        {
            self.tell(Event::Cassandra(cassandra::Event::SaysFailed), now);
        }
        self.all_clean(now);
        self.all_even(now);
    }

    /// What the newest reports say of the member that changes; `None` while they are older than what was asked last.
    fn shown(&self, now: Time) -> Option<Event> {
        let change = &self.underway.as_ref()?.change;
        let settled = |at: Time| change.settled_before(Time(at.0.saturating_sub(READ_MS)));
        match change.machine {
            Machine::Yarn(_) => {
                let seen = self.seen.yarn.as_ref().filter(|seen| settled(seen.at))?;
                let node = seen.report.nodes.iter().find(|node| node.host == change.member);
                Some(Event::Yarn(node.map_or(yarn::Event::Missing, |node| yarn::Event::Seen {
                    state: node.state,
                    busy: node.containers > 0,
                    master: node.masters > 0,
                })))
            }
            Machine::Hdfs(_) => {
                let seen = self.seen.hdfs.as_ref().filter(|seen| settled(seen.at))?;
                let danger = seen.report.missing_blocks > 0 || seen.report.corrupt_blocks > 0;
                if danger && self.leaves() {
                    return Some(Event::Hdfs(hdfs::Event::Endangered));
                }
                let node = seen.report.nodes.iter().find(|node| node.name == change.member);
                if node.is_none_or(|node| !node.alive) && self.seen.has_just_restarted(now) {
                    return None;
                }
                Some(Event::Hdfs(node.map_or(hdfs::Event::Missing, |node| hdfs::Event::Seen {
                    alive: node.alive,
                    state: node.state,
                    left: node.to_copy,
                })))
            }
            Machine::Cassandra(_) => {
                let ring = self.seen.fresh_ring(now);
                // Every other view must be newer than what was asked.
                let others = ring.keys().filter(|address| **address != change.member);
                // And there must be one of everybody who answers: a single view may be the first to hear, or the last.
                let views = ring.iter().filter(|(address, _)| **address != change.member);
                let mut live = views.flat_map(|(_, view)| &view.ring.live);
                if live.any(|address| *address != change.member && !ring.contains_key(address)) {
                    return None;
                }
                let oldest = others.filter_map(|address| Some(self.seen.ring.get(address)?.at)).min();
                oldest.filter(|at| settled(*at))?;
                let own = ring.get(&change.member);
                let settled =
                    own.is_some_and(|own| own.streams == 0 && own.pending_compactions <= COMPACTIONS);
                let place = place(&ring, &change.member);
                Some(Event::Cassandra(cassandra::Event::Seen { place, settled }))
            }
        }
    }

    /// The members that a new one relieved are cleaned up one after the other; then it is done.
    fn all_clean(&mut self, now: Time) {
        let Some(underway) = self.underway.as_ref().filter(|_| self.seen.is_known()) else { return };
        if let Machine::Cassandra(cassandra::State::Cleaning { through, .. }) = underway.change.machine
            && self.to_clean(through).is_none()
        {
            self.tell(Event::Cassandra(cassandra::Event::AllClean), now);
        }
    }

    /// Blocks are moved to the node that came.
    pub(super) fn balances(&self) -> bool {
        let moved = |machine| matches!(machine, Machine::Hdfs(hdfs::State::Balancing { .. }));
        self.underway.as_ref().is_some_and(|underway| moved(underway.change.machine))
    }

    /// Where all disks are about as full nothing need be moved to a node that came.
    fn all_even(&mut self, now: Time) {
        let even = self.seen.hdfs.as_ref().is_some_and(|seen| seen.report.is_even());
        if even && self.balances() {
            self.tell(Event::Hdfs(hdfs::Event::Even), now);
        }
    }

    /// The old member that is cleaned up after so many others.
    pub(super) fn to_clean(&self, through: u32) -> Option<String> {
        let joined = &self.underway.as_ref()?.change.member;
        self.seen.there().into_iter().filter(|member| member != joined).nth(through as usize)
    }

    /// Tells the change what happened.
    fn tell(&mut self, event: Event, now: Time) {
        let limits = self.limits();
        let Some(underway) = &mut self.underway else { return };
        let told = underway.change.on(event, &limits, now);
        if underway.change.machine.keeps_house() {
            underway.joined.get_or_insert(now);
        }
        self.heard(told, now);
    }

    /// Keeps what people must hear of.
    fn heard(&mut self, told: Vec<Told>, now: Time) {
        let Some(underway) = &self.underway else { return };
        let member = underway.change.member.clone();
        for told in told {
            match told {
                Told::Incident(what) => self.news_told.push((member.clone(), what)),
                Told::Anomaly(what) => {
                    let task = underway.change.task.clone().or_else(|| self.pseudo());
                    let Some(task) = task else { continue };
                    self.anomalies.push_front(Anomaly { at: now, task, what });
                    self.anomalies.truncate(TOLD_KEPT);
                }
            }
        }
    }

    /// A name for commands that are about no process of ours: numbers begin at 1.
    pub(super) fn pseudo(&self) -> Option<TaskName> {
        TaskName::new(format!("{}-0", self.workload.name)).ok()
    }

    /// An agent answered.
    pub(crate) fn outcome(&mut self, outcome: &Outcome, now: Time) {
        if self.amount_answered(outcome, now) {
            return;
        }
        let limits = self.limits();
        let Some(underway) = &mut self.underway else { return };
        let Some(told) = underway.change.answered(outcome, &limits, now) else { return };
        self.heard(told, now);
        self.all_clean(now);
    }

    /// Something happened to one of our processes.
    pub(crate) fn task(&mut self, node: &NodeId, event: &TaskEvent, now: Time) {
        match &event.kind {
            TaskEventKind::Started { .. } | TaskEventKind::Adopted { .. } | TaskEventKind::Healthy => {
                self.runs(node, &event.task, now);
            }
            TaskEventKind::Ended { status, signal, .. } => {
                let how = match (status, signal) {
                    (Some(status), _) => format!("it ended with status {status}"),
                    (None, Some(signal)) => format!("signal {signal} ended it"),
                    (None, None) => "nobody saw its end".to_owned(),
                };
                self.ended(&event.task, how, now);
            }
            TaskEventKind::Unhealthy { .. }
            | TaskEventKind::Strained { .. }
            | TaskEventKind::Crowded { .. } => {}
        }
    }

    fn ended(&mut self, task: &TaskName, how: String, now: Time) {
        let limits = self.limits();
        let Some(own) = self.own.get_mut(task) else { return };
        let ran = std::mem::replace(&mut own.runs, false);
        if ran {
            own.since = now;
        }
        let ours = self.underway.as_mut().filter(|underway| underway.change.task.as_ref() == Some(task));
        if let Some(underway) = ours {
            underway.change.trouble = Some(how);
            let told = underway.change.ended(&limits, now);
            self.heard(told, now);
        } else if ran {
            self.missing.push(Reason::LostReplica { task: task.clone(), why: how });
            self.missing.truncate(16);
        }
    }

    /// An agent connected and says which of our processes run on its node.
    pub(crate) fn node_up(&mut self, node: &NodeId, running: &[RunningTask], now: Time) {
        let workload = self.workload.name.clone();
        for found in running.iter().filter(|found| found.workload == workload) {
            self.runs(node, &found.task, now);
        }
        let runs = |task: &TaskName| running.iter().any(|found| found.task == *task);
        let gone: Vec<TaskName> = self
            .own
            .values()
            .filter(|own| own.node == *node && own.runs && !runs(&own.task))
            .map(|own| own.task.clone())
            .collect();
        let starts = self.underway.as_ref().and_then(|underway| {
            let begins = matches!(
                underway.change.machine,
                Machine::Yarn(yarn::State::Clearing { .. } | yarn::State::Starting { .. })
                    | Machine::Hdfs(hdfs::State::Clearing { .. } | hdfs::State::Starting { .. })
                    | Machine::Cassandra(
                        cassandra::State::Starting { .. }
                            | cassandra::State::Reviving { .. }
                            | cassandra::State::Mending { .. }
                    )
            );
            underway.change.task.clone().filter(|_| begins)
        });
        // A start that never arrived is ordered again; anything else that should run has ended.
        for task in gone.iter().filter(|task| Some(*task) != starts.as_ref()) {
            self.ended(task, "it was gone when its agent came back".to_owned(), now);
        }
        self.amounts.forget_sent();
        if let Some(underway) = &mut self.underway {
            // Any step may have gone through the stream that broke; all are safe to repeat.
            underway.change.forget_sent(now);
        }
    }

    /// The process of the member that comes runs, whether or not the answer to its start comes: it is not started once more. One of a ring that ended
    /// before it had joined must not be.
    fn has_started(&mut self, task: &TaskName, now: Time) {
        let comes = |underway: &&super::Underway| underway.change.task.as_ref() == Some(task);
        let event = self.underway.as_ref().filter(comes).and_then(|underway| match underway.change.machine {
            Machine::Yarn(yarn::State::Starting { .. }) => {
                Some(Event::Yarn(yarn::Event::Done(yarn::Step::Start)))
            }
            Machine::Hdfs(hdfs::State::Starting { .. }) => {
                Some(Event::Hdfs(hdfs::Event::Done(hdfs::Step::Start)))
            }
            Machine::Cassandra(cassandra::State::Starting { .. }) => {
                Some(Event::Cassandra(cassandra::Event::Done(cassandra::Step::Start)))
            }
            _ => None,
        });
        if let Some(event) = event {
            self.tell(event, now);
        }
    }

    /// A process of ours runs; one that is not known is an earlier store's.
    fn runs(&mut self, node: &NodeId, task: &TaskName, now: Time) {
        if let Some(own) = self.own.get_mut(task) {
            if !std::mem::replace(&mut own.runs, true) {
                own.since = now;
            }
            self.has_started(task, now);
            return;
        }
        let number = number_of(task, &self.workload.name);
        let ours = number.filter(|n| *n > 0 && *n < self.next_number.saturating_add(NUMBERS_AHEAD));
        let (Some(number), Some(spec)) = (ours, self.cluster()) else { return };
        let member = spec.name(node, spec.slot(number));
        self.next_number = self.next_number.max(number.saturating_add(1));
        let own = Own { task: task.clone(), number, node: node.clone(), member, runs: true, since: now };
        self.own.insert(task.clone(), own);
    }

    /// An operator approved what was recommended: it may begin while it is still what is decided.
    pub(crate) fn approve(&mut self, decision: DecisionId, now: Time) {
        let recommended = self.of_members().filter(|newest| newest.id == decision && !newest.act);
        if let Some(task) = recommended.and_then(|recommended| recommended.tasks.first()) {
            self.approved = Some((task.clone(), now.after(APPROVED_MS)));
            self.news = true;
        }
    }

    /// An operator does not want what was recommended: it is not offered again for a while, unless it becomes something else.
    pub(crate) fn decline(&mut self, decision: DecisionId, why: String, for_ms: Option<u64>, now: Time) {
        if self.recommends() != Some(decision) {
            return;
        }
        let declined = self.of_members().map(|newest| (newest.kind, newest.after));
        let until = now.after(for_ms.unwrap_or(DECLINED_MS));
        self.declined = declined.map(|(kind, to)| Declined { kind, to, why, until });
        self.approved = None;
        self.news = true;
    }

    /// The newest decision about who is a member: what is said of amounts, or of a change, stands beside it.
    fn of_members(&self) -> Option<&Decision> {
        let told = |decision: &&Decision| matches!(decision.reasons.first(), Some(Reason::Told { .. }));
        self.record.all().find(|decision| decision.kind != DecisionKind::Resize && !told(decision))
    }

    /// The newest decision, if it recommends a change that an operator could approve.
    pub(crate) fn recommends(&self) -> Option<DecisionId> {
        let newest = self.of_members()?;
        // It names whom only when nothing but that word stands in the way.
        let is =
            !newest.act && !newest.tasks.is_empty() && newest.reasons.first() == Some(&Reason::RecommendOnly);
        is.then_some(newest.id)
    }

    /// An operator wants the change taken back.
    pub(crate) fn cancel(&mut self, reason: String, now: Time) {
        let there = self.members();
        if self.grows() && there < self.workload.spec.replicas.min as usize {
            let what = format!("it comes all the same: {there} are there, fewer than the minimum");
            let member = self.underway.as_ref().map(|u| u.change.member.clone()).unwrap_or_default();
            self.news_told.push((member, what));
        } else if self.underway.is_some() {
            self.take_back(now);
            self.cancelled = Some(reason);
            self.stabiliser.changed(Direction::Shrink, now);
        }
    }

    /// A change is on its way, and not over.
    pub(crate) fn changes(&self) -> bool {
        self.underway.is_some()
    }

    /// Asks the change to go back, as far as its machine can.
    pub(super) fn take_back(&mut self, now: Time) {
        let limits = self.limits();
        let Some(underway) = &mut self.underway else { return };
        let told = underway.change.cancel(&limits, now);
        self.heard(told, now);
    }

    /// Lets time pass for the change; its node may be lost.
    pub(super) fn pass(&mut self, lost: bool, now: Time) {
        let limits = self.limits();
        let Some(underway) = &mut self.underway else { return };
        let mut told = underway.change.tick(&limits, now);
        if let Machine::Cassandra(state) = underway.change.machine
            && !underway.slow
            && state.is_slow(&limits.cassandra, now)
        {
            underway.slow = true;
            told.push(Told::Incident(cassandra::Incident::Slow.to_string()));
        }
        if lost {
            told.extend(underway.change.node_lost(&limits, now));
        }
        self.heard(told, now);
    }

    /// The containers of a host, and whether a person must know that it drains by nobody's order.
    pub(super) fn drains_unasked(&self) -> Option<String> {
        let seen = self.seen.yarn.as_ref()?;
        let ours = self.underway.as_ref().map(|underway| underway.change.member.as_str());
        let drains = |state| state == YarnState::Decommissioning;
        let node = seen.report.nodes.iter().find(|n| drains(n.state) && Some(n.host.as_str()) != ours)?;
        Some(node.host.clone())
    }
}
