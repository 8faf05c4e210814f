//! One series of many tasks over at most two hours, compressed.
//!
//! Layout: version byte, then four `pco` streams with their lengths: cgroups, first slots, run lengths, values. A run
//! is a stretch without holes; a hole ends it, so that a missing value is never stored as a number.

use super::WINDOW;

/// A stretch of values of one task without holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) cgroup: u64,
    /// Slot of the first value, from the window's start, in steps of the tier.
    pub(super) first: u32,
    pub(super) values: Vec<u32>,
}

const VERSION: u8 = 1;
/// Most runs of one chunk, against damaged files.
const MOST_RUNS: usize = 4 << 20;

pub(super) fn encode(runs: &[Run]) -> Result<Vec<u8>, String> {
    let config = pco::ChunkConfig::default();
    let lengths: Vec<u32> =
        runs.iter().map(|run| u32::try_from(run.values.len()).unwrap_or(u32::MAX)).collect();
    let values: Vec<u32> = runs.iter().flat_map(|run| run.values.iter().copied()).collect();
    let cgroups: Vec<u64> = runs.iter().map(|run| run.cgroup).collect();
    let firsts: Vec<u32> = runs.iter().map(|run| run.first).collect();
    let failed = |error: pco::errors::PcoError| error.to_string();
    let streams = [
        pco::standalone::simple_compress(&cgroups, &config).map_err(failed)?,
        pco::standalone::simple_compress(&firsts, &config).map_err(failed)?,
        pco::standalone::simple_compress(&lengths, &config).map_err(failed)?,
        pco::standalone::simple_compress(&values, &config).map_err(failed)?,
    ];
    let mut blob = vec![VERSION];
    for stream in streams {
        let length = u32::try_from(stream.len()).map_err(|error| error.to_string())?;
        blob.extend_from_slice(&length.to_le_bytes());
        blob.extend_from_slice(&stream);
    }
    Ok(blob)
}

pub(super) fn decode(blob: &[u8]) -> Result<Vec<Run>, String> {
    let mut rest = blob;
    if rest.split_off_first() != Some(&VERSION) {
        return Err("another version of chunk".to_owned());
    }
    let mut stream = || {
        let length = rest.split_off(..4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        let length = length.and_then(|n| usize::try_from(n).ok()).ok_or("a chunk that ends early")?;
        rest.split_off(..length).ok_or("a chunk that ends early")
    };
    let (cgroups, firsts, lengths, values) = (stream()?, stream()?, stream()?, stream()?);
    let cgroups = numbers::<u64>(cgroups)?;
    let (firsts, lengths, values) =
        (numbers::<u32>(firsts)?, numbers::<u32>(lengths)?, numbers::<u32>(values)?);
    if cgroups.len() != firsts.len() || cgroups.len() != lengths.len() || cgroups.len() > MOST_RUNS {
        return Err("a chunk whose parts differ in length".to_owned());
    }
    let mut values = values.as_slice();
    let mut runs = Vec::with_capacity(cgroups.len());
    for ((cgroup, first), length) in cgroups.into_iter().zip(firsts).zip(lengths) {
        let of = values.split_off(..length as usize).ok_or("a chunk with too few values")?;
        if u64::from(first) + of.len() as u64 > WINDOW {
            return Err("a run that leaves its window".to_owned());
        }
        runs.push(Run { cgroup, first, values: of.to_vec() });
    }
    Ok(runs)
}

fn numbers<T: pco::data_types::Number>(stream: &[u8]) -> Result<Vec<T>, String> {
    pco::standalone::simple_decompress(stream).map_err(|error| error.to_string())
}

/// Lays slots of one task into runs; a later value of the same slot wins.
pub(super) fn runs_of(cgroup: u64, slots: &std::collections::BTreeMap<u32, u32>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (slot, value) in slots {
        match runs.last_mut() {
            Some(run) if run.first as usize + run.values.len() == *slot as usize => run.values.push(*value),
            _ => runs.push(Run { cgroup, first: *slot, values: vec![*value] }),
        }
    }
    runs
}

/// Reduces runs to a coarser step: the mean, or the largest, of each aligned group of `by` slots.
pub(super) fn coarser(runs: &[Run], by: u32, largest: bool) -> Vec<Run> {
    let mut coarse: Vec<Run> = Vec::new();
    let mut at = 0;
    while at < runs.len() {
        let cgroup = runs[at].cgroup;
        let end = at + runs[at..].iter().take_while(|run| run.cgroup == cgroup).count();
        let mut groups: std::collections::BTreeMap<u32, (u64, u64, u32)> = std::collections::BTreeMap::new();
        for run in &runs[at..end] {
            for (slot, value) in (run.first..).zip(&run.values) {
                let (sum, count, most) = groups.entry(slot / by).or_default();
                (*sum, *count, *most) = (*sum + u64::from(*value), *count + 1, (*most).max(*value));
            }
        }
        let slots = groups.into_iter().map(|(slot, (sum, count, most))| {
            let mean = u32::try_from((sum + count / 2) / count).unwrap_or(u32::MAX);
            (slot, if largest { most } else { mean })
        });
        coarse.extend(runs_of(cgroup, &slots.collect()));
        at = end;
    }
    coarse
}
