//! Batches of samples: columns of differences against the batch before on the same stream.
//!
//! **Problem.** A node reports a thousand tasks a second, most of them idle; 20 bytes for an active one and 4 for an
//! idle one is the aim, and no loss may ever change a total.
//! **Method.** Both ends keep a table of the last values by slot. A batch carries, metric by metric, the slots whose
//! value changed and by how much: an idle task costs nothing. The transport delivers a stream in order or breaks it; a
//! new stream begins with a snapshot of totals, so a break costs resolution and never a count. Each snapshot is also
//! compared with the table: a difference would be a defect, and is counted.
//! **Bounds.** [`crate::TASK_LIMIT`] tasks, [`crate::BODY_LIMIT`] bytes; anything that does not fit the table refuses
//! the whole batch and ends the stream.

mod column;
mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{Decoded, Decoder, Gone};
pub use encode::{Encoder, Input};

/// What every batch says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Number within the agent's epoch, from 1.
    pub seq: u64,
    /// When the samples were taken, CLOCK_BOOTTIME ns.
    pub boot_ns: u64,
    /// The node's wall clock minus its boot clock then, ns.
    pub wall_offset_ns: i64,
}

/// A slot's delays since its last histogram: (bucket of the shared layout, count), ascending.
pub type Delays = Vec<(u16, u64)>;
