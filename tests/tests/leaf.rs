//! Containers of a NodeManager get cgroups of their own. A stand-in starts them as YARN's DefaultContainerExecutor does: a script that waits,
//! one that leaves the session, and `launch_container.sh`, which exports the container's environment and becomes its command. Where systemd
//! runs, the stand-in is a unit with `Delegate=yes`.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::kernel::{self, Ledger};
use support::{Stage, bin};

const MASTER: &str = "container_e17_1795246453454_0002_01_000001";
const FORKS: &str = "container_e17_1795246453454_0002_01_000002";
const LONG: &str = "container_e17_1795246453454_0002_01_000003";
const LATE: &str = "container_e17_1795246453454_0002_01_000004";

/// The stand-in for a NodeManager, with its unit's cgroup.
struct NodeManager {
    /// Folder of its containers.
    folder: PathBuf,
    /// Its cgroup's parent.
    above: PathBuf,
    cgroup: PathBuf,
    unit: Option<String>,
}

impl NodeManager {
    /// Tells the agent's configuration of the unit, which does not run yet.
    fn prepare(stage: &mut Stage) -> Self {
        let root = stage.slice.parent().unwrap().to_owned();
        let name = stage.slice.file_name().unwrap().to_string_lossy().replace(".slice", "");
        let (above, cgroup, unit) = match Path::new("/run/systemd/system").is_dir() {
            // systemd takes a slice's place from its name; one without a dash is at the top.
            true => {
                let above = root.join(format!("{}nm.slice", name.replace('-', "")));
                let unit = format!("{name}-nm.service");
                (above.clone(), above.join(&unit), Some(unit))
            }
            false => (root.join(format!("{name}-nm")), root.join(format!("{name}-nm/unit")), None),
        };
        let listed = cgroup.strip_prefix(&root).unwrap().display().to_string();
        stage.configure(&format!("leaves = [{listed:?}]\n"));
        let folder = stage.path("containers");
        fs::create_dir(&folder).unwrap();
        Self { folder, above, cgroup, unit }
    }

    fn start(&self, stage: &mut Stage, delegate: bool) {
        let script = stand_in(&self.folder);
        let mut command = match &self.unit {
            Some(unit) => {
                let mut command = Command::new("systemd-run");
                let slice = self.above.file_name().unwrap().to_string_lossy().into_owned();
                command.args(["--quiet", "--collect", "--unit", unit, "--slice", &slice]);
                command.args(["-p", if delegate { "Delegate=yes" } else { "Delegate=no" }]).arg("/bin/bash");
                command
            }
            None => {
                fs::create_dir_all(&self.cgroup).unwrap();
                let mut command = Command::new("/bin/bash");
                let join = format!("echo 0 > {}/cgroup.procs; exec /bin/bash \"$0\"", self.cgroup.display());
                command.args(["-c", &join]);
                command
            }
        };
        stage.run("nodemanager", command.arg(script));
        stage.until("the NodeManager", |_| (!pids(&self.cgroup).is_empty()).then_some(()));
    }

    /// Launches a container as DefaultContainerExecutor does; `more` is what its environment has besides.
    fn launch(&self, id: &str, more: &str, command: &str) -> PathBuf {
        launch(&self.folder, id, more, command)
    }

    fn leaves(&self) -> Vec<String> {
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        kernel::directories(&self.cgroup).iter().map(name).collect()
    }
}

impl Drop for NodeManager {
    fn drop(&mut self) {
        if let Some(unit) = &self.unit {
            let _ = Command::new("systemctl").args(["stop", unit]).status();
        }
        kernel::end_slice(&self.above);
    }
}

/// The program that starts containers.
fn stand_in(folder: &Path) -> PathBuf {
    let script = folder.join("nodemanager.sh");
    let text = format!(
        "cd {}\nwhile :; do\n  for go in */go; do\n    [ -e \"$go\" ] || continue\n    \
         rm \"$go\"; /bin/bash \"$PWD/${{go%/go}}/default_container_executor.sh\" &\n  done\n  sleep 0.05\ndone\n",
        folder.display()
    );
    fs::write(&script, text).unwrap();
    script
}

