//! What the brain shows of itself: values for the API, the command line and the tests.

use std::collections::BTreeMap;

use model::action::Size;
use model::decision::{Decision, DecisionId};
use model::id::{NodeId, TaskName, WorkloadName};
use model::reason::{Direction, Reason};
use model::workload::{Mode, Policy, SizeMode, WorkloadKind};
use serde::Serialize;

use crate::cluster::Past;
use crate::cluster::price::Price;
use crate::event::Time;
use crate::survive::Known;

/// One workload, in a line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkloadView {
    /// Its name.
    pub name: WorkloadName,
    /// Its kind.
    pub kind: WorkloadKind,
    /// How far Trimtab may go.
    pub mode: Mode,
    /// By which policy.
    pub policy: Policy,
    /// At least.
    pub min: u32,
    /// At most.
    pub max: u32,
    /// Replicas wanted now.
    pub wanted: u32,
    /// Replicas that take requests (or, without a balancer, are healthy).
    pub up: u32,
    /// Replicas that are on their way up.
    pub starting: u32,
    /// Replicas that are on their way out.
    pub leaving: u32,
    /// All that is not gone.
    pub replicas: Vec<ReplicaView>,
    /// Paused by an operator: why.
    pub paused: Option<String>,
    /// What keeps it from shrinking now.
    pub frozen: Vec<Reason>,
    /// Current numbers.
    pub load: LoadView,
    /// What each replica is given.
    pub size: SizeView,
    /// Its newest decision.
    pub last: Option<Decision>,
    /// Its members and their change, when it is a cluster that keeps a list of them.
    pub cluster: Option<ClusterView>,
}

/// A cluster that keeps its own list of members.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClusterView {
    /// Its name in the agents' configuration.
    pub cluster: String,
    /// Members in service that were not started by Trimtab.
    pub found: Vec<String>,
    /// The change on its way.
    pub change: Option<ChangeView>,
    /// The newest changes that are over, newest first.
    pub past: Vec<Past>,
    /// The decision that recommends a change and can be approved.
    pub recommends: Option<DecisionId>,
}

/// A change of a cluster that is on its way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChangeView {
    /// The member that comes or goes.
    pub member: String,
    /// It comes, or goes.
    pub direction: Direction,
    /// How far it is, as its state machine names it.
    pub state: &'static str,
    /// Since when it is in that state.
    pub since: Time,
    /// When it began.
    pub began: Time,
    /// For how long it is on its way, ms.
    pub elapsed_ms: u64,
    /// What it was expected to cost.
    pub price: Price,
    /// What it waits for, in words.
    pub detail: String,
}

/// A node that an operator wants empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DrainView {
    /// Why, in the operator's words.
    pub why: String,
    /// Replicas of Trimtab's that may still run there.
    pub left: u32,
}

/// What Trimtab's own have on a node: replicas, and members of clusters that it started; those on their way out, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct GivenView {
    /// How many there are.
    pub replicas: u32,
    /// Thousandths of a core that they were given; of those whose size does not say it nothing is in it. `None` when that is none of them.
    pub cpu_millis: Option<u64>,
    /// Bytes, likewise.
    pub memory_bytes: Option<u64>,
    /// How many have a size that does not say both.
    pub without_size: u32,
}

impl GivenView {
    /// Of each node what there is on it.
    pub(crate) fn by_node(pieces: impl Iterator<Item = (NodeId, Known)>) -> BTreeMap<NodeId, Self> {
        pieces.fold(BTreeMap::new(), |mut all, (node, one)| {
            let given: &mut Self = all.entry(node).or_default();
            *given = given.and(one);
            all
        })
    }

    /// One more of them.
    #[must_use]
    fn and(self, (cpu, memory): Known) -> Self {
        let sum = |all: Option<u64>, more: Option<u64>| match (all, more) {
            (Some(all), Some(more)) => Some(all.saturating_add(more)),
            (all, more) => all.or(more),
        };
        Self {
            replicas: self.replicas.saturating_add(1),
            cpu_millis: sum(self.cpu_millis, cpu),
            memory_bytes: sum(self.memory_bytes, memory),
            without_size: self.without_size.saturating_add(u32::from(cpu.is_none() || memory.is_none())),
        }
    }
}

