//! A second autoscaler with an agent of its own, joined over TLS, paused and drained: it has the series that a healthy one lacks.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::written;
use crate::http;
use crate::up::ports::free_ports;

const NODE: &str = "second";
const START: Duration = Duration::from_secs(60);
/// Its workload: a service without a balancer, for which nothing is started.
pub(super) const WORKLOAD: &str = "worker";
const SPECIFICATION: &str = "apiVersion: trimtab/v1\nkind: Workload\nmetadata: { name: worker }\nspec:\n  type: service\n  mode: recommend\n  \
                        replicas: { min: 1, max: 3 }\n  target: { cpu: 65% }\n  service: { launcher: worker }\n";

/// Both processes; ended when dropped.
pub(super) struct Second {
    bin: PathBuf,
    folder: PathBuf,
    children: Vec<Child>,
    api: String,
}

impl Second {
    /// Starts both, and brings about what a healthy fleet has not. The autoscaler writes its samples to the Prometheus that
    /// will listen on `receiver`.
    pub(super) fn start(bin: &Path, folder: &Path, receiver: SocketAddr) -> Result<Self> {
        for part in ["autoscaler", "agent", "launch.d", "tasks.d"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let mut second =
            Self { bin: bin.to_owned(), folder: folder.to_owned(), children: Vec::new(), api: String::new() };
        let listen = format!("https://{}", free_ports(1)?[0]);
        let mut autoscaler = second.program("trimtab-autoscaler");
        let url = format!("http://{receiver}/api/v1/write");
        autoscaler.env("TRIMTAB_REMOTE_WRITE__URL", url).env("TRIMTAB_REMOTE_WRITE__INTERVAL", "1s");
        autoscaler.env("TRIMTAB_REMOTE_WRITE__LABELS", format!("job={}", written::JOB));
        autoscaler.arg("--state").arg(folder.join("autoscaler"));
        second.spawn(autoscaler.args(["--listen", &listen, "--api", "127.0.0.1:0"]), "autoscaler.log")?;
        let endpoints = folder.join("autoscaler/endpoints.json");
        second.api = wait("the second autoscaler", || {
            let found: Value = serde_json::from_slice(&fs::read(&endpoints).ok()?).ok()?;
            found["api"][0].as_str().map(str::to_owned)
        })?;
        second.join(&listen)?;
        let config = folder.join("agent.toml");
        let mut agent = second.program("trimtab-agent");
        second.spawn(agent.arg("--config").arg(config), "agent.log")?;
        let nodes = format!("http://{}/api/v1/nodes", second.api);
        wait("the second node", || (http::json(&nodes)?["items"][0]["connected"] == true).then_some(()))?;
        let specification = folder.join("worker.yaml");
        fs::write(&specification, SPECIFICATION)?;
        second.tell(&["apply", "--yes", "-f", &specification.display().to_string()])?;
        second.tell(&["pause", WORKLOAD, "--reason", "alerts are checked"])?;
        second.tell(&["pause", "--reason", "alerts are checked"])?;
        second.tell(&["drain", NODE, "--reason", "alerts are checked"])?;
        Ok(second)
    }

    /// Where the autoscaler's metrics are.
    pub(super) fn api(&self) -> &str {
        &self.api
    }

    /// Where the agent's are.
    pub(super) fn agent(&self) -> Result<String> {
        let file = self.folder.join("agent/http.address");
        wait("the second agent", || Some(fs::read_to_string(&file).ok()?.trim().to_owned()))
    }

    fn join(&self, autoscaler: &str) -> Result<()> {
        let folder = self.folder.display();
        let config = self.folder.join("agent.toml");
        let text = format!(
            "node = \"{NODE}\"\nautoscaler = \"{autoscaler}\"\nstate = \"{folder}/agent\"\nlaunchers = \"{folder}/launch.d\"\n\
             rules = \"{folder}/tasks.d\"\nhttp = \"127.0.0.1:0\"\nact = false\n"
        );
        fs::write(&config, text)?;
        let token = self.tell(&["node", "join-token", NODE])?;
        let mut join = self.program("trimtab-agent");
        join.arg("join").arg("--config").arg(config).args(["--autoscaler", autoscaler]);
        let mut child = join.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("its input")?.write_all(token.as_bytes())?;
        let done = child.wait_with_output()?;
        ensure!(done.status.success(), "trimtab-agent join: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    fn tell(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.program("trimtab");
        command.env("TRIMTAB_URL", format!("http://{}", self.api)).args(arguments);
        let done = command.output().context("running trimtab")?;
        ensure!(done.status.success(), "trimtab {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    fn program(&self, name: &str) -> Command {
        Command::new(self.bin.join(name))
    }

    fn spawn(&mut self, command: &mut Command, log: &str) -> Result<()> {
        let log = File::create(self.folder.join(log))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        self.children.push(child.context("starting the second pair")?);
        Ok(())
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn wait<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + START;
    loop {
        if let Some(found) = there() {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "{what} did not come within {} s", START.as_secs());
        std::thread::sleep(Duration::from_millis(100));
    }
}
