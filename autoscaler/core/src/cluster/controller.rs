//! One workload that is a cluster: its members, the one change that is on its way, and what was decided.
//!
//! Problem: a cluster keeps its own list of members, moves data or work when that list changes, and is slow; two changes at once, or one that
//! is decided on an old report, lose data. Method: what is there is what the cluster says, never what was ordered; there is one change at a
//! time, held by its machine ([`super::change`]) and remembered like everything else, so that it goes on after a restart where it was; a change
//! begins only when every gate ([`super::gate`]) is open on fresh reports. Bounds: [`TOLD_KEPT`] words to people, [`PAST_KEPT`] past changes.
//!
//! | part | answers |
//! |---|---|
//! | `controller/seen.rs` | who is a member, by reports |
//! | `controller/happened.rs` | what an event means for the change |
//! | `controller/round.rs` | what to do about the newest reports |
//! | `controller/begin.rs` | which member comes or goes, and what keeps it |
//! | `controller/moves.rs` | how a node is emptied of members |
//! | `controller/advertise.rs` | what NodeManagers advertise |
//! | `controller/claims.rs` | what members are given and do not use |
//! | `controller/orders.rs` | which step is sent now |
//! | `controller/show.rs` | what people are shown |

mod advertise;
mod begin;
mod claims;
mod happened;
mod moves;
mod orders;
mod round;
mod seen;
mod show;

use std::collections::{BTreeMap, VecDeque};

use model::decision::DecisionKind;
use model::id::{ControllerEpoch, Generation, NodeId, TaskName};
use model::reason::{Direction, Reason};
use model::workload::{ClusterSpec, Mode, Workload, WorkloadKind};
use serde::{Deserialize, Serialize};

use self::advertise::Amounts;
use self::seen::Seen;
use super::change::{Change, Limits, Machine};
use super::price::{Price, Rates};
use super::{cassandra, hdfs, yarn};
use crate::assess::Assessment;
use crate::controller::{Context, Pause, backoff_ms};
use crate::event::Time;
use crate::record::Record;
use crate::stabilise::Stabiliser;
use crate::view::Anomaly;

/// Words to people that are kept.
pub(super) const TOLD_KEPT: usize = 32;
/// Past changes that are kept.
pub(super) const PAST_KEPT: usize = 16;
/// A change that was approved and cannot begin within this is not approved any more, ms: things were different when it was.
const APPROVED_MS: u64 = 120_000;
/// What was declined is not offered again within this, ms, unless a time was said: a day has the load of all hours, so whoever said no to it said no to all of them.
const DECLINED_MS: u64 = 86_400_000;

/// A process that Trimtab started as a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// Its task.
    pub task: TaskName,
    /// Its number.
    pub number: u32,
    /// Where it runs.
    pub node: NodeId,
    /// How the cluster names it.
    pub member: String,
    /// It was not heard to have ended.
    pub runs: bool,
    /// Since when that is so.
    pub since: Time,
}

/// A change that is on its way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Underway {
    pub(super) change: Change,
    pub(super) direction: Direction,
    /// An operator approved it: it goes on although the mode is only to recommend.
    pub(super) approved: bool,
    pub(super) price: Price,
    /// It was said that it takes longer than expected.
    pub(super) slow: bool,
    /// It waits for a time with fewer requests, since then.
    pub(super) waits: Option<Time>,
    /// Since when it is a full member: what is left of the change keeps house, and can wait.
    pub(super) joined: Option<Time>,
}

/// What must survive of a cluster when a journal begins anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Processes that Trimtab started.
    pub own: Vec<Own>,
    /// The change on its way.
    pub change: Option<Remembered>,
    /// Start of the ResourceManager that was seen last, ms.
    pub manager_started_ms: Option<u64>,
    /// How fast changes were.
    pub rates: Rates,
    /// What an operator declined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declined: Option<Declined>,
}

/// A recommended change that an operator does not want.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declined {
    /// What should be done.
    pub kind: DecisionKind,
    /// To have how many members.
    pub to: u32,
    /// Why not, in the operator's words.
    pub why: String,
    /// Until when it is not offered again.
    pub until: Time,
}

