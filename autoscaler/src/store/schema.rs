//! The tables, and how an older file is brought to the present form.

use std::path::Path;

use rusqlite::Connection;

use super::StoreError;

/// Steps from one version of the schema to the next; the file's `user_version` says how many were taken. Append only.
pub(super) const STEPS: &[&str] = &["
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO meta VALUES ('epoch', 0);

    -- One row per round (kind 0) or base of a segment (kind 1); body is zstd of JSON, crc is CRC-32 of body.
    CREATE TABLE journal (
        seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, kind INTEGER NOT NULL,
        crc INTEGER NOT NULL, body BLOB NOT NULL
    ) STRICT;
    CREATE TABLE segments (first_seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL) STRICT;

    CREATE TABLE specs (
        name TEXT PRIMARY KEY, revision INTEGER NOT NULL, at_ms INTEGER NOT NULL, spec TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE pauses (
        workload TEXT PRIMARY KEY, reason TEXT NOT NULL, at_ms INTEGER NOT NULL, until_ms INTEGER
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE decisions (
        row INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, workload TEXT NOT NULL, act INTEGER NOT NULL,
        kind TEXT NOT NULL, body TEXT NOT NULL
    ) STRICT;
    CREATE INDEX decisions_of_workload ON decisions (workload, row);
    CREATE INDEX decisions_by_time ON decisions (at_ms);

    -- Tasks that ended, with their final totals. A boot id is 32 hex digits.
    CREATE TABLE tasks (
        row INTEGER PRIMARY KEY, node TEXT NOT NULL, boot TEXT NOT NULL, cgroup INTEGER NOT NULL,
        kind TEXT, name TEXT, workload TEXT, task TEXT, since_ns INTEGER, ended_ms INTEGER NOT NULL,
        cpu_total_us INTEGER, totals TEXT NOT NULL, status INTEGER, signal INTEGER, asked INTEGER,
        UNIQUE (node, boot, cgroup)
    ) STRICT;
    CREATE INDEX tasks_by_time ON tasks (ended_ms);
    CREATE INDEX tasks_by_task ON tasks (task) WHERE task IS NOT NULL;

    -- The boot that each node is in.
    CREATE TABLE boots (node TEXT PRIMARY KEY, boot TEXT NOT NULL) STRICT, WITHOUT ROWID;

    -- What a brain knew after a round; replaced once a minute.
    CREATE TABLE memory (id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL, body TEXT NOT NULL) STRICT;

    CREATE TABLE idle (row INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
    CREATE INDEX idle_by_time ON idle (at_ms);

    CREATE TABLE replies (
        key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, status INTEGER NOT NULL, body TEXT NOT NULL, at_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
", "
    -- Join tokens by the SHA-256 of their secret. A used one stays for a while, so that a replay is told as such.
    CREATE TABLE join_tokens (
        hash BLOB PRIMARY KEY, node TEXT NOT NULL, expires_ms INTEGER NOT NULL, used_ms INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX join_tokens_of_node ON join_tokens (node);
", "
    -- Nodes that an operator wants empty.
    CREATE TABLE drains (node TEXT PRIMARY KEY, reason TEXT NOT NULL, at_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
", "
    -- What was asked of each workload before; without a specification it was withdrawn.
    CREATE TABLE spec_revisions (
        name TEXT NOT NULL, revision INTEGER NOT NULL, at_ms INTEGER NOT NULL, spec TEXT, PRIMARY KEY (name, revision)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO spec_revisions SELECT name, revision, at_ms, spec FROM specs;
", "
    -- The sums of each page, so that months are read without their text: thousandths of a core x ms, KiB x ms.
    ALTER TABLE idle ADD COLUMN from_ms INTEGER;
    ALTER TABLE idle ADD COLUMN cpu_all INTEGER;
    ALTER TABLE idle ADD COLUMN cpu_used INTEGER;
    ALTER TABLE idle ADD COLUMN cpu_dark INTEGER;
    ALTER TABLE idle ADD COLUMN memory_all INTEGER;
    ALTER TABLE idle ADD COLUMN memory_used INTEGER;
    ALTER TABLE idle ADD COLUMN memory_dark INTEGER;
    -- What an agent said may be more than fits.
    UPDATE idle SET
        from_ms = body ->> '$.from',
        cpu_all = CAST(body ->> '$.capacity.cpu_millicore_ms' AS INTEGER),
        cpu_used = CAST(body ->> '$.used.cpu_millicore_ms' AS INTEGER),
        memory_all = CAST(body ->> '$.capacity.memory_kib_ms' AS INTEGER),
        memory_used = CAST(body ->> '$.used.memory_kib_ms' AS INTEGER),
        cpu_dark = (SELECT CAST(total(value ->> '$.cpu_millicore_ms') AS INTEGER) FROM json_each(body, '$.idle')
            WHERE value ->> '$.cause' = 'no_data'),
        memory_dark = (SELECT CAST(total(value ->> '$.memory_kib_ms') AS INTEGER) FROM json_each(body, '$.idle')
            WHERE value ->> '$.cause' = 'no_data');

    -- Idle capacity by cause in slots of ten minutes; a cause is JSON without amounts.
    CREATE TABLE idle_causes (
        at_ms INTEGER NOT NULL, cause TEXT NOT NULL, cpu INTEGER NOT NULL, memory INTEGER NOT NULL, UNIQUE (at_ms, cause)
    ) STRICT;
    INSERT INTO idle_causes (at_ms, cause, cpu, memory)
        SELECT (at_ms - 1) / 600000 * 600000, json_remove(value, '$.cpu_millicore_ms', '$.memory_kib_ms'),
            CAST(total(value ->> '$.cpu_millicore_ms') AS INTEGER), CAST(total(value ->> '$.memory_kib_ms') AS INTEGER)
        FROM idle, json_each(idle.body, '$.idle') GROUP BY 1, 2;
", "
    -- What capacity costs: one table is in force, or none. Name and spec are JSON.
    CREATE TABLE prices (
        id INTEGER PRIMARY KEY CHECK (id = 1), name TEXT NOT NULL, spec TEXT NOT NULL, revision INTEGER NOT NULL, at_ms INTEGER NOT NULL
    ) STRICT;
", "
    -- How workloads went, minute by minute: the worst of each number; null is not known.
    CREATE TABLE course (
        workload TEXT NOT NULL, at_ms INTEGER NOT NULL, load REAL, expected REAL, upper REAL, carried REAL,
        queue_ms REAL, used REAL, up INTEGER, wanted INTEGER, UNIQUE (workload, at_ms)
    ) STRICT;
    CREATE INDEX course_by_time ON course (at_ms);
"];

/// Marks the file as ours: 'trim'.
const APPLICATION: i64 = 0x7472_696d;

/// Sets how the file is written, and brings it to the present form.
pub(super) fn prepare(db: &Connection, path: &Path) -> Result<(), StoreError> {
    let sqlite = |error| StoreError::Sqlite { path: path.to_owned(), error };
    db.busy_timeout(std::time::Duration::from_secs(5)).map_err(sqlite)?;
    db.pragma_update(None, "journal_mode", "WAL").map_err(sqlite)?;
    db.pragma_update(None, "synchronous", "FULL").map_err(sqlite)?;
    let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sqlite)?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::TooNew { path: path.to_owned(), found, known });
    }
    for (version, step) in (1i64..).zip(STEPS).filter(|(version, _)| *version > found) {
        let script = format!(
            "BEGIN IMMEDIATE; {step} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {version}; COMMIT;"
        );
        db.execute_batch(&script).map_err(sqlite)?;
    }
    Ok(())
}

/// SQLite's integers are signed; everything stored is far below 2^63, and what is not is kept at the largest.
pub(super) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Brings an empty file to the form before the step with this word.
#[cfg(test)]
pub(super) fn prepare_before(db: &Connection, word: &str) {
    for (version, step) in (1i64..).zip(STEPS).take_while(|(_, step)| !step.contains(word)) {
        db.execute_batch(&format!("{step} PRAGMA user_version = {version};")).unwrap();
    }
}
