//! The user-space half of the kernel programs: loads them, attaches them, and reads what they write without system calls.
//!
//! [`KernelProbe`] is the whole surface. Each group of programs may be refused alone, with a typed reason; nothing here decides
//! anything. This is the agent's only `unsafe` code in user space.
//!
//! | module | question it answers |
//! |---|---|
//! | [`probe`] | What can be asked of the kernel? |
//! | [`feature`] | Which parts work on this kernel, and why not the others? |
//! | [`btf`] | Where does the running kernel keep a field? |
//! | `layout` | Which struct members stand behind the fields that the programs use? |
//! | `image` | How does an object file get this kernel's offsets and this node's sizes? |
//! | `kernel` | How is a program loaded, and attached? |
//! | `bpf_call` | Which `bpf(2)` commands are used directly? |
//! | `mapped` | How is memory shared with the kernel read? |
//! | `regions` | What lies where in the run-queue regions? |
//! | `ledger` | How do regions become totals per cgroup, and how is a slot given back? |
//! | `switch`, `pass` | The two groups of programs. |
//! | [`executions`] | Which programs are executed in a few cgroups, at once? |
//! | [`memory`] | What does this process give back after its start? |
//! | `flush` | How does a pass read exact CPU times? |
//! | `liveness` | Does a cgroup still exist? |
//! | `self_check` | Do the programs see what /proc says? |
//! | `pins` | How do counts survive a restart of the agent? |
pub mod btf;
pub mod executions;
pub mod feature;
pub mod memory;
pub mod probe;

mod bpf_call;
mod flush;
mod image;
mod kernel;
mod layout;
mod ledger;
mod liveness;
mod mapped;
mod pass;
mod pins;
mod regions;
mod self_check;
mod switch;
#[cfg(feature = "yardsticks")]
pub mod yardsticks;

pub use agent_abi as abi;
pub use executions::Executions;
pub use feature::{Feature, FeatureReport, FeatureState, Refusal};
pub use ledger::RunqTotals;
pub use pass::PassReport;
pub use probe::{Counters, KernelProbe, ProbeConfig, ProbeError, ProgramCost, Runq, Visit};
