//! How many replicas carry a load.
//!
//! Two forms of one question. With a known capacity per replica (a service at a CPU target, the scoring game): the
//! smallest n with load ÷ n ≤ capacity. With requests that wait for threads: the smallest n for which the wait's 95th
//! percentile is within the target, by the M/M/c queue (Erlang C), because a mean utilisation says nothing about waiting:
//! 40 threads can be 90 % busy at the same wait as 4 threads at 60 %. A request queues twice: for a thread, and for the CPU
//! that its replica is given; under a quota of 300m three threads are not three servers but a third of one. So the same
//! queue is asked for both, each with its own number of servers and time per request, and the tighter one counts. Reality
//! differs from both (requests are not alike, a quota comes in periods); so the rate is multiplied by an efficiency that
//! is learned from queue delays that were measured. Bounds: efficiency in [`EFFICIENCY`], n never above the given limit.

use serde::{Deserialize, Serialize};

/// Bounds of the learned efficiency of a thread: under a fifth the model would say nothing any more.
pub const EFFICIENCY: (f64, f64) = (0.2, 1.0);
/// What was learned fades in quiet times at this share of the learning rate: at 2 % a second in about eight minutes.
const FADE: f64 = 0.1;
/// The percentile of the wait that targets are about.
pub const PERCENTILE: f64 = 0.95;

/// Smallest n ≥ 1 with load ÷ n ≤ capacity; at most `limit`.
#[must_use]
pub fn replicas_for(load: f64, capacity: f64, limit: u32) -> u32 {
    if load <= 0.0 {
        return 1;
    }
    if capacity <= 0.0 || !(load / capacity).is_finite() {
        return limit.max(1);
    }
    // 1e-9: a load that is exactly n replicas' worth must not round up to n + 1.
    let n = (load / capacity - 1e-9).ceil().max(1.0);
    if n >= f64::from(limit) { limit.max(1) } else { n as u32 }
}

/// Probability that a request waits at all in M/M/c, with `servers` threads and `load` erlangs (A. K. Erlang 1917).
#[must_use]
pub fn erlang_c(servers: u32, load: f64) -> f64 {
    let c = f64::from(servers);
    if load >= c {
        return 1.0;
    }
    if load <= 0.0 {
        return 0.0;
    }
    // Erlang B by its recursion, then C.
    let mut blocked = 1.0;
    for k in 1..=servers {
        blocked = load * blocked / (f64::from(k) + load * blocked);
    }
    blocked / (1.0 - load / c * (1.0 - blocked))
}

/// The 95th percentile of the wait in ms, with a mean service time of `service_ms`; infinite at or above capacity.
#[must_use]
pub fn wait_p95_ms(servers: u32, load: f64, service_ms: f64) -> f64 {
    let c = f64::from(servers);
    if load >= c {
        return f64::INFINITY;
    }
    let waits = erlang_c(servers, load);
    let rest = 1.0 - PERCENTILE;
    if waits <= rest { 0.0 } else { (waits / rest).ln() * service_ms / (c - load) }
}

/// What one request takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Time on a thread, ms.
    pub service_ms: f64,
    /// CPU time, ms; `None` when it was not measured.
    pub cpu_ms: Option<f64>,
}

/// What one replica can do: threads and CPU by the specification, and how much of that is real, as learned.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// Threads of one replica.
    pub threads: u32,
    /// CPU quota of one replica, cores; `None` = none.
    pub cores: Option<f64>,
    /// Real share of what the model says, learned.
    pub efficiency: f64,
}

impl Capacity {
    /// As the specification says, nothing learned yet.
    #[must_use]
    pub fn new(threads: u32, cores: Option<f64>) -> Self {
        Self { threads: threads.max(1), cores: cores.filter(|cores| *cores > 0.0), efficiency: 1.0 }
    }

    /// Requests per second that `replicas` carry within the target.
    #[must_use]
    pub fn carries(&self, replicas: u32, work: Work, target_ms: f64) -> f64 {
        let threads = rate_within(replicas.saturating_mul(self.threads), work.service_ms, target_ms);
        let cpu = self.cores.zip(work.cpu_ms).map_or(f64::INFINITY, |(cores, cpu_ms)| {
            // As many servers as whole cores, at least one, each as fast as its share of the quota.
            let servers = cores.round().max(1.0);
            rate_within(replicas.saturating_mul(servers as u32), cpu_ms * servers / cores, target_ms)
        });
        threads.min(cpu) * self.efficiency
    }

    /// Smallest number of replicas whose wait is within the target at `rate` requests per second; at most `limit`.
    #[must_use]
    pub fn replicas_for(&self, rate: f64, work: Work, target_ms: f64, limit: u32) -> u32 {
        smallest(rate, limit, |replicas| self.carries(replicas, work, target_ms))
    }

    /// Learns from a measured wait: above the target although the model saw room → a replica is worth less; well within
    /// the target although the model saw none → worth more. `step` is a share.
    pub fn learn(&mut self, replicas: u32, rate: f64, work: Work, p95_ms: f64, target_ms: f64, step: f64) {
        let carries = self.carries(replicas, work, target_ms);
        if p95_ms > target_ms && rate < carries {
            self.efficiency *= 1.0 - step;
        } else if p95_ms <= target_ms / 2.0 && rate > 0.8 * carries {
            self.efficiency *= 1.0 + step / 2.0;
        } else if p95_ms <= target_ms / 4.0 {
            // What a bad time taught is not true for ever, and a quiet one cannot teach better.
            self.efficiency += (1.0 - self.efficiency) * step * FADE;
        }
        self.efficiency = self.efficiency.clamp(EFFICIENCY.0, EFFICIENCY.1);
    }
}

