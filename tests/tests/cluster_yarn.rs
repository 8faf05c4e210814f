//! A YARN cluster that Trimtab scales: real ResourceManager, NodeManagers and jobs, the real agent and autoscaler.
//!
//! Needs the lab with Hadoop's masters alone: `cargo xtask lab-test yarn` starts it and says where it is in `TRIMTAB_LAB`.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::Stage;
use support::lab::{self, Job};

/// Two that advertise what others on the node leave, of so much memory and so many virtual cores at least and at most.
fn by_what_is_left(least: (&str, u32), most: (&str, u32)) -> String {
    let offer = |(memory, vcores): (&str, u32)| format!("{{ memory: {memory}, vcores: {vcores} }}");
    let advertise =
        format!("    advertise: {{ least: {}, most: {}, vcoresPerCore: 30 }}\n", offer(least), offer(most));
    lab::batch(2).replace("    drain: 10m\n", &format!("    drain: 10m\n{advertise}"))
}

/// How far something is.
enum Gets<T> {
    /// Not there; what it says of itself.
    On(String),
    There(T),
}

struct Yarn {
    stage: Stage,
    killed: u64,
    failed_jobs: u64,
}

impl Yarn {
    fn change(&self) -> Value {
        self.stage.status("batch")["cluster"]["change"].clone()
    }

    /// Waits until exactly so many nodes are members, and none comes or goes.
    fn settled(&mut self, count: u64) {
        self.stage.wait_for("batch", count);
    }

    /// Waits for a job's end, by its client's word; what was killed of it is counted.
    fn finished(&mut self, job: &mut Job, maps: u64) {
        let (good, counters) = self.until_there("the end of a job", |_| match job.ended() {
            None => Gets::On(job.said().to_string()),
            Some(ended) => Gets::There(ended),
        });
        println!("job: succeeded {good}, {counters:?}");
        self.failed_jobs +=
            u64::from(!good || counters.get("Launched map tasks").copied().unwrap_or(0) < maps);
        self.killed += counters.get("Killed map tasks").copied().unwrap_or(0);
    }

    /// Waits until `question` is answered; patience begins anew with each word that is new.
    fn until_there<T>(&mut self, what: &str, mut question: impl FnMut(&mut Stage) -> Gets<T>) -> T {
        let mut last = String::new();
        loop {
            let news =
                self.stage.until(&format!("{what}, which was at {last:?}"), |stage| match question(stage) {
                    Gets::On(word) if word == last => None,
                    news => Some(news),
                });
            match news {
                Gets::There(answer) => return answer,
                Gets::On(word) => last = word,
            }
        }
    }

    /// The newest change that is over.
    fn last(&self) -> Value {
        self.stage.status("batch")["cluster"]["past"][0].clone()
    }
}

fn open(lab: &Path) -> Option<Yarn> {
    let mut stage = lab::whole(lab)?;
    // DataNodes for the jobs' files.
    stage.put("store", &lab::store(2));
    stage.put("batch", &lab::batch(3));
    stage.wait_for("store", 2);
    stage.wait_for("batch", 2);
    stage.until("how long containers wait", |s| s.status("batch")["load"]["containerWaitMs"].as_f64());
    Some(Yarn { stage, killed: 0, failed_jobs: 0 })
}

/// Virtual cores that NodeManagers advertise and that are in use, by the list of nodes: the cluster's sum never falls below what is in use.
fn vcores() -> (u64, u64) {
    let url = "http://127.0.0.10:8088/ws/v1/cluster/nodes";
    let said: Value = ureq::get(url).call().unwrap().body_mut().read_json().unwrap();
    let nodes = said["nodes"]["node"].as_array().cloned().unwrap_or_default();
    let sum = |of: fn(&Value) -> &Value| nodes.iter().filter_map(|node| of(node).as_u64()).sum();
    (sum(|node| &node["totalResource"]["vCores"]), sum(|node| &node["usedVirtualCores"]))
}

