//! One round of readings from this host, by what the host offers: found by trial at start.
//!
//! | reads | with the iterator (tier A's reader) | without |
//! |---|---|---|
//! | CPU of every cgroup | one pass of the BPF cgroup iterator | `cpu.stat` by kept descriptor |
//! | run-queue delay, on-CPU time | memory shared with the switch program | absent, with its reason |
//! | stalls | the iterator, at most 2 s old | `*.pressure` by kept descriptor, every tenth round |
//! | stalls of our own tasks | `*.pressure` by kept descriptor, each round | the same |
//! | memory | the iterator, or `memory.current`, or the v1 hierarchy through cgroups-rs | the same without the iterator |
//! | network of the host | its cards' counters in sysfs, each round | the same |

mod cards;
mod disks;
mod files;
mod glance;
mod held;
mod histograms;
mod kernel;
mod memory;
mod paths;

use std::io;
use std::path::PathBuf;

use agent_core::raw::{Raw, RawCgroup};
use model::gap::Unavailable;
use model::id::CgroupId;
use model::metric::Metric;
use model::node::Tier;

pub use files::ProcessReader;
pub use glance::{Place, Watch};
pub use kernel::HistogramDeltas;

use crate::clock;

/// What went wrong while reading.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file could not be read.
    #[error("{path}: {error}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{path}: {error}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: agent_core::parse::ParseError,
    },
    /// The kernel side failed.
    #[error("kernel programs: {0}")]
    Kernel(#[from] agent_bpf::ProbeError),
}

/// What this host offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The tier.
    pub tier: Tier,
    /// Features of the kernel programs that work.
    pub features: Vec<String>,
    /// What cannot be had.
    pub unavailable: Vec<Unavailable>,
}

/// Counters about reading, all since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    /// Rounds read.
    pub rounds: u64,
    /// Files that vanished while they were read: cgroups that ended.
    pub vanished: u64,
    /// Files that could not be parsed.
    pub malformed: u64,
    /// Descriptors kept open.
    pub kept_files: usize,
    /// Switches whose on-CPU time was not counted.
    pub guard_misses: u64,
    /// Waits counted in the overflow slot.
    pub overflow_switches: u64,
    /// Kernel memory of the programs' maps, bytes.
    pub map_bytes: usize,
    /// Places of the switch program in use, all CPUs together.
    pub slots_used: usize,
    /// Places there are.
    pub slots: usize,
    /// CPU time of the kernel programs, ns, when it is measured.
    pub program_ns: Option<u64>,
    /// Largest difference between the iterator and a task's file since the last look, µs.
    pub iterator_error_us: Option<u64>,
}

/// Reads rounds.
pub struct Source {
    root: PathBuf,
    kernel: Option<kernel::Kernel>,
    offer: Offer,
    paths: paths::Paths,
    files: files::Files,
    memory: memory::Memory,
    disks: disks::Disks,
    cards: cards::Cards,
    held: held::Held,
    /// Busy time of all CPUs as of the last slow round, µs: receipts are made in slow rounds.
    busy_us: Option<u64>,
    health: Health,
}

/// What the sampler hands over: a round, and the paths of cgroups that it names for the first time.
#[derive(Debug, Default)]
pub struct Reading {
    /// The round.
    pub raw: Raw,
    /// New cgroups' paths below the root, without a leading slash.
    pub paths: Vec<(CgroupId, String)>,
    /// Delays since the last histogram, of the tasks whose turn it is.
    pub delays: Vec<(CgroupId, Vec<(u16, u64)>)>,
    /// Counters.
    pub health: Health,
}

/// Rounds between two histograms of a task, and between two readings of the stalls of tasks that are not ours.
const SLOW: u64 = 10;

