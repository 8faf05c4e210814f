//! What a workload's replicas hold of their nodes without using it, and why.

use std::collections::BTreeMap;

use model::id::TaskName;
use model::reason::Reason;

use super::Controller;
use crate::event::ReplicaDigest;
use crate::idle::{Cause, Claim};
use crate::rollout::Replica;
use crate::survive::{Kind, Known, Piece, Role, millis};

impl Controller {
    /// Claims on idle capacity: first those that leave, then those that are not needed, then the needed ones.
    pub(crate) fn claims(&self) -> Vec<Claim> {
        let used: BTreeMap<&TaskName, &ReplicaDigest> =
            self.digest.iter().flat_map(|d| &d.replicas).map(|r| (&r.task, r)).collect();
        let workload = self.workload.name.clone();
        let mut claims = Vec::new();
        let serving: Vec<&Replica> = self.replicas.values().filter(|r| r.state.counts()).collect();
        let need = self.said.as_ref().map_or(self.wanted, |said| said.need) as usize;
        for replica in self.replicas.values().filter(|r| r.state.leaves()) {
            claims.extend(self.claim(replica, &used, Cause::Draining { workload: workload.clone() }));
        }
        // The newest would leave first.
        let surplus = serving.len().saturating_sub(need);
        let mut order = serving.clone();
        order.sort_by_key(|r| std::cmp::Reverse(r.number));
        let why = self.surplus();
        for (at, replica) in order.iter().enumerate() {
            let cause =
                if at < surplus { why.clone() } else { Cause::OverSized { workload: workload.clone() } };
            claims.extend(self.claim(replica, &used, cause));
        }
        claims
    }

    /// Why replicas that are not needed are still there.
    fn surplus(&self) -> Cause {
        let workload = self.workload.name.clone();
        if self.wanted <= self.workload.spec.replicas.min {
            return Cause::KeptForFailure { workload };
        }
        let blocked =
            |rule: &Reason| Cause::Blocked { workload: workload.clone(), rule: rule.code().to_owned() };
        if let Some(frozen) = self.frozen.first() {
            return blocked(frozen);
        }
        let last = self.record.newest().and_then(|decision| decision.reasons.first());
        match last {
            Some(
                reason @ (Reason::SurvivorsTooBusy { .. }
                | Reason::TooFewUp { .. }
                | Reason::Paused { .. }
                | Reason::ObserveOnly
                | Reason::RecommendOnly
                | Reason::ChangeUnderway { .. }),
            ) => blocked(reason),
            _ => Cause::CoolingDown { workload },
        }
    }

    fn claim(
        &self,
        replica: &Replica,
        used: &BTreeMap<&TaskName, &ReplicaDigest>,
        cause: Cause,
    ) -> Option<Claim> {
        let digest = used.get(&replica.task);
        let (cpu, memory) = self.given();
        let used = (digest.and_then(|d| d.cpu_cores), digest.and_then(|d| d.memory_bytes));
        Claim::unused(replica.node.clone(), cause, (Some(cpu), memory), used)
    }

    /// What one replica is given: thousandths of a core, KiB.
    pub(crate) fn given(&self) -> (u64, Option<u64>) {
        let spec = &self.workload.spec;
        let cpu = (crate::service::cores(spec) * 1e3) as u64;
        (cpu, spec.size.memory.map(|memory| memory.0 / 1_024))
    }

    /// What the loss of nodes would mean for its replicas.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece> {
        let used: BTreeMap<&TaskName, &ReplicaDigest> =
            self.digest.iter().flat_map(|d| &d.replicas).map(|r| (&r.task, r)).collect();
        self.replicas.values().map(move |replica| {
            let digest = used.get(&replica.task);
            let moves = || Role::Moves { launcher: self.launcher().to_owned() };
            Piece {
                workload: self.workload.name.clone(),
                node: replica.node.clone(),
                role: if replica.state.leaves() { Role::Leaves } else { moves() },
                given: self.size_given(),
                used: (digest.and_then(|d| d.cpu_cores).map(millis), digest.and_then(|d| d.memory_bytes)),
            }
        })
    }

    /// What one more replica would take.
    pub(crate) fn piece_kind(&self) -> Kind {
        let (workload, launcher) = (self.workload.name.clone(), self.launcher().to_owned());
        Kind { workload, launcher, given: self.size_given() }
    }

    /// The size in force, as far as there is one.
    fn size_given(&self) -> Known {
        let size = self.size_in_force();
        (size.cpu_max_millis.map(u64::from), size.memory_max_bytes)
    }

    pub(crate) fn starts_by(&self) -> &str {
        self.launcher()
    }
}
