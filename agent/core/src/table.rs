//! Every cgroup's own totals, such that each CPU nanosecond belongs to exactly one row.
//!
//! **Problem.** The kernel's totals include everything below a cgroup, live and dead; adding them up counts inner
//! cgroups many times, and a cgroup that came and went between two rounds is in nobody's row.
//! **Method.** A row's own time = its total − Σ totals of its live children − Σ last totals of its dead children. What
//! a child used after its last reading, or a child that was never seen, thus stays with its parent: late, but never
//! lost. For a leaf, own time is the kernel's total.
//! **Bounds.** A round may see parent and child a flush apart; own totals are held monotone, and the difference shows
//! up one round later. Work is linear in the number of cgroups; rows keep their position from round to round, so a
//! stable population needs no look-ups.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::id::CgroupId;
use model::metric::Metric;
use model::node::{TaskClass, TaskInfo};
use model::sample::Values;

use crate::raw::{ROOT, Raw};

/// All rows of a node.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
    by_id: BTreeMap<CgroupId, u32>,
    free: Vec<u32>,
    /// Slot of the cgroup at each position of the last round.
    order: Vec<u32>,
    round: u64,
}

#[derive(Debug, Clone)]
struct Row {
    info: Arc<TaskInfo>,
    changed: bool,
    parent: CgroupId,
    values: Values,
    /// The values of the round before.
    before: Values,
    total_ns: u64,
    own_ns: u64,
    live_children_ns: u64,
    dead_children_ns: u64,
    seen: u64,
    live: bool,
}

/// What one round changed.
#[derive(Debug, Default)]
pub struct Round {
    /// Rows that are new: their slots.
    pub appeared: Vec<u32>,
    /// Rows that ended: slot and final values. Their slots are free from the next round on.
    pub gone: Vec<u32>,
}

impl Table {
    /// Takes one round; `classify` is asked once for each new cgroup, with its id and its parent's.
    pub fn observe(&mut self, raw: &Raw, mut classify: impl FnMut(CgroupId, CgroupId) -> TaskClass) -> Round {
        let mut round = Round::default();
        self.round += 1;
        self.release();
        if self.rows.is_empty() {
            let class =
                TaskClass { kind: "system".into(), name: "system".into(), workload: None, task: None };
            round.appeared.push(self.insert(ROOT, ROOT, class, raw.boot_ns));
        }
        let mut order = std::mem::take(&mut self.order);
        order.resize(raw.cgroups.len(), u32::MAX);
        for (position, cgroup) in raw.cgroups.iter().enumerate() {
            let slot = match self.slot_at(order[position], cgroup.id) {
                Some(slot) => slot,
                None => {
                    let slot = self.insert(
                        cgroup.id,
                        cgroup.parent,
                        classify(cgroup.id, cgroup.parent),
                        raw.boot_ns,
                    );
                    round.appeared.push(slot);
                    slot
                }
            };
            order[position] = slot;
            let row = &mut self.rows[slot as usize];
            row.seen = self.round;
            row.before = std::mem::replace(&mut row.values, cgroup.values);
            // A kernel total never falls; a smaller one is a torn reading.
            row.total_ns = row.total_ns.max(cgroup.cpu_ns);
            row.live_children_ns = 0;
        }
        self.order = order;
        round.gone = self.bury();
        self.settle(raw);
        round
    }

    fn slot_at(&self, guess: u32, id: CgroupId) -> Option<u32> {
        match self.rows.get(guess as usize) {
            Some(row) if row.live && row.info.cgroup == id => Some(guess),
            _ => self.by_id.get(&id).copied(),
        }
    }

