//! What every task used over time: tiers of 1 s, 10 s, 1 min and 10 min in two-hour chunks, about a byte per value.
//!
//! Problem: 50,000 values a second for each of three series must cost little CPU and disk. Method: an idle task costs
//! nothing while it is idle ([`open`]: only changes are kept, and the instants at which its node was read); once a
//! minute the open minute is laid out series by series and compressed with `pco` ([`chunk`]); when a two-hour window
//! has closed its parts are merged into one chunk ([`file`]). Values are rounded (0.1 millicore, 4 KiB): exact totals
//! are in the store, not here. Bounds: retention per tier, and a size over all. Recovery: a crash loses the minutes
//! that were not written yet, [`crate::config::HistorySettings::flush_ms`] at most; a missing value is never zero.

mod chunk;
mod file;
mod gather;
mod open;
mod sums;
#[cfg(test)]
pub(crate) mod tests;
mod walk;

pub use file::{HistoryError, Points, Query};
pub use gather::{Gather, GatherError, MOST_CHUNKS, Tasks};
pub use sums::{SumQuery, Sums};

use std::path::{Path, PathBuf};
use std::time::Duration;

use autoscaler_core::event::Time;
use model::id::{BootId, CgroupId, NodeId};
use model::metric::Metric;
use model::sample::Values;
use tokio::sync::{mpsc, watch};

use crate::clock::ControllerClock;
use crate::config::HistorySettings;
use crate::metrics::Metrics;
use file::HistoryFile;
use open::Open;

/// A series of one task.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Series {
    /// CPU in cores, mean of the interval.
    Cpu = 0,
    /// Memory charged in bytes, mean of the interval.
    Memory = 1,
    /// Seconds of run-queue delay per second.
    RunDelay = 2,
    /// Largest CPU of a second in the interval, cores.
    CpuMax = 3,
    /// Largest memory in the interval, bytes.
    MemoryMax = 4,
}

impl Series {
    /// What one stored unit is worth: 0.1 millicore, one page, 10 µs.
    #[must_use]
    pub fn unit(self) -> f64 {
        match self {
            Series::Cpu | Series::CpuMax => 1e-4,
            Series::Memory | Series::MemoryMax => 4096.0,
            Series::RunDelay => 1e-5,
        }
    }
}

/// A resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Tier {
    /// One second.
    S1 = 0,
    /// Ten seconds.
    S10 = 1,
    /// One minute.
    M1 = 2,
    /// Ten minutes.
    M10 = 3,
}

impl Tier {
    /// All, finest first.
    pub const ALL: [Tier; 4] = [Tier::S1, Tier::S10, Tier::M1, Tier::M10];

    /// Seconds of one value.
    #[must_use]
    pub fn seconds(self) -> u64 {
        [1, 10, 60, 600][self as usize]
    }

    /// The series that it has: the finest needs no maxima.
    fn series(self) -> &'static [Series] {
        match self {
            Tier::S1 => &[Series::Cpu, Series::Memory, Series::RunDelay],
            _ => &[Series::Cpu, Series::Memory, Series::RunDelay, Series::CpuMax, Series::MemoryMax],
        }
    }
}

/// Seconds of one chunk.
pub const WINDOW: u64 = 7200;

/// One batch of one node, as history needs it.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Which node.
    pub node: NodeId,
    /// In which boot of it.
    pub boot: BootId,
    /// When the values were read, controller time.
    pub at: Time,
    /// Tasks that are not listed do not exist.
    pub snapshot: bool,
    /// From the spool: of the past.
    pub backlog: bool,
    /// Slots and tasks that appeared in this batch.
    pub appeared: Vec<(u32, CgroupId)>,
    /// Tasks whose values changed.
    pub changed: Vec<Reading>,
    /// Tasks that ended.
    pub gone: Vec<Reading>,
}

/// The totals of a task that history keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Its slot.
    pub slot: u32,
    /// Its cgroup.
    pub cgroup: CgroupId,
    /// CPU time, µs.
    pub cpu_us: Option<u64>,
    /// Run-queue delay, ns.
    pub delay_ns: Option<u64>,
    /// Memory charged, bytes.
    pub memory_bytes: Option<u64>,
}

impl Reading {
    /// Of a task's values.
    #[must_use]
    pub fn new(slot: u32, cgroup: CgroupId, values: &Values) -> Self {
        Self {
            slot,
            cgroup,
            cpu_us: values.get(Metric::CpuTime),
            delay_ns: values.get(Metric::RunDelay),
            memory_bytes: values.get(Metric::MemoryCurrent),
        }
    }
}

/// A minute's last batches have come so long after its end, ms: the longest distance of two sends but under backpressure.
const SETTLE_MS: u64 = 2_000;

/// Batches that are handed over at once, at most: a second of some thousand agents.
pub(crate) const AT_ONCE: usize = 4096;
/// Longest wait at the end for whoever may still hand something over.
const LAST: Duration = Duration::from_secs(1);
/// Hand-overs that may wait to be taken.
const QUEUE: usize = 4;