impl Source {
    /// Tries what this host offers.
    ///
    /// # Errors
    /// [`SourceError`] when not even the unified hierarchy can be read.
    pub fn open(settings: &crate::settings::Settings) -> Result<Self, SourceError> {
        let root = settings.cgroup.clone();
        let mut unavailable = Vec::new();
        let kernel = if settings.ebpf {
            match kernel::Kernel::load(settings, &mut unavailable) {
                Ok(kernel) => Some(kernel),
                Err(why) => {
                    unavailable.push(Unavailable { what: "ebpf".into(), why: why.to_string() });
                    None
                }
            }
        } else {
            unavailable
                .push(Unavailable { what: "ebpf".into(), why: "ebpf = false in the configuration".into() });
            None
        };
        let memory = memory::Memory::find(&root);
        unavailable.extend(memory.unavailable());
        let disks = disks::Disks::find(&root);
        unavailable.extend(disks.unavailable());
        let cards = cards::Cards::find(cards::CLASS.into());
        unavailable.extend(cards.unavailable());
        let psi = files::has_pressure(&root);
        if !psi {
            let why = "no *.pressure files: boot with psi=1".to_owned();
            unavailable.push(Unavailable { what: "pressure".into(), why });
        }
        let counting = kernel.as_ref().is_some_and(kernel::Kernel::counts);
        let tier = match (memory.is_unified(), counting && psi) {
            (true, true) => Tier::A,
            (true, false) => Tier::B,
            (false, _) => Tier::C,
        };
        let features = kernel.as_ref().map(kernel::Kernel::features).unwrap_or_default();
        Ok(Self {
            files: files::Files::new(root.clone(), psi),
            paths: paths::Paths::new(root.clone(), settings.slice.clone()),
            offer: Offer { tier, features, unavailable },
            root,
            kernel,
            memory,
            disks,
            cards,
            held: held::Held::default(),
            busy_us: None,
            health: Health::default(),
        })
    }

    /// What this host offers.
    #[must_use]
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Lets the kernel measure the programs' own run time (costs a little on every run).
    ///
    /// # Errors
    /// [`SourceError::Kernel`] when the kernel refuses.
    pub fn measure_programs(&mut self, on: bool) -> Result<(), SourceError> {
        match &mut self.kernel {
            Some(kernel) => kernel.measure(on),
            None => Ok(()),
        }
    }

    /// Reads one round into `reading`, whose buffers are used again.
    ///
    /// # Errors
    /// [`SourceError`] when the round as a whole could not be read; a single cgroup that vanished is no error.
    pub fn read(&mut self, reading: &mut Reading) -> Result<(), SourceError> {
        let raw = &mut reading.raw;
        raw.cgroups.clear();
        raw.root = model::sample::Values::default();
        reading.paths.clear();
        reading.delays.clear();
        raw.wall_offset_ns = clock::wall_offset_ns();
        raw.boot_ns = clock::boot_ns();
        let slow = self.health.rounds.is_multiple_of(SLOW);
        let passed = match &mut self.kernel {
            Some(kernel) if kernel.passes() => {
                kernel.pass(raw)?;
                true
            }
            _ => false,
        };
        if !passed {
            self.files.walk(raw, &mut self.health)?;
        }
        let some_gone = self.paths.discover(&raw.cgroups, &mut reading.paths);
        if let Some(kernel) = &mut self.kernel {
            kernel.run_queue(raw, kernel::Turn(self.health.rounds % SLOW), &mut reading.delays)?;
            kernel.report(&mut self.health);
            if passed {
                self.files.compare(raw, &self.paths, &mut self.health);
            }
        }
        let held = &mut self.held;
        held.follow(&raw.cgroups);
        if passed {
            held.keep_stalls(&mut raw.cgroups, (self.health.rounds % SLOW) as usize);
        }
        let wanted = |position: usize, cgroup: &RawCgroup| {
            cgroup.values.get(Metric::CpuStall).is_none() && !held.rests(position, cgroup)
        };
        self.files.stalls(raw, &self.paths, slow.then_some(wanted), &mut self.health);
        self.memory.read(raw, &self.paths, slow);
        self.disks.read(&mut self.files, raw, &self.paths, slow, &mut self.health);
        self.cards.read(&mut raw.root, self.health.rounds);
        self.held.carry(&mut raw.cgroups, slow);
        if slow {
            self.busy_us = files::busy_us().ok();
        }
        raw.busy_us = self.busy_us;
        if some_gone {
            self.files.forget_missing(&raw.cgroups);
            self.memory.forget_missing(&raw.cgroups);
        }
        self.health.rounds += 1;
        self.health.kept_files = self.files.kept() + self.memory.kept() + self.cards.kept();
        reading.health = self.health;
        Ok(())
    }

    /// Where the unified hierarchy is.
    #[must_use]
    pub fn root(&self) -> &std::path::Path {
        &self.root
    }
}
