//! The fixed log-linear layout of every delay histogram: kernel, wire and autoscaler share it.
//!
//! Eight linear buckets of [`UNIT_NS`] cover 0 to 1.024 µs; above, each of [`OCTAVES`] octaves is cut into eight equal buckets, up to
//! 2³⁴ ns ≈ 17.2 s; longer delays are counted in the last bucket. So a bucket's midpoint is within 6.25 % of every delay from
//! 1.024 µs up to the limit, and within 64 ns below. A power-of-two unit makes the bucket two shifts and one addition.

/// Width of a linear bucket, ns. 128 ns is the finest step that still means something: reading the run-queue clock itself jitters by
/// tens of ns.
pub const UNIT_NS: u64 = 1 << UNIT_SHIFT;
/// Octaves above the linear part. 24 of them reach past the longest stall that a scheduler is blamed for.
pub const OCTAVES: usize = 24;
/// Number of buckets.
pub const BUCKETS: usize = SUB_BUCKETS * (OCTAVES + 1);
/// First delay that the layout cannot tell from a longer one, ns.
pub const LIMIT_NS: u64 = UNIT_NS << (SUB_SHIFT as usize + OCTAVES);

const UNIT_SHIFT: u32 = 7;
const SUB_SHIFT: u32 = 3;
const SUB_BUCKETS: usize = 1 << SUB_SHIFT;

/// The bucket of a delay in ns: `0..BUCKETS`.
///
/// Written for the BPF target, which has no instruction that counts leading zeros.
#[inline(always)]
pub const fn bucket_of(ns: u64) -> usize {
    let units = ns >> UNIT_SHIFT;
    if units >= LIMIT_NS >> UNIT_SHIFT {
        return BUCKETS - 1;
    }
    // The octave is how far `units` must be shifted right to leave 8..16, or 0..16 in octave 0. One variable and few instructions on the
    // way of a short delay: this is most of what a switch costs.
    let mut octave = 0;
    if units >= 1 << (SUB_SHIFT + 4) {
        if units >= 1 << (SUB_SHIFT + 16) {
            octave = 16;
        }
        if units >> octave >= 1 << (SUB_SHIFT + 8) {
            octave += 8;
        }
        if units >> octave >= 1 << (SUB_SHIFT + 4) {
            octave += 4;
        }
    }
    if units >> octave >= 1 << (SUB_SHIFT + 2) {
        octave += 2;
    }
    if units >> octave >= 1 << (SUB_SHIFT + 1) {
        octave += 1;
    }
    (octave << SUB_SHIFT) + (units >> octave) as usize
}

/// Lower (inclusive) and upper (exclusive) bound of a bucket, ns; the last bucket also holds everything above its upper bound.
///
/// `None` when `bucket` is not below [`BUCKETS`].
pub const fn bounds(bucket: usize) -> Option<(u64, u64)> {
    if bucket >= BUCKETS {
        return None;
    }
    if bucket < SUB_BUCKETS {
        let low = (bucket as u64) << UNIT_SHIFT;
        return Some((low, low + UNIT_NS));
    }
    let octave = bucket / SUB_BUCKETS - 1;
    let width = UNIT_NS << octave;
    let low = ((bucket % SUB_BUCKETS + SUB_BUCKETS) as u64) * width;
    Some((low, low + width))
}

/// The delay that stands for a bucket, ns: the middle of its bounds. `None` when `bucket` is not below [`BUCKETS`].
pub const fn midpoint(bucket: usize) -> Option<u64> {
    match bounds(bucket) {
        Some((low, high)) => Some(low + (high - low) / 2),
        None => None,
    }
}
