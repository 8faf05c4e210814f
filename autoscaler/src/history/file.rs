//! The file that holds the chunks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::id::{BootId, NodeId};
use rusqlite::{Connection, params};
use serde::Serialize;

use super::chunk::{self, Effort, Run};
use super::open::{PartKey, Parts};
use super::walk::{Walk, Which};
use super::{Series, Tier, WINDOW};
use crate::config::HistorySettings;

/// The file in the state directory.
const FILE: &str = "history.db";
const VERSION: i64 = 1;
const SCHEMA: &str = "
    BEGIN IMMEDIATE;
    CREATE TABLE sources (id INTEGER PRIMARY KEY, node TEXT NOT NULL, boot TEXT NOT NULL, UNIQUE (node, boot)) STRICT;
    -- window: seconds of controller time; chunk: see chunk.rs.
    CREATE TABLE chunks (
        row INTEGER PRIMARY KEY, tier INTEGER NOT NULL, window INTEGER NOT NULL, source INTEGER NOT NULL,
        series INTEGER NOT NULL, chunk BLOB NOT NULL
    ) STRICT;
    CREATE INDEX chunks_by_window ON chunks (tier, window, source, series);
    PRAGMA user_version = 1;
    COMMIT;";

/// A window is merged when it has been closed for this long, seconds: late batches of a spool go in before.
const SETTLED: u64 = 900;

/// Why history cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// SQLite refuses.
    #[error("{path}: {error}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it says.
        error: rusqlite::Error,
    },
    /// A chunk that does not read back.
    #[error("{path}: chunk {row}: {why}")]
    Chunk {
        /// The file.
        path: PathBuf,
        /// Its row; 0 when it was not written yet.
        row: i64,
        /// What is wrong with it.
        why: String,
    },
    /// Written by a later version.
    #[error("{path}: version {found} is newer than this program knows: upgrade it")]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) values: u64,
    pub(super) bytes: u64,
}

#[derive(Debug)]
pub(super) struct HistoryFile {
    db: Connection,
    path: PathBuf,
}

