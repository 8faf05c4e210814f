//! The journal: what the brain was told and what it answered, in order.

use autoscaler_core::brain::Config;
use autoscaler_core::event::{Event, Plan, Time};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use super::Round;
use super::schema::integer;

/// zstd's level: journals are written once a second and read seldom.
const LEVEL: i32 = 3;
/// Longest record that is read back, bytes of JSON.
const LONGEST: usize = 256 << 20;

const ROUND: i64 = 0;
const BASE: i64 = 1;

/// One round as it is read back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What was observed, in order.
    pub events: Vec<Event>,
    /// What was answered; absent when the brain was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

/// Where a segment begins: a new brain with this configuration, these events, and the rounds from `warm_from` on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Base {
    /// The brain's configuration.
    pub config: BrainConfig,
    /// What the brain is told first: what the one before must not have forgotten.
    pub events: Vec<Event>,
    /// Rounds of the segment before, from this number on, that the brain is told next so that it starts with recent
    /// changes; their plans are not compared.
    pub warm_from: Option<i64>,
}

/// [`Config`] as it is stored; a change of it begins a new segment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BrainConfig {
    round_ms: u64,
    reconnect_ms: u64,
    risk: f64,
    idle_ms: u64,
}

impl From<Config> for BrainConfig {
    fn from(c: Config) -> Self {
        Self { round_ms: c.round_ms, reconnect_ms: c.reconnect_ms, risk: c.risk, idle_ms: c.idle_ms }
    }
}

impl From<BrainConfig> for Config {
    fn from(c: BrainConfig) -> Self {
        Self { round_ms: c.round_ms, reconnect_ms: c.reconnect_ms, risk: c.risk, idle_ms: c.idle_ms }
    }
}

/// One row of the journal.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A segment begins.
    Base(Base),
    /// A round.
    Round(Record),
}

#[derive(Serialize)]
struct Written<'a> {
    events: &'a [Event],
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<&'a Plan>,
}

pub(super) fn append(db: &Connection, seq: i64, round: &Round<'_>) -> Result<(), rusqlite::Error> {
    insert(db, seq, round.at, ROUND, &Written { events: round.events, plan: round.plan })
}

pub(super) fn append_base(db: &Connection, seq: i64, at: Time, base: &Base) -> Result<(), rusqlite::Error> {
    let transaction = db.unchecked_transaction()?;
    insert(&transaction, seq, at, BASE, base)?;
    transaction.execute("INSERT INTO segments VALUES (?1, ?2)", params![seq, integer(at.0)])?;
    transaction.commit()
}

fn insert(
    db: &Connection,
    seq: i64,
    at: Time,
    kind: i64,
    body: &impl Serialize,
) -> Result<(), rusqlite::Error> {
    let refused =
        |error: Box<dyn std::error::Error + Send + Sync>| rusqlite::Error::ToSqlConversionFailure(error);
    let json = serde_json::to_vec(body).map_err(|error| refused(error.into()))?;
    let packed = zstd::bulk::compress(&json, LEVEL).map_err(|error| refused(error.into()))?;
    let crc = i64::from(crc32fast::hash(&packed));
    db.prepare_cached("INSERT INTO journal (seq, at_ms, kind, crc, body) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![seq, integer(at.0), kind, crc, packed])?;
    Ok(())
}

/// The number of the next record, and the time of the last.
pub(super) fn end(db: &Connection) -> Result<(i64, Option<Time>), rusqlite::Error> {
    let last: Option<i64> = db.query_row("SELECT max(seq) FROM journal", [], |row| row.get(0))?;
    let at: Option<i64> = db.query_row("SELECT max(at_ms) FROM journal", [], |row| row.get(0))?;
    Ok((last.map_or(1, |seq| seq + 1), at.map(|ms| Time(ms.unsigned_abs()))))
}

/// A row of `SELECT seq, at_ms, kind, crc, body`, or what is wrong with it.
pub(super) type Read = (i64, Time, Result<Entry, String>);

pub(super) fn read(row: &Row<'_>) -> Result<Read, rusqlite::Error> {
    let (seq, at, kind): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let (crc, body): (i64, Vec<u8>) = (row.get(3)?, row.get(4)?);
    Ok((seq, Time(at.unsigned_abs()), parse(kind, crc, &body)))
}

fn parse(kind: i64, crc: i64, body: &[u8]) -> Result<Entry, String> {
    if crc != i64::from(crc32fast::hash(body)) {
        return Err("its checksum differs".to_owned());
    }
    let json = zstd::bulk::decompress(body, LONGEST).map_err(|error| error.to_string())?;
    match kind {
        ROUND => serde_json::from_slice(&json).map(Entry::Round),
        BASE => serde_json::from_slice(&json).map(Entry::Base),
        _ => return Err(format!("kind {kind} is not known")),
    }
    .map_err(|error| error.to_string())
}
