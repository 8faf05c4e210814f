//! One series of many tasks over at most two hours, compressed.
//!
//! Layout: version byte, then four streams with their lengths: cgroups, first slots, run lengths, values. A run is a
//! stretch without holes; a hole ends it, so that a missing value is never stored as a number. A stream is `pco`, or,
//! when it is short, steps as varints: `pco` takes 20 µs for a list however short it is, and most lists are short.

use super::WINDOW;

/// A stretch of values of one task without holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) cgroup: u64,
    /// Slot of the first value, from the window's start, in steps of the tier.
    pub(super) first: u32,
    pub(super) values: Vec<u32>,
}

/// How well to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// A minute, that is merged into its window within hours.
    Part,
    /// A window, that stays.
    Window,
}

/// All streams are `pco`.
const ALL_PCO: u8 = 1;
/// Each stream begins with a byte that says how it is packed.
const VERSION: u8 = 2;
const PCO: u8 = 0;
const STEPS: u8 = 1;
/// Shorter lists are packed as steps.
const SHORT: usize = 256;
/// Most runs of one chunk, against damaged files.
const MOST_RUNS: usize = 4 << 20;

/// Packs runs.
pub(super) fn encode(runs: &[Run], effort: Effort) -> Result<Vec<u8>, String> {
    let default = pco::ChunkConfig::default();
    let config = match effort {
        Effort::Window => default,
        // Without the search for the best form, which takes most of the time.
        Effort::Part => default
            .with_compression_level(4)
            .with_mode_spec(pco::ModeSpec::Classic)
            .with_delta_spec(pco::DeltaSpec::TryConsecutive(1)),
    };
    let lengths: Vec<u32> =
        runs.iter().map(|run| u32::try_from(run.values.len()).unwrap_or(u32::MAX)).collect();
    let values: Vec<u32> = runs.iter().flat_map(|run| run.values.iter().copied()).collect();
    let cgroups: Vec<u64> = runs.iter().map(|run| run.cgroup).collect();
    let firsts: Vec<u32> = runs.iter().map(|run| run.first).collect();
    let mut blob = vec![VERSION];
    for stream in
        [pack(&cgroups, &config)?, pack(&firsts, &config)?, pack(&lengths, &config)?, pack(&values, &config)?]
    {
        let length = u32::try_from(stream.len()).map_err(|error| error.to_string())?;
        blob.extend_from_slice(&length.to_le_bytes());
        blob.extend_from_slice(&stream);
    }
    Ok(blob)
}

