//! One node's tasks: a slot each, ingest in constant time.

use std::collections::{BTreeSet, VecDeque};

use model::histogram::DelayHistogram;
use model::id::{CgroupId, NodeId, TaskKey};
use model::metric::Metric;
use model::node::{Incarnation, Inventory, TaskInfo};
use model::sample::{Usage, Values};
use serde::Serialize;

use super::row::{InUse, Reading, Row, fell};
use super::waits::Waits;
use super::{NodeView, Standing};
use crate::event::Time;

/// Most slots of one node: protocol.md limits a batch to 20,000 tasks; the rest is room for churn between updates.
pub const SLOT_LIMIT: u32 = 65_536;

/// Most ended tasks of one node that wait to be taken; above it the oldest are counted and dropped.
pub const ENDED_LIMIT: usize = 65_536;

/// The root cgroup, whose stalls are those of the whole node: the hierarchy's own id of it.
const ROOT: CgroupId = CgroupId(1);

/// How a sample was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ingest {
    /// Stored.
    Taken,
    /// The same instant as before: a duplicate, which says nothing new.
    Duplicate,
    /// Older than what is stored (a spooled batch): its totals are history, not the present.
    Older,
    /// A total fell: the sample starts a new series and no usage is derived across it.
    Restarted(Metric),
    /// No task is known in this slot.
    UnknownSlot,
}

/// A task that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedTask {
    /// Its identity.
    pub key: TaskKey,
    /// What it was.
    pub info: TaskInfo,
    /// Its totals at the end; `None` when not one sample of it came.
    pub totals: Option<Values>,
    /// When the totals were read, CLOCK_BOOTTIME ns.
    pub boot_ns: Option<u64>,
}

/// A task, for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskView {
    /// On which node.
    pub node: NodeId,
    /// What it is.
    pub info: TaskInfo,
    /// Usage between its last two samples; `None` until there are two.
    pub usage: Option<Usage>,
    /// Totals, by metric name.
    pub totals: std::collections::BTreeMap<&'static str, u64>,
    /// Age of its newest sample, ms.
    pub age_ms: Option<u64>,
}

/// The tasks of one stream of one node.
#[derive(Debug)]
pub struct NodeTable {
    pub(super) incarnation: Incarnation,
    pub(super) inventory: Inventory,
    pub(super) standing: Standing,
    connected: bool,
    up_since: Time,
    rows: Vec<Option<Row>>,
    /// Slots of tasks of ours: the only ones that a digest looks at.
    ours: BTreeSet<u32>,
    /// CPU in cores and memory in bytes of all rows, when no row changed since it was summed.
    in_use: Option<InUse>,
    live: u32,
    last_sample: Option<Time>,
    waits: Waits,
    /// Where the root cgroup is.
    root: Option<u32>,
    /// Tasks of the stream before, until this one has named all that live: what they had used when they were read last.
    earlier: Vec<(TaskInfo, Option<Reading>)>,
    ended: VecDeque<EndedTask>,
    /// CPU of tasks that ended on this stream, µs: with the live totals it is all CPU ever accounted.
    ended_cpu_us: u64,
    ended_dropped: u64,
    samples: u64,
    refused: u64,
}

impl NodeTable {
    pub(super) fn new(incarnation: Incarnation, inventory: Inventory, now: Time) -> Self {
        Self {
            incarnation,
            inventory,
            standing: Standing::default(),
            connected: true,
            up_since: now,
            rows: Vec::new(),
            ours: BTreeSet::new(),
            in_use: None,
            live: 0,
            last_sample: None,
            waits: Waits::default(),
            root: None,
            earlier: Vec::new(),
            ended: VecDeque::new(),
            ended_cpu_us: 0,
            ended_dropped: 0,
            samples: 0,
            refused: 0,
        }
    }

    /// A task appeared in a slot of this stream. A slot that was in use is ended first. False when the slot is out of
    /// range ([`SLOT_LIMIT`]).
    pub fn task_appeared(&mut self, slot: u32, info: TaskInfo, now: Time) -> bool {
        if slot >= SLOT_LIMIT {
            self.refused += 1;
            return false;
        }
        self.task_gone(slot, None);
        let at = slot as usize;
        if at >= self.rows.len() {
            self.rows.resize_with(at + 1, || None);
        }
        if is_ours(&info) {
            self.ours.insert(slot);
        }
        if info.cgroup == ROOT {
            self.root = Some(slot);
        }
        self.rows[at] = Some(Row { info, newest: None, previous: None, digested: None, arrived: now });
        self.live += 1;
        true
    }

    /// The task of a slot is what was said about it now (its class became known).
    pub fn task_is(&mut self, slot: u32, info: TaskInfo) {
        let ours = is_ours(&info);
        if let Some(row) = self.row(slot) {
            row.info = info;
            if ours {
                self.ours.insert(slot);
            } else {
                self.ours.remove(&slot);
            }
        }
    }

