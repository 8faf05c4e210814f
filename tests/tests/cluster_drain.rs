//! A node is emptied of its members of clusters: real NodeManager, DataNode and job, two agents with a slice of cgroups each.
//!
//! Needs the lab with Hadoop's masters alone: `cargo xtask lab-test drain` starts it and says where it is in `TRIMTAB_LAB`.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::time::Instant;

use serde_json::{Value, json};
use support::Stage;
use support::lab::{self, Job, Missing};

const CLUSTERS: [(&str, &str); 2] = [("batch", "yarn"), ("store", "hdfs")];

/// Members that take their share, by the one that keeps the list; `None` when it could not be asked.
fn in_service(stage: &Stage, kind: &str) -> Option<u64> {
    let members = stage.try_get("/members")?["items"].as_array()?.clone();
    let of_it: Vec<&Value> = members.iter().filter(|member| member["kind"] == kind).collect();
    let serving = of_it.iter().filter(|member| member["inService"] == true).count();
    Some(serving as u64).filter(|_| !of_it.is_empty())
}

#[test]
fn its_members_leave_with_their_data_and_after_their_work() {
    let Some(lab) = lab::directory() else { return };
    let Some(mut stage) = lab::whole(&lab) else { return };
    let Some(mut other) = lab::beside(&lab, &stage, "n2") else { return };
    stage.until("both nodes", |s| {
        let nodes = s.get("/nodes")["items"].as_array()?.clone();
        (nodes.iter().filter(|node| node["connected"] == true).count() == 2).then_some(())
    });
    stage.put("store", &lab::store(2));
    stage.put("batch", &lab::batch(2));
    for (workload, _) in CLUSTERS {
        stage.wait_for(workload, 2);
        assert_eq!(
            (lab::on(&stage, workload, "n1"), lab::on(&stage, workload, "n2")),
            (1, 1),
            "{workload} is spread"
        );
    }
    let files = lab::write_files(&lab, 8, 8 << 20);
    let missing = Missing::watch();
    // Longer than everything else takes: where it runs, its containers are waited for.
    let mut job = Job::sleep(&lab, 5, 60);
    let uses = |stage: &Stage| Some(stage.try_get("/containers")?["items"].as_array()?.len());
    stage.until("a job that has its containers", |s| (uses(s)? >= 6).then_some(()));

    let began = Instant::now();
    let said = stage.says(&["drain", "n2", "--reason", "a new kernel"]);
    assert!(said.contains("2 left"), "{said}");
    let mut least = CLUSTERS.map(|(_, kind)| in_service(&stage, kind).unwrap());
    let mut died = false;
    lab::emptied(&mut stage, "n2", &CLUSTERS.map(|(workload, _)| workload), |s, left| {
        for (least, (_, kind)) in least.iter_mut().zip(CLUSTERS) {
            *least = in_service(s, kind).map_or(*least, |now| now.min(*least));
        }
        // One has left; both die before the other one has.
        if left == 1 && !std::mem::replace(&mut died, true) {
            s.kill_autoscaler();
            other.kill_agent();
            s.start_autoscaler();
            other.start_agent();
        }
    });
    assert!(died, "both left at once");
    let took = began.elapsed();
    stage.says(&["drain", "n2", "--reason", "a new kernel", "--wait"]);
    let populated = std::fs::read_to_string(other.slice.join("cgroup.events")).unwrap();
    assert!(populated.contains("populated 0"), "something runs on, by the kernel: {populated}");
    for (workload, _) in CLUSTERS {
        stage.wait_for(workload, 2);
        assert_eq!((lab::on(&stage, workload, "n1"), lab::on(&stage, workload, "n2")), (2, 0), "{workload}");
    }
    lab::same_files(&lab, &files);
    let (good, counters) = stage.until("the end of the job", |_| job.ended());
    println!("job: succeeded {good}, {counters:?}");
    let (failed, am_killed) = lab::applications();

    stage.says(&["uncordon", "n2"]);
    stage.put("store", &lab::store(3));
    stage.wait_for("store", 3);
    assert_eq!(lab::on(&stage, "store", "n2"), 1, "it is used again");

    let (yarn, hdfs) = (lab::went(&stage, "batch"), lab::went(&stage, "store"));
    let measured = json!({
        "jobs_failed": failed + u64::from(!good),
        "containers_killed_by_us": counters.get("Killed map tasks").copied().unwrap_or(0),
        "am_killed": am_killed,
        "missing_blocks": missing.most(),
        "files_differing": 0,
        "least_in_service": least,
        "node_empty_s": took.as_secs(),
        "yarn_s": yarn["tookMs"].as_u64().unwrap() / 1_000,
        "yarn_estimate_s": yarn["estimateS"],
        "hdfs_s": hdfs["tookMs"].as_u64().unwrap() / 1_000,
        "hdfs_estimate_s": hdfs["estimateS"],
    });
    lab::report(&measured);
    for none in ["jobs_failed", "containers_killed_by_us", "am_killed", "missing_blocks"] {
        assert_eq!(measured[none], 0, "{none}");
    }
    assert_eq!(least, [2, 2], "members in service, by their masters, at every moment of the drain");
}
