//! The real agent and the real autoscaler on a unix socket, with a slice of cgroups of their own.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod controller;
pub(crate) mod cql;
pub(crate) mod kernel;
pub(crate) mod lab;
pub(crate) mod mutate;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use kernel::Ledger;

/// Longest wait for anything: a deadline of progress, far above what a slow machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The path of a program, built when it is not there.
pub(crate) fn bin(name: &str) -> PathBuf {
    static BUILT: Mutex<()> = Mutex::new(());
    let program = Path::new(env!("CARGO_BIN_EXE_e2e-task")).parent().unwrap().join(name);
    let packages = [("trimtab-agent", "agent"), ("trimtab-autoscaler", "autoscaler"), ("trimtab", "cli")];
    let _one_at_a_time = BUILT.lock();
    if let Some((_, package)) = packages.iter().find(|(of, _)| *of == name)
        && !program.exists()
    {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let status = Command::new(cargo).args(["build", "--quiet", "--package", package]).status();
        assert!(status.unwrap().success(), "{package} could not be built");
    }
    program
}

/// What a test can be given; `None` after saying loudly why it is skipped.
pub(crate) fn cgroups() -> Option<PathBuf> {
    let Some(unified) = kernel::unified_mount() else {
        println!("SKIP: no cgroup2 mount on this host");
        return None;
    };
    let trial = unified.join(format!("trimtab-e2e-trial-{}.slice", std::process::id()));
    if let Err(error) = fs::create_dir(&trial) {
        println!("SKIP: cgroups cannot be made here ({error}): run as root");
        return None;
    }
    let _ = fs::remove_dir(&trial);
    Some(unified)
}

/// Everything that one test started; ended and removed when dropped.
pub(crate) struct Stage {
    pub(crate) dir: tempfile::TempDir,
    /// The agent's name.
    node: String,
    /// The autoscaler's socket, where it is another stage's.
    socket: Option<PathBuf>,
    pub(crate) slice: PathBuf,
    pub(crate) ledger: Ledger,
    agent: Option<Child>,
    autoscaler: Option<Child>,
    others: Vec<Child>,
    /// More lines for the agent's configuration.
    agent_more: String,
    /// Where the autoscaler listens, beside the unix socket.
    listen_more: String,
    prefix: Vec<String>,
    /// The agent's state directory as this process sees it, when it is another than it was told.
    pub(crate) agent_state: Option<PathBuf>,
    api: String,
}

impl Stage {
    /// Both services, and launchers `burn`, `stubborn` and `surge`.
    pub(crate) fn start() -> Option<Self> {
        let mut stage = Self::prepare("")?;
        stage.start_autoscaler();
        stage.start_agent();
        stage.until("the node", |s| (s.get("/nodes")["items"][0]["connected"] == true).then_some(()));
        Some(stage)
    }

