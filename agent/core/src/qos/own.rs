//! What do latency-critical tasks wait by themselves, and what does best-effort work add to that?
//!
//! **Problem.** Threads of a busy service wait for each other. A fixed target takes those waits for harm, and holds best-effort work back for
//! nothing; and a service that is slowed by shared caches and siblings may wait no longer at all.
//! **Method.** Two measurements. *Own waits*: mean and spread of readings in which best-effort work hardly ran; a breach is what goes beyond them
//! by more than the target. *What it adds*: an experiment ([`super::trial`]), by windows with best-effort work and pauses without.
//! **Bounds.** Own waits are not taken for more than what is usual lately, so that what a burst has taught is forgotten as soon as waits are
//! short again. What is not known yet is zero here, which errs towards less best-effort work.

use std::collections::BTreeMap;

use model::id::TaskName;

use super::meter::Reading;
use super::settings::{CALM_HALF_MS, OWN_HALF, OWN_SPREADS, Settings, USUAL_HALF_MS, USUAL_LEAST};

/// Mean and standard deviation that forget.
#[derive(Debug, Clone, Copy, Default)]
struct Fading {
    n: f64,
    sum: f64,
    squares: f64,
}

impl Fading {
    /// Half of it is forgotten after so many times what came since the last value.
    fn take(&mut self, value: f64, half_lives: f64) {
        let keep = 0.5f64.powf(half_lives);
        self.n = self.n * keep + 1.0;
        self.sum = self.sum * keep + value;
        self.squares = self.squares * keep + value * value;
    }

    fn mean(&self) -> f64 {
        if self.n > 0.0 { self.sum / self.n } else { 0.0 }
    }

    fn deviation(&self) -> f64 {
        if self.n > 0.0 { (self.squares / self.n - self.mean().powi(2)).max(0.0).sqrt() } else { 0.0 }
    }
}

/// What is known of a task's waits, in the unit of [`Reading::wait`].
#[derive(Debug, Clone, Copy, Default)]
struct Waits {
    by_delay: bool,
    own: Fading,
    usual: Fading,
    lately: Fading,
}

impl Waits {
    /// Mean and standard deviation of its own waits: no more than is usual now.
    fn own(&self) -> (f64, f64) {
        let (mean, usual) = (self.own.mean(), self.usual.mean());
        let share = if usual < mean * USUAL_LEAST { usual / mean } else { 1.0 };
        (mean * share, self.own.deviation() * share)
    }
}

/// What was learned of each latency-critical task.
#[derive(Debug, Clone, Default)]
pub struct Own {
    tasks: BTreeMap<TaskName, Waits>,
    at_ms: Option<u64>,
}

impl Own {
    /// Learns from a reading; `alone` = without best-effort work. It is judged before it is learnt: a first long wait is not usual.
    pub fn learn(&mut self, now_ms: u64, critical: &[Reading], alone: bool) {
        let ms = self.at_ms.replace(now_ms).map_or(0, |before| now_ms.saturating_sub(before)) as f64;
        self.tasks.retain(|task, _| critical.iter().any(|reading| reading.task == *task));
        for reading in critical {
            let Some((by_delay, wait)) = reading.wait().filter(|_| !reading.limited) else { continue };
            let known = self.tasks.entry(reading.task.clone()).or_default();
            if known.by_delay != by_delay {
                *known = Waits { by_delay, ..Waits::default() };
            }
            known.usual.take(wait, ms / USUAL_HALF_MS);
            known.lately.take(wait, ms / CALM_HALF_MS);
            if alone {
                known.own.take(wait, 1.0 / OWN_HALF);
            }
        }
    }

    fn of(&self, task: &TaskName, by_delay: bool) -> Option<&Waits> {
        self.tasks.get(task).filter(|known| known.by_delay == by_delay)
    }

    /// What a task waits by itself in the mean, 0 = nothing is known of it.
    #[must_use]
    pub fn mean(&self, task: &TaskName, by_delay: bool) -> f64 {
        self.of(task, by_delay).map_or(0.0, |known| known.own().0)
    }

