//! CPU work of a fixed amount: what a request costs, and what best-effort work has done, are counted in it, not in time.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Words of the table that is walked: 64 KiB, more than a first-level cache, so that it has to come back after somebody else had the core. (With 256 KiB
/// a request took between 0.9 and 1.9 times its time on a virtual machine, by its own clock and whatever ran beside it.)
const WORDS: usize = 8 * 1024;
/// Steps of one unit: a microsecond or two.
const STEPS: u32 = 100;

/// A worker's own table.
pub(super) struct Work {
    table: Vec<u64>,
    value: u64,
}

impl Work {
    pub(super) fn new() -> Self {
        Self { table: (0..WORDS as u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect(), value: 1 }
    }

    /// Does so many units: each step loads from where the one before said.
    pub(super) fn run(&mut self, units: u32) {
        for _ in 0..units * STEPS {
            let at = (self.value >> 40) as usize % WORDS;
            self.value = self.value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(self.table[at] | 1);
        }
        black_box(self.value);
    }
}

/// How many units take `wanted` when nothing disturbs: by the shortest of many trials, since others only make it longer.
pub(super) fn units_for(wanted: Duration) -> u32 {
    const TRIAL: u32 = 500;
    let mut work = Work::new();
    let trials = (0..60).map(|_| {
        let began = Instant::now();
        work.run(TRIAL);
        began.elapsed()
    });
    units(trials.min().unwrap_or(wanted), TRIAL, wanted)
}

fn units(trial: Duration, did: u32, wanted: Duration) -> u32 {
    ((wanted.as_secs_f64() * f64::from(did) / trial.as_secs_f64().max(1e-9)) as u32).max(1)
}

/// A stream through memory that no cache holds, MiB.
const STREAM_MIB: usize = 64;

/// A worker that does nothing but move memory.
pub(super) struct Stream {
    from: Vec<u64>,
    to: Vec<u64>,
    at: usize,
}

impl Stream {
    pub(super) fn new() -> Self {
        let words = STREAM_MIB * 1024 * 1024 / 8;
        Self { from: vec![1; words], to: vec![2; words], at: 0 }
    }

    /// Copies one MiB, the next one each time.
    pub(super) fn run(&mut self) {
        const MIB: usize = 1024 * 1024 / 8;
        let end = self.at + MIB;
        self.to[self.at..end].copy_from_slice(&self.from[self.at..end]);
        black_box(self.to[self.at]);
        self.at = if end >= self.from.len() { 0 } else { end };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_in_proportion_to_the_shortest_trial() {
        let ms = Duration::from_millis;
        assert_eq!(units(ms(2), 500, ms(1)), 250);
        assert_eq!(units(ms(2), 500, ms(4)), 1000);
        assert_eq!(units(ms(900), 1, ms(1)), 1, "never nothing");
        assert!(units_for(ms(1)) > 10, "a unit is far below a millisecond");
    }

    #[test]
    fn work_walks_the_whole_table_and_a_stream_all_of_its_memory() {
        let mut work = Work::new();
        let first = work.value;
        work.run(3);
        assert_ne!(work.value, first);
        let mut stream = Stream::new();
        (0..STREAM_MIB).for_each(|_| stream.run());
        assert_eq!((stream.at, stream.to.iter().all(|word| *word == 1)), (0, true));
    }
}
