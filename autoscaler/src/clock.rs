//! Controller time: near the wall clock at the start, and never stepping after it.
//!
//! Problem: cooldowns, leases and windows are differences of times, and an operator (or NTP) may set the wall clock by
//! hours. Method: the wall clock is read once, at the start; from then on only CLOCK_BOOTTIME advances the time, which
//! also counts suspension. A start continues behind the last journalled time, so that time never goes back over
//! restarts either, even when the wall clock did.

use autoscaler_core::event::Time;

/// Tells controller time.
#[derive(Debug, Clone, Copy)]
pub struct ControllerClock {
    start: Time,
    boot_ns_at_start: u64,
}

impl ControllerClock {
    /// Starts at the wall clock, or 1 ms behind the last journalled time when that is later.
    #[must_use]
    pub fn start(wall_ms: u64, last_journalled: Option<Time>, boot_ns: u64) -> Self {
        let behind = last_journalled.map_or(0, |last| last.0.saturating_add(1));
        Self { start: Time(wall_ms.max(behind)), boot_ns_at_start: boot_ns }
    }

    /// Controller time at an instant of CLOCK_BOOTTIME, ns.
    #[must_use]
    pub fn at(&self, boot_ns: u64) -> Time {
        self.start.after(boot_ns.saturating_sub(self.boot_ns_at_start) / 1_000_000)
    }

    /// Controller time now.
    #[must_use]
    pub fn now(&self) -> Time {
        self.at(boot_ns())
    }
}

/// CLOCK_BOOTTIME, ns.
#[must_use]
pub fn boot_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// The wall clock, ms since the Unix epoch. For controller time it is read at the start only; others are told of it.
#[must_use]
pub fn wall_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

/// CPU time of this process, seconds.
#[must_use]
pub fn own_cpu_seconds() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn a_step_of_the_wall_clock_after_the_start_changes_nothing() {
        let clock = ControllerClock::start(1_000_000, None, 5_000_000);
        // Whatever the wall clock does, only the boot clock is asked.
        assert_eq!(clock.at(5_000_000), Time(1_000_000));
        assert_eq!(clock.at(7_500_000), Time(1_000_002));
        assert_eq!(clock.at(4_000_000), Time(1_000_000), "it never goes back");
    }

    #[test]
    fn a_start_continues_behind_the_journal_when_the_wall_clock_was_set_back() {
        let last = Time(10 * HOUR);
        for (wall, expected) in [
            (9 * HOUR, 10 * HOUR + 1),
            (11 * HOUR, 11 * HOUR),
            (0, 10 * HOUR + 1),
            (10 * HOUR, 10 * HOUR + 1),
        ] {
            let clock = ControllerClock::start(wall, Some(last), 77);
            assert_eq!(clock.at(77), Time(expected));
            assert!(clock.at(77) > last);
        }
    }

    #[test]
    fn the_kernel_clocks_are_read() {
        assert!(boot_ns() > 0);
        assert!(wall_ms() > 1_600_000_000_000);
    }
}
