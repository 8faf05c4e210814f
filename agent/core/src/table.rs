//! Every cgroup's own totals, such that each CPU nanosecond belongs to exactly one row.
//!
//! **Problem.** The kernel's totals include everything below a cgroup, live and dead; adding them up counts inner
//! cgroups many times, and a cgroup that came and went between two rounds is in nobody's row.
//! **Method.** A row's own time = its total − Σ totals of its live children − Σ last totals of its dead children. What
//! a child used after its last reading, or a child that was never seen, thus stays with its parent: late, but never
//! lost. For a leaf, own time is the kernel's total. Memory likewise, of live children only: what the kernel still charges for a
//! dead cgroup it charges to its parent. Nobody's row has what a row below it has, so rows can be added up.
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
    /// Slots of the rows that ended with the last round.
    ended: Vec<u32>,
    /// Slot of the cgroup at each position of the last round.
    order: Vec<u32>,
    round: u64,
}

#[derive(Debug, Clone)]
struct Row {
    info: Arc<TaskInfo>,
    id: CgroupId,
    parent: CgroupId,
    /// Where the parent's row was last; `None` below the root.
    parent_slot: Option<u32>,
    /// The values differ from those of the round before.
    changed: bool,
    values: Values,
    total_ns: u64,
    own_ns: u64,
    live_children_ns: u64,
    dead_children_ns: u64,
    /// Memory as the kernel charges it, with all below, bytes; `None` when it was not read.
    charged_bytes: Option<u64>,
    live_children_bytes: u64,
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

impl Row {
    /// Takes what was read. CPU time and memory are not read but settled, and stay until then.
    fn read(&mut self, values: &Values) {
        let mut values = *values;
        self.charged_bytes = values.get(Metric::MemoryCurrent);
        for settled in [Metric::CpuTime, Metric::MemoryCurrent] {
            values.put(settled, self.values.get(settled));
        }
        self.changed = values != self.values;
        self.values = values;
    }

    /// CPU time as the ledger has it, µs, or unknown; and what is charged here and to no child.
    fn settle(&mut self, cpu_us: Option<u64>) {
        // Parent and child are read a moment apart: what the child took meanwhile is the child's.
        let memory = self.charged_bytes.map(|bytes| bytes.saturating_sub(self.live_children_bytes));
        for (metric, value) in [(Metric::CpuTime, cpu_us), (Metric::MemoryCurrent, memory)] {
            self.changed |= self.values.get(metric) != value;
            self.values.put(metric, value);
        }
    }
}

impl Table {
    /// Takes one round; `classify` is asked once for each new cgroup, with its id and its parent's.
    pub fn observe(&mut self, raw: &Raw, mut classify: impl FnMut(CgroupId, CgroupId) -> TaskClass) -> Round {
        let mut round = Round::default();
        self.round += 1;
        self.release();
        if self.rows.is_empty() {
            let class = TaskClass::new("system", "system");
            round.appeared.push(self.insert(ROOT, ROOT, class, raw.boot_ns));
        }
        let mut order = std::mem::take(&mut self.order);
        order.resize(raw.cgroups.len(), u32::MAX);
        let mut seen = 0;
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
            seen += usize::from(row.seen != self.round);
            row.seen = self.round;
            row.read(&cgroup.values);
            // A kernel total never falls; a smaller one is a torn reading.
            row.total_ns = row.total_ns.max(cgroup.cpu_ns);
            row.live_children_ns = 0;
            row.live_children_bytes = 0;
        }
        self.order = order;
        // The root is in no round.
        if seen + 1 < self.by_id.len() {
            round.gone = self.bury();
            self.ended.clone_from(&round.gone);
        }
        self.settle(raw);
        round
    }

    fn slot_at(&self, guess: u32, id: CgroupId) -> Option<u32> {
        match self.rows.get(guess as usize) {
            Some(row) if row.live && row.id == id => Some(guess),
            _ => self.by_id.get(&id).copied(),
        }
    }

    fn insert(&mut self, id: CgroupId, parent: CgroupId, class: TaskClass, now_ns: u64) -> u32 {
        let row = Row {
            info: Arc::new(TaskInfo { cgroup: id, since_ns: now_ns, class }),
            id,
            parent,
            parent_slot: None,
            changed: true,
            values: Values::default(),
            total_ns: 0,
            own_ns: 0,
            live_children_ns: 0,
            dead_children_ns: 0,
            charged_bytes: None,
            live_children_bytes: 0,
            seen: 0,
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
        let dead = |row: &Row| row.live && row.seen != round && row.id != ROOT;
        let gone: Vec<u32> = (0..self.rows.len() as u32).filter(|s| dead(&self.rows[*s as usize])).collect();
        for slot in &gone {
            let (id, parent, total) = {
                let row = &mut self.rows[*slot as usize];
                row.live = false;
                (row.id, row.parent, row.total_ns)
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
        for slot in self.ended.drain(..) {
            self.rows[slot as usize].seen = 0;
            self.free.push(slot);
        }
    }

    fn settle(&mut self, raw: &Raw) {
        for position in 0..self.order.len() {
            let slot = self.order[position];
            let row = &self.rows[slot as usize];
            let (total, bytes) = (row.total_ns, row.charged_bytes);
            if let Some(parent) = self.parent_of(slot) {
                let parent = &mut self.rows[parent as usize];
                parent.live_children_ns += total;
                parent.live_children_bytes = parent.live_children_bytes.saturating_add(bytes.unwrap_or(0));
            }
        }
        for position in 0..self.order.len() {
            let row = &mut self.rows[self.order[position] as usize];
            let own = row.total_ns.saturating_sub(row.live_children_ns).saturating_sub(row.dead_children_ns);
            row.own_ns = row.own_ns.max(own);
            row.settle(Some(row.own_ns / 1000));
        }
        let root = &mut self.rows[0];
        root.seen = self.round;
        root.read(&raw.root);
        // The kernel keeps no exact ledger of the root cgroup: the switch ledger is its only exact source.
        let on_cpu = raw.root.get(Metric::OnCpu);
        root.own_ns = root.own_ns.max(on_cpu.unwrap_or(0));
        root.settle(on_cpu.map(|_| root.own_ns / 1000));
    }

    /// The slot of a row's live parent, unless that is the root.
    fn parent_of(&mut self, slot: u32) -> Option<u32> {
        let row = &self.rows[slot as usize];
        if row.parent == ROOT {
            return None;
        }
        if let Some(guess) = row.parent_slot
            && self.rows.get(guess as usize).is_some_and(|p| p.live && p.id == row.parent)
        {
            return Some(guess);
        }
        let found = self.by_id.get(&row.parent).copied();
        self.rows[slot as usize].parent_slot = found;
        found
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

    /// A live cgroup turned out to be something else. Returns its slot.
    pub fn reclassify(&mut self, id: CgroupId, class: TaskClass) -> Option<u32> {
        let slot = self.slot_of(id)?;
        let row = &mut self.rows[slot as usize];
        row.info = Arc::new(TaskInfo { class, ..TaskInfo::clone(&row.info) });
        Some(slot)
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
        self.rows.iter().filter(|r| r.live && r.id != ROOT).map(|r| r.own_ns / 1000).sum()
    }

    /// A row's own CPU time, ns.
    #[must_use]
    pub fn own_cpu_ns(&self, slot: u32) -> Option<u64> {
        self.rows.get(slot as usize).filter(|row| row.seen != 0).map(|row| row.own_ns)
    }
}

#[cfg(test)]
mod tests;
