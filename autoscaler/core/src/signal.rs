//! What a workload carries now, from one digest after another.
//!
//! Problem: a balancer's report is a snapshot of a few requests; acting on one is acting on noise, and a report that is
//! repeated must not count twice. Method: each number is smoothed with one time constant, weighted by the time between
//! reports, and keeps the age of what it came from. Service time follows from Little's law (busy threads ÷ requests per
//! second), CPU time per request likewise (cores ÷ requests per second): they need nothing from the application. Only
//! replicas that take requests count, and what one request takes is learned only while none of them is cold: what a process
//! burns while it boots is no demand. CPU is corrected for throttling: use
//! under a quota is only a lower bound of demand, so the throttled share is added back. Bounds: no history beyond the
//! smoothed values.

use model::adapter::{BalancerReport, ServerState};
use model::id::TaskName;

use crate::event::{Digest, ReplicaDigest, Time};
use crate::horizontal::Work;

/// Service time before any was measured, ms: a common Rails action.
const FIRST_SERVICE_MS: f64 = 50.0;
/// A backlog should be gone within this time, ms: half of the ten seconds after which people give up (Nielsen 1993).
const CLEAR_MS: f64 = 5_000.0;
/// Time constant of the service time, ms: long enough for tens of looks at busy threads, short beside a deployment.
const SERVICE_SMOOTH_MS: f64 = 15_000.0;
/// Bounds of a believable service time, and of CPU time per request, ms.
const SERVICE_MS: (f64, f64) = (0.1, 60_000.0);
/// Requests per second under which nothing can be said about one request.
const LEAST_RATE: f64 = 0.1;
/// The 95th percentile of an exponential wait, in means: ln 20 (the wait of those that wait in M/M/c is exponential).
const P95_OF_MEAN: f64 = 2.995_732;
/// Puma's workers report every 1–6 s (workloads.md); two of the longest intervals.
const PUMA_MS: u64 = 12_000;
/// Time constant of Puma's busy share, ms: a heartbeat is one look at a few threads.
const PUMA_SMOOTH_MS: f64 = 6_000.0;
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

/// What requests took of something, and how many they were, fading over [`SERVICE_SMOOTH_MS`]. Sums, not means of each: the
/// first second of a load is a part of one, and must weigh no more than that.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct PerRequest {
    took_seconds: f64,
    requests: f64,
}

impl PerRequest {
    /// In `ms`, `level` (threads, cores) was in use and `rate` requests per second were done.
    fn take(&mut self, level: f64, rate: f64, ms: f64) {
        let fade = (-ms / SERVICE_SMOOTH_MS).exp();
        self.took_seconds = self.took_seconds * fade + level * ms / 1_000.0;
        self.requests = self.requests * fade + rate * ms / 1_000.0;
    }

    /// Of one request, ms; `None` while there were too few.
    fn ms(&self) -> Option<f64> {
        let enough = self.requests > LEAST_RATE * SERVICE_SMOOTH_MS / 1_000.0;
        enough.then(|| (self.took_seconds / self.requests * 1_000.0).clamp(SERVICE_MS.0, SERVICE_MS.1))
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Mark {
    at: Time,
    requests: u64,
    started_ms: u64,
}

/// Whether a replica's numbers are those of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warmth {
    /// It takes no requests.
    Out,
    /// It takes requests, and its last numbers may be of its start.
    Cold,
    /// Its numbers are of its requests.
    Warm,
}

/// Load of one workload.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Load {
    mark: Option<Mark>,
    rate: Smooth,
    busy: Smooth,
    /// Busy threads per request: the service time.
    service: PerRequest,
    /// Cores per request, of the replicas that take them.
    cost: PerRequest,
    /// What one request takes can be learned now.
    learns: bool,
    /// Requests per second between the newest two reports.
    came: f64,
    delay: Smooth,
    /// Requests behind `delay` within the time constant, fading.
    delay_count: f64,
    cpu: Smooth,
    cpu_at: Option<Time>,
    /// Requests queued at the balancer in the newest report.
    pub queued: u64,
    /// Threads of the servers that are up.
    pub threads: u64,
    /// Busy share of Puma's threads by its own count, over all replicas that take requests.
    puma: Smooth,
    puma_at: Option<Time>,
    /// Connections in the kernel's accept queues of those replicas in the newest reports; `None` when none was read.
    pub accept_queue: Option<u64>,
    /// Memory of all replicas, bytes.
    pub memory_bytes: Option<u64>,
}

