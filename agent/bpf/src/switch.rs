//! The program on `sched_switch` and its regions.

use crate::bpf_call;
use crate::feature::{Refusal, tried};
use crate::image::MapSize;
use crate::kernel::Kernel;
use crate::mapped::Mapped;
use crate::pins::{self, Pinned};
use crate::regions::Regions;
use agent_abi::kernel::Constant;
use agent_abi::runq::{MAX_SLOT_BITS, MIN_SLOT_BITS, region_bytes, slot_bits_for};
use aya_obj::generated::bpf_map_info;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

pub(crate) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../agent-ebpf/objects/switch.o"));

/// The attached program.
#[derive(Debug)]
pub(crate) struct Switch {
    pub(crate) regions: Regions,
    program: OwnedFd,
    _link: OwnedFd,
    /// True when the counts of a former agent go on.
    pub(crate) adopted: bool,
}

/// How large the regions may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) cgroups: usize,
    /// All CPUs together, bytes.
    pub(crate) bytes: usize,
}

impl Switch {
    /// Takes over the pinned program, or loads and attaches (and pins) a new one.
    pub(crate) fn start(kernel: &Kernel, room: Room, pin_dir: Option<&Path>) -> Result<Self, Refusal> {
        let cpus = cpus()?;
        let Some(pin_dir) = pin_dir else {
            return Self::over(attach(kernel, room, cpus)?, cpus, false);
        };
        let directory = pins::directory(pin_dir, OBJECT);
        let cleared = |except| {
            pins::remove(pin_dir, except).map_err(tried(format!("remove old pins in {}", pin_dir.display())))
        };
        cleared(Some(directory.as_path()))?;
        if let Some(pinned) = pins::adopt(&directory)
            && let Ok(switch) = Self::over(pinned, cpus, true)
        {
            return Ok(switch);
        }
        cleared(None)?;
        let fresh = attach(kernel, room, cpus)?;
        pins::keep(&directory, &fresh)?;
        Self::over(fresh, cpus, false)
    }

    /// The loaded program.
    pub(crate) fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    fn over(objects: Pinned, cpus: usize, adopted: bool) -> Result<Self, Refusal> {
        let info: bpf_map_info = bpf_call::info(objects.regions.as_fd()).map_err(tried("read map info"))?;
        let slot_bits = (MIN_SLOT_BITS..=MAX_SLOT_BITS)
            .find(|bits| region_bytes(*bits) == info.value_size as usize)
            .filter(|_| info.max_entries as usize == cpus)
            .ok_or_else(|| Refusal::Load { program: "switch", reason: "regions of another shape".into() })?;
        let bytes = Regions::bytes(cpus, slot_bits);
        let memory = Mapped::new(objects.regions.as_fd(), bytes).map_err(tried("map the regions"))?;
        let regions = Regions::new(memory, cpus, slot_bits);
        Ok(Self { regions, program: objects.program, _link: objects.link, adopted })
    }
}

/// Loads the program without attaching it: the program, and its regions.
pub(crate) fn load(kernel: &Kernel, room: Room, cpus: usize) -> Result<(OwnedFd, OwnedFd), Refusal> {
    let slot_bits = slot_bits_for(room.cgroups, cpus, room.bytes);
    let constants =
        [(Constant::SlotShift, (64 - slot_bits) as i32), (Constant::SlotMask, (1_i32 << slot_bits) - 1)];
    let size =
        MapSize { map: "REGIONS", value_bytes: Some(region_bytes(slot_bits) as u32), entries: cpus as u32 };
    let mut loaded = kernel.load("switch", OBJECT, &constants, &[size])?;
    let program = kernel.load_tracepoint(&mut loaded, "count_switch", "sched_switch")?;
    Ok((program, loaded.map("REGIONS")?))
}

fn attach(kernel: &Kernel, room: Room, cpus: usize) -> Result<Pinned, Refusal> {
    let (program, regions) = load(kernel, room, cpus)?;
    let link = bpf_call::attach_tracepoint(program.as_fd()).map_err(tried("attach to sched_switch"))?;
    Ok(Pinned { regions, program, link })
}

/// CPUs that may ever be online: the range of `bpf_get_smp_processor_id`.
pub(crate) fn cpus() -> Result<usize, Refusal> {
    aya::util::nr_cpus().map_err(|(path, error)| Refusal::System { what: path.into(), error })
}
