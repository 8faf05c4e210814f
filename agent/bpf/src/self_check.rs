//! Do the programs see what /proc says? A wrong offset would yield plausible numbers, so before the run-queue tier is trusted, one of its
//! fields after the other is compared for a thread that is known: this one.

use crate::bpf_call;
use crate::feature::{Refusal, tried};
use crate::kernel::Kernel;
use crate::mapped::Mapped;
use agent_abi::kernel::Constant;
use agent_abi::runq::Watch;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../agent-ebpf/objects/watch.o"));

/// `PROC_PID_INIT_INO` in include/linux/proc_ns.h: the initial pid namespace, whose numbers the programs report.
const INITIAL_PID_NAMESPACE: u64 = 0xefff_fffc;
/// Switches to see before comparing.
const ENOUGH: u64 = 3;
/// Naps of one millisecond to wait for them.
const PATIENCE: u32 = 200;

/// Run time and run-queue delay of this thread, ns, and how often it was run: /proc/thread-self/schedstat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SchedStat {
    ran_ns: u64,
    waited_ns: u64,
    runs: u64,
}

/// Attaches the watching program for some milliseconds and compares. `cgroup_root` is where the unified hierarchy is mounted.
pub(crate) fn run(kernel: &Kernel, cgroup_root: &Path) -> Result<(), Refusal> {
    let namespace = fs::metadata("/proc/self/ns/pid").map_err(tried("stat /proc/self/ns/pid"))?.ino();
    if namespace != INITIAL_PID_NAMESPACE {
        return Err(Refusal::SelfCheck("the agent must run in the host's pid namespace".into()));
    }
    // SAFETY: a call without arguments that cannot fail.
    let thread = unsafe { libc::gettid() };
    let mut loaded = kernel.load("watch", OBJECT, &[(Constant::WatchedPid, thread)], &[])?;
    let program = kernel.load_tracepoint(&mut loaded, "watch_switch", "sched_switch")?;
    let memory =
        Mapped::new(loaded.map("WATCH")?.as_fd(), size_of::<Watch>()).map_err(tried("map the watch"))?;

    let before = sched_stat()?;
    let link = bpf_call::attach_tracepoint(program.as_fd()).map_err(tried("attach to sched_switch"))?;
    for _ in 0..PATIENCE {
        std::thread::sleep(Duration::from_millis(1));
        if memory.copy::<Watch>(0).switches_in >= ENOUGH {
            break;
        }
    }
    drop(link);
    let (seen, after) = (memory.copy::<Watch>(0), sched_stat()?);
    compare(seen, own_cgroup(cgroup_root)?, before, after).map_err(Refusal::SelfCheck)
}

fn compare(seen: Watch, cgroup_id: u64, before: SchedStat, after: SchedStat) -> Result<(), String> {
    if seen.switches_in < ENOUGH || seen.switches_out < ENOUGH {
        return Err(format!(
            "this thread was seen {} times in and {} out, not {ENOUGH}",
            seen.switches_in, seen.switches_out
        ));
    }
    if seen.cgroup_id != cgroup_id {
        return Err(format!("this thread is in cgroup {cgroup_id}, the programs see {}", seen.cgroup_id));
    }
    if !(before.ran_ns..=after.ran_ns).contains(&seen.sum_exec_ns) {
        return Err(format!(
            "this thread ran {} to {} ns, the programs see {}",
            before.ran_ns, after.ran_ns, seen.sum_exec_ns
        ));
    }
    if seen.switches_in > after.runs.wrapping_sub(before.runs) {
        return Err(format!(
            "this thread was run {} times, the programs see {}",
            after.runs.wrapping_sub(before.runs),
            seen.switches_in
        ));
    }
    // A wait that was moved between CPUs is in /proc in two parts, and seen here in its second only.
    let waited = after.waited_ns.wrapping_sub(before.waited_ns);
    if seen.delay_ns > waited {
        return Err(format!("this thread waited {waited} ns, the programs see {}", seen.delay_ns));
    }
    Ok(())
}

/// Inode number of the cgroup that this thread is in.
fn own_cgroup(cgroup_root: &Path) -> Result<u64, Refusal> {
    const PATH: &str = "/proc/thread-self/cgroup";
    let text = fs::read_to_string(PATH).map_err(tried(format!("read {PATH}")))?;
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .ok_or_else(|| Refusal::SelfCheck(format!("{PATH} names no cgroup on the unified hierarchy")))?;
    let directory = cgroup_root.join(path);
    Ok(fs::metadata(&directory).map_err(tried(format!("stat {}", directory.display())))?.ino())
}

fn sched_stat() -> Result<SchedStat, Refusal> {
    const PATH: &str = "/proc/thread-self/schedstat";
    let text = fs::read_to_string(PATH).map_err(tried(format!("read {PATH}")))?;
    parse_sched_stat(&text).ok_or_else(|| Refusal::SelfCheck(format!("{PATH} is not three numbers")))
}

fn parse_sched_stat(text: &str) -> Option<SchedStat> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some(SchedStat { ran_ns: next()?, waited_ns: next()?, runs: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: SchedStat = SchedStat { ran_ns: 100, waited_ns: 50, runs: 10 };
    const AFTER: SchedStat = SchedStat { ran_ns: 900, waited_ns: 250, runs: 15 };
    const SEEN: Watch =
        Watch { cgroup_id: 7, sum_exec_ns: 500, delay_ns: 180, switches_in: 4, switches_out: 4 };

    #[test]
    fn agreement_passes() {
        assert_eq!(compare(SEEN, 7, BEFORE, AFTER), Ok(()));
    }

    #[test]
    fn each_disagreement_is_found() {
        let cases = [
            (Watch { switches_in: 2, ..SEEN }, "not 3"),
            (Watch { switches_out: 0, ..SEEN }, "not 3"),
            (Watch { cgroup_id: 8, ..SEEN }, "is in cgroup 7"),
            (Watch { sum_exec_ns: 99, ..SEEN }, "ran 100 to 900"),
            (Watch { sum_exec_ns: 901, ..SEEN }, "ran 100 to 900"),
            (Watch { switches_in: 6, ..SEEN }, "was run 5 times"),
            (Watch { delay_ns: 201, ..SEEN }, "waited 200 ns"),
        ];
        for (seen, words) in cases {
            let error = compare(seen, 7, BEFORE, AFTER).unwrap_err();
            assert!(error.contains(words), "{error:?} does not say {words:?}");
        }
    }

    #[test]
    fn schedstat_is_three_numbers() {
        assert_eq!(parse_sched_stat("900 250 15\n"), Some(AFTER));
        for malformed in ["", "1 2", "1 2 x", "-1 2 3"] {
            assert_eq!(parse_sched_stat(malformed), None, "{malformed:?}");
        }
    }
}
