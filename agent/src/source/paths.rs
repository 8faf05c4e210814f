//! Which path a cgroup has: learned once, when the cgroup is new, by reading its parent's directory.
//!
//! One directory read finds all new children of a parent together, so a thousand new cgroups under one parent cost one
//! read, not a thousand look-ups. Names are bytes from outside: they are kept as they are for opening files, and made
//! readable only for display. While nothing comes or goes, a round costs one comparison per cgroup.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::fs::DirEntryExt;
use std::path::PathBuf;

use agent_core::raw::{ROOT, RawCgroup};
use model::id::CgroupId;

pub(super) struct Paths {
    root: PathBuf,
    slice: String,
    known: BTreeMap<CgroupId, PathBuf>,
    /// The last round's cgroups.
    order: Vec<CgroupId>,
    /// Positions in it of the cgroups below the slice of Trimtab's tasks, ascending.
    own: Vec<usize>,
}

impl Paths {
    pub(super) fn new(root: PathBuf, slice: String) -> Self {
        Self { root, slice, known: BTreeMap::new(), order: Vec::new(), own: Vec::new() }
    }

    /// Positions of our own tasks' cgroups in the last round, ascending.
    pub(super) fn own(&self) -> &[usize] {
        &self.own
    }

    /// Path below the root.
    pub(super) fn get(&self, id: CgroupId) -> Option<&PathBuf> {
        self.known.get(&id)
    }

    /// Learns the paths of new cgroups, forgets those that are gone, and lists the new ones. A cgroup that vanished
    /// before its name was read gets its number as its name. Returns whether some are gone.
    pub(super) fn discover(&mut self, cgroups: &[RawCgroup], new: &mut Vec<(CgroupId, String)>) -> bool {
        if cgroups.iter().map(|c| c.id).eq(self.order.iter().copied()) {
            return false;
        }
        let mut listed: BTreeMap<CgroupId, BTreeMap<u64, OsString>> = BTreeMap::new();
        for cgroup in cgroups {
            if self.known.contains_key(&cgroup.id) {
                continue;
            }
            let parent = match cgroup.parent {
                ROOT => PathBuf::new(),
                id => self.known.get(&id).cloned().unwrap_or_default(),
            };
            let names = listed.entry(cgroup.parent).or_insert_with(|| children(&self.root.join(&parent)));
            let path = match names.get(&cgroup.id.0) {
                Some(name) => parent.join(name),
                None => parent.join(format!("(vanished {})", cgroup.id)),
            };
            new.push((cgroup.id, path.to_string_lossy().into_owned()));
            self.known.insert(cgroup.id, path);
        }
        let some_gone = self.known.len() > cgroups.len();
        if some_gone {
            let live: BTreeSet<CgroupId> = cgroups.iter().map(|c| c.id).collect();
            self.known.retain(|id, _| live.contains(id));
        }
        self.order.clear();
        self.order.extend(cgroups.iter().map(|c| c.id));
        let is_own = |id: &CgroupId| self.known.get(id).is_some_and(|path| path.starts_with(&self.slice));
        self.own = (0..self.order.len()).filter(|position| is_own(&self.order[*position])).collect();
        some_gone
    }
}

fn children(directory: &PathBuf) -> BTreeMap<u64, OsString> {
    let Ok(entries) = std::fs::read_dir(directory) else { return BTreeMap::new() };
    let is_dir = |e: &std::fs::DirEntry| e.file_type().is_ok_and(|t| t.is_dir());
    entries.filter_map(Result::ok).filter(is_dir).map(|e| (e.ino(), e.file_name())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn hostile_names_are_found_and_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["a", "$(id)", "x\ny", "..b", &"n".repeat(200)];
        let mut cgroups = Vec::new();
        for name in names {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            let id = CgroupId(std::fs::metadata(dir.path().join(name)).unwrap().ino());
            cgroups.push(RawCgroup { id, parent: ROOT, cpu_ns: 0, values: Default::default() });
        }
        cgroups.push(RawCgroup {
            id: CgroupId(u64::MAX),
            parent: ROOT,
            cpu_ns: 0,
            values: Default::default(),
        });
        let (mut paths, mut new) = (Paths::new(dir.path().into(), "a".into()), Vec::new());
        paths.discover(&cgroups, &mut new);
        assert_eq!(new.iter().take(5).map(|(_, p)| p.as_str()).collect::<Vec<_>>(), names);
        assert!(new[5].1.starts_with("(vanished"));
        assert_eq!(paths.own(), [0]);
        new.clear();
        assert!(!paths.discover(&cgroups, &mut new) && new.is_empty());
        cgroups.swap(0, 1);
        assert!(paths.discover(&cgroups[..2], &mut new));
        assert!(new.is_empty() && paths.get(cgroups[4].id).is_none());
        assert_eq!(paths.own(), [1], "positions follow the order of the round");
    }
}
