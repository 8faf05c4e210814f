//! `trimtab-agent deadman`: freezes best-effort work when no agent is there to hold it back.
//!
//! **Problem.** An agent that was killed leaves the limits as they were, but nobody sees the next burst. **Method.** The agent holds
//! a lock on `state/alive` for as long as it lives; the kernel lets go of it whatever ends the agent. A watcher in a session of its
//! own, under systemd in a unit of its own, sleeps in the kernel until it is given that lock. Then it waits for an agent that
//! takes the lock again; when none has after ten seconds, it freezes every best-effort task, holding the lock meanwhile, so that
//! an agent that starts just then thaws what was frozen, and not half of it. **Bounds.** It reads the tasks' files when it acts,
//! so it need not be told of tasks; it never ends or thaws one. One watcher at a time, by a lock too; the agent starts another
//! when there is none. It uses no CPU and about a megabyte.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use model::id::TaskName;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::executor::Runner;
use crate::executor::cgroup::Cgroups;
use crate::executor::systemd::Systemd;
use crate::settings::Settings;
use crate::{clock, durable};

/// Time without an agent until best-effort work is frozen, ms (node.md §6): a restart takes one or two seconds.
pub const AFTER_MS: u64 = 10_000;
/// Time between two looks whether there is a watcher, ms, while there is best-effort work.
pub const CHECK_MS: u64 = 5_000;
/// Time between two looks for a new agent.
const POLL: Duration = Duration::from_millis(100);
/// Wait of a starting agent for a watcher that is just freezing.
const YIELD: Duration = Duration::from_millis(20);

/// What a watcher has to know.
#[derive(Debug, Clone, clap::Args)]
pub struct Watcher {
    /// The agent's state directory.
    #[arg(long = "of")]
    pub state_of: PathBuf,
    /// The unified hierarchy.
    #[arg(long)]
    pub cgroup: PathBuf,
    /// Top of own tasks.
    #[arg(long)]
    pub slice: String,
    /// Tasks are systemd's.
    #[arg(long)]
    pub systemd: bool,
}

/// What a watcher did, for the next agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Froze {
    /// When, ms since the Unix epoch.
    pub wall_ms: u64,
    /// Whom.
    pub tasks: Vec<TaskName>,
    /// Whom not, and why.
    pub failed: Vec<(TaskName, String)>,
}

fn alive_path(state: &Path) -> PathBuf {
    state.join("alive")
}

fn lock_path(state: &Path) -> PathBuf {
    state.join("deadman.lock")
}

fn froze_path(state: &Path) -> PathBuf {
    state.join("deadman.json")
}

fn open(path: &Path) -> Result<File> {
    let file = File::options().create(true).truncate(false).read(true).write(true).open(path);
    file.with_context(|| format!("opening {}", path.display()))
}

/// Says that an agent lives, for as long as the file is kept. Waits while a watcher is just freezing.
///
/// # Errors
/// When the state directory cannot be written.
pub async fn alive(state: &Path) -> Result<File> {
    let file = open(&alive_path(state))?;
    let mut said = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::info!("waiting for the dead-man, which freezes best-effort work just now");
                }
                tokio::time::sleep(YIELD).await;
            }
            Err(TryLockError::Error(error)) => return Err(error).context("locking state/alive"),
        }
    }
}

/// What the last watcher did, once.
#[must_use]
pub fn take_froze(state: &Path) -> Option<Froze> {
    let path = froze_path(state);
    let froze = durable::read(&path).ok().flatten();
    if froze.is_some() {
        let _ = fs::remove_file(path);
    }
    froze
}

