//! The durable half of the controller: one SQLite file that a `kill -9` at any point leaves openable.
//!
//! Problem: a command must never be sent that a restarted controller does not know, and no journalled event may be lost
//! or doubled. Method: one transaction per round holds the round's events, its plan and everything derived from them
//! (specifications, pauses, decisions, ended tasks); it is committed with `synchronous = FULL` in WAL mode before
//! anything is sent. So the store is always at the end of some round. Bounds: [`retention`] drops closed segments of the
//! journal and old records. Recovery: SQLite replays its own log at the next open; the journal then rebuilds the brain.
//! When the disk is full the transaction fails as a whole: the caller keeps it, acts no more, and tries again.

pub mod course;
mod journal;
mod prices;
mod project;
mod queries;
mod retention;
mod revisions;
mod schema;
mod tokens;
pub mod usage;

#[cfg(test)]
mod tests;

pub use journal::{Base, BrainConfig, Entry, Record};
pub use prices::PriceRow;
pub use queries::{DecisionRow, EndedTaskRow, Part, PauseRow, Reader, ReplicaRow, SpecRow, StoredReply};
pub use retention::JournalSettings;
pub use revisions::RevisionRow;
pub use tokens::{Spent, TokenRow};

use std::fs::File;
use std::path::{Path, PathBuf};

use autoscaler_core::course::Minute;
use autoscaler_core::event::{Event, Plan, Time};
use autoscaler_core::fleet::EndedTask;
use autoscaler_core::idle::Page;
use model::id::{ControllerEpoch, NodeId, WorkloadName};
use rusqlite::Connection;

/// The store's file in the state directory.
pub const FILE: &str = "trimtab.db";

/// Why the store cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state directory or its lock.
    #[error("{path}: {error}")]
    Directory {
        /// Which file or directory.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Another controller has the store open.
    #[error(
        "{path}: another autoscaler uses this state directory; stop it, or give this one its own `state`"
    )]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// SQLite refuses.
    #[error("{path}: {error}")]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What it says.
        error: rusqlite::Error,
    },
    /// Written by a later version.
    #[error("{path}: schema version {found} is newer than {known}, which this program knows: upgrade it")]
    TooNew {
        /// The database.
        path: PathBuf,
        /// Version found.
        found: i64,
        /// Version known.
        known: i64,
    },
    /// A record that does not read back.
    #[error("{path}: journal record {seq} is damaged: {why}")]
    Damaged {
        /// The database.
        path: PathBuf,
        /// Its number.
        seq: i64,
        /// What is wrong with it.
        why: String,
    },
}

impl StoreError {
    /// True when there is no space left (or the file system refuses writes): it may pass without a restart.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull, ReadOnly, SystemIoFailure};
        match self {
            StoreError::Sqlite { error, .. } => error.sqlite_error_code().is_some_and(|code| {
                matches!(code, DiskFull | SystemIoFailure | DatabaseBusy | DatabaseLocked | ReadOnly)
            }),
            _ => false,
        }
    }
}

/// What one round leaves behind; committed as a whole.
#[derive(Debug, Clone, Copy)]
pub struct Round<'a> {
    /// Its time.
    pub at: Time,
    /// What was observed in it, in order.
    pub events: &'a [Event],
    /// What was answered; `None` when the brain was not asked.
    pub plan: Option<&'a Plan>,
    /// Pages of the idle ledger that were closed in it.
    pub idle: &'a [Page],
    /// Tasks that ended, with their final totals.
    pub ended: &'a [(NodeId, EndedTask)],
}

/// The open store; there is one, and one task owns it.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    path: PathBuf,
    epoch: ControllerEpoch,
    next_seq: i64,
    last_at: Option<Time>,
    // Held for the life of the store: the kernel releases it when the process ends, however it ends.
    _lock: File,
}

