//! The size of a replica: recommended when it differs from what is given, and the number of replicas stands still.

use model::action::Size;
use model::decision::{Decision, DecisionKind};
use model::id::TaskName;
use model::reason::{Reason, Resource};

use super::{Context, Controller, DecisionIds};
use crate::decide::Decided;
use crate::event::{Digest, Time};
use crate::joint;

/// Time between two samples of a replica, ms: the recommender counts one a minute.
const SAMPLE_MS: u64 = 60_000;

impl Controller {
    /// Takes this round's use of each replica, once a minute.
    pub(super) fn size_seen(&mut self, digest: &Digest, now: Time) {
        let request = crate::service::cores(&self.workload.spec);
        for replica in &digest.replicas {
            let kills = replica.oom_kills.unwrap_or(0);
            let before = self.oom_kills.insert(replica.task.clone(), kills);
            if let (Some(before), Some(bytes)) = (before, replica.memory_bytes)
                && kills > before
            {
                self.sizes.oom(bytes as f64, now.0);
            }
        }
        self.oom_kills.retain(|task, _| digest.replicas.iter().any(|r| r.task == *task));
        if now.since(self.sized_at) < SAMPLE_MS {
            return;
        }
        self.sized_at = now;
        for replica in &digest.replicas {
            if let Some(cores) = replica.cpu_cores.filter(|cores| cores.is_finite()) {
                self.sizes.cpu(cores.max(0.0), request, now.0);
            }
            if let Some(bytes) = replica.memory_bytes {
                self.sizes.memory(bytes as f64, now.0);
            }
        }
    }

    /// A recommendation of another size; said once until it changes.
    pub(super) fn size_decision(
        &mut self,
        still: bool,
        ids: &mut DecisionIds,
        context: &Context<'_>,
    ) -> Option<Decision> {
        let said = self.sizes.recommend()?;
        let size = self.workload.spec.size;
        let given =
            [(Resource::Cpu, size.cpu.map(|c| u64::from(c.0))), (Resource::Memory, size.memory.map(|m| m.0))];
        let recommended = [(said.target.0 * 1e3).ceil() as u64, said.target.1.ceil() as u64];
        let changes = joint::sizes(still, self.sizes.confidence(), given, recommended);
        let first = changes.first()?;
        let near = |old: u64| (first.recommended as f64 / old.max(1) as f64 - 1.0).abs() <= joint::BAND;
        if self.size_said.is_some_and(near) {
            return None;
        }
        self.size_said = Some(first.recommended);
        let reasons: Vec<Reason> = changes
            .iter()
            .map(|c| Reason::SizeDiffers { resource: c.resource, given: c.given, recommended: c.recommended })
            .collect();
        let of = |resource| changes.iter().find(|c| c.resource == resource).map(|c| c.recommended);
        let size = Size {
            cpu_max_millis: of(Resource::Cpu).and_then(|n| u32::try_from(n).ok()),
            memory_max_bytes: of(Resource::Memory),
            ..Size::default()
        };
        let decided = Decided {
            kind: DecisionKind::Resize,
            to: self.wanted,
            act: false,
            reasons: [vec![Reason::RecommendOnly], reasons].concat(),
            binding: None,
            alternatives: Vec::new(),
        };
        let tasks: Vec<TaskName> = self.names(|r| r.state.serves()).into_iter().collect();
        let mut decision = self.record(self.wanted, decided, tasks, ids, context);
        decision.size = Some(size);
        self.decisions.push_front(decision.clone());
        Some(decision)
    }
}