/// What all CPUs of this machine have worked since its boot, s.
fn busy_cpu_s() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap();
    let mut ticks =
        text.lines().next().unwrap().split_whitespace().skip(1).map(|n| n.parse::<u64>().unwrap());
    // User, nice and system; then come idle and what is counted elsewhere, too. In hundredths of a second.
    ticks.by_ref().take(3).sum::<u64>() / 100
}

/// Others take the node's CPUs while a job has all that was advertised: less is advertised than is in use, and everything runs to its own end.
fn others_come_and_go(lab: &Path, yarn: &mut Yarn) -> Value {
    // To begin with whatever else runs here: that many.
    yarn.stage.put("batch", &by_what_is_left(("1536Mi", 6), ("1536Mi", 6)));
    yarn.stage.until("all that may be advertised", |_| (vcores().0 == 12).then_some(()));
    let mut job = Job::sleep(lab, 9, 60);
    yarn.stage.until("a job that has its containers", |_| (vcores().1 == 10).then_some(()));
    let spin = support::bin("e2e-task");
    let cpus = std::thread::available_parallelism().unwrap().get();
    let others: Vec<u32> =
        (0..cpus).map(|n| yarn.stage.run(&format!("other-{n}"), Command::new(&spin).arg("busy"))).collect();
    yarn.stage.put("batch", &by_what_is_left(("1Gi", 2), ("1536Mi", 6)));
    let (left, used) = yarn.stage.until("less than is in use", |_| {
        let (all, used) = vcores();
        (used > all).then_some((all, used))
    });
    let said = yarn.stage.get("/workloads/batch/explain").to_string();
    assert!(said.contains("others count with"), "{said}");
    // Best-effort work gets next to nothing beside them: it could end, but not soon.
    for other in others {
        yarn.stage.end(other);
    }
    yarn.finished(&mut job, 9);
    // What else works on this machine counts with its CPUs, too: as long as something does, that is waited for.
    let again = yarn.until_there("more than others had left", |_| match vcores().0 {
        all if all > left => Gets::There(all),
        _ => Gets::On(format!("{} hundred busy CPU-seconds", busy_cpu_s() / 100)),
    });
    // As the lab's nodes are by themselves.
    yarn.stage.put("batch", &by_what_is_left(("1Gi", 4), ("1Gi", 4)));
    yarn.stage.until("what nodes had before", |_| (vcores().0 == 8).then_some(()));
    yarn.stage.put("batch", &lab::batch(3));
    json!({ "advertised": 12, "in_use": used, "advertised_while_others_work": left,
            "advertised_again": again, "containers_killed": yarn.killed })
}

/// Containers of NodeManagers that Trimtab started are measured by themselves, each as what it is and with whose it is.
fn counted_one_by_one(yarn: &mut Yarn) {
    let (master, tasks) = yarn.stage.until("a master and tasks with their use", |stage| {
        let rows = stage.get("/tasks?node=n1&limit=1000")["items"].as_array()?.clone();
        let uses = |id: &Value| {
            let row = rows.iter().find(|row| row["name"] == *id && row["workload"] == "batch")?;
            let by = row["task"].as_str().is_some_and(|task| task.starts_with("batch-"));
            row["cpuCores"].as_f64().filter(|_| by)
        };
        let containers = stage.get("/containers")["items"].as_array()?.clone();
        let of = |role: &str| -> Vec<f64> {
            let these = containers.iter().filter(|c| c["labels"]["yarn.role"] == role);
            these.filter_map(|c| uses(&c["id"])).collect()
        };
        let (masters, tasks) = (of("master"), of("task"));
        Some((*masters.first()?, tasks)).filter(|(_, tasks)| tasks.len() > 1)
    });
    println!("the master uses {master:.3} cores, {} tasks {:.3}", tasks.len(), tasks.iter().sum::<f64>());
}