impl Store {
    /// Opens or creates the store of a state directory and takes the next controller epoch, durably.
    ///
    /// # Errors
    /// [`StoreError`] when the directory cannot be made, another controller has it, or SQLite refuses.
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        let lock = lock(state)?;
        let path = state.join(FILE);
        let sqlite = |error| StoreError::Sqlite { path: path.clone(), error };
        let db = Connection::open(&path).map_err(sqlite)?;
        schema::prepare(&db, &path)?;
        let epoch: i64 = db
            .query_row("UPDATE meta SET value = value + 1 WHERE name = 'epoch' RETURNING value", [], |row| {
                row.get(0)
            })
            .map_err(sqlite)?;
        let (next_seq, last_at) = journal::end(&db).map_err(sqlite)?;
        Ok(Self { db, epoch: ControllerEpoch(epoch.unsigned_abs()), next_seq, last_at, path, _lock: lock })
    }

    /// This controller's epoch; larger than that of any earlier start.
    #[must_use]
    pub fn epoch(&self) -> ControllerEpoch {
        self.epoch
    }

    /// The time of the last journalled round.
    #[must_use]
    pub fn last_at(&self) -> Option<Time> {
        self.last_at
    }

    /// A handle for reading, which opens its own connections.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(self.path.clone())
    }

    /// Makes a round durable.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of the round is stored then, and it may be tried again.
    pub fn commit(&mut self, round: &Round<'_>) -> Result<(), StoreError> {
        let seq = self.next_seq;
        let error = |error| StoreError::Sqlite { path: self.path.clone(), error };
        let transaction = self.db.transaction().map_err(error)?;
        journal::append(&transaction, seq, round).map_err(error)?;
        project::apply(&transaction, round).map_err(error)?;
        transaction.commit().map_err(error)?;
        self.next_seq = seq + 1;
        self.last_at = Some(round.at);
        Ok(())
    }

    /// Begins a new segment of the journal: whoever replays from here starts with a brain that knows only the base.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is stored then.
    pub fn begin_segment(&mut self, at: Time, base: &Base) -> Result<(), StoreError> {
        let error = |error| StoreError::Sqlite { path: self.path.clone(), error };
        journal::append_base(&self.db, self.next_seq, at, base).map_err(error)?;
        self.next_seq += 1;
        self.last_at = Some(at);
        Ok(())
    }

    /// Keeps what the brain must not forget, as of the last round: a start whose journal is too long begins with it.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses.
    pub fn remember(&mut self, memory: &[Event]) -> Result<(), StoreError> {
        let result = project::json(&memory).and_then(|body| {
            let row = rusqlite::params![self.next_seq - 1, body];
            self.db.execute("INSERT OR REPLACE INTO memory (id, seq, body) VALUES (1, ?1, ?2)", row)
        });
        result.map(|_| ()).map_err(|error| StoreError::Sqlite { path: self.path.clone(), error })
    }

    /// Keeps how workloads went in minutes that are over.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses; nothing of it is stored then.
    pub fn note_course(&mut self, minutes: &[(Time, WorkloadName, Minute)]) -> Result<(), StoreError> {
        let result = course::note(&self.db, minutes);
        result.map_err(|error| StoreError::Sqlite { path: self.path.clone(), error })
    }

    /// Drops what the settings say is too old or too much. Cheap when there is nothing to drop.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses.
    pub fn retain(&mut self, settings: &JournalSettings, now: Time) -> Result<(), StoreError> {
        let result = retention::retain(&self.db, settings, now);
        result.map_err(|error| StoreError::Sqlite { path: self.path.clone(), error })
    }

    /// Remembers the answer to a request, so that a repetition gets the same one.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses.
    pub fn remember_reply(&mut self, key: &str, reply: &StoredReply, at: Time) -> Result<(), StoreError> {
        let result = self.db.execute(
            "INSERT OR REPLACE INTO replies (key, fingerprint, status, body, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
            rusqlite::params![key, reply.fingerprint, reply.status, reply.body, schema::integer(at.0)],
        );
        result.map(|_| ()).map_err(|error| StoreError::Sqlite { path: self.path.clone(), error })
    }

    /// Bytes in use; free pages of the file are used again and do not count.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses.
    pub fn bytes(&self) -> Result<u64, StoreError> {
        let of =
            |name| self.db.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
        let used = || Ok((of("page_count")? - of("freelist_count")?) * of("page_size")?);
        used().map_err(|error| StoreError::Sqlite { path: self.path.clone(), error })
    }
}

fn lock(state: &Path) -> Result<File, StoreError> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let directory = |error| StoreError::Directory { path: state.to_owned(), error };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(directory)?;
    let path = state.join("lock");
    let open = std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = open.map_err(|error| StoreError::Directory { path: path.clone(), error })?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse { path }),
        Err(error) => Err(StoreError::Directory { path, error: error.into() }),
    }
}
