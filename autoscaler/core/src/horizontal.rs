//! How many replicas carry a load.
//!
//! Two forms of one question. With a known capacity per replica (a service at a CPU target, the scoring game): the
//! smallest n with load ÷ n ≤ capacity. With requests that wait for threads: the smallest n for which the wait's 95th
//! percentile is within the target, by the M/M/c queue (Erlang C), because a mean utilisation says nothing about waiting:
//! 40 threads can be 90 % busy at the same wait as 4 threads at 60 %. Reality differs from the model (threads share CPUs,
//! requests are not alike); so the model's threads are multiplied by an efficiency that is learned from queue delays that
//! were measured. Bounds: efficiency in [`EFFICIENCY`], n never above the given limit.

use serde::{Deserialize, Serialize};

/// Bounds of the learned efficiency of a thread: under a fifth the model would say nothing any more.
pub const EFFICIENCY: (f64, f64) = (0.2, 1.0);
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

/// What one workload's requests cost, as learned.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// Threads of one replica.
    pub threads: u32,
    /// Real threads' worth of a thread, learned.
    pub efficiency: f64,
}

impl Capacity {
    /// As the specification says, nothing learned yet.
    #[must_use]
    pub fn new(threads: u32) -> Self {
        Self { threads: threads.max(1), efficiency: 1.0 }
    }

    /// Load that `replicas` carry within the target, erlangs.
    #[must_use]
    pub fn carries(&self, replicas: u32, service_ms: f64, target_ms: f64) -> f64 {
        let servers = replicas.saturating_mul(self.threads);
        let (mut low, mut high) = (0.0, f64::from(servers));
        // 30 halvings: far below a thousandth of a thread.
        for _ in 0..30 {
            let middle = (low + high) / 2.0;
            if wait_p95_ms(servers, middle, service_ms) <= target_ms {
                low = middle;
            } else {
                high = middle;
            }
        }
        low * self.efficiency
    }

    /// Smallest number of replicas whose wait is within the target for `load` erlangs; at most `limit`.
    #[must_use]
    pub fn replicas_for(&self, load: f64, service_ms: f64, target_ms: f64, limit: u32) -> u32 {
        let (mut low, mut high) = (1, limit.max(1));
        while low < high {
            let middle = low + (high - low) / 2;
            if self.carries(middle, service_ms, target_ms) >= load {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }

    /// Learns from a measured wait: above the target although the model saw room → a thread is worth less; well within
    /// the target although the model saw none → worth more. `rate` is the step, a share.
    pub fn learn(
        &mut self,
        replicas: u32,
        load: f64,
        service_ms: f64,
        p95_ms: f64,
        target_ms: f64,
        rate: f64,
    ) {
        let carries = self.carries(replicas, service_ms, target_ms);
        if p95_ms > target_ms && load < carries {
            self.efficiency *= 1.0 - rate;
        } else if p95_ms <= target_ms / 2.0 && load > 0.8 * carries {
            self.efficiency *= 1.0 + rate / 2.0;
        }
        self.efficiency = self.efficiency.clamp(EFFICIENCY.0, EFFICIENCY.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let capacity = Capacity::new(2);
        let per = |n: u32| capacity.carries(n, 50.0, 20.0) / f64::from(2 * n);
        assert!(per(1) < per(4) && per(4) < per(20), "{} {} {}", per(1), per(4), per(20));
        let n = capacity.replicas_for(6.0, 50.0, 20.0, 40);
        assert!(capacity.carries(n, 50.0, 20.0) >= 6.0 && capacity.carries(n - 1, 50.0, 20.0) < 6.0);
        assert_eq!(capacity.replicas_for(1e9, 50.0, 20.0, 7), 7);
    }

    #[test]
    fn a_thread_that_waits_more_than_the_model_says_is_worth_less() {
        let mut capacity = Capacity::new(2);
        for _ in 0..20 {
            capacity.learn(4, 2.0, 50.0, 60.0, 20.0, 0.05);
        }
        assert!(capacity.efficiency < 0.7, "{}", capacity.efficiency);
        assert_eq!(replicas_for(8.0, 4.0, 9), 2);
        assert_eq!(replicas_for(8.1, 4.0, 9), 3);
        assert_eq!(replicas_for(f64::NAN, 4.0, 9), 9);
    }
}
