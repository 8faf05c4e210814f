//! Questions to the store. Each opens its own connection: WAL lets readers run beside the writer.

use std::path::{Path, PathBuf};

use autoscaler_core::event::{Event, Time};
use autoscaler_core::idle::Page;
use model::decision::Decision;
use model::id::{NodeId, WorkloadName};
use model::workload::{Workload, WorkloadSpec};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::course::{self, Course};
use super::journal::{self, Entry};
use super::schema::integer;
use super::usage::{self, Usage};
use super::{FILE, StoreError};

/// A part of a list, and where the next part begins.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part<T> {
    /// The items.
    pub items: Vec<T>,
    /// Give it as `cursor` to get the next part; absent at the end.
    pub next: Option<String>,
}

/// A specification in force.
#[derive(Debug, Clone, PartialEq)]
pub struct SpecRow {
    /// The workload.
    pub workload: Workload,
    /// Changes with each application; the entity tag.
    pub revision: i64,
    /// When it was applied.
    pub at: Time,
}

/// A pause in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PauseRow {
    /// One workload; absent = all.
    pub workload: Option<WorkloadName>,
    /// In the operator's words.
    pub reason: String,
    /// Since when, ms of controller time.
    pub at_ms: u64,
    /// Until when; absent = until resumed.
    pub until_ms: Option<u64>,
}

/// A stored decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecisionRow {
    /// Its place in the store; larger is newer.
    pub row: i64,
    /// The decision.
    #[serde(flatten)]
    pub decision: Decision,
}

/// A task that ended, with its final totals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndedTaskRow {
    /// On which node.
    pub node: String,
    /// In which boot of it.
    pub boot: String,
    /// Its cgroup.
    pub cgroup: u64,
    /// What a rule named it.
    pub kind: Option<String>,
    /// A readable name.
    pub name: Option<String>,
    /// The workload that it belonged to.
    pub workload: Option<String>,
    /// Its name when Trimtab started it.
    pub task: Option<String>,
    /// When its end was stored, ms of controller time.
    pub ended_ms: u64,
    /// CPU total by the kernel's ledger, µs.
    pub cpu_total_us: Option<u64>,
    /// All totals, by metric name.
    pub totals: serde_json::Value,
    /// Exit status, when it exited.
    pub status: Option<i32>,
    /// Signal, when it was killed.
    pub signal: Option<i32>,
    /// True when a command asked for it.
    pub asked: Option<bool>,
}

/// A replica that ended, by the name under which history has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaRow {
    /// On which node.
    pub node: String,
    /// In which boot of it.
    pub boot: String,
    /// Its cgroup.
    pub cgroup: u64,
    /// Its name.
    pub task: String,
}

/// A remembered answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReply {
    /// What was asked.
    pub fingerprint: String,
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Reads a store that another task, or nobody, has open.
#[derive(Debug, Clone)]
pub struct Reader {
    path: PathBuf,
}