fn pack<T: Packed>(numbers: &[T], config: &pco::ChunkConfig) -> Result<Vec<u8>, String> {
    if numbers.len() >= SHORT {
        let packed = pco::standalone::simple_compress(numbers, config).map_err(|error| error.to_string())?;
        return Ok([&[PCO][..], &packed].concat());
    }
    let mut stream = Vec::with_capacity(1 + 2 * numbers.len());
    stream.push(STEPS);
    let mut last = 0u64;
    for number in numbers {
        let number = (*number).into();
        let step = number.wrapping_sub(std::mem::replace(&mut last, number)) as i64;
        let mut zigzag = ((step << 1) ^ (step >> 63)) as u64;
        while zigzag >= 0x80 {
            stream.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        stream.push(zigzag as u8);
    }
    Ok(stream)
}

fn unpack<T: Packed>(stream: &[u8]) -> Result<Vec<T>, String> {
    match stream.split_first() {
        Some((&PCO, packed)) => numbers(packed),
        Some((&STEPS, steps)) => from_steps(steps),
        _ => Err("a list in another form".to_owned()),
    }
}

fn from_steps<T: Packed>(steps: &[u8]) -> Result<Vec<T>, String> {
    let mut numbers = Vec::new();
    let (mut last, mut zigzag, mut shift) = (0u64, 0u64, 0);
    for byte in steps {
        if shift > 63 {
            return Err("a number that is too long".to_owned());
        }
        zigzag |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if *byte < 0x80 {
            last = last.wrapping_add((zigzag >> 1) ^ (zigzag & 1).wrapping_neg());
            numbers.push(T::try_from(last).map_err(|_| "a number that is too large")?);
            (zigzag, shift) = (0, 0);
        }
    }
    if shift == 0 { Ok(numbers) } else { Err("a list that ends early".to_owned()) }
}

/// A number of a list.
trait Packed: pco::data_types::Number + Copy + Into<u64> + TryFrom<u64> {}
impl Packed for u32 {}
impl Packed for u64 {}

/// Unpacks runs.
pub(super) fn decode(blob: &[u8]) -> Result<Vec<Run>, String> {
    let mut rest = blob;
    let version = rest.split_off_first();
    let mut stream = || {
        let length = rest.split_off(..4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        let length = length.and_then(|n| usize::try_from(n).ok()).ok_or("a chunk that ends early")?;
        rest.split_off(..length).ok_or("a chunk that ends early")
    };
    let (cgroups, firsts, lengths, values) = (stream()?, stream()?, stream()?, stream()?);
    let (cgroups, firsts, lengths, values) = match version {
        Some(&VERSION) => {
            (unpack::<u64>(cgroups)?, unpack::<u32>(firsts)?, unpack::<u32>(lengths)?, unpack::<u32>(values)?)
        }
        Some(&ALL_PCO) => (numbers(cgroups)?, numbers(firsts)?, numbers(lengths)?, numbers(values)?),
        _ => return Err("another version of chunk".to_owned()),
    };
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

/// Joins the runs of parts: by cgroup, then time, as few as there are stretches. Of values of the same slot that of the
/// later part counts.
pub(super) fn join(mut runs: Vec<Run>) -> Vec<Run> {
    runs.sort_by_key(|run| (run.cgroup, run.first));
    let mut joined: Vec<Run> = Vec::new();
    let mut at = 0;
    while at < runs.len() {
        let cgroup = runs[at].cgroup;
        let end = at + runs[at..].iter().take_while(|run| run.cgroup == cgroup).count();
        let overlap = |pair: &[Run]| pair[0].first as usize + pair[0].values.len() > pair[1].first as usize;
        if runs[at..end].windows(2).any(overlap) {
            let slots = runs[at..end].iter().flat_map(|run| (run.first..).zip(run.values.iter().copied()));
            joined.extend(runs_of(cgroup, &slots.collect()));
        } else {
            for run in &mut runs[at..end] {
                match joined.last_mut() {
                    Some(last)
                        if last.cgroup == cgroup
                            && last.first as usize + last.values.len() == run.first as usize =>
                    {
                        last.values.append(&mut run.values);
                    }
                    _ => {
                        joined.push(Run {
                            cgroup,
                            first: run.first,
                            values: std::mem::take(&mut run.values),
                        });
                    }
                }
            }
        }
        at = end;
    }
    joined
}

/// Lays slots of one task into runs; a later value of the same slot wins.
fn runs_of(cgroup: u64, slots: &std::collections::BTreeMap<u32, u32>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (slot, value) in slots {
        match runs.last_mut() {
            Some(run) if run.first as usize + run.values.len() == *slot as usize => run.values.push(*value),
            _ => runs.push(Run { cgroup, first: *slot, values: vec![*value] }),
        }
    }
    runs
}

/// Reduces runs to a coarser step: the mean, or the largest, of each aligned group of `by` slots. The runs of a cgroup lie
/// together and ascend.
pub(super) fn coarser(runs: &[Run], by: u32, largest: bool) -> Vec<Run> {
    let mut coarse: Vec<Run> = Vec::new();
    let mut group: Option<Group> = None;
    for run in runs {
        for (slot, value) in (run.first..).zip(&run.values) {
            let here = (run.cgroup, slot / by);
            match &mut group {
                Some(group) if (group.cgroup, group.slot) == here => group.add(*value),
                other => {
                    if let Some(before) = other.replace(Group::new(here, *value)) {
                        before.end(largest, &mut coarse);
                    }
                }
            }
        }
    }
    if let Some(last) = group {
        last.end(largest, &mut coarse);
    }
    coarse
}

/// The values of one task in a coarser slot.
struct Group {
    cgroup: u64,
    slot: u32,
    sum: u64,
    count: u64,
    most: u32,
}

impl Group {
    fn new((cgroup, slot): (u64, u32), value: u32) -> Self {
        Self { cgroup, slot, sum: value.into(), count: 1, most: value }
    }

    fn add(&mut self, value: u32) {
        self.sum += u64::from(value);
        self.count += 1;
        self.most = self.most.max(value);
    }

    fn end(self, largest: bool, into: &mut Vec<Run>) {
        let mean = u32::try_from((self.sum + self.count / 2) / self.count).unwrap_or(u32::MAX);
        let value = if largest { self.most } else { mean };
        match into.last_mut() {
            Some(run)
                if run.cgroup == self.cgroup
                    && run.first as usize + run.values.len() == self.slot as usize =>
            {
                run.values.push(value);
            }
            _ => into.push(Run { cgroup: self.cgroup, first: self.slot, values: vec![value] }),
        }
    }
}
