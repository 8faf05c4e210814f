//! The series of many tasks of a node, summed by group: one walk over the chunks, however many tasks there are.

use std::collections::BTreeMap;
use std::path::Path;

use model::id::{BootId, NodeId};

use super::file::HistoryError;
use super::walk::{Walk, Which};
use super::{Series, Tier};

/// A question about groups of tasks.
#[derive(Debug, Clone)]
pub struct SumQuery {
    /// Which node.
    pub node: NodeId,
    /// In which boot: numbers of cgroups belong to one.
    pub boot: BootId,
    /// The group of each cgroup; others are left out.
    pub groups: BTreeMap<u64, usize>,
    /// Which series.
    pub series: Series,
    /// At which resolution.
    pub tier: Tier,
    /// From, seconds of controller time; a multiple of the tier's.
    pub from: u64,
    /// Values.
    pub count: usize,
}

/// Sums by group.
#[derive(Debug, Clone, PartialEq)]
pub struct Sums {
    /// Of each group; 0 where none of its tasks was there, or known.
    pub groups: Vec<Vec<f32>>,
    /// Where something was known of any of them.
    pub known: Vec<bool>,
}

/// Most values of one answer, all groups together: 16 MB.
const MOST: usize = 4 << 20;

pub(super) fn query(path: &Path, query: &SumQuery) -> Result<Sums, HistoryError> {
    let groups = query.groups.values().max().map_or(0, |most| most + 1);
    let count = query.count.min(MOST / groups.max(1));
    let mut sums = Sums { groups: vec![vec![0.0; count]; groups], known: vec![false; count] };
    let (boot, to) = (query.boot.to_string(), query.from + count as u64 * query.tier.seconds());
    let (node, series, tier) = (query.node.as_str(), query.series, query.tier);
    let which = Which { node, boot: Some(&boot), series, tier, from: query.from, to };
    Walk::open(path)?.each(which, |cgroup, run| {
        let group = query.groups.get(&cgroup).and_then(|group| sums.groups.get_mut(*group));
        let Some(group) = group else { return };
        for (at, value) in run.placed() {
            let Some(sum) = group.get_mut(at) else { continue };
            *sum += value as f32;
            if let Some(known) = sums.known.get_mut(at) {
                *known = true;
            }
        }
    })?;
    Ok(sums)
}