    fn insert(&mut self, id: CgroupId, parent: CgroupId, class: TaskClass, now_ns: u64) -> u32 {
        let row = Row {
            info: Arc::new(TaskInfo { cgroup: id, since_ns: now_ns, class }),
            changed: true,
            parent,
            values: Values::default(),
            before: Values::default(),
            total_ns: 0,
            own_ns: 0,
            live_children_ns: 0,
            dead_children_ns: 0,
            seen: self.round,
            live: true,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.rows[slot as usize] = row;
                slot
            }
            None => {
                self.rows.push(row);
                (self.rows.len() - 1) as u32
            }
        };
        self.by_id.insert(id, slot);
        slot
    }

    /// Ends the rows that this round did not see, deepest first is not needed: a total already holds all below it.
    fn bury(&mut self) -> Vec<u32> {
        let round = self.round;
        let dead = |row: &Row| row.live && row.seen != round && row.info.cgroup != ROOT;
        let gone: Vec<u32> = (0..self.rows.len() as u32).filter(|s| dead(&self.rows[*s as usize])).collect();
        for slot in &gone {
            let (id, parent, total) = {
                let row = &mut self.rows[*slot as usize];
                row.live = false;
                (row.info.cgroup, row.parent, row.total_ns)
            };
            self.by_id.remove(&id);
            if let Some(parent) = self.by_id.get(&parent) {
                let row = &mut self.rows[*parent as usize];
                row.dead_children_ns = row.dead_children_ns.saturating_add(total);
            }
        }
        gone
    }

    /// Slots of rows that ended a round ago can be used again.
    fn release(&mut self) {
        let round = self.round;
        for (slot, row) in self.rows.iter_mut().enumerate() {
            if !row.live && row.seen != 0 && row.seen + 1 < round {
                row.seen = 0;
                self.free.push(slot as u32);
            }
        }
    }

    fn settle(&mut self, raw: &Raw) {
        for position in 0..self.order.len() {
            let row = &self.rows[self.order[position] as usize];
            let (parent, total) = (row.parent, row.total_ns);
            if parent != ROOT
                && let Some(parent) = self.by_id.get(&parent)
            {
                self.rows[*parent as usize].live_children_ns += total;
            }
        }
        for position in 0..self.order.len() {
            let row = &mut self.rows[self.order[position] as usize];
            let own = row.total_ns.saturating_sub(row.live_children_ns).saturating_sub(row.dead_children_ns);
            row.own_ns = row.own_ns.max(own);
            row.values.set(Metric::CpuTime, row.own_ns / 1000);
            row.changed = row.values != row.before;
        }
        let root = &mut self.rows[0];
        root.seen = self.round;
        root.before = std::mem::replace(&mut root.values, raw.root);
        if let Some(on_cpu) = raw.root.get(Metric::OnCpu) {
            // The kernel keeps no exact ledger of the root cgroup: the switch ledger is its only exact source.
            root.own_ns = root.own_ns.max(on_cpu);
            root.values.set(Metric::CpuTime, root.own_ns / 1000);
        }
        root.changed = root.values != root.before;
    }

    /// A row that is live or ended in the last round.
    #[must_use]
    pub fn info(&self, slot: u32) -> Option<&Arc<TaskInfo>> {
        self.rows.get(slot as usize).filter(|row| row.seen != 0).map(|row| &row.info)
    }

    /// The values of a row that is live or ended in the last round.
    #[must_use]
    pub fn values(&self, slot: u32) -> Option<&Values> {
        self.rows.get(slot as usize).filter(|row| row.seen != 0).map(|row| &row.values)
    }

    /// The slot of a live cgroup.
    #[must_use]
    pub fn slot_of(&self, id: CgroupId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    /// Live rows, ascending by slot.
    pub fn live(&self) -> impl Iterator<Item = (u32, &Arc<TaskInfo>, &Values)> + '_ {
        let rows = self.rows.iter().enumerate().filter(|(_, row)| row.live);
        rows.map(|(slot, row)| (slot as u32, &row.info, &row.values))
    }

    /// Live rows whose values differ from the round before, ascending by slot.
    pub fn changed(&self) -> impl Iterator<Item = (u32, &Arc<TaskInfo>, &Values)> + '_ {
        let rows = self.rows.iter().enumerate().filter(|(_, row)| row.live && row.changed);
        rows.map(|(slot, row)| (slot as u32, &row.info, &row.values))
    }

    /// Live rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether no round was taken yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Σ own CPU time of all rows but the root's, live ones only, µs: the kernel ledger of a receipt.
    #[must_use]
    pub fn cgroups_cpu_us(&self) -> u64 {
        self.rows.iter().filter(|r| r.live && r.info.cgroup != ROOT).map(|r| r.own_ns / 1000).sum()
    }

    /// A row's own CPU time, ns.
    #[must_use]
    pub fn own_cpu_ns(&self, slot: u32) -> Option<u64> {
        self.rows.get(slot as usize).filter(|row| row.seen != 0).map(|row| row.own_ns)
    }
}

#[cfg(test)]
mod tests;
