//! A daemon that `trimtab up` runs: found, started, watched, ended.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::failure::{Failure, Kind};

/// How long a daemon may take to end: it makes durable what it has.
const GRACE: Duration = Duration::from_secs(15);
/// Lines of its log that are shown when it ended by itself.
const LINES: usize = 12;
/// The end of its log that is read for them, bytes.
const TAIL: u64 = 16 << 10;

/// A daemon that was started here.
#[derive(Debug)]
pub(super) struct Daemon {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it with its log in the file `log`; it ends when this process does, however that ends.
    pub(super) fn start(name: &'static str, arguments: &[String], log: PathBuf) -> Result<Self, Failure> {
        let program = find(name)?;
        let cannot = |what: &Path, error: std::io::Error| {
            Failure::new(Kind::Error, format!("{}: {error}", what.display()))
        };
        let file = File::create(&log).map_err(|error| cannot(&log, error))?;
        let errors = file.try_clone().map_err(|error| cannot(&log, error))?;
        // util-linux has it on any system that people log in to.
        let mut command = match on_path("setpriv") {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "TERM", "--"]).arg(&program);
                command
            }
            None => Command::new(&program),
        };
        command.args(arguments).stdin(Stdio::null()).stdout(file).stderr(errors);
        // Ctrl-C is for this process: it ends the agent first.
        let child = command.process_group(0).spawn().map_err(|error| cannot(&program, error))?;
        Ok(Self { name, child, log })
    }

    /// Fine while it runs.
    ///
    /// # Errors
    /// When it has ended, with the end of its log.
    pub(super) fn lives(&mut self) -> Result<(), Failure> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.ended(status)),
        }
    }

    fn ended(&self, status: ExitStatus) -> Failure {
        let log = tail(&self.log).unwrap_or_default();
        let message = format!("{} ended with {status}; the end of its log:\n{log}", self.name);
        Failure::new(Kind::Error, message).next(format!("the whole log is {}", self.log.display()))
    }

    /// Ends it: asked first, killed when it does not.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        let pid = i32::try_from(self.child.id()).map(Pid::from_raw);
        if let Ok(pid) = pid
            && self.child.try_wait()?.is_none()
        {
            let _gone = kill(pid, Signal::SIGTERM);
        }
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > GRACE {
                self.child.kill()?;
                self.child.wait()?;
                let late = format!("{} did not end within {GRACE:?} and was killed", self.name);
                return Err(Failure::new(Kind::Timeout, late).next(format!("read {}", self.log.display())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// A program of Trimtab: beside this one, or on the path.
fn find(name: &'static str) -> Result<PathBuf, Failure> {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(name)));
    beside.filter(|path| path.is_file()).or_else(|| on_path(name)).ok_or_else(|| {
        let next = format!("install the package {name}, or put the program beside this one");
        Failure::new(Kind::NotFound, format!("{name} is not on this host")).next(next)
    })
}

fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|one| one.join(name)).find(|path| path.is_file())
}

/// The last lines of a log.
fn tail(path: &Path) -> std::io::Result<String> {
    use std::io::Seek;
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(std::io::SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    Ok(last.iter().map(|line| format!("    {}\n", crate::output::safe(line))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_short_and_steers_no_terminal() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("agent.log");
        let lines: Vec<String> = (0..2_000).map(|n| format!("line {n} \x1b[31m")).collect();
        std::fs::write(&log, lines.join("\n")).unwrap();
        let shown = tail(&log).unwrap();
        assert_eq!(shown.lines().count(), LINES);
        assert!(shown.ends_with("line 1999 \u{fffd}[31m\n") && !shown.contains('\x1b'), "{shown}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named_with_its_package() {
        let failure = find("trimtab-nobody-has-this").unwrap_err();
        assert_eq!(failure.kind(), Kind::NotFound);
        assert!(failure.to_string().contains("install the package trimtab-nobody-has-this"), "{failure}");
    }
}
