//! What members are given and do not use: claims on idle capacity.

use std::cmp::Reverse;

use model::reason::Reason;
use model::workload::Mode;
use model::yarn::YarnState;

use super::{Controller, Own};
use crate::idle::{Cause, Claim};
use crate::survive::{Piece, Role, millis};

impl Controller {
    /// Of the member that leaves first, then of those that are not needed, then of the others. Members that others started were given what
    /// nobody told.
    pub(crate) fn claims(&self) -> Vec<Claim> {
        let workload = self.workload.name.clone();
        let leaving = self
            .underway
            .as_ref()
            .filter(|_| self.leaves())
            .and_then(|underway| underway.change.task.as_ref());
        let (out, mut stay): (Vec<&Own>, Vec<&Own>) =
            self.own.values().filter(|own| own.runs).partition(|own| Some(&own.task) == leaving);
        // The newest would leave first.
        stay.sort_by_key(|own| Reverse(own.number));
        let need = self.said.as_ref().map_or(self.wanted.unwrap_or(0), |said| said.need);
        let surplus = self.seen.there().len().saturating_sub(need as usize);
        let out = out.into_iter().map(|own| (own, Cause::Draining { workload: workload.clone() }));
        let stay = stay.into_iter().enumerate().map(|(at, own)| {
            let over_sized = || Cause::OverSized { workload: workload.clone() };
            (own, if at < surplus { self.surplus() } else { over_sized() })
        });
        out.chain(stay).filter_map(|(own, cause)| self.claim(own, cause)).collect()
    }

    /// Why members that are not needed are still there.
    fn surplus(&self) -> Cause {
        let workload = self.workload.name.clone();
        if self.wanted.is_none_or(|wanted| wanted <= self.workload.spec.replicas.min) {
            return Cause::KeptForFailure { workload };
        }
        let held = match self.workload.spec.mode {
            Mode::Observe => Some(Reason::ObserveOnly.code()),
            Mode::Recommend => Some(Reason::RecommendOnly.code()),
            Mode::Auto => None,
        };
        match held.or(self.frozen.first().map(Reason::code)) {
            Some(rule) => Cause::Blocked { workload, rule: rule.to_owned() },
            None => Cause::CoolingDown { workload },
        }
    }

    fn claim(&self, own: &Own, cause: Cause) -> Option<Claim> {
        let (cores, bytes) = self.amounts.used(&own.task)?;
        let used = (Some(cores), bytes.map(|bytes| bytes as u64));
        Claim::unused(own.node.clone(), cause, self.given(own), used)
    }

    /// What the loss of nodes would mean for the members that Trimtab started: each keeps what it may use.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece> {
        self.own.values().filter(|own| own.runs).map(|own| {
            let (cpu, memory_kib) = self.given(own);
            let used = self.amounts.used(&own.task);
            Piece {
                workload: self.workload.name.clone(),
                node: own.node.clone(),
                role: Role::Member,
                given: (cpu, memory_kib.map(|kib| kib.saturating_mul(1_024))),
                used: (
                    used.map(|(cores, _)| millis(cores)),
                    used.and_then(|(_, bytes)| bytes).map(|bytes| bytes as u64),
                ),
            }
        })
    }

    /// What a member may use, thousandths of a core and KiB: its size; else what it advertises to containers. `None` = nobody said.
    fn given(&self, own: &Own) -> (Option<u64>, Option<u64>) {
        let size = &self.workload.spec.size;
        let advertised = self.seen.yarn.as_ref().and_then(|seen| {
            let node = seen.report.nodes.iter().find(|n| n.host == own.member)?;
            (node.state == YarnState::Running).then_some(node.total)
        });
        let per_core = self.cluster().and_then(|spec| spec.advertise).map_or(1, |a| a.vcores_per_core.max(1));
        let cpu = advertised.map(|total| u64::from(total.vcores) * 1_000 / u64::from(per_core));
        let memory = advertised.map(|total| total.memory_mib.saturating_mul(1_024));
        (size.cpu.map(|cpu| u64::from(cpu.0)).or(cpu), size.memory.map(|memory| memory.0 / 1_024).or(memory))
    }
}
