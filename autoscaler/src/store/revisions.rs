//! What was asked of each workload before: so that it can be compared, and asked again.

use autoscaler_core::event::Time;
use model::id::WorkloadName;
use model::workload::Workload;
use rusqlite::{Connection, params};

use super::queries::parsed;
use super::{Reader, StoreError};

/// Revisions of one workload that are kept.
const KEPT: i64 = 50;

/// An application or a withdrawal of a specification.
#[derive(Debug, Clone, PartialEq)]
pub struct RevisionRow {
    /// Its number.
    pub revision: i64,
    /// When.
    pub at: Time,
    /// What was asked; `None` = it was withdrawn.
    pub workload: Option<Workload>,
    /// It is the one in force.
    pub in_force: bool,
}

impl Reader {
    /// What was asked of a workload, newest first; nothing when none of this name is remembered.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses.
    pub fn revisions(&self, name: &WorkloadName) -> Result<Vec<RevisionRow>, StoreError> {
        self.ask(|db| {
            db.prepare(
                "SELECT old.revision, old.at_ms, old.spec, now.revision IS NOT NULL
                 FROM spec_revisions old LEFT JOIN specs now ON now.name = old.name AND now.revision = old.revision
                 WHERE old.name = ?1 ORDER BY old.revision DESC",
            )?
            .query_map([name.as_str()], |row| {
                let withdrawn = row.get_ref(2)? == rusqlite::types::ValueRef::Null;
                let spec = if withdrawn { None } else { Some(parsed(row, 2)?) };
                Ok(RevisionRow {
                    revision: row.get(0)?,
                    at: Time(row.get::<_, i64>(1)?.unsigned_abs()),
                    workload: spec.map(|spec| Workload { name: name.clone(), spec }),
                    in_force: row.get(3)?,
                })
            })?
            .collect()
        })
    }
}

/// Gives what is asked of a workload from now on its number, and forgets what was asked too many times ago. Numbers are
/// taken from one counter, so a name that comes back never repeats one.
pub(super) fn add(db: &Connection, name: &str, at: i64, spec: Option<&str>) -> Result<i64, rusqlite::Error> {
    let revision = next(db)?;
    db.execute(
        "INSERT INTO spec_revisions (name, revision, at_ms, spec) VALUES (?1, ?2, ?3, ?4)",
        params![name, revision, at, spec],
    )?;
    db.execute(
        "DELETE FROM spec_revisions WHERE name = ?1 AND revision NOT IN
            (SELECT revision FROM spec_revisions WHERE name = ?1 ORDER BY revision DESC LIMIT ?2)",
        params![name, KEPT],
    )?;
    Ok(revision)
}

/// The next number.
pub(super) fn next(db: &Connection) -> Result<i64, rusqlite::Error> {
    db.query_row(
        "INSERT INTO meta VALUES ('revision', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
        [],
        |row| row.get(0),
    )
}

