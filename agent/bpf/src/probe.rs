//! Everything that can be asked of the kernel: load once, then read every tick without allocation.
//!
//! A tick is [`KernelProbe::read_cgroups`], then [`KernelProbe::scan_runq`]: who lives is known before the scan gives slots back.

use crate::bpf_call;
use crate::feature::{Feature, FeatureReport, FeatureState, Refusal};
use crate::kernel::Kernel;
use crate::ledger::{Ledger, RunqTotals};
use crate::liveness;
use crate::memory;
use crate::pass::{Pass, PassReport};
use crate::pins;
use crate::regions::Regions;
use crate::self_check;
use crate::switch::{Room, Switch};
use agent_abi::cgroup::CgroupRecord;
use agent_abi::histogram::BUCKETS;
use aya_obj::generated::bpf_prog_info;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What to load, and how large.
#[derive(Debug, Clone)]
pub struct ProbeConfig {
    /// Where the unified cgroup hierarchy is mounted.
    pub cgroup_root: PathBuf,
    /// The subtree that a pass reads; usually `cgroup_root` itself.
    pub pass_top: PathBuf,
    /// Cgroups to make room for. More are counted too, but their run-queue figures may share the overflow slot.
    pub expected_cgroups: usize,
    /// Most memory for run-queue slots, bytes, all CPUs together.
    pub region_budget_bytes: usize,
    /// Directory on a bpf file system where the run-queue program survives this process; `None`: it ends with it.
    pub pin_dir: Option<PathBuf>,
    /// Features not to load.
    pub disabled_features: BTreeSet<Feature>,
}

impl ProbeConfig {
    /// Defaults for the hierarchy mounted at `cgroup_root`: 1,024 cgroups, 64 MiB of slots at most (2 MiB per CPU are used at that number),
    /// nothing pinned, nothing disabled.
    pub fn new(cgroup_root: impl Into<PathBuf>) -> Self {
        let cgroup_root = cgroup_root.into();
        Self {
            pass_top: cgroup_root.clone(),
            cgroup_root,
            expected_cgroups: 1024,
            region_budget_bytes: 64 << 20,
            pin_dir: None,
            disabled_features: BTreeSet::new(),
        }
    }
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The unified hierarchy is not there.
    #[error("cannot open the cgroup root {path}: {error}")]
    CgroupRoot {
        /// The path.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// The feature was refused at load; see [`KernelProbe::features`].
    #[error("{0} is not active")]
    Inactive(Feature),
    /// The iterator did not run.
    #[error("pass over the cgroups below {top}: {error}")]
    Pass {
        /// Top of the subtree.
        top: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// A larger pass could not be loaded.
    #[error("make room for {cgroups} cgroups: {refusal}")]
    Grow {
        /// Cgroups met.
        cgroups: usize,
        /// Why not.
        refusal: Refusal,
    },
    /// Statistics of the programs could not be read.
    #[error("statistics of {program}: {error}")]
    Statistics {
        /// The program, or "all programs".
        program: &'static str,
        /// The error.
        error: io::Error,
    },
    /// Pins could not be removed.
    #[error("remove pins in {path}: {error}")]
    Unpin {
        /// The directory.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
}

/// Which cgroups to visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// Those that switched between the last two scans.
    Changed,
    /// All that ever switched and are not closed.
    All,
}

/// Run-queue figures of one cgroup.
#[derive(Debug, Clone, Copy)]
pub struct Runq<'a> {
    /// Inode number on the unified hierarchy.
    pub cgroup_id: u64,
    /// Sums over all CPUs, cumulative.
    pub totals: RunqTotals,
    regions: &'a Regions,
}

impl Runq<'_> {
    /// Adds the delays by bucket (see [`agent_abi::histogram`]) of all CPUs to `into`, modulo 2³².
    pub fn add_histogram(&self, into: &mut [u32; BUCKETS]) {
        for cpu in 0..self.regions.cpus() {
            if let Some(slot) = self.regions.find(cpu, self.cgroup_id) {
                self.regions.add_histogram(slot, into);
            }
        }
    }
}

/// What the kernel side could not do, since load. All cumulative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Switches hidden from the tracepoint: each may take one slice of on-CPU time and one wait away. None on most kernels.
    pub guard_misses: u64,
    /// Searches for a slot beyond the first place.
    pub collisions: u64,
    /// Searches that found no slot.
    pub overflows: u64,
    /// Sums of what found no slot.
    pub overflow: RunqTotals,
    /// Sums of cgroups that are no longer visited.
    pub closed: RunqTotals,
    /// Cgroups with run-queue figures.
    pub tracked: usize,
    /// Slots in use as of the last scan, all CPUs together.
    pub slots_used: usize,
    /// Slots there are, all CPUs together.
    pub slots: usize,
}

/// What a program costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgramCost {
    /// Name of the program.
    pub program: &'static str,
    /// Time it ran while measuring was on, ns.
    pub run_time_ns: u64,
    /// Runs while measuring was on.
    pub runs: u64,
    /// Instructions that the verifier walked; 0 before kernel 5.16.
    pub verified_instructions: u32,
}

