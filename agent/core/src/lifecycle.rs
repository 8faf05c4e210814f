//! What happens next with one task, from the order to start it to the removal of its cgroup.
//!
//! **Problem.** A task outlives the agent; processes ignore signals; a cgroup keeps its final totals only until it is
//! removed. **Method.** One machine per task; the shell carries out effects and reports what happened. Final totals
//! are read after the cgroup is empty, reported, and the cgroup stays a while so that others can read it too.
//! **Bounds.** SIGTERM, then the grace, then `cgroup.kill` every second: a task that ignores everything keeps being
//! killed and reported, it never blocks another.

use model::action::TaskEventKind;
use serde::{Deserialize, Serialize};

/// Time that an ended task's cgroup stays, so that its final totals can be read by others, ms.
pub const LINGER_MS: u64 = 3_000;
/// Time between two kills of a task that does not die, ms.
pub const KILL_AGAIN_MS: u64 = 1_000;
/// A task that is not healthy after this long has no more CPU than one that is, ms: the autoscaler gives it up then.
pub const STARTUP_LIMIT_MS: u64 = 120_000;
/// Without a health check, a task counts as healthy after running this long, ms.
pub const HEALTHY_AFTER_MS: u64 = 1_000;

/// Where a task is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// The shim was asked to start it.
    Starting,
    /// Its first process runs.
    Running {
        /// Since when, ms.
        since_ms: u64,
        /// Result of the last health check, once there was one.
        healthy: Option<bool>,
        /// There is a health check; without one it is healthy when it has run for a while.
        checked: bool,
    },
    /// It was asked to end.
    Stopping {
        /// When it is killed, or was killed last, ms.
        kill_at_ms: u64,
    },
    /// Its first process ended; others of its cgroup may remain.
    Emptying {
        /// Exit status.
        status: Option<i32>,
        /// Signal.
        signal: Option<i32>,
        /// A stop was asked for.
        asked: bool,
        /// When what remains is killed (again), ms.
        kill_at_ms: u64,
    },
    /// Empty, final totals reported; the cgroup is removed at this time, ms.
    Lingering {
        /// When.
        remove_at_ms: u64,
    },
    /// Over: nothing is left to do.
    Over,
}

/// What happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The shim reports the first process.
    Started {
        /// Its process id.
        pid: u32,
        /// Whether the launcher has a health check.
        checked: bool,
    },
    /// It could not be started.
    NotStarted {
        /// Why.
        why: String,
    },
    /// The agent found it running after its own start.
    Found {
        /// Process id of the first process.
        pid: u32,
        /// Whether the launcher has a health check.
        checked: bool,
    },
    /// A stop was ordered.
    StopAsked {
        /// Time between SIGTERM and kill, ms.
        grace_ms: u32,
    },
    /// The first process ended.
    Exited {
        /// Exit status.
        status: Option<i32>,
        /// Signal.
        signal: Option<i32>,
    },
    /// No process is left in its cgroup.
    Emptied {
        /// The cgroup's CPU total then, µs.
        cpu_total_us: Option<u64>,
    },
    /// The health check succeeded.
    CheckPassed,
    /// The health check failed.
    CheckFailed {
        /// What it saw.
        why: String,
    },
    /// Time passed.
    Tick,
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send SIGTERM to the first process.
    Terminate,
    /// Kill everything in the cgroup.
    Kill,
    /// Wait for the cgroup to be empty, then report [`Event::Emptied`].
    AwaitEmpty,
    /// Tell the controller.
    Report(TaskEventKind),
    /// Remove the cgroup and the task's files.
    Remove,
    /// Something that should not happen did; log it, change nothing.
    Anomaly(&'static str),
}