/// Smallest number of replicas that carry `rate`, at most `limit`; `carries` says what so many carry, and more carry more.
#[must_use]
pub fn smallest(rate: f64, limit: u32, mut carries: impl FnMut(u32) -> f64) -> u32 {
    let (mut low, mut high) = (1, limit.max(1));
    while low < high {
        let middle = low + (high - low) / 2;
        if carries(middle) >= rate {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// Requests per second at which 95 % wait at most `target_ms` for one of `servers`.
fn rate_within(servers: u32, service_ms: f64, target_ms: f64) -> f64 {
    let (mut low, mut high) = (0.0, f64::from(servers));
    // 30 halvings: far below a thousandth of a server.
    for _ in 0..30 {
        let middle = (low + high) / 2.0;
        if wait_p95_ms(servers, middle, service_ms) <= target_ms {
            low = middle;
        } else {
            high = middle;
        }
    }
    low * 1_000.0 / service_ms.max(1e-3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 50 ms on a thread and no CPU to speak of.
    const IO: Work = Work { service_ms: 50.0, cpu_ms: None };

    #[test]
    fn erlang_c_gives_the_values_of_the_tables() {
        // Tables of Erlang C: 1 server at 0.5 → 0.5; 2 at 1 → 1/3; 10 at 8 → 0.4092.
        assert!((erlang_c(1, 0.5) - 0.5).abs() < 1e-12);
        assert!((erlang_c(2, 1.0) - 1.0 / 3.0).abs() < 1e-12);
        assert!((erlang_c(10, 8.0) - 0.409_2).abs() < 1e-4);
        assert!(wait_p95_ms(4, 4.0, 10.0).is_infinite());
        assert!(wait_p95_ms(40, 10.0, 10.0) == 0.0);
    }

    #[test]
    fn larger_pools_may_be_busier() {
        let capacity = Capacity::new(2, None);
        let per = |n: u32| capacity.carries(n, IO, 20.0) / f64::from(2 * n);
        assert!(per(1) < per(4) && per(4) < per(20), "{} {} {}", per(1), per(4), per(20));
        let n = capacity.replicas_for(120.0, IO, 20.0, 40);
        assert!(capacity.carries(n, IO, 20.0) >= 120.0 && capacity.carries(n - 1, IO, 20.0) < 120.0);
        assert_eq!(capacity.replicas_for(1e9, IO, 20.0, 7), 7);
    }

    /// The demo's case: three threads look idle at 7 ms a request, and a quota of 300m is full at 43 requests per second.
    #[test]
    fn a_cpu_quota_binds_where_threads_look_idle() {
        let work = Work { service_ms: 7.0, cpu_ms: Some(7.0) };
        let (threads, quota) = (Capacity::new(3, None), Capacity::new(3, Some(0.3)));
        assert_eq!(threads.replicas_for(100.0, work, 100.0, 9), 1);
        assert_eq!(quota.replicas_for(100.0, work, 100.0, 9), 3);
        assert!(quota.carries(2, work, 100.0) < 2.0 * 0.3 / 0.007);
        // Without a measurement of CPU the threads are all that is known.
        let unknown = Work { cpu_ms: None, ..work };
        assert_eq!(quota.replicas_for(100.0, unknown, 100.0, 9), 1);
        // A large quota does not bind before the threads do.
        let large = Capacity::new(3, Some(8.0));
        assert!((large.carries(2, work, 100.0) - threads.carries(2, work, 100.0)).abs() < 1e-9);
    }

    #[test]
    fn a_replica_that_waits_more_than_the_model_says_is_worth_less() {
        let mut capacity = Capacity::new(2, None);
        for _ in 0..20 {
            capacity.learn(4, 40.0, IO, 60.0, 20.0, 0.05);
        }
        assert!(capacity.efficiency < 0.7, "{}", capacity.efficiency);
        for _ in 0..2_000 {
            capacity.learn(4, 1.0, IO, 0.0, 20.0, 0.05);
        }
        assert!(capacity.efficiency > 0.95, "a quiet night lets it fade: {}", capacity.efficiency);
        assert_eq!(replicas_for(8.0, 4.0, 9), 2);
        assert_eq!(replicas_for(8.1, 4.0, 9), 3);
        assert_eq!(replicas_for(f64::NAN, 4.0, 9), 9);
    }

    proptest! {
        /// More replicas carry more, more CPU per request carries less, and never more than the quota can do.
        #[test]
        fn capacity_is_monotonic_and_within_the_quota(
            threads in 1u32..16, cores in 0.05f64..8.0, replicas in 1u32..40,
            service_ms in 1.0f64..500.0, share in 0.01f64..1.0, target_ms in 1.0f64..1_000.0,
        ) {
            let capacity = Capacity::new(threads, Some(cores));
            let work = Work { service_ms, cpu_ms: Some(service_ms * share) };
            let carried = capacity.carries(replicas, work, target_ms);
            prop_assert!(carried <= capacity.carries(replicas + 1, work, target_ms) + 1e-6);
            prop_assert!(carried <= f64::from(replicas) * cores * 1_000.0 / (service_ms * share) + 1e-6);
            let heavier = Work { cpu_ms: Some(service_ms * share * 1.5), ..work };
            prop_assert!(capacity.carries(replicas, heavier, target_ms) <= carried + 1e-6);
        }
    }
}
