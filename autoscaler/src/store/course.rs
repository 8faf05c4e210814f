//! How workloads went, minute by minute: a row each, for [`KEPT_MS`].

use autoscaler_core::course::{MINUTE_MS, Minute};
use autoscaler_core::event::Time;
use model::id::WorkloadName;
use rusqlite::{Connection, params};

use super::schema::integer;

/// Kept for so long, ms: the longest range that is shown, a week, and a day.
pub(super) const KEPT_MS: u64 = 8 * 86_400_000;

/// A stretch of a workload's time.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// Start of the first step: a whole minute.
    pub from: Time,
    /// Distance of steps, ms: whole minutes.
    pub step_ms: u64,
    /// The worst of each step; `None` where there is nothing.
    pub steps: Vec<Option<Minute>>,
}

/// Stores minutes.
pub(super) fn note(db: &Connection, minutes: &[(Time, WorkloadName, Minute)]) -> Result<(), rusqlite::Error> {
    let transaction = db.unchecked_transaction()?;
    for (at, workload, minute) in minutes {
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO course (workload, at_ms, load, expected, upper, carried, queue_ms, used, up, wanted)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                workload.as_str(),
                integer(at.0),
                minute.load,
                minute.expected,
                minute.upper,
                minute.carried,
                minute.queue_delay_p95_ms,
                minute.utilisation,
                minute.up,
                minute.wanted
            ])?;
    }
    transaction.commit()
}

/// What is stored of a workload from `from` up to `to`, in at most `points` steps, or a few more.
pub(super) fn read(
    db: &Connection,
    workload: &WorkloadName,
    (from, to): (Time, Time),
    points: u64,
) -> Result<Course, rusqlite::Error> {
    let from = from.0 / MINUTE_MS * MINUTE_MS;
    let minutes = to.0.saturating_sub(from) / MINUTE_MS;
    let step_ms = minutes.div_ceil(points.max(1)).max(1) * MINUTE_MS;
    let count = usize::try_from(to.0.saturating_sub(from).div_ceil(step_ms)).unwrap_or(0);
    let mut steps: Vec<Option<Minute>> = vec![None; count];
    let mut statement = db.prepare_cached(
        "SELECT at_ms, load, expected, upper, carried, queue_ms, used, up, wanted FROM course
         WHERE workload = ?1 AND at_ms >= ?2 AND at_ms < ?3 ORDER BY at_ms",
    )?;
    let mut rows = statement.query(params![workload.as_str(), integer(from), integer(to.0)])?;
    while let Some(row) = rows.next()? {
        let at = row.get::<_, i64>(0)?.unsigned_abs().saturating_sub(from) / step_ms;
        let minute = Minute {
            load: row.get(1)?,
            expected: row.get(2)?,
            upper: row.get(3)?,
            carried: row.get(4)?,
            queue_delay_p95_ms: row.get(5)?,
            utilisation: row.get(6)?,
            up: row.get(7)?,
            wanted: row.get(8)?,
        };
        let step = usize::try_from(at).ok().and_then(|at| steps.get_mut(at));
        if let Some(step) = step {
            *step = Some(step.as_ref().map_or(minute, |before| before.and(&minute)));
        }
    }
    Ok(Course { from: Time(from), step_ms, steps })
}

#[cfg(test)]
mod tests {
    use super::super::retention::{JournalSettings, retain};
    use super::super::schema;
    use super::*;

    fn web() -> WorkloadName {
        WorkloadName::new("web").unwrap()
    }

    fn store() -> (tempfile::TempDir, Connection) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        let db = Connection::open(&path).unwrap();
        schema::prepare(&db, &path).unwrap();
        (directory, db)
    }

    fn minute(load: f64) -> Minute {
        Minute {
            load: Some(load),
            carried: Some(100.0 - load),
            up: Some(2),
            wanted: Some(3),
            ..Minute::default()
        }
    }

    #[test]
    fn minutes_come_back_as_they_were_and_steps_keep_the_worst() {
        let (_directory, db) = store();
        let other = WorkloadName::new("other").unwrap();
        let mut all: Vec<_> = [0, 1, 2, 5].map(|n| (Time(n * MINUTE_MS), web(), minute(n as f64))).into();
        all.push((Time(MINUTE_MS), other, minute(77.0)));
        note(&db, &all).unwrap();
        note(&db, &all).unwrap();
        let of = |from, to, points| read(&db, &web(), (Time(from), Time(to)), points).unwrap();
        let each = of(0, 6 * MINUTE_MS, 60);
        assert_eq!((each.step_ms, each.steps.len()), (MINUTE_MS, 6));
        assert_eq!((each.steps[2], each.steps[3]), (Some(minute(2.0)), None), "a hole is none");
        let wide = of(0, 6 * MINUTE_MS, 2);
        assert_eq!((wide.step_ms, wide.steps.len()), (3 * MINUTE_MS, 2));
        assert_eq!(wide.steps[0].map(|step| (step.load, step.carried)), Some((Some(2.0), Some(98.0))));
        assert_eq!(of(MINUTE_MS + 5, 2 * MINUTE_MS, 60).steps, [Some(minute(1.0))]);
        assert_eq!(of(9, 9, 1).steps.len(), 1);
        assert_eq!(of(9 * MINUTE_MS, 0, 1).steps, []);
    }

    #[test]
    fn what_is_old_goes() {
        let (_directory, db) = store();
        let now = Time(20 * 86_400_000);
        note(
            &db,
            &[(Time(now.0 - KEPT_MS - 1), web(), minute(1.0)), (Time(now.0 - MINUTE_MS), web(), minute(2.0))],
        )
        .unwrap();
        let forever = u64::MAX;
        let settings = JournalSettings {
            retain_ms: forever,
            replay_ms: forever,
            max_bytes: forever,
            tasks_retain_ms: forever,
            decisions_retain_ms: forever,
        };
        retain(&db, &settings, now).unwrap();
        let rows: i64 = db.query_row("SELECT count(*) FROM course", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 1);
    }
}
