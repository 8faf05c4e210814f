//! The agent's side of a stream of batches.

use model::metric::{Kind, Metric};
use model::node::TaskInfo;
use model::sample::Values;
use prost::Message;

use super::{Delays, Header};
use crate::compress::Compressor;
use crate::{convert, pb};

/// One round of samples, to be encoded.
#[derive(Debug, Default)]
pub struct Input<'a> {
    /// Tasks that this stream has not named yet. In a snapshot: all.
    pub appeared: &'a [(u32, TaskInfo)],
    /// Every live task, ascending by slot, and those that end with this batch.
    pub tasks: &'a [(u32, &'a Values)],
    /// Slots that end with this batch: their values in `tasks` are final.
    pub gone: &'a [u32],
    /// Delays since the last histogram, for the tasks that have some.
    pub delays: &'a [(u32, Delays)],
}

/// Encodes the batches of one stream.
pub struct Encoder {
    sent: Vec<Values>,
    compressor: Compressor,
    body: Vec<u8>,
    /// One for each metric; empty between batches, but for the memory.
    columns: Vec<Building>,
    fresh: bool,
}

/// A column while rows are added to it.
#[derive(Debug, Clone, Default)]
struct Building {
    column: pb::Column,
    last: u32,
    last_absent: u32,
}

impl Encoder {
    /// For a new stream: its first batch must be a snapshot.
    ///
    /// # Errors
    /// When zstd has no memory for its context.
    pub fn new() -> std::io::Result<Self> {
        let compressor = Compressor::new()?;
        let columns = vec![Building::default(); Metric::COUNT];
        Ok(Self { sent: Vec::new(), compressor, body: Vec::new(), columns, fresh: true })
    }

    /// Encodes a batch. With `snapshot` all values are totals; the first batch always is one.
    ///
    /// # Errors
    /// When compression fails (no memory); the stream must then be ended.
    pub fn encode(
        &mut self,
        header: Header,
        input: &Input<'_>,
        snapshot: bool,
    ) -> std::io::Result<pb::SampleBatch> {
        let snapshot = snapshot || self.fresh;
        if snapshot {
            self.sent.clear();
            self.fresh = false;
        }
        let body = self.body(input);
        self.body.clear();
        body.encode(&mut self.body).map_err(std::io::Error::other)?;
        for column in body.columns {
            if let Some(building) = self.columns.get_mut(column.metric as usize) {
                *building = Building::again(column);
            }
        }
        if snapshot {
            self.compressor.fit(self.body.len())?;
        }
        for slot in input.gone {
            if let Some(row) = self.sent.get_mut(*slot as usize) {
                *row = Values::default();
            }
        }
        Ok(pb::SampleBatch {
            seq: header.seq,
            boot_ns: header.boot_ns,
            wall_offset_ns: header.wall_offset_ns,
            snapshot,
            backlog: false,
            body_bytes: self.body.len() as u32,
            body: self.compressor.compress(&self.body)?,
        })
    }

    /// Encodes a batch that stands alone: totals, in its own compression. For the spool.
    ///
    /// # Errors
    /// When compression fails (no memory).
    pub fn encode_alone(header: Header, input: &Input<'_>) -> std::io::Result<pb::SampleBatch> {
        let batch = Self::new()?.encode(header, input, true)?;
        Ok(pb::SampleBatch { backlog: true, ..batch })
    }

    fn body(&mut self, input: &Input<'_>) -> pb::BatchBody {
        let slots = input.tasks.last().map_or(0, |(slot, _)| *slot as usize + 1);
        if self.sent.len() < slots {
            self.sent.resize(slots, Values::default());
        }
        for (slot, now) in input.tasks {
            let sent = &mut self.sent[*slot as usize];
            if sent == *now {
                continue;
            }
            for (metric, building) in Metric::ALL.iter().zip(&mut self.columns) {
                building.add(*metric, *slot, sent.get(*metric), now.get(*metric));
            }
            *sent = **now;
        }
        let is_used = |b: &&mut Building| !b.column.slots.is_empty() || !b.column.absent.is_empty();
        let columns =
            self.columns.iter_mut().filter(is_used).map(|b| std::mem::take(&mut b.column)).collect();
        pb::BatchBody {
            appeared: input.appeared.iter().map(|(slot, info)| task(*slot, info)).collect(),
            gone: input.gone.to_vec(),
            columns,
            delays: input.delays.iter().map(|(slot, delays)| histogram(*slot, delays)).collect(),
        }
    }
}

impl Building {
    fn add(&mut self, metric: Metric, slot: u32, sent: Option<u64>, now: Option<u64>) {
        let column = &mut self.column;
        match (sent, now) {
            (Some(_), None) => {
                column.absent.push(slot - self.last_absent);
                self.last_absent = slot;
            }
            (before, Some(now)) if before != Some(now) => {
                let base = before.unwrap_or(0);
                match metric.entry().kind {
                    // A counter that fell belongs to a new task under a slot that was not given up: the core never
                    // does that; wrapping keeps the table right even then.
                    Kind::Counter => column.rises.push(now.wrapping_sub(base)),
                    Kind::Gauge => column.changes.push(now.wrapping_sub(base) as i64),
                }
                column.slots.push(slot - self.last);
                self.last = slot;
            }
            _ => return,
        }
        column.metric = metric as u32;
    }

    /// An empty one in the memory of a column that was encoded.
    fn again(mut column: pb::Column) -> Self {
        column.slots.clear();
        column.rises.clear();
        column.changes.clear();
        column.absent.clear();
        Self { column, last: 0, last_absent: 0 }
    }
}

fn task(slot: u32, info: &TaskInfo) -> pb::Task {
    pb::Task {
        slot,
        cgroup: info.cgroup.0,
        since_ns: info.since_ns,
        kind: info.class.kind.clone(),
        name: info.class.name.clone(),
        workload: info.class.workload.as_ref().map(ToString::to_string).unwrap_or_default(),
        task: info.class.task.as_ref().map(ToString::to_string).unwrap_or_default(),
        container: info.class.container.as_deref().map(convert::container_to_pb),
    }
}

fn histogram(slot: u32, delays: &Delays) -> pb::DelayHistogram {
    let mut last = 0;
    let buckets = delays
        .iter()
        .map(|(bucket, _)| u32::from(*bucket) - std::mem::replace(&mut last, u32::from(*bucket)));
    pb::DelayHistogram { slot, buckets: buckets.collect(), counts: delays.iter().map(|(_, n)| *n).collect() }
}
