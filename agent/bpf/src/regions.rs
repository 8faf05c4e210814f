//! What lies where in the run-queue regions, one per CPU (see [`agent_abi::runq`]).

use crate::mapped::Mapped;
use agent_abi::histogram::BUCKETS;
use agent_abi::runq::{
    CpuHead, FREE, OVERFLOW_OFFSET, RETIRED, RunqSlot, SLOTS_OFFSET, WINDOW, home_slot, region_bytes,
};
use std::mem::offset_of;
use std::sync::atomic::Ordering::{Relaxed, Release};

/// One slot of one CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotRef {
    pub(crate) cpu: usize,
    /// `None` is the overflow slot.
    pub(crate) index: Option<usize>,
}

/// The head of a slot, read once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SlotSums {
    pub(crate) cgroup_id: u64,
    pub(crate) oncpu_ns: u64,
    pub(crate) delay_ns: u64,
    pub(crate) switches: u64,
}

/// The mapped regions of all CPUs.
#[derive(Debug)]
pub(crate) struct Regions {
    memory: Mapped,
    cpus: usize,
    slot_bits: u32,
}

impl Regions {
    /// Bytes of `cpus` regions.
    pub(crate) fn bytes(cpus: usize, slot_bits: u32) -> usize {
        cpus * region_bytes(slot_bits)
    }

    /// Regions in memory of at least [`Regions::bytes`].
    pub(crate) fn new(memory: Mapped, cpus: usize, slot_bits: u32) -> Self {
        Self { memory, cpus, slot_bits }
    }

    pub(crate) fn cpus(&self) -> usize {
        self.cpus
    }

    /// Slots per CPU, without the overflow slot.
    pub(crate) fn slots(&self) -> usize {
        1 << self.slot_bits
    }

    /// Bytes mapped.
    pub(crate) fn mapped_bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// A copy of a CPU's head.
    pub(crate) fn head(&self, cpu: usize) -> CpuHead {
        self.memory.copy(cpu * region_bytes(self.slot_bits))
    }

    /// The sums of a slot. Each is read whole; together they may straddle a switch, which the next scan sees.
    pub(crate) fn sums(&self, slot: SlotRef) -> SlotSums {
        let at = self.at(slot);
        let number = |field| self.memory.number(at + field).load(Relaxed);
        SlotSums {
            cgroup_id: number(offset_of!(RunqSlot, cgroup_id)),
            oncpu_ns: number(offset_of!(RunqSlot, oncpu_ns)),
            delay_ns: number(offset_of!(RunqSlot, delay_ns)),
            switches: number(offset_of!(RunqSlot, switches)),
        }
    }

    /// Adds a slot's buckets to `into`, modulo 2³².
    pub(crate) fn add_histogram(&self, slot: SlotRef, into: &mut [u32; BUCKETS]) {
        let buckets = self.memory.row(self.at(slot) + offset_of!(RunqSlot, hist), BUCKETS);
        for (sum, bucket) in into.iter_mut().zip(buckets) {
            *sum = sum.wrapping_add(bucket.load(Relaxed));
        }
    }

    /// The slot that a CPU keeps for a cgroup.
    pub(crate) fn find(&self, cpu: usize, cgroup_id: u64) -> Option<SlotRef> {
        let home = home_slot(cgroup_id, u64::from(64 - self.slot_bits));
        (0..WINDOW)
            .map(|step| SlotRef { cpu, index: Some((home + step) as usize & (self.slots() - 1)) })
            .find(|slot| self.id(*slot) == cgroup_id)
    }

    /// Stops further counting in a slot. Programs that are running now may still add once.
    pub(crate) fn retire(&mut self, slot: SlotRef) {
        self.memory.number(self.at(slot)).store(RETIRED, Relaxed);
    }

    /// Empties a slot that was retired at least one scan ago, and lets the CPU claim it again.
    pub(crate) fn free(&mut self, slot: SlotRef) {
        let at = self.at(slot);
        let empty =
            RunqSlot { cgroup_id: RETIRED, oncpu_ns: 0, delay_ns: 0, switches: 0, hist: [0; BUCKETS] };
        self.memory.store(at, empty);
        self.memory.number(at).store(FREE, Release);
    }

    fn id(&self, slot: SlotRef) -> u64 {
        self.memory.number(self.at(slot)).load(Relaxed)
    }

    fn at(&self, slot: SlotRef) -> usize {
        let region = slot.cpu * region_bytes(self.slot_bits);
        match slot.index {
            None => region + OVERFLOW_OFFSET,
            Some(index) => region + SLOTS_OFFSET + index * size_of::<RunqSlot>(),
        }
    }
}

const _: () = assert!(offset_of!(RunqSlot, cgroup_id) == 0);

#[cfg(test)]
impl Regions {
    /// Regions without a kernel program behind them.
    pub(crate) fn anonymous(cpus: usize, slot_bits: u32) -> Self {
        Self::new(Mapped::anonymous(Self::bytes(cpus, slot_bits)), cpus, slot_bits)
    }

    /// Counts as the kernel program does.
    pub(crate) fn count(&mut self, cpu: usize, cgroup_id: u64, delay_ns: u64, ran_ns: u64) {
        let home = home_slot(cgroup_id, u64::from(64 - self.slot_bits));
        let window: Vec<_> = (0..WINDOW)
            .map(|step| SlotRef { cpu, index: Some((home + step) as usize & (self.slots() - 1)) })
            .collect();
        let found = self
            .find(cpu, cgroup_id)
            .or_else(|| window.iter().copied().find(|slot| self.id(*slot) == FREE))
            .unwrap_or(SlotRef { cpu, index: None });
        let at = self.at(found);
        let mut slot: RunqSlot = self.memory.copy(at);
        if found.index.is_some() {
            slot.cgroup_id = cgroup_id;
        }
        slot.oncpu_ns += ran_ns;
        slot.delay_ns += delay_ns;
        slot.switches += 1;
        slot.hist[agent_abi::histogram::bucket_of(delay_ns)] += 1;
        self.memory.store(at, slot);
    }

    /// Adds run time to a slot whatever its state, as a program run does that found it before.
    pub(crate) fn add_late(&mut self, slot: SlotRef, ran_ns: u64) {
        self.memory.number(self.at(slot) + offset_of!(RunqSlot, oncpu_ns)).fetch_add(ran_ns, Relaxed);
    }
}
