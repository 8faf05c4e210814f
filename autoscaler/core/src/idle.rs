//! The idle ledger: each idle core-second and byte-second has exactly one cause.
//!
//! Problem: "62 % idle" says nothing about what to do. Method: on each node and in each interval, capacity less use is
//! handed out to claims in a fixed order, each of which takes what it can explain and no more than what is left; what no
//! claim explains has no demand. Amounts are whole numbers (millicore-ms, KiB-ms), so use and causes sum to capacity
//! exactly. Order: first what makes the number unknown, then what is on its way out, then what is held by a rule, then
//! what is given and not used, then what is too small to be given. Bounds: one page open, [`PAGES_KEPT`] closed ones
//! waiting to be taken.

use std::collections::{BTreeMap, VecDeque};

use model::id::{NodeId, WorkloadName};
use serde::{Deserialize, Serialize};

use crate::event::Time;

/// Closed pages that wait to be taken; older ones are dropped.
pub const PAGES_KEPT: usize = 1_440;

/// Why capacity is idle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    /// Nothing fresh is known of the node.
    NoData,
    /// Given to a replica that is leaving.
    Draining {
        /// Whose.
        workload: WorkloadName,
    },
    /// Given to a replica that is not needed now, and waits for a cool-down or a window to pass.
    CoolingDown {
        /// Whose.
        workload: WorkloadName,
    },
    /// Given to a replica that is not needed now, and that the minimum keeps for failures.
    KeptForFailure {
        /// Whose.
        workload: WorkloadName,
    },
    /// Given to a replica that is not needed now, and that a rule keeps from leaving.
    Blocked {
        /// Whose.
        workload: WorkloadName,
        /// The reason's code.
        rule: String,
    },
    /// Given to a needed replica and not used by it.
    OverSized {
        /// Whose.
        workload: WorkloadName,
    },
    /// Free, but in one of the two resources too little for one more replica of any kind that the node may start.
    Fragmented,
    /// On a node where nothing may be started: its agent only observes, or an operator wants it empty.
    Unmanaged,
    /// Free, and nobody needs it.
    NoDemand,
}

/// An amount of both resources over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Amount {
    /// Thousandths of a core × ms.
    pub cpu_millicore_ms: u64,
    /// KiB × ms.
    pub memory_kib_ms: u64,
}

impl Amount {
    fn of(cpu_millis: u64, memory_kib: u64, ms: u64) -> Self {
        // An agent may say any number: what is more than all there is counts as all there is.
        Self { cpu_millicore_ms: cpu_millis.saturating_mul(ms), memory_kib_ms: memory_kib.saturating_mul(ms) }
    }

    fn add(&mut self, other: Self) {
        self.cpu_millicore_ms = self.cpu_millicore_ms.saturating_add(other.cpu_millicore_ms);
        self.memory_kib_ms = self.memory_kib_ms.saturating_add(other.memory_kib_ms);
    }

    fn take(&mut self, wanted: Self) -> Self {
        let taken = Self {
            cpu_millicore_ms: wanted.cpu_millicore_ms.min(self.cpu_millicore_ms),
            memory_kib_ms: wanted.memory_kib_ms.min(self.memory_kib_ms),
        };
        self.cpu_millicore_ms -= taken.cpu_millicore_ms;
        self.memory_kib_ms -= taken.memory_kib_ms;
        taken
    }

    /// Core-seconds.
    #[must_use]
    pub fn core_seconds(&self) -> f64 {
        self.cpu_millicore_ms as f64 / 1e6
    }

    /// GiB-seconds.
    #[must_use]
    pub fn gib_seconds(&self) -> f64 {
        self.memory_kib_ms as f64 / 1e3 / 1_048_576.0
    }
}

/// An interval with its attribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Start.
    pub from: Time,
    /// End.
    pub to: Time,
    /// All there was.
    pub capacity: Amount,
    /// What was used.
    pub used: Amount,
    /// What was not, by cause; with `used` it sums to `capacity`.
    pub idle: Vec<Idle>,
}

/// One line of a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idle {
    /// Why.
    #[serde(flatten)]
    pub cause: Cause,
    /// How much.
    #[serde(flatten)]
    pub amount: Amount,
}

/// What is claimed of a node's idle capacity: given less used of one replica, with its cause.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// Where.
    pub node: NodeId,
    /// Why.
    pub cause: Cause,
    /// Thousandths of a core.
    pub cpu_millis: u64,
    /// KiB.
    pub memory_kib: u64,
}

impl Claim {
    /// What somebody is given (thousandths of a core, KiB) and does not use (cores, bytes), if that is anything. What was not measured is no proof
    /// of idleness: it claims nothing.
    #[must_use]
    pub fn unused(
        node: NodeId,
        cause: Cause,
        (cpu_millis, memory_kib): (Option<u64>, Option<u64>),
        (cores, bytes): (Option<f64>, Option<u64>),
    ) -> Option<Self> {
        let less = |given: Option<u64>, used: Option<u64>| {
            given.zip(used).map_or(0, |(given, used)| given.saturating_sub(used))
        };
        let claim = Self {
            node,
            cause,
            cpu_millis: less(cpu_millis, cores.map(|cores| (cores.max(0.0) * 1e3) as u64)),
            memory_kib: less(memory_kib, bytes.map(|bytes| bytes / 1_024)),
        };
        (claim.cpu_millis > 0 || claim.memory_kib > 0).then_some(claim)
    }
}

/// A node, as far as the ledger needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeFacts {
    /// Which.
    pub node: NodeId,
    /// Thousandths of a core.
    pub cpu_millis: u64,
    /// KiB.
    pub memory_kib: u64,
    /// Used now: thousandths of a core, KiB; each `None` when nothing fresh is known of it.
    pub used: (Option<u64>, Option<u64>),
    /// Trimtab may act there.
    pub acts: bool,
    /// The least that one more replica takes there: thousandths of a core, KiB; `None` when nothing is started there.
    pub unit: Option<(u64, u64)>,
}