/// Launches a container as DefaultContainerExecutor does; `more` is what its environment has besides.
fn launch(folder: &Path, id: &str, more: &str, command: &str) -> PathBuf {
    // The folder has the container's name, when that is one.
    let name = if id.starts_with("container_") { id.to_owned() } else { format!("id-of-{}", id.len()) };
    let work = folder.join(name);
    fs::create_dir(&work).unwrap();
    let (w, launch) = (work.display(), work.join("launch_container.sh"));
    let outer = format!(
        "#!/bin/bash\n/bin/bash \"{w}/default_container_executor_session.sh\"\nrc=$?\n\
         echo $rc > \"{w}/exitcode.tmp\"\n/bin/mv -f \"{w}/exitcode.tmp\" \"{w}/exitcode\"\nexit $rc\n"
    );
    let session = format!(
        "#!/bin/bash\necho $$ > \"{w}/pid.tmp\"\n/bin/mv -f \"{w}/pid.tmp\" \"{w}/pid\"\n\
         exec setsid /bin/bash \"{}\"\n",
        launch.display()
    );
    let container = format!(
        "#!/bin/bash\nset -o pipefail -e\ncd \"{w}\"\nexport CONTAINER_ID='{id}'\nexport NM_PORT=\"8041\"\n{more}\n\
         mkdir -p tmp\nln -sf /etc/hostname link\n\
         exec /bin/bash -c \"{command} 1>stdout 2>stderr\"\n"
    );
    fs::write(work.join("default_container_executor.sh"), outer).unwrap();
    fs::write(work.join("default_container_executor_session.sh"), session).unwrap();
    fs::write(launch, container).unwrap();
    fs::write(work.join("go"), "").unwrap();
    work
}

/// The number of a cgroup.
fn number(cgroup: &Path) -> u64 {
    fs::metadata(cgroup).unwrap().ino()
}

/// The number of a cgroup that may not be there.
fn number_of(cgroup: &Path) -> Option<u64> {
    Some(fs::metadata(cgroup).ok()?.ino())
}

fn pids(cgroup: &Path) -> Vec<u32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn spin(ms: u32) -> String {
    format!("{} spin {ms}", bin("e2e-task").display())
}

/// Whose environment names this container, by /proc.
fn names(pid: u32, id: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|b| *b == 0).any(|pair| pair == format!("CONTAINER_ID={id}").as_bytes())
}

/// What the store has of a container that runs.
fn container(stage: &Stage, id: &str) -> Option<Value> {
    let all = stage.get("/containers");
    all["items"].as_array()?.iter().find(|c| c["id"] == id).cloned()
}

fn role(stage: &Stage, id: &str) -> Option<String> {
    container(stage, id)?["labels"]["yarn.role"].as_str().map(str::to_owned)
}

/// Waits until every leaf that ended by the kernel is in the store, each with the kernel's total, to the microsecond.
fn compare(stage: &mut Stage, ledger: &Ledger, count: usize) -> u64 {
    let names: BTreeMap<u64, String> = ledger.seen().into_iter().map(|(id, task)| (id, task.name)).collect();
    stage.until("every leaf's end in the store", |s| {
        let finals = ledger.finals();
        let ended = s.get("/tasks?node=n1&state=ended&limit=1000");
        let rows = ended["items"].as_array().cloned().unwrap_or_default();
        let there = |id: &u64| rows.iter().any(|row| row["cgroup"] == *id);
        if finals.len() < count || !finals.keys().all(there) {
            return None;
        }
        let mut sum = 0;
        for (id, kernel_us) in &finals {
            let row = rows.iter().find(|row| row["cgroup"] == *id).unwrap();
            let stored = row["totals"]["cpu_time_us"].as_u64().or_else(|| row["cpuTotalUs"].as_u64());
            println!("{}: {kernel_us} µs by the kernel, {stored:?} in the store", names[id]);
            assert_eq!(stored, Some(*kernel_us), "{}: {row}", names[id]);
            sum += kernel_us;
        }
        Some(sum)
    })
}

