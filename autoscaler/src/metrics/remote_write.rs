//! What is told of samples that are sent to a receiver; nothing while none is sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::text::{Kind, Text, labels};

/// Why samples are dropped, all of them, so that each is told from the start.
const DROPPED: [&str; 3] = ["clock_set_back", "queue_full", "refused"];
/// Why requests fail.
const FAILED: [&str; 8] =
    ["network", "secret", "status_3xx", "status_429", "status_4xx", "status_5xx", "timeout", "tls"];

/// What waits to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// When the oldest of it was taken, ms since the Unix epoch; `None` when nothing waits.
    pub oldest_ms: Option<u64>,
    /// Bytes of it.
    pub bytes: u64,
}

/// Counts; cheap to clone, each clone counts into the same.
#[derive(Debug, Clone, Default)]
pub struct RemoteWriteCounts(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    samples: u64,
    bytes: u64,
    dropped: BTreeMap<&'static str, u64>,
    failed: BTreeMap<&'static str, u64>,
    /// `None` while there is no receiver: then nothing is told.
    waiting: Option<Waiting>,
}

impl RemoteWriteCounts {
    /// A receiver took samples.
    pub fn sent(&self, samples: u64, bytes: u64) {
        self.with(|counts| {
            counts.samples += samples;
            counts.bytes += bytes;
        });
    }

    /// Samples were dropped.
    pub fn dropped(&self, reason: &'static str, samples: u64) {
        self.with(|counts| *counts.dropped.entry(reason).or_default() += samples);
    }

    /// A request failed.
    pub fn failed(&self, reason: &'static str) {
        self.with(|counts| *counts.failed.entry(reason).or_default() += 1);
    }

    /// So much waits.
    pub fn waiting(&self, waiting: Waiting) {
        self.with(|counts| counts.waiting = Some(waiting));
    }

    /// There is no receiver.
    pub fn off(&self) {
        self.with(|counts| counts.waiting = None);
    }

    fn with(&self, change: impl FnOnce(&mut Counts)) {
        // Counts are whole after each step.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Adds them to what is told; `now_ms` is the wall clock.
    pub(super) fn tell(&self, text: &mut Text, now_ms: u64) {
        self.with(|counts| {
            let Some(waiting) = counts.waiting else { return };
            let one = |value: f64| vec![(String::new(), value)];
            let by = |all: &[&'static str], counted: &BTreeMap<&'static str, u64>| {
                let count = |reason: &&'static str| counted.get(reason).copied().unwrap_or(0);
                all.iter().map(|reason| (labels(&[("reason", reason)]), count(reason) as f64)).collect()
            };
            let behind = waiting.oldest_ms.map_or(0, |oldest| now_ms.saturating_sub(oldest));
            text.family(
                "remote_write_samples",
                Kind::Counter,
                "Samples that the receiver took",
                one(counts.samples as f64),
            );
            text.family(
                "remote_write_sent_bytes",
                Kind::Counter,
                "Bytes of them, compressed",
                one(counts.bytes as f64),
            );
            text.family(
                "remote_write_samples_dropped",
                Kind::Counter,
                "Samples that were never taken by the receiver",
                by(&DROPPED, &counts.dropped),
            );
            text.family(
                "remote_write_requests_failed",
                Kind::Counter,
                "Requests to the receiver that failed",
                by(&FAILED, &counts.failed),
            );
            text.family(
                "remote_write_waiting_bytes",
                Kind::Gauge,
                "Bytes that wait to be sent",
                one(waiting.bytes as f64),
            );
            text.family(
                "remote_write_behind_seconds",
                Kind::Gauge,
                "Age of the oldest sample that waits to be sent, 0 when none does",
                one(behind as f64 / 1e3),
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Format, Metrics};
    use super::*;

    #[test]
    fn nothing_is_told_unless_samples_are_sent() {
        let metrics = Metrics::new();
        let said = || metrics.scrape(Format::OpenMetrics, None, None);
        assert!(!said().contains("remote_write"));
        let counts = metrics.remote_write.clone();
        counts.waiting(Waiting::default());
        let text = said();
        assert!(text.contains("trimtab_remote_write_samples_total 0\n"), "{text}");
        assert!(text.contains("trimtab_remote_write_behind_seconds 0\n"), "{text}");
        assert!(
            text.contains("trimtab_remote_write_samples_dropped_total{reason=\"queue_full\"} 0\n"),
            "{text}"
        );
        counts.sent(7, 100);
        counts.dropped("refused", 3);
        counts.failed("tls");
        counts.waiting(Waiting { oldest_ms: Some(crate::clock::wall_ms() - 90_000), bytes: 55 });
        let text = said();
        for line in [
            "trimtab_remote_write_samples_total 7",
            "trimtab_remote_write_sent_bytes_total 100",
            "trimtab_remote_write_samples_dropped_total{reason=\"refused\"} 3",
            "trimtab_remote_write_requests_failed_total{reason=\"tls\"} 1",
            "trimtab_remote_write_waiting_bytes 55",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}: {text}");
        }
        let behind = text.lines().find_map(|line| line.strip_prefix("trimtab_remote_write_behind_seconds "));
        assert!((90.0..110.0).contains(&behind.unwrap().parse::<f64>().unwrap()), "{text}");
        counts.off();
        assert!(!said().contains("remote_write"));
    }
}