/// Forgets workloads that were withdrawn before `limit`.
pub(super) fn retain(db: &Connection, limit: i64) -> Result<(), rusqlite::Error> {
    db.prepare_cached(
        "DELETE FROM spec_revisions WHERE name NOT IN (SELECT name FROM specs) AND name IN
            (SELECT name FROM spec_revisions GROUP BY name HAVING max(at_ms) < ?1)",
    )?
    .execute([limit])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{FILE, JournalSettings, Round, Store};
    use super::*;
    use autoscaler_core::event::Event;

    fn workload(min: u32) -> Workload {
        let text = format!(
            "apiVersion: trimtab/v1\nkind: Workload\nmetadata: {{ name: web }}\nspec:\n  type: service\n  \
             replicas: {{ min: {min}, max: 99 }}\n  target: {{ cpu: 50% }}\n  service: {{ launcher: a }}\n"
        );
        model::spec::parse("a.yaml", &text).unwrap().remove(0)
    }

    fn commit(store: &mut Store, at: u64, event: Event) {
        let events = [event];
        store.commit(&Round { at: Time(at), events: &events, plan: None, idle: &[], ended: &[] }).unwrap();
    }

    fn name() -> WorkloadName {
        WorkloadName::new("web").unwrap()
    }

    #[test]
    fn each_application_and_withdrawal_is_a_revision_and_the_newest_are_kept() {
        let state = tempfile::tempdir().unwrap();
        let mut store = Store::open(state.path()).unwrap();
        let reader = store.reader();
        assert!(reader.revisions(&name()).unwrap().is_empty());
        for min in 1..=2 {
            commit(&mut store, u64::from(min), Event::SpecApplied { workload: workload(min) });
        }
        let row = |revision, workload, in_force| RevisionRow {
            revision,
            at: Time(revision.unsigned_abs()),
            workload,
            in_force,
        };
        let (one, two) = (row(1, Some(workload(1)), false), row(2, Some(workload(2)), true));
        assert_eq!(reader.revisions(&name()).unwrap(), [two.clone(), one.clone()]);
        let gone = Event::SpecRemoved { workload: name() };
        commit(&mut store, 3, gone.clone());
        let two = RevisionRow { in_force: false, ..two };
        assert_eq!(reader.revisions(&name()).unwrap(), [row(3, None, false), two, one]);
        commit(&mut store, 4, gone);
        assert_eq!(reader.revisions(&name()).unwrap().len(), 3, "what is not there is not withdrawn again");
        for min in 1..=60 {
            commit(&mut store, 10, Event::SpecApplied { workload: workload(min) });
        }
        let rows = reader.revisions(&name()).unwrap();
        assert_eq!((rows.len(), rows[0].revision, rows[49].revision), (50, 63, 14));
        assert_eq!(reader.spec(&name()).unwrap().unwrap().revision, 63);
    }

    #[test]
    fn what_was_withdrawn_long_ago_is_forgotten_and_what_is_in_force_is_not() {
        let state = tempfile::tempdir().unwrap();
        let mut store = Store::open(state.path()).unwrap();
        let reader = store.reader();
        let settings = JournalSettings {
            retain_ms: u64::MAX,
            replay_ms: 1,
            max_bytes: u64::MAX,
            tasks_retain_ms: 1,
            decisions_retain_ms: 1000,
        };
        commit(&mut store, 1, Event::SpecApplied { workload: workload(1) });
        store.retain(&settings, Time(9_000)).unwrap();
        assert_eq!(reader.revisions(&name()).unwrap().len(), 1);
        commit(&mut store, 9_000, Event::SpecRemoved { workload: name() });
        store.retain(&settings, Time(9_900)).unwrap();
        assert_eq!(reader.revisions(&name()).unwrap().len(), 2);
        store.retain(&settings, Time(10_001)).unwrap();
        assert!(reader.revisions(&name()).unwrap().is_empty());
    }

    #[test]
    fn a_store_of_before_begins_with_what_is_in_force() {
        let state = tempfile::tempdir().unwrap();
        let db = Connection::open(state.path().join(FILE)).unwrap();
        let before = super::super::schema::STEPS[..3].concat();
        db.execute_batch(&format!(
            "{before} PRAGMA user_version = 3; INSERT INTO meta VALUES ('revision', 7);"
        ))
        .unwrap();
        let spec = serde_json::to_string(&workload(3).spec).unwrap();
        db.execute("INSERT INTO specs VALUES ('web', 7, 5, ?1)", [spec]).unwrap();
        drop(db);
        let mut store = Store::open(state.path()).unwrap();
        commit(&mut store, 6, Event::SpecApplied { workload: workload(4) });
        let rows = store.reader().revisions(&name()).unwrap();
        let seen: Vec<_> = rows.iter().map(|row| (row.revision, row.at.0, row.in_force)).collect();
        assert_eq!(seen, [(8, 6, true), (7, 5, false)]);
        assert_eq!(rows[1].workload, Some(workload(3)));
    }
}
