//! Tasks that are shorter than a sample, and cgroups that come and go faster than anyone looks: nothing is missed, nothing leaks.
//!
//! `TRIMTAB_SHORT_TASKS` (default 1,000; the promise is 10,000) and `TRIMTAB_CHURN_SECONDS` (default 3; the promise is 60) set the size.
#![allow(missing_docs, clippy::unwrap_used)]
mod cgroup;

use agent_bpf::{KernelProbe, ProbeConfig, RunqTotals, Visit};
use cgroup::{TestCgroup, root_or_skip};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The two tests load this machine fully: one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect(variable))
}

/// `struct clone_args` in include/uapi/linux/sched.h, as of 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    unused: [u64; 3],
    exit_signal: u64,
    unused_too: [u64; 5],
    cgroup: u64,
}

/// Starts a process that is born in `cgroup`, burns `cpu_us` of CPU time, and ends.
fn burn(cgroup: &File, cpu_us: u64) -> i32 {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let arguments = CloneArgs {
        flags: CLONE_INTO_CGROUP,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: cgroup.as_raw_fd() as u64,
        ..CloneArgs::default()
    };
    // SAFETY: as fork(2); the child makes no call but clock_gettime and _exit.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArgs>()) };
    assert!(pid >= 0, "clone3: {}", std::io::Error::last_os_error());
    if pid == 0 {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        while (now.tv_nsec as u64) < cpu_us * 1000 {
            // SAFETY: writes to a local.
            unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut now) };
        }
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) };
    }
    pid as i32
}

fn reap(pid: i32) {
    // SAFETY: waits for a child of ours.
    assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }, pid);
}

/// What an agent does every tick.
fn tick(probe: &mut KernelProbe, into: &mut BTreeMap<u64, RunqTotals>) {
    probe.read_cgroups(|_| {}).unwrap();
    probe.scan_runq().unwrap();
    probe.for_each_runq(Visit::Changed, |runq| {
        into.insert(runq.cgroup_id, runq.totals);
    });
}

fn open_fds() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn no_short_task_is_missed() {
    let Some(root) = root_or_skip() else { return };
    let _alone = alone();
    let tasks = number("TRIMTAB_SHORT_TASKS", 1_000);
    let parent = TestCgroup::new(&root);
    let mut probe = KernelProbe::load(&ProbeConfig::new(&root)).unwrap();
    let misses_before = probe.counters().guard_misses;
    let (mut totals, mut ids) = (BTreeMap::new(), BTreeSet::new());
    let (mut running, mut last_tick) = (Vec::new(), Instant::now());
    for task in 0..tasks {
        let group = parent.child(&task.to_string());
        ids.insert(group.id());
        let pid = burn(&File::open(&group.path).unwrap(), 1_000 + task % 10 * 1_000);
        running.push((pid, group));
        if running.len() == 4 {
            let (pid, _group) = running.remove(0);
            reap(pid);
        }
        if last_tick.elapsed() > Duration::from_millis(200) {
            tick(&mut probe, &mut totals);
            last_tick = Instant::now();
        }
    }
    for (pid, _group) in running.drain(..) {
        reap(pid);
    }
    std::thread::sleep(Duration::from_millis(20));
    tick(&mut probe, &mut totals);

    let missed: Vec<_> = ids.iter().filter(|id| !totals.contains_key(id)).collect();
    assert!(missed.is_empty(), "{} of {tasks} tasks were never seen", missed.len());
    let mut pass_ns = 0;
    let parent_id = parent.id();
    probe
        .read_cgroups(|record| {
            if record.id == parent_id {
                pass_ns = record.cpu_ns;
            }
        })
        .unwrap();
    assert_eq!(pass_ns / 1000, parent.usage_us(), "the kernel's ledger, with all dead children");
    let counted: u64 = ids.iter().map(|id| totals[id].oncpu_ns).sum();
    let counters = probe.counters();
    let misses = counters.guard_misses - misses_before;
    println!(
        "{tasks} tasks: cpu.stat {pass_ns} ns, switches {counted} ns, {misses} hidden switches, {counters:?}"
    );
    assert_eq!(counters.overflows, 0);
    // A switch hidden from the tracepoint takes one slice away: some tenths of a ms here.
    assert!(
        counted.abs_diff(pass_ns) <= pass_ns / 1_000 + misses * 1_000_000,
        "{counted} ns of {pass_ns} ns"
    );
}

#[test]
fn two_thousand_cgroups_a_second_leak_nothing() {
    let Some(root) = root_or_skip() else { return };
    let _alone = alone();
    let seconds = number("TRIMTAB_CHURN_SECONDS", 3);
    let parent = TestCgroup::new(&root);
    let mut probe = KernelProbe::load(&ProbeConfig::new(&root)).unwrap();
    let mut totals = BTreeMap::new();
    tick(&mut probe, &mut totals);
    let (fds, bytes) = (open_fds(), probe.map_bytes());
    let (begin, mut made, mut most_slots) = (Instant::now(), 0_u64, 0);
    let mut with_task = BTreeSet::new();
    while begin.elapsed() < Duration::from_secs(seconds) {
        let second = Instant::now();
        for index in 0..2_000 {
            let path = parent.path.join(format!("churn-{index}"));
            fs::create_dir(&path).unwrap();
            if index % 10 == 0 {
                with_task.insert(fs::metadata(&path).unwrap().ino());
                reap(burn(&File::open(&path).unwrap(), 50));
            }
            remove(&path);
            made += 1;
        }
        std::thread::sleep(Duration::from_secs(1).saturating_sub(second.elapsed()));
        tick(&mut probe, &mut totals);
        most_slots = most_slots.max(probe.counters().slots_used);
    }
    for _ in 0..4 {
        tick(&mut probe, &mut totals);
    }
    let counters = probe.counters();
    println!(
        "{made} cgroups in {:?}, at most {most_slots} of {} slots in use, {counters:?}",
        begin.elapsed(),
        counters.slots
    );
    let unseen = with_task.iter().filter(|id| !totals.contains_key(id)).count();
    assert_eq!(unseen, 0, "of {} cgroups in which a task ran", with_task.len());
    assert_eq!(counters.overflows, 0);
    // Others on this host have cgroups in which something ran, too.
    let live = cgroups_below(&root);
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert!(
        counters.slots_used < live * cpus + 64,
        "{} slots are still in use, {live} cgroups live",
        counters.slots_used
    );
    assert!(counters.tracked < live + 64, "{} cgroups are still tracked, {live} live", counters.tracked);
    // A descriptor is kept for each child of the root, of which others on this host may make some meanwhile.
    assert!(open_fds() < fds + 64, "{} descriptors after {fds}", open_fds());
    assert_eq!(probe.map_bytes(), bytes);
}

fn cgroups_below(directory: &Path) -> usize {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let folders = entries.filter_map(Result::ok).filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    folders.map(|folder| 1 + cgroups_below(&folder.path())).sum()
}

/// A cgroup is busy for a moment after its last task ended.
fn remove(path: &Path) {
    for _ in 0..1000 {
        if fs::remove_dir(path).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    panic!("remove {}", path.display());
}
