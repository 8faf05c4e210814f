//! One listed unit: its processes as /proc has them, and their way into leaves.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

use agent_core::leaf::{self, Member, Move};
use agent_core::parse;
use agent_core::yarn::{CONTAINER_ID, ContainerId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::executor::cgroup::put;
use crate::executor::systemd::Systemd;

/// Looks at a unit in one go at most: each moves what the one before saw, and a unit that forks on without end is looked at again later.
const LOOKS: usize = 32;
/// Most leaves of one unit: far above the containers that one NodeManager runs.
const LEAVES: usize = 1024;
/// Most bytes that are read of an environment or a command line: the kernel's limit for both together is 6 MiB.
const TEXT: u64 = 6 << 20;
/// What systemd writes beside a unit's cgroup that it leaves to the unit (`Delegate=`).
const DELEGATED: &str = "user.delegate";

/// A unit's place.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    root: PathBuf,
    path: String,
    directory: PathBuf,
}

/// What came of one go.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// Processes that were moved, by container.
    pub(super) moved: BTreeMap<ContainerId, u32>,
    /// Why something stayed that should not have.
    pub(super) hindered: Option<String>,
}

/// Whether a process says that it belongs to a container.
pub(super) fn names_container(pid: u32) -> bool {
    member(pid).is_ok_and(|member| member.is_some_and(|member| member.container.is_some()))
}

impl Unit {
    pub(super) fn new(root: &Path, path: &str) -> Self {
        Self { root: root.to_owned(), path: path.to_owned(), directory: root.join(path) }
    }

    /// Its cgroups that are no leaves, by number: itself and, where it has been divided (`DelegateSubgroup=`), those directly below. None
    /// while it does not run.
    pub(super) fn cgroups(&self) -> Vec<(u64, PathBuf)> {
        let Ok(own) = fs::metadata(&self.directory) else { return Vec::new() };
        let mut all = vec![(own.ino(), self.directory.clone())];
        let below = fs::read_dir(&self.directory).into_iter().flatten().filter_map(Result::ok);
        all.extend(below.filter_map(|entry| {
            let is_leaf = entry.file_name().to_str().is_some_and(|name| name.parse::<ContainerId>().is_ok());
            (entry.file_type().is_ok_and(|t| t.is_dir()) && !is_leaf).then(|| (entry.ino(), entry.path()))
        }));
        all
    }

    /// Moves what belongs into leaves until nothing is left to move.
    pub(super) fn settle(&self) -> Settled {
        let mut settled = Settled::default();
        if let Err(why) = self.check() {
            settled.hindered = Some(why);
            return settled;
        }
        for _ in 0..LOOKS {
            let members = match self.members() {
                Ok(members) => members,
                Err(why) => {
                    settled.hindered = Some(why);
                    return settled;
                }
            };
            let moves = leaf::plan(&members);
            if moves.is_empty() {
                return settled;
            }
            for one in moves {
                match self.carry_out(&one) {
                    Ok(true) => *settled.moved.entry(one.container).or_default() += 1,
                    Ok(false) => {}
                    Err(why) => {
                        settled.hindered = Some(why);
                        return settled;
                    }
                }
            }
        }
        settled
    }

    /// Whether systemd has left this cgroup to its unit; where no systemd runs, or it is in none of its units, the owner's word is enough.
    fn check(&self) -> Result<(), String> {
        let Some(unit) = unit_of(&self.path).filter(|_| Systemd::is_here() && self.directory.exists()) else {
            return Ok(());
        };
        let mut value = [0; 8];
        let delegated = rustix::fs::getxattr(self.root.join(unit), DELEGATED, &mut value);
        if delegated.is_ok_and(|n| value[..n] == *b"1") {
            return Ok(());
        }
        Err(format!(
            "{}: systemd has not delegated it: add Delegate=yes to the unit's [Service] and restart it",
            self.directory.display()
        ))
    }

    fn members(&self) -> Result<Vec<Member>, String> {
        let mut members = Vec::new();
        for (_, directory) in self.cgroups() {
            let path = directory.join("cgroup.procs");
            let text = match fs::read_to_string(&path) {
                Ok(text) => text,
                Err(e) if is_gone(&e) => continue,
                Err(error) if has(&error, Errno::OPNOTSUPP) => {
                    return Err(format!(
                        "{}: it is threaded: its processes cannot be told apart",
                        path.display()
                    ));
                }
                Err(error) => return Err(format!("{}: {error}", path.display())),
            };
            for pid in text.lines().filter_map(|line| line.parse().ok()) {
                members.extend(member(pid)?);
            }
        }
        Ok(members)
    }

    /// Moves one process. `false` = it is gone, or is no longer what it was.
    fn carry_out(&self, one: &Move) -> Result<bool, String> {
        let Some(fd) = open(one.pid) else { return Ok(false) };
        // From here on the id names this process, or the descriptor says that it ended.
        let now = member(one.pid)?;
        let same = now.is_some_and(|now| {
            now.start == one.start && now.container.is_none_or(|container| container == one.container)
        });
        if !same || !self.holds(one.pid) {
            return Ok(false);
        }
        let leaf = self.directory.join(one.container.as_str());
        let procs = leaf.join("cgroup.procs");
        for _ in 0..3 {
            self.make(&leaf)?;
            match put(&procs, &one.pid.to_string()) {
                Ok(()) => {
                    if ended(&fd) {
                        self.give_back(one);
                    }
                    return Ok(true);
                }
                Err(e) if has(&e, Errno::SRCH) => return Ok(false),
                // It was removed between the two: it had been empty.
                Err(e) if is_gone(&e) => {}
                Err(error) => return Err(hindrance(&procs, &error)),
            }
        }
        Err(format!("{}: it goes as often as it is made: does somebody else remove it?", leaf.display()))
    }

