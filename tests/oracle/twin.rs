//! Compiles and loads the oracle, runs a load that both sides see, and compares cgroup by cgroup.

use agent_abi::histogram::BUCKETS;
use agent_bpf::{KernelProbe, ProbeConfig};
use libbpf_rs::{MapCore, MapFlags, ObjectBuilder};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

/// Words of `struct totals` before its histogram.
const SUMS: usize = 3;

/// What one side counted for a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counted {
    oncpu_ns: u64,
    delay_ns: u64,
    switches: u64,
    hist: [u32; BUCKETS],
}

/// Cgroups with a load of their own kind: one that hands over, one that computes, one that sleeps, one that forks.
const LOADS: [(&str, &str); 4] = [
    ("handing-over", "yes | head -c 30000000 | tr y n | wc -c >/dev/null"),
    ("computing", "for n in 1 2 3; do (i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done) & done; wait"),
    ("sleeping", "i=0; while [ $i -lt 150 ]; do sleep 0.002; i=$((i+1)); done"),
    ("forking", "i=0; while [ $i -lt 300 ]; do (true); i=$((i+1)); done"),
];

/// Fails when the two sides disagree.
pub(crate) fn compare(root: &Path) {
    let Some(object) = compile() else { return };
    let oracle = ObjectBuilder::default().open_file(&object).unwrap().load().unwrap();
    let link = oracle.progs_mut().next().unwrap().attach().unwrap();
    let mut probe = KernelProbe::load(&ProbeConfig::new(root)).unwrap();
    let misses_before = probe.counters().guard_misses;

    // Cgroups are made after both sides count, and are empty before either is read: no switch is seen by one side only.
    let groups: Vec<_> = LOADS.iter().map(|(name, _)| Group::new(root, name)).collect();
    let running: Vec<_> = groups.iter().zip(LOADS).map(|(group, (_, script))| group.spawn(script)).collect();
    for mut child in running {
        assert!(child.wait().unwrap().success());
    }
    groups.iter().for_each(Group::wait_empty);
    std::thread::sleep(Duration::from_millis(50));
    probe.scan_runq().unwrap();

    let misses = probe.counters().guard_misses - misses_before;
    let totals = oracle.maps().find(|map| map.name() == "totals_by_cgroup").unwrap();
    for (group, (name, _)) in groups.iter().zip(LOADS) {
        let per_cpu = totals.lookup_percpu(&group.id.to_ne_bytes(), MapFlags::ANY).unwrap();
        let theirs = merged(&per_cpu.unwrap_or_else(|| panic!("the oracle saw no switch in {name}")));
        let runq = probe.runq(group.id).unwrap_or_else(|| panic!("no switch was counted in {name}"));
        let mut hist = [0; BUCKETS];
        runq.add_histogram(&mut hist);
        let ours = Counted {
            oncpu_ns: runq.totals.oncpu_ns,
            delay_ns: runq.totals.delay_ns,
            switches: runq.totals.switches,
            hist,
        };
        println!(
            "{name}: {} switches, delay {} ns, on CPU {} ns (oracle {}), {misses} hidden switches",
            ours.switches, ours.delay_ns, ours.oncpu_ns, theirs.oncpu_ns
        );
        assert!(ours.switches > 10, "{name} is no load");
        assert_eq!(ours.switches, theirs.switches, "{name}: number of waits");
        assert_eq!(ours.delay_ns, theirs.delay_ns, "{name}: sum of waits");
        assert_eq!(ours.hist, theirs.hist, "{name}: waits by length");
        assert_eq!(ours.oncpu_ns, theirs.oncpu_ns, "{name}: time on CPU");
    }
    drop(link);
}

/// The object file, or `None` with the reason printed when there is no compiler.
///
/// `TRIMTAB_ORACLE_OBJECT` names one that was compiled elsewhere: a guest has no compiler.
fn compile() -> Option<PathBuf> {
    if let Some(object) = std::env::var_os("TRIMTAB_ORACLE_OBJECT") {
        return Some(object.into());
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/switch.bpf.c");
    let object = Path::new(env!("CARGO_TARGET_TMPDIR")).join("switch.bpf.o");
    for clang in ["clang", "clang-19"] {
        let status = Command::new(clang)
            .args(include_str!("clang-flags.txt").split_whitespace())
            .arg(&source)
            .arg("-o")
            .arg(&object)
            .status();
        match status {
            Ok(status) => {
                assert!(status.success(), "{clang} does not compile {}", source.display());
                return Some(object);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("{clang}: {error}"),
        }
    }
    eprintln!("SKIP: no clang");
    None
}

fn merged(per_cpu: &[Vec<u8>]) -> Counted {
    let mut sum = Counted { oncpu_ns: 0, delay_ns: 0, switches: 0, hist: [0; BUCKETS] };
    for value in per_cpu {
        let word = |index: usize| u64::from_ne_bytes(value[index * 8..index * 8 + 8].try_into().unwrap());
        sum.oncpu_ns += word(0);
        sum.delay_ns += word(1);
        sum.switches += word(2);
        for (bucket, bytes) in sum.hist.iter_mut().zip(value[SUMS * 8..].chunks_exact(4)) {
            *bucket += u32::from_ne_bytes(bytes.try_into().unwrap());
        }
    }
    sum
}

/// A cgroup of this test, removed when it is dropped.
struct Group {
    path: PathBuf,
    id: u64,
}

impl Group {
    fn new(root: &Path, name: &str) -> Self {
        let path = root.join(format!("trimtab-test-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        let id = fs::metadata(&path).unwrap().ino();
        Self { path, id }
    }

    fn spawn(&self, script: &str) -> Child {
        let script = format!("echo 0 > {}/cgroup.procs && {{ {script}; }}", self.path.display());
        Command::new("sh").args(["-c", &script]).spawn().unwrap()
    }

    fn wait_empty(&self) {
        for _ in 0..500 {
            if fs::read_to_string(self.path.join("cgroup.procs")).unwrap().is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{} did not become empty", self.path.display());
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let removed = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            fs::remove_dir(&self.path).is_ok()
        });
        if !removed {
            eprintln!("could not remove {}", self.path.display());
        }
    }
}