impl State {
    /// Takes an event at `now_ms`; both on the same monotonic clock.
    #[must_use]
    pub fn on(self, event: Event, now_ms: u64) -> (State, Vec<Effect>) {
        use Effect::{AwaitEmpty, Kill, Remove, Report, Terminate};
        use TaskEventKind as Kind;
        match (self, event) {
            (State::Starting, Event::Started { pid, checked }) => (
                State::Running { since_ms: now_ms, healthy: None, checked },
                vec![Report(Kind::Started { pid })],
            ),
            (State::Starting, Event::NotStarted { .. }) => {
                let ended = Kind::Ended { status: None, signal: None, cpu_total_us: None, asked: false };
                (State::Lingering { remove_at_ms: now_ms }, vec![Report(ended)])
            }
            (State::Starting | State::Running { .. }, Event::Found { pid, checked }) => (
                State::Running { since_ms: now_ms, healthy: None, checked },
                vec![Report(Kind::Adopted { pid })],
            ),
            (State::Stopping { kill_at_ms }, Event::Found { .. }) => {
                (State::Stopping { kill_at_ms }, vec![Terminate])
            }
            (State::Running { .. } | State::Starting, Event::StopAsked { grace_ms }) => {
                (State::Stopping { kill_at_ms: now_ms + u64::from(grace_ms) }, vec![Terminate])
            }
            (State::Stopping { kill_at_ms }, Event::StopAsked { grace_ms }) => {
                let kill_at_ms = kill_at_ms.min(now_ms + u64::from(grace_ms));
                (State::Stopping { kill_at_ms }, vec![Terminate])
            }
            // It was stopped before its start was confirmed: the signal may have come too early for it.
            (State::Stopping { kill_at_ms }, Event::Started { .. }) => {
                (State::Stopping { kill_at_ms }, vec![Terminate])
            }
            (State::Stopping { .. }, Event::NotStarted { .. }) => {
                let ended = Kind::Ended { status: None, signal: None, cpu_total_us: None, asked: true };
                (State::Lingering { remove_at_ms: now_ms }, vec![Report(ended)])
            }
            (State::Running { since_ms, healthy, checked }, Event::CheckPassed) => {
                let report = if healthy == Some(true) { vec![] } else { vec![Report(Kind::Healthy)] };
                (State::Running { since_ms, healthy: Some(true), checked }, report)
            }
            (State::Running { since_ms, healthy, checked }, Event::CheckFailed { why }) => {
                let report =
                    if healthy == Some(true) { vec![Report(Kind::Unhealthy { why })] } else { vec![] };
                (State::Running { since_ms, healthy: Some(false), checked }, report)
            }
            (State::Running { since_ms, healthy: None, checked: false }, Event::Tick)
                if now_ms >= since_ms + HEALTHY_AFTER_MS =>
            {
                (
                    State::Running { since_ms, healthy: Some(true), checked: false },
                    vec![Report(Kind::Healthy)],
                )
            }
            (State::Stopping { kill_at_ms }, Event::Tick) if now_ms >= kill_at_ms => {
                (State::Stopping { kill_at_ms: now_ms + KILL_AGAIN_MS }, vec![Kill])
            }
            (
                state @ (State::Starting | State::Running { .. } | State::Stopping { .. }),
                Event::Exited { status, signal },
            ) => {
                let asked = matches!(state, State::Stopping { .. });
                let kill_at_ms = now_ms + KILL_AGAIN_MS;
                (State::Emptying { status, signal, asked, kill_at_ms }, vec![AwaitEmpty])
            }
            (State::Emptying { status, signal, asked, kill_at_ms }, Event::Tick) if now_ms >= kill_at_ms => {
                (State::Emptying { status, signal, asked, kill_at_ms: now_ms + KILL_AGAIN_MS }, vec![Kill])
            }
            (State::Emptying { status, signal, asked, .. }, Event::Emptied { cpu_total_us }) => {
                let ended = Kind::Ended { status, signal, cpu_total_us, asked };
                (State::Lingering { remove_at_ms: now_ms + LINGER_MS }, vec![Report(ended)])
            }
            (State::Lingering { remove_at_ms }, Event::Tick) if now_ms >= remove_at_ms => {
                (State::Over, vec![Remove])
            }
            // A check that was under way when the task was asked to stop, and the passing of time, change nothing;
            // neither does a stop of what already ends.
            (state, Event::Tick | Event::CheckPassed | Event::CheckFailed { .. }) => (state, vec![]),
            (
                state @ (State::Emptying { .. } | State::Lingering { .. } | State::Over),
                Event::StopAsked { .. },
            ) => (state, vec![]),
            (state, Event::Started { .. }) => (state, vec![Effect::Anomaly("started twice")]),
            (state, Event::NotStarted { .. }) => (state, vec![Effect::Anomaly("not started, after it was")]),
            (state, Event::Found { .. }) => (state, vec![Effect::Anomaly("found running after its end")]),
            (state, Event::Exited { .. }) => (state, vec![Effect::Anomaly("ended twice")]),
            (state, Event::Emptied { .. }) => (state, vec![Effect::Anomaly("empty without an end")]),
        }
    }

    /// When [`Event::Tick`] does something, ms; `None` when only other events do.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        match self {
            State::Running { since_ms, healthy: None, checked: false } => Some(since_ms + HEALTHY_AFTER_MS),
            State::Stopping { kill_at_ms } | State::Emptying { kill_at_ms, .. } => Some(*kill_at_ms),
            State::Lingering { remove_at_ms } => Some(*remove_at_ms),
            State::Starting | State::Running { .. } | State::Over => None,
        }
    }

    /// From when on it needs no more CPU than its size, ms: it became healthy, or took too long to. `None` while it does
    /// not run.
    #[must_use]
    pub fn startup_over_ms(&self) -> Option<u64> {
        match self {
            State::Running { since_ms, healthy: Some(true), .. } => Some(*since_ms),
            State::Running { since_ms, .. } => Some(since_ms + STARTUP_LIMIT_MS),
            _ => None,
        }
    }

    /// Its name in the diagram.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            State::Starting => "Starting",
            State::Running { .. } => "Running",
            State::Stopping { .. } => "Stopping",
            State::Emptying { .. } => "Emptying",
            State::Lingering { .. } => "Lingering",
            State::Over => "Over",
        }
    }
}

#[cfg(test)]
mod tests;
