//! Our daemons as a benchmark starts them: on a unix socket, with their state, logs and configuration in one directory.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

const SOCKET: &str = "agents.sock";

/// Starts an autoscaler; returns when agents can dial it.
pub(super) fn autoscaler(bin: &Path, directory: &Path) -> Result<Child> {
    let child = Command::new(bin.join("trimtab-autoscaler"))
        .arg("--state")
        .arg(directory.join("autoscaler"))
        .args(["--listen", &format!("unix:{}", directory.join(SOCKET).display()), "--api", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(directory.join("autoscaler.log"))?)
        .spawn()
        .context("starting the autoscaler")?;
    wait_for(&directory.join(SOCKET))?;
    Ok(child)
}

/// The command of an agent that streams to it; `more` is added to its configuration.
pub(super) fn agent(bin: &Path, directory: &Path, more: &str) -> Result<Command> {
    let (config, state) = (directory.join("agent.toml"), directory.join("agent"));
    let text = format!(
        "autoscaler = \"unix:{}\"\nstate = \"{}\"\nnode = \"bench\"\nhttp = \"127.0.0.1:0\"\n{more}",
        directory.join(SOCKET).display(),
        state.display()
    );
    fs::write(&config, text)?;
    let _ = fs::remove_file(state.join("http.address"));
    let mut command = Command::new(bin.join("trimtab-agent"));
    let log = fs::File::create(directory.join("agent.log"))?;
    command.arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Ok(command)
}

/// Where the agent's metrics are, once it is up.
pub(super) fn metrics(directory: &Path) -> Result<String> {
    let address = directory.join("agent/http.address");
    wait_for(&address)?;
    Ok(format!("http://{}/metrics", fs::read_to_string(address)?))
}

/// A metric without labels in what the agent says; `None` where it has none of this name.
///
/// # Errors
/// When its value is no number.
pub(super) fn metric(text: &str, name: &str) -> Result<Option<f64>> {
    let line = text.lines().find_map(|l| l.strip_prefix(&format!("trimtab_agent_{name} ")));
    line.map(|value| value.parse().with_context(|| format!("{name} = {value:?}"))).transpose()
}

fn wait_for(path: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !path.exists() {
        ensure!(Instant::now() < deadline, "{} did not appear: the logs are beside it", path.display());
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
