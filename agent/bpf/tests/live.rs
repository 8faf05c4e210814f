//! On this kernel: what the programs say is what the kernel's own files say.
#![allow(missing_docs, clippy::unwrap_used)]
mod cgroup;

use agent_bpf::abi::cgroup::{CgroupRecord, valid};
use agent_bpf::abi::histogram::BUCKETS;
use agent_bpf::{Executions, Feature, FeatureState, KernelProbe, ProbeConfig, ProbeError, Refusal, Visit};
use cgroup::{TestCgroup, root_or_skip};
use std::collections::BTreeMap;
use std::time::Duration;

const BUSY: &str = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done";

fn records(probe: &mut KernelProbe) -> BTreeMap<u64, CgroupRecord> {
    let mut records = BTreeMap::new();
    probe
        .read_cgroups(|record| {
            records.insert(record.id, *record);
        })
        .unwrap();
    records
}

#[test]
fn every_feature_works_on_this_kernel() {
    let Some(root) = root_or_skip() else { return };
    let probe = KernelProbe::load(&ProbeConfig::new(root)).unwrap();
    for report in probe.features() {
        // Read by `cargo xtask vm --table`.
        let state = if report.is_active() { "yes".to_owned() } else { report.to_string() };
        println!("capability: kernel programs: {} = {state}", report.feature);
    }
    for report in probe.features() {
        assert!(report.is_active(), "{report}");
    }
    assert_eq!(probe.features().len(), Feature::ALL.len());
}

