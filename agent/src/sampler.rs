//! When a round is read: one thread, no async, aligned to the wall second plus a jitter of this node.
//!
//! The alignment makes rounds of different nodes comparable, the jitter keeps a fleet from sending all at once. Buffers
//! go back and forth between this thread and the node's loop, so a round allocates nothing once they have grown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent_core::qos::Observation;
use agent_core::qos::settings::SLOW_MS;
use tokio::sync::mpsc;

use crate::clock;
use crate::source::{Reading, Source, Watch};

/// Rounds that may wait for the node's loop; when it is slower than that, rounds are skipped and counted.
const WAITING: usize = 4;
/// Looks that may wait; when the node's loop is slower than that, the newest is dropped: the next one has its totals.
const GLANCES_WAITING: usize = 2;
/// Largest jitter, ms.
const JITTER_MS: u64 = 200;

/// The sampling thread's other end.
pub struct Rounds {
    receiver: mpsc::Receiver<Box<Reading>>,
    glances: mpsc::Receiver<Observation>,
    watch: std::sync::mpsc::Sender<Watch>,
    spare: std::sync::mpsc::SyncSender<Box<Reading>>,
    stop: Arc<AtomicBool>,
}

/// What the sampling thread hands over.
pub enum Sampled {
    /// A round of all cgroups.
    Round(Box<Reading>),
    /// A look at those that are watched.
    Glance(Observation),
}

impl Rounds {
    /// What is read next; `None` when sampling ended.
    pub async fn next(&mut self) -> Option<Sampled> {
        tokio::select! {
            biased;
            Some(glance) = self.glances.recv() => Some(Sampled::Glance(glance)),
            reading = self.receiver.recv() => reading.map(Sampled::Round),
        }
    }

    /// From now on these are looked at between rounds.
    pub fn watch(&self, watch: Watch) {
        // When the thread has ended, `next` says so.
        let _ = self.watch.send(watch);
    }

    /// Gives a round's buffers back.
    pub fn give_back(&self, reading: Box<Reading>) {
        // A full queue of spares means that there are enough: this one is dropped.
        let _ = self.spare.try_send(reading);
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Starts sampling every `interval_ms`. `seed` chooses this node's jitter.
///
/// # Errors
/// When no thread can be had.
pub fn start(mut source: Source, interval_ms: u64, seed: u64) -> std::io::Result<Rounds> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let (looked, glances) = mpsc::channel(GLANCES_WAITING);
    let (watch, watches) = std::sync::mpsc::channel();
    // One goes back and forth; what a busy moment needed besides is not kept.
    let (spare, spares) = std::sync::mpsc::sync_channel(1);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let jitter_ms = seed % JITTER_MS.min(interval_ms / 2).max(1);
    let work = move || {
        let mut between = Between { watch: Watch::default(), watches, looked, slow_ms: 0 };
        while !stopped.load(Ordering::Relaxed) {
            let mut reading: Box<Reading> = spares.try_recv().unwrap_or_default();
            match source.read(&mut reading) {
                Ok(()) => match sender.try_send(reading) {
                    Ok(()) => {}
                    Err(mpsc::error::TrySendError::Full(_)) => {
                        tracing::warn!(
                            "the node's loop is behind: a round is skipped (totals are not affected)"
                        );
                    }
                    Err(mpsc::error::TrySendError::Closed(_)) => return,
                },
                Err(error) => tracing::error!(%error, "a round could not be read"),
            }
            between.pass(&mut source, until_next(clock::wall_ms(), interval_ms, jitter_ms));
        }
    };
    std::thread::Builder::new().name("sampler".into()).spawn(work)?;
    Ok(Rounds { receiver, glances, watch, spare, stop })
}

/// The time between two rounds.
struct Between {
    watch: Watch,
    watches: std::sync::mpsc::Receiver<Watch>,
    looked: mpsc::Sender<Observation>,
    /// When the node as a whole was looked at, boot ms.
    slow_ms: u64,
}

impl Between {
    /// Looks at those that are watched, if any, until `wait` is over.
    fn pass(&mut self, source: &mut Source, wait: Duration) {
        let until_ns = clock::boot_ns() + u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        loop {
            let left = Duration::from_nanos(until_ns.saturating_sub(clock::boot_ns()));
            if left.is_zero() {
                return;
            }
            let every = Duration::from_millis(self.watch.every_ms());
            let pause = if self.watch.is_empty() { left } else { left.min(every) };
            match self.watches.recv_timeout(pause) {
                Ok(watch) => self.watch = watch,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                // The node's loop is over.
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(watch) = self.watches.try_recv() {
                self.watch = watch;
            }
            if self.watch.is_empty() {
                continue;
            }
            let now_ms = clock::boot_ms();
            let slow = now_ms.saturating_sub(self.slow_ms) >= SLOW_MS;
            if slow {
                self.slow_ms = now_ms;
            }
            let _ = self.looked.try_send(source.glance(&self.watch, slow));
        }
    }
}

/// Time to the next multiple of the interval plus jitter; at least 1 ms and at most one interval and the jitter.
fn until_next(wall_ms: u64, interval_ms: u64, jitter_ms: u64) -> Duration {
    let into = wall_ms.wrapping_sub(jitter_ms) % interval_ms;
    Duration::from_millis(interval_ms - into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_aligned_to_the_wall_second_plus_jitter() {
        assert_eq!(until_next(10_000, 1000, 150), Duration::from_millis(150));
        assert_eq!(until_next(10_150, 1000, 150), Duration::from_millis(1000));
        assert_eq!(until_next(10_999, 1000, 0), Duration::from_millis(1));
    }
}