#[test]
fn every_container_has_a_leaf_with_exactly_its_cpu_time_and_survives_the_agent() {
    let Some(mut stage) = Stage::prepare("") else { return };
    let nm = NodeManager::prepare(&mut stage);
    let ledger = Ledger::start(nm.above.clone());
    stage.start_autoscaler();
    stage.start_agent();
    nm.start(&mut stage, true);
    let own = pids(&nm.cgroup)[0];

    // What it uses once it is in its leaf is in its leaf: it says itself how much that is.
    let master = nm.launch(
        MASTER,
        "export APP_SUBMIT_TIME_ENV=\"1795246453999\" TIMEFORMAT=%3U+%3S",
        &format!("while [ ! -e on ]; do sleep 0.05; done; (time {}) 2>used; while [ ! -e end ]; do sleep 0.05; done", spin(900)),
    );
    stage.until("the master's leaf", |_| {
        let there = pids(&nm.cgroup.join(MASTER));
        (!there.is_empty() && !pids(&nm.cgroup).into_iter().any(|pid| names(pid, MASTER))).then_some(())
    });
    fs::write(master.join("on"), "").unwrap();
    // A child, one that leaves the session and forgets who it is, and one that outlives its parent.
    let forks = format!("{s} & env -u CONTAINER_ID setsid {s} & (sleep 1; {s}) & {s}", s = spin(500));
    nm.launch(FORKS, "", &forks);
    let long = nm.launch(LONG, "", &format!("while [ ! -e end ]; do {}; sleep 0.1; done", spin(20)));
    // Names that would be something else are nobody's leaf.
    nm.launch("../../x", "", &spin(100));
    nm.launch("$(touch pwned)", "", &spin(100));
    for id in [MASTER, FORKS, LONG] {
        stage.until(id, |_| nm.leaves().contains(&id.to_owned()).then_some(()));
    }
    for id in [FORKS, LONG] {
        // Its first process has just begun when it notes its id.
        let began = fs::metadata(nm.folder.join(id).join("pid")).unwrap().modified().unwrap();
        let made = fs::metadata(nm.cgroup.join(id)).ok().and_then(|m| m.modified().ok());
        println!("{id}: its leaf {:?} after its first process", made.map(|made| made.duration_since(began)));
    }
    stage.until("all of it there", |_| {
        let left =
            pids(&nm.cgroup).into_iter().any(|pid| [MASTER, FORKS, LONG].iter().any(|id| names(pid, id)));
        (!left && !pids(&nm.cgroup.join(LONG)).is_empty()).then_some(())
    });
    assert!(pids(&nm.cgroup).contains(&own), "the NodeManager stays where it is");
    stage.until("their names", |s| {
        let labels = container(s, LONG)?["labels"].clone();
        let known = role(s, MASTER).as_deref() == Some("master") && role(s, LONG).as_deref() == Some("task");
        let application = labels["yarn.application"] == "application_1795246453454_0002"
            && labels["yarn.attempt"] == "appattempt_1795246453454_0002_000001";
        (known && application).then_some(())
    });

    // Without an agent a container is launched where it always was; the next agent knows the others and moves this one.
    stage.kill_agent();
    let late = nm.launch(LATE, "", &format!("while [ ! -e end ]; do {}; sleep 0.1; done", spin(20)));
    stage.until("the late container", |_| late.join("stdout").exists().then_some(()));
    assert!(!nm.leaves().contains(&LATE.to_owned()));
    let before_us = kernel::cpu_us(&nm.cgroup.join(LONG)).unwrap();
    stage.start_agent();
    stage.until("the late container's leaf", |s| (role(s, LATE).as_deref() == Some("task")).then_some(()));
    stage.until("the long one's name", |s| (role(s, LONG).as_deref() == Some("task")).then_some(()));
    let (id, master_leaf) = (number(&nm.cgroup.join(LONG)), number(&nm.cgroup.join(MASTER)));
    let used = stage.until("the master's own word", |_| {
        let text = fs::read_to_string(master.join("used")).ok()?;
        let (user, system) = text.trim().split_once('+')?;
        Some(user.parse::<f64>().ok()? + system.parse::<f64>().ok()?)
    });
    for container in [&master, &long, &late] {
        fs::write(container.join("end"), "").unwrap();
    }

    let leaves_us = compare(&mut stage, &ledger, 4);
    stage.until("no leaf", |_| nm.leaves().is_empty().then_some(()));
    let ended = ledger.finals();
    assert_eq!(ended.len(), 4, "{ended:?}");
    assert!(ended[&id] >= before_us);
    let master_us = ended[&master_leaf];
    println!("the master says {used} s, its leaf {master_us} µs");
    assert!(used > 0.0 && master_us as f64 >= used * 1e6 - 2_000.0, "to the millisecond of `time`");
    assert!(!Path::new("/pwned").exists() && !nm.folder.join("pwned").exists());

    // All of the unit's CPU time is in its row and theirs. Each row is cut to whole microseconds.
    let cgroup = number(&nm.cgroup);
    let (kernel_us, row_us) = stage.until("the unit's own time", |s| {
        let kernel_us = kernel::cpu_us(&nm.cgroup)?;
        let tasks = s.get("/tasks?node=n1");
        let row = tasks["items"].as_array()?.iter().find(|t| t["cgroup"] == cgroup)?.clone();
        let row_us = row["totals"]["cpu_time_us"].as_u64()?;
        // The stand-in goes on: what it has used since the last round is not there yet.
        let missing = kernel_us.checked_sub(row_us + leaves_us)?;
        (missing < 200_000).then_some((kernel_us, row_us))
    });
    println!("{kernel_us} µs of the unit by the kernel: {row_us} its own, {leaves_us} in leaves");
    assert_eq!(stage.agent_metric("leaf_hindered_units"), Some(0.0));
}

