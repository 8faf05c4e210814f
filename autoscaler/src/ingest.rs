//! From a message to the fleet: what the service does with each batch, without sockets, clock or store.
//!
//! [`Stream`] is for whoever has messages and wants a fleet: a simulator, a fuzzer, a measurement. The service does the
//! same in two steps, since a stream's decoder lives with its connection and the fleet with the control loop:
//! [`Batch::from`] there, [`into_fleet`] here.

use autoscaler_core::event::Time;
use autoscaler_core::fleet::{EndedTask, Fleet};
use model::id::{CgroupId, NodeId, TaskKey};
use model::node::{Incarnation, TaskInfo};
use model::sample::Values;
use wire::batch::{Decoded, Decoder, Delays, Gone, Header};
use wire::{WireError, pb};

/// One node's stream of batches, into a fleet.
///
/// ```
/// # use autoscaler::ingest::{Stream, Taken};
/// # use autoscaler_core::{event::Time, fleet::Fleet};
/// # fn feed(fleet: &mut Fleet, messages: &[wire::pb::SampleBatch]) -> Result<(), wire::WireError> {
/// // The fleet knows the node: `fleet.node_up(..)` came before, as from its Hello.
/// let mut stream = Stream::new("node-1".parse().unwrap())?;
/// for message in messages {
///     if let Taken::Backlog { ended } = stream.take(message, fleet, Time(message.boot_ns / 1_000_000))? {
///         println!("{} tasks ended while the stream was down", ended.len());
///     }
/// }
/// # Ok(())
/// # }
/// # feed(&mut Fleet::new(), &[]).unwrap();
/// ```
pub struct Stream {
    node: NodeId,
    decoder: Decoder,
    slots: Slots,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Taken {
    /// It is in the fleet.
    Live {
        /// Samples of tasks in it: those that changed and those that ended.
        samples: usize,
    },
    /// It came from the spool: of the past, so that only the final totals of tasks that ended are of use.
    Backlog {
        /// Tasks that ended in it.
        ended: Vec<EndedTask>,
    },
}

impl Stream {
    /// A new stream of a node: its first batch must be a snapshot.
    ///
    /// # Errors
    /// [`WireError::Compression`] when there is no memory for its context.
    pub fn new(node: NodeId) -> Result<Self, WireError> {
        Ok(Self { node, decoder: Decoder::new()?, slots: Slots::default() })
    }

    /// Takes a message at the controller's time `now`. Samples of a node that the fleet does not know are nowhere.
    ///
    /// # Errors
    /// [`WireError`]: what does not fit; the stream is over then.
    pub fn take(
        &mut self,
        message: &pb::SampleBatch,
        fleet: &mut Fleet,
        now: Time,
    ) -> Result<Taken, WireError> {
        let batch = Batch::from(self.decoder.decode(message)?);
        if batch.backlog {
            let incarnation = fleet.table(&self.node).map(autoscaler_core::fleet::NodeTable::incarnation);
            let ended = incarnation.map(|incarnation| ended_of_backlog(incarnation, &batch).collect());
            return Ok(Taken::Backlog { ended: ended.unwrap_or_default() });
        }
        into_fleet(fleet, &self.node, &mut self.slots, &batch, now);
        Ok(Taken::Live { samples: batch.samples() })
    }
}

/// A batch that was decoded, with its own copy of the values.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Number and time.
    pub header: Header,
    /// From the spool.
    pub backlog: bool,
    /// Tasks that are not listed do not exist.
    pub snapshot: bool,
    /// Tasks that it names.
    pub appeared: Vec<(u32, TaskInfo)>,
    /// Tasks whose values changed, with all totals.
    pub changed: Vec<(u32, CgroupId, Values)>,
    /// Tasks that ended.
    pub gone: Vec<Gone>,
    /// Run-queue delays since the last histogram, by slot.
    pub delays: Vec<(u32, Delays)>,
}

impl From<Decoded<'_>> for Batch {
    fn from(decoded: Decoded<'_>) -> Self {
        let of = decoded.changed();
        let mut changed = Vec::with_capacity(of.size_hint().1.unwrap_or(0));
        changed.extend(of.map(|(slot, cgroup, values)| (slot, cgroup, *values)));
        Self {
            header: decoded.header,
            backlog: decoded.backlog,
            snapshot: decoded.snapshot,
            changed,
            appeared: decoded.appeared,
            gone: decoded.gone,
            delays: decoded.delays,
        }
    }
}

impl Batch {
    /// Samples of tasks in it: those that changed and those that ended.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.changed.len() + self.gone.len()
    }
}

/// Which cgroup is in which slot of one stream.
#[derive(Debug, Default)]
pub(crate) struct Slots(Vec<Option<CgroupId>>);

impl Slots {
    fn put(&mut self, slot: u32, cgroup: Option<CgroupId>) -> Option<CgroupId> {
        let at = slot as usize;
        if at >= self.0.len() {
            self.0.resize(at + 1, None);
        }
        std::mem::replace(&mut self.0[at], cgroup)
    }
}

/// Takes a live batch into the fleet.
pub(crate) fn into_fleet(fleet: &mut Fleet, node: &NodeId, slots: &mut Slots, batch: &Batch, now: Time) {
    let Some(table) = fleet.node(node) else { return };
    if batch.snapshot {
        // The snapshot names every task; one that it does not name ended without our seeing it.
        let named: std::collections::BTreeSet<u32> = batch.appeared.iter().map(|(slot, _)| *slot).collect();
        for slot in 0..slots.0.len() as u32 {
            if !named.contains(&slot) && slots.put(slot, None).is_some() {
                table.task_gone(slot, None);
            }
        }
    }
    for (slot, info) in &batch.appeared {
        if slots.put(*slot, Some(info.cgroup)) == Some(info.cgroup) {
            table.task_is(*slot, info.clone());
        } else {
            table.task_appeared(*slot, info.clone(), now);
        }
    }
    if batch.snapshot {
        table.all_are_named();
    }
    let boot_ns = batch.header.boot_ns;
    for (slot, _, values) in &batch.changed {
        table.sample(*slot, boot_ns, values, now);
    }
    batch.delays.iter().for_each(|(_, delays)| table.delayed(delays));
    for gone in &batch.gone {
        slots.put(gone.slot, None);
        table.task_gone(gone.slot, Some((boot_ns, &gone.values)));
    }
    table.unchanged_at(boot_ns, now);
}

/// Tasks that ended in a batch of the spool: their final totals count, whatever became of the stream.
pub(crate) fn ended_of_backlog(incarnation: Incarnation, batch: &Batch) -> impl Iterator<Item = EndedTask> {
    batch.gone.iter().filter_map(move |gone| {
        let info =
            batch.appeared.iter().find(|(slot, _)| *slot == gone.slot).map(|(_, info)| info.clone())?;
        Some(EndedTask {
            key: TaskKey { boot: incarnation.boot, cgroup: gone.cgroup },
            info,
            totals: Some(gone.values),
            boot_ns: Some(batch.header.boot_ns),
        })
    })
}

#[cfg(test)]
mod tests;