impl Reader {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Of a state directory, or of a copy of the database file.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        Self { path: if path.is_dir() { path.join(FILE) } else { path.to_owned() } }
    }

    pub(super) fn ask<T>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(&self.path, flags)
            .and_then(|db| {
                db.busy_timeout(std::time::Duration::from_secs(5))?;
                question(&db)
            })
            .map_err(|error| StoreError::Sqlite { path: self.path.clone(), error })
    }

    /// Specifications in force, by name.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses.
    pub fn specs(&self) -> Result<Vec<SpecRow>, StoreError> {
        self.ask(|db| {
            db.prepare("SELECT name, revision, at_ms, spec FROM specs ORDER BY name")?
                .query_map([], spec)?
                .collect()
        })
    }

    /// One specification.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses.
    pub fn spec(&self, name: &WorkloadName) -> Result<Option<SpecRow>, StoreError> {
        self.ask(|db| {
            db.query_row(
                "SELECT name, revision, at_ms, spec FROM specs WHERE name = ?1",
                [name.as_str()],
                spec,
            )
            .optional()
        })
    }

    /// Pauses in force at `now`.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses.
    pub fn pauses(&self, now: Time) -> Result<Vec<PauseRow>, StoreError> {
        let all: Vec<PauseRow> = self.ask(|db| {
            db.prepare("SELECT workload, reason, at_ms, until_ms FROM pauses ORDER BY workload")?
                .query_map([], |row| {
                    let workload: String = row.get(0)?;
                    Ok(PauseRow {
                        workload: WorkloadName::new(workload).ok(),
                        reason: row.get(1)?,
                        at_ms: row.get::<_, i64>(2)?.unsigned_abs(),
                        until_ms: row.get::<_, Option<i64>>(3)?.map(i64::unsigned_abs),
                    })
                })?
                .collect()
        })?;
        Ok(all.into_iter().filter(|pause| pause.until_ms.is_none_or(|until| until > now.0)).collect())
    }

    /// Decisions, newest first; of one workload, acts only when asked, before a cursor.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses.
    pub fn decisions(
        &self,
        workload: Option<&WorkloadName>,
        acts_only: bool,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Part<DecisionRow>, StoreError> {
        let rows: Vec<DecisionRow> = self.ask(|db| {
            db.prepare(
                "SELECT row, body FROM decisions
                 WHERE (?1 IS NULL OR workload = ?1) AND (?2 = 0 OR act = 1) AND row < ?3 ORDER BY row DESC LIMIT ?4",
            )?
            .query_map(
                params![workload.map(|w| w.as_str()), acts_only, before.unwrap_or(i64::MAX), rows_wanted(limit)],
                |row| Ok(DecisionRow { row: row.get(0)?, decision: parsed(row, 1)? }),
            )?
            .collect()
        })?;
        Ok(page(rows, limit, |last| last.row))
    }

    /// Tasks that ended, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses.
    pub fn ended_tasks(
        &self,
        node: Option<&str>,
        workload: Option<&str>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Part<EndedTaskRow>, StoreError> {
        let rows: Vec<(i64, EndedTaskRow)> = self.ask(|db| {
            db.prepare(
                "SELECT row, node, boot, cgroup, kind, name, workload, task, ended_ms, cpu_total_us, totals, status,
                        signal, asked
                 FROM tasks WHERE (?1 IS NULL OR node = ?1) AND (?2 IS NULL OR workload = ?2) AND row < ?3
                 ORDER BY row DESC LIMIT ?4",
            )?
            .query_map(params![node, workload, before.unwrap_or(i64::MAX), rows_wanted(limit)], ended_task)?
            .collect()
        })?;
        let page = page(rows, limit, |(row, _)| *row);
        Ok(Part { items: page.items.into_iter().map(|(_, task)| task).collect(), next: page.next })
    }

    /// Replicas of a workload that ended since `since`: node, boot, cgroup and name, the newest `limit`.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses.
    pub fn ended_replicas(
        &self,
        workload: &WorkloadName,
        since: Time,
        limit: usize,
    ) -> Result<Vec<ReplicaRow>, StoreError> {
        self.ask(|db| {
            db.prepare(
                "SELECT node, boot, cgroup, task FROM tasks
                 WHERE workload = ?1 AND task IS NOT NULL AND ended_ms >= ?2 ORDER BY ended_ms DESC LIMIT ?3",
            )?
            .query_map(params![workload.as_str(), integer(since.0), integer(limit as u64)], |row| {
                let cgroup: i64 = row.get(2)?;
                Ok(ReplicaRow {
                    node: row.get(0)?,
                    boot: row.get(1)?,
                    cgroup: cgroup.unsigned_abs(),
                    task: row.get(3)?,
                })
            })?
            .collect()
        })
    }

    /// The latest pages of the idle ledger, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses.
    pub fn idle(&self, limit: usize) -> Result<Vec<Page>, StoreError> {
        let mut pages: Vec<_> = self.ask(|db| {
            db.prepare("SELECT body FROM idle ORDER BY row DESC LIMIT ?1")?
                .query_map([rows_wanted(limit)], |row| parsed(row, 0))?
                .collect()
        })?;
        pages.truncate(limit);
        Ok(pages)
    }

    /// What the fleet had, used and left idle from `from` on, moved back to the start of ten minutes, up to `to`; in about `points` steps.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses.
    pub fn usage(&self, from: Time, to: Time, points: u64) -> Result<Usage, StoreError> {
        self.ask(|db| usage::read(db, from, to, points))
    }

    /// How a workload went, in about `points` steps.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses.
    pub fn course(
        &self,
        workload: &WorkloadName,
        from: Time,
        to: Time,
        points: u64,
    ) -> Result<Course, StoreError> {
        self.ask(|db| course::read(db, workload, (from, to), points))
    }

    /// The remembered answer to a request.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses.
    pub fn reply(&self, key: &str) -> Result<Option<StoredReply>, StoreError> {
        self.ask(|db| {
            db.query_row("SELECT fingerprint, status, body FROM replies WHERE key = ?1", [key], |row| {
                Ok(StoredReply { fingerprint: row.get(0)?, status: row.get(1)?, body: row.get(2)? })
            })
            .optional()
        })
    }

    /// The first record of each segment of the journal, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses.
    pub fn segments(&self) -> Result<Vec<i64>, StoreError> {
        self.ask(|db| {
            db.prepare("SELECT first_seq FROM segments ORDER BY first_seq")?
                .query_map([], |row| row.get(0))?
                .collect()
        })
    }

    /// Hands every journal record from `first` up to (not with) `end` to `each`, in order.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses, or a record is damaged.
    pub fn journal(
        &self,
        first: i64,
        end: i64,
        mut each: impl FnMut(i64, Time, Entry),
    ) -> Result<(), StoreError> {
        let mut damaged = None;
        self.ask(|db| {
            let mut statement = db.prepare(
                "SELECT seq, at_ms, kind, crc, body FROM journal WHERE seq >= ?1 AND seq < ?2 ORDER BY seq",
            )?;
            let mut rows = statement.query([first, end])?;
            while let Some(row) = rows.next()? {
                let (seq, at, entry) = journal::read(row)?;
                match entry {
                    Ok(entry) => each(seq, at, entry),
                    Err(why) => {
                        damaged = Some((seq, why));
                        break;
                    }
                }
            }
            Ok(())
        })?;
        match damaged {
            Some((seq, why)) => Err(StoreError::Damaged { path: self.path.clone(), seq, why }),
            None => Ok(()),
        }
    }

    /// What the last brain knew, and the record after which it knew it; `None` when none was kept.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses.
    pub fn memory(&self) -> Result<Option<(i64, Vec<Event>)>, StoreError> {
        self.ask(|db| {
            db.query_row("SELECT seq, body FROM memory", [], |row| Ok((row.get(0)?, parsed(row, 1)?)))
                .optional()
        })
    }

    /// Nodes that are to be empty, with the operator's words.
    fn drains(&self) -> Result<Vec<(NodeId, String)>, StoreError> {
        self.ask(|db| {
            db.prepare("SELECT node, reason FROM drains ORDER BY node")?
                .query_map([], |row| {
                    let node: String = row.get(0)?;
                    let node = NodeId::new(node).map_err(|error| {
                        rusqlite::Error::FromSqlConversionFailure(
                            0,
                            rusqlite::types::Type::Text,
                            Box::new(error),
                        )
                    })?;
                    Ok((node, row.get(1)?))
                })?
                .collect()
        })
    }

    /// Specifications, pauses and drains in force, as events: what a new brain must know.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses.
    pub fn in_force(&self, now: Time) -> Result<Vec<Event>, StoreError> {
        let specs = self.specs()?.into_iter().map(|row| Event::SpecApplied { workload: row.workload });
        let pauses = self.pauses(now)?.into_iter().map(|pause| Event::Paused {
            workload: pause.workload,
            reason: pause.reason,
            until: pause.until_ms.map(Time),
        });
        let drains = self.drains()?.into_iter().map(|(node, reason)| Event::NodeDrained { node, reason });
        Ok(specs.chain(pauses).chain(drains).collect())
    }
}

/// One more than the limit shows whether there is more.
fn rows_wanted(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}

fn page<T>(mut rows: Vec<T>, limit: usize, key: impl Fn(&T) -> i64) -> Part<T> {
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|last| key(last).to_string());
    Part { items: rows, next }
}

