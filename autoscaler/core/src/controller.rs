//! One workload: what it asks for, its replicas, what was seen of it, and what was decided.
//!
//! | part | answers |
//! |---|---|
//! | `controller/happened.rs` | what an event means for the replicas |
//! | `controller/round.rs` | what to do about this round's numbers |
//! | `controller/change.rs` | which replicas start or leave, and whether the linter lets them |
//! | `controller/moves.rs` | how a node is emptied |
//! | `controller/orders.rs` | which steps are sent now |
//! | `controller/sizes.rs` | what one replica should be given |
//! | `controller/claims.rs` | what the replicas hold without using it |
//! | `controller/show.rs` | what people are shown |

mod change;
mod claims;
mod happened;
mod moves;
mod orders;
mod round;
mod show;
mod sizes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::id::{Generation, NodeId, TaskName, WorkloadName};
use model::reason::Reason;
use model::workload::{Mode, SizePolicy, Workload, WorkloadKind};

use crate::brain::Config;
use crate::event::{BalancerDigest, Digest, Memory, Remembered, Time};
use crate::forecast::{Forecast, Settings};
use crate::horizontal::{Capacity, Work};
use crate::hpa::Hpa;
use crate::place::{Link, Node};
use crate::record::Record;
use crate::replica::{Effect, Event, Limits, Why};
use crate::resize;
use crate::rollout::Replica;
use crate::signal::Load;
use crate::stabilise::Stabiliser;
use crate::uses::Uses;
use crate::view::Anomaly;
use crate::vpa::Recommender;

/// Anomalies kept for `explain`.
pub(crate) const ANOMALIES_KEPT: usize = 32;
/// Time until a new replica is ready, before one was measured, ms (process start 1–10 s, brain.md).
pub(crate) const READY_MS: u64 = 5_000;
/// First wait after a failed start, ms; doubles with each.
pub(crate) const BACKOFF_MS: u64 = 1_000;
/// Longest wait after failed starts, ms.
pub(crate) const BACKOFF_LIMIT_MS: u64 = 300_000;
/// A load that was learned before a restart is trusted for so long, ms: longer, and the day has gone on without it.
const LEARNED_MS: u64 = 2 * 3_600_000;
/// A replica that is lost this soon after it came up counts as a failed start, ms.
pub(crate) const EARLY_MS: u64 = 30_000;
/// Miss rates of the forecast at risk 0, ½ and 1 when a replica is ready after [`BUDGET_MS`]: one round in 20, 100, 1,000
/// may need more than was foreseen.
const BUDGETS: [f64; 3] = [0.05, 0.01, 0.001];
/// A miss hurts until the growth that answers it is ready: so the budget is in inverse proportion to that time.
const BUDGET_MS: f64 = 60_000.0;
/// Largest budget: below one round in five the reaction to what is measured is all there is.
const BUDGET_LIMIT: f64 = 0.2;

/// What a round needs to know of the rest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) now: Time,
    pub(crate) nodes: &'a BTreeMap<NodeId, Node>,
    pub(crate) uses: &'a Uses,
    pub(crate) config: &'a Config,
    /// All acting is paused.
    pub(crate) paused: Option<&'a Pause>,
}

impl<'a> Context<'a> {
    /// The pause in force: that of everything, or the workload's own.
    pub(crate) fn pause(&self, own: Option<&'a Pause>) -> Option<&'a Pause> {
        let pauses = [self.paused, own];
        pauses.into_iter().flatten().find(|pause| pause.reason(self.now).is_some())
    }

    /// A node counts as lost for whoever needs it: its stream is down, or it was awaited for too long.
    pub(crate) fn is_lost(&self, node: &NodeId) -> bool {
        match self.nodes.get(node).map(|node| node.link) {
            None | Some(Link::Down { .. }) => true,
            Some(Link::Awaited { since }) => self.now.since(since) >= self.config.reconnect_ms,
            Some(Link::Up) => false,
        }
    }
}

/// The wait after a failure, ms: it has doubled so often.
pub(crate) fn backoff_ms(doubled: u32) -> u64 {
    BACKOFF_MS.saturating_mul(1 << doubled.min(16)).min(BACKOFF_LIMIT_MS)
}

/// The number in the name of a workload's task.
pub(crate) fn number_of(task: &TaskName, workload: &WorkloadName) -> Option<u32> {
    task.as_str().strip_prefix(workload.as_str())?.strip_prefix('-')?.parse().ok()
}

/// An operator's pause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pause {
    pub(crate) why: String,
    pub(crate) until: Option<Time>,
}

