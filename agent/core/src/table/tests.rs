use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::raw::RawCgroup;

fn class(id: CgroupId) -> TaskClass {
    TaskClass::new("service", id.to_string())
}

fn raw(boot_ns: u64, cgroups: &[(u64, u64, u64)]) -> Raw {
    let cgroups = cgroups
        .iter()
        .map(|(id, parent, cpu_ns)| RawCgroup {
            id: CgroupId(*id),
            parent: CgroupId(*parent),
            cpu_ns: *cpu_ns,
            values: Values::default(),
        })
        .collect();
    Raw { boot_ns, cgroups, ..Raw::default() }
}

fn own(table: &Table, id: u64) -> u64 {
    table.own_cpu_ns(table.slot_of(CgroupId(id)).unwrap()).unwrap()
}

#[test]
fn what_a_dead_child_used_unseen_stays_with_its_parent() {
    let mut table = Table::default();
    table.observe(&raw(1, &[(10, 1, 500), (11, 10, 300)]), |id, _| class(id));
    assert_eq!((own(&table, 10), own(&table, 11)), (200, 300));
    // The child ran 50 more before it was removed; another came and went with 70.
    let round = table.observe(&raw(2, &[(10, 1, 620)]), |id, _| class(id));
    assert_eq!(round.gone.len(), 1);
    assert_eq!(own(&table, 10), 320, "200 of its own, 50 and 70 that nobody saw");
    assert_eq!(table.values(round.gone[0]).unwrap().get(Metric::CpuTime), Some(0), "300 ns are 0 µs");
}

#[test]
fn a_slot_is_free_again_only_after_its_end_was_reported() {
    let mut table = Table::default();
    table.observe(&raw(1, &[(10, 1, 5)]), |id, _| class(id));
    let slot = table.slot_of(CgroupId(10)).unwrap();
    let round = table.observe(&raw(2, &[(20, 1, 5)]), |id, _| class(id));
    assert_eq!(round.gone, [slot]);
    assert_ne!(table.slot_of(CgroupId(20)), Some(slot));
    table.observe(&raw(3, &[(20, 1, 5)]), |id, _| class(id));
    table.observe(&raw(4, &[(20, 1, 5), (30, 1, 5)]), |id, _| class(id));
    assert_eq!(table.slot_of(CgroupId(30)), Some(slot));
}

#[test]
fn the_root_is_counted_by_the_switch_ledger_and_is_absent_without_it() {
    let mut table = Table::default();
    table.observe(&raw(1, &[]), |id, _| class(id));
    assert_eq!(table.values(0).unwrap().get(Metric::CpuTime), None);
    let mut with = raw(2, &[]);
    with.root.set(Metric::OnCpu, 5_000);
    table.observe(&with, |id, _| class(id));
    assert_eq!(table.values(0).unwrap().get(Metric::CpuTime), Some(5));
}

#[test]
fn a_row_has_changed_when_a_value_did_and_the_root_loses_its_time_with_its_source() {
    let mut table = Table::default();
    let changed = |table: &Table| table.changed().map(|(_, info, _)| info.cgroup.0).collect::<Vec<_>>();
    let mut round = raw(1, &[(10, 1, 5_000), (11, 10, 2_000)]);
    round.root.set(Metric::OnCpu, 9_000);
    table.observe(&round, |id, _| class(id));
    assert_eq!(changed(&table), [1, 10, 11]);
    table.observe(&round, |id, _| class(id));
    assert_eq!(changed(&table), [0; 0]);
    // The child's time is its parent's too, but not the parent's own.
    round.cgroups[0].cpu_ns += 3_000;
    round.cgroups[1].cpu_ns += 3_000;
    table.observe(&round, |id, _| class(id));
    assert_eq!((changed(&table), own(&table, 10)), (vec![11], 3_000));
    round.cgroups[0].values.set(Metric::MemoryCurrent, 4096);
    round.root = Values::default();
    table.observe(&round, |id, _| class(id));
    assert_eq!(changed(&table), [1, 10]);
    assert_eq!(table.values(0).unwrap().get(Metric::CpuTime), None);
}

