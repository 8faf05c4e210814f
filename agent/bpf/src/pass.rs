//! Reads every cgroup of a subtree in one pass: a flush of the kernel's per-CPU counters, one run of the iterator, and the records lie in
//! mapped memory.

use crate::bpf_call;
use crate::feature::{Feature, Refusal, tried};
use crate::flush::Flush;
use crate::image::MapSize;
use crate::kernel::Kernel;
use crate::mapped::Mapped;
use agent_abi::cgroup::{CgroupRecord, PassControl};
use agent_abi::kernel::{Constant, Field};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../agent-ebpf/objects/cgroups.o"));

/// Most records that are ever mapped: 128 MiB.
const MAX_RECORDS: usize = 1 << 20;

/// What a pass covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassReport {
    /// Live cgroups met, the top one included.
    pub seen: usize,
    /// Those that found room for a record; fewer than `seen` only above a million cgroups.
    pub recorded: usize,
}

/// The iterator, bound to one subtree.
#[derive(Debug)]
pub(crate) struct Pass {
    link: OwnedFd,
    program: OwnedFd,
    records: Mapped,
    control: Mapped,
    capacity: usize,
    flush: Flush,
}

/// A loaded pass, and the features that it does without.
pub(crate) type PassAndGaps = (Pass, Vec<(Feature, Refusal)>);

impl Pass {
    /// Loads the iterator for the subtree at `top`, with room for `capacity` records, and checks that its first record is `top`.
    pub(crate) fn start(
        kernel: &Kernel,
        top: &Path,
        capacity: usize,
        disabled: &BTreeSet<Feature>,
    ) -> Result<PassAndGaps, Refusal> {
        let capacity = capacity.next_power_of_two().min(MAX_RECORDS);
        let (groups, gaps) = groups(kernel, disabled);
        // The verifier drops the code of absent groups before it looks at their offsets.
        let offset = |field| match kernel.layout.offset(field) {
            Err(_) if !is_essential(field) => Ok(0),
            found_or_essential => found_or_essential,
        };
        let sizes = [MapSize { map: "RECORDS", value_bytes: None, entries: capacity as u32 }];
        let constants = [(Constant::RecordGroups, groups.cast_signed())];
        let mut loaded = kernel.load_with("cgroups", OBJECT, &offset, &constants, &sizes)?;
        let program = kernel.load_cgroup_iter(&mut loaded, "visit_cgroup")?;

        let directory = File::open(top).map_err(tried(format!("open {}", top.display())))?;
        let top_id = directory.metadata().map_err(tried(format!("stat {}", top.display())))?.ino();
        let flush = Flush::open(top, top_id).map_err(tried(format!("open cpu.stat in {}", top.display())))?;
        let link = bpf_call::link_cgroup_iter(program.as_fd(), directory.as_fd())
            .map_err(tried(format!("attach a cgroup iterator to {}", top.display())))?;
        let records = Mapped::new(loaded.map("RECORDS")?.as_fd(), capacity * size_of::<CgroupRecord>())
            .map_err(tried("map the records"))?;
        let control = Mapped::new(loaded.map("PASS")?.as_fd(), size_of::<PassControl>())
            .map_err(tried("map the pass control"))?;
        let mut pass = Self { link, program, records, control, capacity, flush };

        let mut first = None;
        let report = pass.run().map_err(tried("first pass"))?;
        pass.for_each(report, |record| {
            first.get_or_insert(record.id);
        });
        if first != Some(top_id) {
            return Err(Refusal::SelfCheck(format!(
                "the first record is cgroup {first:?}, but {} is {top_id}",
                top.display()
            )));
        }
        Ok((pass, gaps))
    }

    /// Flushes, and runs the iterator. Allocates only when a child of the root came or went, and then runs once more.
    pub(crate) fn run(&mut self) -> io::Result<PassReport> {
        self.flush.run()?;
        let report = self.iterate()?;
        let at = |index: usize, field: usize| index * size_of::<CgroupRecord>() + field;
        let level = |index| self.records.row(at(index, offset_of!(CgroupRecord, level)), 1)[0].load(Relaxed);
        let below_top = (0..report.recorded)
            .filter(|index| level(*index) == 1)
            .map(|index| self.records.number(at(index, offset_of!(CgroupRecord, id))).load(Relaxed));
        if self.flush.is_complete(below_top) {
            return Ok(report);
        }
        self.flush.refresh()?;
        self.flush.run()?;
        self.iterate()
    }

    fn iterate(&mut self) -> io::Result<PassReport> {
        self.control.store(0, PassControl::default());
        let mut run = bpf_call::open_pass(self.link.as_fd())?;
        // The program prints nothing: reading runs it, and yields no bytes.
        while run.read(&mut [0; 64])? > 0 {}
        let control: PassControl = self.control.copy(0);
        if control.complete != 1 {
            return Err(io::Error::other("the cgroup iterator stopped early"));
        }
        let seen = control.seen as usize;
        Ok(PassReport { seen, recorded: seen.min(self.capacity) })
    }

    /// Hands out the records of the last run, parents before children.
    pub(crate) fn for_each(&self, report: PassReport, mut visit: impl FnMut(&CgroupRecord)) {
        for index in 0..report.recorded.min(self.capacity) {
            visit(&self.records.copy(index * size_of::<CgroupRecord>()));
        }
    }

    /// True when more room would show more.
    pub(crate) fn should_grow(&self, report: PassReport) -> bool {
        report.seen > report.recorded && self.capacity < MAX_RECORDS
    }

    /// The loaded program.
    pub(crate) fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    /// Bytes of kernel memory mapped.
    pub(crate) fn mapped_bytes(&self) -> usize {
        self.records.bytes() + self.control.bytes()
    }
}

/// The groups of fields to record, and why not the others.
fn groups(kernel: &Kernel, disabled: &BTreeSet<Feature>) -> (u32, Vec<(Feature, Refusal)>) {
    let (mut present, missing) = kernel.layout.record_groups();
    let mut gaps = Vec::new();
    for feature in Feature::ALL {
        let Some(bit) = feature.record_group() else { continue };
        if disabled.contains(&feature) {
            present &= !bit;
            gaps.push((feature, Refusal::Disabled));
        } else if let Some((_, error)) = missing.iter().find(|(group, _)| *group == bit) {
            gaps.push((feature, Refusal::Field(error.clone())));
        }
    }
    (present, gaps)
}

/// Fields that every record needs.
fn is_essential(field: Field) -> bool {
    matches!(field, Field::CgroupKn | Field::KnId | Field::CgroupLevel)
}
