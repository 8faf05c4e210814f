//! The clocks of this host.

use rustix::time::{ClockId, clock_gettime};

fn ns(clock: ClockId) -> i64 {
    let t = clock_gettime(clock);
    t.tv_sec.saturating_mul(1_000_000_000).saturating_add(t.tv_nsec)
}

/// CLOCK_BOOTTIME, ns: counts suspend, never steps.
#[must_use]
pub fn boot_ns() -> u64 {
    ns(ClockId::Boottime).unsigned_abs()
}

/// CLOCK_BOOTTIME, ms.
#[must_use]
pub fn boot_ms() -> u64 {
    boot_ns() / 1_000_000
}

/// The wall clock, ms since the Unix epoch.
#[must_use]
pub fn wall_ms() -> u64 {
    (ns(ClockId::Realtime) / 1_000_000).unsigned_abs()
}

/// Wall clock minus boot clock, ns.
#[must_use]
pub fn wall_offset_ns() -> i64 {
    ns(ClockId::Realtime).saturating_sub(ns(ClockId::Boottime))
}

/// CPU time of this process, ns.
#[must_use]
pub fn own_cpu_ns() -> u64 {
    ns(ClockId::ProcessCPUTime).unsigned_abs()
}
