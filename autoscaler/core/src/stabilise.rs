//! From a wish to a change: when it may, and how much of it.
//!
//! Growing and shrinking are not mirror images: too few replicas hurt users now, too many cost a little. So growing needs a
//! need that held for `grow_after` (none at all in the panic window), shrinking needs *every* wish of a whole unbroken
//! window of fresh data to be lower, and waits after any change. A hole in the data starts the window anew: it froze the
//! proof, it did not give it. Bounds: the window holds at most [`WINDOW_LIMIT`] entries (only those that can still be a
//! maximum are kept).

use std::collections::VecDeque;

use model::reason::{Direction, Reason, Signal};
use model::units::Millis;
use model::workload::Behavior;

use crate::event::Time;

/// Most entries of the hold window.
pub const WINDOW_LIMIT: usize = 4_096;
/// Shrinking waits at least so many times as long after a change as growing does (workloads.md, rules for all).
pub const SHRINK_FACTOR: u64 = 5;

/// Memory between rounds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stabiliser {
    above_since: Option<Time>,
    /// Needs of the hold window that can still become its maximum: falling, oldest first.
    needs: VecDeque<(Time, u32)>,
    /// Since when data has been fresh without a hole.
    proof_since: Option<Time>,
    grew_at: Option<Time>,
    changed_at: Option<Time>,
}

/// What may be done now.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Grow to this many.
    Grow(u32),
    /// Shrink to this many.
    Shrink(u32),
    /// Stay, because of this.
    Stay(Reason),
}

/// One round's input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Round {
    /// Replicas wanted so far.
    pub wanted: u32,
    /// Replicas needed by the largest wish.
    pub need: u32,
    /// Which signal wishes that.
    pub signal: Signal,
    /// It cannot wait.
    pub panic: bool,
    /// All data that a shrink needs is fresh.
    pub fresh: bool,
}

/// The wait after a change before shrinking, with the safe minimum.
#[must_use]
pub fn shrink_cooldown(behavior: &Behavior) -> Millis {
    Millis(behavior.shrink_cooldown.0.max(SHRINK_FACTOR * behavior.grow_cooldown.0))
}

impl Stabiliser {
    /// Judges one round.
    pub fn judge(&mut self, round: Round, behavior: &Behavior, now: Time) -> Verdict {
        self.remember(round, behavior, now);
        if round.need > round.wanted {
            return self.growing(round, behavior, now);
        }
        self.above_since = None;
        if round.need == round.wanted {
            return Verdict::Stay(Reason::WithinTarget);
        }
        self.shrinking(round, behavior, now)
    }

    /// A change was carried out.
    pub fn changed(&mut self, direction: Direction, now: Time) {
        self.changed_at = Some(now);
        self.above_since = None;
        if direction == Direction::Grow {
            self.grew_at = Some(now);
        }
    }

    /// The controller started anew: what it saw before is no proof of now.
    pub fn restarted(&mut self) {
        self.proof_since = None;
        self.above_since = None;
        self.needs.clear();
    }

    /// Fresh data covers the whole window.
    #[must_use]
    pub fn proven(&self, behavior: &Behavior, now: Time) -> bool {
        self.warming_up(behavior, now).is_none()
    }

    /// What keeps any policy from shrinking until fresh data covers the whole window.
    #[must_use]
    pub fn warming_up(&self, behavior: &Behavior, now: Time) -> Option<Reason> {
        let seen_ms = self.proof_since.map(|since| now.since(since));
        if seen_ms.is_some_and(|seen_ms| seen_ms >= behavior.shrink_after.0) {
            return None;
        }
        Some(Reason::WarmingUp { left_ms: behavior.shrink_after.0 - seen_ms.unwrap_or(0) })
    }

    /// How long more has been needed than there is, ms.
    #[must_use]
    pub fn above_ms(&self, now: Time) -> u64 {
        self.above_since.map_or(0, |since| now.since(since))
    }

    /// Largest need of the hold window.
    #[must_use]
    pub fn largest_need(&self) -> u32 {
        self.needs.front().map_or(0, |(_, need)| *need)
    }

    /// When time alone changes the verdict: the earliest end of a wait.
    #[must_use]
    pub fn wake_at(&self, behavior: &Behavior) -> Option<Time> {
        let held = self.above_since.map(|since| since.after(behavior.grow_after.0));
        let cool = self.grew_at.map(|at| at.after(behavior.grow_cooldown.0));
        held.map(|held| cool.map_or(held, |cool| cool.max(held)))
    }

