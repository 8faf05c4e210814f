//! What the histogram of each task gained since it was looked at last.
//!
//! The kernel counts modulo 2³² and never forgets, so the counts of the last look are kept to be subtracted. Most tasks have a few
//! dozen buckets that are not 0: kept as bytes (gap to the bucket before, count, each as LEB128) a task takes some 200 bytes, and 800
//! as an array.

use std::collections::HashMap;

use agent_bpf::abi::histogram::BUCKETS;

/// Counts by bucket, modulo 2³².
pub(super) type Counts = [u32; BUCKETS];

/// The counts of each cgroup as of the last look.
#[derive(Debug, Default)]
pub(super) struct Histograms {
    before: HashMap<u64, Vec<u8>>,
    packed: Vec<u8>,
}

impl Histograms {
    /// (bucket, count) since the last look, ascending by bucket, without those that are 0. From now on `now` is the last look.
    pub(super) fn gained(&mut self, cgroup_id: u64, now: &Counts) -> Vec<(u16, u64)> {
        let mut gained = *now;
        let before = self.before.get(&cgroup_id).map_or(&[][..], Vec::as_slice);
        unpack(before, |bucket, count| gained[bucket] = now[bucket].wrapping_sub(count));
        let gains = gained.iter().enumerate().filter(|(_, count)| **count > 0);
        let gains: Vec<_> = gains.map(|(bucket, count)| (bucket as u16, u64::from(*count))).collect();
        if !gains.is_empty() {
            self.packed.clear();
            pack(now, &mut self.packed);
            let kept = self.before.entry(cgroup_id).or_default();
            kept.clear();
            // Exactly as much as is needed, for each of thousands.
            kept.reserve_exact(self.packed.len());
            kept.extend_from_slice(&self.packed);
        }
        gains
    }

    /// Forgets the cgroups that are not `live`.
    pub(super) fn retain(&mut self, live: impl Fn(u64) -> bool) {
        self.before.retain(|id, _| live(*id));
    }
}

fn pack(counts: &Counts, into: &mut Vec<u8>) {
    let mut last = 0;
    for (bucket, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        number((bucket - last) as u32, into);
        number(*count, into);
        last = bucket;
    }
}

/// LEB128: seven bits a byte, the lowest first; the highest bit says that more follow.
fn number(mut value: u32, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// Visits what [`pack`] wrote.
fn unpack(packed: &[u8], mut visit: impl FnMut(usize, u32)) {
    let mut bytes = packed.iter();
    let mut next = || {
        let (mut value, mut shift) = (0, 0);
        for byte in bytes.by_ref() {
            value |= u32::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    };
    let mut bucket = 0;
    while let (Some(gap), Some(count)) = (next(), next()) {
        bucket += gap as usize;
        visit(bucket, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(pairs: &[(usize, u32)]) -> Counts {
        let mut counts = [0; BUCKETS];
        pairs.iter().for_each(|(bucket, count)| counts[*bucket] = *count);
        counts
    }

    #[test]
    fn only_what_was_gained_is_told_and_a_counter_may_wrap() {
        let mut h = Histograms::default();
        assert_eq!(h.gained(7, &counts(&[(0, 5), (40, u32::MAX)])), [(0, 5), (40, u64::from(u32::MAX))]);
        assert_eq!(
            h.gained(7, &counts(&[(0, 5), (40, 2), (BUCKETS - 1, 1)])),
            [(40, 3), (BUCKETS as u16 - 1, 1)]
        );
        assert_eq!(h.gained(7, &counts(&[(0, 5), (40, 2), (BUCKETS - 1, 1)])), []);
        assert_eq!(h.gained(8, &counts(&[(1, 1)])), [(1, 1)], "of another cgroup");
        h.retain(|id| id == 8);
        assert_eq!(h.gained(7, &counts(&[(0, 6)])), [(0, 6)], "forgotten");
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(pairs in prop::collection::vec((0..BUCKETS, any::<u32>()), 0..60)) {
            let counts = counts(&pairs);
            let (mut packed, mut back) = (Vec::new(), [0; BUCKETS]);
            pack(&counts, &mut packed);
            unpack(&packed, |bucket, count| back[bucket] = count);
            prop_assert_eq!(back, counts);
        }
    }
}
