//! How a workload went, minute by minute: what came, what had been foreseen for that time, and what its replicas carried.
//!
//! Problem: a forecast is judged by what came, and it was made for a time that lay ahead when it was made. Method: once a round the numbers behind
//! the decision are taken: those of now into the minute of now, the forecast into the minute that it is for. A minute keeps the worst of its rounds:
//! the largest load, forecast and signal, the fewest replicas and the least that they carried; so a peak of a second is not averaged away. Bounds: minutes up to
//! [`AHEAD_MS`] ahead, [`CLOSED`] closed ones that wait to be taken.

use std::collections::{BTreeMap, VecDeque};

use model::id::WorkloadName;

use crate::event::Time;

/// Length of a minute, ms.
pub const MINUTE_MS: u64 = 60_000;
/// A forecast for later than this is left out, ms: only what takes hours to be ready (data that moves) looks so far ahead, and has no forecast.
const AHEAD_MS: u64 = 3_600_000;
/// Closed minutes that wait to be taken; older ones are dropped.
const CLOSED: usize = 10_000;

/// The numbers behind a workload's decision in one round; absent ones are not known.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Glance {
    /// Load now: requests per second (rails) or cores (service).
    pub load: Option<f64>,
    /// Load expected when what is ordered now is ready.
    pub expected: Option<f64>,
    /// The same at the quantile of the risk.
    pub upper: Option<f64>,
    /// Time until what is ordered now is ready, ms.
    pub ahead_ms: u64,
    /// Load that the replicas in service carry at the target.
    pub carried: Option<f64>,
    /// Queue delay at the balancer, 95th percentile, ms.
    pub queue_delay_p95_ms: Option<f64>,
    /// Busy share of what is there.
    pub utilisation: Option<f64>,
    /// Replicas in service.
    pub up: u32,
    /// Replicas wanted.
    pub wanted: u32,
}

/// A minute of a workload; absent numbers were not known in it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Minute {
    /// Largest load.
    pub load: Option<f64>,
    /// Largest load that was expected for this minute.
    pub expected: Option<f64>,
    /// Largest upper forecast for this minute.
    pub upper: Option<f64>,
    /// Least load that the replicas in service carried.
    pub carried: Option<f64>,
    /// Longest queue delay, ms.
    pub queue_delay_p95_ms: Option<f64>,
    /// Largest busy share.
    pub utilisation: Option<f64>,
    /// Fewest replicas in service; `None` when there was only a forecast for it.
    pub up: Option<u32>,
    /// Most replicas wanted; likewise.
    pub wanted: Option<u32>,
}

impl Minute {
    /// Both as one: the worst of each.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            load: largest(self.load, other.load),
            expected: largest(self.expected, other.expected),
            upper: largest(self.upper, other.upper),
            carried: self.carried.into_iter().chain(other.carried).min_by(f64::total_cmp),
            queue_delay_p95_ms: largest(self.queue_delay_p95_ms, other.queue_delay_p95_ms),
            utilisation: largest(self.utilisation, other.utilisation),
            up: self.up.into_iter().chain(other.up).min(),
            wanted: self.wanted.max(other.wanted),
        }
    }
}

fn largest(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    a.into_iter().chain(b).max_by(f64::total_cmp)
}

/// The minutes of all workloads that are not over.
#[derive(Debug, Default)]
pub struct Course {
    open: BTreeMap<(Time, WorkloadName), Minute>,
    closed: VecDeque<(Time, WorkloadName, Minute)>,
}

impl Course {
    /// Takes a round's numbers of all workloads.
    pub fn observe(&mut self, glances: impl IntoIterator<Item = (WorkloadName, Glance)>, now: Time) {
        let minute = |at: Time| Time(at.0 / MINUTE_MS * MINUTE_MS);
        for (workload, glance) in glances {
            let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
            let is = Minute {
                load: finite(glance.load),
                carried: finite(glance.carried),
                queue_delay_p95_ms: finite(glance.queue_delay_p95_ms),
                utilisation: finite(glance.utilisation),
                up: Some(glance.up),
                wanted: Some(glance.wanted),
                ..Minute::default()
            };
            let (expected, upper) = (finite(glance.expected), finite(glance.upper));
            if glance.ahead_ms <= AHEAD_MS && (expected.is_some() || upper.is_some()) {
                let due = minute(now.after(glance.ahead_ms));
                self.add((due, workload.clone()), &Minute { expected, upper, ..Minute::default() });
            }
            self.add((minute(now), workload), &is);
        }
        while let Some(first) = self.open.first_entry().filter(|first| first.key().0.after(MINUTE_MS) <= now)
        {
            let ((at, workload), minute) = first.remove_entry();
            // Of a minute that nobody saw there is nothing to be told: the workload was withdrawn.
            if minute.up.is_some() {
                self.closed.push_back((at, workload, minute));
            }
        }
        while self.closed.len() > CLOSED {
            self.closed.pop_front();
        }
    }

