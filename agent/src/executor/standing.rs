//! A task's class, as the kernel is told of it: by files of the hierarchies, or by systemd's properties. What a host has no
//! file for is a gap with its reason, and the rest is told all the same.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use agent_core::qos::standing::{self, LEAST_WEIGHT, Standing, WEIGHT};
use model::action::Size;
use model::gap::Unavailable;
use model::id::TaskName;
use model::workload::Class;

use super::cgroup::{CgroupError, Cgroups, put};
use super::{Executor, ExecutorError, Runner, TaskFile};

/// Shares of v1 for the smallest weight (kernel/sched/sched.h: `MIN_SHARES`), and for the default.
const LEAST_SHARES: u32 = 2;
const SHARES: u32 = 1024;

/// What the kernel says after it was told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stood {
    /// What was read back, by file.
    pub back: BTreeMap<String, String>,
    /// What this host cannot be told, and why.
    pub gaps: Vec<Unavailable>,
}

impl Stood {
    /// As an outcome's read-back: gaps beside what is in force.
    #[must_use]
    pub fn read_back(self) -> BTreeMap<String, String> {
        let mut back = self.back;
        back.extend(self.gaps.into_iter().map(|gap| (gap.what, format!("not on this host: {}", gap.why))));
        back
    }

    pub(super) fn gap(&mut self, what: &str, why: impl Into<String>) {
        self.gaps.push(Unavailable { what: what.to_owned(), why: why.into() });
    }
}

/// Where a task is, and what its group, its workload's and the top are told.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) file: TaskFile,
    pub(super) task: Standing,
    pub(super) workload: Standing,
    pub(super) top: Standing,
    /// It has been of another class: what is usual is told, too.
    pub(super) changed: bool,
}

impl Order {
    /// Path of the workload's group below the top.
    pub(super) fn workload_path(&self) -> String {
        self.file.path.rsplit_once('/').map(|(workload, _)| workload.to_owned()).unwrap_or_default()
    }
}

impl Executor {
    /// What is told when `file` is one of the tasks.
    pub(super) fn order(&self, file: &TaskFile) -> Order {
        let others = || self.running().map(|(other, _, _)| other).filter(|other| other.task != file.task);
        let all = || others().chain(std::iter::once(file)).map(|f| (f.class, &f.size));
        let siblings = others().chain(std::iter::once(file)).filter(|f| f.workload == file.workload);
        Order {
            file: file.clone(),
            task: standing::task(file.class, &file.size),
            workload: standing::workload(siblings.map(|f| (f.class, &f.size))),
            top: standing::top(all()),
            changed: false,
        }
    }

    /// Changes how a task stands to others: on disk first, then in the kernel. `None` = it was so already.
    ///
    /// # Errors
    /// [`ExecutorError`] for an unknown task, or when its file could not be kept: nothing is changed then. The future's, when
    /// the kernel or systemd refuses.
    pub fn classify(
        &mut self,
        task: &TaskName,
        class: Class,
    ) -> Result<Option<impl Future<Output = Result<Stood, ExecutorError>> + Send + use<>>, ExecutorError>
    {
        let entry = self.entry(task)?;
        if entry.file.class == class {
            return Ok(None);
        }
        let mut file = entry.file.clone();
        // What the isolation loop had frozen is not its business any more.
        let thaw = file.class == Class::BestEffort && !file.frozen;
        file.class = class;
        if class != Class::BestEffort {
            file.capped_cpu_millis = None;
        }
        crate::durable::write(&self.directory.join(task.as_str()).join("task.json"), &file)?;
        if let Some(entry) = self.tasks.get_mut(task) {
            entry.file = file.clone();
        }
        let order = Order { changed: true, ..self.order(&file) };
        let (runner, cgroups) = (self.runner.clone(), self.cgroups.clone());
        Ok(Some(async move {
            if thaw {
                runner.freeze(&cgroups, &order.file, false).await?;
            }
            let stood = runner.stand(&cgroups, &order).await?;
            // From an idle group to one with a weight, and back to its own quota.
            let now = order.file.size_now();
            let weight = Size { cpu_weight: now.cpu_weight, ..Size::default() };
            let mut back = runner.resize(&cgroups, &order.file, &weight).await?;
            back.extend(runner.cap(&cgroups, &order.file, order.file.cpu_in_force()).await?);
            Ok(Stood { back: stood.back.into_iter().chain(back).collect(), ..stood })
        }))
    }

    /// systemd has made the groups above a task only now that it runs.
    pub(super) fn stand_above(&self, task: &TaskName) {
        let Ok(entry) = self.entry(task) else { return };
        if entry.file.class == Class::Standard || matches!(self.runner, Runner::Shim) {
            return;
        }
        let (order, runner, cgroups) = (self.order(&entry.file), self.runner.clone(), self.cgroups.clone());
        tokio::spawn(async move {
            let (task, class) = (&order.file.task, order.file.class);
            match runner.stand(&cgroups, &order).await {
                Ok(stood) => {
                    tracing::info!(%task, %class, in_force = ?stood.back, missing = ?stood.gaps, "class");
                }
                Err(error) => tracing::warn!(%task, %class, %error, "its class is not told to the kernel"),
            }
        });
    }
}

