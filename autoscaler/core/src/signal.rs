//! What a workload carries now, from one digest after another.
//!
//! Problem: a balancer's report is a snapshot of a few requests; acting on one is acting on noise, and a report that is
//! repeated must not count twice. Method: each number is smoothed with one time constant, weighted by the time between
//! reports, and keeps the age of what it came from. Service time follows from Little's law (busy threads ÷ requests per
//! second): it needs nothing from the application. CPU is corrected for throttling: use under a quota is only a lower
//! bound of demand, so the throttled share is added back. Bounds: no history beyond the smoothed values.

use model::adapter::{BalancerReport, ServerState};

use crate::event::{Digest, Time};

/// Service time before any was measured, ms: a common Rails action.
const FIRST_SERVICE_MS: f64 = 50.0;
/// A backlog should be gone within this time, ms: half of the ten seconds after which people give up (Nielsen 1993).
const CLEAR_MS: f64 = 5_000.0;
/// Time constant of the service time, ms: long enough for tens of looks at busy threads, short beside a deployment.
const SERVICE_SMOOTH_MS: f64 = 15_000.0;
/// Bounds of a believable service time, ms.
const SERVICE_MS: (f64, f64) = (0.1, 60_000.0);
/// A report that comes after a longer silence starts the smoothing anew, in time constants.
const SILENCE: f64 = 10.0;

/// A smoothed number.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Smooth(Option<f64>);

impl Smooth {
    fn take(&mut self, value: f64, weight: f64) {
        self.0 = Some(match self.0 {
            Some(old) => old + (value - old) * weight.clamp(0.0, 1.0),
            None => value,
        });
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Mark {
    at: Time,
    requests: u64,
    started_ms: u64,
}

/// Load of one workload.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Load {
    mark: Option<Mark>,
    rate: Smooth,
    busy: Smooth,
    /// Requests per second and busy threads over [`SERVICE_SMOOTH_MS`]: their ratio is the service time.
    slow: (Smooth, Smooth),
    delay: Smooth,
    /// Requests behind `delay` within the time constant, fading.
    delay_count: f64,
    cpu: Smooth,
    cpu_at: Option<Time>,
    /// Requests queued at the balancer in the newest report.
    pub queued: u64,
    /// Threads of the servers that are up.
    pub threads: u64,
    /// Memory of all replicas, bytes.
    pub memory_bytes: Option<u64>,
}

impl Load {
    /// Takes a digest. True when the balancer's report was a new one.
    pub fn observe(&mut self, digest: &Digest, smooth_ms: u64, now: Time) -> bool {
        self.replicas(digest, smooth_ms, now);
        let Some(balancer) = &digest.balancer else { return false };
        let at = Time(now.0.saturating_sub(balancer.age_ms));
        self.report(&balancer.report, at, smooth_ms)
    }

    /// Requests per second.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        self.rate.0
    }

    /// Mean busy threads.
    #[must_use]
    pub fn busy(&self) -> Option<f64> {
        self.busy.0
    }

    /// Queue delay, 95th percentile, ms; `None` when no request was measured lately.
    #[must_use]
    pub fn delay_p95_ms(&self) -> Option<f64> {
        // Under a tenth of a request in the window the number is a memory.
        self.delay.0.filter(|_| self.delay_count > 0.1)
    }

    /// CPU demand of all replicas, cores.
    #[must_use]
    pub fn cpu_cores(&self) -> Option<f64> {
        self.cpu.0
    }

    /// Mean service time of a request, ms.
    #[must_use]
    pub fn service_ms(&self) -> f64 {
        match (self.slow.1.0, self.slow.0.0) {
            (Some(busy), Some(rate)) if rate > 0.1 && busy > 0.0 => {
                (busy / rate * 1_000.0).clamp(SERVICE_MS.0, SERVICE_MS.1)
            }
            _ => FIRST_SERVICE_MS,
        }
    }

    /// Demand for threads, erlangs: requests per second times their service time (a count, so less noisy than a look at
    /// busy threads), and the threads that it takes to clear the waiting ones within [`CLEAR_MS`].
    #[must_use]
    pub fn erlangs(&self) -> Option<f64> {
        let coming = self.rate.0.map(|rate| rate * self.service_ms() / 1_000.0).or(self.busy.0);
        coming.map(|coming| coming + self.queued as f64 * self.service_ms() / CLEAR_MS)
    }

