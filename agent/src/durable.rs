//! Small files that are whole or absent, whatever happens: written beside, synced, renamed, the directory synced.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
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
    let io = |error| DurableError::Io { path: path.to_owned(), error };
    let beside = path.with_extension("new");
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(mode).open(&beside).map_err(io)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io)?;
    fs::rename(&beside, path).map_err(io)?;
    if let Some(directory) = path.parent() {
        File::open(directory).and_then(|d| d.sync_all()).map_err(io)?;
    }
    Ok(())
}

/// Reads what [`write`] wrote; `None` when there is no such file.
///
/// # Errors
/// [`DurableError`] when the file cannot be read or is damaged.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DurableError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| DurableError::Damaged { path: path.to_owned(), why: e.to_string() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DurableError::Io { path: path.to_owned(), error }),
    }
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
}