/// A change of a [`Memory`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// The member.
    pub member: String,
    /// Its task.
    pub task: Option<TaskName>,
    /// Where that runs.
    pub node: Option<NodeId>,
    /// When it began.
    pub began: Time,
    /// How far it is.
    pub machine: Machine,
    /// It comes, or goes.
    pub direction: Direction,
    /// An operator approved it.
    pub approved: bool,
    /// What it was expected to cost.
    pub price: Price,
}

/// A change that is over.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Past {
    /// The member.
    pub member: String,
    /// It came, or went.
    pub direction: Direction,
    /// How it ended: `done`, `cancelled`, `failed`.
    pub ended: &'static str,
    /// When it began.
    pub began: Time,
    /// How long it took until it was out, or a full member, ms.
    pub took_ms: u64,
    /// What it was expected to cost.
    pub price: Price,
}

/// Changes of one direction that did not go through, in a row: the next try keeps its distance.
#[derive(Debug)]
struct Retry {
    failures: u32,
    /// When the next one may begin.
    next: Time,
    /// What the last one said.
    why: String,
}

impl Default for Retry {
    fn default() -> Self {
        Self { failures: 0, next: Time(0), why: String::new() }
    }
}

impl Retry {
    fn failed(&mut self, why: String, now: Time) {
        self.failures += 1;
        self.next = now.after(backoff_ms(self.failures + 3));
        self.why = why;
    }

    /// How long it must still wait, ms; `None` = it may begin.
    fn left_ms(&self, now: Time) -> Option<u64> {
        (now < self.next).then(|| self.next.since(now))
    }
}

/// One cluster.
#[derive(Debug)]
pub(crate) struct Controller {
    pub(crate) workload: Workload,
    /// False after its specification was withdrawn.
    pub(crate) in_force: bool,
    pub(crate) generation: Generation,
    pub(crate) pause: Option<Pause>,
    /// Nodes on which a start failed since the brain looked last.
    pub(crate) failed_on: Vec<NodeId>,
    next_number: u32,
    /// `None` until the cluster was seen.
    wanted: Option<u32>,
    seen: Seen,
    /// A report came since the last round.
    news: bool,
    own: BTreeMap<TaskName, Own>,
    underway: Option<Underway>,
    stabiliser: Stabiliser,
    record: Record,
    said: Option<Assessment>,
    frozen: Vec<Reason>,
    rates: Rates,
    past: VecDeque<Past>,
    /// Words that are not part of a decision yet: member, word.
    news_told: Vec<(String, String)>,
    anomalies: VecDeque<Anomaly>,
    /// What an operator approved: the process that comes or goes, until when.
    approved: Option<(TaskName, Time)>,
    /// What an operator declined, until it may be offered again.
    declined: Option<Declined>,
    /// What an operator cancelled, until it is said.
    cancelled: Option<String>,
    /// Why there are fewer than wanted, until there are not.
    missing: Vec<Reason>,
    joins: Retry,
    leaves: Retry,
    amounts: Amounts,
}

impl Controller {
    pub(crate) fn new(workload: Workload) -> Self {
        Self {
            workload,
            in_force: true,
            generation: Generation(0),
            pause: None,
            failed_on: Vec::new(),
            next_number: 1,
            wanted: None,
            seen: Seen::default(),
            news: false,
            own: BTreeMap::new(),
            underway: None,
            stabiliser: Stabiliser::default(),
            record: Record::default(),
            said: None,
            frozen: Vec::new(),
            rates: Rates::default(),
            past: VecDeque::new(),
            news_told: Vec::new(),
            anomalies: VecDeque::new(),
            approved: None,
            declined: None,
            cancelled: None,
            missing: Vec::new(),
            joins: Retry::default(),
            leaves: Retry::default(),
            amounts: Amounts::default(),
        }
    }

    /// The specification was changed, or applied again.
    pub(crate) fn apply(&mut self, workload: Workload) {
        if workload.spec.cluster().map(|spec| &spec.cluster) != self.cluster().map(|spec| &spec.cluster) {
            // What was seen was another one.
            (self.seen, self.wanted) = (Seen::default(), None);
        }
        if workload.spec != self.workload.spec {
            // Something else is asked: what is recommended for it was never declined.
            self.declined = None;
        }
        self.workload = workload;
        self.in_force = true;
        self.record.say_again();
    }

