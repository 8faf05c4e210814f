//! Which parts of the kernel side work here, and why the others do not.

use crate::image::ImageError;
use crate::layout::LayoutError;
use std::fmt;
use std::io;

/// A part of the kernel side that can work or be refused alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// Run-queue delay and on-CPU time per cgroup at every context switch.
    RunQueue,
    /// Reading all cgroups in one pass.
    CgroupPass,
    /// User and system time in the pass.
    CpuSplit,
    /// Throttling in the pass.
    Throttling,
    /// Memory use in the pass.
    Memory,
    /// Swap use in the pass.
    Swap,
    /// Memory events in the pass.
    MemoryEvents,
    /// Descendants and population in the pass.
    Tree,
    /// Parents in the pass.
    Parent,
    /// Stalls in the pass.
    Stalls,
}

impl Feature {
    /// Every feature.
    pub const ALL: [Self; 10] = [
        Self::RunQueue,
        Self::CgroupPass,
        Self::CpuSplit,
        Self::Throttling,
        Self::Memory,
        Self::Swap,
        Self::MemoryEvents,
        Self::Tree,
        Self::Parent,
        Self::Stalls,
    ];

    /// The bit of [`agent_abi::cgroup::valid`] of a feature of the pass.
    pub(crate) const fn record_group(self) -> Option<u32> {
        use agent_abi::cgroup::valid;
        Some(match self {
            Self::CpuSplit => valid::CPU_SPLIT,
            Self::Throttling => valid::THROTTLED,
            Self::Memory => valid::MEMORY,
            Self::Swap => valid::SWAP,
            Self::MemoryEvents => valid::MEMORY_EVENTS,
            Self::Tree => valid::TREE,
            Self::Parent => valid::PARENT,
            Self::Stalls => valid::STALLS,
            Self::RunQueue | Self::CgroupPass => return None,
        })
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RunQueue => "run-queue delay",
            Self::CgroupPass => "cgroup pass",
            Self::CpuSplit => "user and system time",
            Self::Throttling => "throttling",
            Self::Memory => "memory",
            Self::Swap => "swap",
            Self::MemoryEvents => "memory events",
            Self::Tree => "descendants",
            Self::Parent => "parent",
            Self::Stalls => "stalls",
        })
    }
}

/// Why a feature was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The configuration says so.
    #[error("disabled by configuration")]
    Disabled,
    /// The kernel does not describe its types, or not readably.
    #[error("no usable BTF at {path}: {reason}")]
    Btf {
        /// The file.
        path: String,
        /// What was wrong.
        reason: String,
    },
    /// This kernel has no such field.
    #[error(transparent)]
    Field(#[from] LayoutError),
    /// The object could not be prepared.
    #[error(transparent)]
    Image(ImageError),
    /// The kernel did not take a program or a map.
    #[error("kernel refused {program}: {reason}")]
    Load {
        /// Program or object.
        program: &'static str,
        /// The kernel's or verifier's words.
        reason: String,
    },
    /// A system call failed.
    #[error("{what}: {error}")]
    System {
        /// What was tried, with its path if it has one.
        what: String,
        /// The error.
        error: io::Error,
    },
    /// The programs did not see what /proc says.
    #[error("self-check: {0}")]
    SelfCheck(String),
}

impl From<ImageError> for Refusal {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Field(error) => Self::Field(error),
            other => Self::Image(other),
        }
    }
}

/// Turns an I/O error into a refusal that says what was tried.
pub(crate) fn tried(what: impl Into<String>) -> impl FnOnce(io::Error) -> Refusal {
    let what = what.into();
    |error| Refusal::System { what, error }
}

/// What became of a feature.
#[derive(Debug)]
pub enum FeatureState {
    /// It works.
    Active,
    /// It does not.
    Refused(Refusal),
}

/// A feature and what became of it.
#[derive(Debug)]
pub struct FeatureReport {
    /// The feature.
    pub feature: Feature,
    /// What became of it.
    pub state: FeatureState,
}

impl FeatureReport {
    /// True when the feature works.
    pub fn is_active(&self) -> bool {
        matches!(self.state, FeatureState::Active)
    }
}

impl fmt::Display for FeatureReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            FeatureState::Active => write!(f, "{}: active", self.feature),
            FeatureState::Refused(refusal) => write!(f, "{}: {refusal}", self.feature),
        }
    }
}