/// The loaded kernel side.
#[derive(Debug)]
pub struct KernelProbe {
    config: ProbeConfig,
    root: File,
    switch: Option<(Switch, Ledger)>,
    pass: Option<Pass>,
    features: Vec<FeatureReport>,
    run_time: Option<OwnedFd>,
    scans: u64,
}

/// Without a pass, all cgroups are asked after at every this many scans.
const SCANS_PER_ROLL_CALL: u64 = 10;

impl KernelProbe {
    /// Loads what the configuration wants and this kernel takes. A refused feature is reported, not an error.
    ///
    /// # Errors
    /// [`ProbeError::CgroupRoot`].
    pub fn load(config: &ProbeConfig) -> Result<Self, ProbeError> {
        let root = File::open(&config.cgroup_root)
            .map_err(|error| ProbeError::CgroupRoot { path: config.cgroup_root.clone(), error })?;
        let mut probe = Self {
            config: config.clone(),
            root,
            switch: None,
            pass: None,
            features: Vec::new(),
            run_time: None,
            scans: 0,
        };
        match Kernel::read() {
            Ok(kernel) => probe.start(&kernel),
            Err(refusal) => {
                let reason = refusal.to_string();
                probe.report::<()>(Feature::RunQueue, Err(refusal));
                let refusal = Refusal::Load { program: "all programs", reason };
                probe.report::<()>(Feature::CgroupPass, Err(refusal));
            }
        }
        memory::give_back_heap();
        Ok(probe)
    }

    fn start(&mut self, kernel: &Kernel) {
        let config = self.config.clone();
        let enabled = |feature| {
            if config.disabled_features.contains(&feature) { Err(Refusal::Disabled) } else { Ok(()) }
        };
        let room = Room { cgroups: config.expected_cgroups, bytes: config.region_budget_bytes };
        let switch = enabled(Feature::RunQueue)
            .and_then(|()| self_check::run(kernel, &config.cgroup_root))
            .and_then(|()| Switch::start(kernel, room, config.pin_dir.as_deref()));
        self.switch = self.report(Feature::RunQueue, switch).map(|switch| {
            let ledger = Ledger::new(&switch.regions);
            (switch, ledger)
        });
        let pass = enabled(Feature::CgroupPass).and_then(|()| {
            Pass::start(kernel, &config.pass_top, config.expected_cgroups, &config.disabled_features)
        });
        self.pass = self.report(Feature::CgroupPass, pass).map(|(pass, gaps)| {
            for feature in Feature::ALL.into_iter().filter(|feature| feature.record_group().is_some()) {
                if !gaps.iter().any(|(gap, _)| *gap == feature) {
                    self.features.push(FeatureReport { feature, state: FeatureState::Active });
                }
            }
            for (feature, refusal) in gaps {
                self.features.push(FeatureReport { feature, state: FeatureState::Refused(refusal) });
            }
            pass
        });
    }

    fn report<T>(&mut self, feature: Feature, result: Result<T, Refusal>) -> Option<T> {
        let (state, value) = match result {
            Ok(value) => (FeatureState::Active, Some(value)),
            Err(refusal) => (FeatureState::Refused(refusal), None),
        };
        self.features.push(FeatureReport { feature, state });
        value
    }

    /// What became of each feature.
    pub fn features(&self) -> &[FeatureReport] {
        &self.features
    }

    /// True when the feature works.
    pub fn is_active(&self, feature: Feature) -> bool {
        self.features.iter().any(|report| report.feature == feature && report.is_active())
    }

    /// True when the run-queue counts of a former agent go on.
    pub fn has_adopted(&self) -> bool {
        self.switch.as_ref().is_some_and(|(switch, _)| switch.adopted)
    }

    /// Reads every cgroup of the subtree, parents before children, at one moment.
    ///
    /// Allocates only when there are more cgroups than there was room for: then a larger pass is loaded and run at once.
    ///
    /// # Errors
    /// [`ProbeError::Inactive`], [`ProbeError::Pass`], [`ProbeError::Grow`].
    pub fn read_cgroups(&mut self, mut visit: impl FnMut(&CgroupRecord)) -> Result<PassReport, ProbeError> {
        let pass = self.pass.as_mut().ok_or(ProbeError::Inactive(Feature::CgroupPass))?;
        let top = &self.config.pass_top;
        let failed = |error| ProbeError::Pass { top: top.clone(), error };
        if let Some((_, ledger)) = &mut self.switch {
            ledger.pass_began();
        }
        let mut report = pass.run().map_err(failed)?;
        if pass.should_grow(report) {
            let disabled = &self.config.disabled_features;
            *pass = larger_pass(top, report.seen * 2, disabled)
                .map_err(|refusal| ProbeError::Grow { cgroups: report.seen, refusal })?;
            report = pass.run().map_err(failed)?;
        }
        pass.for_each(report, |record| {
            if let Some((_, ledger)) = &mut self.switch {
                ledger.saw_alive(record.id);
            }
            visit(record);
        });
        Ok(report)
    }