impl HistoryFile {
    pub(super) fn open(state: &Path) -> Result<Self, HistoryError> {
        let path = state.join(FILE);
        let failed = |error| HistoryError::Sqlite { path: path.clone(), error };
        let db = Connection::open(&path).map_err(failed)?;
        db.busy_timeout(std::time::Duration::from_secs(5)).map_err(failed)?;
        db.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        db.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
        let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
        match found {
            0 => db.execute_batch(SCHEMA).map_err(failed)?,
            VERSION => {}
            _ => return Err(HistoryError::TooNew { path, found }),
        }
        Ok(Self { db, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self) -> impl Fn(rusqlite::Error) -> HistoryError + use<> {
        let path = self.path.clone();
        move |error| HistoryError::Sqlite { path: path.clone(), error }
    }

    /// Writes the open seconds at 1 s, 10 s and 1 min in one transaction.
    pub(super) fn write(&mut self, parts: &Parts) -> Result<Written, HistoryError> {
        let failed = self.failed();
        let mut written = Written::default();
        let transaction = self.db.transaction().map_err(&failed)?;
        for (key, series) in parts {
            let source = source(&transaction, key).map_err(&failed)?;
            for tier in [Tier::S1, Tier::S10, Tier::M1] {
                for wanted in tier.series() {
                    let Some(runs) = of_tier(series, tier, *wanted) else { continue };
                    let blob = chunk::encode(&runs, Effort::Part).map_err(|why| HistoryError::Chunk {
                        path: self.path.clone(),
                        row: 0,
                        why,
                    })?;
                    written.values += runs.iter().map(|run| run.values.len() as u64).sum::<u64>();
                    written.bytes += blob.len() as u64;
                    insert(&transaction, tier, key.window, source, *wanted, &blob).map_err(&failed)?;
                }
            }
        }
        transaction.commit().map_err(&failed)?;
        Ok(written)
    }

    /// Merges the parts of windows that are closed, and reduces their minutes to ten minutes.
    pub(super) fn compact(&mut self, second: u64) -> Result<(), HistoryError> {
        let failed = self.failed();
        let limit = integer(second.saturating_sub(WINDOW + SETTLED));
        let groups: Vec<(i64, i64, i64, i64)> = {
            let mut statement = self
                .db
                .prepare_cached(
                    "SELECT tier, window, source, series FROM chunks WHERE window < ?1
                     GROUP BY tier, window, source, series HAVING count(*) > 1 LIMIT 4096",
                )
                .map_err(&failed)?;
            let rows = statement
                .query_map([limit], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
                .map_err(&failed)?;
            rows.collect::<Result<_, _>>().map_err(&failed)?
        };
        for (tier, window, source, series) in groups {
            self.merge(tier, window, source, series)?;
        }
        Ok(())
    }

    fn merge(&mut self, tier: i64, window: i64, source: i64, series: i64) -> Result<(), HistoryError> {
        let failed = self.failed();
        let damaged = |row, why| HistoryError::Chunk { path: self.path.clone(), row, why };
        let blobs: Vec<(i64, Vec<u8>)> = {
            let sql = "SELECT row, chunk FROM chunks WHERE tier = ?1 AND window = ?2 AND source = ?3 AND series = ?4 ORDER BY row";
            let mut statement = self.db.prepare_cached(sql).map_err(&failed)?;
            let rows = statement
                .query_map([tier, window, source, series], |row| Ok((row.get(0)?, row.get(1)?)))
                .map_err(&failed)?;
            rows.collect::<Result<_, _>>().map_err(&failed)?
        };
        let mut runs = Vec::new();
        for (row, blob) in &blobs {
            runs.extend(chunk::decode(blob).map_err(|why| damaged(*row, why))?);
        }
        let runs = chunk::join(runs);
        let blob = chunk::encode(&runs, Effort::Window).map_err(|why| damaged(0, why))?;
        let ten_minutes = match tier {
            t if t == Tier::M1 as i64 => {
                let largest = series == Series::CpuMax as i64 || series == Series::MemoryMax as i64;
                let coarse = chunk::coarser(&runs, 10, largest);
                Some(chunk::encode(&coarse, Effort::Window).map_err(|why| damaged(0, why))?)
            }
            _ => None,
        };
        let transaction = self.db.transaction().map_err(&failed)?;
        let all = || -> Result<(), rusqlite::Error> {
            let delete = "DELETE FROM chunks WHERE tier = ?1 AND window = ?2 AND source = ?3 AND series = ?4";
            let put = "INSERT INTO chunks (tier, window, source, series, chunk) VALUES (?1, ?2, ?3, ?4, ?5)";
            transaction.prepare_cached(delete)?.execute([tier, window, source, series])?;
            transaction.prepare_cached(put)?.execute(params![tier, window, source, series, blob])?;
            if let Some(blob) = &ten_minutes {
                let tier = Tier::M10 as i64;
                transaction.prepare_cached(delete)?.execute([tier, window, source, series])?;
                transaction.prepare_cached(put)?.execute(params![tier, window, source, series, blob])?;
            }
            Ok(())
        };
        all().map_err(&failed)?;
        transaction.commit().map_err(&failed)
    }

    /// Drops what is older than its tier's retention, then the oldest of the finest while the file is too large.
    pub(super) fn retain(&mut self, settings: &HistorySettings, second: u64) -> Result<(), HistoryError> {
        let failed = self.failed();
        let run = || -> Result<(), rusqlite::Error> {
            for tier in Tier::ALL {
                let oldest = second.saturating_sub(settings.retain_ms[tier as usize] / 1000 + WINDOW);
                self.db
                    .prepare_cached("DELETE FROM chunks WHERE tier = ?1 AND window < ?2")?
                    .execute(params![tier as i64, integer(oldest)])?;
            }
            while self.bytes()? > settings.max_bytes {
                let oldest: Option<(i64, i64)> = self
                    .db
                    .prepare_cached("SELECT tier, window FROM chunks ORDER BY tier, window LIMIT 1")?
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .next()
                    .transpose()?;
                let Some((tier, window)) = oldest else { break };
                self.db
                    .prepare_cached("DELETE FROM chunks WHERE tier = ?1 AND window = ?2")?
                    .execute([tier, window])?;
            }
            Ok(())
        };
        run().map_err(&failed)
    }

    /// Bytes in use; free pages are used again and do not count.
    fn bytes(&self) -> Result<u64, rusqlite::Error> {
        let of =
            |name| self.db.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
        Ok((of("page_count")? - of("freelist_count")?) * of("page_size")?)
    }

    /// Values and bytes of all chunks of a tier.
    #[cfg(test)]
    pub(super) fn weigh(&self, tier: Tier) -> Written {
        let mut statement = self.db.prepare("SELECT chunk FROM chunks WHERE tier = ?1").unwrap();
        let blobs = statement.query_map([tier as i64], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        blobs.fold(Written::default(), |sum, blob| {
            let blob = blob.unwrap();
            let values = chunk::decode(&blob).unwrap().iter().map(|run| run.values.len() as u64).sum::<u64>();
            Written { values: sum.values + values, bytes: sum.bytes + blob.len() as u64 }
        })
    }
}

/// A series of a tier from the finest values; `None` when there is nothing of it.
fn of_tier(finest: &BTreeMap<Series, Vec<Run>>, tier: Tier, series: Series) -> Option<Cow<'_, [Run]>> {
    let (of, largest) = match series {
        Series::CpuMax => (Series::Cpu, true),
        Series::MemoryMax => (Series::Memory, true),
        plain => (plain, false),
    };
    let runs = finest.get(&of).filter(|runs| !runs.is_empty())?;
    let by = u32::try_from(tier.seconds()).unwrap_or(1);
    Some(if by == 1 { runs.into() } else { chunk::coarser(runs, by, largest).into() })
}

fn source(db: &Connection, key: &PartKey) -> Result<i64, rusqlite::Error> {
    db.prepare_cached(
        "INSERT INTO sources (node, boot) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET node = node RETURNING id",
    )?
    .query_row([key.node.as_str(), &key.boot.to_string()], |row| row.get(0))
}

fn insert(
    db: &Connection,
    tier: Tier,
    window: u64,
    source: i64,
    series: Series,
    blob: &[u8],
) -> Result<(), rusqlite::Error> {
    db.prepare_cached(
        "INSERT INTO chunks (tier, window, source, series, chunk) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![tier as i64, integer(window), source, series as i64, blob])?;
    Ok(())
}

pub(super) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A question to history.
#[derive(Debug, Clone)]
pub struct Query {
    /// Which node.
    pub node: NodeId,
    /// In which boot; absent = any.
    pub boot: Option<BootId>,
    /// Which task; absent = the sum of all tasks of the node.
    pub cgroup: Option<u64>,
    /// Which series.
    pub series: Series,
    /// At which resolution.
    pub tier: Tier,
    /// From, seconds of controller time.
    pub from: u64,
    /// Up to, seconds of controller time, not included.
    pub to: u64,
}

/// An answer: values at even distances; `None` where nothing is known.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Points {
    /// Time of the first value, ms of controller time.
    pub from_ms: u64,
    /// Distance of the values, ms.
    pub step_ms: u64,
    /// The values, in cores, bytes or seconds per second.
    pub values: Vec<Option<f64>>,
}

/// Most values of one answer.
const MOST_POINTS: u64 = 20_000;

pub(super) fn query(path: &Path, query: &Query) -> Result<Points, HistoryError> {
    let step = query.tier.seconds();
    let from = query.from / step * step;
    let count = (query.to.saturating_sub(from).div_ceil(step)).min(MOST_POINTS);
    let mut values: Vec<Option<f64>> = vec![None; usize::try_from(count).unwrap_or(0)];
    let boot = query.boot.map(|boot| boot.to_string());
    let (node, boot) = (query.node.as_str(), boot.as_deref());
    let which = Which { node, boot, series: query.series, tier: query.tier, from, to: query.to };
    Walk::open(path)?.each(which, |cgroup, run| {
        if query.cgroup.is_some_and(|wanted| wanted != cgroup) {
            return;
        }
        for (at, value) in run.placed() {
            if let Some(into) = values.get_mut(at) {
                *into = Some(into.filter(|_| query.cgroup.is_none()).unwrap_or(0.0) + value);
            }
        }
    })?;
    Ok(Points { from_ms: from * 1000, step_ms: step * 1000, values })
}
