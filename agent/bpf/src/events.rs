//! Cgroup events from the ring buffer.

use crate::bpf_call;
use crate::feature::{Refusal, tried};
use crate::image::MapSize;
use crate::kernel::Kernel;
use crate::mapped::Mapped;
use agent_abi::event::{CgroupEvent, EventKind};
use aya::maps::{MapData, RingBuf};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;

static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../agent-ebpf/objects/events.o"));

/// Program and tracepoint.
const PROGRAMS: [(&str, &str); 2] = [("cgroup_created", "cgroup_mkdir"), ("cgroup_removed", "cgroup_rmdir")];

/// The attached programs and their ring.
pub(crate) struct Events {
    ring: RingBuf<MapData>,
    ring_bytes: usize,
    lost: Mapped,
    programs: Vec<OwnedFd>,
    _links: Vec<OwnedFd>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("ring_bytes", &self.ring_bytes).finish_non_exhaustive()
    }
}

impl Events {
    /// Loads and attaches both programs, with a ring of `bytes` (rounded up to a power of two of at least a page).
    pub(crate) fn start(kernel: &Kernel, bytes: usize) -> Result<Self, Refusal> {
        let ring_bytes = bytes.max(4096).next_power_of_two();
        let size = MapSize { map: "EVENTS", value_bytes: None, entries: ring_bytes as u32 };
        let mut loaded = kernel.load("events", OBJECT, &[], &[size])?;
        let (mut programs, mut links) = (Vec::new(), Vec::new());
        for (program, tracepoint) in PROGRAMS {
            let fd = kernel.load_tracepoint(&mut loaded, program, tracepoint)?;
            let link =
                bpf_call::attach_tracepoint(fd.as_fd()).map_err(tried(format!("attach to {tracepoint}")))?;
            programs.push(fd);
            links.push(link);
        }
        let lost = Mapped::new(loaded.map("LOST")?.as_fd(), size_of::<u64>())
            .map_err(tried("map the counter of lost events"))?;
        let ring = RingBuf::try_from(loaded.take_map("EVENTS")?)
            .map_err(|error| Refusal::Load { program: "events", reason: error.to_string() })?;
        Ok(Self { ring, ring_bytes, lost, programs, _links: links })
    }

    /// Hands out what is in the ring, oldest first.
    pub(crate) fn drain(&mut self, mut visit: impl FnMut(EventKind, &CgroupEvent)) {
        while let Some(item) = self.ring.next() {
            if let Some(event) = parse(&item)
                && let Some(kind) = EventKind::from_code(event.kind)
            {
                visit(kind, &event);
            }
        }
    }

    /// Events that found the ring full, since load.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.number(0).load(Relaxed)
    }

    /// Readable when the ring has events.
    pub(crate) fn readiness(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring keeps its descriptor open for as long as `self` is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }

    /// The loaded programs, by name.
    pub(crate) fn programs(&self) -> impl Iterator<Item = (&'static str, BorrowedFd<'_>)> {
        PROGRAMS.iter().map(|(name, _)| *name).zip(self.programs.iter().map(AsFd::as_fd))
    }

    /// Bytes of kernel memory mapped.
    pub(crate) fn mapped_bytes(&self) -> usize {
        self.ring_bytes + self.lost.bytes()
    }
}

/// `None` for an item of another size.
pub(crate) fn parse(item: &[u8]) -> Option<CgroupEvent> {
    if item.len() != size_of::<CgroupEvent>() {
        return None;
    }
    let word = |at: usize| item[at..at + 8].try_into().map(u64::from_ne_bytes);
    let half = |at: usize| item[at..at + 4].try_into().map(u32::from_ne_bytes);
    Some(CgroupEvent {
        cgroup_id: word(0).ok()?,
        boot_ns: word(8).ok()?,
        kind: half(16).ok()?,
        pid: half(20).ok()?,
        level: half(24).ok()?,
        reserved: half(28).ok()?,
        comm: item[32..48].try_into().ok()?,
    })
}