impl Runner {
    /// Tells the kernel how a task stands to others.
    pub(super) async fn stand(&self, cgroups: &Cgroups, order: &Order) -> Result<Stood, ExecutorError> {
        match self {
            Runner::Shim => Ok(cgroups.stand_all(order)),
            Runner::Systemd(systemd) => {
                let mut stood = systemd.stand(order).await?;
                cgroups.stands(&order.file.path, order.task, &mut stood);
                Ok(stood)
            }
        }
    }
}

impl Cgroups {
    /// From the top down, so that a protection holds as soon as it is given.
    pub(super) fn stand_all(&self, order: &Order) -> Stood {
        let mut above = Stood::default();
        self.protect("", order.top.memory_low_bytes, &mut above);
        self.stand(&order.workload_path(), order.workload, &mut above);
        let mut stood = Stood::default();
        self.stand(&order.file.path, order.task, &mut stood);
        // What is missing for the task's parents is missing for it, too.
        let missing = above.gaps.into_iter().filter(|gap| !stood.gaps.iter().any(|g| g.what == gap.what));
        let missing: Vec<_> = missing.collect();
        stood.gaps.extend(missing);
        stood
    }

    fn stand(&self, path: &str, standing: Standing, stood: &mut Stood) {
        if let Err(error) = self.idle(path, standing.idle, stood) {
            stood.gap("cpu.idle", error.to_string());
        }
        self.protect(path, standing.memory_low_bytes, stood);
        let high = standing.memory_high_bytes.map_or("max".to_owned(), |bytes| bytes.to_string());
        self.tell(path, "memory.high", &high, standing.memory_high_bytes.is_some(), stood);
        let io = format!("default {}", standing.io_weight);
        self.tell(path, "io.weight", &io, standing.io_weight != WEIGHT, stood);
    }

    fn protect(&self, path: &str, bytes: u64, stood: &mut Stood) {
        self.tell(path, "memory.low", &bytes.to_string(), bytes > 0, stood);
    }

    /// Whether a group is idle; where the kernel has no such thing, it gets the smallest weight.
    fn idle(&self, path: &str, idle: bool, stood: &mut Stood) -> Result<(), CgroupError> {
        let Some(directory) = self.cpu_directory(path) else {
            if idle {
                stood.gap("cpu.idle", CgroupError::NoController("cpu.idle").to_string());
            }
            return Ok(());
        };
        let full = directory.join("cpu.idle");
        match fs::read_to_string(&full) {
            Ok(is) if (is.trim() == "1") == idle => {
                drop(stood.back.insert("cpu.idle".to_owned(), is.trim().to_owned()));
            }
            Ok(_) => {
                let error = |error| CgroupError::Io { path: full.clone(), error };
                put(&full, if idle { "1" } else { "0" }).map_err(error)?;
                let is = fs::read_to_string(&full).map_err(error)?;
                stood.back.insert("cpu.idle".to_owned(), is.trim().to_owned());
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let (file, least, usual) = match self.has_v1("cpu") {
                    true => ("cpu.shares", LEAST_SHARES, SHARES),
                    false => ("cpu.weight", LEAST_WEIGHT, WEIGHT),
                };
                let weight = if idle { least } else { usual };
                let full = directory.join(file);
                let error = |error| CgroupError::Io { path: full.clone(), error };
                put(&full, &weight.to_string()).map_err(error)?;
                stood.back.insert(file.to_owned(), weight.to_string());
                if idle {
                    stood.gap(
                        "cpu.idle",
                        "the kernel has none (it came with 5.15): the smallest weight stands in",
                    );
                }
            }
            Err(error) => return Err(CgroupError::Io { path: full, error }),
        }
        Ok(())
    }

    /// Writes a file that is only on the unified hierarchy. What is refused is a gap, and so is a missing file if something was
    /// `wanted`: a task without its share at the disk is better than none.
    fn tell(&self, path: &str, file: &'static str, value: &str, wanted: bool, stood: &mut Stood) {
        match self.write(path, file, value, &mut stood.back) {
            Err(CgroupError::NoController(_)) if !wanted => {}
            Err(error) => stood.gap(file, error.to_string()),
            Ok(()) => {}
        }
    }

    /// Reads back what systemd has written.
    fn stands(&self, path: &str, standing: Standing, stood: &mut Stood) {
        let wanted = [
            ("cpu.idle", standing.idle),
            ("memory.low", standing.memory_low_bytes > 0),
            ("memory.high", standing.memory_high_bytes.is_some()),
            ("io.weight", standing.io_weight != WEIGHT),
        ];
        for (file, wanted) in wanted {
            if let (Err(why), true) = (self.read(path, file, &mut stood.back), wanted) {
                stood.gap(file, why.to_string());
            }
        }
    }

    /// Whether any other thread takes the CPU from a task at once: its group and those above it, below the top, are idle ones, as the kernel says.
    pub(crate) fn is_idle(&self, path: &str) -> bool {
        let groups = std::path::Path::new(path).ancestors().filter_map(std::path::Path::to_str);
        groups.filter(|group| !group.is_empty()).all(|group| {
            let file = self.cpu_directory(group).map(|directory| directory.join("cpu.idle"));
            file.and_then(|file| fs::read_to_string(file).ok()).is_some_and(|is| is.trim() == "1")
        })
    }

