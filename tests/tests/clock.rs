//! The wall clock jumps: no replica comes or goes because of it, no total shrinks, and measuring goes on.
//!
//! Only on a machine whose clock belongs to the test: `cargo xtask vm` (suite `node`) says so by `TRIMTAB_OWN_MACHINE`.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, SystemTime};

use support::Stage;

const HOUR_S: i64 = 3_600;
const YEAR_S: i64 = 365 * 24 * HOUR_S;
/// After each jump, several rounds of everything that runs each second.
const AFTER: Duration = Duration::from_secs(6);

/// Moves the wall clock.
fn jump(seconds: i64) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let status = Command::new("date").args(["-u", "-s", &format!("@{}", now + seconds)]).status().unwrap();
    assert!(status.success(), "the clock cannot be set");
}

fn totals(stage: &Stage) -> BTreeMap<u64, u64> {
    stage.live_totals("jobs").into_iter().collect()
}

#[test]
fn a_jump_of_the_wall_clock_changes_nothing() {
    if std::env::var_os("TRIMTAB_OWN_MACHINE").is_none() {
        println!("SKIP: this machine's clock is not the test's (run `cargo xtask vm --suite node`)");
        return;
    }
    let Some(mut stage) = Stage::start() else { return };
    stage.service("burn", 4);
    stage.wait_for("jobs", 4);
    // One would do, and after 45 minutes of that it would shrink: a jump of an hour is none of them.
    stage.service_within("burn", (1, 4), "45m");
    let pids = stage.ledger.pids();
    for (number, seconds) in [HOUR_S, -2 * HOUR_S, HOUR_S, YEAR_S, -YEAR_S].into_iter().enumerate() {
        let before = totals(&stage);
        jump(seconds);
        if number == 1 {
            // The next epoch begins at an earlier time than the journal ends.
            stage.kill_autoscaler();
            stage.start_autoscaler();
            stage.until("the node", |s| (s.get("/nodes/n1")["connected"] == true).then_some(()));
        }
        stage.until("growing totals of every task", |s| {
            let now = totals(s);
            before.iter().all(|(id, us)| now.get(id).is_some_and(|now| now > us)).then_some(())
        });
        let until = std::time::Instant::now() + AFTER;
        let mut last = totals(&stage);
        while std::time::Instant::now() < until {
            let now = totals(&stage);
            for (id, us) in &last {
                assert!(now.get(id).is_none_or(|now| now >= us), "cgroup {id} after a jump of {seconds} s");
            }
            last.extend(now);
            assert_eq!(stage.ledger.pids(), pids, "the same replicas after a jump of {seconds} s");
            std::thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(stage.get("/nodes/n1")["connected"], true, "after a jump of {seconds} s");
    }
    assert!(stage.ended("jobs").is_empty(), "none is said to have ended");
    // And it still obeys, with exact totals.
    stage.service("burn", 1);
    stage.wait_for("jobs", 1);
    stage.compare_ended("jobs", 3);
}