#[test]
fn it_grows_with_what_waits_and_shrinks_without_killing_anything() {
    let Some(lab) = lab::directory() else { return };
    let Some(mut yarn) = open(&lab) else { return };

    let vertical = others_come_and_go(&lab, &mut yarn);
    println!("{vertical}");

    // More than two nodes can hold: a third one comes, and everything is done.
    let began = Instant::now();
    let mut wave = Job::sleep(&lab, 24, 15);
    yarn.stage.until("a third node", |s| (s.status("batch")["up"] == 3).then_some(()));
    println!("third node after {:.0} s", began.elapsed().as_secs_f64());
    counted_one_by_one(&mut yarn);
    yarn.finished(&mut wave, 24);

    // A job that runs on while the third one goes; the autoscaler and the agent die meanwhile.
    let mut steady = Job::sleep(&lab, 3, 100);
    yarn.stage.until("a node that leaves", |s| (s.status("batch")["leaving"] == 1).then_some(()));
    println!("{}", yarn.change());
    yarn.stage.kill_autoscaler();
    yarn.stage.start_autoscaler();
    yarn.stage.until("the change after a restart", |s| (s.status("batch")["leaving"] == 1).then_some(()));
    yarn.stage.kill_agent();
    yarn.stage.start_agent();
    yarn.settled(2);
    let left = yarn.last();
    println!("{left}");
    assert_eq!((&left["direction"], &left["ended"]), (&json!("in"), &json!("done")), "{left}");
    yarn.finished(&mut steady, 3);
    if !lab::short() {
        manager_dies(&lab, &mut yarn);
    }
    let (failed, am_killed) = lab::applications();
    let measured = json!({
        "jobs_failed": yarn.failed_jobs + failed,
        "containers_killed_by_us": yarn.killed,
        "am_killed": am_killed,
        "vertical": vertical,
        "drain_s": left["tookMs"].as_u64().unwrap() / 1_000,
        "estimate_s": left["estimateS"],
    });
    lab::report(&measured);
    assert_eq!((&measured["jobs_failed"], &measured["containers_killed_by_us"]), (&json!(0), &json!(0)));
    assert_eq!(measured["am_killed"], 0);
}

/// The ResourceManager dies while a node drains: it forgets the grace, and may kill what runs there; that is said, and the change comes to its
/// end all the same.
fn manager_dies(lab: &Path, yarn: &mut Yarn) {
    // A new ResourceManager knows nothing of containers of a node that it never let in: their ApplicationMaster has to miss them by itself.
    let _wave = Job::sleep_with(lab, &["mapreduce.task.timeout=60000"], 12, 60);
    yarn.stage.until("a third node", |s| (s.status("batch")["up"] == 3).then_some(()));
    yarn.stage.put("batch", &lab::batch(2));
    yarn.stage.until("a node that drains", |s| {
        (s.status("batch")["cluster"]["change"]["state"] == "draining").then_some(())
    });
    let (pid, mut command) = lab::process(&lab.join("hadoop/pids/rm.json"));
    support::signal(pid, Signal::KILL);
    yarn.stage.until("the end of the ResourceManager", |_| {
        (!Path::new(&format!("/proc/{pid}/cwd")).exists()).then_some(())
    });
    yarn.stage.run("rm-again", &mut command);
    yarn.settled(2);
    let past = yarn.stage.status("batch")["cluster"]["past"].clone();
    println!("{past}");
    let again = past.as_array().unwrap().iter().find(|change| change["direction"] == "in").unwrap().clone();
    let told = yarn.stage.get("/decisions?workload=batch").to_string();
    assert_eq!((&again["direction"], &again["ended"]), (&json!("in"), &json!("done")), "{again}\n{told}");
    // Those that only had to come back were waited for.
    assert_eq!(past[0], again, "{told}");
    assert!(told.contains("started anew and forgot the drain"), "{told}");
    // Its client may have lost sight of it: the new ResourceManager knows.
    yarn.until_there("the end of the job, by the ResourceManager", |_| {
        let running: Vec<String> = lab::apps()
            .iter()
            .filter(|app| app["finalStatus"] == "UNDEFINED")
            .map(|app| app["progress"].to_string())
            .collect();
        if running.is_empty() { Gets::There(()) } else { Gets::On(running.join(" ")) }
    });
}
