//! Names of systemd units of our own tasks, and back: one slice per workload, one service per task.
//!
//! `trimtab.slice/trimtab-web.slice/trimtab-task-web-3.service`. A `-` in a slice's name means a slice within a slice
//! (systemd.slice(5)), so that those of a workload are escaped as systemd-escape(1) does: `trimtab-my\x2dapp.slice`.

use model::id::{TaskName, WorkloadName};

use crate::qos::standing::{Standing, WEIGHT};

/// The slice of a workload's tasks, below `top` (`trimtab.slice`).
#[must_use]
pub fn slice(top: &str, workload: &WorkloadName) -> String {
    let stem = top.strip_suffix(".slice").unwrap_or(top);
    format!("{stem}-{}.slice", workload.as_str().replace('-', "\\x2d"))
}

/// The service of a task.
#[must_use]
pub fn service(top: &str, task: &TaskName) -> String {
    let stem = top.strip_suffix(".slice").unwrap_or(top);
    format!("{stem}-task-{task}.service")
}

/// The service that freezes best-effort work when the agent is gone. It is no task's name.
#[must_use]
pub fn watcher(top: &str) -> String {
    format!("{}-deadman.service", top.strip_suffix(".slice").unwrap_or(top))
}

/// What systemd is told of a group's standing, as properties of its unit; all of them are 64-bit numbers on D-Bus. A `CPUWeight`
/// of 0 is `idle` (systemd 252; src/basic/cgroup-util.h: `CGROUP_WEIGHT_IDLE`), the largest number is "no limit". Without `all`, only what is
/// not so anyway: a property that is set turns a controller on for the unit and its siblings.
#[must_use]
pub fn properties(standing: &Standing, all: bool) -> Vec<(&'static str, u64)> {
    let usual = every(&Standing::DEFAULT);
    every(standing).into_iter().filter(|property| all || !usual.contains(property)).collect()
}

fn every(standing: &Standing) -> [(&'static str, u64); 4] {
    [
        ("CPUWeight", if standing.idle { 0 } else { u64::from(WEIGHT) }),
        ("MemoryLow", standing.memory_low_bytes),
        ("MemoryHigh", standing.memory_high_bytes.unwrap_or(u64::MAX)),
        ("IOWeight", u64::from(standing.io_weight)),
    ]
}

/// Whose and which task a path below `top` is; `None` for a path that is not exactly a task's.
#[must_use]
pub fn task(top: &str, below: &str) -> Option<(WorkloadName, TaskName)> {
    let stem = top.strip_suffix(".slice")?;
    let (slice, service) = below.split_once('/')?;
    let workload = slice.strip_prefix(stem)?.strip_prefix('-')?.strip_suffix(".slice")?.replace("\\x2d", "-");
    let task = service.strip_prefix(stem)?.strip_prefix("-task-")?.strip_suffix(".service")?;
    Some((workload.parse().ok()?, task.parse().ok()?))
}

/// Why a slice cannot be the top of our units; `None` when it can.
#[must_use]
pub fn bad_top(top: &str) -> Option<String> {
    let stem = top.strip_suffix(".slice").unwrap_or_default();
    let plain = !stem.is_empty() && stem.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (!plain).then(|| format!("{top:?} must be a-z and 0-9 and end with .slice, for example trimtab.slice"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOP: &str = "trimtab.slice";

    #[test]
    fn names_are_those_of_systemd() {
        assert_eq!(slice(TOP, &"web".parse().unwrap()), "trimtab-web.slice");
        assert_eq!(slice(TOP, &"my-app".parse().unwrap()), "trimtab-my\\x2dapp.slice");
        assert_eq!(service(TOP, &"my-app-3".parse().unwrap()), "trimtab-task-my-app-3.service");
    }

    #[test]
    fn what_is_no_task_is_none() {
        for below in [
            "trimtab-web.slice",
            "trimtab-web.slice/other.service",
            "web/web-3",
            "trimtab-web.slice/trimtab-task-web-3.service/init.scope",
            "trimtab-.slice/trimtab-task-web-3.service",
            "trimtab-web.slice/trimtab-task-$(id).service",
        ] {
            assert_eq!(task(TOP, below), None, "{below}");
        }
    }

    #[test]
    fn best_effort_is_idle_for_systemd() {
        let standing =
            Standing { idle: true, memory_high_bytes: Some(900), io_weight: 1, ..Standing::DEFAULT };
        let expected = [("CPUWeight", 0), ("MemoryLow", 0), ("MemoryHigh", 900), ("IOWeight", 1)];
        assert_eq!(properties(&standing, true), expected);
        assert_eq!(properties(&standing, false).len(), 3, "it protects no memory, and nobody has");
        assert_eq!(properties(&Standing::DEFAULT, true)[0], ("CPUWeight", 100));
        assert!(properties(&Standing::DEFAULT, false).is_empty());
    }

    #[test]
    fn a_top_is_one_level() {
        assert_eq!(bad_top(TOP), None);
        for bad in ["trimtab", ".slice", "a-b.slice", "a/b.slice", "A.slice", ""] {
            assert!(bad_top(bad).is_some_and(|why| why.contains("trimtab.slice")), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_path_names_its_task(workload in "[a-z][a-z0-9]{0,9}(-[a-z0-9]{1,9}){0,3}", number in 0_u64..10_000) {
            let task_name: TaskName = format!("{workload}-{number}").parse().unwrap();
            let workload: WorkloadName = workload.parse().unwrap();
            let path = format!("{}/{}", slice(TOP, &workload), service(TOP, &task_name));
            prop_assert_eq!(task(TOP, &path), Some((workload, task_name)));
        }
    }
}
