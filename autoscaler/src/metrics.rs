//! What the service says of itself and of the fleet, for `/metrics`. Names have the prefix `trimtab_`, base units, bounded
//! labels.
//!
//! | module | question |
//! |---|---|
//! | this one | what does the service count itself? |
//! | [`scrape`] | what is computed of nodes and workloads when somebody asks? |
//! | [`scraper`] | who asks, and what is it asked of? |
//! | [`remote_write`] | what is told of the samples that are sent? |
//! | [`text`] | how is it written? |

mod remote_write;
mod scrape;
mod scraper;
mod text;

pub use remote_write::{RemoteWriteCounts, Waiting};
pub use scrape::Stored;
pub use scraper::Scraper;
pub use text::Format;
#[cfg(test)]
pub(crate) use text::labels;

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// A bounded label: one of the codes that the program knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// The code.
    pub reason: &'static str,
}

/// Every metric; cheap to clone, each clone counts into the same.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Agents connected.
    pub agents: Gauge,
    /// Streams closed, by reason.
    pub streams_closed: Family<Reason, Counter>,
    /// Bytes of messages from agents.
    pub received_bytes: Counter,
    /// Batches of samples taken.
    pub batches: Counter,
    /// Samples of tasks taken.
    pub samples: Counter,
    /// Messages refused, by reason.
    pub refused: Family<Reason, Counter>,
    /// TLS handshakes that failed, by reason.
    pub handshakes_failed: Family<Reason, Counter>,
    /// Certificates given to nodes, by reason: `join` or `renew`.
    pub certificates: Family<Reason, Counter>,
    /// Requests for a certificate that were refused, by reason.
    pub certificates_refused: Family<Reason, Counter>,
    /// When this service's certificate expires, seconds since the Unix epoch; 0 without TLS, and then it is not shown.
    pub certificate_expiry: Gauge,
    /// Commands sent.
    pub commands: Counter,
    /// Commands that could not be sent, by reason.
    pub commands_unsent: Family<Reason, Counter>,
    /// Rounds.
    pub rounds: Counter,
    /// Time of a round, seconds.
    pub round_seconds: Histogram,
    /// Time to make a round durable, seconds.
    pub commit_seconds: Histogram,
    /// Bytes of the store.
    pub store_bytes: Gauge,
    /// 1 while nothing can be made durable and so nothing is done.
    pub frozen: Gauge,
    /// Digests that were dropped while frozen.
    pub digests_dropped: Counter,
    /// Values written to history.
    pub history_values: Counter,
    /// Bytes of them.
    pub history_bytes: Counter,
    /// Batches that history did not take.
    pub history_dropped: Counter,
    /// Writes of history that failed.
    pub history_failed: Counter,
    /// Requests to the REST interface, by status class.
    pub requests: Family<Reason, Counter>,
    /// Live streams.
    pub live_streams: Gauge,
    /// Events that a slow live stream missed.
    pub live_lagged: Counter,
    /// Samples that are sent to a receiver.
    pub remote_write: RemoteWriteCounts,
}

impl Metrics {
    /// When this service's certificate expires, seconds since the Unix epoch; `None` without TLS.
    #[must_use]
    pub fn certificate_expiry_s(&self) -> Option<u64> {
        u64::try_from(self.certificate_expiry.get()).ok().filter(|at| *at > 0)
    }

    /// Registers all of them.
    #[must_use]
    pub fn new() -> Self {
        let mut r = Registry::with_prefix("trimtab");
        let round_seconds = Histogram::new(exponential_buckets(0.000_1, 4.0, 9));
        let commit_seconds = Histogram::new(exponential_buckets(0.000_1, 4.0, 9));
        r.register_with_unit("round", "Time of a round", Unit::Seconds, round_seconds.clone());
        r.register_with_unit("commit", "Time to make a round durable", Unit::Seconds, commit_seconds.clone());
        macro_rules! add {
            ($name:literal, $help:literal) => {{
                let metric = Default::default();
                let shared: &_ = &metric;
                r.register($name, $help, Clone::clone(shared));
                metric
            }};
        }
        let mut metrics = Self {
            agents: add!("agents_connected", "Agents connected"),
            streams_closed: add!("streams_closed", "Streams of agents that were closed"),
            received_bytes: add!("received_bytes", "Bytes of messages from agents"),
            batches: add!("batches", "Batches of samples taken"),
            samples: add!("samples", "Samples of tasks taken"),
            refused: add!("messages_refused", "Messages of agents that were refused"),
            handshakes_failed: add!("tls_handshakes_failed", "TLS handshakes that failed"),
            certificates: add!("certificates_given", "Certificates given to nodes"),
            certificates_refused: add!(
                "certificates_refused",
                "Requests for a certificate that were refused"
            ),
            certificate_expiry: Gauge::default(),
            commands: add!("commands", "Commands sent to agents"),
            commands_unsent: add!("commands_unsent", "Commands that could not be sent"),
            rounds: add!("rounds", "Rounds of the control loop"),
            store_bytes: add!("store_bytes", "Bytes of the store on disk"),
            frozen: add!("frozen", "1 while nothing can be made durable, and so nothing is done"),
            digests_dropped: add!("digests_dropped", "Digests dropped while frozen"),
            history_values: add!("history_values", "Values written to history"),
            history_bytes: add!("history_written_bytes", "Bytes of compressed values written to history"),
            history_dropped: add!("history_batches_dropped", "Batches that history did not take"),
            history_failed: add!("history_writes_failed", "Writes of history that failed"),
            requests: add!("requests", "Requests to the REST interface by class of status"),
            live_streams: add!("live_streams", "Live streams"),
            live_lagged: add!("live_events_missed", "Events that slow live streams missed"),
            remote_write: RemoteWriteCounts::default(),
            round_seconds,
            commit_seconds,
            registry: Arc::default(),
        };
        metrics.registry = Arc::new(r);
        metrics
    }

    /// What the service counts itself, in OpenMetrics text.
    fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_the_prefix_and_counts_are_seen_by_all_clones() {
        let metrics = Metrics::new();
        let other = metrics.clone();
        other.samples.inc_by(3);
        drop(other);
        let text = metrics.render();
        assert!(text.contains("trimtab_samples_total 3"), "{text}");
        assert!(text.lines().all(|l| l.starts_with('#') || l.starts_with("trimtab_")), "{text}");
    }
}
