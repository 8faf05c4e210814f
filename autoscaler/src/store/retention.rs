//! What is kept how long.

use autoscaler_core::event::Time;
use rusqlite::{Connection, params};

use super::schema::integer;

/// How much of the past the store keeps.
#[derive(Debug, Clone, Copy)]
pub struct JournalSettings {
    /// Closed parts are kept this long, ms.
    pub retain_ms: u64,
    /// A start replays at most this much, ms.
    pub replay_ms: u64,
    /// Closed parts are dropped above this size, bytes.
    pub max_bytes: u64,
    /// Ended tasks are kept this long, ms.
    pub tasks_retain_ms: u64,
    /// Decisions and the idle ledger are kept this long, ms.
    pub decisions_retain_ms: u64,
}

/// Answers to requests are remembered for a day, as HTTP interfaces with idempotency keys usually do.
const REPLIES_MS: u64 = 86_400_000;
/// Expired and used join tokens are told apart from unknown ones for a day.
const TOKENS_MS: u64 = 86_400_000;
/// Rows deleted in one transaction: a bound on how long a round waits.
const AT_ONCE: i64 = 20_000;

pub(super) fn retain(db: &Connection, settings: &JournalSettings, now: Time) -> Result<(), rusqlite::Error> {
    let before = |ms: u64| integer(now.0.saturating_sub(ms));
    let old = [
        ("decisions", "row", "at_ms", before(settings.decisions_retain_ms)),
        ("idle", "row", "at_ms", before(settings.decisions_retain_ms)),
        ("idle_causes", "rowid", "at_ms", before(settings.decisions_retain_ms)),
        ("tasks", "row", "ended_ms", before(settings.tasks_retain_ms)),
        ("course", "rowid", "at_ms", before(super::course::KEPT_MS)),
        ("replies", "key", "at_ms", before(REPLIES_MS)),
        ("join_tokens", "hash", "expires_ms", before(TOKENS_MS)),
    ];
    for (table, key, column, limit) in old {
        let sql = format!(
            "DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE {column} < ?1 LIMIT {AT_ONCE})"
        );
        db.prepare_cached(&sql)?.execute([limit])?;
    }
    super::revisions::retain(db, before(settings.decisions_retain_ms))?;
    journal(db, settings, now)
}

/// Drops closed segments that are too old, then more of them while the journal is too large. The segment that is being
/// written stays, and so do the rounds that it was warmed with.
fn journal(db: &Connection, settings: &JournalSettings, now: Time) -> Result<(), rusqlite::Error> {
    let firsts: Vec<(i64, i64)> = db
        .prepare_cached("SELECT first_seq, at_ms FROM segments ORDER BY first_seq")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let limit = integer(now.0.saturating_sub(settings.retain_ms));
    for pair in firsts.windows(2) {
        let [(first, _), (next, ended)] = pair else { continue };
        let bytes: i64 =
            db.query_row("SELECT coalesce(sum(length(body)), 0) FROM journal", [], |row| row.get(0))?;
        if *ended >= limit && bytes <= integer(settings.max_bytes) {
            break;
        }
        let transaction = db.unchecked_transaction()?;
        transaction.execute("DELETE FROM journal WHERE seq >= ?1 AND seq < ?2", params![first, next])?;
        transaction.execute("DELETE FROM segments WHERE first_seq = ?1", [first])?;
        transaction.commit()?;
    }
    Ok(())
}
