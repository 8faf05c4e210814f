//! What an event means for a workload's replicas.

use model::action::{Outcome, Strain, TaskEvent, TaskEventKind};
use model::adapter::ServerReport;
use model::gap::{Gap, GapKind};
use model::id::{NodeId, TaskName};

use super::{Context, Controller, smooth_ms};
use crate::brain::Config;
use crate::event::{Digest, RunningTask, Time};
use crate::replica::{Event, State};
use crate::rollout::Replica;
use crate::signal::Warmth;

/// Numbers that a name may lie above the newest one and still be believed: a store that was lost is adopted from, a
/// name that somebody made up does not use up the numbers.
const NUMBERS_AHEAD: u32 = 1_000_000;

/// A word about a task's limits that is at most this old explains its end, ms: both come within two seconds.
const STRAIN_FRESH_MS: u64 = 10_000;

/// How a task ended, in words; `None` when nobody knows.
fn ended(status: Option<i32>, signal: Option<i32>, strain: Option<Strain>) -> Option<String> {
    let end = match (status, signal) {
        (_, Some(signal)) => Some(format!("killed by signal {signal}")),
        (Some(status), None) => Some(format!("exit status {status}")),
        (None, None) => None,
    };
    let words: Vec<String> = end.into_iter().chain(strain.map(|strain| strain.to_string())).collect();
    (!words.is_empty()).then(|| words.join("; "))
}

impl Controller {
    pub(crate) fn outcome(&mut self, outcome: &Outcome, now: Time) {
        let limits = self.limits();
        let Some(replica) = self.replicas.get_mut(&outcome.task) else { return };
        if let Some(resized) = replica.resized(outcome, now) {
            return self.resize_answer(&outcome.task, &resized, now);
        }
        if replica.classified(outcome, now) {
            return;
        }
        if let Some(effects) = replica.answered(outcome, &limits, now) {
            self.follow(&outcome.task, effects, now);
        }
    }

    pub(crate) fn task(&mut self, node: &NodeId, event: &TaskEvent, now: Time) {
        if self.replicas.get(&event.task).is_none_or(|replica| replica.node != *node) {
            return;
        }
        let event_of = match &event.kind {
            // The start's answer says the same, with the address.
            TaskEventKind::Started { .. } | TaskEventKind::Adopted { .. } => return,
            TaskEventKind::Healthy => Event::Healthy,
            TaskEventKind::Strained { strain } => {
                if let Some(replica) = self.replicas.get_mut(&event.task) {
                    replica.strain = Some((*strain, now));
                }
                return;
            }
            TaskEventKind::Crowded { crowded } => {
                if let Some(replica) = self.replicas.get_mut(&event.task) {
                    replica.crowded = Some((crowded.clone(), now));
                }
                return;
            }
            TaskEventKind::Unhealthy { why } => {
                if let Some(replica) = self.replicas.get_mut(&event.task) {
                    replica.trouble = Some(why.clone());
                }
                Event::Unhealthy
            }
            TaskEventKind::Ended { status, signal, .. } => {
                if let Some(replica) = self.replicas.get_mut(&event.task) {
                    let strain = replica.strain.filter(|(_, at)| now.since(*at) <= STRAIN_FRESH_MS);
                    replica.trouble = ended(*status, *signal, strain.map(|(strain, _)| strain));
                }
                Event::Ended
            }
        };
        self.tell(&event.task, event_of, now);
    }

    /// An agent connected and says which of our tasks run on its node.
    pub(crate) fn node_up(&mut self, node: &NodeId, running: &[RunningTask], now: Time) {
        let here: Vec<TaskName> =
            self.replicas.values().filter(|r| r.node == *node).map(|r| r.task.clone()).collect();
        for task in here {
            let found = running.iter().find(|r| r.task == task);
            let Some(replica) = self.replicas.get_mut(&task) else { continue };
            replica.forget_sent(now);
            replica.has_class(found.and_then(|found| found.class));
            match (found, replica.state) {
                (Some(found), State::New { .. } | State::Booting { .. } | State::Down { .. }) => {
                    if found.healthy {
                        self.tell(&task, Event::Healthy, now);
                    }
                }
                (Some(found), State::Away { .. }) => self.came_back(&task, found.healthy, now),
                (Some(_), _) => self.tell(&task, Event::Runs, now),
                // A start that never arrived is ordered again; anything else that should run has ended.
                (None, State::New { .. }) => {}
                (None, state) if state.may_run() => self.tell(&task, Event::Ended, now),
                (None, _) => {}
            }
        }
        // Steps on the balancer may have gone through the stream that broke.
        let through_it = self.balancer().is_some_and(|balancer| balancer.node == *node);
        for replica in self.replicas.values_mut().filter(|_| through_it) {
            replica.forget_sent(now);
        }
        for found in running {
            let ours = found.workload == self.workload.name && !self.replicas.contains_key(&found.task);
            if ours && let Some(number) = self.number_of(&found.task) {
                self.adopt(node, found, number, now);
            }
        }
    }