/// Files of a cgroup that the agent reads or writes. None of them must be there: what a kernel lacks is done without.
#[test]
fn what_this_kernel_lets_an_agent_do_is_printed() {
    const FILES: [(&str, &str); 13] = [
        ("cpu.max", "CPU quota"),
        ("cpu.idle", "idle class of CPU"),
        ("memory.high", "reclaim above a limit"),
        ("memory.low", "protected memory"),
        ("memory.peak", "highest memory use"),
        ("memory.reclaim", "reclaim on request"),
        ("io.weight", "weight of IO"),
        ("pids.max", "limit of processes"),
        ("cpuset.cpus", "choice of CPUs"),
        ("cgroup.freeze", "freezing"),
        ("cgroup.kill", "killing a whole task"),
        ("cpu.pressure", "stalls by task"),
        ("irq.pressure", "stalls by interrupts"),
    ];
    let Some(root) = root_or_skip() else { return };
    for controller in ["cpu", "memory", "io", "pids", "cpuset"] {
        // A host that has it elsewhere (v1) shows no such file, which is what is printed.
        if std::env::var_os("TRIMTAB_OWN_MACHINE").is_some() {
            let _ = std::fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
    let group = TestCgroup::new(&root);
    assert!(group.path.join("cpu.stat").exists());
    for (file, what) in FILES {
        let there = if group.path.join(file).exists() { "yes" } else { "no" };
        println!("capability: cgroup: {what} ({file}) = {there}");
    }
}

#[test]
fn cpu_time_in_the_pass_is_the_files_to_the_microsecond() {
    let Some(root) = root_or_skip() else { return };
    let mut probe = KernelProbe::load(&ProbeConfig::new(&root)).unwrap();
    let outer = TestCgroup::new(&root);
    let inner = outer.child("inner");
    assert!(inner.spawn(BUSY).wait().unwrap().success());
    inner.wait_empty();
    // A process that has left still computes until it is gone: a pass counts when nothing was added around it.
    let seen = (0..600).find_map(|_| {
        let before = inner.usage_us();
        let seen = records(&mut probe);
        std::thread::sleep(Duration::from_millis(10));
        (inner.usage_us() == before).then_some(seen)
    });
    let seen = seen.expect("an empty group goes on computing");
    let (outer_record, inner_record) = (seen[&outer.id()], seen[&inner.id()]);
    assert!(inner.usage_us() > 0);
    assert_eq!(inner_record.cpu_ns / 1000, inner.usage_us());
    assert_eq!(outer_record.cpu_ns / 1000, outer.usage_us(), "a parent has its children's");
    assert_eq!(inner_record.parent_id, outer.id());
    assert_eq!((outer_record.level, inner_record.level), (1, 2));
    assert_eq!((outer_record.nr_descendants, inner_record.populated), (1, 0));
    assert_eq!(inner_record.valid & valid::CPU, valid::CPU);
}

#[test]
fn stalls_in_the_pass_follow_and_become_the_files() {
    let Some(root) = root_or_skip() else { return };
    let mut probe = KernelProbe::load(&ProbeConfig::new(&root)).unwrap();
    let group = TestCgroup::new(&root);
    if !group.path.join("cpu.pressure").exists() {
        eprintln!("SKIP: the kernel keeps no stalls (boot with psi=1)");
        return;
    }
    // More that want a CPU than there are CPUs.
    let busy = std::thread::available_parallelism().unwrap().get() * 2;
    let mut children: Vec<_> = (0..busy).map(|_| group.spawn("while :; do :; done")).collect();
    // Nobody reads the file meanwhile: the kernel sums up by itself.
    let mut seen = 0;
    for _ in 0..600 {
        let record = records(&mut probe)[&group.id()];
        assert_eq!(record.valid & valid::STALLS, valid::STALLS);
        seen = record.cpu_stall_ns;
        if seen > 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(seen > 0, "{busy} busy processes did not stall");
    group.wait_empty();
    let text = std::fs::read_to_string(group.path.join("cpu.pressure")).unwrap();
    let total =
        text.lines().find(|l| l.starts_with("some ")).and_then(|l| l.rsplit_once("total=")).unwrap().1;
    let record = records(&mut probe)[&group.id()];
    assert_eq!(record.cpu_stall_ns / 1000, total.parse::<u64>().unwrap());
    assert!(record.cpu_stall_ns >= seen);
}

#[test]
fn an_execution_is_told_where_it_is_watched_and_nowhere_else() {
    let Some(root) = root_or_skip() else { return };
    let mut executions = Executions::start().unwrap();
    println!("capability: kernel programs: executions = yes");
    let (watched, other) = (TestCgroup::new(&root), TestCgroup::new(&root));
    executions.watch(watched.id()).unwrap();
    other.spawn("exec true").wait().unwrap();
    let mut child = watched.spawn("exec true");
    let pid = child.id();
    child.wait().unwrap();
    let all = |executions: &mut Executions| {
        let mut seen = Vec::new();
        executions.drain(|pid, cgroup| seen.push((pid, cgroup)));
        seen
    };
    assert_eq!(all(&mut executions), [(pid, watched.id())]);
    executions.forget(watched.id());
    watched.spawn("exec true").wait().unwrap();
    assert_eq!(all(&mut executions), []);
    assert_eq!(executions.lost(), 0);
    // A ring that nobody empties loses, and counts what.
    executions.watch(watched.id()).unwrap();
    watched.spawn("i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i+1)); done").wait().unwrap();
    let seen = all(&mut executions).len() as u64;
    assert!(seen < 200, "{seen} fit into the ring");
    assert_eq!(seen + executions.lost(), 200);
}

#[test]
fn on_cpu_time_and_waits_are_counted_where_they_belong() {
    let Some(root) = root_or_skip() else { return };
    let mut probe = KernelProbe::load(&ProbeConfig::new(&root)).unwrap();
    let group = TestCgroup::new(&root);
    // Two that compete and sleep, so that there are waits.
    let children: Vec<_> = (0..2).map(|_| group.spawn(&format!("{BUSY}; sleep 0.01; {BUSY}"))).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    group.wait_empty();
    std::thread::sleep(Duration::from_millis(20));
    probe.scan_runq().unwrap();
    let runq = probe.runq(group.id()).expect("it switched");
    let (counted, file) = (runq.totals.oncpu_ns / 1000, group.usage_us());
    let mut histogram = [0; BUCKETS];
    runq.add_histogram(&mut histogram);
    assert_eq!(histogram.iter().map(|count| u64::from(*count)).sum::<u64>(), runq.totals.switches);
    assert!(runq.totals.switches >= 4, "{:?}", runq.totals);
    // The time before the shell moved itself is charged to where it ends its slice; hidden switches may take some away.
    assert!(counted.abs_diff(file) * 20 <= file, "on CPU {counted} µs, cpu.stat {file} µs");
}

#[test]
fn a_disabled_feature_is_refused_alone() {
    let Some(root) = root_or_skip() else { return };
    let mut config = ProbeConfig::new(&root);
    config.disabled_features = [Feature::RunQueue, Feature::Tree].into();
    let mut probe = KernelProbe::load(&config).unwrap();
    for report in probe.features() {
        let disabled = matches!(report.state, FeatureState::Refused(Refusal::Disabled));
        assert_eq!(disabled, config.disabled_features.contains(&report.feature), "{report}");
    }
    assert!(matches!(probe.scan_runq(), Err(ProbeError::Inactive(Feature::RunQueue))));
    probe.for_each_runq(Visit::All, |_| panic!("nothing is counted"));
    let seen = records(&mut probe);
    assert!(seen.values().all(|record| record.valid & valid::TREE == 0));
    assert!(seen.values().any(|record| record.valid & valid::PARENT != 0));
}

#[test]
fn a_pass_makes_room_for_all_cgroups() {
    let Some(root) = root_or_skip() else { return };
    let top = TestCgroup::new(&root);
    let mut config = ProbeConfig::new(&root);
    config.pass_top.clone_from(&top.path);
    config.expected_cgroups = 4;
    let mut probe = KernelProbe::load(&config).unwrap();
    let children: Vec<_> = (0..20).map(|index| top.child(&index.to_string())).collect();
    let mut ids = Vec::new();
    let report = probe.read_cgroups(|record| ids.push(record.id)).unwrap();
    assert_eq!((report.seen, report.recorded), (21, 21));
    assert_eq!(ids.first(), Some(&top.id()), "parents before children");
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 21);
    assert!(children.iter().all(|child| ids.contains(&child.id())));
}

#[test]
fn a_wrong_cgroup_root_fails_the_self_check() {
    let Some(root) = root_or_skip() else { return };
    let group = TestCgroup::new(&root);
    // Not the mount's root: this process's cgroup has another inode number there.
    let probe = KernelProbe::load(&ProbeConfig::new(&group.path)).unwrap();
    let report = probe.features().iter().find(|report| report.feature == Feature::RunQueue).unwrap();
    assert!(
        matches!(report.state, FeatureState::Refused(Refusal::SelfCheck(_) | Refusal::System { .. })),
        "{report}"
    );
    assert!(matches!(KernelProbe::load(&ProbeConfig::new("/nowhere")), Err(ProbeError::CgroupRoot { .. })));
}

#[test]
fn costs_are_measured_on_demand() {
    let Some(root) = root_or_skip() else { return };
    let mut probe = KernelProbe::load(&ProbeConfig::new(&root)).unwrap();
    probe.measure_run_time(true).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    probe.read_cgroups(|_| {}).unwrap();
    probe.measure_run_time(false).unwrap();
    let mut costs = BTreeMap::new();
    probe
        .program_costs(|cost| {
            costs.insert(cost.program, cost);
        })
        .unwrap();
    assert_eq!(costs.len(), 2);
    assert!(costs["count_switch"].runs > 0 && costs["count_switch"].run_time_ns > 0);
    assert!(costs["visit_cgroup"].runs > 0);
    assert!(probe.map_bytes() > 0 && probe.map_bytes() < 8 << 20, "{} bytes", probe.map_bytes());
}
