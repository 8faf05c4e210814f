//! The real autoscaler and the real agent, with a latency-critical and a best-effort workload that its executor runs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::hog::{self, Kind};
use super::{host, service};
use crate::http::json;

/// How long anything may take to come up: a deadline of progress, far above what it needs.
const PATIENCE: Duration = Duration::from_secs(120);

/// What runs for the whole measurement.
pub(super) struct Stage {
    directory: PathBuf,
    /// Name of its slice of cgroups.
    pub(super) slice: String,
    unified: PathBuf,
    programs: Vec<(&'static str, Child)>,
    api: String,
    /// The latency-critical service.
    pub(super) port: u16,
    pub(super) service: u32,
    /// The best-effort task.
    hog: u32,
}

impl Stage {
    /// Starts everything; best-effort work is stopped when this returns.
    pub(super) fn start(bin: &Path, units: u32, kind: Kind, qos: &[String]) -> Result<Self> {
        let id = std::process::id();
        let directory = std::env::temp_dir().join(format!("trimtab-colocate-{id}"));
        let slice = format!("trimtab-colocate-{id}.slice");
        let unified = crate::cgroup::unified_mount()?;
        let (programs, api) = (Vec::new(), String::new());
        let mut stage = Self { directory, slice, unified, programs, api, port: 0, service: 0, hog: 0 };
        stage.write_files(units, kind, qos)?;
        stage.start_programs(bin)?;
        stage.apply("web", "serve", "latency-critical")?;
        let place = stage.directory.join("place");
        (stage.port, stage.service) = stage.until("the service", |_| service::place_of(&place))?;
        stage.apply("jobs", "burn", "best-effort")?;
        let counter = stage.counter();
        stage.hog = stage.until("the best-effort task", |_| Some(hog::read(&counter)?.0))?;
        stage.until("the loop that sees both", |stage| {
            let said = stage.qos()?;
            (said["critical"][0]["task"].is_string() && said["bestEffort"][0]["task"].is_string())
                .then_some(())
        })?;
        stage.best_effort(false)?;
        Ok(stage)
    }

    fn write_files(&self, units: u32, kind: Kind, qos: &[String]) -> Result<()> {
        let d = &self.directory;
        for part in ["launch.d", "agent", "autoscaler"] {
            fs::create_dir_all(d.join(part)).with_context(|| format!("making {}", d.display()))?;
        }
        let own = std::env::current_exe()?;
        let launcher = |words: &[String]| {
            let command = [own.display().to_string(), "bench-colocate".to_owned()];
            let command: Vec<String> = command.iter().chain(words).map(|word| format!("{word:?}")).collect();
            format!("command = [{}]\nallow_root = true\n", command.join(", "))
        };
        let (workers, place) = (super::workers().to_string(), d.join("place").display().to_string());
        let serve = ["serve".into(), place, workers, units.to_string()];
        fs::write(d.join("launch.d/serve.toml"), launcher(&serve))?;
        let burn = ["burn".into(), self.counter().display().to_string(), host::cpus().to_string()];
        let burn: Vec<String> = burn.into_iter().chain([kind.name().to_owned()]).collect();
        fs::write(d.join("launch.d/burn.toml"), launcher(&burn))?;
        let (slice, d) = (&self.slice, d.display());
        let agent = format!(
            "node = \"bench\"\nautoscaler = \"unix:{d}/agents.sock\"\nstate = \"{d}/agent\"\n\
             launchers = \"{d}/launch.d\"\nrules = \"{d}/tasks.d\"\nhttp = \"127.0.0.1:0\"\n\
             slice = \"{slice}\"\nexecutor = \"direct\"\nact = true\n[qos]\n{}\n",
            qos.join("\n")
        );
        Ok(fs::write(self.directory.join("agent.toml"), agent)?)
    }

