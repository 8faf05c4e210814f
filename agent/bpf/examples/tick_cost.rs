//! What a tick costs with many cgroups: CPU time of pass and scan, in µs. Usage, as root:
//! `tick_cost CGROUPS`; makes that many cgroups with a task each below one of its own, ticks ten times, removes them.

use agent_bpf::{KernelProbe, ProbeConfig, Visit};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let count: usize = std::env::args().nth(1).ok_or("usage: tick_cost CGROUPS")?.parse()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let root = mounts
        .lines()
        .find_map(|line| line.split(' ').nth(1).filter(|_| line.contains(" cgroup2 ")))
        .ok_or("no unified cgroup hierarchy")?;
    let top = Path::new(root).join(format!("trimtab-test-{}-ticks", std::process::id()));
    std::fs::create_dir(&top)?;
    let result = measure(Path::new(root), &top, count);
    std::fs::remove_dir(&top)?;
    result
}

fn measure(root: &Path, top: &Path, count: usize) -> Result<(), Box<dyn Error>> {
    let mut config = ProbeConfig::new(root);
    config.pass_top = top.to_owned();
    config.expected_cgroups = count + 1;
    let mut probe = KernelProbe::load(&config)?;
    let mut tasks = Vec::new();
    for index in 0..count {
        tasks.push(start(&top.join(index.to_string()))?);
    }
    let mut runs = Vec::new();
    for _ in 0..10 {
        std::thread::sleep(Duration::from_secs(1));
        let mut numbers = [0; 3];
        let begin = cpu_us();
        numbers[0] = probe.read_cgroups(|record| numbers[1] += usize::from(record.populated == 1))?.seen;
        let passed = cpu_us();
        probe.scan_runq()?;
        let scanned = cpu_us();
        probe.for_each_runq(Visit::Changed, |_| numbers[2] += 1);
        let visited = cpu_us();
        println!(
            "pass {} µs ({} cgroups, {} populated), scan {} µs, visit {} µs ({} changed)",
            passed - begin,
            numbers[0],
            numbers[1],
            scanned - passed,
            visited - scanned,
            numbers[2]
        );
        runs.push(visited - begin);
    }
    runs.sort_unstable();
    println!(
        "{count} cgroups: median {} µs of CPU per tick; maps {} bytes",
        runs[runs.len() / 2],
        probe.map_bytes()
    );
    for (mut task, path) in tasks {
        task.kill()?;
        task.wait()?;
        while std::fs::remove_dir(&path).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

fn start(path: &PathBuf) -> Result<(Child, PathBuf), Box<dyn Error>> {
    std::fs::create_dir(path)?;
    let task = Command::new("sleep").arg("300").spawn()?;
    std::fs::write(path.join("cgroup.procs"), task.id().to_string())?;
    Ok((task, path.clone()))
}

fn cpu_us() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to a local.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000 + time.tv_nsec.cast_unsigned() / 1_000
}
