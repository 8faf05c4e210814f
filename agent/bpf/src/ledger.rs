//! Folds the regions of all CPUs into totals per cgroup, and gives the slots of dead cgroups back.
//!
//! A scan reads every slot's sums, compares them with what it read last, and adds the difference to the cgroup's entry; so an entry
//! is cumulative although its slots come and go, and the sum over entries, closed entries and overflow is always the sum of all slots.
//!
//! A slot is given back in two steps, because the owning CPU takes no lock (see [`agent_abi::runq`]): *retired* at one scan, *freed* at the
//! next. The argument: a run of the program that saw the old id began before the slot was retired and takes less than a microsecond
//! with interrupts off, scans are much further apart, so at the second scan nobody can be adding any more; what such a run did add is
//! folded then, before the slot is zeroed. (A virtual CPU that is stopped inside the program for longer than a scan could add to a freed slot: the count
//! is then one switch, credited to the slot's next owner.) A cgroup counts as dead when it was missing from a
//! complete pass and its id no longer resolves; its slots are retired only once a whole scan passed without a change.

use crate::regions::{Regions, SlotRef, SlotSums};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Sums since the cgroup's first switch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunqTotals {
    /// Time on CPU, ns. Exact but for switches hidden from the tracepoint, see [`crate::Counters::guard_misses`].
    pub oncpu_ns: u64,
    /// Time waiting on a run queue, ns.
    pub delay_ns: u64,
    /// Number of waits.
    pub switches: u64,
}

impl RunqTotals {
    fn add(&mut self, new: SlotSums, old: SlotSums) {
        self.oncpu_ns += new.oncpu_ns.wrapping_sub(old.oncpu_ns);
        self.delay_ns += new.delay_ns.wrapping_sub(old.delay_ns);
        self.switches += new.switches.wrapping_sub(old.switches);
    }

    fn absorb(&mut self, other: Self) {
        self.oncpu_ns += other.oncpu_ns;
        self.delay_ns += other.delay_ns;
        self.switches += other.switches;
    }
}

#[derive(Debug, Default)]
struct Entry {
    /// `None` when no cgroup is listed here.
    id: Option<u64>,
    totals: RunqTotals,
    first_scan: u64,
    changed_scan: u64,
    live_pass: u64,
    retired: bool,
}

/// What the last scan saw in a slot.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    sums: SlotSums,
    /// Where its cgroup was listed then: right as long as that entry has the same id.
    entry: u32,
}

/// Hashes a cgroup id by one multiplication (by 2⁶⁴/φ, as [`agent_abi::runq::home_slot`]). Inode numbers come from the kernel: nobody
/// chooses them so that they collide.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, id: u64) {
        let product = u128::from(id) * 0x9e37_79b9_7f4a_7c15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Totals of every cgroup seen.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Each cgroup at one position for as long as it is listed; unlisted ones are free.
    entries: Vec<Entry>,
    positions: HashMap<u64, u32, BuildHasherDefault<IdHasher>>,
    free: Vec<u32>,
    /// By CPU and slot, the overflow slot last.
    seen: Vec<Seen>,
    retiring: Vec<(u64, SlotRef)>,
    doomed: Vec<u64>,
    closed: RunqTotals,
    overflow: RunqTotals,
    slots_used: usize,
    scan: u64,
    /// Scan at which the last complete pass began; 0 before the first.
    pass: u64,
}

impl Ledger {
    /// An empty ledger for regions of this shape.
    pub(crate) fn new(regions: &Regions) -> Self {
        Self {
            entries: Vec::new(),
            positions: HashMap::with_capacity_and_hasher(regions.slots(), BuildHasherDefault::default()),
            free: Vec::new(),
            seen: vec![Seen::default(); regions.cpus() * (regions.slots() + 1)],
            retiring: Vec::with_capacity(regions.slots()),
            doomed: Vec::with_capacity(regions.slots()),
            closed: RunqTotals::default(),
            overflow: RunqTotals::default(),
            slots_used: 0,
            scan: 0,
            pass: 0,
        }
    }

    /// A complete pass over all cgroups begins.
    pub(crate) fn pass_began(&mut self) {
        self.pass = self.scan;
    }

    /// The pass saw this cgroup alive.
    pub(crate) fn saw_alive(&mut self, cgroup_id: u64) {
        if let Some(position) = self.positions.get(&cgroup_id) {
            self.entries[*position as usize].live_pass = self.pass;
        }
    }

