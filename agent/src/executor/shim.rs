//! `trimtab-agent shim DIR` and `trimtab-agent enter DIR`: two small programs between the agent and a task.
//!
//! Beside `task.json` are `shim.json` (who runs), `exit.json` (how it ended) and `output.log`. The cgroup is made before
//! the first process, which joins it before it becomes the task's program: no CPU time escapes it.
//!
//! The shim leaves the agent's session, starts `enter`, notes who runs, waits, notes how it ended. `enter` joins the
//! task's cgroups, gives up what it must not keep, and becomes the task's program; the process id stays.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use agent_core::lifecycle::Event;
use agent_core::parse;
use anyhow::{Context, Result};
use model::id::TaskName;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::{Happened, TaskFile, What};
use crate::durable;

/// Who runs. A process id alone may be used again: with its start it may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Running {
    pid: u32,
    /// Ticks since boot.
    start: u64,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Exit {
    status: Option<i32>,
    signal: Option<i32>,
}

/// Why it did not start, written by the shim.
#[derive(Debug, Serialize, Deserialize)]
struct Failed {
    why: String,
}

/// How long a shim may take until its task runs.
const START_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// Starts the shim of the task whose directory this is.
pub(super) fn spawn(directory: &Path) -> std::io::Result<()> {
    let log = std::fs::File::create(directory.join("output.log"))?;
    let mut child = tokio::process::Command::new(std::env::current_exe()?)
        .arg("shim")
        .arg(directory)
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    // It is waited for only so that no zombie stays; its task is followed by pidfd.
    tokio::spawn(async move { child.wait().await });
    Ok(())
}

/// The shim: runs until the task ended.
///
/// # Errors
/// When the task's directory cannot be used.
pub fn shim(directory: &Path) -> Result<()> {
    // Its own session: a signal to the agent's terminal or process group does not reach the task.
    rustix::process::setsid().context("leaving the agent's session")?;
    let enter = std::env::current_exe().context("finding this program")?;
    let child = Command::new(enter).arg("enter").arg(directory).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            durable::write(&directory.join("failed.json"), &Failed { why: error.to_string() })?;
            return Ok(());
        }
    };
    let start = process_start(child.id()).unwrap_or(0);
    durable::write(&directory.join("shim.json"), &Running { pid: child.id(), start })?;
    let ended = child.wait().context("waiting for the task")?;
    durable::write(&directory.join("exit.json"), &Exit { status: ended.code(), signal: ended.signal() })?;
    Ok(())
}

/// Joins the cgroups, drops privileges, becomes the task. Returns only when that failed.
///
/// # Errors
/// What could not be done; it is also the last line of the task's log.
pub fn enter(directory: &Path) -> Result<()> {
    let file: TaskFile = durable::read(&directory.join("task.json"))?.context("task.json is missing")?;
    for procs in &file.join {
        let join = OpenOptions::new().write(true).open(procs).and_then(|mut f| f.write_all(b"0"));
        join.with_context(|| format!("joining {}", procs.display()))?;
    }
    let (program, arguments) = file.command.split_first().context("the command is empty")?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    for key in ["PATH", "HOME", "LANG"] {
        if let Some(value) = std::env::var_os(key) {
            command.env(key, value);
        }
    }
    if let Some(name) = &file.user {
        let user = nix::unistd::User::from_name(name).with_context(|| format!("looking up user {name}"))?;
        let user = user.with_context(|| format!("there is no user {name:?} on this host"))?;
        nix::unistd::initgroups(&std::ffi::CString::new(name.as_str())?, user.gid)
            .context("setting groups")?;
        command.gid(user.gid.as_raw()).uid(user.uid.as_raw()).env("HOME", &user.dir).env("USER", name);
    }
    command.envs(&file.environment);
    if let Some(directory) = &file.directory {
        command.current_dir(directory);
    }
    // The agent does without huge pages, which is inherited; a task is as its owner's system is.
    if nix::sys::prctl::get_thp_disable() == Ok(true) {
        nix::sys::prctl::set_thp_disable(false).context("allowing huge pages")?;
    }
    Err(command.exec()).with_context(|| format!("executing {program}"))
}

