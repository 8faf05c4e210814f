//! The disk fills up under the service: it does nothing and says so, and works again when there is space.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use autoscaler::replay;
use autoscaler::store::Reader;

use support::{Service, worker};

/// The service in a mount namespace of its own, with a small file system as its state directory.
fn on_small_disk(state: &Path) -> Option<Command> {
    let mounts = Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    if !mounts {
        println!("SKIPPED: mount namespaces need root and unshare(1)");
        return None;
    }
    let mut command = Command::new("unshare");
    let script = format!("mount -t tmpfs -o size=6m tmpfs {0} && exec \"$0\" \"$@\"", state.display());
    command.args(["-m", "sh", "-c", &script, env!("CARGO_BIN_EXE_trimtab-autoscaler")]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    Some(command)
}

#[test]
fn a_full_disk_freezes_and_says_so_and_space_thaws() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let config = dir.path().join("a.toml");
    std::fs::write(&config, "round = \"100ms\"\n").unwrap();
    let Some(command) = on_small_disk(&state) else { return };
    let service = Service::start_behind(command, &state, &["--config", config.to_str().unwrap()]);
    // The state directory as the service sees it.
    let inside = PathBuf::from(format!("/proc/{}/root{}", service.pid(), state.display()));
    assert_eq!(service.put("jobs", &worker(2, 5), &[]).status, 201);

    let mut filler = std::fs::File::create(inside.join("filler")).unwrap();
    while filler.write_all(&[7; 4096]).is_ok() {}
    let reason = service.until("frozen", |service| {
        let (status, ready) = service.get("/readyz");
        (status == 503).then(|| ready["reasons"][0].as_str().unwrap_or_default().to_owned())
    });
    assert!(reason.contains("frozen") && reason.contains("full"), "{reason}");
    let status = service.get("/api/v1/status").1;
    assert_eq!(status["state"], "frozen");
    assert!(service.get("/api/v1/decisions").1["frozen"].is_string());
    assert!(service.get("/api/v1/workloads/jobs/explain").1["frozen"].is_string());
    assert!(service.request("GET", "/metrics", &[], "").body.contains("trimtab_frozen 1"));
    let refused = service.put("jobs", &worker(3, 5), &[]);
    assert_eq!((refused.status, refused.json()["type"].as_str()), (503, Some("urn:trimtab:problem:frozen")));
    assert!(refused.body.contains("free space"), "{}", refused.body);

    std::thread::sleep(std::time::Duration::from_millis(500));
    drop(filler);
    std::fs::remove_file(inside.join("filler")).unwrap();
    service.until("thawed", |service| (service.get("/readyz").0 == 200).then_some(()));
    assert!(service.request("GET", "/metrics", &[], "").body.contains("trimtab_frozen 0"));
    assert_eq!(service.put("jobs", &worker(3, 5), &[]).status, 200);

    // Nothing of the frozen time is lost, and plans still follow from their inputs.
    let copy = dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for file in ["trimtab.db", "trimtab.db-wal"] {
        let _ = std::fs::copy(inside.join(file), copy.join(file));
    }
    service.kill();
    let reader = Reader::of(&copy);
    let first = reader.segments().unwrap()[0];
    let replayed = replay::segment(&reader, first, i64::MAX).unwrap().unwrap();
    assert!(replayed.rounds > replayed.plans, "while frozen the brain was told, but not asked");
    assert_eq!(replayed.differed, 0);
}