    /// Where a cgroup is, which becomes listed as first seen at this scan if it was not.
    fn position(&mut self, cgroup_id: u64) -> u32 {
        let scan = self.scan;
        *self.positions.entry(cgroup_id).or_insert_with(|| {
            let entry = Entry { id: Some(cgroup_id), first_scan: scan, ..Entry::default() };
            match self.free.pop() {
                Some(position) => {
                    self.entries[position as usize] = entry;
                    position
                }
                None => {
                    self.entries.push(entry);
                    (self.entries.len() - 1) as u32
                }
            }
        })
    }

    /// Reads all slots. `is_gone` is asked about the cgroups that the last pass did not see.
    pub(crate) fn scan(&mut self, regions: &mut Regions, is_gone: &mut dyn FnMut(u64) -> bool) {
        self.scan += 1;
        self.free_retired(regions);
        self.slots_used = 0;
        let per_cpu = regions.slots() + 1;
        for cpu in 0..regions.cpus() {
            for index in 0..regions.slots() {
                let slot = SlotRef { cpu, index: Some(index) };
                self.fold(regions.sums(slot), cpu * per_cpu + index);
            }
            let sums = regions.sums(SlotRef { cpu, index: None });
            let seen = &mut self.seen[cpu * per_cpu + regions.slots()].sums;
            self.overflow.add(sums, *seen);
            *seen = sums;
        }
        self.close_retired();
        self.retire_dead(regions, is_gone);
    }

    /// Totals of a cgroup, `None` before its first switch and after it was closed.
    pub(crate) fn totals(&self, cgroup_id: u64) -> Option<RunqTotals> {
        self.positions.get(&cgroup_id).map(|position| self.entries[*position as usize].totals)
    }

    /// Totals of a cgroup now: those of the last scan, and what its slots have gained since. It looks at one slot a CPU, a scan at
    /// all of them. `None` before its first switch.
    pub(crate) fn now(&self, regions: &Regions, cgroup_id: u64) -> Option<RunqTotals> {
        let per_cpu = regions.slots() + 1;
        let mut totals = self.totals(cgroup_id);
        for cpu in 0..regions.cpus() {
            let Some(slot) = regions.find(cpu, cgroup_id) else { continue };
            let Some(index) = slot.index else { continue };
            let sums = regions.sums(slot);
            // It may have changed hands since it was found.
            if sums.cgroup_id == cgroup_id {
                totals.get_or_insert_default().add(sums, self.seen[cpu * per_cpu + index].sums);
            }
        }
        totals
    }

    /// Every cgroup with its totals, or only those that the last scan saw changed.
    pub(crate) fn entries(&self, changed_only: bool) -> impl Iterator<Item = (u64, RunqTotals)> {
        let scan = self.scan;
        self.entries
            .iter()
            .filter(move |entry| !changed_only || entry.changed_scan == scan)
            .filter_map(|entry| Some((entry.id?, entry.totals)))
    }

    /// Totals of all cgroups that are no longer listed.
    pub(crate) fn closed(&self) -> RunqTotals {
        self.closed
    }

    /// What found no slot.
    pub(crate) fn overflow(&self) -> RunqTotals {
        self.overflow
    }

    /// Slots that the last scan found claimed or retired.
    pub(crate) fn slots_used(&self) -> usize {
        self.slots_used
    }

    /// Cgroups listed.
    pub(crate) fn len(&self) -> usize {
        self.positions.len()
    }

    fn fold(&mut self, sums: SlotSums, position: usize) {
        use agent_abi::runq::{FREE, RETIRED};
        self.slots_used += usize::from(sums.cgroup_id != FREE);
        if sums.cgroup_id == FREE || sums.cgroup_id == RETIRED || sums == self.seen[position].sums {
            return;
        }
        let guess = self.seen[position].entry;
        let is_right = self.entries.get(guess as usize).is_some_and(|e| e.id == Some(sums.cgroup_id));
        let at = if is_right { guess } else { self.position(sums.cgroup_id) };
        let (entry, seen) = (&mut self.entries[at as usize], &mut self.seen[position]);
        entry.totals.add(sums, seen.sums);
        entry.changed_scan = self.scan;
        // A dying task may claim a slot once more after its cgroup's slots were retired.
        entry.retired = false;
        *seen = Seen { sums, entry: at };
    }

    fn retire_dead(&mut self, regions: &mut Regions, is_gone: &mut dyn FnMut(u64) -> bool) {
        for entry in &self.entries {
            let Some(id) = entry.id else { continue };
            let quiet = entry.changed_scan < self.scan && !entry.retired;
            let missing = self.pass >= entry.first_scan && entry.live_pass < self.pass;
            if quiet && missing && is_gone(id) {
                self.doomed.push(id);
            }
        }
        while let Some(id) = self.doomed.pop() {
            for cpu in 0..regions.cpus() {
                if let Some(slot) = regions.find(cpu, id) {
                    regions.retire(slot);
                    self.retiring.push((id, slot));
                }
            }
            if let Some(position) = self.positions.get(&id) {
                let entry = &mut self.entries[*position as usize];
                entry.retired = true;
            }
        }
    }

