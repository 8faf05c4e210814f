//! The stage: directories, configuration, processes; and how they end, whatever happened.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::beside::{self, Beside, Sharing};
use super::ports::{free_ports, replica_ports};
use super::work::{Job, Work};
use crate::{http, lab};

/// CPU of one replica, thousandths of a core: a tenth of the machine. All replicas have half of it then; HAProxy, the
/// clients and replicas that start need the other half, or the day would show the machine's limit.
fn replica_millis() -> u32 {
    super::cpus().saturating_mul(100).clamp(100, 1_000)
}
/// CPU of a replica until it answers its health check: one core, as a start on an ordinary machine has.
const STARTUP_MILLIS: u32 = 1_000;
const THREADS: u32 = 3;
/// Replicas of the web application, at least and at most: alone on the machine, and beside Hadoop and Cassandra. All of the latter, with Cassandra,
/// fit into half of the machine, as one who halves it would see to.
const REPLICAS: (u32, u32) = (2, 5);
const REPLICAS_BESIDE: (u32, u32) = (1, 4);
/// What the day's load is multiplied by there.
const LOAD_BESIDE: f64 = 0.6;
/// Requests wait at most so long for a free thread, 95 % of them, ms.
pub(super) const QUEUE_TARGET_MS: u32 = 100;
/// The slice of the demo.
pub(super) const SLICE: &str = "trimtab-up.slice";
const TOKEN: &str = "demo";
/// How long the clusters' members may take.
const MEMBERS: Duration = Duration::from_secs(180);
/// How long the job's first map may take.
const FIRST_MAP: Duration = Duration::from_secs(240);
/// How long the first replicas may take.
const FIRST_REPLICAS: Duration = Duration::from_secs(120);

/// Everything that this command started.
pub(crate) struct Stage {
    directory: PathBuf,
    root: PathBuf,
    bin: PathBuf,
    cgroup: PathBuf,
    front: SocketAddr,
    api: SocketAddr,
    agents: SocketAddr,
    processes: Vec<(&'static str, Child)>,
    /// What else shares the machine.
    beside: Option<Beside>,
    sharing: Sharing,
    slice: &'static str,
}

impl Stage {
    /// Ends what an earlier run left, and writes all files.
    ///
    /// # Errors
    /// When a file cannot be written, or the directory is something else's.
    pub(crate) fn open(
        directory: &Path,
        root: &Path,
        bin: &Path,
        sharing: Sharing,
        slice: &'static str,
    ) -> Result<Self> {
        let cgroup = crate::cgroup::unified_mount()?;
        let ports = free_ports(3)?;
        let stage = Self {
            directory: directory.to_owned(),
            root: root.to_owned(),
            bin: bin.to_owned(),
            cgroup,
            front: ports[0],
            api: ports[1],
            agents: ports[2],
            processes: Vec::new(),
            beside: None,
            sharing,
            slice,
        };
        stage.end_leftovers();
        if directory.exists() {
            ensure!(
                directory.join("stage").exists(),
                "{} is there and is no stage of this command",
                directory.display()
            );
            fs::remove_dir_all(directory).with_context(|| format!("removing {}", directory.display()))?;
        }
        for part in ["app", "launch.d", "agent", "autoscaler", "log"] {
            fs::create_dir_all(directory.join(part))
                .with_context(|| format!("making {}", directory.display()))?;
        }
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
        fs::write(directory.join("stage"), "made by cargo xtask up; removed at its end\n")?;
        for file in ["config.ru", "puma.rb", "seed.rb"] {
            fs::copy(root.join("xtask/demo").join(file), directory.join("app").join(file))?;
        }
        stage.write("launch.d/puma-web.toml", &stage.launcher()?)?;
        stage.write("agent.toml", &stage.agent_config())?;
        stage.write("haproxy.cfg", &stage.haproxy_config())?;
        stage.write("web.yaml", &stage.spec())?;
        Ok(stage)
    }

