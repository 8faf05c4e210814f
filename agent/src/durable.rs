//! Small files that are whole or absent, whatever happens: written beside, synced, renamed, the directory synced.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a file of state could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum DurableError {
    /// The disk says no.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// The file is not what this program writes.
    #[error("{path} is damaged: {why}; move it away to go on without it")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// Writes `value` as JSON so that `path` holds either the old or the new content after a crash at any point.
///
/// # Errors
/// [`DurableError::Io`], among others when the disk is full; the old content is then still there.
pub fn write(path: &Path, value: &impl Serialize) -> Result<(), DurableError> {
    let io = |error| DurableError::Io { path: path.to_owned(), error };
    let mut bytes = serde_json::to_vec(value).map_err(|e| io(io::Error::other(e)))?;
    bytes.push(b'\n');
    replace(path, &bytes, 0o644)
}

/// Writes `bytes` with this mode (as the umask allows) so that `path` holds either the old or the new content after a crash at any point.
///
/// # Errors
/// As [`write()`].
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    swap(path, bytes, mode, None).map_err(|error| DurableError::Io { path: path.to_owned(), error })
}

/// Writes a secret in the same way: mode 0600, and of the directory's owner, also when root writes it for the agent.
///
/// # Errors
/// [`DurableError::Io`].
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), DurableError> {
    let io = |error| DurableError::Io { path: path.to_owned(), error };
    let owner = path.parent().map(fs::metadata).transpose().map_err(io)?;
    swap(path, bytes, 0o600, owner.map(|of| (of.uid(), of.gid()))).map_err(io)
}

/// Whether a secret of this size could be written now. What is tried is taken away again.
///
/// # Errors
/// [`DurableError::Io`] when it could not.
pub fn try_secret(path: &Path, bytes: usize) -> Result<(), DurableError> {
    let io = |error| DurableError::Io { path: path.to_owned(), error };
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io)?;
    }
    let beside = path.with_extension("trial");
    let tried = File::create(&beside)
        .and_then(|mut file| file.write_all(&vec![0; bytes]).and_then(|()| file.sync_all()));
    let removed = fs::remove_file(&beside);
    tried.and(removed).map_err(io)
}

fn swap(path: &Path, bytes: &[u8], mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    let beside = path.with_extension("new");
    // Left over from a crash: made anew, so that its mode is known.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    if let Some((uid, gid)) = owner
        && rustix::process::geteuid().is_root()
    {
        std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// Reads a file of bytes; `None` when there is none.
///
/// # Errors
/// [`DurableError::Io`] when it cannot be read.
pub fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>, DurableError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DurableError::Io { path: path.to_owned(), error }),
    }
}

/// Reads what [`write`] wrote; `None` when there is no such file.
///
/// # Errors
/// [`DurableError`] when the file cannot be read or is damaged.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DurableError> {
    let Some(bytes) = read_bytes(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| DurableError::Damaged { path: path.to_owned(), why: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_written_file_beside_is_not_read_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        assert_eq!(read::<Vec<u32>>(&path).unwrap(), None);
        write(&path, &vec![1, 2]).unwrap();
        fs::write(dir.path().join("state.new"), "[1, 2, ").unwrap();
        assert_eq!(read::<Vec<u32>>(&path).unwrap(), Some(vec![1, 2]));
        fs::write(&path, "[1, ").unwrap();
        assert!(read::<Vec<u32>>(&path).unwrap_err().to_string().contains("state.json is damaged"));
    }

    #[test]
    fn a_secret_is_its_owners_only_and_a_trial_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/identity.pem");
        try_secret(&path, 4096).unwrap();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
        fs::write(path.with_extension("new"), "left over").unwrap();
        write_secret(&path, b"key").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(read_bytes(&path).unwrap().unwrap(), b"key");
        fs::create_dir(path.with_extension("new")).unwrap();
        assert!(write_secret(&path, b"other").is_err());
        assert_eq!(read_bytes(&path).unwrap().unwrap(), b"key", "the one before stays");
    }

    #[test]
    fn what_root_writes_for_the_agent_is_the_agents() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIP: only root can give a directory away");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(dir.path(), Some(61_234), Some(61_235)).unwrap();
        write_secret(&dir.path().join("identity.pem"), b"key").unwrap();
        let found = fs::metadata(dir.path().join("identity.pem")).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (61_234, 61_235, 0o600));
    }
}
