//! The autoscaler's side of a stream of batches.

use model::id::CgroupId;
use model::metric::{Kind, Metric};
use model::node::TaskInfo;
use model::sample::Values;
use prost::Message;

use super::column::{Column, Field, field, signed};
use super::{Delays, Header};
use crate::compress::Decompressor;
use crate::{BODY_LIMIT, TASK_LIMIT, WireError, convert, pb};

/// Decodes the batches of one stream.
pub struct Decoder {
    table: Table,
    decompressor: Decompressor,
    expanded: Vec<u8>,
    last_seq: u64,
    snapshot_differences: u64,
}

/// What is known of the tasks of one stream, by slot.
#[derive(Default)]
struct Table {
    rows: Vec<Row>,
    live: usize,
    changed: Vec<u32>,
}

#[derive(Clone, Default)]
struct Row {
    cgroup: Option<CgroupId>,
    values: Values,
    /// Already in `changed`.
    marked: bool,
}

/// A task that ended, with its final totals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Its slot, free from now on.
    pub slot: u32,
    /// Its cgroup.
    pub cgroup: CgroupId,
    /// Its final totals.
    pub values: Values,
}

/// A batch that was accepted.
pub struct Decoded<'a> {
    /// Number and time.
    pub header: Header,
    /// True for a batch from the spool: its values are of the past.
    pub backlog: bool,
    /// True when tasks that are not listed do not exist.
    pub snapshot: bool,
    /// Tasks that this batch names for the first time.
    pub appeared: Vec<(u32, TaskInfo)>,
    /// Tasks that ended.
    pub gone: Vec<Gone>,
    /// Delays since the last histogram, by slot.
    pub delays: Vec<(u32, Delays)>,
    table: TableRef<'a>,
}

enum TableRef<'a> {
    Stream(&'a Table),
    Alone(Table),
}

impl Decoded<'_> {
    fn table(&self) -> &Table {
        match &self.table {
            TableRef::Stream(table) => table,
            TableRef::Alone(table) => table,
        }
    }

    /// The tasks whose values changed, with all their totals. A live task that is not here was read and is unchanged.
    pub fn changed(&self) -> impl Iterator<Item = (u32, CgroupId, &Values)> + '_ {
        let table = self.table();
        table.changed.iter().filter_map(|slot| {
            let row = &table.rows[*slot as usize];
            row.cgroup.map(|cgroup| (*slot, cgroup, &row.values))
        })
    }

    /// Live tasks after this batch.
    #[must_use]
    pub fn live(&self) -> usize {
        self.table().live
    }
}

impl Decoder {
    /// For a new stream.
    ///
    /// # Errors
    /// When zstd has no memory for its context.
    pub fn new() -> Result<Self, WireError> {
        Ok(Self {
            table: Table::default(),
            decompressor: Decompressor::new()?,
            expanded: Vec::new(),
            last_seq: 0,
            snapshot_differences: 0,
        })
    }

    /// How many values of later snapshots differed from the table; anything but 0 is a defect.
    #[must_use]
    pub fn snapshot_differences(&self) -> u64 {
        self.snapshot_differences
    }

    /// Decodes a batch and applies it to the table.
    ///
    /// # Errors
    /// [`WireError`]: the stream cannot go on then, because the table may be half changed.
    pub fn decode(&mut self, batch: &pb::SampleBatch) -> Result<Decoded<'_>, WireError> {
        let length = batch.body_bytes as usize;
        if length > BODY_LIMIT {
            return Err(WireError::OverLimit { what: "batch body", found: length, limit: BODY_LIMIT });
        }
        let header = Header { seq: batch.seq, boot_ns: batch.boot_ns, wall_offset_ns: batch.wall_offset_ns };
        if batch.backlog {
            let mut expanded = Vec::new();
            Decompressor::new()?.expand(&batch.body, length, &mut expanded)?;
            let mut table = Table::default();
            let (appeared, gone, delays) = table.apply(&expanded)?;
            let table = TableRef::Alone(table);
            return Ok(Decoded { header, backlog: true, snapshot: true, appeared, gone, delays, table });
        }
        if batch.seq <= self.last_seq {
            return Err(WireError::OutOfOrder { found: batch.seq, last: self.last_seq });
        }
        if self.last_seq == 0 && !batch.snapshot {
            return Err(WireError::Missing("a snapshot at the start of the stream"));
        }
        self.decompressor.expand(&batch.body, length, &mut self.expanded)?;
        let body = &self.expanded;
        let (appeared, gone, delays) = if batch.snapshot {
            let mut table = Table::default();
            let applied = table.apply(body)?;
            self.snapshot_differences += self.table.counters_above(&table);
            self.table = table;
            applied
        } else {
            self.table.apply(body)?
        };
        self.last_seq = batch.seq;
        let table = TableRef::Stream(&self.table);
        Ok(Decoded { header, backlog: false, snapshot: batch.snapshot, appeared, gone, delays, table })
    }
}