/// Without kernel programs containers are looked for, and found all the same.
#[test]
fn without_kernel_programs_containers_are_looked_for() {
    let Some(mut stage) = Stage::prepare("ebpf = false\n") else { return };
    let nm = NodeManager::prepare(&mut stage);
    let ledger = Ledger::start(nm.above.clone());
    stage.start_autoscaler();
    stage.start_agent();
    nm.start(&mut stage, true);
    let work = nm.launch(LONG, "", &format!("while [ ! -e end ]; do {}; sleep 0.1; done", spin(20)));
    stage.until("its leaf", |s| (role(s, LONG).as_deref() == Some("task")).then_some(()));
    fs::write(work.join("end"), "").unwrap();
    compare(&mut stage, &ledger, 1);
}

/// What keeps containers where they are is said with the node, and they are counted with their unit as before.
#[test]
fn what_hinders_is_said_and_everything_is_as_before() {
    let systemd = Path::new("/run/systemd/system").is_dir();
    let Some(mut stage) = Stage::prepare("") else { return };
    let nm = NodeManager::prepare(&mut stage);
    // Under systemd a unit that is not delegated, elsewhere an agent that only observes.
    if !systemd {
        fs::create_dir(stage.path("agent.d")).unwrap();
        fs::write(stage.path("agent.d/10.toml"), "act = false\n").unwrap();
    }
    stage.start_autoscaler();
    stage.start_agent();
    nm.start(&mut stage, false);
    let work = nm.launch(LONG, "", &format!("while [ ! -e end ]; do {}; sleep 0.1; done", spin(20)));
    let want = if systemd { "Delegate=yes" } else { "act = false" };
    let why = stage.until("the reason", |s| {
        let gaps = s.get("/nodes/n1")["unavailable"].as_array().cloned()?;
        let gap = gaps
            .iter()
            .find(|gap| gap["what"].as_str().is_some_and(|what| what.starts_with("leaves of ")))?;
        gap["why"].as_str().map(str::to_owned)
    });
    assert!(why.contains(want), "{why}");
    stage.until("the container", |_| work.join("stdout").exists().then_some(()));
    stage.until("a reading of the unit", |s| (s.agent_metric("rounds_total")? > 5.0).then_some(()));
    assert_eq!(nm.leaves(), Vec::<String>::new());
    assert!(pids(&nm.cgroup).into_iter().any(|pid| names(pid, LONG)));
    assert_eq!(stage.agent_metric("leaf_hindered_units"), Some(1.0));
    fs::write(work.join("end"), "").unwrap();
}