    /// Whether the process is in this unit, and not in a leaf.
    fn holds(&self, pid: u32) -> bool {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else { return false };
        let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
        let below = path.and_then(|path| path.strip_prefix(&self.path));
        below.is_some_and(|below| {
            let below = below.strip_prefix('/').unwrap_or(below);
            !below.contains('/') && below.parse::<ContainerId>().is_err()
        })
    }

    /// The process ended while it was moved. Should its id be somebody else's already, that one goes where its parent is.
    fn give_back(&self, one: &Move) {
        if member(one.pid).ok().flatten().is_none_or(|now| now.start == one.start) {
            return;
        }
        let below = |pid: &str| {
            let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
            text.lines().find_map(|line| line.strip_prefix("0::/")).map(str::to_owned)
        };
        let status = fs::read_to_string(format!("/proc/{}/status", one.pid)).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).map(str::trim);
        let home = parent.and_then(below).unwrap_or_default();
        let back = put(&self.root.join(&home).join("cgroup.procs"), &one.pid.to_string());
        tracing::error!(pid = one.pid, container = %one.container, home, ?back, "a process got the id of one that ended while it was moved");
    }

    fn make(&self, leaf: &Path) -> Result<(), String> {
        if leaf.is_dir() {
            return Ok(());
        }
        let below = fs::read_dir(&self.directory).map_err(|e| hindrance(&self.directory, &e))?;
        if below.filter(|entry| entry.as_ref().is_ok_and(|e| e.path().is_dir())).count() >= LEAVES {
            return Err(format!("{} has {LEAVES} leaves already", self.directory.display()));
        }
        match fs::create_dir(leaf) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(hindrance(leaf, &error)),
            _ => Ok(()),
        }
    }
}

/// Path of the systemd unit with processes that the cgroup at `path` is, or is below.
fn unit_of(path: &str) -> Option<&Path> {
    let is_unit = |path: &&Path| path.extension().is_some_and(|kind| kind == "service" || kind == "scope");
    Path::new(path).ancestors().find(is_unit)
}

/// What is known of a process; `None` when it is gone.
fn member(pid: u32) -> Result<Option<Member>, String> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let Ok(stat) = fs::read(proc.join("stat")) else { return Ok(None) };
    let (Ok(start), Ok(session)) = (parse::process_start(&stat), parse::process_session(&stat)) else {
        return Ok(None);
    };
    let environment = match strings(&proc.join("environ")) {
        Ok(all) => all,
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            return Err(format!("{}/environ: {e}: the agent needs CAP_SYS_PTRACE", proc.display()));
        }
        Err(_) => return Ok(None),
    };
    let arguments = strings(&proc.join("cmdline")).unwrap_or_default();
    let value = environment.iter().find_map(|pair| pair.strip_prefix(CONTAINER_ID)?.strip_prefix('='));
    Ok(Some(Member { pid, session, start, container: ContainerId::of(value, &arguments) }))
}

fn strings(path: &Path) -> io::Result<Vec<String>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(TEXT).read_to_end(&mut bytes)?;
    let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    Ok(parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect())
}

fn open(pid: u32) -> Option<rustix::fd::OwnedFd> {
    pidfd_open(Pid::from_raw(pid.cast_signed())?, PidfdFlags::empty()).ok()
}

fn ended(process: &rustix::fd::OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

fn has(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

fn is_gone(error: &io::Error) -> bool {
    has(error, Errno::NOENT) || has(error, Errno::NODEV)
}

/// What stands in the way, and what to do about it.
fn hindrance(path: &Path, error: &io::Error) -> String {
    let advice = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::ACCESS | Errno::PERM) => {
            ": the cgroup belongs to the unit's user: give the agent CAP_DAC_OVERRIDE (see acting.conf)"
        }
        Some(Errno::ROFS) => ": the agent may not write cgroups: see acting.conf",
        Some(Errno::AGAIN) => {
            ": too many cgroups, or too deep: see cgroup.max.descendants and cgroup.max.depth above it"
        }
        Some(Errno::OPNOTSUPP) => ": the cgroup is threaded",
        Some(Errno::BUSY) => ": somebody has enabled controllers in the leaf",
        _ => "",
    };
    format!("{}: {error}{advice}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_to_delegate_is_the_unit_that_the_cgroup_is_in() {
        let unit = |path| unit_of(path).map(|unit| unit.display().to_string());
        assert_eq!(unit("system.slice/nm.service").as_deref(), Some("system.slice/nm.service"));
        assert_eq!(unit("a.slice/nm.service/main").as_deref(), Some("a.slice/nm.service"));
        assert_eq!(unit("trimtab.slice/jobs/jobs-1"), None, "made by the agent itself");
        assert_eq!(unit("hadoop-lab/nm1"), None);
    }
}
