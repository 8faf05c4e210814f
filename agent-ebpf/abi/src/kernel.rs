//! Which facts about the running kernel a program leaves open until it is loaded.
//!
//! Rust emits no CO-RE relocations, and a compiled-in struct layout must never be trusted. So a program loads a field with an
//! instruction whose offset is [`field_mark`]`(field)`, and takes a number as an immediate [`constant_mark`]`(constant)`; the loader, which
//! has read the running kernel's BTF, writes the true values over the marks before the verifier sees them. The program then pays
//! for one load per field and nothing else, exactly as if it had been compiled on that kernel.
//!
//! The agent's `agent-bpf` crate says which struct members stand behind each [`Field`].

/// A member of a kernel struct whose byte offset is filled in at load time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Field {
    /// Process id of a task, `pid_t`.
    TaskPid,
    /// The `css_set` of a task.
    TaskCgroups,
    /// Time a task has run, ns.
    TaskSumExec,
    /// That time when the fair class last picked it, ns.
    TaskPrevSumExec,
    /// Effective priority of a task; from 100 up it is in the fair class.
    TaskPrio,
    /// When a task was queued, ns of its run queue's clock; 0 when it is not waiting.
    TaskLastQueued,
    /// The fair run queue that a task is on.
    TaskCfsRq,
    /// The run queue of a CPU that a fair run queue belongs to.
    CfsRqRq,
    /// The clock of a run queue, ns.
    RqClock,
    /// The cgroup of a `css_set` on the unified hierarchy.
    CssSetDflCgrp,
    /// The kernfs node of a cgroup.
    CgroupKn,
    /// The inode number of a kernfs node.
    KnId,
    /// Depth of a cgroup.
    CgroupLevel,
    /// CPU time of a cgroup, ns.
    CgroupCpu,
    /// User part of it.
    CgroupUser,
    /// System part of it.
    CgroupSystem,
    /// The parent of the cgroup's own subsystem state.
    CgroupSelfParent,
    /// The cgroup of a subsystem state.
    CssCgroup,
    /// Live descendants of a cgroup.
    CgroupDescendants,
    /// Populated `css_set`s of a cgroup.
    CgroupPopulatedCsets,
    /// Populated domain children of a cgroup.
    CgroupPopulatedDomain,
    /// Populated threaded children of a cgroup.
    CgroupPopulatedThreaded,
    /// The cpu controller's state in a cgroup.
    CgroupCpuCss,
    /// The memory controller's state in a cgroup.
    CgroupMemoryCss,
    /// `css_set` → task group: periods under `cpu.max`.
    GroupPeriods,
    /// Throttled periods.
    GroupThrottled,
    /// Throttled time, ns.
    GroupThrottledTime,
    /// Pages charged to a memory cgroup.
    MemoryUsage,
    /// Peak of it.
    MemoryWatermark,
    /// Swap pages charged to a memory cgroup.
    SwapUsage,
    /// Counter of `memory.high` breaches.
    MemoryHighEvents,
    /// Counter of `memory.max` hits.
    MemoryMaxEvents,
    /// Counter of out-of-memory situations.
    MemoryOomEvents,
    /// Counter of processes killed.
    MemoryOomKills,
    /// The stall accounting of a cgroup.
    CgroupPsi,
    /// Whether it is switched on, `bool`.
    PsiEnabled,
    /// Time in which some task waited for a CPU, ns.
    PsiCpuSome,
    /// Time in which all tasks waited for memory, ns.
    PsiMemoryFull,
    /// Time in which some task waited for IO, ns.
    PsiIoSome,
}

/// A number that the loader decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Constant {
    /// `64 - slot_bits`, see [`crate::runq::home_slot`].
    SlotShift,
    /// `(1 << slot_bits) - 1`.
    SlotMask,
    /// Bits of [`crate::cgroup::valid`] whose fields this kernel has.
    RecordGroups,
    /// The thread that the self-check watches for.
    WatchedPid,
}

const FIELD_MARKS: i16 = 0x7f00;
const FIELD_IMMEDIATES: i32 = 0x5452_4600; // "TRF"
const CONSTANT_MARKS: i32 = 0x5452_4300; // "TRC"

/// The offset that stands for a field in an unloaded program. Offsets this large do not occur otherwise: our own structs are small.
pub const fn field_mark(field: Field) -> i16 {
    FIELD_MARKS + field as i16
}

/// The immediate that stands for a constant in an unloaded program.
pub const fn constant_mark(constant: Constant) -> i32 {
    CONSTANT_MARKS + constant as i32
}

/// The immediate that stands for the offset of a field, where a helper reads it.
pub const fn field_immediate(field: Field) -> i32 {
    FIELD_IMMEDIATES + field as i32
}

/// Every field, in the order of its marks.
pub const FIELDS: [Field; 39] = {
    use Field::*;
    [
        TaskPid,
        TaskCgroups,
        TaskSumExec,
        TaskPrevSumExec,
        TaskPrio,
        TaskLastQueued,
        TaskCfsRq,
        CfsRqRq,
        RqClock,
        CssSetDflCgrp,
        CgroupKn,
        KnId,
        CgroupLevel,
        CgroupCpu,
        CgroupUser,
        CgroupSystem,
        CgroupSelfParent,
        CssCgroup,
        CgroupDescendants,
        CgroupPopulatedCsets,
        CgroupPopulatedDomain,
        CgroupPopulatedThreaded,
        CgroupCpuCss,
        CgroupMemoryCss,
        GroupPeriods,
        GroupThrottled,
        GroupThrottledTime,
        MemoryUsage,
        MemoryWatermark,
        SwapUsage,
        MemoryHighEvents,
        MemoryMaxEvents,
        MemoryOomEvents,
        MemoryOomKills,
        CgroupPsi,
        PsiEnabled,
        PsiCpuSome,
        PsiMemoryFull,
        PsiIoSome,
    ]
};

/// The field behind an instruction's offset, if it is a mark.
pub fn marked_field(offset: i16) -> Option<Field> {
    FIELDS.get(usize::try_from(offset.checked_sub(FIELD_MARKS)?).ok()?).copied()
}

/// The field behind an instruction's immediate, if it is a mark.
pub fn marked_offset(immediate: i32) -> Option<Field> {
    FIELDS.get(usize::try_from(immediate.checked_sub(FIELD_IMMEDIATES)?).ok()?).copied()
}

/// The constant behind an instruction's immediate, if it is a mark.
pub const fn marked_constant(immediate: i32) -> Option<Constant> {
    match immediate.wrapping_sub(CONSTANT_MARKS) {
        0 => Some(Constant::SlotShift),
        1 => Some(Constant::SlotMask),
        2 => Some(Constant::RecordGroups),
        3 => Some(Constant::WatchedPid),
        _ => None,
    }
}