    /// Files only; `agent` is added to the agent's configuration.
    pub(crate) fn prepare(agent: &str) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let slice = cgroups()?.join(format!("trimtab-e2e-{}-{number}.slice", std::process::id()));
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for part in ["launch.d", "agent", "autoscaler"] {
            fs::create_dir(dir.path().join(part)).unwrap();
        }
        let surge = format!(
            "command = [{:?}, \"surge\", \"{}/surge-{{task}}\"]\nallow_root = true\n",
            bin("e2e-task"),
            dir.path().display()
        );
        fs::write(dir.path().join("launch.d/surge.toml"), surge).unwrap();
        for launcher in ["burn", "stubborn"] {
            let text = format!(
                "command = [{:?}, {launcher:?}]\nallow_root = true\n[limits]\ncpu = \"500m\"\n",
                bin("e2e-task")
            );
            fs::write(dir.path().join(format!("launch.d/{launcher}.toml")), text).unwrap();
        }
        let ledger = Ledger::start(slice.clone());
        Some(Self {
            dir,
            node: "n1".to_owned(),
            socket: None,
            slice,
            ledger,
            agent: None,
            autoscaler: None,
            others: Vec::new(),
            agent_more: agent.to_owned(),
            listen_more: String::new(),
            prefix: Vec::new(),
            agent_state: None,
            api: String::new(),
        })
    }

    /// Makes it another node of a stage's autoscaler.
    pub(crate) fn joins(&mut self, first: &Self, node: &str) {
        node.clone_into(&mut self.node);
        self.socket = Some(first.path("agents.sock"));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Adds to the agent's configuration.
    pub(crate) fn configure(&mut self, more: &str) {
        self.agent_more.push_str(more);
    }

    /// Runs the agent behind these words, as `unshare -m …`, which end in executing the rest.
    pub(crate) fn run_agent_behind(&mut self, prefix: &[&str]) {
        self.prefix = prefix.iter().map(|&word| word.to_owned()).collect();
    }

    /// The autoscaler listens with TLS, too, at the next start; `more` is its configuration. Where.
    pub(crate) fn listen_with_tls(&mut self, more: &str) -> String {
        // The port outlives restarts; nobody else takes it in the moment between.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::write(self.path("autoscaler.toml"), more).unwrap();
        let address = format!("https://127.0.0.1:{port}");
        self.listen_more = format!(",{address}");
        address
    }

    /// Where the REST interface is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.api)
    }

    /// Runs the operator's command.
    pub(crate) fn trimtab(&self, arguments: &[&str]) -> std::process::Output {
        Command::new(bin("trimtab")).args(["--url", &self.url()]).args(arguments).output().unwrap()
    }

    /// Runs it, shows what it says, and takes nothing but success.
    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        let output = self.trimtab(arguments);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        println!("trimtab {}: {said}", arguments.join(" "));
        assert!(output.status.success(), "trimtab {}: {said}", arguments.join(" "));
        said
    }

    /// Makes a token with it.
    pub(crate) fn join_token(&self, node: &str) -> String {
        let output = self.trimtab(&["node", "join-token", node]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.contains("trimtab-agent join"), "{said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `trimtab-agent join` with a token on its standard input: success, and what it said.
    pub(crate) fn join(&self, autoscaler: &str, token: &str) -> (bool, String) {
        self.write_agent_configuration();
        let mut command = Command::new(bin("trimtab-agent"));
        command.arg("join").arg("--config").arg(self.path("agent.toml")).args(["--autoscaler", autoscaler]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), token.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    fn write_agent_configuration(&self) {
        let (d, slice) = (self.dir.path().display(), self.slice.file_name().unwrap().to_string_lossy());
        let (node, socket) = (&self.node, self.socket.clone().unwrap_or_else(|| self.path("agents.sock")));
        let text = format!(
            "node = \"{node}\"\nautoscaler = \"unix:{}\"\nstate = \"{d}/agent\"\n\
             launchers = \"{d}/launch.d\"\nrules = \"{d}/tasks.d\"\nhttp = \"127.0.0.1:0\"\n\
             slice = \"{slice}\"\nexecutor = \"direct\"\nact = true\n{}",
            socket.display(),
            self.agent_more
        );
        fs::write(self.path("agent.toml"), text).unwrap();
    }

    pub(crate) fn start_agent(&mut self) {
        self.write_agent_configuration();
        let config = self.path("agent.toml");
        let _ = fs::remove_file(self.path("agent/http.address"));
        let program = bin("trimtab-agent");
        let mut command = match self.prefix.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.arg("--config").arg(config);
        self.agent = Some(self.spawn("agent", &mut command));
    }

    pub(crate) fn start_autoscaler(&mut self) {
        let endpoints = self.path("autoscaler/endpoints.json");
        let _ = fs::remove_file(&endpoints);
        let listen = format!("unix:{}{}", self.path("agents.sock").display(), self.listen_more);
        let mut command = Command::new(bin("trimtab-autoscaler"));
        command.arg("--state").arg(self.path("autoscaler"));
        command.args(["--listen", &listen, "--api", "127.0.0.1:0"]);
        if self.path("autoscaler.toml").exists() {
            command.arg("--config").arg(self.path("autoscaler.toml"));
        }
        self.autoscaler = Some(self.spawn("autoscaler", &mut command));
        self.api = self.until("the REST interface", |s| {
            assert!(s.lives("autoscaler"), "the autoscaler ended at its start:\n{}", s.log("autoscaler"));
            let found: Value = serde_json::from_slice(&fs::read(&endpoints).ok()?).ok()?;
            found["api"][0].as_str().map(str::to_owned)
        });
    }

    /// Starts something else that ends with the stage.
    pub(crate) fn run(&mut self, name: &str, command: &mut Command) -> u32 {
        let child = self.spawn(name, command);
        let pid = child.id();
        self.others.push(child);
        pid
    }

    /// Kills what [`Self::run`] started.
    pub(crate) fn end(&mut self, pid: u32) {
        let at = self.others.iter().position(|child| child.id() == pid).unwrap();
        kill_now(Some(self.others.remove(at)));
    }

    fn spawn(&self, name: &str, command: &mut Command) -> Child {
        let log = File::options().create(true).append(true).open(self.path(&format!("{name}.log"))).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    /// The end of a log.
    pub(crate) fn log(&self, name: &str) -> String {
        let text = fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    pub(crate) fn lives(&mut self, name: &str) -> bool {
        let child = if name == "agent" { &mut self.agent } else { &mut self.autoscaler };
        child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// `kill -9`.
    pub(crate) fn kill_agent(&mut self) {
        kill_now(self.agent.take());
    }

    /// `kill -9`.
    pub(crate) fn kill_autoscaler(&mut self) {
        kill_now(self.autoscaler.take());
    }

    pub(crate) fn agent_pid(&self) -> u32 {
        self.agent.as_ref().unwrap().id()
    }

    pub(crate) fn autoscaler_pid(&self) -> u32 {
        self.autoscaler.as_ref().unwrap().id()
    }

    /// What the agent says of itself: the value of a metric without labels.
    pub(crate) fn agent_metric(&self, name: &str) -> Option<f64> {
        let state = self.agent_state.clone().unwrap_or_else(|| self.path("agent"));
        let address = fs::read_to_string(state.join("http.address")).ok()?;
        let text = ureq::get(format!("http://{address}/metrics")).call().ok()?.body_mut().read_to_string();
        let text = text.ok()?;
        let name = format!("trimtab_agent_{name} ");
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok())
    }

    /// What the autoscaler says of itself: the value of a metric with its labels.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let url = format!("http://{}/metrics", self.api);
        let text = ureq::get(url).call().ok()?.body_mut().read_to_string().ok()?;
        let name = format!("trimtab_{name} ");
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok())
    }

    pub(crate) fn try_get(&self, path: &str) -> Option<Value> {
        let url = format!("http://{}/api/v1{path}", self.api);
        ureq::get(url).call().ok()?.body_mut().read_json().ok()
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.try_get(path).unwrap_or(Value::Null)
    }

    /// Applies a specification.
    pub(crate) fn put(&self, name: &str, document: &str) {
        let url = format!("http://{}/api/v1/workloads/{name}", self.api);
        let config = ureq::put(url).config().http_status_as_error(false).build();
        let mut answer = config.header("content-type", "application/yaml").send(document).unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        assert!(answer.status().is_success(), "{}: {text}\n{document}", answer.status());
    }

    /// A service of exactly `count` replicas.
    pub(crate) fn service(&self, launcher: &str, count: u32) {
        self.service_within(launcher, (count, count), "1s");
    }

    /// A service between bounds, which shrinks when it was too large for `shrink_after`.
    pub(crate) fn service_within(&self, launcher: &str, (min, max): (u32, u32), shrink_after: &str) {
        let document = format!(
            "apiVersion: trimtab/v1\nkind: Workload\nmetadata: {{ name: jobs }}\nspec:\n  type: service\n  \
             replicas: {{ min: {min}, max: {max} }}\n  target: {{ cpu: 65% }}\n  mode: auto\n  \
             service: {{ launcher: {launcher} }}\n  behavior: {{ growAfter: 1s, growCooldown: 1s, \
             shrinkAfter: {shrink_after}, shrinkCooldown: 5s, stepUp: 10, stepDown: 10, stopGrace: 2s }}\n"
        );
        self.put("jobs", &document);
    }

    /// The workload's status.
    pub(crate) fn status(&self, workload: &str) -> Value {
        self.get(&format!("/workloads/{workload}"))["status"].clone()
    }

    /// Waits until exactly `count` replicas are up and none comes or goes.
    pub(crate) fn wait_for(&mut self, workload: &str, count: u64) {
        self.until(&format!("{count} replicas"), |s| {
            let status = s.status(workload);
            let now = (&status["up"], &status["starting"], &status["leaving"]);
            (now == (&count.into(), &0.into(), &0.into())).then_some(())
        });
    }

    /// Waits until `question` has an answer.
    pub(crate) fn until<T>(&mut self, what: &str, mut question: impl FnMut(&mut Self) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(answer) = question(self) {
                return answer;
            }
            if began.elapsed() > PATIENCE {
                self.give_up(what);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until `left` is 0; however long that takes, it must fall all the time.
    pub(crate) fn until_none(&mut self, what: &str, left: impl Fn(&Self) -> Option<f64>) {
        let mut least = f64::INFINITY;
        while least > 0.0 {
            least = self.until(&format!("less than {least} {what}"), |s| left(s).filter(|now| *now < least));
        }
    }

    fn give_up(&self, what: &str) -> ! {
        panic!(
            "{what}: not within {PATIENCE:?}\n--- workloads {}\n--- members {}\n--- agent\n{}\n--- autoscaler\n{}",
            self.get("/workloads"),
            self.get("/members"),
            self.log("agent"),
            self.log("autoscaler")
        )
    }

    /// Live tasks of a workload: cgroup → CPU total in the store, µs.
    pub(crate) fn live_totals(&self, workload: &str) -> Vec<(u64, u64)> {
        let tasks = self.get(&format!("/tasks?workload={workload}"));
        let items = tasks["items"].as_array().cloned().unwrap_or_default();
        let one = |t: &Value| Some((t["cgroup"].as_u64()?, t["totals"]["cpu_time_us"].as_u64()?));
        items.iter().filter_map(one).collect()
    }

    /// Ended tasks of a workload, as the store has them.
    pub(crate) fn ended(&self, workload: &str) -> Vec<Value> {
        let ended = self.get(&format!("/tasks?workload={workload}&state=ended&limit=1000"));
        ended["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until every task that ended by the kernel is in the store, and compares each total: to the microsecond.
    pub(crate) fn compare_ended(&mut self, workload: &str, least: usize) {
        let finals = self.until("the ended tasks in the store", |s| {
            let finals = s.ledger.finals();
            let stored = s.ended(workload);
            let there = |id: &u64| stored.iter().any(|t| t["cgroup"] == *id && t["cpuTotalUs"].is_u64());
            (finals.len() >= least && finals.keys().all(there)).then_some(finals)
        });
        let stored = self.ended(workload);
        for (id, kernel_us) in finals {
            let rows: Vec<&Value> = stored.iter().filter(|t| t["cgroup"] == id).collect();
            assert_eq!(rows.len(), 1, "one row a task: {rows:?}");
            assert_eq!(rows[0]["cpuTotalUs"], kernel_us, "{}", rows[0]);
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The agent first: it must not start again what is ended here.
        kill_now(self.agent.take());
        kill_now(self.autoscaler.take());
        self.others.drain(..).for_each(|child| kill_now(Some(child)));
        kernel::end_slice(&self.slice);
        if std::thread::panicking() && std::env::var_os("KEEP").is_some() {
            let _ = fs::rename(self.dir.path(), self.dir.path().with_extension("kept"));
        }
    }
}

fn kill_now(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Sends a signal to one process that this test caused to be started.
pub(crate) fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}
