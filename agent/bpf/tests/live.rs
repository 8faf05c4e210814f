//! On this kernel: what the programs say is compared with what the kernel's own files say.
#![allow(missing_docs)]
use agent_bpf::abi::event::EventKind;
use agent_bpf::abi::histogram::BUCKETS;
use agent_bpf::{Feature, KernelProbe, ProbeConfig, Visit};
use std::path::Path;

const V2: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

fn root() -> &'static str {
    V2.into_iter().find(|p| Path::new(p).join("cgroup.procs").exists()).unwrap()
}

#[test]
fn smoke() {
    let t = std::time::Instant::now();
    let mut probe = KernelProbe::load(&ProbeConfig::new(root())).unwrap();
    println!("load {:?}", t.elapsed());
    for f in probe.features() {
        println!("{f}");
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    let dir = Path::new(root()).join(format!("trimtab-test-{}-smoke", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let t = std::time::Instant::now();
    let r = probe.read_cgroups(|r| println!("{r:?}")).unwrap();
    println!("{r:?} {:?}", t.elapsed());
    std::fs::remove_dir(&dir).unwrap();
    probe.drain_events(|k, e| println!("{k:?} {e:?}"));
    let _ = EventKind::Created;
    let t = std::time::Instant::now();
    probe.scan_runq().unwrap();
    println!("scan {:?}", t.elapsed());
    probe.for_each_runq(Visit::All, |r| {
        let mut h = [0; BUCKETS];
        r.add_histogram(&mut h);
        println!("{} {:?} {:?}", r.cgroup_id, r.totals, h.iter().sum::<u32>())
    });
    println!("{:?}", probe.counters());
    probe.program_costs(|c| println!("{c:?}")).unwrap();
    println!("{}", probe.map_bytes());
    println!(
        "{}",
        std::fs::read_to_string("/proc/self/status")
            .unwrap()
            .lines()
            .filter(|l| l.starts_with("VmRSS") || l.starts_with("Rss") || l.starts_with("VmHWM"))
            .collect::<Vec<_>>()
            .join(" ")
    );
    assert!(probe.is_active(Feature::RunQueue));
}