impl Pause {
    pub(crate) fn reason(&self, now: Time) -> Option<Reason> {
        match self.until {
            Some(until) if until <= now => None,
            until => {
                Some(Reason::Paused { why: self.why.clone(), left_ms: until.map(|until| until.since(now)) })
            }
        }
    }
}

/// One workload.
#[derive(Debug)]
pub(crate) struct Controller {
    pub(crate) workload: Workload,
    /// False after its specification was withdrawn.
    pub(crate) in_force: bool,
    pub(crate) generation: Generation,
    next_number: u32,
    wanted: u32,
    replicas: BTreeMap<TaskName, Replica>,
    load: Load,
    forecast: Forecast,
    capacity: Capacity,
    stabiliser: Stabiliser,
    hpa: Hpa,
    digest: Option<Digest>,
    digest_at: Time,
    digest_new: bool,
    report_at: Option<Time>,
    gap: Option<(NodeId, model::gap::GapKind, Time)>,
    pub(crate) pause: Option<Pause>,
    failures: u32,
    retry_at: Time,
    trouble: String,
    /// Why there are fewer than wanted, until there are not.
    missing: Vec<Reason>,
    /// Nodes on which a start failed since the brain looked last.
    pub(crate) failed_on: Vec<NodeId>,
    ready_ms: f64,
    frozen: Vec<Reason>,
    said: Option<crate::assess::Assessment>,
    sizes: Recommender,
    sized_at: Time,
    size_said: Option<u64>,
    /// What the owner asked for; the specification that is worked with has the size in force.
    asked: SizePolicy,
    resize: resize::State,
    /// States of a change of size that ended since decisions were recorded last.
    size_news: Vec<resize::State>,
    /// No change of size before this, and why.
    size_hold: Option<(Time, String)>,
    looked_at: Time,
    oom_kills: BTreeMap<TaskName, u64>,
    record: Record,
    anomalies: VecDeque<Anomaly>,
}

impl Controller {
    pub(crate) fn new(workload: Workload, config: &Config) -> Self {
        let capacity = Capacity::new(threads(&workload), cores(&workload));
        let forecast = Forecast::new(forecast_settings(&workload, config));
        let asked = workload.spec.size;
        Self {
            wanted: workload.spec.replicas.min,
            workload,
            in_force: true,
            generation: Generation(0),
            next_number: 1,
            replicas: BTreeMap::new(),
            load: Load::default(),
            forecast,
            capacity,
            stabiliser: Stabiliser::default(),
            hpa: Hpa::default(),
            digest: None,
            digest_at: Time(0),
            digest_new: false,
            report_at: None,
            gap: None,
            pause: None,
            failures: 0,
            retry_at: Time(0),
            trouble: String::new(),
            missing: Vec::new(),
            failed_on: Vec::new(),
            ready_ms: READY_MS as f64,
            frozen: Vec::new(),
            said: None,
            sizes: Recommender::new(),
            sized_at: Time(0),
            size_said: None,
            asked,
            resize: resize::State::Steady,
            size_news: Vec::new(),
            size_hold: None,
            looked_at: Time(0),
            oom_kills: BTreeMap::new(),
            record: Record::default(),
            anomalies: VecDeque::new(),
        }
    }

    /// The specification was changed, or applied again.
    pub(crate) fn apply(&mut self, mut workload: Workload, config: &Config) {
        let size = |size: SizePolicy| (size.cpu, size.memory, size.mode);
        let same_size = size(workload.spec.size) == size(self.asked);
        self.asked = workload.spec.size;
        if same_size {
            // What was learned of the size stays in force when something else is changed.
            (workload.spec.size.cpu, workload.spec.size.memory) =
                (self.workload.spec.size.cpu, self.workload.spec.size.memory);
        } else {
            (self.resize, self.size_hold) = (resize::State::Steady, None);
        }
        let can = |workload: &Workload| (threads(workload), cores(workload));
        if can(&workload) != can(&self.workload) {
            self.capacity = Capacity::new(threads(&workload), cores(&workload));
        }
        if workload.spec.behavior != self.workload.spec.behavior {
            self.forecast = Forecast::new(forecast_settings(&workload, config));
        }
        self.workload = workload;
        self.in_force = true;
        self.record.say_again();
    }

