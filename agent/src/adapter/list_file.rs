//! A list that another program reads, changed by us: whole or as before, with its owner and its rights.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Largest list that is read, bytes.
const LIMIT: u64 = 4 << 20;

/// A file of a fixed path.
#[derive(Debug, Clone)]
pub(super) struct ListFile(PathBuf);

impl ListFile {
    /// The file at this path.
    #[must_use]
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// What stands in it.
    ///
    /// # Errors
    /// A text that names the file.
    pub(super) fn read(&self) -> Result<String, String> {
        let path = &self.0;
        let size = fs::metadata(path).map_err(|e| self.says(&e))?.len();
        if size > LIMIT {
            return Err(format!("{}: it has {size} bytes, more than {LIMIT}", path.display()));
        }
        fs::read_to_string(path).map_err(|e| self.says(&e))
    }

    /// Puts another text into the place of the one that was read. It stays what it is when that cannot be done, or when somebody else has
    /// changed it since.
    ///
    /// # Errors
    /// A text that names the file.
    pub(super) fn swap(&self, from: &str, to: &str) -> Result<(), String> {
        if self.read()? != from {
            return Err(format!("{}: somebody changed it meanwhile", self.0.display()));
        }
        self.replace(to).map_err(|e| self.says(&e))
    }

    fn replace(&self, text: &str) -> std::io::Result<()> {
        // A link is followed: what it points to is what the other program reads.
        let target = fs::canonicalize(&self.0)?;
        let before = fs::metadata(&target)?;
        let directory = target.parent().unwrap_or(Path::new("/"));
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let new = directory.join(format!(".{name}.trimtab"));
        let written = (|| {
            let mut file = fs::File::create(&new)?;
            file.set_permissions(fs::Permissions::from_mode(before.mode() & 0o7777))?;
            std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &target)?;
            fs::File::open(directory)?.sync_all()
        })();
        if written.is_err() {
            // What could not take its place is not left behind.
            let _ = fs::remove_file(&new);
        }
        written
    }

    fn says(&self, why: &std::io::Error) -> String {
        format!("{}: {why}", self.0.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_its_rights_and_a_link_stays_one() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("list.xml"), dir.path().join("link.xml"));
        fs::write(&file, "before").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let list = ListFile::new(link.clone());
        assert_eq!(list.read(), Ok("before".to_owned()));
        list.swap("before", "after").unwrap();
        assert!(list.swap("before", "later").unwrap_err().contains("somebody changed it"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "after");
        assert!(link.is_symlink());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn a_list_that_cannot_be_written_stays_and_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let list = ListFile::new(dir.path().join("none.xml"));
        assert!(list.read().unwrap_err().contains("none.xml: No such file"));
        assert!(list.swap("", "x").unwrap_err().contains("none.xml"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