    fn free_retired(&mut self, regions: &mut Regions) {
        let per_cpu = regions.slots() + 1;
        let scan = self.scan;
        for (id, slot) in self.retiring.drain(..) {
            let Some(index) = slot.index else { continue };
            let seen = &mut self.seen[slot.cpu * per_cpu + index];
            let last = SlotSums { cgroup_id: id, ..regions.sums(slot) };
            if let Some(position) = self.positions.get(&id)
                && last != seen.sums
            {
                let entry = &mut self.entries[*position as usize];
                entry.totals.add(last, seen.sums);
                entry.changed_scan = scan;
            }
            *seen = Seen::default();
            regions.free(slot);
        }
    }

    /// Drops the entries whose slots were all freed and that did not change any more.
    fn close_retired(&mut self) {
        let scan = self.scan;
        for (position, entry) in self.entries.iter_mut().enumerate() {
            let Some(id) = entry.id.filter(|_| entry.retired && entry.changed_scan != scan) else { continue };
            self.closed.absorb(entry.totals);
            self.positions.remove(&id);
            self.free.push(position as u32);
            *entry = Entry::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_abi::histogram::BUCKETS;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const CPUS: usize = 2;
    const BITS: u32 = 6;

    struct World {
        regions: Regions,
        ledger: Ledger,
        gone: BTreeSet<u64>,
    }

    impl World {
        fn new() -> Self {
            let regions = Regions::anonymous(CPUS, BITS);
            let ledger = Ledger::new(&regions);
            Self { regions, ledger, gone: BTreeSet::new() }
        }

        /// A round: a pass over those that live, and a scan.
        fn scan(&mut self) {
            self.ledger.pass_began();
            let listed: Vec<u64> = self.ledger.entries(false).map(|(id, _)| id).collect();
            for id in listed.into_iter().filter(|id| !self.gone.contains(id)) {
                self.ledger.saw_alive(id);
            }
            self.ledger.scan(&mut self.regions, &mut |id| self.gone.contains(&id));
        }

        fn remove(&mut self, id: u64) {
            self.gone.insert(id);
        }

        fn free_slots(&self) -> usize {
            let slots = (0..CPUS).flat_map(|cpu| {
                (0..self.regions.slots()).map(move |index| SlotRef { cpu, index: Some(index) })
            });
            slots.filter(|slot| self.regions.sums(*slot) == SlotSums::default()).count()
        }

        fn everything(&self) -> RunqTotals {
            let mut sum = self.ledger.closed();
            sum.absorb(self.ledger.overflow());
            for (_, totals) in self.ledger.entries(false) {
                sum.absorb(totals);
            }
            sum
        }
    }

    #[test]
    fn totals_between_two_scans_are_those_of_the_next_one() {
        let mut world = World::new();
        assert_eq!(world.ledger.now(&world.regions, 7), None);
        world.regions.count(0, 7, 100, 1_000);
        let before = world.ledger.now(&world.regions, 7);
        world.scan();
        assert_eq!((before, world.ledger.now(&world.regions, 7)), (world.ledger.totals(7), before));
        world.regions.count(1, 7, 3_000, 2_000);
        world.regions.count(0, 7, 10, 20);
        let now = world.ledger.now(&world.regions, 7).unwrap();
        assert_eq!((now.delay_ns, now.switches), (3_110, 3));
        world.scan();
        assert_eq!(world.ledger.totals(7), Some(now));
    }

    #[test]
    fn a_cgroup_is_the_sum_of_its_slots_on_all_cpus() {
        let mut world = World::new();
        world.regions.count(0, 7, 100, 1_000);
        world.regions.count(1, 7, 3_000, 2_000);
        world.scan();
        assert_eq!(
            world.ledger.totals(7),
            Some(RunqTotals { oncpu_ns: 3_000, delay_ns: 3_100, switches: 2 })
        );
        assert_eq!(world.ledger.entries(true).count(), 1);
        world.scan();
        assert_eq!(world.ledger.entries(true).count(), 0, "nothing changed between the scans");
        let mut histogram = [0; BUCKETS];
        for cpu in 0..CPUS {
            world.regions.add_histogram(world.regions.find(cpu, 7).unwrap(), &mut histogram);
        }
        assert_eq!(histogram.iter().sum::<u32>(), 2);
        assert_eq!((histogram[0], histogram[agent_abi::histogram::bucket_of(3_000)]), (1, 1));
    }

    #[test]
    fn a_removed_cgroup_gives_its_slots_back_and_keeps_its_totals() {
        let mut world = World::new();
        world.regions.count(0, 7, 100, 1_000);
        world.remove(7);
        world.scan();
        assert_eq!(world.ledger.entries(true).count(), 1, "its last figures are reported");
        world.scan();
        assert_eq!(world.free_slots(), 127, "retired, not yet free");
        world.scan();
        assert_eq!(world.free_slots(), 128);
        assert_eq!(world.ledger.len(), 0);
        assert_eq!(world.ledger.closed(), RunqTotals { oncpu_ns: 1_000, delay_ns: 100, switches: 1 });
    }

    #[test]
    fn a_switch_while_the_slot_is_being_given_back_is_not_lost() {
        let mut world = World::new();
        world.regions.count(0, 7, 100, 1_000);
        world.remove(7);
        world.scan();
        let slot = world.regions.find(0, 7).unwrap();
        world.scan();
        // A program run that had found the slot before it was retired adds to it.
        world.regions.add_late(slot, 5);
        // And a dying task switches once more: it claims a slot of its own.
        world.regions.count(0, 7, 20, 30);
        world.scan();
        assert_eq!(world.ledger.totals(7), Some(RunqTotals { oncpu_ns: 1_035, delay_ns: 120, switches: 2 }));
        for _ in 0..3 {
            world.scan();
        }
        assert_eq!((world.ledger.len(), world.free_slots()), (0, 128));
        assert_eq!(world.ledger.closed(), RunqTotals { oncpu_ns: 1_035, delay_ns: 120, switches: 2 });
    }

    #[test]
    fn a_cgroup_that_takes_the_place_of_another_has_nothing_of_it() {
        let mut world = World::new();
        world.regions.count(0, 7, 100, 1_000);
        world.regions.count(1, 9, 1, 1);
        world.remove(7);
        (0..3).for_each(|_| world.scan());
        assert_eq!(world.ledger.totals(7), None);
        world.regions.count(0, 8, 20, 30);
        world.regions.count(0, 7, 2, 3);
        world.scan();
        let totals = |id| world.ledger.totals(id);
        assert_eq!(totals(8), Some(RunqTotals { oncpu_ns: 30, delay_ns: 20, switches: 1 }));
        assert_eq!(
            totals(7),
            Some(RunqTotals { oncpu_ns: 3, delay_ns: 2, switches: 1 }),
            "the same id, anew"
        );
        assert_eq!(totals(9), Some(RunqTotals { oncpu_ns: 1, delay_ns: 1, switches: 1 }));
        assert_eq!((world.ledger.len(), world.ledger.entries(false).count()), (3, 3));
    }

    #[test]
    fn a_death_is_found_by_a_pass_and_a_question() {
        let mut world = World::new();
        world.regions.count(0, 7, 1, 1);
        world.regions.count(0, 8, 1, 1);
        world.scan();
        let mut asked = Vec::new();
        for _ in 0..4 {
            world.ledger.pass_began();
            world.ledger.saw_alive(8);
            world.ledger.scan(&mut world.regions, &mut |id| {
                asked.push(id);
                true
            });
        }
        assert_eq!(asked, [7], "only the missing one is asked about, once");
        assert_eq!((world.ledger.totals(7), world.ledger.len()), (None, 1));
    }

    #[test]
    fn a_cgroup_that_was_born_after_the_pass_is_not_asked_about() {
        let mut world = World::new();
        for round in 0..3 {
            world.ledger.pass_began();
            (7..7 + round).for_each(|id| world.ledger.saw_alive(id));
            world.regions.count(0, 7 + round, 1, 1);
            // At the second scan nothing changed: only that it is too young for this pass speaks for it.
            for _ in 0..2 {
                world.ledger.scan(&mut world.regions, &mut |id| panic!("{id} was not missing"));
            }
        }
    }

    proptest! {
        #[test]
        fn the_sum_over_everything_is_exact_under_churn(
            steps in prop::collection::vec((0..CPUS, 1..400_u64, 0..100_000_u64, 0..10_000_u64, 0..10_u8), 1..600),
        ) {
            let mut world = World::new();
            let mut expected = RunqTotals::default();
            for (cpu, id, delay_ns, oncpu_ns, then) in steps {
                world.regions.count(cpu, id, delay_ns, oncpu_ns);
                expected.absorb(RunqTotals { oncpu_ns, delay_ns, switches: 1 });
                match then {
                    0..=1 => world.scan(),
                    2..=5 => world.remove(id),
                    _ => {}
                }
            }
            world.scan();
            prop_assert_eq!(world.everything(), expected);
        }
    }
}
