//! Memory is taken back from best-effort work in grades, each stronger than the one before, each undone when it is calm.
//!
//! **Problem.** Memory that is full stalls everybody within a second; killing helps at once and loses work. **Method.** One
//! machine: ask for memory back, slow earlier, freeze, and only when the node itself is short, end the youngest task. Each grade
//! has time to show its effect. A grade that this host cannot do is passed over. **Bounds.** One grade at a time; one task
//! ended at a time; what a freeze has not helped in a minute is not best-effort work's doing: it is given back, and left alone.

use serde::Serialize;

use super::settings::CLEAN_MS;

/// Time that a grade has until the next one, ms: the kernel's stall averages have a window of 2 s (Documentation/accounting/psi.rst).
pub const GRADE_MS: u64 = 2_000;
/// Time between two ended tasks, ms: a task that ends needs some to give its memory back.
pub const STOP_MS: u64 = 10_000;
/// A freeze that helps shows it within this, ms.
pub const FREEZE_MS: u64 = 60_000;
/// Left alone for so long after a freeze that did not help, ms.
pub const REST_MS: u64 = 300_000;

/// How strong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// `memory.reclaim`.
    Reclaim,
    /// A lower `memory.high`.
    High,
    /// `cgroup.freeze`.
    Freeze,
    /// The youngest task is ended.
    Stop,
}

impl Grade {
    /// From the weakest to the strongest.
    pub const ALL: [Self; 4] = [Self::Reclaim, Self::High, Self::Freeze, Self::Stop];

    /// Its name in reasons.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Grade::Reclaim => "reclaim",
            Grade::High => "a lower memory.high",
            Grade::Freeze => "freezing",
            Grade::Stop => "stopping",
        }
    }
}

/// Which grades there are on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Possible {
    /// `memory.reclaim` can be written.
    pub reclaim: bool,
    /// `memory.high` can be written.
    pub high: bool,
    /// `cgroup.freeze` can be written.
    pub freeze: bool,
}

impl Possible {
    /// All of them.
    pub const ALL: Self = Self { reclaim: true, high: true, freeze: true };

    fn has(self, grade: Grade, short: bool) -> bool {
        match grade {
            Grade::Reclaim => self.reclaim,
            Grade::High => self.high,
            Grade::Freeze => self.freeze,
            Grade::Stop => short,
        }
    }

    fn after(self, grade: Option<Grade>, short: bool) -> Option<Grade> {
        Grade::ALL.into_iter().find(|g| grade.is_none_or(|grade| *g > grade) && self.has(*g, short))
    }
}

/// Where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Nothing is taken.
    #[default]
    Calm,
    /// This grade is in force.
    Pressed {
        /// The strongest so far.
        grade: Grade,
        /// When it was applied last, ms.
        acted_ms: u64,
        /// Calm since then, ms.
        calm_since: Option<u64>,
    },
    /// It did not help.
    Resting {
        /// Until then, ms.
        until_ms: u64,
    },
}

/// What a reading says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// More than is borne. `short`: the node itself has too little; only then may a task be ended.
    Breach {
        /// The node itself has too little.
        short: bool,
        /// What can be done here.
        possible: Possible,
    },
    /// Well below what is borne.
    Calm,
    /// In between, or not known.
    Between,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Apply this grade.
    Apply(Grade),
    /// Give everything back: calm for so long, ms.
    Undo(u64),
    /// Give everything back: frozen in vain for so long, ms.
    GiveUp(u64),
    /// This host has nothing to do it with.
    Nothing,
}

impl State {
    /// Takes a reading at `now_ms`.
    #[must_use]
    pub fn on(self, event: Event, now_ms: u64) -> (State, Option<Effect>) {
        match (self, event) {
            (State::Resting { until_ms }, Event::Breach { short: false, .. }) if now_ms < until_ms => {
                (self, None)
            }
            (State::Resting { until_ms }, Event::Calm | Event::Between) => {
                (if now_ms < until_ms { self } else { State::Calm }, None)
            }
            (State::Calm | State::Resting { .. }, Event::Breach { short, possible }) => {
                match possible.after(None, short) {
                    Some(grade) => (pressed(grade, now_ms), Some(Effect::Apply(grade))),
                    None => (self, Some(Effect::Nothing)),
                }
            }
            (State::Calm, Event::Calm | Event::Between) => (self, None),
            (State::Pressed { grade, acted_ms, .. }, Event::Breach { short, possible }) => {
                let waited_ms = now_ms.saturating_sub(acted_ms);
                let stays = State::Pressed { grade, acted_ms, calm_since: None };
                match (grade, possible.after(Some(grade), short)) {
                    (Grade::Stop, _) if short && waited_ms >= STOP_MS => {
                        (pressed(Grade::Stop, now_ms), Some(Effect::Apply(Grade::Stop)))
                    }
                    (_, Some(next)) if waited_ms >= GRADE_MS => {
                        (pressed(next, now_ms), Some(Effect::Apply(next)))
                    }
                    (Grade::Freeze, None) if waited_ms >= FREEZE_MS => {
                        (State::Resting { until_ms: now_ms + REST_MS }, Some(Effect::GiveUp(waited_ms)))
                    }
                    _ => (stays, None),
                }
            }
            (State::Pressed { grade, acted_ms, calm_since }, Event::Calm) => {
                let since = calm_since.unwrap_or(now_ms);
                let clean_ms = now_ms.saturating_sub(since);
                if clean_ms >= CLEAN_MS {
                    return (State::Calm, Some(Effect::Undo(clean_ms)));
                }
                (State::Pressed { grade, acted_ms, calm_since: Some(since) }, None)
            }
            (State::Pressed { grade, acted_ms, .. }, Event::Between) => {
                (State::Pressed { grade, acted_ms, calm_since: None }, None)
            }
        }
    }

    /// Its name in the diagram.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            State::Calm => "Calm",
            State::Pressed { grade: Grade::Reclaim, .. } => "Reclaimed",
            State::Pressed { grade: Grade::High, .. } => "Slowed",
            State::Pressed { grade: Grade::Freeze, .. } => "Frozen",
            State::Pressed { grade: Grade::Stop, .. } => "Stopped",
            State::Resting { .. } => "Resting",
        }
    }
}

fn pressed(grade: Grade, now_ms: u64) -> State {
    State::Pressed { grade, acted_ms: now_ms, calm_since: None }
}

#[cfg(test)]
mod tests;