    /// Starts what shares the machine, and lets the agent know it.
    fn start_beside(&mut self) -> Result<()> {
        println!("==> Hadoop's masters and a node of Cassandra (about 3 GB with what they start)");
        let beside = self.beside.insert(Beside::new(&self.directory, &self.root, self.sharing)?);
        beside.start()?;
        let sections = beside.for_agent(&self.directory.join("launch.d"))?;
        let specs = beside.specs();
        self.write("agent.toml", &format!("{}{sections}", self.agent_config()))?;
        for (name, text) in specs {
            self.write(name, &text)?;
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.directory.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    fn launcher(&self) -> Result<String> {
        let before =
            if self.sharing == Sharing::Halves { beside::kept_to(beside::WEB)? } else { String::new() };
        let (app, api) = (self.directory.join("app"), self.api.port());
        // Ports of replicas: above those of the stage, wherever the kernel put them.
        let (from, to) = replica_ports(api);
        Ok(format!(
            r#"# What this node's owner lets Trimtab start: one replica of the demo app.
command = [{before}"/usr/bin/puma", "-C", "{app}/puma.rb"]
directory = "{app}"
user = "nobody"

[environment]
DATABASE = "{app}/shop.db"
PORT = "{{port}}"
CONTROL_PORT = "{{control_port}}"
WORKERS = "{{workers}}"
THREADS = "{{threads}}"
TOKEN = "{TOKEN}"

[parameters]
port = {{ type = "port", from = {from}, to = {to} }}
control_port = {{ type = "port", from = {from}, to = {to} }}
workers = {{ type = "number", from = 1, to = 4 }}
threads = {{ type = "number", from = 1, to = 16 }}

[limits]
cpu = "{replica}m"
memory = "512Mi"

[health]
http = "http://127.0.0.1:{{port}}/up"

[puma]
address = "127.0.0.1:{{control_port}}"
token = "{TOKEN}"
listener = "127.0.0.1:{{port}}"
"#,
            app = app.display(),
            replica = replica_millis(),
        ))
    }

    fn agent_config(&self) -> String {
        let d = self.directory.display();
        format!(
            r#"autoscaler = "http://{}"
state = "{d}/agent"
launchers = "{d}/launch.d"
rules = "{d}/tasks.d"
http = "127.0.0.1:0"
slice = "{}"
executor = "direct"
act = true

[[balancer]]
socket = "{d}/haproxy.sock"
backends = ["web"]
log = "{d}/haproxy-agent.log.sock"
config = "{d}/haproxy.cfg"
"#,
            self.agents, self.slice
        )
    }

    fn haproxy_config(&self) -> String {
        let d = self.directory.display();
        format!(
            r#"global
  stats socket {d}/haproxy.sock mode 600 level admin
  log {d}/haproxy-agent.log.sock format raw local0
  log {d}/haproxy-up.log.sock format raw local0
  maxconn 4000

defaults
  mode http
  log global
  log-format "trimtab %b %s %Tw %Tr %Ta %ST %ts"
  option http-keep-alive
  option redispatch
  retries 3
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout queue 30s

frontend front
  bind {front}
  http-request set-header X-Request-Start t=%[date(0,ms)]
  default_backend web

backend web
  balance leastconn
  # Liveness on Puma's control port, never through the app: a full app is not a dead one.
  option httpchk GET /stats?token={TOKEN}
  # begin trimtab web
  # end trimtab web
"#,
            front = self.front
        )
    }

    /// Where nobody scales, there are as many as may be from the beginning.
    fn replicas(&self) -> (u32, u32) {
        match self.sharing {
            Sharing::Web => REPLICAS,
            Sharing::Trimtab => REPLICAS_BESIDE,
            Sharing::Halves => (REPLICAS_BESIDE.1, REPLICAS_BESIDE.1),
        }
    }

    /// What the day's load is multiplied by.
    pub(super) fn load(&self) -> f64 {
        if self.sharing == Sharing::Web { 1.0 } else { LOAD_BESIDE }
    }

    fn spec(&self) -> String {
        let (from, to) = replica_ports(self.api.port());
        let (least, most) = self.replicas();
        format!(
            r#"apiVersion: trimtab/v1
kind: Workload
metadata: {{ name: web }}
spec:
  type: rails
  replicas: {{ min: {least}, max: {most} }}
  target: {{ queueDelayP95: {QUEUE_TARGET_MS}ms }}
  size: {{ mode: recommend, cpu: {replica}m, startupCpu: {STARTUP_MILLIS}m, memory: 512Mi }}
  mode: auto
  rails:
    balancer: {{ haproxy: {sock}, backend: web }}
    launcher: puma-web
    workers: 1
    threads: {THREADS}
    ports: {{ from: {from}, span: {span} }}
  # A day of a few minutes: everything that takes minutes in production takes seconds here.
  behavior: {{ growAfter: 1s, growCooldown: 2s, shrinkAfter: 6s, shrinkCooldown: 10s, stepUp: 2, stepDown: 2, drainDeadline: 20s, stopGrace: 8s }}
"#,
            replica = replica_millis(),
            sock = self.directory.join("haproxy.sock").display(),
            span = (to - from).div_ceil(2),
        )
    }

    /// Starts everything, in the order in which parts need each other.
    pub(crate) fn start(&mut self, stop: &Arc<AtomicBool>) -> Result<()> {
        if self.sharing != Sharing::Web {
            self.start_beside()?;
        }
        println!("==> making the shop's database");
        let database = self.directory.join("app/shop.db");
        let status = Command::new("ruby").arg(self.directory.join("app/seed.rb")).arg(&database).status();
        ensure!(status.context("running ruby")?.success(), "the database could not be made");
        println!("==> starting the autoscaler, the agent and HAProxy (http://{})", self.front);
        let (agents, api) = (self.agents.to_string(), self.api.to_string());
        let mut autoscaler = Command::new(self.bin.join("trimtab-autoscaler"));
        autoscaler.args(["--listen", &agents, "--api", &api]).env("TRIMTAB_CONTROL__WARM_UP", "5s");
        self.spawn("autoscaler", autoscaler.arg("--state").arg(self.directory.join("autoscaler")))?;
        self.wait_for_port(self.api, stop)?;
        println!("==> dashboards: {}", self.dashboard()?);
        let agent = self.bin.join("trimtab-agent");
        let config = self.directory.join("agent.toml");
        self.spawn("agent", Command::new(agent).arg("--config").arg(config))?;
        self.wait_for_file("haproxy-agent.log.sock", stop)?;
        let config = self.directory.join("haproxy.cfg");
        let mut haproxy = Command::new("/usr/sbin/haproxy");
        haproxy.arg("-db").arg("-f").arg(config);
        let half = (self.sharing == Sharing::Halves).then_some(beside::WEB);
        lab::on(half, || self.spawn("haproxy", &mut haproxy))?;
        self.wait_for_port(self.front, stop)?;
        let beside = self.beside.iter().flat_map(|beside| beside.specs().map(|(name, _)| name));
        for name in beside.chain(["web.yaml"]).collect::<Vec<_>>() {
            let spec = self.directory.join(name).display().to_string();
            println!("==> trimtab apply -f {spec}");
            self.tell(&["apply", "--yes", "-f", &spec])?;
        }
        Ok(())
    }

    /// The address of the dashboards, with the session.
    pub(super) fn dashboard(&self) -> Result<String> {
        let state = self.directory.join("autoscaler").display().to_string();
        Ok(self.tell(&["dashboard", "--state", &state])?.trim().to_owned())
    }

    /// Runs the operator's command against this stage; what it says.
    pub(crate) fn tell(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.bin.join("trimtab"));
        command.env("TRIMTAB_URL", format!("http://{}", self.api)).args(arguments);
        let done = command.output().context("running trimtab")?;
        ensure!(done.status.success(), "trimtab {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    fn spawn(&mut self, name: &'static str, command: &mut Command) -> Result<()> {
        let log = File::create(self.directory.join(format!("log/{name}.log")))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        self.processes.push((name, child.with_context(|| format!("starting {name}"))?));
        Ok(())
    }

    /// Fails when one of the processes is gone, with the end of its log.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        for (name, child) in &mut self.processes {
            if let Some(status) = child.try_wait()? {
                let log =
                    fs::read_to_string(self.directory.join(format!("log/{name}.log"))).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(8).collect();
                bail!(
                    "{name} ended with {status}:\n{}",
                    tail.into_iter().rev().collect::<Vec<_>>().join("\n")
                );
            }
        }
        Ok(())
    }

