//! What a round changes in the tables that people ask.

use std::collections::BTreeMap;

use autoscaler_core::event::{Event, Followed, Time};
use autoscaler_core::fleet::EndedTask;
use model::action::{TaskEvent, TaskEventKind};
use model::decision::Decision;
use model::id::NodeId;
use model::metric::Metric;
use rusqlite::{Connection, params};

use super::schema::integer;
use super::{Round, revisions};

type Result<T> = std::result::Result<T, rusqlite::Error>;

pub(super) fn apply(db: &Connection, round: &Round<'_>) -> Result<()> {
    for (node, task) in round.ended {
        ended(db, node, task, round.at)?;
    }
    for page in round.idle {
        db.prepare_cached("INSERT INTO idle (at_ms, body) VALUES (?1, ?2)")?
            .execute(params![integer(page.to.0), json(page)?])?;
    }
    for event in round.events {
        observe(db, event, round)?;
    }
    for decision in round.plan.iter().flat_map(|plan| &plan.decisions) {
        decided(db, decision)?;
    }
    for one in round.plan.iter().flat_map(|plan| &plan.realised) {
        followed(db, one)?;
    }
    Ok(())
}

fn observe(db: &Connection, event: &Event, round: &Round<'_>) -> Result<()> {
    let at = integer(round.at.0);
    match event {
        Event::SpecApplied { workload } => {
            let (name, spec) = (workload.name.as_str(), json(&workload.spec)?);
            let revision = revisions::add(db, name, at, Some(&spec))?;
            db.execute(
                "INSERT OR REPLACE INTO specs (name, revision, at_ms, spec) VALUES (?1, ?2, ?3, ?4)",
                params![name, revision, at, spec],
            )?;
        }
        Event::SpecRemoved { workload } => {
            let gone = db.execute("DELETE FROM specs WHERE name = ?1", [workload.as_str()])?;
            if gone > 0 {
                revisions::add(db, workload.as_str(), at, None)?;
            }
        }
        Event::Paused { workload, reason, until } => {
            let name = workload.as_ref().map_or("", |name| name.as_str());
            db.execute(
                "INSERT OR REPLACE INTO pauses (workload, reason, at_ms, until_ms) VALUES (?1, ?2, ?3, ?4)",
                params![name, reason, at, until.map(|until| integer(until.0))],
            )?;
        }
        Event::Resumed { workload } => {
            let name = workload.as_ref().map_or("", |name| name.as_str());
            db.execute("DELETE FROM pauses WHERE workload = ?1", [name])?;
        }
        Event::NodeDrained { node, reason } => {
            db.execute(
                "INSERT OR REPLACE INTO drains (node, reason, at_ms) VALUES (?1, ?2, ?3)",
                params![node.as_str(), reason, at],
            )?;
        }
        Event::NodeReturned { node } => {
            db.execute("DELETE FROM drains WHERE node = ?1", [node.as_str()])?;
        }
        Event::NodeUp { node, incarnation, .. } => {
            db.prepare_cached("INSERT OR REPLACE INTO boots VALUES (?1, ?2)")?
                .execute(params![node.as_str(), incarnation.boot.to_string()])?;
        }
        Event::Task { node, event } => exited(db, node, event, round)?,
        _ => {}
    }
    Ok(())
}

/// A task whose cgroup is gone: its last totals. A total that is known already never falls.
fn ended(db: &Connection, node: &NodeId, task: &EndedTask, at: Time) -> Result<()> {
    let totals: BTreeMap<&str, u64> =
        task.totals.iter().flat_map(|t| t.iter().map(|(m, v)| (m.entry().name, v))).collect();
    let cpu = task.totals.and_then(|t| t.get(Metric::CpuTime)).map(integer);
    let class = &task.info.class;
    db.prepare_cached(
        "INSERT INTO tasks (node, boot, cgroup, kind, name, workload, task, since_ns, ended_ms, cpu_total_us, totals)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (node, boot, cgroup) DO UPDATE SET
            kind = excluded.kind, name = excluded.name, workload = coalesce(excluded.workload, workload),
            task = coalesce(excluded.task, task), since_ns = excluded.since_ns,
            totals = CASE WHEN coalesce(excluded.cpu_total_us, 0) >= coalesce(cpu_total_us, 0)
                          THEN excluded.totals ELSE totals END,
            cpu_total_us = max(coalesce(cpu_total_us, 0), coalesce(excluded.cpu_total_us, 0))",
    )?
    .execute(params![
        node.as_str(),
        task.key.boot.to_string(),
        integer(task.key.cgroup.0),
        class.kind,
        class.name,
        class.workload.as_ref().map(|w| w.as_str()),
        class.task.as_ref().map(|t| t.as_str()),
        integer(task.info.since_ns),
        integer(at.0),
        cpu,
        json(&totals)?,
    ])?;
    Ok(())
}

/// The end of a task of ours, as its agent saw it: how it ended, and the ledger after its last process.
fn exited(db: &Connection, node: &NodeId, event: &TaskEvent, round: &Round<'_>) -> Result<()> {
    let TaskEventKind::Ended { status, signal, cpu_total_us, asked } = &event.kind else { return Ok(()) };
    let boot = boot_of(db, node)?;
    db.prepare_cached(
        "INSERT INTO tasks (node, boot, cgroup, kind, name, workload, task, ended_ms, cpu_total_us, totals, status, signal, asked)
         VALUES (?1, ?2, ?3, 'task', ?5, ?4, ?5, ?6, ?7, '{}', ?8, ?9, ?10)
         ON CONFLICT (node, boot, cgroup) DO UPDATE SET
            workload = excluded.workload, task = excluded.task, status = excluded.status, signal = excluded.signal,
            asked = excluded.asked,
            cpu_total_us = max(coalesce(cpu_total_us, 0), coalesce(excluded.cpu_total_us, 0))",
    )?
    .execute(params![
        node.as_str(),
        boot,
        integer(event.cgroup.0),
        event.workload.as_str(),
        event.task.as_str(),
        integer(round.at.0),
        cpu_total_us.map(integer),
        status,
        signal,
        asked,
    ])?;
    Ok(())
}

/// The boot that a node was in when it connected last.
fn boot_of(db: &Connection, node: &NodeId) -> Result<String> {
    let known = db.query_row("SELECT boot FROM boots WHERE node = ?1", [node.as_str()], |row| row.get(0));
    match known {
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(String::new()),
        other => other,
    }
}

/// Puts what followed beside what was predicted; a decision that was retained no longer is no fault.
fn followed(db: &Connection, followed: &Followed) -> Result<()> {
    db.execute(
        "UPDATE decisions SET body = json_set(body, '$.realised', json(?1))
         WHERE at_ms = ?2 AND workload = ?3 AND json_extract(body, '$.id') = ?4",
        params![
            json(&followed.realised)?,
            integer(followed.at_ms),
            followed.workload.as_str(),
            integer(followed.decision.0),
        ],
    )?;
    Ok(())
}

fn decided(db: &Connection, decision: &Decision) -> Result<()> {
    let kind = serde_json::to_value(decision.kind).ok();
    db.prepare_cached(
        "INSERT INTO decisions (at_ms, workload, act, kind, body) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        integer(decision.at_ms),
        decision.workload.as_str(),
        decision.act,
        kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or_default(),
        json(decision)?,
    ])?;
    Ok(())
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