/// The component that writes history.
#[derive(Debug)]
pub struct History {
    settings: HistorySettings,
    clock: ControllerClock,
    file: HistoryFile,
    open: Open,
    batches: mpsc::Receiver<Vec<Observed>>,
    metrics: Metrics,
}

enum Next {
    Stop,
    Batches(Vec<Observed>),
    Flush,
}

/// Gives batches to history, and asks it.
#[derive(Debug, Clone)]
pub struct Handle {
    batches: mpsc::Sender<Vec<Observed>>,
    metrics: Metrics,
    path: PathBuf,
}

impl History {
    /// Opens or creates the history of a state directory.
    ///
    /// # Errors
    /// [`HistoryError`] when the file cannot be opened or was written by a later version.
    pub fn open(
        state: &Path,
        settings: HistorySettings,
        clock: ControllerClock,
        metrics: Metrics,
    ) -> Result<(Self, Handle), HistoryError> {
        let file = HistoryFile::open(state)?;
        let (sender, batches) = mpsc::channel(QUEUE);
        let handle = Handle { batches: sender, metrics: metrics.clone(), path: file.path().to_owned() };
        Ok((Self { settings, clock, file, open: Open::default(), batches, metrics }, handle))
    }

    /// Takes batches and writes them until shutdown, and what is open then.
    ///
    /// # Errors
    /// None at present: a write that fails is tried again and counted.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> anyhow::Result<()> {
        let mut flush = self.flushes();
        loop {
            let next = tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => Next::Stop,
                batches = self.batches.recv() => batches.map_or(Next::Stop, Next::Batches),
                _ = flush.tick() => Next::Flush,
            };
            match next {
                Next::Stop => break,
                Next::Batches(batches) => batches.iter().for_each(|batch| self.open.observe(batch)),
                Next::Flush => self = self.flush(false).await?,
            }
        }
        // The control loop ends at the same time; what it still hands over belongs in.
        let last = async {
            while let Some(batches) = self.batches.recv().await {
                batches.iter().for_each(|batch| self.open.observe(batch));
            }
        };
        let _ = tokio::time::timeout(LAST, last).await;
        self.flush(true).await?;
        Ok(())
    }

    /// When to write: a moment after a minute has closed, so that no other minute waits half done in memory.
    fn flushes(&self) -> tokio::time::Interval {
        let every = self.settings.flush_ms;
        let first = every - self.clock.now().0 % every + SETTLE_MS % every;
        let (first, every) = (Duration::from_millis(first), Duration::from_millis(every));
        let mut flush = tokio::time::interval_at(tokio::time::Instant::now() + first, every);
        flush.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        flush
    }

    /// Writes the closed minutes (or, at the end, all), off the async threads.
    async fn flush(mut self, all: bool) -> anyhow::Result<Self> {
        let now = self.clock.now();
        let written = tokio::task::spawn_blocking(move || {
            let result = self.write(now, all);
            (self, result)
        });
        let (history, result) = written.await?;
        match result {
            Ok(()) => {}
            Err(error) => {
                history.metrics.history_failed.inc();
                tracing::warn!(%error, "history could not be written; it is kept in memory and tried again");
            }
        }
        Ok(history)
    }

    fn write(&mut self, now: Time, all: bool) -> Result<(), HistoryError> {
        let second = now.0 / 1000;
        let until = if all { second + 1 } else { second / 60 * 60 };
        let parts = self.open.drain(until);
        match self.file.write(&parts) {
            Ok(written) => {
                self.metrics.history_values.inc_by(written.values);
                self.metrics.history_bytes.inc_by(written.bytes);
            }
            Err(error) => {
                self.open.give_back(parts);
                return Err(error);
            }
        }
        self.file.compact(second)?;
        self.file.retain(&self.settings, second)
    }
}

impl Handle {
    /// Gives batches. When history is behind they are dropped and counted: resolution is lost, no totals.
    pub fn observe(&self, batches: Vec<Observed>) {
        let count = batches.len() as u64;
        if count > 0 && self.batches.try_send(batches).is_err() {
            self.metrics.history_dropped.inc_by(count);
        }
    }

    /// Answers a question from what was written: the last minutes may be missing.
    ///
    /// # Errors
    /// [`HistoryError`] when the file cannot be read.
    pub fn query(&self, query: &Query) -> Result<Points, HistoryError> {
        file::query(&self.path, query)
    }

    /// Answers a question about groups of tasks, likewise.
    ///
    /// # Errors
    /// [`HistoryError`] when the file cannot be read.
    pub fn sums(&self, query: &SumQuery) -> Result<Sums, HistoryError> {
        sums::query(&self.path, query)
    }

    /// Puts the values of many tasks to their places in `into`, which has as many values as are asked for each; what is not known stays as
    /// it is. From what was written: the last minutes may be missing.
    ///
    /// # Errors
    /// [`GatherError`] when the file cannot be read, or would have to be read too far.
    pub fn gather(&self, asked: &Gather<'_>, into: &mut [Vec<Option<f64>>]) -> Result<(), GatherError> {
        gather::gather(&self.path, asked, into)
    }
}