    /// The node of a replica was silent and came back with it. It is warm: it goes before a replacement that is not ready
    /// yet, and makes room for those that are.
    fn came_back(&mut self, task: &TaskName, healthy: bool, now: Time) {
        if self.number(|r| r.state.counts()) >= self.wanted {
            let cold = |r: &&Replica| matches!(r.state, State::New { .. } | State::Booting { .. });
            let cold = self.replicas.values().filter(cold).max_by_key(|r| r.number).map(|r| r.task.clone());
            let Some(cold) = cold else { return self.tell(task, Event::Leave, now) };
            self.tell(&cold, Event::Leave, now);
        }
        self.tell(task, Event::Runs, now);
        if healthy {
            self.tell(task, Event::Healthy, now);
        }
    }

    /// A task of ours that is not among the replicas: an earlier store's, or a left-over of one that was given up.
    fn adopt(&mut self, node: &NodeId, found: &RunningTask, number: u32, now: Time) {
        // What was given up is in use again only where it is missing: the node was silent for long, and nothing could take
        // its place.
        let surplus = number < self.next_number && self.number(|r| r.state.counts()) >= self.wanted;
        let state = if surplus { State::Term { since: now } } else { State::Booting { since: now } };
        let mut replica = Replica::found(found.task.clone(), number, node.clone(), state, now);
        (replica.port, replica.control_port) = self.ports(number);
        replica.has_class(found.class);
        self.next_number = self.next_number.max(number.saturating_add(1));
        self.replicas.insert(found.task.clone(), replica);
        if !surplus {
            if found.healthy {
                self.tell(&found.task, Event::Healthy, now);
            }
            let counting = self.number(|r| r.state.counts());
            self.wanted = self.wanted.max(counting.min(self.workload.spec.replicas.max));
        }
    }

    fn number_of(&self, task: &TaskName) -> Option<u32> {
        let number = super::number_of(task, &self.workload.name)?;
        (number < self.next_number.saturating_add(NUMBERS_AHEAD)).then_some(number)
    }

    /// A hole in the data of a node that runs one of the replicas, or the balancer: the proof starts anew.
    pub(crate) fn gap(&mut self, node: &NodeId, gap: &Gap, now: Time) {
        let concerns = self.replicas.values().any(|r| r.node == *node && r.state.may_run())
            || self.balancer().is_some_and(|balancer| balancer.node == *node);
        // Merged and clock-stepped data has its totals: only what is unknown freezes.
        if concerns && !matches!(gap.kind, GapKind::ClockStepped | GapKind::Merged) {
            let until = now.after(self.workload.spec.behavior.shrink_after.0);
            self.gap = Some((node.clone(), gap.kind, until));
        }
    }