    /// What it waited in the last seconds in the mean, if that is known.
    #[must_use]
    pub fn lately(&self, task: &TaskName, by_delay: bool) -> Option<f64> {
        self.of(task, by_delay).map(|known| known.lately.mean())
    }

    /// The wait that is borne: the owner's target, beyond what is usual for the task by itself.
    #[must_use]
    pub fn borne(&self, task: &TaskName, by_delay: bool, settings: &Settings) -> f64 {
        let (mean, deviation) = self.of(task, by_delay).map(Waits::own).unwrap_or_default();
        let usual = mean + OWN_SPREADS * deviation;
        match by_delay {
            true => settings.delay_ns as f64 + usual,
            // A share of the time in which it does not wait for itself.
            false => usual.min(1.0) + settings.cpu_stall * (1.0 - usual.min(1.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(delay_ns: Option<u64>, cpu_stall: Option<f64>) -> Reading {
        Reading {
            task: "web-1".parse().unwrap(),
            delay_ns,
            cpu_stall,
            memory_stall: None,
            waited: None,
            limited: false,
            computed: None,
        }
    }

    fn learnt(waits: impl IntoIterator<Item = u64>, alone: bool) -> Own {
        let mut own = Own::default();
        for (step, wait) in (1u64..).zip(waits) {
            own.learn(step * 150, &[reading(Some(wait), None)], alone);
        }
        own
    }

    #[test]
    fn what_is_usual_for_a_task_alone_is_borne_beyond_the_target() {
        let (task, settings) = ("web-1".parse().unwrap(), Settings::default());
        assert_eq!(Own::default().borne(&task, true, &settings), 1e6, "nothing is known: the target");
        let steady = learnt([2_000_000; 50], true);
        let (mean, borne) = (steady.mean(&task, true), steady.borne(&task, true, &settings));
        assert!((mean - 2e6).abs() < 1.0 && (borne - 3e6).abs() < 1.0, "{mean} {borne}");
        let varies = learnt([1_000_000, 3_000_000].repeat(100), true);
        assert!((8.5e6..9.5e6).contains(&varies.borne(&task, true, &settings)), "1 + 2 + six times 1 ms");
        let beside = learnt([2_000_000; 50], false);
        assert_eq!(beside.borne(&task, true, &settings), 1e6, "what it waits beside others is not its own");
    }

    #[test]
    fn what_a_burst_has_taught_is_forgotten_when_it_is_over() {
        let (task, settings) = ("web-1".parse().unwrap(), Settings::default());
        let mut own = learnt([20_000_000; 100], true);
        for step in 101..500u64 {
            own.learn(step * 150, &[reading(Some(100_000), None)], false);
        }
        let borne = own.borne(&task, true, &settings);
        assert!(borne < 1.5e6, "one minute later: {borne}");
        for step in 500..2_000u64 {
            own.learn(step * 150, &[reading(Some(100_000), None)], false);
        }
        let borne = own.borne(&task, true, &settings);
        assert!(borne < 1.2e6, "five minutes later: {borne}");
    }

    #[test]
    fn stalled_time_is_borne_as_a_share_of_the_rest() {
        let (task, settings) = ("web-1".parse().unwrap(), Settings::default());
        let mut own = Own::default();
        for step in 1..100u64 {
            own.learn(step * 150, &[reading(None, Some(0.4))], true);
        }
        assert!((own.borne(&task, false, &settings) - 0.7).abs() < 1e-6, "half of what is left");
        assert_eq!(own.mean(&task, true), 0.0, "of the other measure nothing is known");
        own.learn(100 * 150, &[reading(Some(5), Some(0.4))], true);
        assert_eq!(own.borne(&task, false, &settings), 0.5, "its waits are counted now");
        own.learn(101 * 150, &[], true);
        assert_eq!(own.lately(&task, true), None, "it is gone");
    }
}