    /// Where the CPU controller has this group.
    pub(super) fn cpu_directory(&self, path: &str) -> Option<PathBuf> {
        self.quota_directory(path).or_else(|| self.has_unified("cpu").then(|| self.unified(path)))
    }

    /// What a class cannot have on this host, asked of the hierarchies themselves.
    pub(crate) fn class_gaps(&self) -> Vec<Unavailable> {
        let mut stood = Stood::default();
        if !self.has_v1("cpu") && !self.has_unified("cpu") {
            stood.gap(
                "cpu",
                "the cpu controller is on no hierarchy that is mounted here: neither idle groups nor quotas",
            );
        }
        if !self.has_unified("memory") {
            let why = "the memory controller is not on the unified hierarchy: no memory.low, memory.high, memory.reclaim; boot with the unified hierarchy";
            stood.gap("memory", why);
        }
        if !self.has_unified("io") {
            stood.gap("io", "the io controller is not on the unified hierarchy: no io.weight");
        }
        stood.gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// A hierarchy as a kernel with these controllers shows it; `files` are those of the task and its parents.
    fn hierarchy(controllers: &str, files: &[&str]) -> (tempfile::TempDir, Cgroups) {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.controllers"), controllers).unwrap();
        for path in ["t.slice", "t.slice/jobs", "t.slice/jobs/jobs-1"] {
            fs::create_dir(root.path().join(path)).unwrap();
            for file in files {
                fs::write(root.path().join(path).join(file), "0\n").unwrap();
            }
        }
        let cgroups = Cgroups::find(root.path(), "t.slice");
        (root, cgroups)
    }

    fn file(root: &Path, path: &str) -> String {
        fs::read_to_string(root.join("t.slice").join(path)).unwrap_or_default().trim().to_owned()
    }

    #[test]
    fn an_idle_group_is_idle_beside_its_siblings_and_one_that_has_no_such_file_has_the_least_weight() {
        let best = Standing { idle: true, io_weight: LEAST_WEIGHT, ..Standing::DEFAULT };
        let (root, cgroups) =
            hierarchy("cpu memory io", &["cpu.idle", "memory.low", "memory.high", "io.weight"]);
        let mut stood = Stood::default();
        cgroups.stand("jobs/jobs-1", Standing { memory_high_bytes: Some(900), ..best }, &mut stood);
        let is = |name: &str| file(root.path(), &format!("jobs/jobs-1/{name}"));
        assert_eq!(
            (is("cpu.idle"), is("memory.high"), is("io.weight")),
            ("1".into(), "900".into(), "default 1".into())
        );
        assert!(stood.gaps.is_empty(), "{:?}", stood.gaps);
        assert!(!cgroups.is_idle("jobs/jobs-1"), "its workload has a weight: it yields to siblings only");
        cgroups.stand("jobs", best, &mut Stood::default());
        assert!(cgroups.is_idle("jobs/jobs-1"));
        cgroups.stand("jobs/jobs-1", Standing::DEFAULT, &mut Stood::default());
        assert_eq!((is("cpu.idle"), is("memory.high")), ("0".into(), "max".into()), "and back");

        let (root, cgroups) = hierarchy("cpu memory io", &["cpu.weight"]);
        let mut stood = Stood::default();
        cgroups.stand("jobs/jobs-1", best, &mut stood);
        assert_eq!(file(root.path(), "jobs/jobs-1/cpu.weight"), "1");
        assert!(!cgroups.is_idle("jobs/jobs-1"), "a small weight is no idle class");
        assert_eq!(
            stood.gaps.iter().map(|gap| gap.what.as_str()).collect::<Vec<_>>(),
            ["cpu.idle", "io.weight"]
        );
    }

    #[test]
    fn what_a_host_has_no_file_for_is_a_gap_with_its_reason_and_never_an_error() {
        let (_root, cgroups) = hierarchy("cpu memory io", &[]);
        let wanted =
            Standing { memory_low_bytes: 5, memory_high_bytes: Some(900), io_weight: 1, ..Standing::DEFAULT };
        let mut stood = Stood::default();
        for (name, value, wanted) in [("memory.low", "5", true), ("memory.high", "max", false)] {
            cgroups.tell("jobs/jobs-1", name, value, wanted, &mut stood);
        }
        assert_eq!(stood.gaps.len(), 1, "what nobody wanted is not missing: {:?}", stood.gaps);
        assert!(stood.gaps[0].why.contains("cannot be set on this host"), "{}", stood.gaps[0].why);
        cgroups.stands("gone", wanted, &mut stood);
        assert_eq!(stood.read_back().len(), 3);
        let none = Cgroups::find(Path::new("/nowhere"), "t.slice").class_gaps();
        assert!(
            none.iter().all(|gap| !gap.why.is_empty()) && none.iter().any(|gap| gap.what == "memory"),
            "{none:?}"
        );
    }
}
