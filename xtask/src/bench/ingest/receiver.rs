//! The autoscaler that is measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// A process that is killed when it is dropped.
pub(super) struct Killed(pub(super) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running autoscaler.
pub(in crate::bench) struct Receiver {
    process: Killed,
    bin: PathBuf,
    directory: PathBuf,
    agents: String,
    api: String,
}

impl Receiver {
    /// Starts it; returns when it says where it listens.
    pub(in crate::bench) fn start(bin: &Path, directory: &Path, listen: &str) -> Result<Self> {
        let (bin, directory) = (bin.to_owned(), directory.to_owned());
        let (process, agents, api) = spawn(&bin, &directory, listen, "127.0.0.1:0")?;
        Ok(Self { process, bin, directory, agents, api })
    }

    /// Kills it and starts it again at the same addresses, as a machine that lost its power would.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.process.0.kill()?;
        self.process.0.wait()?;
        fs::remove_file(self.directory.join("state/endpoints.json"))?;
        (self.process, self.agents, self.api) = spawn(&self.bin, &self.directory, &self.agents, &self.api)?;
        Ok(())
    }

    pub(in crate::bench) fn agents(&self) -> &str {
        &self.agents
    }

    pub(in crate::bench) fn api(&self) -> &str {
        &self.api
    }

    pub(super) fn cpu_us(&self) -> Result<u64> {
        cpu_us(self.process.0.id())
    }

    pub(super) fn rss_kib(&self) -> Result<u64> {
        crate::cgroup::rss_kib(self.process.0.id())
    }

    /// One of its own metrics, without labels.
    pub(super) fn counter(&self, name: &str) -> Result<u64> {
        let mut answer =
            ureq::get(format!("http://{}/metrics", self.api)).call().context("asking for /metrics")?;
        let text = answer.body_mut().read_to_string()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse().ok()).with_context(|| format!("{name} is not in /metrics"))
    }
}

fn spawn(bin: &Path, directory: &Path, listen: &str, api: &str) -> Result<(Killed, String, String)> {
    let state = directory.join("state");
    let child = Command::new(bin.join("trimtab-autoscaler"))
        .arg("--state")
        .arg(&state)
        .args(["--listen", listen, "--api", api])
        .stdout(Stdio::null())
        .stderr(fs::File::create(directory.join("log"))?)
        .spawn()
        .context("starting the autoscaler")?;
    let mut process = Killed(child);
    let deadline = Instant::now() + Duration::from_secs(30);
    let endpoints = loop {
        if let Ok(text) = fs::read(state.join("endpoints.json")) {
            break serde_json::from_slice::<serde_json::Value>(&text).context("reading endpoints.json")?;
        }
        if process.0.try_wait()?.is_some() || Instant::now() > deadline {
            let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
            ensure!(false, "the autoscaler does not listen:\n{log}");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let one = |key: &str| {
        endpoints[key][0].as_str().map(str::to_owned).with_context(|| format!("endpoints.json has no {key}"))
    };
    Ok((process, one("agents")?, one("api")?))
}

/// User and kernel time of a process with all threads that it ever had, µs, to 10 ms.
pub(super) fn cpu_us(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    // The name is in parentheses and may hold anything; utime and stime are fields 14 and 15, proc(5).
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|n| n.parse::<u64>().ok()).context("/proc/PID/stat");
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("CLK_TCK")?;
    Ok((ticks(11)? + ticks(12)?) * 1_000_000 / per_second.unsigned_abs())
}