    /// A controller took over: what was sent may be lost, and what was seen is no proof of now. Generations start
    /// above all earlier ones, also those of a store that was lost.
    pub(crate) fn started(&mut self, epoch: model::id::ControllerEpoch, now: Time) {
        self.generation.0 = self.generation.0.max(epoch.0 << 32);
        self.stabiliser.restarted();
        if now.since(self.digest_at) > LEARNED_MS {
            self.load = Load::default();
            self.forecast.forget_recent();
            self.said = None;
        }
        self.digest = None;
        self.report_at = None;
        self.record.say_again();
        for replica in self.replicas.values_mut() {
            replica.forget_sent(now);
        }
    }

    pub(crate) fn memory(&self) -> Memory {
        Memory {
            next_number: self.next_number,
            generation: self.generation,
            wanted: self.wanted,
            cluster: None,
            size: (self.in_force_is_own()).then(|| self.size_in_force()),
            replicas: self
                .replicas
                .values()
                .map(|r| Remembered {
                    task: r.task.clone(),
                    number: r.number,
                    node: r.node.clone(),
                    state: r.state,
                    port: r.port,
                    control_port: r.control_port,
                    host: r.host.clone(),
                    created: r.created,
                    up_at: r.up_at,
                })
                .collect(),
        }
    }

    pub(crate) fn remember(&mut self, memory: Memory, now: Time) {
        self.next_number = self.next_number.max(memory.next_number);
        self.generation = self.generation.max(memory.generation);
        self.wanted = memory.wanted;
        if let Some(size) = memory.size {
            self.put_in_force(size);
        }
        for known in memory.replicas {
            let mut replica = Replica::found(known.task.clone(), known.number, known.node, known.state, now);
            (replica.port, replica.control_port, replica.host) = (known.port, known.control_port, known.host);
            (replica.created, replica.up_at) = (known.created, known.up_at);
            self.replicas.insert(known.task, replica);
        }
    }

    fn in_force_is_own(&self) -> bool {
        let size = self.workload.spec.size;
        (size.cpu, size.memory) != (self.asked.cpu, self.asked.memory)
    }

    /// The workload as its owner wrote it.
    pub(crate) fn as_asked(&self) -> Workload {
        let mut workload = self.workload.clone();
        workload.spec.size = self.asked;
        workload
    }

    fn limits(&self) -> Limits {
        let behavior = &self.workload.spec.behavior;
        Limits {
            balanced: self.balanced(),
            boot_ms: Limits::BOOT_MS,
            up_ms: Limits::UP_MS,
            settle_ms: Limits::SETTLE_MS,
            down_ms: Limits::DOWN_MS,
            drain_ms: behavior.drain_deadline.0,
            delete_ms: Limits::DELETE_MS,
            away_ms: Limits::AWAY_MS,
        }
    }

    fn balanced(&self) -> bool {
        self.workload.spec.kind == WorkloadKind::Rails && self.workload.spec.rails.is_some()
    }

    fn launcher(&self) -> &str {
        let spec = &self.workload.spec;
        let rails = spec.rails.as_ref().map(|r| r.launcher.as_str());
        rails.or(spec.service.as_ref().map(|s| s.launcher.as_str())).unwrap_or_default()
    }

    /// The backend's digest.
    fn balancer(&self) -> Option<&BalancerDigest> {
        self.digest.as_ref()?.balancer.as_ref()
    }

    fn names(&self, which: impl Fn(&Replica) -> bool) -> BTreeSet<TaskName> {
        self.replicas.values().filter(|r| which(r)).map(|r| r.task.clone()).collect()
    }

    fn number(&self, which: impl Fn(&Replica) -> bool) -> u32 {
        u32::try_from(self.replicas.values().filter(|r| which(r)).count()).unwrap_or(u32::MAX)
    }

    fn stale_ms(config: &Config) -> u64 {
        // Three intervals (workloads.md, rules for all).
        3 * config.round_ms
    }

    /// Why it may not act now, if it may not.
    fn held(&self, context: &Context<'_>) -> Option<Reason> {
        match self.workload.spec.mode {
            Mode::Observe => return Some(Reason::ObserveOnly),
            Mode::Recommend => return Some(Reason::RecommendOnly),
            Mode::Auto => {}
        }
        context.pause(self.pause.as_ref())?.reason(context.now)
    }

    /// Tells one replica what happened, and takes in what follows.
    fn tell(&mut self, task: &TaskName, event: Event, now: Time) {
        let limits = self.limits();
        let Some(replica) = self.replicas.get_mut(task) else { return };
        let effects = replica.on(event, &limits, now);
        self.follow(task, effects, now);
    }