    /// The task of a slot ended; `last` are its final totals when they were read after its end.
    pub fn task_gone(&mut self, slot: u32, last: Option<(u64, &Values)>) {
        let Some(row) = self.rows.get_mut(slot as usize).and_then(Option::take) else { return };
        self.live -= 1;
        self.in_use = None;
        self.ours.remove(&slot);
        let end = last.map(|(boot_ns, values)| Reading { boot_ns, values: *values }).or(row.newest);
        if let (Some((_, values)), Some(newest)) = (last, &row.newest) {
            self.waits.moved(&newest.values, values);
        }
        self.ended_cpu_us += end.and_then(|e| e.values.get(Metric::CpuTime)).unwrap_or(0);
        self.end(row.info, end);
    }

    /// The stream has named every task that lives: those of the stream before that it has not named ended in between, unseen.
    pub fn all_are_named(&mut self) {
        if self.earlier.is_empty() {
            return;
        }
        let live: BTreeSet<_> = self.rows.iter().flatten().map(|row| row.info.cgroup).collect();
        for (info, newest) in std::mem::take(&mut self.earlier) {
            if !live.contains(&info.cgroup) {
                self.end(info, newest);
            }
        }
    }

    fn end(&mut self, info: TaskInfo, end: Option<Reading>) {
        if self.ended.len() >= ENDED_LIMIT {
            self.ended.pop_front();
            self.ended_dropped += 1;
        }
        self.ended.push_back(EndedTask {
            key: TaskKey { boot: self.incarnation.boot, cgroup: info.cgroup },
            info,
            totals: end.map(|e| e.values),
            boot_ns: end.map(|e| e.boot_ns),
        });
    }

    /// One sample of the task in `slot`, read at `boot_ns` of the node's boot clock and received `now`.
    pub fn sample(&mut self, slot: u32, boot_ns: u64, values: &Values, now: Time) -> Ingest {
        let Some(Some(row)) = self.rows.get_mut(slot as usize) else {
            self.refused += 1;
            return Ingest::UnknownSlot;
        };
        self.samples += 1;
        self.last_sample = Some(now);
        self.in_use = None;
        if let Some(newest) = &row.newest {
            if boot_ns == newest.boot_ns {
                row.arrived = now;
                return Ingest::Duplicate;
            }
            if boot_ns < newest.boot_ns {
                return Ingest::Older;
            }
            if let Some(metric) = fell(&newest.values, values) {
                self.refused += 1;
                *row = Row {
                    info: row.info.clone(),
                    newest: Some(Reading { boot_ns, values: *values }),
                    previous: None,
                    digested: None,
                    arrived: now,
                };
                return Ingest::Restarted(metric);
            }
            self.waits.moved(&newest.values, values);
        }
        row.previous = row.newest.replace(Reading { boot_ns, values: *values });
        row.arrived = now;
        Ingest::Taken
    }

    /// Run-queue delays of some task since its last histogram: buckets of the shared layout, and counts.
    pub fn delayed(&mut self, gained: &[(u16, u64)]) {
        self.waits.lengths(gained);
    }

    /// All live tasks were read at `boot_ns`, and those that were not sampled then are as they were: their totals hold
    /// for this instant too, so that an idle task is fresh and its use is zero.
    pub fn unchanged_at(&mut self, boot_ns: u64, now: Time) {
        self.last_sample = Some(now);
        for row in self.rows.iter_mut().flatten() {
            let Some(newest) = row.newest.as_mut().filter(|newest| newest.boot_ns < boot_ns) else {
                continue;
            };
            row.previous = Some(*newest);
            newest.boot_ns = boot_ns;
            row.arrived = now;
        }
        let root = self.root().and_then(|row| row.newest);
        self.waits.read(boot_ns, root.as_ref().map(|newest| &newest.values));
        // The rows are at hand now; a round later they are not.
        self.in_use = Some(self.sum());
    }

    /// The slot of a cgroup, by search; `None` when it is not here. For events, not for samples.
    #[must_use]
    pub fn slot_of(&self, cgroup: CgroupId) -> Option<u32> {
        self.rows
            .iter()
            .position(|row| row.as_ref().is_some_and(|row| row.info.cgroup == cgroup))
            .and_then(|at| u32::try_from(at).ok())
    }

    /// What the node has and can.
    #[must_use]
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Which run of agent and kernel this stream belongs to.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// CPU of all tasks of this stream, ended ones included, µs.
    #[must_use]
    pub fn cpu_total_us(&self) -> u64 {
        let live = self.rows.iter().flatten().filter_map(|r| r.newest?.values.get(Metric::CpuTime));
        live.sum::<u64>() + self.ended_cpu_us
    }

    /// Ended tasks that were dropped because nobody took them.
    #[must_use]
    pub fn ended_dropped(&self) -> u64 {
        self.ended_dropped
    }

    pub(super) fn disconnected(&mut self) {
        self.connected = false;
    }

