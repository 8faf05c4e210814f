//! Executions in watched cgroups, at once. Loaded apart from the rest, and only where somebody wants to know.

use crate::bpf_call;
use crate::feature::{Refusal, tried};
use crate::image::MapSize;
use crate::kernel::Kernel;
use crate::mapped::Mapped;
use crate::memory;
use crate::probe::ProgramCost;
use agent_abi::execution::Execution;
use aya::maps::{HashMap, MapData, RingBuf};
use aya_obj::generated::bpf_prog_info;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../agent-ebpf/objects/executions.o"
));

const PROGRAM: &str = "program_executed";
const TRACEPOINT: &str = "sched_process_exec";
/// Room for 170 executions of 24 bytes; what is lost is counted, and calls for a look.
const RING_BYTES: u32 = 4096;
/// Most cgroups that are watched at a time.
const WATCHED_LIMIT: u32 = 256;

/// The attached program, its ring and the cgroups that it watches.
pub struct Executions {
    ring: RingBuf<MapData>,
    watched: HashMap<MapData, u64, u8>,
    lost: Mapped,
    program: OwnedFd,
    _link: OwnedFd,
}

impl fmt::Debug for Executions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executions").finish_non_exhaustive()
    }
}

impl Executions {
    /// Loads and attaches the program, which watches nothing yet.
    ///
    /// # Errors
    /// [`Refusal`] when this kernel, or its rights, do not let it.
    pub fn start() -> Result<Self, Refusal> {
        let kernel = Kernel::read()?;
        let sizes = [
            MapSize { map: "EXECUTIONS", value_bytes: None, entries: RING_BYTES },
            MapSize { map: "WATCHED", value_bytes: None, entries: WATCHED_LIMIT },
        ];
        let mut loaded = kernel.load("executions", OBJECT, &[], &sizes)?;
        let program = kernel.load_tracepoint(&mut loaded, PROGRAM, TRACEPOINT)?;
        let link =
            bpf_call::attach_tracepoint(program.as_fd()).map_err(tried(format!("attach to {TRACEPOINT}")))?;
        let lost = Mapped::new(loaded.map("LOST")?.as_fd(), size_of::<u64>())
            .map_err(tried("map the counter of lost executions"))?;
        let refused =
            |error: aya::maps::MapError| Refusal::Load { program: PROGRAM, reason: error.to_string() };
        let ring = RingBuf::try_from(loaded.take_map("EXECUTIONS")?).map_err(refused)?;
        let watched = HashMap::try_from(loaded.take_map("WATCHED")?).map_err(refused)?;
        drop((loaded, kernel));
        memory::give_back_heap();
        Ok(Self { ring, watched, lost, program, _link: link })
    }

    /// From now on executions in this cgroup (by its inode number, without those below it) are told.
    ///
    /// # Errors
    /// The kernel's: 256 are watched already.
    pub fn watch(&mut self, cgroup: u64) -> io::Result<()> {
        self.watched.insert(cgroup, 1, 0).map_err(io::Error::other)
    }

    /// It is watched no more.
    pub fn forget(&mut self, cgroup: u64) {
        // One that is not watched is what is wanted.
        let _ = self.watched.remove(&cgroup);
    }

    /// Hands out what is in the ring, oldest first: the process and the cgroup that it ran in.
    pub fn drain(&mut self, mut visit: impl FnMut(u32, u64)) {
        while let Some(item) = self.ring.next() {
            if let Some(execution) = parse(&item) {
                visit(execution.pid, execution.cgroup_id);
            }
        }
    }

    /// A descriptor that is readable when there are executions.
    ///
    /// # Errors
    /// The kernel's: too many are open.
    pub fn readiness(&self) -> io::Result<OwnedFd> {
        // SAFETY: the ring keeps its descriptor open while it is duplicated.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }.try_clone_to_owned()
    }

    /// Executions that found the ring full, since load.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.number(0).load(Relaxed)
    }

    /// What the program costs; its run time only while [`crate::KernelProbe::measure_run_time`] is on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn cost(&self) -> io::Result<ProgramCost> {
        let info: bpf_prog_info = bpf_call::info(self.program.as_fd())?;
        Ok(ProgramCost {
            program: PROGRAM,
            run_time_ns: info.run_time_ns,
            runs: info.run_cnt,
            verified_instructions: info.verified_insns,
        })
    }
}

/// `None` for an item of another size.
fn parse(item: &[u8]) -> Option<Execution> {
    if item.len() != size_of::<Execution>() {
        return None;
    }
    let half = |at: usize| item[at..at + 4].try_into().map(u32::from_ne_bytes);
    let cgroup_id = item[..8].try_into().map(u64::from_ne_bytes).ok()?;
    Some(Execution { cgroup_id, pid: half(8).ok()?, reserved: half(12).ok()? })
}
