//! The catalogue: every number that is measured of a task, with its unit, its kind and how exact it is.
//!
//! The order is part of the wire (a metric is sent by its index): append only.

use serde::{Deserialize, Serialize};

/// How values of a metric relate over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A total since the task's start; never falls within one task.
    Counter,
    /// A reading of the moment; merged as minimum, maximum and last.
    Gauge,
}

/// How far a value can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exactness {
    /// The kernel's own ledger; no sampling anywhere.
    Exact,
    /// Sampled by the scheduler's tick.
    Approximate,
}

/// One line of the catalogue.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Name in JSON and on the command line, with its unit.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// Exact or approximate.
    pub exactness: Exactness,
    /// What it says, for people.
    pub help: &'static str,
}

macro_rules! catalogue {
    ($($metric:ident, $name:literal, $kind:ident, $exact:ident, $help:literal;)*) => {
        /// A number measured of a task.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[repr(u8)]
        pub enum Metric { $(#[doc = $help] $metric),* }

        impl Metric {
            /// All metrics, in wire order.
            pub const ALL: &'static [Metric] = &[$(Metric::$metric),*];
            const ENTRIES: &'static [Entry] = &[$(Entry {
                name: $name, kind: Kind::$kind, exactness: Exactness::$exact, help: $help,
            }),*];
        }
    };
}

catalogue! {
    CpuTime, "cpu_time_us", Counter, Exact, "CPU time used, in µs (the kernel's ledger, cpu.stat usage_usec).";
    CpuUser, "cpu_user_us", Counter, Approximate, "CPU time in user mode, in µs.";
    CpuSystem, "cpu_system_us", Counter, Approximate, "CPU time in the kernel, in µs.";
    Throttled, "throttled_us", Counter, Exact, "Time held back by a CPU quota, in µs.";
    ThrottledPeriods, "throttled_periods", Counter, Exact, "Quota periods in which the task was held back.";
    RunDelay, "run_delay_ns", Counter, Exact, "Run-queue delay: ready to run but waiting for a CPU, in ns.";
    RunCount, "run_count", Counter, Exact, "Times that a thread was given a CPU.";
    OnCpu, "on_cpu_ns", Counter, Exact, "CPU time by the switch ledger, in ns: a second source beside cpu_time.";
    CpuStall, "cpu_stall_us", Counter, Exact, "PSI: some thread waited for CPU, in µs.";
    MemoryStall, "memory_stall_us", Counter, Exact, "PSI: all threads waited for memory, in µs.";
    IoStall, "io_stall_us", Counter, Exact, "PSI: some thread waited for IO, in µs.";
    OomKills, "oom_kills", Counter, Exact, "Processes killed for lack of memory.";
    IoRead, "io_read_bytes", Counter, Exact, "Bytes read from block devices.";
    IoWritten, "io_written_bytes", Counter, Exact, "Bytes written to block devices.";
    MemoryCurrent, "memory_current_bytes", Gauge, Exact, "Memory charged to it now, without what is charged to cgroups below it, in bytes.";
    MemoryPeak, "memory_peak_bytes", Gauge, Exact, "Largest memory charged, with cgroups below it, in bytes.";
    Processes, "processes", Gauge, Exact, "Processes and threads charged now.";
    NetworkReceived, "network_received_bytes", Counter, Exact, "Bytes that the host's network cards received: of the root cgroup alone, for the whole host.";
    NetworkSent, "network_sent_bytes", Counter, Exact, "Bytes that the host's network cards sent, likewise.";
}

impl Metric {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Its line in the catalogue.
    #[must_use]
    pub fn entry(self) -> &'static Entry {
        &Self::ENTRIES[self as usize]
    }

    /// The metric with this wire index.
    #[must_use]
    pub fn from_index(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }

    /// The bit of this metric in a presence mask.
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }
}

const _: () = assert!(Metric::COUNT <= 32, "presence masks have 32 bits");
