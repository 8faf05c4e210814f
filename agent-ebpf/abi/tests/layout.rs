//! The layout's promises, for every delay that matters.
#![allow(missing_docs)]
use agent_abi::histogram::{BUCKETS, LIMIT_NS, UNIT_NS, bounds, bucket_of, midpoint};
use agent_abi::kernel::{
    Constant, FIELDS, constant_mark, field_immediate, field_mark, marked_constant, marked_field,
    marked_offset,
};
use agent_abi::runq::{self, home_slot, region_bytes, slot_bits_for};
use proptest::prelude::*;

#[test]
fn buckets_tile_the_range_without_gap_or_overlap() {
    let mut expected_low = 0;
    for bucket in 0..BUCKETS {
        let (low, high) = bounds(bucket).unwrap();
        assert_eq!(low, expected_low, "bucket {bucket} starts where the one before ends");
        assert_eq!(bucket_of(low), bucket);
        assert_eq!(bucket_of(high - 1), bucket);
        expected_low = high;
    }
    assert_eq!(expected_low, LIMIT_NS);
    assert_eq!(LIMIT_NS, 1 << 34);
    assert_eq!(bounds(BUCKETS), None);
    assert_eq!(midpoint(BUCKETS), None);
}

proptest! {
    #[test]
    fn a_delay_lies_in_its_bucket_and_near_its_midpoint(ns in prop_oneof![0..LIMIT_NS, 0..1_000_000_u64, 0..4_096_u64]) {
        let bucket = bucket_of(ns);
        let (low, high) = bounds(bucket).unwrap();
        prop_assert!(low <= ns && ns < high);
        let error = midpoint(bucket).unwrap().abs_diff(ns);
        if ns < 8 * UNIT_NS {
            prop_assert!(error <= UNIT_NS / 2);
        } else {
            prop_assert!(error as f64 <= 0.0625 * ns as f64, "{error} ns off at {ns} ns");
        }
    }

    #[test]
    fn the_longest_delays_share_the_last_bucket(ns in LIMIT_NS..=u64::MAX) {
        prop_assert_eq!(bucket_of(ns), BUCKETS - 1);
    }

    #[test]
    fn a_longer_delay_never_has_a_lower_bucket(a in 0..=u64::MAX, b in 0..=u64::MAX) {
        prop_assert!(bucket_of(a.min(b)) <= bucket_of(a.max(b)));
    }

    #[test]
    fn a_home_slot_is_inside_its_region(id in any::<u64>(), bits in runq::MIN_SLOT_BITS..=runq::MAX_SLOT_BITS) {
        prop_assert!(home_slot(id, u64::from(64 - bits)) < 1 << bits);
    }

    #[test]
    fn a_progression_of_inode_numbers_finds_room(start in 1..100_000_000_u64, step in 1..300_u64) {
        // Half full: 1,024 ids in 2,048 slots, placed as the kernel program places them.
        let mut taken = [false; 2048];
        let mut homeless = 0;
        for k in 0..1024 {
            let home = home_slot(start + k * step, 64 - 11);
            let free = (0..runq::WINDOW).map(|w| usize::try_from((home + w) & 2047).unwrap()).find(|slot| !taken[*slot]);
            match free {
                Some(slot) => taken[slot] = true,
                None => homeless += 1,
            }
        }
        prop_assert!(homeless <= 5, "{homeless} of 1,024 ids found no slot");
    }

    #[test]
    fn slots_fit_the_budget_or_are_the_fewest(expected in 0..100_000_usize, cpus in 1..512_usize, budget in 0..1_usize << 32) {
        let bits = slot_bits_for(expected, cpus, budget);
        prop_assert!((runq::MIN_SLOT_BITS..=runq::MAX_SLOT_BITS).contains(&bits));
        prop_assert!(bits == runq::MIN_SLOT_BITS || region_bytes(bits) * cpus <= budget);
    }
}

#[test]
fn a_thousand_cgroups_on_two_cpus_take_under_four_megabytes() {
    let bits = slot_bits_for(1_000, 2, 8 << 20);
    assert_eq!(bits, 11);
    assert!(2 * region_bytes(bits) < 4_000_000);
}

#[test]
fn every_mark_names_its_field_or_constant_and_nothing_else_is_one() {
    for field in FIELDS {
        assert_eq!(marked_field(field_mark(field)), Some(field));
        assert_eq!(marked_offset(field_immediate(field)), Some(field));
        assert_eq!(marked_constant(field_immediate(field)), None);
    }
    for offset in [0, 8, 0x7eff, i16::MIN, field_mark(FIELDS[FIELDS.len() - 1]) + 1] {
        assert_eq!(marked_field(offset), None);
    }
    for constant in [Constant::SlotShift, Constant::SlotMask, Constant::RecordGroups, Constant::WatchedPid] {
        assert_eq!(marked_constant(constant_mark(constant)), Some(constant));
    }
    assert_eq!(marked_constant(0), None);
    assert_eq!(marked_offset(0), None);
}
