//! Replicas and size together: so that the two never fight.
//!
//! Problem: a horizontal loop that sees CPU ÷ size and a vertical loop that changes size feed each other: a smaller size
//! raises the share, which adds replicas, which lowers use per replica, which asks for a smaller size. Method: one of them
//! moves at a time, the horizontal one first because it is undone in seconds; and a size is only judged on rounds in which
//! the number of replicas stood still and was needed, so that the use it sees is that of the target and not of a surplus.
//! Costs of mixed answers (few large against many small ones) are for the fleet's optimiser; this is its seam.

use model::reason::Resource;

/// Difference from what is given that is worth saying, share: a change costs a restart or a re-placement (VPA's updater
/// uses 10 %; buckets are 5 % wide, so half as much again).
pub const BAND: f64 = 0.15;

/// What one replica should be given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SizeChange {
    /// Of what.
    pub resource: Resource,
    /// Given now: millicores or bytes.
    pub given: u64,
    /// Recommended.
    pub recommended: u64,
}

/// The changes of size that are worth saying while the replicas stand still and their history is long enough: `settled`.
#[must_use]
pub fn sizes(settled: bool, given: [(Resource, Option<u64>); 2], recommended: [u64; 2]) -> Vec<SizeChange> {
    if !settled {
        return Vec::new();
    }
    given
        .into_iter()
        .zip(recommended)
        .filter_map(|((resource, given), recommended)| {
            let given = given?;
            let differs = (recommended as f64 / given.max(1) as f64 - 1.0).abs() > BAND;
            differs.then_some(SizeChange { resource, given, recommended })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_said_only_when_all_is_settled_and_it_matters() {
        let given = [(Resource::Cpu, Some(1_000)), (Resource::Memory, None)];
        let said = sizes(true, given, [500, 1 << 30]);
        assert_eq!(said, vec![SizeChange { resource: Resource::Cpu, given: 1_000, recommended: 500 }]);
        assert_eq!(sizes(false, given, [500, 1 << 30]), vec![]);
        assert_eq!(sizes(true, given, [1_100, 1 << 30]), vec![]);
    }
}
