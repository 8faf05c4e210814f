//! One half of this machine's CPUs, for what may have no more.

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Which half of the CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    First,
    Second,
}

impl Half {
    /// Numbers of its CPUs, of those that this process may run on. Both halves of a machine with one CPU have it.
    ///
    /// # Errors
    /// When the kernel does not say which those are.
    pub(crate) fn cpus(self) -> Result<Vec<usize>> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).context("asking for this process's CPUs")?;
        let all: Vec<usize> =
            (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
        let (first, second) = all.split_at(all.len().div_ceil(2));
        Ok(match self {
            Self::Second if !second.is_empty() => second.to_vec(),
            _ => first.to_vec(),
        })
    }
}

/// Does something whose processes, also those that it starts, may only run on one half.
///
/// # Errors
/// When that cannot be said to the kernel, or as `what` does.
pub(crate) fn on<T>(half: Option<Half>, what: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(half) = half else { return what() };
    let before = sched_getaffinity(Pid::from_raw(0)).context("asking for this process's CPUs")?;
    let mut set = CpuSet::new();
    for cpu in half.cpus()? {
        set.set(cpu)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).context("keeping to one half of the CPUs")?;
    let done = what();
    sched_setaffinity(Pid::from_raw(0), &before).context("going back to all CPUs")?;
    done
}