pub(super) fn parsed<T: for<'a> Deserialize<'a>>(row: &Row<'_>, column: usize) -> Result<T, rusqlite::Error> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into())
    })
}

fn spec(row: &Row<'_>) -> Result<SpecRow, rusqlite::Error> {
    let name: String = row.get(0)?;
    let name = WorkloadName::new(name).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })?;
    let spec: WorkloadSpec = parsed(row, 3)?;
    Ok(SpecRow {
        workload: Workload { name, spec },
        revision: row.get(1)?,
        at: Time(row.get::<_, i64>(2)?.unsigned_abs()),
    })
}

fn ended_task(row: &Row<'_>) -> Result<(i64, EndedTaskRow), rusqlite::Error> {
    let unsigned = |column: usize| row.get::<_, Option<i64>>(column).map(|n| n.map(i64::unsigned_abs));
    Ok((
        row.get(0)?,
        EndedTaskRow {
            node: row.get(1)?,
            boot: row.get(2)?,
            cgroup: unsigned(3)?.unwrap_or(0),
            kind: row.get(4)?,
            name: row.get(5)?,
            workload: row.get(6)?,
            task: row.get(7)?,
            ended_ms: unsigned(8)?.unwrap_or(0),
            cpu_total_us: unsigned(9)?,
            totals: parsed(row, 10)?,
            status: row.get(11)?,
            signal: row.get(12)?,
            asked: row.get(13)?,
        },
    ))
}
