//! Keeps the run-queue program attached across a restart of the agent: its regions, program and link are pinned on a bpf file system under a
//! directory named by the hash of the object, and taken over by the next agent that embeds the same object.
//!
//! Another object's pins are removed, which detaches its program: an upgrade that changes the program starts counting anew.

use crate::bpf_call;
use crate::feature::{Refusal, tried};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What is pinned together.
#[derive(Debug)]
pub(crate) struct Pinned {
    pub(crate) regions: OwnedFd,
    pub(crate) program: OwnedFd,
    pub(crate) link: OwnedFd,
}

const PREFIX: &str = "switch-";
const REGIONS: &str = "regions";
const PROGRAM: &str = "program";
const LINK: &str = "link";

/// The directory for this object's pins.
pub(crate) fn directory(pin_dir: &Path, object: &[u8]) -> PathBuf {
    pin_dir.join(format!("{PREFIX}{:016x}", fnv1a(object)))
}

/// Takes over what a former agent pinned, if it is whole.
pub(crate) fn adopt(directory: &Path) -> Option<Pinned> {
    let open = |name| bpf_call::open_pin(&directory.join(name)).ok();
    Some(Pinned { regions: open(REGIONS)?, program: open(PROGRAM)?, link: open(LINK)? })
}

/// Pins in an order that makes a crash in between visible: the link last.
pub(crate) fn keep(directory: &Path, pinned: &Pinned) -> Result<(), Refusal> {
    let what = |name: &str| format!("pin {}", directory.join(name).display());
    std::fs::create_dir_all(directory).map_err(tried(format!("create {}", directory.display())))?;
    for (name, object) in [(REGIONS, &pinned.regions), (PROGRAM, &pinned.program), (LINK, &pinned.link)] {
        bpf_call::pin(object.as_fd(), &directory.join(name)).map_err(tried(what(name)))?;
    }
    Ok(())
}

/// Removes all pins under `pin_dir` but those in `except`.
pub(crate) fn remove(pin_dir: &Path, except: Option<&Path>) -> io::Result<()> {
    let entries = match std::fs::read_dir(pin_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && Some(path.as_path()) != except {
            std::fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// FNV-1a, 64 bits: names a build, protects against nothing.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
