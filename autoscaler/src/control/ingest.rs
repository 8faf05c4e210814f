//! Batches of samples: into the fleet, and to history.

use autoscaler_core::event::Time;
use autoscaler_core::fleet::{EndedTask, Fleet};
use model::id::{CgroupId, NodeId, TaskKey};
use model::node::{Incarnation, TaskInfo};
use model::sample::Values;
use wire::batch::{Decoded, Gone, Header};

use super::Control;
use super::peers::{SessionId, ToAgent};
use crate::history::Observed;

/// A batch that was decoded, with its own copy of the values.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Number and time.
    pub header: Header,
    /// From the spool.
    pub backlog: bool,
    /// Tasks that are not listed do not exist.
    pub snapshot: bool,
    /// Tasks that it names.
    pub appeared: Vec<(u32, TaskInfo)>,
    /// Tasks whose values changed, with all totals.
    pub changed: Vec<(u32, CgroupId, Values)>,
    /// Tasks that ended.
    pub gone: Vec<Gone>,
}

impl From<Decoded<'_>> for Batch {
    fn from(decoded: Decoded<'_>) -> Self {
        let changed = decoded.changed().map(|(slot, cgroup, values)| (slot, cgroup, *values)).collect();
        Self {
            header: decoded.header,
            backlog: decoded.backlog,
            snapshot: decoded.snapshot,
            changed,
            appeared: decoded.appeared,
            gone: decoded.gone,
        }
    }
}

/// Which cgroup is in which slot of one stream.
#[derive(Debug, Default)]
pub(super) struct Slots(Vec<Option<CgroupId>>);

impl Slots {
    fn put(&mut self, slot: u32, cgroup: Option<CgroupId>) -> Option<CgroupId> {
        let at = slot as usize;
        if at >= self.0.len() {
            self.0.resize(at + 1, None);
        }
        std::mem::replace(&mut self.0[at], cgroup)
    }
}

/// Takes a live batch into the fleet.
pub(super) fn into_fleet(fleet: &mut Fleet, node: &NodeId, slots: &mut Slots, batch: &Batch, now: Time) {
    let Some(table) = fleet.node(node) else { return };
    if batch.snapshot {
        // The snapshot names every task; one that it does not name ended without our seeing it.
        let named: std::collections::BTreeSet<u32> = batch.appeared.iter().map(|(slot, _)| *slot).collect();
        for slot in 0..slots.0.len() as u32 {
            if !named.contains(&slot) && slots.put(slot, None).is_some() {
                table.task_gone(slot, None);
            }
        }
    }
    for (slot, info) in &batch.appeared {
        if slots.put(*slot, Some(info.cgroup)) == Some(info.cgroup) {
            table.task_is(*slot, info.clone());
        } else {
            table.task_appeared(*slot, info.clone(), now);
        }
    }
    let boot_ns = batch.header.boot_ns;
    for (slot, _, values) in &batch.changed {
        table.sample(*slot, boot_ns, values, now);
    }
    for gone in &batch.gone {
        slots.put(gone.slot, None);
        table.task_gone(gone.slot, Some((boot_ns, &gone.values)));
    }
    table.unchanged_at(boot_ns, now);
}

/// Tasks that ended in a batch of the spool: their final totals count, whatever became of the stream.
fn ended_of_backlog(incarnation: Incarnation, batch: &Batch) -> impl Iterator<Item = EndedTask> {
    batch.gone.iter().filter_map(move |gone| {
        let info =
            batch.appeared.iter().find(|(slot, _)| *slot == gone.slot).map(|(_, info)| info.clone())?;
        Some(EndedTask {
            key: TaskKey { boot: incarnation.boot, cgroup: gone.cgroup },
            info,
            totals: Some(gone.values),
            boot_ns: Some(batch.header.boot_ns),
        })
    })
}

impl Control {
    pub(super) fn batch(&mut self, session: SessionId, batch: Batch) {
        let now = self.clock.now();
        let Some(peer) = self.peers.get_mut(session) else { return };
        peer.last_heard = now;
        self.metrics.batches.inc();
        self.metrics.samples.inc_by((batch.changed.len() + batch.gone.len()) as u64);
        if batch.backlog {
            let node = peer.node.clone();
            if batch.gone.is_empty() {
                // Resolution only: history may lose its last minute anyway, so nobody waits for the disk.
                peer.put(ToAgent::Ack(batch.header.seq));
            } else {
                peer.backlog.push(batch.header.seq);
            }
            self.ended.extend(ended_of_backlog(peer.incarnation, &batch).map(|ended| (node.clone(), ended)));
        } else {
            peer.handled = peer.handled.max(batch.header.seq);
            into_fleet(&mut self.fleet, &peer.node, &mut peer.slots, &batch, now);
        }
        // The node's boot clock on controller time; a batch is never later than now.
        let boot_ms = i64::try_from(batch.header.boot_ns / 1_000_000).unwrap_or(i64::MAX);
        let at = u64::try_from(boot_ms.saturating_add(peer.offset_ms)).unwrap_or(0).min(now.0);
        self.history.observe(Observed {
            node: peer.node.clone(),
            boot: peer.incarnation.boot,
            at: Time(at),
            snapshot: batch.snapshot,
            backlog: batch.backlog,
            appeared: batch.appeared.iter().map(|(_, info)| info.cgroup).collect(),
            changed: batch.changed.into_iter().map(|(_, cgroup, values)| (cgroup, values)).collect(),
            gone: batch.gone.into_iter().map(|gone| (gone.cgroup, gone.values)).collect(),
        });
    }
}