    fn remember(&mut self, round: Round, behavior: &Behavior, now: Time) {
        if round.fresh {
            self.proof_since.get_or_insert(now);
        } else {
            self.proof_since = None;
        }
        while self.needs.back().is_some_and(|(_, need)| *need <= round.need) {
            self.needs.pop_back();
        }
        self.needs.push_back((now, round.need));
        while self.needs.front().is_some_and(|(at, _)| now.since(*at) > behavior.shrink_after.0)
            || self.needs.len() > WINDOW_LIMIT
        {
            self.needs.pop_front();
        }
        if round.need > round.wanted {
            self.above_since.get_or_insert(now);
        }
    }

    fn growing(&self, round: Round, behavior: &Behavior, now: Time) -> Verdict {
        let held_ms = self.above_since.map_or(0, |since| now.since(since));
        if !round.panic && held_ms < behavior.grow_after.0 {
            let needed_ms = behavior.grow_after.0;
            return Verdict::Stay(Reason::NotYetLong { signal: round.signal, held_ms, needed_ms });
        }
        if let Some(left_ms) = left(self.grew_at, behavior.grow_cooldown.0, now) {
            return Verdict::Stay(Reason::Cooldown { direction: Direction::Grow, left_ms });
        }
        Verdict::Grow(round.need)
    }

    fn shrinking(&self, round: Round, behavior: &Behavior, now: Time) -> Verdict {
        if let Some(reason) = self.warming_up(behavior, now) {
            return Verdict::Stay(reason);
        }
        if let Some(left_ms) = left(self.changed_at, shrink_cooldown(behavior).0, now) {
            return Verdict::Stay(Reason::Cooldown { direction: Direction::Shrink, left_ms });
        }
        match self.needs.front() {
            Some((_, largest)) if *largest < round.wanted => Verdict::Shrink(*largest),
            Some((at, largest)) => Verdict::Stay(Reason::HoldWindow {
                largest_need: *largest,
                left_ms: at.after(behavior.shrink_after.0 + 1).since(now),
            }),
            None => Verdict::Stay(Reason::WithinTarget),
        }
    }
}

fn left(since: Option<Time>, wait_ms: u64, now: Time) -> Option<u64> {
    let left = wait_ms.saturating_sub(now.since(since?));
    (left > 0).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behavior() -> Behavior {
        Behavior {
            grow_after: Millis(2_000),
            shrink_after: Millis(10_000),
            shrink_cooldown: Millis(1_000),
            grow_cooldown: Millis(1_000),
            ..Behavior::default()
        }
    }

    fn round(wanted: u32, need: u32) -> Round {
        Round { wanted, need, signal: Signal::QueueDelay, panic: false, fresh: true }
    }

    #[test]
    fn a_need_must_hold_and_a_panic_must_not() {
        let mut s = Stabiliser::default();
        assert!(matches!(
            s.judge(round(2, 3), &behavior(), Time(0)),
            Verdict::Stay(Reason::NotYetLong { .. })
        ));
        assert_eq!(s.judge(round(2, 3), &behavior(), Time(2_000)), Verdict::Grow(3));
        s.changed(Direction::Grow, Time(2_000));
        let panic = Round { panic: true, ..round(3, 6) };
        assert!(matches!(s.judge(panic, &behavior(), Time(2_500)), Verdict::Stay(Reason::Cooldown { .. })));
        assert_eq!(s.judge(panic, &behavior(), Time(3_000)), Verdict::Grow(6));
    }

    #[test]
    fn a_shrink_goes_to_the_largest_need_of_an_unbroken_window() {
        let mut s = Stabiliser::default();
        s.changed(Direction::Grow, Time(0));
        for t in 0..=9 {
            let need = if t == 4 { 3 } else { 1 };
            let verdict = s.judge(round(5, need), &behavior(), Time(t * 1_000));
            assert!(matches!(verdict, Verdict::Stay(Reason::WarmingUp { .. })), "{t}: {verdict:?}");
        }
        assert_eq!(s.judge(round(5, 1), &behavior(), Time(10_000)), Verdict::Shrink(3));
        let stale = Round { fresh: false, ..round(5, 1) };
        assert!(matches!(s.judge(stale, &behavior(), Time(11_000)), Verdict::Stay(Reason::WarmingUp { .. })));
        assert!(!s.proven(&behavior(), Time(11_000)), "a hole starts the proof anew");
    }

    #[test]
    fn the_shrink_cooldown_is_at_least_five_times_the_other() {
        let weak = Behavior { grow_cooldown: Millis(30_000), shrink_cooldown: Millis(1_000), ..behavior() };
        assert_eq!(shrink_cooldown(&weak), Millis(150_000));
    }
}
