//! A host without process ids: no thread can be started, and both services go on.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::{Stage, kernel};

/// Longer than a thread that has nothing to do is kept by the runtime, if it is not told otherwise (tokio: 10 s).
const IDLE: Duration = Duration::from_secs(13);

/// A group in which nothing can be started, made for one process; removed when dropped.
struct Full(PathBuf);

impl Full {
    /// Moves the process into a group that is as large as it is now; `None` after saying why not.
    fn around(pid: u32, name: &str) -> Option<Self> {
        let unified = kernel::unified_mount().unwrap();
        let v1 = Path::new("/sys/fs/cgroup/pids");
        let root = if v1.join("cgroup.procs").exists() {
            v1.to_owned()
        } else {
            if fs::write(unified.join("cgroup.subtree_control"), "+pids").is_err() {
                println!("SKIP: no controller of process ids on this host");
                return None;
            }
            unified
        };
        let group = Self(root.join(format!("trimtab-e2e-{}-{name}", std::process::id())));
        fs::create_dir(&group.0).unwrap();
        fs::write(group.0.join("cgroup.procs"), pid.to_string()).unwrap();
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().count();
        assert_eq!(fs::read_to_string(group.0.join("pids.current")).unwrap().trim(), threads.to_string());
        fs::write(group.0.join("pids.max"), threads.to_string()).unwrap();
        Some(group)
    }

    /// Times that something could not be started.
    fn refused(&self) -> u64 {
        let text = fs::read_to_string(self.0.join("pids.events")).unwrap();
        text.lines().find_map(|line| line.strip_prefix("max ")?.parse().ok()).unwrap()
    }

    fn open(&self) {
        fs::write(self.0.join("pids.max"), "max").unwrap();
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::remove_dir(&self.0).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn without_process_ids_both_services_go_on() {
    // Dropped after the stage, which ends what is in them.
    let (of_autoscaler, of_agent);
    let Some(mut stage) = Stage::start() else { return };
    stage.service("burn", 1);
    stage.wait_for("jobs", 1);
    std::thread::sleep(IDLE);
    let (agent, autoscaler) = (stage.agent_pid(), stage.autoscaler_pid());
    of_autoscaler = Full::around(autoscaler, "autoscaler");
    of_agent = Full::around(agent, "agent");
    let (Some(of_autoscaler), Some(of_agent)) = (&of_autoscaler, &of_agent) else { return };
    let rounds = stage.until("rounds", |s| s.agent_metric("rounds_total"));
    // Each question to the store needs a thread.
    for _ in 0..3 {
        stage.get("/decisions");
        stage.get("/history?metric=cpu_time_us");
    }
    // What ends cannot be started anew: that is said, and tried again.
    stage.ledger.pids().values().for_each(|pid| support::signal(*pid, rustix::process::Signal::KILL));
    stage.until("a start that the node refuses", |_| (of_agent.refused() > 0).then_some(()));
    stage.until("more rounds", |s| (s.agent_metric("rounds_total")? >= rounds + 15.0).then_some(()));
    stage.get("/decisions");
    assert!(stage.lives("agent") && stage.lives("autoscaler"));
    assert_eq!((stage.agent_pid(), stage.autoscaler_pid()), (agent, autoscaler));
    of_autoscaler.open();
    of_agent.open();
    stage.wait_for("jobs", 1);
    stage.until("the replica", |s| (s.ledger.pids().len() == 1).then_some(()));
}
