//! What happened on a node: gaps, events of tasks, outcomes of commands.

use std::collections::BTreeMap;

use model::action::{Crowded, Outcome, OutcomeKind, Strain, TaskEvent, TaskEventKind};
use model::gap::{Gap, GapKind};
use model::id::{CgroupId, CommandId, Generation};

use super::{fit, name, text, unspecified};
use crate::{WireError, pb};

/// A whole, in parts per million.
const PPM: u32 = 1_000_000;
/// Most values that are read back after one command.
const READ_BACK_LIMIT: usize = 32;

impl TryFrom<pb::Gap> for Gap {
    type Error = WireError;
    fn try_from(m: pb::Gap) -> Result<Self, WireError> {
        let kind = match m.kind() {
            pb::GapKind::Stale => GapKind::Stale,
            pb::GapKind::Lost => GapKind::Lost,
            pb::GapKind::Restarted => GapKind::Restarted,
            pb::GapKind::Partial => GapKind::Partial,
            pb::GapKind::ClockStepped => GapKind::ClockStepped,
            pb::GapKind::Merged => GapKind::Merged,
            pb::GapKind::Unspecified => return Err(unspecified("gap kind")),
        };
        Ok(Gap { kind, from_ns: m.from_ns, to_ns: m.to_ns, cause: text("gap cause", m.cause)? })
    }
}

impl From<Gap> for pb::Gap {
    fn from(g: Gap) -> Self {
        let kind = match g.kind {
            GapKind::Stale => pb::GapKind::Stale,
            GapKind::Lost => pb::GapKind::Lost,
            GapKind::Restarted => pb::GapKind::Restarted,
            GapKind::Partial => pb::GapKind::Partial,
            GapKind::ClockStepped => pb::GapKind::ClockStepped,
            GapKind::Merged => pb::GapKind::Merged,
        };
        pb::Gap { kind: kind.into(), from_ns: g.from_ns, to_ns: g.to_ns, cause: fit(g.cause) }
    }
}

impl TryFrom<pb::TaskEvent> for TaskEvent {
    type Error = WireError;
    fn try_from(m: pb::TaskEvent) -> Result<Self, WireError> {
        use pb::task_event::Kind;
        let kind = match m.kind.ok_or(WireError::Missing("task event kind"))? {
            Kind::StartedPid(pid) => TaskEventKind::Started { pid },
            Kind::AdoptedPid(pid) => TaskEventKind::Adopted { pid },
            Kind::Healthy(_) => TaskEventKind::Healthy,
            Kind::Unhealthy(why) => TaskEventKind::Unhealthy { why: text("why unhealthy", why)? },
            Kind::Strained(s) => TaskEventKind::Strained {
                strain: Strain { oom_kills: s.oom_kills, forks_refused: s.forks_refused },
            },
            Kind::Crowded(c) => TaskEventKind::Crowded {
                crowded: Crowded {
                    stalled_ppm: c.stalled_ppm.min(PPM),
                    by: c.by.map(|by| name("who moves the bytes", &by)).transpose()?,
                    bytes_per_s: c.bytes_per_s,
                    share_ppm: c.share_ppm.min(PPM),
                },
            },
            Kind::Ended(e) => TaskEventKind::Ended {
                status: e.status,
                signal: e.signal,
                cpu_total_us: e.cpu_total_us,
                asked: e.asked,
            },
        };
        Ok(TaskEvent {
            task: name("task", &m.task)?,
            workload: name("workload", &m.workload)?,
            cgroup: CgroupId(m.cgroup),
            kind,
            at_ns: m.at_ns,
        })
    }
}

impl From<TaskEvent> for pb::TaskEvent {
    fn from(e: TaskEvent) -> Self {
        use pb::task_event::Kind;
        let kind = match e.kind {
            TaskEventKind::Started { pid } => Kind::StartedPid(pid),
            TaskEventKind::Adopted { pid } => Kind::AdoptedPid(pid),
            TaskEventKind::Healthy => Kind::Healthy(true),
            TaskEventKind::Unhealthy { why } => Kind::Unhealthy(fit(why)),
            TaskEventKind::Strained { strain: Strain { oom_kills, forks_refused } } => {
                Kind::Strained(pb::Strain { oom_kills, forks_refused })
            }
            TaskEventKind::Crowded { crowded: Crowded { stalled_ppm, by, bytes_per_s, share_ppm } } => {
                let by = by.map(|by| by.to_string());
                Kind::Crowded(pb::Crowded { stalled_ppm, by, bytes_per_s, share_ppm })
            }
            TaskEventKind::Ended { status, signal, cpu_total_us, asked } => {
                Kind::Ended(pb::Ended { status, signal, cpu_total_us, asked })
            }
        };
        pb::TaskEvent {
            task: e.task.to_string(),
            workload: e.workload.to_string(),
            cgroup: e.cgroup.0,
            at_ns: e.at_ns,
            kind: Some(kind),
        }
    }
}

impl TryFrom<pb::Outcome> for Outcome {
    type Error = WireError;
    fn try_from(m: pb::Outcome) -> Result<Self, WireError> {
        let kind = match m.kind() {
            pb::OutcomeKind::Applied => OutcomeKind::Applied,
            pb::OutcomeKind::Already => OutcomeKind::Already,
            pb::OutcomeKind::Refused => OutcomeKind::Refused,
            pb::OutcomeKind::Failed => OutcomeKind::Failed,
            pb::OutcomeKind::Unspecified => return Err(unspecified("outcome")),
        };
        if m.read_back.len() > READ_BACK_LIMIT {
            let (what, found) = ("read-back values", m.read_back.len());
            return Err(WireError::OverLimit { what, found, limit: READ_BACK_LIMIT });
        }
        let read_back =
            m.read_back.into_iter().map(|(k, v)| Ok((text("read-back", k)?, text("read-back", v)?)));
        Ok(Outcome {
            command: CommandId(m.command),
            generation: Generation(m.generation),
            task: name("task", &m.task)?,
            kind,
            why: text("why", m.why)?,
            read_back: read_back.collect::<Result<BTreeMap<_, _>, WireError>>()?,
        })
    }
}

impl From<Outcome> for pb::Outcome {
    fn from(o: Outcome) -> Self {
        let kind = match o.kind {
            OutcomeKind::Applied => pb::OutcomeKind::Applied,
            OutcomeKind::Already => pb::OutcomeKind::Already,
            OutcomeKind::Refused => pb::OutcomeKind::Refused,
            OutcomeKind::Failed => pb::OutcomeKind::Failed,
        };
        pb::Outcome {
            command: o.command.0,
            generation: o.generation.0,
            task: o.task.to_string(),
            kind: kind.into(),
            why: fit(o.why),
            read_back: o.read_back.into_iter().map(|(k, v)| (fit(k), fit(v))).collect(),
        }
    }
}