impl Load {
    /// A load that is said, not observed, in which nothing waits: what a replay of the past asks with. `rate` in requests per second,
    /// `cores` of all replicas, `threads` of those that take requests.
    pub(crate) fn said(rate: f64, work: Work, cores: f64, threads: u64) -> Self {
        // Any number of requests that is enough to be believed.
        let requests = SERVICE_SMOOTH_MS;
        let per = |ms: f64| PerRequest { took_seconds: ms * requests / 1_000.0, requests };
        Self {
            rate: Smooth(Some(rate)),
            busy: Smooth(Some(rate * work.service_ms / 1_000.0)),
            service: per(work.service_ms),
            cost: work.cpu_ms.map(per).unwrap_or_default(),
            cpu: Smooth(Some(cores)),
            threads,
            ..Self::default()
        }
    }

    /// Takes a digest; `warmth` says of a replica whether it takes requests, and is warm. True when the balancer's report was a new one.
    pub fn observe(
        &mut self,
        digest: &Digest,
        warmth: impl Fn(&TaskName) -> Warmth,
        smooth_ms: u64,
        now: Time,
    ) -> bool {
        let is = |replica: &ReplicaDigest, which: Warmth| warmth(&replica.task) == which;
        let warm: Vec<&ReplicaDigest> = digest.replicas.iter().filter(|r| is(r, Warmth::Warm)).collect();
        self.learns = !warm.is_empty() && !digest.replicas.iter().any(|r| is(r, Warmth::Cold));
        self.pumas(&warm, now);
        self.memory_bytes = digest.replicas.iter().filter_map(|r| r.memory_bytes).reduce(|a, b| a + b);
        let is_new = match &digest.balancer {
            Some(balancer) => {
                let at = Time(now.0.saturating_sub(balancer.age_ms));
                self.report(&balancer.report, at, smooth_ms)
            }
            None => false,
        };
        self.replicas(&warm, is_new, smooth_ms, now);
        is_new
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

    /// Busy share of Puma's threads by its own, slow count.
    #[must_use]
    pub fn puma_busy(&self) -> Option<f64> {
        self.puma.0
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

    /// What one request takes.
    #[must_use]
    pub fn work(&self) -> Work {
        // Little's law: threads in use are requests per second times the time of one.
        let busy = self.service.ms().filter(|_| self.service.took_seconds > 0.0);
        Work { service_ms: busy.unwrap_or(FIRST_SERVICE_MS), cpu_ms: self.cost.ms() }
    }

    /// Demand, requests per second: those that come, and those that wait already and should be gone within
    /// [`CLEAR_MS`].
    #[must_use]
    pub fn demand(&self) -> Option<f64> {
        self.rate.0.map(|rate| rate + self.queued as f64 * 1_000.0 / CLEAR_MS)
    }

    /// Without requests there is nothing to learn of them: what replicas do then is their own.
    fn learns_of_requests(&self) -> bool {
        self.learns && self.came > LEAST_RATE
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
        if before.started_ms == mark.started_ms && mark.requests >= before.requests {
            let rate = (mark.requests - before.requests) as f64 * 1_000.0 / ms;
            self.rate.take(rate, weight);
            self.came = rate;
            // `stot` counts a request when it comes: what was done is that less what came to wait.
            let done = rate - (waiting as f64 - waited as f64) * 1_000.0 / ms;
            if self.learns_of_requests() {
                self.service.take(active, done.max(0.0), ms);
            }
        }
        self.delay_count *= (-constants).exp();
        let measured = report.queue_delay.filter(|q| q.count > 0 && q.p95_ms.is_finite());
        let measured = measured.map(|delay| (delay.p95_ms.max(0.0), delay.count as f64));
        if let Some((p95_ms, count)) = measured.or_else(|| self.delay_of_queues(ms)) {
            self.delay_count += count;
            self.delay.take(p95_ms, count / self.delay_count);
        }
        true
    }

    /// The delay that the queues show where no request's own was measured (no log, or nothing ended): Little's law over
    /// balancer and kernel; and how many requests that is about. Without the kernel's queue there is no such number: a
    /// balancer that does not limit its servers hides the wait there.
    fn delay_of_queues(&self, ms: f64) -> Option<(f64, f64)> {
        let (accepted, rate) = (self.accept_queue?, self.rate.0.filter(|rate| *rate > LEAST_RATE)?);
        let mean_ms = (self.queued + accepted) as f64 / rate * 1_000.0;
        Some((mean_ms * P95_OF_MEAN, rate * ms / 1_000.0))
    }

    fn pumas(&mut self, warm: &[&ReplicaDigest], now: Time) {
        let ms = self.puma_at.map_or(u64::MAX, |at| now.since(at)) as f64;
        let weight = 1.0 - (-ms / PUMA_SMOOTH_MS).exp();
        self.puma_at = Some(now);
        let reports = || {
            warm.iter()
                .filter_map(|r| r.puma.as_ref())
                .filter(|(_, age)| *age <= PUMA_MS)
                .map(|(puma, _)| puma)
        };
        self.accept_queue =
            reports().filter_map(|puma| puma.accept_queue.map(u64::from)).reduce(|a, b| a + b);
        let (busy, threads) = reports().fold((0u32, 0u32), |(busy, threads), puma| {
            (busy.saturating_add(puma.busy_threads), threads.saturating_add(puma.max_threads))
        });
        if threads > 0 {
            self.puma.take(f64::from(busy) / f64::from(threads), weight);
        } else {
            self.puma = Smooth::default();
        }
    }

    fn replicas(&mut self, warm: &[&ReplicaDigest], is_new: bool, smooth_ms: u64, now: Time) {
        let (mut wanted, mut used, mut n) = (0.0, 0.0, 0u32);
        for replica in warm {
            let Some(cores) = replica.cpu_cores.filter(|cores| cores.is_finite()) else { continue };
            // A throttled task wanted at least as much again as it was held back, up to twice its use.
            let held = replica.throttled_ratio.unwrap_or(0.0).clamp(0.0, 0.5);
            wanted += cores.max(0.0) / (1.0 - held);
            used += cores.max(0.0);
            n += 1;
        }
        if n > 0 {
            let ms = self.cpu_at.map_or(u64::MAX, |at| now.since(at)) as f64;
            self.cpu.take(wanted, 1.0 - (-ms / smooth_ms.max(1) as f64).exp());
            // Used, not wanted: what a request takes is the same when it has to wait for it.
            if is_new && self.learns_of_requests() && self.cpu_at.is_some() {
                self.cost.take(used, self.came, ms);
            }
            self.cpu_at = Some(now);
        }
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
            replicas: vec![ReplicaDigest { cpu_cores: None, ..replica(("web-1", 0.0)) }],
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
            let digest = digest(second * 40, 2, 0, Some(3.0), 0);
            assert!(load.observe(&digest, warm, 2_000, Time(second * 1_000)));
        }
        assert!((load.rate().unwrap() - 40.0).abs() < 1e-9);
        assert!((load.work().service_ms - 50.0).abs() < 1e-9);
        assert_eq!(load.work().cpu_ms, None, "no samples of replicas, no CPU time per request");
        assert_eq!(load.delay_p95_ms(), Some(3.0));
        assert_eq!(load.threads, 4);
    }

    /// A replica that burns CPU at night, for itself, makes the first requests of the morning no dearer.
    #[test]
    fn what_is_done_without_requests_is_no_cost_of_requests() {
        let mut load = Load::default();
        let mut requests = 0;
        for second in 0..40u64 {
            let night = (10..20).contains(&second);
            requests += if night { 0 } else { 40 };
            let cores = if night { 0.9 } else { 0.28 };
            let replicas = vec![replica(("web-1", cores))];
            let digest = Digest { replicas, ..digest(requests, 0, 0, None, 0) };
            load.observe(&digest, warm, 2_000, Time(second * 1_000));
            if second > 25 {
                let cpu_ms = load.work().cpu_ms.unwrap();
                assert!((5.0..10.0).contains(&cpu_ms), "{cpu_ms} in second {second}");
            }
        }
    }

    #[test]
    fn a_report_seen_twice_counts_once_and_a_restarted_balancer_gives_no_negative_rate() {
        let mut load = Load::default();
        assert!(load.observe(&digest(0, 1, 0, None, 0), warm, 1_000, Time(1_000)));
        assert!(!load.observe(&digest(0, 1, 0, None, 1_000), warm, 1_000, Time(2_000)));
        assert!(load.observe(&digest(30, 1, 5, None, 0), warm, 1_000, Time(3_000)));
        assert_eq!(load.rate(), Some(15.0));
        assert!(load.observe(&digest(3, 1, 5, None, 0), warm, 1_000, Time(4_000)));
        assert_eq!(load.rate(), Some(15.0), "totals fell: no rate from that pair");
        assert_eq!(load.demand(), Some(16.0), "15 that come, 5 that wait within five seconds");
    }

    #[test]
    fn cpu_time_per_request_is_that_of_replicas_that_take_requests() {
        let mut load = Load::default();
        for second in 0..40u64 {
            let mut digest = digest(second * 40, 2, 0, None, 0);
            // One serves at 7 ms a request and one boots with a whole core.
            digest.replicas = [("web-1", 0.28), ("web-2", 1.0)].map(replica).to_vec();
            let warmth = |task: &TaskName| match (task.as_str(), second) {
                ("web-1", _) => Warmth::Warm,
                (_, ..30) => Warmth::Out,
                // It takes requests now, and the last sample was of its start.
                _ => Warmth::Cold,
            };
            load.observe(&digest, warmth, 2_000, Time(second * 1_000));
        }
        assert!(load.work().cpu_ms.is_some_and(|ms| (ms - 7.0).abs() < 0.01), "{:?}", load.work());
        assert!(load.cpu_cores().is_some_and(|cores| (cores - 0.28).abs() < 1e-9));
    }

    #[test]
    fn a_load_that_is_said_answers_as_if_it_had_been_observed() {
        let work = Work { service_ms: 40.0, cpu_ms: Some(7.0) };
        let load = Load::said(100.0, work, 0.7, 12);
        assert_eq!((load.demand(), load.cpu_cores(), load.threads), (Some(100.0), Some(0.7), 12));
        assert_eq!((load.busy(), load.delay_p95_ms()), (Some(4.0), None));
        let answered = load.work();
        assert!((answered.service_ms - 40.0).abs() < 1e-9, "{answered:?}");
        assert!(answered.cpu_ms.is_some_and(|ms| (ms - 7.0).abs() < 1e-9), "{answered:?}");
        assert_eq!(Load::said(1.0, Work { cpu_ms: None, ..work }, 0.0, 1).work().cpu_ms, None);
    }

    fn warm(_: &TaskName) -> Warmth {
        Warmth::Warm
    }

    fn replica((task, cores): (&str, f64)) -> ReplicaDigest {
        ReplicaDigest {
            task: task.parse().unwrap(),
            node: "a".parse().unwrap(),
            age_ms: Some(0),
            cpu_cores: Some(cores),
            throttled_ratio: None,
            run_delay_mean_seconds: None,
            memory_bytes: None,
            oom_kills: None,
            puma: None,
        }
    }
}
