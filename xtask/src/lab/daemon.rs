//! A process of the lab: in a session and a cgroup of its own, recorded with the time it was started at, so that a process id that somebody
//! else has by now is never taken for it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Time between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// What is on disk of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) name: String,
    pub(super) pid: u32,
    /// Clock ticks from boot to its start (`/proc/PID/stat`, field 22).
    started: u64,
    /// Its cgroup, where one could be made.
    pub(super) cgroup: Option<PathBuf>,
}

/// What to run.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) command: Command,
    pub(super) log: PathBuf,
}

/// The processes below one directory.
pub(super) struct Daemons {
    directory: PathBuf,
    slice: Option<PathBuf>,
}

impl Daemons {
    /// Those recorded in `directory`; new ones get cgroups below `slice`, where that can be written.
    pub(super) fn open(directory: &Path, slice: Option<PathBuf>) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        Ok(Self { directory: directory.to_owned(), slice })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.json"))
    }

    /// The process of this name, when it lives.
    pub(super) fn living(&self, name: &str) -> Option<Record> {
        let record: Record = serde_json::from_slice(&fs::read(self.file(name)).ok()?).ok()?;
        (started(record.pid) == Some(record.started)).then_some(record)
    }

    /// Names of all that were started and not stopped, also of those that have ended since.
    pub(super) fn recorded(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(&self.directory)?.filter_map(Result::ok);
        let names =
            entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned()));
        let mut names: Vec<String> = names.collect();
        names.sort();
        Ok(names)
    }

    /// All that live, by name.
    pub(super) fn all(&self) -> Result<Vec<Record>> {
        Ok(self.recorded()?.iter().filter_map(|name| self.living(name)).collect())
    }

    /// Starts it, unless it lives.
    pub(super) fn start(&self, wanted: &Wanted<'_>) -> Result<Record> {
        if let Some(record) = self.living(wanted.name) {
            return Ok(record);
        }
        let cgroup = self.cgroup(wanted.name);
        let log = fs::OpenOptions::new().create(true).append(true).open(&wanted.log);
        let log = log.with_context(|| format!("opening {}", wanted.log.display()))?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("lab-exec").arg(cgroup.as_deref().unwrap_or(Path::new("")));
        command.arg(wanted.command.get_program()).args(wanted.command.get_args());
        if let Some(directory) = wanted.command.get_current_dir() {
            command.current_dir(directory);
        }
        command.envs(wanted.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("starting {}", wanted.name))?;
        let pid = child.id();
        let started = started(pid).with_context(|| format!("{} ended at once", wanted.name))?;
        let record = Record { name: wanted.name.to_owned(), pid, started, cgroup };
        fs::write(self.file(wanted.name), serde_json::to_vec(&record)?)?;
        Ok(record)
    }

    fn cgroup(&self, name: &str) -> Option<PathBuf> {
        let cgroup = self.slice.as_ref()?.join(name);
        fs::create_dir_all(&cgroup).ok()?;
        Some(cgroup)
    }

    /// Ends one: SIGTERM, and SIGKILL when it is still there after `grace`; what it left in its cgroup is killed, too.
    pub(super) fn stop(&self, name: &str, grace: Duration) -> Result<()> {
        if let Some(record) = self.living(name) {
            signal(&record, Signal::SIGTERM);
            if !gone_within(&record, grace) {
                println!("    {name} does not end: SIGKILL");
                signal(&record, Signal::SIGKILL);
                ensure!(
                    gone_within(&record, Duration::from_secs(30)),
                    "{name} (process {}) does not end",
                    record.pid
                );
            }
        }
        if let Ok(text) = fs::read(self.file(name)) {
            if let Some(cgroup) =
                serde_json::from_slice::<Record>(&text).ok().and_then(|record| record.cgroup)
            {
                crate::cgroup::end(&cgroup);
            }
            fs::remove_file(self.file(name))?;
        }
        Ok(())
    }
}

impl Daemons {
    /// Ends several at once.
    pub(super) fn stop_all(&self, names: &[String], grace: Duration) -> Result<()> {
        std::thread::scope(|scope| {
            let stopping: Vec<_> =
                names.iter().map(|name| scope.spawn(move || self.stop(name, grace))).collect();
            for stopped in stopping {
                stopped.join().map_err(|_| anyhow::anyhow!("stopping a daemon panicked"))??;
            }
            Ok(())
        })
    }

