//! Memory of a cgroup: by the iterator where it is on the unified hierarchy, by `memory.current` where only the file
//! is, and on hybrid hosts from the v1 hierarchy under the same path, through cgroups-rs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use agent_core::parse;
use agent_core::raw::{Raw, RawCgroup};
use cgroups_rs::fs::Cgroup;
use cgroups_rs::fs::hierarchies::V1;
use cgroups_rs::fs::memory::MemController;
use model::gap::Unavailable;
use model::id::CgroupId;
use model::metric::Metric;

use super::paths::Paths;

/// Where memory is accounted on this host.
enum Place {
    /// On the unified hierarchy.
    Unified { root: PathBuf },
    /// On a v1 hierarchy.
    V1 { root: PathBuf },
    /// Nowhere that this agent can read.
    Nowhere,
}

pub(super) struct Memory {
    place: Place,
    v1: BTreeMap<CgroupId, Option<Box<Cgroup>>>,
}

impl Memory {
    pub(super) fn find(unified: &Path) -> Self {
        let controllers = std::fs::read_to_string(unified.join("cgroup.controllers")).unwrap_or_default();
        let place = if controllers.split_whitespace().any(|c| c == "memory") {
            Place::Unified { root: unified.to_owned() }
        } else {
            match V1::new().get_mount_point(cgroups_rs::fs::Controllers::Mem) {
                Some((root, _)) => Place::V1 { root },
                None => Place::Nowhere,
            }
        };
        Self { place, v1: BTreeMap::new() }
    }

    pub(super) fn is_unified(&self) -> bool {
        matches!(self.place, Place::Unified { .. })
    }

    pub(super) fn unavailable(&self) -> Vec<Unavailable> {
        let one = |what: &str, why: &str| vec![Unavailable { what: what.into(), why: why.into() }];
        match self.place {
            Place::Unified { .. } | Place::V1 { .. } => Vec::new(),
            Place::Nowhere => one("memory", "the memory controller is on no hierarchy that is mounted here"),
        }
    }

    pub(super) fn kept(&self) -> usize {
        self.v1.len()
    }

    /// Adds memory to the cgroups of a `slow` round that do not have it: every such read opens files.
    pub(super) fn read(&mut self, raw: &mut Raw, paths: &Paths, slow: bool) {
        if !slow {
            return;
        }
        for cgroup in &mut raw.cgroups {
            if cgroup.values.get(Metric::MemoryCurrent).is_some() {
                continue;
            }
            let Some(path) = paths.get(cgroup.id) else { continue };
            match &self.place {
                Place::Nowhere => return,
                Place::Unified { root } => {
                    let file = std::fs::read(root.join(path).join("memory.current"));
                    if let Some(bytes) = file.ok().and_then(|b| parse::single(&b).ok().flatten()) {
                        cgroup.values.set(Metric::MemoryCurrent, bytes);
                    }
                }
                Place::V1 { root } => {
                    let found = self.v1.entry(cgroup.id).or_insert_with(|| {
                        let controllers = vec!["memory".to_owned()];
                        let load = || {
                            Box::new(Cgroup::load_with_specified_controllers(
                                Box::new(V1::new()),
                                path,
                                controllers,
                            ))
                        };
                        root.join(path).is_dir().then(load)
                    });
                    let Some(found) = found else { continue };
                    let Some(memory) = found.controller_of::<MemController>() else { continue };
                    let stat = memory.memory_stat();
                    cgroup.values.set(Metric::MemoryCurrent, stat.usage_in_bytes);
                    cgroup.values.set(Metric::MemoryPeak, stat.max_usage_in_bytes);
                    cgroup.values.set(Metric::OomKills, stat.oom_control.oom_kill);
                }
            }
        }
    }

    pub(super) fn forget_missing(&mut self, cgroups: &[RawCgroup]) {
        if !self.v1.is_empty() {
            let live: BTreeSet<CgroupId> = cgroups.iter().map(|c| c.id).collect();
            self.v1.retain(|id, _| live.contains(id));
        }
    }
}
