//! What the kernel is told about a class, once: who yields without anybody deciding anything.
//!
//! **Problem.** A loop reacts in hundreds of milliseconds, a scheduler in microseconds. **Method.** Best-effort work is an idle
//! group (`cpu.idle`): it runs when nobody else wants the CPU, and a waking thread of anybody else takes the CPU from it at
//! once. Memory that latency-critical work was given is protected (`memory.low`), best-effort work is slowed before it is
//! killed (`memory.high`), and yields at the disk (`io.weight`). **Bounds.** A weight orders siblings only, and a protection
//! holds only as far as its ancestors have it: so a workload's group and the top have their share, [`workload`] and [`top`].
//! Nothing here limits latency-critical work.

use model::action::Size;
use model::workload::Class;

/// Weight of a group that has none of its own (cgroup-v2.rst).
pub const WEIGHT: u32 = 100;
/// The smallest weight there is (cgroup-v2.rst).
pub const LEAST_WEIGHT: u32 = 1;
/// Best-effort work is slowed at this share of its memory limit: a tenth is room for reclaim to be seen before the kill.
pub const HIGH_OF_MAX: f64 = 0.9;

/// What one group is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// It runs when nobody else wants the CPU (`cpu.idle`).
    pub idle: bool,
    /// Memory that is taken back from it last (`memory.low`), bytes; 0 = none.
    pub memory_low_bytes: u64,
    /// Memory above which it is slowed (`memory.high`), bytes; `None` = no such limit.
    pub memory_high_bytes: Option<u64>,
    /// Share at the disk under contention (`io.weight`), 1..=10000.
    pub io_weight: u32,
}

impl Standing {
    /// What a group is that nobody told anything.
    pub const DEFAULT: Self =
        Self { idle: false, memory_low_bytes: 0, memory_high_bytes: None, io_weight: WEIGHT };
}

/// A task's own group.
#[must_use]
pub fn task(class: Class, size: &Size) -> Standing {
    match class {
        Class::LatencyCritical => {
            let memory_low_bytes = size.memory_max_bytes.unwrap_or(0);
            Standing { memory_low_bytes, memory_high_bytes: size.memory_high_bytes, ..Standing::DEFAULT }
        }
        Class::Standard => Standing { memory_high_bytes: size.memory_high_bytes, ..Standing::DEFAULT },
        Class::BestEffort => {
            let early = size.memory_max_bytes.map(|max| (max as f64 * HIGH_OF_MAX) as u64);
            let memory_high_bytes = [early, size.memory_high_bytes].into_iter().flatten().min();
            Standing { idle: true, memory_low_bytes: 0, memory_high_bytes, io_weight: LEAST_WEIGHT }
        }
    }
}

/// The group of a workload with these tasks on this node: idle only when all of them are best-effort.
#[must_use]
pub fn workload<'a>(tasks: impl Iterator<Item = (Class, &'a Size)>) -> Standing {
    let (mut some, mut idle, mut low) = (false, true, 0u64);
    for (class, size) in tasks {
        some = true;
        idle &= class == Class::BestEffort;
        low = low.saturating_add(task(class, size).memory_low_bytes);
    }
    let idle = some && idle;
    let io_weight = if idle { LEAST_WEIGHT } else { WEIGHT };
    Standing { idle, memory_low_bytes: low, memory_high_bytes: None, io_weight }
}

/// The group above all workloads: it has the protection of all of them, and yields to nobody.
#[must_use]
pub fn top<'a>(tasks: impl Iterator<Item = (Class, &'a Size)>) -> Standing {
    Standing { idle: false, io_weight: WEIGHT, ..workload(tasks) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size(memory_max_bytes: Option<u64>) -> Size {
        Size { memory_max_bytes, cpu_max_millis: Some(500), ..Size::default() }
    }

    #[test]
    fn best_effort_yields_and_latency_critical_is_protected() {
        let be = task(Class::BestEffort, &size(Some(1_000)));
        assert_eq!((be.idle, be.memory_high_bytes, be.io_weight), (true, Some(900), 1));
        assert_eq!(task(Class::BestEffort, &size(None)).memory_high_bytes, None, "no limit to be early for");
        let lc = task(Class::LatencyCritical, &size(Some(1_000)));
        assert_eq!((lc.idle, lc.memory_low_bytes, lc.memory_high_bytes), (false, 1_000, None));
        assert_eq!(task(Class::Standard, &size(Some(1_000))), Standing::DEFAULT);
    }

    #[test]
    fn a_workload_is_idle_when_all_of_it_is_and_its_parents_carry_the_protection() {
        let (be, lc) = ((Class::BestEffort, size(Some(7))), (Class::LatencyCritical, size(Some(5))));
        let of = |tasks: &[(Class, Size)]| workload(tasks.iter().map(|(class, size)| (*class, size)));
        assert!(of(&[be, be]).idle && !of(&[be, lc]).idle && !of(&[]).idle);
        assert_eq!(of(&[be, lc, lc]).memory_low_bytes, 10);
        let above = top([be, be, lc].iter().map(|(class, size)| (*class, size)));
        assert_eq!(above, Standing { memory_low_bytes: 5, ..Standing::DEFAULT });
    }

    proptest! {
        #[test]
        fn what_latency_critical_work_has_is_never_less_than_its_owner_gave(
            max in prop::option::of(1u64..1 << 40),
            high in prop::option::of(1u64..1 << 40),
        ) {
            let given = Size { memory_max_bytes: max, memory_high_bytes: high, ..Size::default() };
            let told = task(Class::LatencyCritical, &given);
            prop_assert_eq!((told.idle, told.memory_high_bytes, told.io_weight), (false, high, WEIGHT));
        }
    }
}