/// Containers of a NodeManager that Trimtab starts are counted one by one, and are part of its task for those who decide.
#[test]
fn containers_of_trimtabs_own_nodemanager_are_counted_one_by_one() {
    let Some(mut stage) = Stage::prepare("") else { return };
    let folder = stage.path("containers");
    fs::create_dir(&folder).unwrap();
    let launcher =
        format!("command = [\"/bin/bash\", {:?}]\nallow_root = true\nleaves = true\n", stand_in(&folder));
    fs::write(stage.path("launch.d/nm.toml"), launcher).unwrap();
    stage.start_autoscaler();
    stage.start_agent();
    stage.service("nm", 1);
    stage.wait_for("jobs", 1);
    let cgroup = stage.until("the task's cgroup", |s| {
        let below = kernel::directories(&s.slice).into_iter().flat_map(|path| kernel::directories(&path));
        below.into_iter().find(|path| path.display().to_string().contains("jobs-1"))
    });
    let main = pids(&cgroup)[0];
    let work = launch(&folder, LONG, "", &format!("while [ ! -e end ]; do {}; done", spin(50)));
    let leaf = cgroup.join(LONG);
    let row = stage.until("the container's row", |s| {
        let id = number_of(&leaf)?;
        let tasks = s.get("/tasks?node=n1");
        let row = tasks["items"].as_array()?.iter().find(|task| task["cgroup"] == id)?.clone();
        (role(s, LONG).as_deref() == Some("task")).then_some(row)
    });
    assert_eq!((&row["workload"], &row["task"]), (&"jobs".into(), &"jobs-1".into()), "{row}");
    // It computes all the time, the stand-in hardly ever.
    stage.until("the task's use with its container's", |s| {
        (s.status("jobs")["load"]["cpuCores"].as_f64()? > 0.5).then_some(())
    });
    // Its process ends, the container goes on: nothing of it is taken for somebody else's, and all is counted at the end.
    support::signal(main, rustix::process::Signal::KILL);
    stage.until("the end of the process", |_| {
        (!Path::new(&format!("/proc/{main}/cwd")).exists()).then_some(())
    });
    let ids = [number(&leaf), number(&cgroup)];
    fs::write(work.join("end"), "").unwrap();
    stage.until("no cgroup", |_| (!cgroup.exists()).then_some(()));
    let whole = stage.until("the kernel's total", |s| s.ledger.finals().get(&ids[1]).copied());
    let rows = stage.until("both totals in the store", |s| {
        let ended = s.get("/tasks?node=n1&state=ended&limit=1000");
        let all = ended["items"].as_array()?;
        let total = |id: u64| {
            let row = all.iter().find(|row| row["cgroup"] == id)?;
            row["totals"]["cpu_time_us"].as_u64().or_else(|| row["cpuTotalUs"].as_u64())
        };
        Some([total(ids[0])?, total(ids[1])?])
    });
    println!("{whole} µs by the kernel: {} + {}", rows[0], rows[1]);
    // Each is cut to whole microseconds.
    assert!(whole.abs_diff(rows[0] + rows[1]) <= 2, "{rows:?} of {whole}");
}
