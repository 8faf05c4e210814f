//! A look at a few tasks between two rounds: only those that the isolation loop protects or holds back.
//!
//! It costs some kept descriptors a `pread` each and one slot a CPU of the switch program's memory, whatever else runs on the node, and
//! nothing at all while there is nothing to look at.

use std::path::{Path, PathBuf};

use agent_core::parse;
use agent_core::qos::settings::{SLOW_MS, STEP_MS};
use agent_core::qos::{BestEffort, Critical, NodeUse, Observation};
use model::id::{CgroupId, TaskName};
use model::sample::Values;

use super::{Source, files};
use crate::clock;

/// Whom to look at, in the order in which they are reported.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Watch {
    /// Latency-critical tasks.
    pub critical: Vec<(Place, TaskName)>,
    /// Best-effort tasks; their totals are filled in.
    pub best: Vec<(Place, BestEffort)>,
}

/// Where a task is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its cgroup.
    pub cgroup: CgroupId,
    /// Below the root of the unified hierarchy.
    pub path: PathBuf,
    /// Its directory on the v1 hierarchy that its CPU quota is on, on hybrid hosts.
    pub quota: Option<PathBuf>,
}

impl Place {
    fn at(&self) -> (CgroupId, &Path) {
        (self.cgroup, &self.path)
    }
}

impl Watch {
    /// Nothing to look at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.best.is_empty()
    }

    /// Time between two looks, ms: nobody has to be protected within 200 ms where nobody is latency-critical.
    #[must_use]
    pub fn every_ms(&self) -> u64 {
        if self.critical.is_empty() { SLOW_MS } else { STEP_MS }
    }
}

impl Source {
    /// Looks once; with `slow`, also at memory and at the node as a whole. What cannot be read is absent.
    pub fn glance(&mut self, watch: &Watch, slow: bool) -> Observation {
        let now_ms = clock::boot_ms();
        let critical = watch.critical.iter().map(|(place, task)| self.critical(place, task)).collect();
        let best = watch.best.iter().map(|(place, known)| {
            let cpu_us = self.cpu_us(place);
            let memory = |bytes: &[u8]| parse::single(bytes).ok().flatten();
            let memory_bytes = if slow { self.number(place.at(), "memory.current", memory) } else { None };
            BestEffort { cpu_us, memory_bytes, ..known.clone() }
        });
        let best = best.collect();
        Observation { now_ms, critical, best, node: if slow { node() } else { None } }
    }

    fn critical(&mut self, place: &Place, task: &TaskName) -> Critical {
        let counted = self.kernel.as_ref().and_then(|kernel| kernel.delay_now(place.cgroup));
        let (delay, lengths, cpu_us) = match counted {
            Some((delay, lengths, oncpu_ns)) => (Some(delay), Some(lengths), Some(oncpu_ns / 1_000)),
            None => (None, None, self.cpu_us(place)),
        };
        let some = |bytes: &[u8]| parse::pressure(bytes).ok()?.some_us;
        Critical {
            task: task.clone(),
            delay,
            lengths,
            cpu_stall_us: self.number(place.at(), "cpu.pressure", some),
            memory_stall_us: self.number(place.at(), "memory.pressure", some),
            cpu_us,
            held: self.held(place),
        }
    }

    /// Time for which its own quota held it back, in the kernel's unit.
    fn held(&mut self, place: &Place) -> Option<u64> {
        let throttled = |bytes: &[u8]| parse::throttled(bytes).ok().flatten();
        // Since 6.6, and without adding up what is below it.
        let local = "cpu.stat.local";
        if let Some(directory) = &place.quota {
            return self.number((place.cgroup, directory), local, throttled);
        }
        let at = place.at();
        self.number(at, local, throttled).or_else(|| self.number(at, "cpu.stat", throttled))
    }

    fn cpu_us(&mut self, place: &Place) -> Option<u64> {
        self.number(place.at(), "cpu.stat", |bytes| parse::cpu_stat(bytes, &mut Values::default()).ok())
    }

    fn number(
        &mut self,
        (cgroup, directory): (CgroupId, &Path),
        file: &'static str,
        parse: impl FnOnce(&[u8]) -> Option<u64>,
    ) -> Option<u64> {
        self.files.read(cgroup, directory, file).ok().flatten().and_then(parse)
    }
}

fn node() -> Option<NodeUse> {
    let busy_us = files::busy_us().ok()?;
    let (memory_bytes, available_bytes) = parse::meminfo(&std::fs::read("/proc/meminfo").ok()?).ok()?;
    Some(NodeUse { busy_us, memory_bytes, available_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_looked_at_without_best_effort_work_and_seldom_without_critical_work() {
        let place = Place { cgroup: CgroupId(5), path: "t.slice/web/web-1".into(), quota: None };
        let critical = vec![(place.clone(), "web-1".parse().unwrap())];
        assert!(Watch { critical: critical.clone(), best: vec![] }.is_empty());
        let best = BestEffort {
            task: "jobs-1".parse().unwrap(),
            age: 0,
            cpu_us: None,
            memory_bytes: None,
            own_millis: None,
            held: false,
            idle: true,
        };
        let alone = Watch { critical: vec![], best: vec![(place.clone(), best.clone())] };
        assert_eq!((alone.is_empty(), alone.every_ms()), (false, SLOW_MS));
        assert_eq!(Watch { critical, best: vec![(place, best)] }.every_ms(), STEP_MS);
    }
}
