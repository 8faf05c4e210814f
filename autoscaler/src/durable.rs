//! Small secret files that are whole or absent, whatever happens: written beside, synced, renamed, the directory synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes a file that only its owner reads (mode 0600), so that `path` holds the old or the new content after a crash at
/// any point.
///
/// # Errors
/// What the system says, among others when the disk is full; the old content is then still there.
pub fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    // Left over from a crash: made anew, so that its mode is known.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_whole_and_its_owners_only_also_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pem");
        fs::write(dir.path().join("a.new"), "half of a k").unwrap();
        write_secret(&path, b"first").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        write_secret(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        fs::create_dir(dir.path().join("a.new")).unwrap();
        assert!(write_secret(&path, b"third").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"second", "the old one stays");
    }
}
