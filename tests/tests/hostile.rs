//! Hosts that mean harm or never rest: names of cgroups that try to be something else, and cgroups by the thousand.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Stage, bin, kernel};

/// Memory that the agent may hold more of after a time of churn than before: what its tables and its allocator keep. A leak of one
/// row's worth per cgroup is more than that in each of the times.
const MORE_MEMORY_KIB: u64 = 1 << 10;
/// Times of churn within which there must be one that costs no more.
const TIMES: usize = 6;
/// Descriptors likewise.
const MORE_FILES: usize = 16;

/// A cgroup outside of Trimtab's slice, removed with all below it.
struct Outside(PathBuf);

impl Outside {
    fn make(stage: &Stage) -> Self {
        let name = stage.slice.file_name().unwrap().to_string_lossy().replace(".slice", "-other");
        let path = stage.slice.parent().unwrap().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        kernel::end_slice(&self.0);
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs a program that joins a cgroup and uses the CPU there for some time.
fn spin(cgroup: &Path, ms: u64) -> Child {
    let procs = cgroup.join("cgroup.procs");
    Command::new(bin("e2e-task")).arg("join").arg(procs).args(["spin", &ms.to_string()]).spawn().unwrap()
}

/// All ended tasks of the node in the store.
fn ended(stage: &Stage) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = stage.get(&format!("/tasks?node=n1&state=ended&limit=1000{cursor}"));
        all.extend(page["items"].as_array().cloned().unwrap_or_default());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

/// CPU of a cgroup and of all that was ever below it, as the store has it, µs; and how many rows it is made of.
fn stored(stage: &Stage, top: u64, below: &BTreeSet<u64>) -> (u64, u64) {
    let (mut rows, mut sum) = (1, 0);
    for task in ended(stage) {
        if below.contains(&task["cgroup"].as_u64().unwrap()) {
            rows += 1;
            sum +=
                task["totals"]["cpu_time_us"].as_u64().or_else(|| task["cpuTotalUs"].as_u64()).unwrap_or(0);
        }
    }
    let live = stage.get("/tasks?node=n1");
    for task in live["items"].as_array().into_iter().flatten() {
        let id = task["cgroup"].as_u64().unwrap();
        if id == top || below.contains(&id) {
            rows += 1;
            sum += task["totals"]["cpu_time_us"].as_u64().unwrap_or(0);
        }
    }
    (rows, sum)
}

/// Waits until the store has every microsecond of a cgroup whose children are gone. Each row is cut to whole
/// microseconds, so it may have that much less a row.
fn wait_for_exact(stage: &mut Stage, top: &Path, below: &BTreeSet<u64>) {
    let id = fs::metadata(top).unwrap().ino();
    let mut last = (0, 0, 0);
    let began = Instant::now();
    while began.elapsed() < support::PATIENCE {
        let kernel_us = kernel::cpu_us(top).unwrap();
        let (rows, sum) = stored(stage, id, below);
        last = (kernel_us, sum, rows);
        if sum <= kernel_us && kernel_us - sum <= rows {
            println!("{kernel_us} µs by the kernel, {sum} µs in {rows} rows of the store");
            return;
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    panic!("kernel, store, rows: {last:?}\n{}", stage.log("agent"));
}

fn memory_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn names_are_shown_and_never_obeyed() {
    let Some(mut stage) = Stage::start() else { return };
    let outside = Outside::make(&stage);
    assert!(fs::create_dir(outside.0.join("a\nb")).is_err(), "the kernel itself refuses a newline");
    let names: Vec<OsString> = [
        &b"$(touch pwned)"[..],
        b"`touch pwned`;touch pwned",
        b"..x",
        b"...",
        b"-rf",
        b"%s%n{}",
        b"'\"><script>alert(1)<",
        "\u{202e}gpj.exe".as_bytes(),
        "\u{1b}[2J\u{7}\r".as_bytes(),
        b"\xff\xfe\xc0",
        &[b'x'; 200],
        "ä".repeat(100).as_bytes(),
    ]
    .iter()
    .map(|bytes| OsString::from_vec(bytes.to_vec()))
    .collect();
    // The same names where Trimtab's own tasks are: they are nobody's workload.
    let own = stage.slice.join("jobs");
    fs::create_dir_all(&own).unwrap();
    let mut ids = BTreeSet::new();
    let mut running = Vec::new();
    for top in [&outside.0, &own] {
        for name in &names {
            let path = top.join(name);
            fs::create_dir(&path).unwrap_or_else(|e| panic!("{name:?}: {e}"));
            ids.insert(fs::metadata(&path).unwrap().ino());
            running.push(spin(&path, 20));
        }
    }
    running.into_iter().for_each(|mut child| drop(child.wait()));
    let tasks = stage.until("all of them with their use", |s| {
        let live = s.get("/tasks?node=n1");
        let all: Vec<Value> = live["items"].as_array()?.clone();
        let ours: Vec<Value> =
            all.into_iter().filter(|t| t["cgroup"].as_u64().is_some_and(|id| ids.contains(&id))).collect();
        let used = |t: &Value| t["totals"]["cpu_time_us"].as_u64().is_some_and(|us| us > 0);
        (ours.len() == ids.len() && ours.iter().all(used)).then_some(ours)
    });
    for task in &tasks {
        let name = task["name"].as_str().unwrap();
        let hides = |c: char| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c);
        assert!(!name.contains(hides) && !name.is_empty() && name.len() <= 256, "{task}");
        assert!(task["task"].is_null() || name.starts_with("x"), "nobody started it: {task}");
    }
    let shown: Vec<&str> = tasks.iter().filter_map(|t| t["name"].as_str()).collect();
    assert!(shown.contains(&"$(touch pwned)") && shown.contains(&"\\u{202e}gpj.exe"), "{shown:?}");
    assert!(!stage.path("pwned").exists() && !Path::new("pwned").exists(), "nothing is executed");
    assert!(stage.log("agent").lines().all(|line| !line.contains('\u{1b}') && !line.starts_with("node =")));
    assert!(stage.lives("agent") && stage.lives("autoscaler"));
    assert_eq!(stage.get("/nodes")["items"].as_array().unwrap().len(), 1, "one node, whatever names say");
    stage.service("burn", 1);
    stage.wait_for("jobs", 1);
}

/// Makes and removes cgroups, some of which use the CPU; returns the numbers of those that may have been seen.
fn churn(top: &Path, per_second: u64, time: Duration) -> BTreeSet<u64> {
    let mut ids = BTreeSet::new();
    let mut running: Vec<(PathBuf, Child)> = Vec::new();
    let (began, mut made) = (Instant::now(), 0u64);
    while began.elapsed() < time {
        let due = (began.elapsed().as_micros() as u64 * per_second).div_ceil(1_000_000);
        while made < due {
            let path = top.join(format!("c{made}"));
            fs::create_dir(&path).unwrap();
            ids.insert(fs::metadata(&path).unwrap().ino());
            if made.is_multiple_of(per_second / 20) {
                running.push((path.clone(), spin(&path, 5)));
            } else {
                fs::remove_dir(&path).unwrap();
            }
            made += 1;
        }
        running.retain_mut(|(path, child)| {
            let over = child.try_wait().unwrap().is_some() && fs::remove_dir(path).is_ok();
            !over
        });
        std::thread::sleep(Duration::from_millis(2));
    }
    for (path, mut child) in running {
        child.wait().unwrap();
        while fs::remove_dir(&path).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    println!("{made} cgroups made and removed in {:?}", began.elapsed());
    ids
}

/// 4 s of churn; TRIMTAB_CHURN_S=30 for more.
#[test]
fn churn_costs_no_memory_no_descriptor_and_no_microsecond() {
    let Some(mut stage) = Stage::start() else { return };
    let outside = Outside::make(&stage);
    let pid = stage.agent_pid();
    let time = Duration::from_secs(number("TRIMTAB_CHURN_S", 4));
    // A first time: tables grow to what they need. On a slow machine more waits to be sent, and they grow for longer.
    let mut ids = churn(&outside.0, 2000, time);
    wait_for_exact(&mut stage, &outside.0, &ids);
    let mut memory = vec![memory_kib(pid)];
    let open = files(pid);
    let rests =
        |memory: &[u64]| memory.windows(2).last().is_some_and(|two| two[1] <= two[0] + MORE_MEMORY_KIB);
    // Two further times at least: one alone may be the one in which nothing had to grow.
    while memory.len() < 3 || (!rests(&memory) && memory.len() <= TIMES) {
        ids.append(&mut churn(&outside.0, 2000, time));
        wait_for_exact(&mut stage, &outside.0, &ids);
        memory.push(memory_kib(pid));
    }
    let open_after = files(pid);
    println!("memory {memory:?} KiB, files {open} → {open_after}");
    assert!(rests(&memory), "it grows with each {time:?} of churn: {memory:?} KiB");
    assert!(open_after <= open + MORE_FILES, "{open} descriptors grew to {open_after}");
    assert_eq!(stage.agent_metric("malformed_total"), Some(0.0));
    assert!(stage.lives("agent"));
}

/// 600 tasks; TRIMTAB_SHORT_TASKS=10000 for all of them.
#[test]
fn tasks_of_a_few_milliseconds_are_counted_to_the_microsecond() {
    let Some(mut stage) = Stage::start() else { return };
    let outside = Outside::make(&stage);
    let count = number("TRIMTAB_SHORT_TASKS", 600);
    let mut ids = BTreeSet::new();
    for start in (0..count).step_by(4) {
        let mut running = Vec::new();
        for n in start..(start + 4).min(count) {
            let path = outside.0.join(format!("s{n}"));
            fs::create_dir(&path).unwrap();
            ids.insert(fs::metadata(&path).unwrap().ino());
            running.push((spin(&path, 1 + n % 10), path));
        }
        for (mut child, path) in running {
            assert!(child.wait().unwrap().success());
            while fs::remove_dir(&path).is_err() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    let kernel_us = kernel::cpu_us(&outside.0).unwrap();
    assert!(kernel_us > count * 1000, "{kernel_us} µs for {count} tasks");
    wait_for_exact(&mut stage, &outside.0, &ids);
}

/// Tasks begin and end before, during and after an outage of the autoscaler, and at its very edges.
#[test]
fn churn_across_an_outage_costs_no_microsecond() {
    let Some(mut stage) = Stage::start() else { return };
    let outside = Outside::make(&stage);
    let mut ids = BTreeSet::new();
    for outage in 0..2 {
        // One task ends every 100 ms for some seconds, so that some end in each round.
        let mut running: Vec<(PathBuf, Child)> = Vec::new();
        for n in 0..70 {
            let path = outside.0.join(format!("o{outage}-{n}"));
            fs::create_dir(&path).unwrap();
            ids.insert(fs::metadata(&path).unwrap().ino());
            running.push((path.clone(), spin(&path, 20)));
            running.last_mut().unwrap().1.wait().unwrap();
            if n == 20 {
                stage.kill_autoscaler();
            }
            if n == 40 {
                stage.start_autoscaler();
            }
            // Each lives for three seconds after its work.
            if running.len() > 30 {
                fs::remove_dir(running.remove(0).0).unwrap();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        for (path, _) in running {
            fs::remove_dir(path).unwrap();
            std::thread::sleep(Duration::from_millis(50));
        }
        stage.until("the node", |s| (s.get("/nodes/n1")["connected"] == true).then_some(()));
    }
    wait_for_exact(&mut stage, &outside.0, &ids);
}