    pub(crate) fn digest(&mut self, digest: Digest, config: &Config, now: Time) {
        let warmth = |task: &TaskName| match self.replicas.get(task) {
            Some(replica) if replica.state.serves() => {
                // Two rounds: then the last sample's interval lies wholly behind its start.
                let warm = replica.up_at.is_some_and(|at| now.since(at) >= 2 * config.round_ms);
                if warm { Warmth::Warm } else { Warmth::Cold }
            }
            _ => Warmth::Out,
        };
        let fresh_report = self.load.observe(&digest, warmth, smooth_ms(&self.workload, config), now);
        let level = if self.balanced() { self.load.demand() } else { self.load.cpu_cores() };
        self.forecast.look_ahead(self.ready_ms as u64, super::budget(config, self.ready_ms));
        self.forecast.offset(0.5 * super::one(&self.workload, &self.capacity, self.load.work()));
        let stale = digest.balancer.as_ref().is_some_and(|b| b.age_ms > Self::stale_ms(config));
        // Without a replica that takes requests, what is measured is not the load.
        let measured = !stale && self.replicas.values().any(|r| r.state.serves());
        if let Some(level) = level.filter(|_| measured) {
            self.forecast.observe(now.0, level);
        }
        let report_at = digest.balancer.as_ref().map(|b| Time(now.0.saturating_sub(b.age_ms)));
        if fresh_report && let (Some(at), Some(balancer)) = (report_at, &digest.balancer) {
            self.report_at = Some(at);
            let servers = balancer.report.servers.clone();
            self.servers(&servers, at, now);
        }
        self.size_seen(&digest, Self::stale_ms(config), now);
        self.digest = Some(digest);
        self.digest_at = now;
        self.digest_new = true;
    }

    /// Shows each replica what the balancer says of its server.
    fn servers(&mut self, servers: &[ServerReport], at: Time, now: Time) {
        let tasks: Vec<TaskName> = self.replicas.keys().cloned().collect();
        for task in tasks {
            let Some(replica) = self.replicas.get_mut(&task) else { continue };
            let server = servers.iter().find(|server| server.server == task.as_str());
            if let Some(server) = server
                && replica.host.is_none()
            {
                replica.host = server.address.rsplit_once(':').map(|(host, _)| host.to_owned());
            }
            let event = match server {
                Some(server) if replica.settled_before(at) || replica.never_sent() => {
                    Event::Seen { state: server.state, idle: server.active + server.queued == 0 }
                }
                None if replica.absent_since(at) => Event::Missing,
                _ => continue,
            };
            self.tell(&task, event, now);
        }
    }

    /// Time passed: deadlines, lost nodes, failing survivors.
    pub(super) fn pass(&mut self, context: &Context<'_>) -> Vec<(TaskName, String)> {
        let (now, limits) = (context.now, self.limits());
        let tasks: Vec<TaskName> = self.replicas.keys().cloned().collect();
        // Whose place nobody could take is not given up: its node may come back with it.
        let short = self.number(|r| r.state.counts()) < self.wanted;
        for task in &tasks {
            let Some(replica) = self.replicas.get_mut(task) else { continue };
            if short && matches!(replica.state, State::Away { .. }) {
                continue;
            }
            let effects = replica.tick(&limits, now);
            self.follow(task, effects, now);
        }
        for task in &tasks {
            let Some(replica) = self.replicas.get(task) else { continue };
            let lost = replica.state.may_run() && context.is_lost(&replica.node);
            if lost && !self.still_served(task, context) {
                self.tell(task, Event::NodeLost, now);
            }
        }
        self.replicas.retain(|_, replica| !matches!(replica.state, State::Deleted { .. }));
        self.failing_survivors()
    }

    /// Its agent is silent, and yet the balancer's fresh report says that it answers its checks.
    fn still_served(&self, task: &TaskName, context: &Context<'_>) -> bool {
        let fresh = |b: &&crate::event::BalancerDigest| {
            b.age_ms + context.now.since(self.digest_at) <= Self::stale_ms(context.config)
        };
        self.balancer().filter(fresh).is_some_and(|balancer| {
            balancer.report.servers.iter().any(|server| {
                server.server == task.as_str() && matches!(server.state, model::adapter::ServerState::Up)
            })
        })
    }

    /// Replicas that take requests and fail their checks, as the balancer words it.
    pub(super) fn failing_survivors(&self) -> Vec<(TaskName, String)> {
        let Some(balancer) = self.balancer() else { return Vec::new() };
        let failing = |server: &&ServerReport| {
            server.state == model::adapter::ServerState::Failing || server.check.starts_with("L7TOUT")
        };
        balancer
            .report
            .servers
            .iter()
            .filter(failing)
            .filter_map(|server| {
                let replica = self.replicas.values().find(|r| r.task.as_str() == server.server)?;
                replica.state.serves().then(|| (replica.task.clone(), server.check.clone()))
            })
            .collect()
    }
}
