//! What a node can give to containers: what it has, less what others on it take, less headroom.
//!
//! Problem: YARN places containers by what a node advertises, once and for all, while others on the node (a web application, a database) take
//! much of it by day and little by night. Method: what the others use is followed up at once and down slowly, so that a wave is answered when
//! it comes and not unlearned when it pauses; the rest, less headroom, is advertised, in whole steps and within the owner's bounds. Bounds: what
//! is not measured is not given away, and a change smaller than a step is none.

use model::units::Bytes;
use model::workload::{Advertise, Offer};
use model::yarn::Resources;

use crate::event::Time;

/// Share of a node that is never given away: the others' next wave comes before the next report of it.
pub const HEADROOM: f64 = 0.1;
/// CPU that the others used counts half as much after so long, ms: if they want it again, containers give way within a second.
pub const CPU_HALF_MS: f64 = 10_000.0;
/// Memory that they used, ms: a container gives none back, so this is about the time in which a wave is over, or a container.
pub const MEMORY_HALF_MS: f64 = 60_000.0;
/// Memory is advertised in steps of so much, MiB: YARN's smallest container by default is 1 GiB, and people set it to a quarter.
pub const STEP_MIB: u64 = 256;

/// What others on a node use, followed up at once and down slowly.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Others {
    at: Option<Time>,
    cores: f64,
    /// `None` where memory is not counted.
    bytes: Option<f64>,
}

impl Others {
    /// Takes in what they use now, cores and bytes.
    pub fn observe(&mut self, cores: f64, bytes: Option<f64>, now: Time) {
        let keep = |half: f64| self.at.map_or(0.0, |at| 0.5_f64.powf(now.since(at) as f64 / half));
        let follow = |before: f64, is: f64, keep: f64| is.max(is + (before - is) * keep);
        let (cpu, memory) = (keep(CPU_HALF_MS), keep(MEMORY_HALF_MS));
        self.cores = follow(self.cores, cores.max(0.0), cpu);
        self.bytes = bytes.map(|is| self.bytes.map_or(is, |before| follow(before, is, memory)));
        self.at = Some(now);
    }

    /// Cores that count as used.
    #[must_use]
    pub fn cores(&self) -> f64 {
        self.cores
    }
}

/// A node's CPUs and memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Has {
    /// Cores.
    pub cores: f64,
    /// Bytes.
    pub bytes: f64,
}

/// What each of `members` NodeManagers on a node should advertise; `now` is what it does advertise.
#[must_use]
pub fn offer(has: Has, others: &Others, members: u32, bounds: &Advertise, now: Resources) -> Resources {
    let share = |room: f64| room.max(0.0) / f64::from(members.max(1));
    let cores = share(has.cores * (1.0 - HEADROOM) - others.cores);
    let vcores = (cores * f64::from(bounds.vcores_per_core)) as u32;
    let memory_mib = others.bytes.map_or(now.memory_mib, |bytes| {
        let mib = (share(has.bytes * (1.0 - HEADROOM) - bytes) / f64::from(1 << 20)) as u64;
        mib / STEP_MIB * STEP_MIB
    });
    let mib = |Bytes(bytes): Bytes| bytes >> 20;
    let (Offer { memory: least, .. }, Offer { memory: most, .. }) = (bounds.least, bounds.most);
    Resources {
        memory_mib: memory_mib.clamp(mib(least), mib(most).max(mib(least))),
        vcores: vcores.clamp(bounds.least.vcores, bounds.most.vcores),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: f64 = (1_u64 << 30) as f64;

    fn bounds() -> Advertise {
        let offer = |gib: u64, vcores| Offer { memory: Bytes(gib << 30), vcores };
        Advertise { least: offer(1, 1), most: offer(24, 30), vcores_per_core: 2 }
    }

    fn at(others: &Others) -> (u64, u32) {
        let has = Has { cores: 16.0, bytes: 32.0 * GIB };
        let offer = offer(has, others, 1, &bounds(), Resources { memory_mib: 4_096, vcores: 4 });
        (offer.memory_mib, offer.vcores)
    }

    #[test]
    fn what_others_leave_is_advertised_up_slowly_and_down_at_once() {
        let mut others = Others::default();
        others.observe(2.0, Some(4.0 * GIB), Time(0));
        assert_eq!(at(&others), (24 << 10, 24), "14.4 − 2 cores, and the bound of memory");
        others.observe(12.0, Some(20.0 * GIB), Time(1_000));
        assert_eq!(at(&others), (8_960, 4), "a wave counts at once");
        others.observe(2.0, Some(4.0 * GIB), Time(11_000));
        assert_eq!(
            at(&others),
            (10_752, 14),
            "half of the cores is forgotten after ten seconds, and little of the memory"
        );
        others.observe(2.0, Some(4.0 * GIB), Time(1_000_000));
        assert_eq!(at(&others).1, 24);
    }

    #[test]
    fn bounds_hold_and_what_is_not_counted_stays_as_it_is() {
        let mut others = Others::default();
        others.observe(40.0, None, Time(0));
        assert_eq!(at(&others), (4_096, 1), "memory is not counted on this node");
        let has = Has { cores: 16.0, bytes: 32.0 * GIB };
        let mut idle = Others::default();
        idle.observe(0.0, Some(0.0), Time(0));
        let now = Resources::default();
        assert_eq!(offer(has, &idle, 4, &bounds(), now).vcores, 7, "four share a node");
    }
}
