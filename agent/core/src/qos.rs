//! Isolation: what may best-effort work use beside latency-critical work, decided several times a second.
//!
//! **Problem.** The kernel orders who runs next; it does not know what a service's users can bear. Idle groups and weights still
//! let best-effort work fill the run queues, the caches and the memory that the next burst needs.
//! **Method.** Measure the harm itself: the time that threads of latency-critical tasks wait for a CPU, and the time they are
//! stalled, less what they wait by themselves. When that is more than its target, best-effort work gives way within one reading; when all
//! has been calm for long, it gets more, slowly. Now and then it pauses, to see what it adds. Memory is taken back in grades, each of which is undone when it is calm again.
//! **Bounds.** The allowance of best-effort work is between a floor, so that it goes on, and the node's CPUs less headroom and
//! what others use. Missing data never lets it grow. Latency-critical work is measured, never limited: no act names it.
//!
//! | module | question |
//! |---|---|
//! | [`standing`] | what does the kernel know of a class by itself? |
//! | [`settings`] | what did the owner say, and where do the constants come from? |
//! | [`meter`] | what do two readings say about each task? |
//! | [`own`] | what do latency-critical tasks wait by themselves, and so, what is borne? |
//! | [`trial`] | what does best-effort work add to that? |
//! | [`allowance`] | how much CPU may all best-effort work use together? |
//! | [`split`] | how is that divided? |
//! | [`memory`] | which grade of taking memory back is next? |
//! | [`governor`] | all of it in one step: acts, and reasons for acts and non-acts |
//! | [`decisions`] | which of them do people see? |
//! | [`act`] | what may be done, and to whom? |
//! | [`reason`] | in which words? |

pub mod act;
pub mod allowance;
pub mod decisions;
pub mod governor;
pub mod memory;
pub mod meter;
pub mod own;
pub mod reason;
pub mod settings;
pub mod split;
pub mod standing;
pub mod trial;

pub use act::Act;
pub use decisions::Decision;
pub use governor::Governor;
pub use meter::{BestEffort, Critical, Delay, Lengths, NodeUse, Observation};
pub use reason::Reason;
pub use settings::Settings;