fn process_start(pid: u32) -> Option<u64> {
    parse::process_start(&std::fs::read(format!("/proc/{pid}/stat")).ok()?).ok()
}

/// Sends a signal to the task's first process, if that is still the process that the shim noted.
pub(super) fn signal(directory: &Path, pid: u32, signal: Signal) {
    let noted: Option<Running> = durable::read(&directory.join("shim.json")).ok().flatten();
    let Some(running) = noted.filter(|r| r.pid == pid) else { return };
    let Some(fd) = open(running) else { return };
    if let Err(error) = pidfd_send_signal(&fd, signal) {
        tracing::debug!(pid, %error, "signal not sent: the process is gone");
    }
}

/// A descriptor of exactly this process; `None` when it is gone.
fn open(running: Running) -> Option<rustix::fd::OwnedFd> {
    let fd = pidfd_open(Pid::from_raw(running.pid.cast_signed())?, PidfdFlags::NONBLOCK).ok()?;
    // Opened first, compared after: the number cannot change its meaning in between.
    (process_start(running.pid) == Some(running.start)).then_some(fd)
}

/// Lets the runtime wait for a pidfd to become readable: its process ended.
#[expect(
    deprecated,
    reason = "unsound only for types that change their descriptor; an OwnedFd does not, and `register` is unsafe"
)]
pub(super) fn watch(fd: rustix::fd::OwnedFd) -> std::io::Result<AsyncFd<rustix::fd::OwnedFd>> {
    AsyncFd::new(fd)
}

/// Follows a task until its end and tells what happens to it.
pub(super) async fn follow(
    directory: &Path,
    task: TaskName,
    checked: bool,
    found: bool,
    sender: &mpsc::Sender<Happened>,
) {
    let tell = async |event| {
        let _ = sender.send(Happened { task: task.clone(), what: What::Life(event) }).await;
    };
    let Some(running) = wait_for_start(directory, found).await else {
        let failed: Option<Failed> = durable::read(&directory.join("failed.json")).ok().flatten();
        let why = failed.map_or_else(|| "its shim ended without starting it".to_owned(), |f| f.why);
        tell(Event::NotStarted { why }).await;
        return;
    };
    if let Some(fd) = open(running) {
        let pid = running.pid;
        tell(if found { Event::Found { pid, checked } } else { Event::Started { pid, checked } }).await;
        match watch(fd) {
            Ok(fd) => drop(fd.readable().await),
            Err(error) => {
                tracing::warn!(%task, %error, "following by polling");
                while process_start(pid) == Some(running.start) {
                    tokio::time::sleep(POLL).await;
                }
            }
        }
    } else if !found {
        // It ran and is over already.
        tell(Event::Started { pid: running.pid, checked }).await;
    }
    let exit = wait_for_exit(directory).await;
    if exit.status == Some(ENTER_FAILED) {
        tracing::error!(%task, why = last_line(directory), "the task's program could not be executed");
    }
    tell(Event::Exited { status: exit.status, signal: exit.signal }).await;
}

/// Exit status of `enter` when it could not become the task (as shells use it).
pub const ENTER_FAILED: i32 = 126;

fn last_line(directory: &Path) -> String {
    let log = std::fs::read_to_string(directory.join("output.log")).unwrap_or_default();
    log.lines().next_back().unwrap_or_default().chars().take(200).collect()
}

async fn wait_for_start(directory: &Path, found: bool) -> Option<Running> {
    // A shim of an earlier agent has long noted who runs; if it did not, nobody will.
    let limit = if found { Duration::from_secs(2) } else { START_LIMIT };
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        if let Ok(Some(running)) = durable::read(&directory.join("shim.json")) {
            return Some(running);
        }
        if directory.join("failed.json").exists() || tokio::time::Instant::now() > deadline {
            return None;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The shim notes the end right after the process; when the shim itself was killed, nobody does.
async fn wait_for_exit(directory: &Path) -> Exit {
    for _ in 0..100 {
        if let Ok(Some(exit)) = durable::read(&directory.join("exit.json")) {
            return exit;
        }
        tokio::time::sleep(POLL).await;
    }
    Exit { status: None, signal: None }
}