    /// Minutes that are over, since the last call.
    pub fn take(&mut self) -> Vec<(Time, WorkloadName, Minute)> {
        self.closed.drain(..).collect()
    }

    fn add(&mut self, key: (Time, WorkloadName), more: &Minute) {
        let minute = self.open.entry(key).or_default();
        *minute = minute.and(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn web() -> WorkloadName {
        WorkloadName::new("web").unwrap()
    }

    #[test]
    fn a_forecast_is_beside_what_came_in_the_minute_that_it_was_for() {
        let mut course = Course::default();
        for second in 0..240u64 {
            // The load grows by one a second, and is foreseen 90 s before.
            let glance = Glance {
                load: Some(second as f64),
                expected: Some(second as f64 + 90.0),
                upper: Some(second as f64 + 100.0),
                ahead_ms: 90_000,
                carried: Some(200.0 - second as f64),
                queue_delay_p95_ms: (second == 70).then_some(5.0),
                utilisation: None,
                up: if second == 65 { 1 } else { 2 },
                wanted: 3,
            };
            course.observe([(web(), glance)], Time(second * 1_000));
        }
        let taken = course.take();
        let at: Vec<u64> = taken.iter().map(|(at, ..)| at.0).collect();
        assert_eq!(at, [0, 60_000, 120_000], "the fourth minute is open");
        let (first, second, third) = (taken[0].2, taken[1].2, taken[2].2);
        assert_eq!((first.load, first.expected, first.carried), (Some(59.0), None, Some(141.0)));
        assert_eq!(
            (second.load, second.expected),
            (Some(119.0), Some(119.0)),
            "made in the first half minute"
        );
        assert_eq!((second.up, second.wanted, second.queue_delay_p95_ms), (Some(1), Some(3), Some(5.0)));
        assert_eq!((third.load, third.upper), (Some(179.0), Some(189.0)));
        assert_eq!((third.queue_delay_p95_ms, third.utilisation), (None, None), "never known is not zero");
        assert_eq!(course.take(), []);
    }

    #[test]
    fn what_was_withdrawn_leaves_no_minutes_of_forecasts_alone() {
        let mut course = Course::default();
        let glance = Glance { upper: Some(1.0), ahead_ms: 300_000, up: 1, ..Glance::default() };
        course.observe([(web(), glance.clone())], Time(1_000));
        course.observe([(web(), Glance { ahead_ms: u64::MAX, ..glance })], Time(2_000));
        course.observe([], Time(600_000));
        let taken = course.take();
        assert_eq!(taken.iter().map(|(at, ..)| at.0).collect::<Vec<_>>(), [0]);
    }

    proptest! {
        #[test]
        fn minutes_are_bounded_and_in_order(steps in prop::collection::vec((0u64..5_000_000, 0u64..10_000_000, any::<f64>()), 0..200)) {
            let mut course = Course::default();
            let mut now = Time(0);
            for (ms, ahead_ms, load) in steps {
                now = now.after(ms);
                let glance = Glance { load: Some(load), upper: Some(load), ahead_ms, ..Glance::default() };
                course.observe([(web(), glance)], now);
                prop_assert!(course.open.len() as u64 <= AHEAD_MS / MINUTE_MS + 2);
            }
            let taken = course.take();
            prop_assert!(taken.windows(2).all(|pair| pair[0].0 < pair[1].0));
            prop_assert!(taken.iter().all(|(_, _, minute)| minute.load.is_none_or(f64::is_finite)));
        }
    }
}