    fn start_programs(&mut self, bin: &Path) -> Result<()> {
        let d = self.directory.clone();
        let mut autoscaler = Command::new(bin.join("trimtab-autoscaler"));
        autoscaler.arg("--state").arg(d.join("autoscaler"));
        autoscaler.args(["--listen", &format!("unix:{}", d.join("agents.sock").display())]);
        self.spawn("autoscaler", autoscaler.args(["--api", "127.0.0.1:0"]))?;
        let endpoints = d.join("autoscaler/endpoints.json");
        self.api = self.until("the autoscaler", |_| {
            let found: Value = serde_json::from_slice(&fs::read(&endpoints).ok()?).ok()?;
            found["api"][0].as_str().map(str::to_owned)
        })?;
        let mut agent = Command::new(bin.join("trimtab-agent"));
        self.spawn("agent", agent.arg("--config").arg(d.join("agent.toml")))?;
        self.until("the node", |stage| {
            let nodes: Value = json(&format!("http://{}/api/v1/nodes", stage.api))?;
            (nodes["items"][0]["connected"] == true).then_some(())
        })
    }

    fn spawn(&mut self, name: &'static str, command: &mut Command) -> Result<()> {
        let log = File::create(self.directory.join(format!("{name}.log")))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        self.programs.push((name, child.with_context(|| format!("starting {name}"))?));
        Ok(())
    }

    fn apply(&self, workload: &str, launcher: &str, class: &str) -> Result<()> {
        let document = format!(
            "apiVersion: trimtab/v1\nkind: Workload\nmetadata: {{ name: {workload} }}\nspec:\n  type: service\n  \
             class: {class}\n  replicas: {{ min: 1, max: 1 }}\n  target: {{ cpu: 65% }}\n  mode: auto\n  \
             service: {{ launcher: {launcher} }}\n"
        );
        let url = format!("http://{}/api/v1/workloads/{workload}", self.api);
        let request = ureq::put(&url).config().http_status_as_error(false).build();
        let mut answer = request.header("content-type", "application/yaml").send(&document)?;
        let text = answer.body_mut().read_to_string()?;
        anyhow::ensure!(answer.status().is_success(), "{workload}: {}: {text}", answer.status());
        Ok(())
    }

    fn until<T>(&mut self, what: &str, question: impl Fn(&Self) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = question(self) {
                return Ok(answer);
            }
            self.check_alive()?;
            if Instant::now() > deadline {
                bail!("{what} did not come up:\n{}\n{}", self.log("agent"), self.log("autoscaler"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Fails when one of the programs is gone, with the end of its log.
    pub(super) fn check_alive(&mut self) -> Result<()> {
        for at in 0..self.programs.len() {
            let (name, child) = &mut self.programs[at];
            if let Some(status) = child.try_wait()? {
                let name = *name;
                bail!("{name} ended with {status}:\n{}", self.log(name));
            }
        }
        Ok(())
    }

    fn log(&self, name: &str) -> String {
        let text = fs::read_to_string(self.directory.join(format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn counter(&self) -> PathBuf {
        self.directory.join("jobs")
    }

    /// Where another best-effort process notes what it does.
    pub(super) fn other_counter(&self) -> PathBuf {
        self.directory.join("others")
    }

    /// What the best-effort task is, and what it has done.
    pub(super) fn done(&self) -> Result<(u32, u64)> {
        hog::read(&self.counter()).context("the best-effort task counts nothing")
    }

    /// Lets the best-effort task run, or stops it: it stays where the agent put it, and the agent's loop goes on.
    pub(super) fn best_effort(&self, run: bool) -> Result<()> {
        let signal = if run { Signal::SIGCONT } else { Signal::SIGSTOP };
        kill(Pid::from_raw(self.hog.cast_signed()), signal).context("the best-effort task is gone")
    }

    /// CPU of the agent and of the autoscaler, µs.
    pub(super) fn control_us(&self) -> Result<(u64, u64)> {
        let of = |name: &str| {
            let program = self.programs.iter().find(|(is, _)| *is == name);
            host::process_us(program.context("it was never started")?.1.id())
        };
        Ok((of("agent")?, of("autoscaler")?))
    }

    /// What the agent says of its loop.
    pub(super) fn qos(&self) -> Option<Value> {
        let address = fs::read_to_string(self.directory.join("agent/http.address")).ok()?;
        json(&format!("http://{address}/qos"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The agent first: it must not start again what is ended here.
        for (_, child) in self.programs.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
        crate::cgroup::end_slice(&self.unified.join(&self.slice));
        let _ = fs::remove_dir_all(&self.directory);
    }
}
