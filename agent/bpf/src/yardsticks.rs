//! Loads the hot program and what it is measured against, and reads what each costs per context switch. For `cargo xtask bench switch` only.

use crate::bpf_call;
use crate::feature::{Refusal, tried};
use crate::kernel::Kernel;
use crate::switch::{self, Room};
use aya_obj::generated::bpf_prog_info;
use std::os::fd::{AsFd, OwnedFd};

/// A set of programs that does one job, loaded and not attached.
#[derive(Debug)]
pub struct Contender {
    /// Its name in the report.
    pub name: &'static str,
    /// The first one runs once per context switch.
    programs: Vec<OwnedFd>,
}

/// What a contender's programs have cost since load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Run time of all its programs, ns.
    pub run_time_ns: u64,
    /// Context switches it saw.
    pub switches: u64,
}

impl Contender {
    /// Loads the empty program, ours, and the textbook's; `object` is the content of `yardsticks.o`.
    ///
    /// # Errors
    /// The first refusal.
    pub fn load_all(object: &[u8]) -> Result<Vec<Self>, Refusal> {
        let kernel = Kernel::read()?;
        let room = Room { cgroups: 1024, bytes: 64 << 20 };
        let (ours, _) = switch::load(&kernel, room, switch::cpus()?)?;
        let mut loaded = kernel.load("yardsticks", object, &[], &[])?;
        let mut one = |program, tracepoint| kernel.load_tracepoint(&mut loaded, program, tracepoint);
        Ok(vec![
            Self { name: "empty", programs: vec![one("empty_switch", "sched_switch")?] },
            Self { name: "trimtab", programs: vec![ours] },
            Self {
                name: "textbook",
                programs: vec![
                    one("textbook_switch", "sched_switch")?,
                    one("textbook_wakeup", "sched_wakeup")?,
                    one("textbook_wakeup_new", "sched_wakeup_new")?,
                ],
            },
        ])
    }

    /// Attaches all programs until the result is dropped.
    ///
    /// # Errors
    /// When the kernel does not attach one.
    pub fn attach(&self) -> Result<Vec<OwnedFd>, Refusal> {
        let attach = |program: &OwnedFd| bpf_call::attach_tracepoint(program.as_fd());
        self.programs.iter().map(attach).collect::<Result<_, _>>().map_err(tried("attach a contender"))
    }

    /// What it has cost so far.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn cost(&self) -> Result<Cost, Refusal> {
        let mut cost = Cost::default();
        for (index, program) in self.programs.iter().enumerate() {
            let info: bpf_prog_info = bpf_call::info(program.as_fd()).map_err(tried("read program info"))?;
            cost.run_time_ns += info.run_time_ns;
            if index == 0 {
                cost.switches = info.run_cnt;
            }
        }
        Ok(cost)
    }
}

/// Has the kernel measure run times until the result is dropped.
///
/// # Errors
/// When the kernel does not.
pub fn measure() -> Result<OwnedFd, Refusal> {
    bpf_call::enable_run_time().map_err(tried("enable run-time statistics"))
}
