//! An agent that restarts loses no count: the pinned program goes on, and the next one takes its regions over.
#![allow(missing_docs, clippy::unwrap_used)]
mod cgroup;

use agent_bpf::{KernelProbe, ProbeConfig};
use cgroup::{TestCgroup, root_or_skip};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const BUSY: &str = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done";

/// Mounts a bpf file system in a mount namespace of this thread's own; false when that is not allowed.
fn mount_bpffs(at: &Path) -> bool {
    let at = CString::new(at.as_os_str().as_bytes()).unwrap();
    // SAFETY: plain system calls with C strings; the namespace ends with this thread.
    unsafe {
        libc::unshare(libc::CLONE_NEWNS | libc::CLONE_FS) == 0
            && libc::mount(
                c"none".as_ptr(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            ) == 0
            && libc::mount(c"bpf".as_ptr(), at.as_ptr(), c"bpf".as_ptr(), 0, std::ptr::null()) == 0
    }
}

#[test]
fn counts_go_on_across_a_restart() {
    let Some(root) = root_or_skip() else { return };
    let directory = tempfile::tempdir().unwrap();
    if !mount_bpffs(directory.path()) {
        eprintln!("SKIP: cannot mount a bpf file system: {}", std::io::Error::last_os_error());
        return;
    }
    let pin_dir = directory.path().join("trimtab");
    let mut config = ProbeConfig::new(&root);
    config.pin_dir = Some(pin_dir.clone());
    let group = TestCgroup::new(&root);
    let run = || {
        assert!(group.spawn(BUSY).wait().unwrap().success());
        group.wait_empty();
        std::thread::sleep(std::time::Duration::from_millis(20));
    };

    let mut first = KernelProbe::load(&config).unwrap();
    assert!(!first.has_adopted());
    run();
    first.scan_runq().unwrap();
    let before = first.runq(group.id()).unwrap().totals;
    assert!(before.oncpu_ns > 0);
    drop(first);

    run(); // Nobody is there, but the kernel counts.

    let mut second = KernelProbe::load(&config).unwrap();
    for report in second.features() {
        assert!(report.is_active(), "{report}");
    }
    assert!(second.has_adopted());
    second.scan_runq().unwrap();
    let after = second.runq(group.id()).unwrap().totals;
    assert!(after.switches > before.switches);
    let file = group.usage_us();
    let counted = after.oncpu_ns / 1000;
    assert!(counted.abs_diff(file) * 20 <= file, "on CPU {counted} µs, cpu.stat {file} µs for both runs");
    drop(second);

    KernelProbe::unpin(&pin_dir).unwrap();
    let third = KernelProbe::load(&config).unwrap();
    assert!(!third.has_adopted(), "unpinned: counting began anew");
    KernelProbe::unpin(&pin_dir).unwrap();
}

#[test]
fn half_a_set_of_pins_is_replaced() {
    let Some(root) = root_or_skip() else { return };
    let directory = tempfile::tempdir().unwrap();
    if !mount_bpffs(directory.path()) {
        eprintln!("SKIP: cannot mount a bpf file system: {}", std::io::Error::last_os_error());
        return;
    }
    let mut config = ProbeConfig::new(&root);
    config.pin_dir = Some(directory.path().to_owned());
    drop(KernelProbe::load(&config).unwrap());
    let sets = || -> Vec<_> {
        // A bpf file system has files of its own beside ours.
        let entries = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).collect()
    };
    let [pins] = sets().try_into().unwrap();
    std::fs::remove_file(pins.join("link")).unwrap();
    // A set left by another build.
    std::fs::create_dir(directory.path().join("switch-0000000000000000")).unwrap();

    let probe = KernelProbe::load(&config).unwrap();
    assert!(!probe.has_adopted());
    assert!(probe.features().iter().all(agent_bpf::FeatureReport::is_active));
    assert_eq!(sets(), [pins]);
    KernelProbe::unpin(directory.path()).unwrap();
}