#[test]
fn memory_below_a_row_is_not_its_own() {
    let mut table = Table::default();
    let round = |charged: [Option<u64>; 3]| {
        let mut round = raw(1, &[(10, 1, 5), (11, 10, 3), (12, 11, 2)]);
        for (cgroup, bytes) in round.cgroups.iter_mut().zip(charged) {
            bytes.into_iter().for_each(|bytes| cgroup.values.set(Metric::MemoryCurrent, bytes));
        }
        round
    };
    let mut seen = |charged| {
        table.observe(&round(charged), |id, _| class(id));
        let bytes =
            |id| table.values(table.slot_of(CgroupId(id)).unwrap()).unwrap().get(Metric::MemoryCurrent);
        ([10, 11, 12].map(bytes), table.changed().map(|(_, info, _)| info.cgroup.0).collect::<Vec<_>>())
    };
    assert_eq!(
        seen([Some(900), Some(600), Some(500)]),
        ([Some(300), Some(100), Some(500)], vec![10, 11, 12])
    );
    assert_eq!(seen([Some(900), Some(600), Some(500)]).1, [0; 0]);
    // More below is more above, and nobody else's.
    assert_eq!(seen([Some(950), Some(650), Some(550)]), ([Some(300), Some(100), Some(550)], vec![12]));
    // A child that was read a moment later may have more than its parent had.
    assert_eq!(seen([Some(900), Some(600), Some(620)]).0, [Some(300), Some(0), Some(620)]);
    // What is not known of a child stays with its parent; what is not known of the parent is not made up.
    assert_eq!(seen([Some(900), None, Some(500)]).0, [Some(900), None, Some(500)]);
    assert_eq!(seen([None, Some(600), Some(500)]), ([None, Some(100), Some(500)], vec![10, 11]));
}

/// A tree of cgroups that live, work and die, and what the kernel would say of it.
#[derive(Default)]
struct Kernel {
    parent: BTreeMap<u64, u64>,
    total: BTreeMap<u64, u64>,
    next: u64,
}

impl Kernel {
    fn work(&mut self, id: u64, ns: u64) {
        let mut at = id;
        while at != 1 {
            *self.total.get_mut(&at).unwrap() += ns;
            at = self.parent[&at];
        }
    }
    fn preorder(&self, from: u64, out: &mut Vec<(u64, u64, u64)>) {
        for (id, _) in self.parent.iter().filter(|(_, p)| **p == from) {
            out.push((*id, from, self.total[id]));
            self.preorder(*id, out);
        }
    }
}

proptest! {
    /// Whatever lives and dies under one top cgroup, rows and finals together make up exactly its total.
    #[test]
    fn every_nanosecond_has_one_row(steps in prop::collection::vec((0u8..5, any::<u16>(), 1u64..1_000_000), 1..150)) {
        let mut kernel = Kernel { next: 10, ..Kernel::default() };
        kernel.parent.insert(2, 1);
        kernel.total.insert(2, 0);
        let mut table = Table::default();
        let (mut finals, mut now) = (0u64, 0);
        for (what, which, ns) in steps.into_iter().chain([(4, 0, 1)]) {
            let ids: Vec<u64> = kernel.parent.keys().copied().collect();
            let id = ids[usize::from(which) % ids.len()];
            match what {
                0 => {
                    kernel.next += 1;
                    kernel.parent.insert(kernel.next, id);
                    kernel.total.insert(kernel.next, 0);
                }
                1 | 2 => kernel.work(id, ns),
                3 if id != 2 && !kernel.parent.values().any(|p| *p == id) => {
                    kernel.parent.remove(&id);
                    kernel.total.remove(&id);
                }
                4 => {
                    now += 1;
                    let mut list = Vec::new();
                    kernel.preorder(1, &mut list);
                    let round = table.observe(&raw(now, &list), |id, _| class(id));
                    for slot in &round.gone { finals += table.own_cpu_ns(*slot).unwrap(); }
                    let live: u64 = table.live().filter_map(|(slot, _, _)| table.own_cpu_ns(slot)).sum();
                    prop_assert_eq!(live + finals, kernel.total[&2]);
                    prop_assert_eq!(table.len(), list.len() + 1);
                }
                _ => {}
            }
        }
    }
}
