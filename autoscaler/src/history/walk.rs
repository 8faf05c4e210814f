//! One walk over the chunks of a series: what all questions to history have in common.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::chunk::{self, Run};
use super::file::{HistoryError, integer};
use super::{Series, Tier, WINDOW};

/// Longest wait for whoever writes.
const PATIENCE: Duration = Duration::from_secs(5);

const WHICH: &str = "FROM chunks c JOIN sources s ON s.id = c.source
    WHERE s.node = ?1 AND (?2 IS NULL OR s.boot = ?2) AND c.tier = ?3 AND c.series = ?4 AND c.window > ?5 AND c.window < ?6";

/// Which chunks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Which<'a> {
    pub(super) node: &'a str,
    /// Absent = any.
    pub(super) boot: Option<&'a str>,
    pub(super) series: Series,
    pub(super) tier: Tier,
    /// From, seconds of controller time; a multiple of the resolution.
    pub(super) from: u64,
    /// Up to, seconds of controller time, not included.
    pub(super) to: u64,
}

/// A file that is read.
#[derive(Debug)]
pub(super) struct Walk {
    db: Connection,
    path: PathBuf,
}

/// The values of one run, for a question that begins at `from`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values<'a> {
    run: &'a Run,
    window: u64,
    which: Which<'a>,
}

impl Values<'_> {
    /// Each with its place in the answer, in cores, bytes or seconds per second; what was before is left out, what comes after is not.
    pub(super) fn placed(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        let (step, unit) = (self.which.tier.seconds(), self.which.series.unit());
        (u64::from(self.run.first)..).zip(&self.run.values).filter_map(move |(slot, value)| {
            let offset = (self.window + slot * step).checked_sub(self.which.from)?;
            Some((usize::try_from(offset / step).ok()?, f64::from(*value) * unit))
        })
    }
}

impl Walk {
    pub(super) fn open(path: &Path) -> Result<Self, HistoryError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || {
            let db = Connection::open_with_flags(path, flags)?;
            db.busy_timeout(PATIENCE)?;
            Ok(db)
        };
        let db = open().map_err(|error| HistoryError::Sqlite { path: path.to_owned(), error })?;
        Ok(Self { db, path: path.to_owned() })
    }

    /// How many chunks there are.
    pub(super) fn count(&self, which: Which<'_>) -> Result<u64, HistoryError> {
        let mut statement =
            self.db.prepare_cached(&format!("SELECT count(*) {WHICH}")).map_err(|e| self.failed(e))?;
        let found: i64 =
            statement.query_row(which.parameters(), |row| row.get(0)).map_err(|e| self.failed(e))?;
        Ok(found.unsigned_abs())
    }

    /// Tells each run with the cgroup whose it is, in the order in which they were written.
    pub(super) fn each(
        &self,
        which: Which<'_>,
        mut tell: impl FnMut(u64, Values<'_>),
    ) -> Result<(), HistoryError> {
        let failed = |error| self.failed(error);
        let mut statement = self
            .db
            .prepare_cached(&format!("SELECT c.row, c.window, c.chunk {WHICH} ORDER BY c.row"))
            .map_err(failed)?;
        let mut rows = statement.query(which.parameters()).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let (number, window): (i64, i64) = (row.get(0).map_err(failed)?, row.get(1).map_err(failed)?);
            let blob: Vec<u8> = row.get(2).map_err(failed)?;
            let runs = chunk::decode(&blob).map_err(|why| HistoryError::Chunk {
                path: self.path.clone(),
                row: number,
                why,
            })?;
            for run in &runs {
                tell(run.cgroup, Values { run, window: window.unsigned_abs(), which });
            }
        }
        Ok(())
    }

    fn failed(&self, error: rusqlite::Error) -> HistoryError {
        HistoryError::Sqlite { path: self.path.clone(), error }
    }
}

impl Which<'_> {
    fn parameters(&self) -> impl rusqlite::Params + '_ {
        // A window that begins before may reach into what is asked for.
        let after = integer(self.from) - integer(WINDOW);
        (self.node, self.boot, self.tier as i64, self.series as i64, after, integer(self.to))
    }
}