/// Whether a watcher is there.
#[must_use]
pub fn is_watched(state: &Path) -> bool {
    // The lock is free again at once: a watcher that starts just now tries again.
    open(&lock_path(state)).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

impl Watcher {
    /// The watcher of an agent with these settings.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        Self {
            state_of: settings.state.clone(),
            cgroup: settings.cgroup.clone(),
            slice: settings.slice.clone(),
            systemd: settings.executor.is_systemd(),
        }
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["deadman".to_owned()];
        for (name, value) in [("--of", &self.state_of), ("--cgroup", &self.cgroup)] {
            arguments.extend([name.to_owned(), value.display().to_string()]);
        }
        arguments.extend(["--slice".to_owned(), self.slice.clone()]);
        if self.systemd {
            arguments.push("--systemd".to_owned());
        }
        arguments
    }

    /// Starts a watcher that outlives this agent.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start(&self) -> Result<()> {
        let program = std::env::current_exe().context("finding this program")?;
        if self.systemd {
            let path = program.display().to_string();
            let command = std::iter::once(path).chain(self.arguments()).collect();
            return Systemd::new(&self.slice).start_watcher(command).await.context("starting its unit");
        }
        let log = File::create(self.state_of.join("deadman.log")).context("making its log")?;
        let mut child = tokio::process::Command::new(program)
            .args(self.arguments())
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting it")?;
        // Only so that no zombie stays.
        tokio::spawn(async move { child.wait().await });
        Ok(())
    }

    /// Ends the watcher, if there is one: there is no best-effort work any more.
    pub async fn end(&self) {
        if !is_watched(&self.state_of) {
            return;
        }
        if self.systemd {
            return Systemd::new(&self.slice).stop_watcher().await;
        }
        let noted = fs::read_to_string(lock_path(&self.state_of)).unwrap_or_default();
        let pid = noted.trim().parse::<i32>().ok().and_then(Pid::from_raw);
        let Some(fd) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { return };
        // Still locked after it was opened: the number still means the watcher.
        if is_watched(&self.state_of) {
            let _ = pidfd_send_signal(&fd, Signal::TERM);
        }
    }

    /// The watcher itself: returns when there is one already, or after it has frozen.
    ///
    /// # Errors
    /// When the state directory cannot be used.
    pub fn watch(&self) -> Result<()> {
        // Its own session, where it is not a unit's first process: no signal to the agent's group reaches it.
        let _ = rustix::process::setsid();
        let mut held = open(&lock_path(&self.state_of))?;
        // An agent that looks whether there is a watcher has the lock for a moment.
        let mut tries = 0;
        while let Err(error) = held.try_lock() {
            tries += 1;
            if tries > 10 || matches!(error, TryLockError::Error(_)) {
                return Ok(());
            }
            std::thread::sleep(YIELD);
        }
        held.set_len(0)?;
        held.rewind()?;
        writeln!(held, "{}", std::process::id())?;
        let alive = open(&alive_path(&self.state_of))?;
        loop {
            alive.lock().context("waiting for the end of the agent")?;
            let gone_ms = clock::boot_ms();
            eprintln!("the agent is gone: best-effort work is frozen in {} s", AFTER_MS / 1000);
            if self.stays_gone(&alive, gone_ms)? {
                let froze = self.freeze();
                eprintln!("frozen: {froze:?}");
                durable::write(&froze_path(&self.state_of), &froze)?;
                return Ok(());
            }
            eprintln!("an agent is there again");
        }
    }

    /// Whether no agent came for long enough; if so, the lock is held.
    fn stays_gone(&self, alive: &File, gone_ms: u64) -> Result<bool> {
        loop {
            alive.unlock()?;
            std::thread::sleep(POLL);
            match alive.try_lock() {
                Ok(()) if clock::boot_ms().saturating_sub(gone_ms) >= AFTER_MS => return Ok(true),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(false),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
    }

    fn freeze(&self) -> Froze {
        let mut froze = Froze { wall_ms: clock::wall_ms(), tasks: Vec::new(), failed: Vec::new() };
        let cgroups = Cgroups::find(&self.cgroup, &self.slice);
        let runner = if self.systemd { Runner::Systemd(Systemd::new(&self.slice)) } else { Runner::Shim };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        for file in crate::executor::best_effort_on_disk(&self.state_of) {
            let result = match &runtime {
                Ok(runtime) => {
                    runtime.block_on(runner.freeze_for(&cgroups, &file)).map_err(|e| e.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            match result {
                Ok(()) => froze.tasks.push(file.task),
                Err(why) => froze.failed.push((file.task, why)),
            }
        }
        froze
    }
}

/// Who holds the lock, for tests and for people: the watcher's process id.
#[must_use]
pub fn watcher_pid(state: &Path) -> Option<u32> {
    let mut text = String::new();
    File::open(lock_path(state)).ok()?.read_to_string(&mut text).ok()?;
    text.trim().parse().ok().filter(|_| is_watched(state))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watcher(state: &Path) -> Watcher {
        Watcher {
            state_of: state.to_owned(),
            cgroup: "/nowhere".into(),
            slice: "t.slice".into(),
            systemd: true,
        }
    }

    #[tokio::test]
    async fn a_lock_says_who_lives_and_an_agent_waits_for_one_that_freezes() {
        let dir = tempfile::tempdir().unwrap();
        let freezing = open(&alive_path(dir.path())).unwrap();
        freezing.lock().unwrap();
        let state = dir.path().to_owned();
        let agent = tokio::spawn(async move { alive(&state).await });
        tokio::task::yield_now().await;
        assert!(!agent.is_finished());
        drop(freezing);
        let held = agent.await.unwrap().unwrap();
        assert!(matches!(open(&alive_path(dir.path())).unwrap().try_lock(), Err(TryLockError::WouldBlock)));
        drop(held);
        assert!(open(&alive_path(dir.path())).unwrap().try_lock().is_ok());
    }

    #[test]
    fn one_watcher_is_enough_and_what_it_did_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_watched(dir.path()));
        let first = open(&lock_path(dir.path())).unwrap();
        first.lock().unwrap();
        assert!(is_watched(dir.path()));
        watcher(dir.path()).watch().unwrap();
        drop(first);
        assert!(!is_watched(dir.path()) && watcher_pid(dir.path()).is_none());
        let froze = Froze { wall_ms: 5, tasks: vec!["jobs-1".parse().unwrap()], failed: vec![] };
        durable::write(&froze_path(dir.path()), &froze).unwrap();
        assert_eq!(take_froze(dir.path()), Some(froze));
        assert_eq!(take_froze(dir.path()), None);
    }

    #[test]
    fn its_arguments_are_those_that_the_program_takes() {
        let arguments = watcher(Path::new("/var/lib/trimtab-agent")).arguments();
        let expected = "deadman --of /var/lib/trimtab-agent --cgroup /nowhere --slice t.slice --systemd";
        assert_eq!(arguments.join(" "), expected);
    }
}