    /// Folds what the programs counted since the last scan into totals per cgroup, and gives back the slots of dead cgroups.
    ///
    /// # Errors
    /// [`ProbeError::Inactive`].
    pub fn scan_runq(&mut self) -> Result<(), ProbeError> {
        let (switch, ledger) = self.switch.as_mut().ok_or(ProbeError::Inactive(Feature::RunQueue))?;
        self.scans += 1;
        if self.pass.is_none() && self.scans.is_multiple_of(SCANS_PER_ROLL_CALL) {
            ledger.pass_began();
        }
        let root = &self.root;
        ledger.scan(&mut switch.regions, &mut |id| liveness::is_gone(root, id));
        Ok(())
    }

    /// Visits cgroups with their run-queue figures as of the last scan, in no particular order. A closed cgroup is visited for the last
    /// time at the scan that saw its last switch.
    pub fn for_each_runq(&self, which: Visit, mut visit: impl FnMut(Runq<'_>)) {
        let Some((switch, ledger)) = &self.switch else { return };
        for (cgroup_id, totals) in ledger.entries(which == Visit::Changed) {
            visit(Runq { cgroup_id, totals, regions: &switch.regions });
        }
    }

    /// Run-queue figures of one cgroup as of the last scan.
    pub fn runq(&self, cgroup_id: u64) -> Option<Runq<'_>> {
        let (switch, ledger) = self.switch.as_ref()?;
        let totals = ledger.totals(cgroup_id)?;
        Some(Runq { cgroup_id, totals, regions: &switch.regions })
    }

    /// Run-queue totals of one cgroup now, without a scan of all: for the few that are looked at more often than a tick. Adds its waits by
    /// bucket to `lengths`, modulo 2³².
    pub fn runq_now(&self, cgroup_id: u64, lengths: &mut [u32; BUCKETS]) -> Option<RunqTotals> {
        let (switch, ledger) = self.switch.as_ref()?;
        let totals = ledger.now(&switch.regions, cgroup_id)?;
        Runq { cgroup_id, totals, regions: &switch.regions }.add_histogram(lengths);
        Some(totals)
    }

    /// What the kernel side could not do.
    pub fn counters(&self) -> Counters {
        let mut counters = Counters::default();
        if let Some((switch, ledger)) = &self.switch {
            for cpu in 0..switch.regions.cpus() {
                let head = switch.regions.head(cpu);
                counters.guard_misses += head.guard_misses;
                counters.collisions += head.collisions;
                counters.overflows += head.overflows;
            }
            counters.overflow = ledger.overflow();
            counters.closed = ledger.closed();
            counters.tracked = ledger.len();
            counters.slots_used = ledger.slots_used();
            counters.slots = switch.regions.cpus() * switch.regions.slots();
        }
        counters
    }

    /// Lets the kernel measure the programs' run time, or stops it. It measures every program on the node meanwhile.
    ///
    /// # Errors
    /// [`ProbeError::Statistics`]: needs `CAP_SYS_ADMIN` on some kernels.
    pub fn measure_run_time(&mut self, on: bool) -> Result<(), ProbeError> {
        self.run_time = if on {
            let statistics = |error| ProbeError::Statistics { program: "all programs", error };
            Some(bpf_call::enable_run_time().map_err(statistics)?)
        } else {
            None
        };
        Ok(())
    }

    /// What each program has cost while [`KernelProbe::measure_run_time`] was on.
    ///
    /// # Errors
    /// [`ProbeError::Statistics`].
    pub fn program_costs(&self, mut visit: impl FnMut(ProgramCost)) -> Result<(), ProbeError> {
        let mut one = |program, fd| {
            let info: bpf_prog_info =
                bpf_call::info(fd).map_err(|error| ProbeError::Statistics { program, error })?;
            visit(ProgramCost {
                program,
                run_time_ns: info.run_time_ns,
                runs: info.run_cnt,
                verified_instructions: info.verified_insns,
            });
            Ok(())
        };
        if let Some((switch, _)) = &self.switch {
            one("count_switch", switch.program())?;
        }
        if let Some(pass) = &self.pass {
            one("visit_cgroup", pass.program())?;
        }
        Ok(())
    }

    /// Kernel memory of all maps, bytes. It is mapped here, so it also counts as this process's.
    pub fn map_bytes(&self) -> usize {
        self.switch.as_ref().map_or(0, |(switch, _)| switch.regions.mapped_bytes())
            + self.pass.as_ref().map_or(0, Pass::mapped_bytes)
    }

    /// Removes every pin below `pin_dir`, which ends the counting once no agent runs.
    ///
    /// # Errors
    /// [`ProbeError::Unpin`].
    pub fn unpin(pin_dir: &Path) -> Result<(), ProbeError> {
        pins::remove(pin_dir, None).map_err(|error| ProbeError::Unpin { path: pin_dir.into(), error })
    }
}

fn larger_pass(top: &Path, cgroups: usize, disabled: &BTreeSet<Feature>) -> Result<Pass, Refusal> {
    let kernel = Kernel::read()?;
    let (pass, _) = Pass::start(&kernel, top, cgroups, disabled)?;
    drop(kernel);
    memory::give_back_heap();
    Ok(pass)
}