/// The ledger.
#[derive(Debug, Clone)]
pub struct Ledger {
    interval_ms: u64,
    since: Option<Time>,
    opened: Time,
    capacity: Amount,
    used: Amount,
    idle: BTreeMap<Cause, Amount>,
    closed: VecDeque<Page>,
}

impl Ledger {
    /// An empty ledger that closes a page each `interval_ms`.
    #[must_use]
    pub fn new(interval_ms: u64) -> Self {
        Self {
            interval_ms: interval_ms.max(1),
            since: None,
            opened: Time(0),
            capacity: Amount::default(),
            used: Amount::default(),
            idle: BTreeMap::new(),
            closed: VecDeque::new(),
        }
    }

    /// The time since the last call was spent like this. Claims are honoured in their order.
    pub fn spend(&mut self, nodes: &[NodeFacts], claims: &[Claim], now: Time) {
        let Some(since) = self.since.replace(now) else {
            self.opened = now;
            return;
        };
        let ms = now.since(since);
        for node in nodes {
            self.node(node, claims, ms);
        }
        if now.since(self.opened) >= self.interval_ms {
            self.close(now);
        }
    }

    /// Pages that were closed since the last call.
    pub fn take(&mut self) -> Vec<Page> {
        self.closed.drain(..).collect()
    }

    fn node(&mut self, node: &NodeFacts, claims: &[Claim], ms: u64) {
        let all = Amount::of(node.cpu_millis, node.memory_kib, ms);
        self.capacity.add(all);
        let mut left = all;
        let (cpu, memory) = node.used;
        // A resource that was not measured is neither used nor free.
        let dark = |used: Option<u64>, all: u64| if used.is_none() { all } else { 0 };
        let dark = Amount::of(dark(cpu, node.cpu_millis), dark(memory, node.memory_kib), ms);
        let dark = left.take(dark);
        self.attribute(Cause::NoData, dark);
        self.used.add(left.take(Amount::of(cpu.unwrap_or(0), memory.unwrap_or(0), ms)));
        for claim in claims.iter().filter(|claim| claim.node == node.node) {
            let taken = left.take(Amount::of(claim.cpu_millis, claim.memory_kib, ms));
            self.attribute(claim.cause.clone(), taken);
        }
        let rest = if !node.acts {
            Cause::Unmanaged
        } else if node.unit.is_some_and(|(unit_cpu, unit_memory)| {
            let unit = Amount::of(unit_cpu, unit_memory, ms);
            cpu.is_some() && left.cpu_millicore_ms < unit.cpu_millicore_ms
                || memory.is_some() && left.memory_kib_ms < unit.memory_kib_ms
        }) {
            Cause::Fragmented
        } else {
            Cause::NoDemand
        };
        self.attribute(rest, left);
    }

    fn attribute(&mut self, cause: Cause, amount: Amount) {
        if amount != Amount::default() {
            self.idle.entry(cause).or_default().add(amount);
        }
    }

    fn close(&mut self, now: Time) {
        let idle = std::mem::take(&mut self.idle);
        self.closed.push_back(Page {
            from: self.opened,
            to: now,
            capacity: std::mem::take(&mut self.capacity),
            used: std::mem::take(&mut self.used),
            idle: idle.into_iter().map(|(cause, amount)| Idle { cause, amount }).collect(),
        });
        if self.closed.len() > PAGES_KEPT {
            self.closed.pop_front();
        }
        self.opened = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(n: usize) -> NodeId {
        NodeId::new(format!("node-{n}")).unwrap()
    }

    fn cause(kind: u8) -> Cause {
        let workload = WorkloadName::new("web").unwrap();
        match kind % 5 {
            0 => Cause::Draining { workload },
            1 => Cause::CoolingDown { workload },
            2 => Cause::KeptForFailure { workload },
            3 => Cause::Blocked { workload, rule: "stale".into() },
            _ => Cause::OverSized { workload },
        }
    }

    proptest! {
        /// Whatever is claimed, used and causes sum to capacity, in both resources, on every page.
        #[test]
        fn used_and_causes_sum_to_capacity(
            rounds in prop::collection::vec(
                (
                    prop::collection::vec((0u64..64_000, 0u64..1 << 26, prop::option::of(0u64..80_000),
                        prop::option::of(0u64..1 << 27), any::<bool>(), prop::option::of((0u64..4_000, 0u64..1 << 22))), 0..4),
                    prop::collection::vec((0usize..4, any::<u8>(), 0u64..40_000, 0u64..1 << 26), 0..8),
                    1u64..5_000,
                ), 2..20)
        ) {
            let mut ledger = Ledger::new(3_000);
            let mut now = Time(0);
            for (nodes, claims, ms) in rounds {
                now = now.after(ms);
                let nodes: Vec<NodeFacts> = nodes.into_iter().enumerate()
                    .map(|(n, (cpu_millis, memory_kib, cpu, memory, acts, unit))| NodeFacts {
                        node: name(n), cpu_millis, memory_kib, used: (cpu, memory), acts, unit,
                    }).collect();
                let claims: Vec<Claim> = claims.into_iter()
                    .map(|(n, kind, cpu_millis, memory_kib)| Claim { node: name(n), cause: cause(kind), cpu_millis, memory_kib })
                    .collect();
                ledger.spend(&nodes, &claims, now);
            }
            ledger.close(now);
            for page in ledger.take() {
                let mut sum = page.used;
                for idle in &page.idle {
                    sum.add(idle.amount);
                }
                prop_assert_eq!(sum, page.capacity);
            }
        }
    }
}