    fn report(&mut self, report: &BalancerReport, at: Time, smooth_ms: u64) -> bool {
        let up = |s: ServerState| matches!(s, ServerState::Up | ServerState::Failing);
        let serving = report.servers.iter();
        let active = serving.clone().map(|s| s.active).sum::<u64>() as f64;
        let waited = self.queued;
        let waiting = report.queued + report.servers.iter().map(|s| s.queued).sum::<u64>();
        let limit = |limit: u64, active: u64| if limit == 0 { active.max(1) } else { limit };
        self.threads = serving.filter(|s| up(s.state)).map(|s| limit(s.limit, s.active)).sum();
        self.queued = waiting;
        let mark = Mark { at, requests: report.requests_total, started_ms: report.started_ms };
        let Some(before) = self.mark else {
            self.mark = Some(mark);
            self.busy.take(active, 1.0);
            return true;
        };
        if at <= before.at {
            return false;
        }
        self.mark = Some(mark);
        let ms = at.since(before.at) as f64;
        let constants = ms / smooth_ms.max(1) as f64;
        let weight = if constants > SILENCE { 1.0 } else { 1.0 - (-constants).exp() };
        self.busy.take(active, weight);
        let slow = 1.0 - (-ms / SERVICE_SMOOTH_MS).exp();
        self.slow.1.take(active, slow);
        if before.started_ms == mark.started_ms && mark.requests >= before.requests {
            let rate = (mark.requests - before.requests) as f64 * 1_000.0 / ms;
            self.rate.take(rate, weight);
            // `stot` counts a request when it comes: what was done is that less what came to wait.
            let done = rate - (waiting as f64 - waited as f64) * 1_000.0 / ms;
            self.slow.0.take(done.max(0.0), slow);
        }
        self.delay_count *= (-constants).exp();
        if let Some(delay) = report.queue_delay.filter(|q| q.count > 0 && q.p95_ms.is_finite()) {
            let count = delay.count as f64;
            self.delay_count += count;
            self.delay.take(delay.p95_ms.max(0.0), count / self.delay_count);
        }
        true
    }

    fn replicas(&mut self, digest: &Digest, smooth_ms: u64, now: Time) {
        let known = digest.replicas.iter().filter_map(|replica| {
            // A throttled task wanted at least as much again as it was held back, up to twice its use.
            let held = replica.throttled_ratio.unwrap_or(0.0).clamp(0.0, 0.5);
            replica.cpu_cores.filter(|c| c.is_finite()).map(|cores| cores.max(0.0) / (1.0 - held))
        });
        let (sum, n) = known.fold((0.0, 0u32), |(sum, n), cores| (sum + cores, n + 1));
        if n > 0 {
            let ms = self.cpu_at.map_or(u64::MAX, |at| now.since(at)) as f64;
            self.cpu.take(sum, 1.0 - (-ms / smooth_ms.max(1) as f64).exp());
            self.cpu_at = Some(now);
        }
        self.memory_bytes = digest.replicas.iter().filter_map(|r| r.memory_bytes).reduce(|a, b| a + b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::BalancerDigest;
    use model::adapter::{Quantiles, ServerReport};

    fn digest(requests: u64, active: u64, queued: u64, p95_ms: Option<f64>, age_ms: u64) -> Digest {
        let quantile = |p95_ms| Quantiles { count: 10, p50_ms: 0.0, p95_ms, p99_ms: p95_ms, max_ms: p95_ms };
        Digest {
            workload: "web".parse().unwrap(),
            replicas: vec![],
            balancer: Some(BalancerDigest {
                node: "a".parse().unwrap(),
                age_ms,
                report: BalancerReport {
                    backend: "web".into(),
                    queued,
                    requests_total: requests,
                    errors_5xx_total: 0,
                    errors_connection_total: 0,
                    queue_delay: p95_ms.map(quantile),
                    response_time: None,
                    servers: vec![ServerReport {
                        server: "web-1".into(),
                        address: String::new(),
                        state: ServerState::Up,
                        active,
                        queued: 0,
                        limit: 4,
                        check: "L7OK".into(),
                    }],
                    started_ms: 1,
                },
            }),
        }
    }

    #[test]
    fn rates_come_from_totals_and_service_time_from_littles_law() {
        let mut load = Load::default();
        for second in 0..20u64 {
            assert!(load.observe(&digest(second * 40, 2, 0, Some(3.0), 0), 2_000, Time(second * 1_000)));
        }
        assert!((load.rate().unwrap() - 40.0).abs() < 1e-9);
        assert!((load.service_ms() - 50.0).abs() < 1e-9);
        assert_eq!(load.delay_p95_ms(), Some(3.0));
        assert_eq!(load.threads, 4);
    }

    #[test]
    fn a_report_seen_twice_counts_once_and_a_restarted_balancer_gives_no_negative_rate() {
        let mut load = Load::default();
        assert!(load.observe(&digest(0, 1, 0, None, 0), 1_000, Time(1_000)));
        assert!(!load.observe(&digest(0, 1, 0, None, 1_000), 1_000, Time(2_000)));
        assert!(load.observe(&digest(30, 1, 5, None, 0), 1_000, Time(3_000)));
        assert_eq!(load.rate(), Some(15.0));
        assert!(load.observe(&digest(3, 1, 5, None, 0), 1_000, Time(4_000)));
        assert_eq!(load.rate(), Some(15.0), "totals fell: no rate from that pair");
        assert!(load.erlangs().is_some_and(|e| e > 0.5 && e < 2.0), "{:?}", load.erlangs());
    }
}