type Applied = (Vec<(u32, TaskInfo)>, Vec<Gone>, Vec<(u32, Delays)>);

impl Table {
    fn apply(&mut self, body: &[u8]) -> Result<Applied, WireError> {
        for slot in self.changed.drain(..) {
            self.rows[slot as usize].marked = false;
        }
        if let Some((columns, rest)) = in_place(body) {
            return self.take(message(&rest)?, &columns);
        }
        // Not as our encoder writes it: read it whole, and put its columns into that form.
        let whole = message(body)?;
        let written: Vec<Vec<u8>> = whole.columns.iter().map(Message::encode_to_vec).collect();
        let columns: Vec<Column<'_>> = written.iter().filter_map(|bytes| Column::read(bytes)).collect();
        self.take(whole, &columns)
    }

    /// Takes what a body says; its columns are told apart from the rest of it.
    fn take(&mut self, body: pb::BatchBody, columns: &[Column<'_>]) -> Result<Applied, WireError> {
        let mut appeared = Vec::with_capacity(body.appeared.len().min(TASK_LIMIT));
        for task in body.appeared {
            let (slot, info) = convert::task_info(task)?;
            self.appear(slot, info.cgroup)?;
            appeared.push((slot, info));
        }
        for column in columns {
            self.column(column)?;
        }
        let delays = body.delays.iter().map(|h| self.histogram(h)).collect::<Result<_, _>>()?;
        let mut gone = Vec::with_capacity(body.gone.len().min(TASK_LIMIT));
        for slot in body.gone {
            gone.push(self.end(slot)?);
        }
        Ok((appeared, gone, delays))
    }

    fn appear(&mut self, slot: u32, cgroup: CgroupId) -> Result<(), WireError> {
        let at = slot as usize;
        if at >= TASK_LIMIT {
            return Err(WireError::OverLimit { what: "task slot", found: at, limit: TASK_LIMIT });
        }
        if self.rows.len() <= at {
            self.rows.resize(at + 1, Row::default());
        }
        let row = &mut self.rows[at];
        if row.cgroup == Some(cgroup) {
            // What it is became known later: its totals stay.
            return Ok(());
        }
        if row.cgroup.is_some() {
            return Err(WireError::Invalid { what: "task slot", why: format!("{slot} is in use") });
        }
        *row = Row { cgroup: Some(cgroup), values: Values::default(), marked: row.marked };
        self.live += 1;
        Ok(())
    }

    fn end(&mut self, slot: u32) -> Result<Gone, WireError> {
        let row = self.row(slot)?;
        let Some(cgroup) = row.cgroup.take() else { return Err(unknown(slot)) };
        let values = std::mem::take(&mut row.values);
        self.live -= 1;
        Ok(Gone { slot, cgroup, values })
    }

    fn row(&mut self, slot: u32) -> Result<&mut Row, WireError> {
        self.rows.get_mut(slot as usize).filter(|row| row.cgroup.is_some()).ok_or_else(|| unknown(slot))
    }

    fn column(&mut self, column: &Column<'_>) -> Result<(), WireError> {
        let invalid = |why: &str| WireError::Invalid { what: "column", why: why.to_owned() };
        let Some(metric) = u8::try_from(column.metric).ok().and_then(Metric::from_index) else {
            // A later minor version may know more metrics.
            return Ok(());
        };
        let kind = metric.entry().kind;
        let (values, other) = match kind {
            Kind::Counter => (column.rises, column.changes),
            Kind::Gauge => (column.changes, column.rises),
        };
        if column.slots.len() != values.len() || other.len() != 0 {
            return Err(invalid("as many values as slots are needed, of the metric's kind"));
        }
        let mut slot = 0u32;
        for (index, (step, value)) in column.slots.zip(values).enumerate() {
            slot = advance(slot, step as u32, index)?;
            let row = self.row(slot)?;
            let before = row.values.get(metric).unwrap_or(0);
            let now = match kind {
                Kind::Counter => before.checked_add(value),
                Kind::Gauge => before.checked_add_signed(signed(value)),
            };
            row.values.set(metric, now.ok_or_else(|| invalid("a total over 2^64 or under 0"))?);
            self.mark(slot);
        }
        let mut slot = 0u32;
        for (index, step) in column.absent.enumerate() {
            slot = advance(slot, step as u32, index)?;
            self.row(slot)?.values.clear(metric);
            self.mark(slot);
        }
        Ok(())
    }

    fn mark(&mut self, slot: u32) {
        if !std::mem::replace(&mut self.rows[slot as usize].marked, true) {
            self.changed.push(slot);
        }
    }

    fn histogram(&mut self, histogram: &pb::DelayHistogram) -> Result<(u32, Delays), WireError> {
        self.row(histogram.slot)?;
        if histogram.buckets.len() != histogram.counts.len() {
            return Err(WireError::Invalid {
                what: "histogram",
                why: "as many counts as buckets are needed".into(),
            });
        }
        let mut bucket = 0u32;
        let mut delays = Vec::with_capacity(histogram.buckets.len().min(1024));
        for (index, (step, count)) in histogram.buckets.iter().zip(&histogram.counts).enumerate() {
            bucket = advance(bucket, *step, index)?;
            let small = u16::try_from(bucket).ok().filter(|b| usize::from(*b) < model::histogram::BUCKETS);
            let Some(small) = small else {
                let limit = model::histogram::BUCKETS;
                return Err(WireError::OverLimit { what: "histogram bucket", found: bucket as usize, limit });
            };
            delays.push((small, *count));
        }
        Ok((histogram.slot, delays))
    }

    /// How many counters of this table are above the same task's in `later`: a total that fell.
    fn counters_above(&self, later: &Table) -> u64 {
        let pairs =
            self.rows.iter().zip(&later.rows).filter(|(a, b)| a.cgroup.is_some() && a.cgroup == b.cgroup);
        let fell = |(a, b): (&Row, &Row)| {
            let counters = a.values.iter().filter(|(m, _)| m.entry().kind == Kind::Counter);
            counters.filter(|(m, v)| b.values.get(*m).is_some_and(|now| now < *v)).count() as u64
        };
        pairs.map(fell).sum()
    }
}

/// Field of the columns in `pb::BatchBody`.
const COLUMNS: u64 = 3;

/// The columns of a body where they lie, and the bytes of all else that it says; `None` when they must be read whole.
fn in_place(body: &[u8]) -> Option<(Vec<Column<'_>>, Vec<u8>)> {
    let (mut columns, mut rest) = (Vec::with_capacity(Metric::COUNT), Vec::new());
    let mut at = body;
    while !at.is_empty() {
        let before = at;
        match field(&mut at)? {
            (COLUMNS, Field::Bytes(bytes)) => columns.push(Column::read(bytes)?),
            (COLUMNS, Field::Number(_)) => return None,
            _ => rest.extend_from_slice(&before[..before.len() - at.len()]),
        }
    }
    Some((columns, rest))
}

fn message(bytes: &[u8]) -> Result<pb::BatchBody, WireError> {
    pb::BatchBody::decode(bytes).map_err(|e| WireError::Invalid { what: "batch body", why: e.to_string() })
}

/// The next of an ascending list that is sent as steps; only the first step may be 0.
fn advance(at: u32, step: u32, index: usize) -> Result<u32, WireError> {
    let next = at.checked_add(step).filter(|_| step > 0 || index == 0);
    next.ok_or_else(|| WireError::Invalid { what: "ascending list", why: format!("step {step} after {at}") })
}

fn unknown(slot: u32) -> WireError {
    WireError::Invalid { what: "task slot", why: format!("{slot} was never named on this stream") }
}