    /// A controller took over: what was sent may be lost, and what was seen is no proof of now.
    pub(crate) fn started(&mut self, epoch: ControllerEpoch, now: Time) {
        self.generation.0 = self.generation.0.max(epoch.0 << 32);
        self.stabiliser.restarted();
        self.seen.forget();
        self.said = None;
        self.amounts.forget_sent();
        self.record.say_again();
        if let Some(underway) = &mut self.underway {
            underway.change.forget_sent(now);
        }
    }

    pub(crate) fn memory(&self) -> crate::event::Memory {
        crate::event::Memory {
            next_number: self.next_number,
            generation: self.generation,
            wanted: self.wanted.unwrap_or(0),
            replicas: Vec::new(),
            size: None,
            cluster: Some(Memory {
                own: self.own.values().cloned().collect(),
                change: self.underway.as_ref().map(|underway| Remembered {
                    member: underway.change.member.clone(),
                    task: underway.change.task.clone(),
                    node: underway.change.node.clone(),
                    began: underway.change.began,
                    machine: underway.change.machine,
                    direction: underway.direction,
                    approved: underway.approved,
                    price: underway.price.clone(),
                }),
                manager_started_ms: self.seen.manager_started_ms,
                rates: self.rates,
                declined: self.declined.clone(),
            }),
        }
    }

    pub(crate) fn remember(&mut self, memory: crate::event::Memory, now: Time) {
        self.next_number = self.next_number.max(memory.next_number);
        self.generation = self.generation.max(memory.generation);
        self.wanted = (memory.wanted > 0).then_some(memory.wanted);
        let Some(cluster) = memory.cluster else { return };
        self.own.extend(cluster.own.into_iter().map(|own| (own.task.clone(), own)));
        self.seen.manager_started_ms = cluster.manager_started_ms;
        self.rates = cluster.rates;
        self.declined = cluster.declined;
        self.underway = cluster.change.map(|known| {
            let (member, task, node) = (known.member.clone(), known.task.clone(), known.node.clone());
            let mut change = Change::new(member, task, node, known.machine, now);
            change.began = known.began;
            let Remembered { direction, approved, price, .. } = known;
            let joined = change.machine.keeps_house().then_some(change.machine.since());
            Underway { change, direction, approved, price, slow: false, waits: None, joined }
        });
    }

    fn cluster(&self) -> Option<&ClusterSpec> {
        self.workload.spec.cluster()
    }

    fn kind(&self) -> WorkloadKind {
        self.workload.spec.kind
    }

    fn limits(&self) -> Limits {
        let price_ms =
            self.underway.as_ref().map_or(0, |underway| underway.price.seconds.saturating_mul(1_000));
        Limits {
            yarn: yarn::Limits {
                drain_ms: self.cluster().map_or(ClusterSpec::DRAIN.0, ClusterSpec::drain_ms),
                end_ms: yarn::Limits::END_MS,
                vanished_ms: yarn::Limits::VANISHED_MS,
                register_ms: yarn::Limits::REGISTER_MS,
            },
            hdfs: hdfs::Limits {
                stalled_ms: hdfs::Limits::STALLED_MS,
                register_ms: hdfs::Limits::REGISTER_MS,
            },
            cassandra: cassandra::Limits {
                // Half as much again as its price says.
                move_ms: price_ms.saturating_add(price_ms / 2).max(600_000),
                revive_ms: cassandra::Limits::REVIVE_MS,
            },
        }
    }

    /// Why it may not begin anything now, if it may not.
    fn held(&self, context: &Context<'_>) -> Option<Reason> {
        match self.workload.spec.mode {
            Mode::Observe => return Some(Reason::ObserveOnly),
            Mode::Recommend if self.approved.is_none() => return Some(Reason::RecommendOnly),
            Mode::Recommend | Mode::Auto => {}
        }
        self.paused(context)
    }

    fn paused(&self, context: &Context<'_>) -> Option<Reason> {
        context.pause(self.pause.as_ref())?.reason(context.now)
    }

    pub(crate) fn wake_at(&self, now: Time) -> Option<Time> {
        let order = self.underway.as_ref().and_then(|underway| underway.change.wake_at());
        let retries = [&self.joins, &self.leaves].map(|tries| tries.next);
        order.into_iter().chain(retries).filter(|at| *at > now).min()
    }
}