    /// Takes over from the stream before: ended tasks that nobody took yet, its tasks until this stream has named those that
    /// live, and, when the node booted in between, all its tasks as ended with that boot.
    pub(super) fn succeed(&mut self, mut before: NodeTable) {
        if before.incarnation.boot == self.incarnation.boot {
            self.earlier = std::mem::take(&mut before.earlier);
            self.earlier.extend(before.rows.drain(..).flatten().map(|row| (row.info, row.newest)));
        } else {
            for slot in 0..before.rows.len() {
                before.task_gone(u32::try_from(slot).unwrap_or(u32::MAX), None);
            }
            before.all_are_named();
        }
        self.ended = before.ended;
        self.ended_dropped = before.ended_dropped;
        self.standing = before.standing;
    }

    pub(super) fn take_ended(&mut self) -> Vec<EndedTask> {
        self.ended.drain(..).collect()
    }

    fn root(&self) -> Option<&Row> {
        let row = self.rows.get(self.root? as usize)?.as_ref();
        row.filter(|row| row.info.cgroup == ROOT)
    }

    fn row(&mut self, slot: u32) -> Option<&mut Row> {
        self.rows.get_mut(slot as usize).and_then(Option::as_mut)
    }

    /// Usage of each task of ours since the last call, with the age of its newest sample; by slot.
    pub(super) fn rounds(&mut self, now: Time) -> impl Iterator<Item = Round<'_>> {
        // Both ascend, so that one walk over the rows meets all.
        let mut ours = self.ours.iter().peekable();
        let rows = (0u32..).zip(&mut self.rows).filter(move |(slot, _)| ours.next_if_eq(&slot).is_some());
        rows.filter_map(move |(_, row)| {
            let row = row.as_mut()?;
            row.digest();
            Some(Round {
                info: &row.info,
                usage: row.digested.as_ref().and_then(|digested| digested.round),
                values: row.newest.as_ref().map(|n| &n.values),
                age_ms: row.newest.map(|_| now.since(row.arrived)),
            })
        })
    }

    /// The tasks of ours, containers of theirs left out.
    pub(super) fn replicas(&self) -> impl Iterator<Item = &TaskInfo> {
        let rows = self.ours.iter().filter_map(|slot| self.rows.get(*slot as usize)?.as_ref());
        rows.map(|row| &row.info).filter(|info| info.class.container.is_none())
    }

    /// CPU and memory in use by all tasks: of the last interval of each, as far as it is known.
    pub(super) fn in_use(&self) -> InUse {
        self.in_use.unwrap_or_else(|| self.sum())
    }

    fn sum(&self) -> InUse {
        let rows = self.rows.iter().flatten().filter_map(Row::in_use);
        // Of nothing at all the sum is unknown, not zero.
        rows.fold((None, None), |(cpu, memory), (cores, bytes)| {
            (
                cores.map_or(cpu, |more| Some(cpu.unwrap_or(0.0) + more)),
                bytes.map_or(memory, |more| Some(memory.unwrap_or(0) + more)),
            )
        })
    }

    pub(super) fn age_ms(&self, now: Time) -> Option<u64> {
        self.last_sample.map(|at| now.since(at))
    }

    pub(super) fn live(&self) -> u32 {
        self.live
    }

    pub(super) fn view(&self, node: &NodeId, now: Time) -> NodeView {
        let (cpu_cores, memory_bytes) = self.in_use();
        NodeView {
            node: node.clone(),
            connected: self.connected,
            boot: self.incarnation.boot,
            inventory: self.inventory.clone(),
            age_ms: self.age_ms(now),
            cpu_cores,
            memory_bytes,
            tasks: self.live,
            samples: self.samples,
            refused: self.refused,
            standing: self.standing.clone(),
            waits: self.waits.view(),
            network: self.root().and_then(Row::network),
        }
    }

    pub(super) fn delays(&self) -> DelayHistogram {
        self.waits.histogram()
    }

    pub(super) fn tasks(&self, node: &NodeId, now: Time) -> impl Iterator<Item = TaskView> {
        self.rows.iter().flatten().map(move |row| TaskView {
            node: node.clone(),
            info: row.info.clone(),
            usage: row.usage(),
            totals: row
                .newest
                .iter()
                .flat_map(|n| n.values.iter().map(|(m, v)| (m.entry().name, v)).collect::<Vec<_>>())
                .collect(),
            age_ms: row.newest.map(|_| now.since(row.arrived)),
        })
    }

    /// When the stream came up.
    #[must_use]
    pub fn up_since(&self) -> Time {
        self.up_since
    }
}

/// A task's last round.
pub(super) struct Round<'a> {
    pub(super) info: &'a TaskInfo,
    pub(super) usage: Option<Usage>,
    pub(super) values: Option<&'a Values>,
    pub(super) age_ms: Option<u64>,
}

impl Round<'_> {
    /// Memory of the task itself; not that of cgroups below its own.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        self.values.and_then(|values| values.get(Metric::MemoryCurrent))
    }
}

fn is_ours(info: &TaskInfo) -> bool {
    info.class.task.is_some() && info.class.workload.is_some()
}