    /// A line for each that lives; `at` = where it answers, by its name.
    pub(super) fn shown(&self, at: impl Fn(&str) -> String) -> Result<Vec<String>> {
        let line =
            |record: &Record| format!("{:<7} process {:<8} {}", record.name, record.pid, at(&record.name));
        Ok(self.all()?.iter().map(line).collect())
    }
}

/// Becomes a program, in a session of its own and in `cgroup`, if that has a name: the process id stays, and nothing of it runs elsewhere.
///
/// # Errors
/// When the program cannot be run; otherwise it does not return.
pub(crate) fn become_program(cgroup: &Path, program: &OsStr, arguments: &[OsString]) -> Result<()> {
    nix::unistd::setsid().context("a session of its own")?;
    if !cgroup.as_os_str().is_empty() {
        let procs = cgroup.join("cgroup.procs");
        fs::write(&procs, "0").with_context(|| format!("writing {}", procs.display()))?;
        if let Ok(unified) = crate::cgroup::unified_mount() {
            crate::cgroup::join_old(&unified, cgroup);
        }
    }
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("running {}", program.display()))
}

/// Waits until `is` says something.
///
/// # Errors
/// After `limit`, with `what`; at once when one of `needed` is gone, with the end of its log.
pub(super) fn until<T>(
    what: &str,
    limit: Duration,
    needed: &[(Record, PathBuf)],
    mut is: impl FnMut() -> Option<T>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(there) = is() {
            return Ok(there);
        }
        for (record, log) in needed {
            ensure!(
                started(record.pid) == Some(record.started),
                "{} ended while {what} was waited for; the end of {}:\n{}",
                record.name,
                log.display(),
                tail(log)
            );
        }
        ensure!(Instant::now() < deadline, "{what}: not within {} s", limit.as_secs());
        std::thread::sleep(LOOK);
    }
}

/// The last lines of a log that are no stack.
fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("at ")).collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

/// When a process was started; `None` = it is gone, or a zombie.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may have any character in it, also `)`.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        reap(pid);
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn reap(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap_or(0));
    let _ = nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::WNOHANG));
}

fn signal(record: &Record, signal: Signal) {
    if started(record.pid) == Some(record.started) {
        let _ = kill(Pid::from_raw(i32::try_from(record.pid).unwrap_or(0)), signal);
    }
}

fn gone_within(record: &Record, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while started(record.pid) == Some(record.started) {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a fault of a test is a failed test")]
mod tests {
    use super::*;

    fn recorded(directory: &Path, started: u64) -> Daemons {
        let daemons = Daemons::open(directory, None).unwrap();
        let record = Record { name: "a".into(), pid: std::process::id(), started, cgroup: None };
        fs::write(daemons.file("a"), serde_json::to_vec(&record).unwrap()).unwrap();
        daemons
    }

    /// A directory of its own for a test, removed at its end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("trimtab-lab-test-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_process_id_that_somebody_else_has_by_now_is_not_ours() {
        let scratch = Scratch::new("pid");
        let own = started(std::process::id()).unwrap();
        assert_eq!(recorded(&scratch.0, own).living("a").unwrap().pid, std::process::id());
        let daemons = recorded(&scratch.0, own + 1);
        assert_eq!(daemons.living("a"), None);
        assert_eq!(daemons.recorded().unwrap(), ["a"]);
        // It would end this test.
        daemons.stop("a", Duration::ZERO).unwrap();
        assert_eq!(daemons.recorded().unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_waited_for_ends_with_its_process_and_says_the_end_of_its_log() {
        let scratch = Scratch::new("wait");
        let log = scratch.0.join("log");
        fs::write(&log, "begins\n\tat somewhere\nit broke\n").unwrap();
        let gone = Record { name: "a".into(), pid: std::process::id(), started: 0, cgroup: None };
        let error = until("a port", Duration::from_secs(60), &[(gone, log)], || None::<()>).unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("a ended while a port was waited for") && said.ends_with("begins\nit broke"),
            "{said}"
        );
        let error = until("a port", Duration::ZERO, &[], || None::<()>).unwrap_err();
        assert!(error.to_string().contains("a port: not within 0 s"), "{error}");
        assert_eq!(until("a port", Duration::ZERO, &[], || Some(5)).unwrap(), 5);
    }
}