    /// What follows from a replica's effects.
    fn follow(&mut self, task: &TaskName, effects: Vec<Effect>, now: Time) {
        for effect in effects {
            match effect {
                Effect::Reorder => {}
                Effect::StartFailed(why) => {
                    self.start_failed(task, why, now);
                    self.lost(task, why);
                }
                Effect::Lost(why) => {
                    let up_at = self.replicas.get(task).and_then(|r| r.up_at);
                    if why != Why::NodeLost && up_at.is_none_or(|at| now.since(at) < EARLY_MS) {
                        self.start_failed(task, why, now);
                    }
                    self.lost(task, why);
                }
                Effect::Anomaly(state, event) => {
                    let what = format!("{event:?} in state {}", state.name());
                    self.anomalies.push_front(Anomaly { at: now, task: task.clone(), what });
                    self.anomalies.truncate(ANOMALIES_KEPT);
                }
            }
        }
        let Some(replica) = self.replicas.get(task) else { return };
        if replica.up_at == Some(now) && replica.state.serves() && replica.created < now {
            // A third each: the last few starts count.
            self.ready_ms += (now.since(replica.created) as f64 - self.ready_ms) / 3.0;
        }
        if matches!(replica.state, crate::replica::State::Up { since } if since == now) {
            self.failures = 0;
        }
    }

    fn lost(&mut self, task: &TaskName, why: Why) {
        let trouble = self.replicas.get(task).and_then(|r| r.trouble.clone());
        let why = trouble.map_or_else(|| why.to_string(), |trouble| format!("{why}: {trouble}"));
        self.missing.push(Reason::LostReplica { task: task.clone(), why });
        self.missing.truncate(16);
    }

    fn start_failed(&mut self, task: &TaskName, why: Why, now: Time) {
        self.failures += 1;
        self.retry_at = now.after(backoff_ms(self.failures - 1));
        if let Some(replica) = self.replicas.get(task) {
            self.failed_on.push(replica.node.clone());
            self.trouble = replica.trouble.clone().unwrap_or_else(|| why.to_string());
        }
    }

    pub(crate) fn wake_at(&self, now: Time) -> Option<Time> {
        let orders = self.replicas.values().filter_map(Replica::wake_at);
        let waits = self.stabiliser.wake_at(&self.workload.spec.behavior);
        let retry = (self.failures > 0).then_some(self.retry_at);
        orders.chain(waits).chain(retry).filter(|at| *at > now).min()
    }
}

pub(crate) fn threads(workload: &Workload) -> u32 {
    workload.spec.rails.as_ref().map_or(1, |rails| rails.workers.saturating_mul(rails.threads).max(1))
}

/// The CPU quota of one replica, cores.
pub(crate) fn cores(workload: &Workload) -> Option<f64> {
    workload.spec.size.cpu.map(|cpu| f64::from(cpu.0) / 1_000.0)
}

/// Levels are smoothed over the time for which a need must be there, at least two rounds.
pub(crate) fn smooth_ms(workload: &Workload, config: &Config) -> u64 {
    workload.spec.behavior.grow_after.0.clamp(2 * config.round_ms, 60_000)
}

/// Share of rounds in which the load may pass the forecast, for this risk and time until a replica is ready.
pub(crate) fn budget(config: &Config, ready_ms: f64) -> f64 {
    let risk = config.risk.clamp(0.0, 1.0) * 2.0;
    let low = (risk as usize).min(1);
    // Between two settings on a logarithmic scale.
    let budget = BUDGETS[low] * (BUDGETS[low + 1] / BUDGETS[low]).powf(risk - low as f64);
    (budget * BUDGET_MS / ready_ms.max(1.0)).min(BUDGET_LIMIT)
}

fn forecast_settings(workload: &Workload, config: &Config) -> Settings {
    Settings {
        step_ms: config.round_ms,
        ahead_ms: READY_MS,
        smooth_ms: smooth_ms(workload, config),
        budget: budget(config, READY_MS as f64),
        offset: 0.5
            * one(workload, &Capacity::new(threads(workload), cores(workload)), Load::default().work()),
    }
}

/// What one replica carries: requests per second (rails) or cores (service). Half of it is added to levels before ratios
/// are taken: under that, ratios are noise and one replica does anyway.
pub(crate) fn one(workload: &Workload, capacity: &Capacity, work: Work) -> f64 {
    let spec = &workload.spec;
    if spec.kind == WorkloadKind::Rails {
        capacity.carries(1, work, crate::rails::target_ms(spec))
    } else {
        crate::service::cores(spec) * spec.target.cpu.map_or(crate::service::TARGET, |share| share.0)
    }
}