    fn wait(
        &mut self,
        what: &str,
        limit: Duration,
        stop: &AtomicBool,
        mut there: impl FnMut(&Self) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !there(self) {
            self.check_alive()?;
            ensure!(!stop.load(Ordering::Relaxed), "interrupted");
            ensure!(Instant::now() < deadline, "{what} did not come within {} s", limit.as_secs());
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn wait_for_port(&mut self, address: SocketAddr, stop: &AtomicBool) -> Result<()> {
        let there = |_: &Self| std::net::TcpStream::connect(address).is_ok();
        self.wait(&format!("a listener on {address}"), Duration::from_secs(30), stop, there)
    }

    fn wait_for_file(&mut self, name: &str, stop: &AtomicBool) -> Result<()> {
        let path = self.directory.join(name);
        self.wait(name, Duration::from_secs(30), stop, |_| path.exists())
    }

    /// Waits until the least number of replicas serves.
    pub(crate) fn wait_for_replicas(&mut self, stop: &AtomicBool) -> Result<()> {
        if self.beside.is_some() {
            println!("==> waiting for the clusters' members");
            self.wait("a NodeManager and two DataNodes", MEMBERS, stop, |_| Beside::has_members())?;
        }
        let least = u64::from(self.replicas().0);
        let served = |stage: &Self| stage.status()["up"].as_u64() >= Some(least);
        self.wait("the first replicas", FIRST_REPLICAS, stop, served)
            .with_context(|| format!("see the logs in {}", self.directory.join("log").display()))
    }

    /// What the autoscaler says of the web application; null when it does not.
    fn status(&self) -> Value {
        let url = format!("http://{}/api/v1/workloads/web", self.api);
        http::json(&url).map(|mut said| said["status"].take()).unwrap_or_default()
    }

    /// Begins what is worked on beside the web application for a day.
    pub(super) fn work(&mut self, day: Duration, stop: &AtomicBool) -> Result<Option<Work>> {
        let Some(beside) = &self.beside else { return Ok(None) };
        let job = Job::submit(beside.directory(), beside.half(), day)?;
        self.wait("the first map of the job", FIRST_MAP, stop, |_| Job::gets_on())?;
        Work::begin(job).map(Some)
    }

    /// Where the replicas listen themselves, behind the balancer.
    pub(super) fn listeners(&self) -> Result<Vec<SocketAddr>> {
        let status = self.status();
        let replicas = status["replicas"].as_array().context("the autoscaler lists no replicas")?;
        let port = |replica: &Value| u16::try_from(replica["port"].as_u64()?).ok();
        let addresses = replicas.iter().filter_map(port).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        Ok(addresses.collect())
    }

    /// Waits until no replica is on its way out, and a little more for its last totals to be stored.
    pub(super) fn wait_for_leaving(&mut self, stop: &AtomicBool) {
        let none_leaves = |stage: &Self| stage.status()["leaving"] == 0;
        if let Err(error) = self.wait("the end of the last drain", Duration::from_secs(40), stop, none_leaves)
        {
            eprintln!("warning: {error}");
        }
        std::thread::sleep(Duration::from_secs(3));
    }

    pub(super) fn sharing(&self) -> Sharing {
        self.sharing
    }

    pub(crate) fn front(&self) -> SocketAddr {
        self.front
    }

    pub(crate) fn api(&self) -> SocketAddr {
        self.api
    }

    /// Where the agent's metrics are.
    pub(crate) fn agent(&self) -> Result<String> {
        let file = self.directory.join("agent/http.address");
        Ok(fs::read_to_string(&file)
            .with_context(|| format!("reading {}", file.display()))?
            .trim()
            .to_owned())
    }

    pub(super) fn queue_log(&self) -> PathBuf {
        self.directory.join("haproxy-up.log.sock")
    }

    pub(super) fn cgroup_slice(&self) -> PathBuf {
        self.cgroup.join(self.slice)
    }

    pub(super) fn quota_cores(&self) -> f64 {
        f64::from(replica_millis()) / 1000.0
    }

    /// Ends every process that this command started, directly or through the agent, and removes what they left.
    pub(crate) fn end(&mut self, keep: bool) {
        println!("==> ending what was started");
        // The agent first: it must not start a replica again while replicas end.
        for (_, child) in self.processes.iter_mut().rev() {
            terminate(child);
        }
        self.processes.clear();
        self.end_leftovers();
        if let Some(beside) = self.beside.take() {
            beside.end(keep);
        }
        if keep {
            println!("    logs and state stay in {}", self.directory.display());
        } else if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("warning: {} could not be removed: {error}", self.directory.display());
        }
    }

    /// Ends replicas: they outlive the agent by design, so their cgroups are killed and removed here. Only this
    /// command uses this slice.
    fn end_leftovers(&self) {
        crate::cgroup::end_slice(&self.cgroup_slice());
    }
}

fn terminate(child: &mut Child) {
    let pid = Pid::from_raw(child.id().cast_signed());
    let _ = kill(pid, Signal::SIGTERM);
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
}
