//! The values of many tasks at once, each chunk unpacked once.
//!
//! Whoever replays weeks of a workload needs the series of all its replicas, and they lie side by side in the chunks of their nodes: a
//! question for each would unpack each chunk as often as there are replicas in it. Bounds: [`MOST_CHUNKS`] for one question.

use std::collections::BTreeMap;
use std::path::Path;

use super::file::HistoryError;
use super::walk::{Walk, Which};
use super::{Series, Tier};

/// Chunks that one question may unpack: a month of thirty nodes at ten minutes, or six hours of a thousand at ten seconds.
pub const MOST_CHUNKS: u64 = 12_000;

/// Which tasks: of each node and boot the cgroups, each with the place of its values in the answer.
pub type Tasks = BTreeMap<(String, String), BTreeMap<u64, usize>>;

/// A question about tasks.
#[derive(Debug, Clone, Copy)]
pub struct Gather<'a> {
    /// Which.
    pub tasks: &'a Tasks,
    /// Which series.
    pub series: Series,
    /// At which resolution.
    pub tier: Tier,
    /// From, seconds of controller time; a multiple of the resolution.
    pub from: u64,
    /// Values of each.
    pub count: usize,
}

impl Gather<'_> {
    fn which<'a>(&self, (node, boot): &'a (String, String)) -> Which<'a> {
        let to = self.from + self.tier.seconds() * self.count as u64;
        Which { node, boot: Some(boot), series: self.series, tier: self.tier, from: self.from, to }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// More than may be unpacked for one question.
    #[error(
        "{chunks} parts of history would have to be read, at most {MOST_CHUNKS} are: ask about a shorter time or fewer workloads"
    )]
    TooMuch {
        /// How many there are.
        chunks: u64,
    },
    /// It cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
}

/// Puts the values of the tasks to their places: `into` has `count` values for each. What is not known stays as it is.
pub(super) fn gather(
    path: &Path,
    asked: &Gather<'_>,
    into: &mut [Vec<Option<f64>>],
) -> Result<(), GatherError> {
    let walk = Walk::open(path)?;
    let mut chunks = 0;
    for source in asked.tasks.keys() {
        chunks += walk.count(asked.which(source))?;
    }
    if chunks > MOST_CHUNKS {
        return Err(GatherError::TooMuch { chunks });
    }
    for (source, cgroups) in asked.tasks {
        walk.each(asked.which(source), |cgroup, run| {
            let Some(place) = cgroups.get(&cgroup).and_then(|place| into.get_mut(*place)) else { return };
            for (at, value) in run.placed() {
                if let Some(known) = place.get_mut(at) {
                    *known = Some(value);
                }
            }
        })?;
    }
    Ok(())
}
