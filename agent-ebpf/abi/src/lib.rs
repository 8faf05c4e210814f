//! Plain data shared by the kernel programs and the agent: no pointers, no padding, sizes asserted at compile time.
//!
//! | module | question it answers |
//! |---|---|
//! | [`histogram`] | Which bucket does a delay belong to, and what does a bucket stand for? |
//! | [`runq`] | How does one CPU keep its counts per cgroup so that nobody needs a lock? |
//! | [`cgroup`] | What does the cgroup iterator say about one cgroup? |
//! | [`execution`] | What is said when a program is executed in a watched cgroup? |
//! | [`kernel`] | Which kernel fields and constants are filled in when a program is loaded? |
//!
//! Everything here is `no_std`, builds for the BPF target, and is tested on the host.
#![cfg_attr(not(test), no_std)]

pub mod cgroup;
pub mod execution;
pub mod histogram;
pub mod kernel;
pub mod runq;

/// A type that may be copied out of memory which the kernel filled.
///
/// This trait is a promise kept by this crate alone: a type that has it is `repr(C)`, has no padding, and is valid for every bit
/// pattern. `agent-bpf` reads such types out of mapped memory.
pub trait Plain: Copy + 'static + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for crate::runq::CpuHead {}
    impl Sealed for crate::runq::RunqSlot {}
    impl Sealed for crate::runq::Watch {}
    impl Sealed for u64 {}
    impl Sealed for crate::cgroup::CgroupRecord {}
    impl Sealed for crate::cgroup::PassControl {}
    impl Sealed for crate::execution::Execution {}
}

impl<T: sealed::Sealed + Copy + 'static> Plain for T {}
