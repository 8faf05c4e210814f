//! Bytes that tasks read from and wrote to block devices: `io.stat`, of our own tasks in every round, of others in the slow ones.
//!
//! A cgroup has the file when the `io` controller is on for it. What is written through the page cache is charged to the task that wrote it,
//! when the kernel writes it out (cgroup-v2.rst, "Writeback"; file systems that cannot do that charge the root).

use std::path::Path;

use agent_core::parse;
use agent_core::raw::{Raw, RawCgroup};
use model::gap::Unavailable;

use super::Health;
use super::files::Files;
use super::paths::Paths;

const FILE: &str = "io.stat";

/// Whether this host accounts for disks.
pub(super) struct Disks {
    accounted: bool,
}

impl Disks {
    pub(super) fn find(unified: &Path) -> Self {
        let controllers = std::fs::read_to_string(unified.join("cgroup.controllers")).unwrap_or_default();
        Self { accounted: controllers.split_whitespace().any(|c| c == "io") }
    }

    pub(super) fn unavailable(&self) -> Option<Unavailable> {
        let why =
            "the io controller is not on the unified hierarchy: boot with systemd.unified_cgroup_hierarchy=1";
        (!self.accounted).then(|| Unavailable { what: "io".into(), why: why.into() })
    }

    /// Adds the bytes to the cgroups whose turn it is.
    pub(super) fn read(
        &self,
        files: &mut Files,
        raw: &mut Raw,
        paths: &Paths,
        slow: bool,
        health: &mut Health,
    ) {
        if !self.accounted {
            return;
        }
        let mut read = |cgroup: &mut RawCgroup| {
            let Some(path) = paths.get(cgroup.id) else { return };
            // The controller may be off for it, or it ended: then there is nothing to say.
            let Ok(Some(bytes)) = files.read(cgroup.id, path, FILE) else { return };
            if parse::io_stat(bytes, &mut cgroup.values).is_err() {
                health.malformed += 1;
            }
        };
        if slow {
            raw.cgroups.iter_mut().for_each(read);
        } else {
            paths.own().iter().for_each(|position| {
                if let Some(cgroup) = raw.cgroups.get_mut(*position) {
                    read(cgroup);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use agent_core::raw::ROOT;
    use model::id::CgroupId;
    use model::metric::Metric;

    use super::*;

    /// A tree with one task of ours and one of somebody else, both with 10 bytes read and 20 written.
    fn tree(controllers: &str) -> (tempfile::TempDir, Raw, Paths) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.controllers"), controllers).unwrap();
        let mut raw = Raw::default();
        for name in ["trimtab", "other"] {
            let directory = dir.path().join(name);
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join(FILE), "8:0 rbytes=10 wbytes=20 rios=1 wios=1\n").unwrap();
            let id = CgroupId(fs::metadata(&directory).unwrap().ino());
            raw.cgroups.push(RawCgroup { id, parent: ROOT, cpu_ns: 0, values: Default::default() });
        }
        let mut paths = Paths::new(dir.path().into(), "trimtab".into());
        paths.discover(&raw.cgroups, &mut Vec::new());
        (dir, raw, paths)
    }

    fn written(controllers: &str, slow: bool) -> Vec<Option<u64>> {
        let (dir, mut raw, paths) = tree(controllers);
        let mut files = Files::new(dir.path().into(), false);
        let disks = Disks::find(dir.path());
        disks.read(&mut files, &mut raw, &paths, slow, &mut Health::default());
        raw.cgroups.iter().map(|c| c.values.get(Metric::IoWritten)).collect()
    }

    #[test]
    fn our_own_are_read_in_every_round_and_others_in_slow_ones() {
        assert_eq!(written("cpu io memory\n", false), [Some(20), None]);
        assert_eq!(written("cpu io memory\n", true), [Some(20), Some(20)]);
    }

    #[test]
    fn a_host_that_does_not_account_says_so_and_gives_nothing() {
        assert_eq!(written("cpu memory\n", true), [None, None]);
        let (dir, _, _) = tree("hugetlb\n");
        assert!(Disks::find(dir.path()).unavailable().is_some_and(|gap| gap.what == "io"));
        let (dir, _, _) = tree("cpu io\n");
        assert_eq!(Disks::find(dir.path()).unavailable(), None);
    }

    #[test]
    fn a_file_that_is_none_is_counted() {
        let (dir, mut raw, paths) = tree("io\n");
        fs::write(dir.path().join("other").join(FILE), "8:0 rbytes=x\n").unwrap();
        let mut health = Health::default();
        let mut files = Files::new(dir.path().into(), false);
        Disks::find(dir.path()).read(&mut files, &mut raw, &paths, true, &mut health);
        assert_eq!(health.malformed, 1);
        assert_eq!(raw.cgroups[1].values.get(Metric::IoWritten), None, "not zero");
    }
}
