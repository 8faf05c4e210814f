//! When a round is read: one thread, no async, aligned to the wall second plus a jitter of this node.
//!
//! The alignment makes rounds of different nodes comparable, the jitter keeps a fleet from sending all at once. Buffers
//! go back and forth between this thread and the node's loop, so a round allocates nothing once they have grown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock;
use crate::source::{Reading, Source};

/// Rounds that may wait for the node's loop; when it is slower than that, rounds are skipped and counted.
const WAITING: usize = 4;
/// Largest jitter, ms.
const JITTER_MS: u64 = 200;

/// The sampling thread's other end.
pub struct Rounds {
    receiver: mpsc::Receiver<Box<Reading>>,
    spare: std::sync::mpsc::SyncSender<Box<Reading>>,
    stop: Arc<AtomicBool>,
}

impl Rounds {
    /// The next round; `None` when sampling ended.
    pub async fn next(&mut self) -> Option<Box<Reading>> {
        self.receiver.recv().await
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
    // One goes back and forth; what a busy moment needed besides is not kept.
    let (spare, spares) = std::sync::mpsc::sync_channel(1);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let jitter_ms = seed % JITTER_MS.min(interval_ms / 2).max(1);
    let work = move || {
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
            std::thread::sleep(until_next(clock::wall_ms(), interval_ms, jitter_ms));
        }
    };
    std::thread::Builder::new().name("sampler".into()).spawn(work)?;
    Ok(Rounds { receiver, spare, stop })
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