/// What a workload has on a node, and what emptying the node takes of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Keeps {
    /// Whose.
    pub workload: WorkloadName,
    /// Replicas, or members of its cluster that Trimtab started.
    pub tasks: u32,
    /// What it is expected to cost, of all of them, one after the other.
    pub price: Price,
    /// What each waits for before it leaves, now.
    pub gates: Vec<Reason>,
    /// Why none could leave now, so that a drain is refused.
    pub stays: Option<Reason>,
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplicaView {
    /// Its name.
    pub task: TaskName,
    /// Where it runs.
    pub node: NodeId,
    /// Its state, as the state machine names it.
    pub state: &'static str,
    /// Since when.
    pub since: Time,
    /// The port for requests.
    pub port: Option<u16>,
    /// What it waits for, in words.
    pub detail: String,
}

/// What each replica is given, and what is on its way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SizeView {
    /// Said or set.
    pub mode: SizeMode,
    /// In force: thousandths of a core, bytes.
    pub given: Size,
    /// `steady`, `canary`, `spreading` or `returning`.
    pub phase: &'static str,
    /// The size that a change is on its way to.
    pub to: Option<Size>,
    /// The replica that has it first.
    pub canary: Option<TaskName>,
    /// Why no size is changed for a while, and until when.
    pub held: Option<(String, Time)>,
    /// What the replicas' own use says; `None` before the first sample, and where members have their sizes themselves.
    pub advice: Option<SizeAdvice>,
}

/// The size that the replicas' own use asks for, and how sure that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SizeAdvice {
    /// 90 % of what was seen, and a margin.
    pub size: Amounts,
    /// Below it a replica has too little.
    pub low: Amounts,
    /// Above it a replica has too much; far up while little was seen.
    pub high: Amounts,
    /// Time that it rests on, ms.
    pub history_ms: u64,
    /// Time that the specification asks for before it is recommended, ms.
    pub after_ms: u64,
}

/// Of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Amounts {
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Bytes.
    pub memory_bytes: u64,
}

/// The numbers behind the last decision; absent ones are not known.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct LoadView {
    /// Requests per second.
    pub requests_per_second: Option<f64>,
    /// Queue delay at the balancer, 95th percentile, ms.
    pub queue_delay_p95_ms: Option<f64>,
    /// Requests queued now.
    pub queued: Option<u64>,
    /// For how long containers have waited without a pause, ms: none of those that wait now has waited longer (yarn).
    pub container_wait_ms: Option<f64>,
    /// Share of the space in use: of all (hdfs), or of the fullest disk (cassandra).
    pub disk: Option<f64>,
    /// 99 % of requests take at most so long at the slowest member, ms (cassandra).
    pub latency_p99_ms: Option<f64>,
    /// Busy share of what is there: of threads or of the CPU given, whichever is tighter (rails), or of the CPU given (service).
    pub utilisation: Option<f64>,
    /// CPU of all replicas, cores.
    pub cpu_cores: Option<f64>,
    /// Memory of all replicas, bytes.
    pub memory_bytes: Option<u64>,
    /// Load now: requests per second (rails) or cores (service).
    pub load: Option<f64>,
    /// Load expected when a replica that is started now would be ready, at the quantile of the risk.
    pub forecast: Option<f64>,
    /// Load that one replica carries at the target, in the same unit.
    pub capacity: Option<f64>,
    /// Time from an order to a ready replica, ms, as measured.
    pub ready_after_ms: u64,
}

/// Why a workload is as it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The workload now.
    pub workload: WorkloadView,
    /// The newest decisions, newest first.
    pub decisions: Vec<Decision>,
    /// What holds it back now.
    pub blocks: Vec<Reason>,
    /// What would make it act, in words.
    pub would_act: Vec<String>,
    /// What went against the expected order of events, newest first.
    pub anomalies: Vec<Anomaly>,
}

/// An event that a state machine did not expect: nothing was done, and it is not hidden.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Anomaly {
    /// When.
    pub at: Time,
    /// Which replica.
    pub task: TaskName,
    /// What happened in which state.
    pub what: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_size_is_counted_and_not_taken_for_nothing() {
        let given = GivenView::default().and((None, None));
        assert_eq!(given, GivenView { replicas: 1, without_size: 1, ..GivenView::default() });
        let given = given.and((Some(500), None)).and((Some(1_500), Some(7)));
        let all = GivenView { replicas: 3, cpu_millis: Some(2_000), memory_bytes: Some(7), without_size: 2 };
        assert_eq!(given, all);
    }
}
