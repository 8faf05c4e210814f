//! Sends the samples of `/metrics` to a receiver of Prometheus remote write (docs/decisions/0043).
//!
//! | module | question |
//! |---|---|
//! | this one | when is something taken, sent, sent again, or given up? |
//! | [`series`] | which samples are there? |
//! | [`message`] | how are they written? |
//! | [`queue`] | what waits while the receiver is away? |
//! | [`answer`] | what does an answer mean? |
//! | [`target`] | whom is believed, and what is shown? |
//! | [`client`] | how does a request get there? |
//!
//! It asks the control loop what a scrape asks it, and no more: what waits for the receiver never makes the loop wait. Only
//! one request is under way at a time, so samples of a series arrive in their order.

mod answer;
mod client;
mod message;
mod queue;
mod series;
mod target;

pub use target::{Target, TargetFault};

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;

use crate::clock;
use crate::metrics::{Format, RemoteWriteCounts, Scraper, Waiting};
use answer::Verdict;
use client::{Client, Fault};
use queue::{Chunk, Number, Queue};

/// Receivers refuse samples that are older than what they have. So when the wall clock is set back by less than this, ms,
/// nothing is taken until it is where it was. After a larger step the receiver must judge.
const WAITED_OUT_MS: u64 = 600_000;

/// Which receiver is in force; `None` = nothing is sent.
pub type Current = watch::Receiver<Option<Arc<Target>>>;

/// The component that sends.
#[derive(Debug)]
pub struct RemoteWrite {
    current: Current,
    scraper: Scraper,
    counts: RemoteWriteCounts,
    queue: Mutex<Queue>,
    /// Something was added to the queue.
    added: Notify,
}

impl RemoteWrite {
    /// Takes samples from `scraper` while `current` has a receiver.
    #[must_use]
    pub fn new(current: Current, scraper: Scraper, counts: RemoteWriteCounts) -> Self {
        Self { current, scraper, counts, queue: Mutex::default(), added: Notify::new() }
    }

    /// Sends until shutdown. What waits then is lost.
    ///
    /// # Errors
    /// Never: a failure is counted, logged and tried again.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) -> anyhow::Result<()> {
        tokio::select! {
            // An error means that the sender is gone, which is a shutdown, too.
            _ = shutdown.wait_for(|stop| *stop) => {}
            () = self.take() => {}
            () = self.send() => {}
        }
        Ok(())
    }

    /// Takes samples each interval.
    async fn take(&self) {
        let mut current = self.current.clone();
        let mut last_ms = 0;
        loop {
            let target = current.borrow_and_update().clone();
            let Some(target) = target else {
                self.locked().clear();
                self.counts.off();
                if current.changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            };
            let mut tick = tokio::time::interval(Duration::from_millis(target.settings.interval_ms));
            tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
            tracing::info!(url = %shown(&target), "samples are sent by remote write");
            loop {
                tokio::select! {
                    _ = tick.tick() => self.take_once(&target, &mut last_ms).await,
                    Ok(()) = current.changed() => break,
                }
            }
        }
    }

    async fn take_once(&self, target: &Target, last_ms: &mut u64) {
        let text = match self.scraper.scrape(Format::OpenMetrics).await {
            Ok(text) => text,
            Err(error) => return tracing::error!(%error, "nothing is sent of this moment"),
        };
        let all = series::read(&text, &target.settings.labels);
        let now = clock::wall_ms();
        if now <= *last_ms && *last_ms - now < WAITED_OUT_MS {
            self.counts.dropped("clock_set_back", all.len() as u64);
            return;
        }
        *last_ms = now;
        for chunk in message::chunks(all, now) {
            let dropped = self.locked().push(chunk, target.settings.max_bytes);
            self.counts.dropped("queue_full", dropped);
            // Thousands of samples take milliseconds, for which others need not wait.
            tokio::task::yield_now().await;
        }
        self.tell();
        self.added.notify_one();
    }

    /// Sends what waits, the oldest first.
    async fn send(&self) {
        let mut current = self.current.clone();
        loop {
            let target = current.borrow_and_update().clone();
            let Some(target) = target else {
                if current.changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            };
            let mut sending = Sending {
                of: self,
                url: shown(&target),
                client: Client::new(target),
                failures: 0,
                told: None,
            };
            loop {
                tokio::select! {
                    Ok(()) = current.changed() => break,
                    () = sending.next() => {}
                }
            }
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Queue> {
        // Whoever panicked with it left it whole: each of its steps is.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        let queue = self.locked();
        self.counts.waiting(Waiting { oldest_ms: queue.oldest_ms(), bytes: queue.bytes() });
    }
}

/// The sender of one receiver.
struct Sending<'a> {
    of: &'a RemoteWrite,
    url: String,
    client: Client,
    /// Attempts that failed in a row.
    failures: u32,
    /// What was logged last about a receiver that does not take samples; `None` while it takes them.
    told: Option<&'static str>,
}

impl Sending<'_> {
    /// Waits for something to send, and sends it once; waits again when that failed.
    async fn next(&mut self) {
        let next = self.of.locked().first();
        let Some((number, chunk)) = next else {
            self.client.rest();
            return self.of.added.notified().await;
        };
        if let Some(wait) = self.attempt(number, &chunk).await {
            self.client.rest();
            tokio::time::sleep(wait).await;
        }
    }

    /// How long to wait until the next attempt, after one that failed.
    async fn attempt(&mut self, number: Number, chunk: &Chunk) -> Option<Duration> {
        let (code, words, verdict) = match self.client.send(chunk.body.clone()).await {
            Ok(answer) => {
                let verdict = answer::verdict(answer.status, answer.retry_after, self.failures);
                (
                    answer::code(answer.status),
                    format!("it answered {}: {}", answer.status, answer.words),
                    verdict,
                )
            }
            Err(Fault { code, words }) => (code, words, Verdict::Again(answer::backoff(self.failures))),
        };
        let counts = &self.of.counts;
        let wait = match verdict {
            Verdict::Taken => {
                if self.told.take().is_some() {
                    tracing::info!(url = %self.url, "the receiver of remote write takes samples again");
                }
                self.failures = 0;
                // Dropped in between, it is counted already.
                if self.of.locked().done(number) {
                    counts.sent(chunk.samples, chunk.body.len() as u64);
                }
                None
            }
            Verdict::Again(wait) => {
                self.failures = self.failures.saturating_add(1);
                counts.failed(code);
                self.log(
                    code,
                    &words,
                    "samples cannot be sent; they wait, and the oldest go when too many do",
                );
                Some(wait)
            }
            Verdict::Refused => {
                self.failures = 0;
                counts.failed(code);
                if self.of.locked().done(number) {
                    counts.dropped("refused", chunk.samples);
                }
                self.log(code, &words, "the receiver of remote write refuses samples, which are dropped: see its log, its address and the secret");
                None
            }
        };
        self.of.tell();
        wait
    }

    /// Once for each kind of failure until samples are taken again.
    fn log(&mut self, code: &'static str, words: &str, what: &str) {
        if self.told != Some(code) {
            self.told = Some(code);
            tracing::warn!(url = %self.url, code, why = words, "{what}");
        }
    }
}

/// Its address, in which there is no secret: the configuration refuses one. A query may have one.
fn shown(target: &Target) -> String {
    let endpoint = &target.settings.endpoint;
    let scheme = if endpoint.tls { "https" } else { "http" };
    let path = endpoint.path.split('?').next().unwrap_or_default();
    format!("{scheme}://{}{path}", endpoint.authority)
}
