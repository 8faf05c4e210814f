//! One order: sent once per try, and tried again until it is answered.
//!
//! An order or its answer can be lost, doubled, or come from before a restart. So each try has an identity of its own, an answer that names
//! no try on its way changes nothing, and tries keep a distance that doubles with each one that failed.

use model::id::CommandId;

use crate::event::Time;

/// Wait after the first failed try, ms; doubles with each.
pub const RETRY_MS: u64 = 500;
/// Longest wait between two tries, ms.
pub const RETRY_LIMIT_MS: u64 = 10_000;

/// One try on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sent {
    command: CommandId,
    due: Time,
}

/// Something that is to be done by an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    sent: Option<Sent>,
    answered: Option<Time>,
    failed: u32,
    not_before: Time,
}

impl Order {
    /// An order that is due now.
    #[must_use]
    pub fn new(now: Time) -> Self {
        Self { sent: None, answered: None, failed: 0, not_before: now }
    }

    /// Whether it must be sent now.
    #[must_use]
    pub fn is_due(&self, now: Time) -> bool {
        self.answered.is_none() && self.sent.is_none() && now >= self.not_before
    }

    /// When time alone changes something about it.
    #[must_use]
    pub fn wake_at(&self) -> Option<Time> {
        match (self.answered, self.sent) {
            (Some(_), _) => None,
            (None, Some(sent)) => Some(sent.due),
            (None, None) => Some(self.not_before),
        }
    }

    /// It was sent, and must be answered by `due`.
    pub fn sent(&mut self, command: CommandId, due: Time) {
        self.sent = Some(Sent { command, due });
    }

    /// What was sent and not answered may never have arrived: it is due again.
    pub fn forget(&mut self, now: Time) {
        if self.sent.take().is_some() {
            self.not_before = now;
        }
    }

    /// The try on its way ended, in whatever way.
    pub fn returned(&mut self) {
        self.sent = None;
    }

    /// Whether a try with this identity is on its way.
    #[must_use]
    pub fn awaits(&self, command: CommandId) -> bool {
        self.sent.is_some_and(|sent| sent.command == command)
    }

    /// Whether a try was not answered in time.
    #[must_use]
    pub fn is_overdue(&self, now: Time) -> bool {
        self.sent.is_some_and(|sent| now >= sent.due)
    }

    /// It was done, or was so already.
    pub fn answered(&mut self, now: Time) {
        self.sent = None;
        self.answered = Some(now);
    }

    /// When it was answered.
    #[must_use]
    pub fn answered_at(&self) -> Option<Time> {
        self.answered
    }

    /// A try failed: how many have, and the wait until the next one, ms.
    pub fn failed(&mut self, now: Time) -> (u32, u64) {
        self.sent = None;
        self.failed = self.failed.saturating_add(1);
        let wait = RETRY_MS.saturating_mul(1 << (self.failed - 1).min(16)).min(RETRY_LIMIT_MS);
        self.keep_away(now.after(wait));
        (self.failed, wait)
    }

    /// Tries that failed.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failed
    }

    /// It is not sent before this.
    pub fn keep_away(&mut self, until: Time) {
        self.not_before = self.not_before.max(until);
    }

    /// It counts as tried so often: it was refused, and asking again would not change that.
    pub fn tried(&mut self, times: u32) {
        self.failed = times;
    }

    /// It was neither sent nor tried.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.sent.is_none() && self.answered.is_none() && self.failed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_that_fails_is_repeated_with_a_distance_that_doubles() {
        let mut order = Order::new(Time(0));
        let mut waits = Vec::new();
        for n in 1..=7 {
            assert!(order.is_due(Time(n * 100_000)));
            order.sent(CommandId(n), Time(n * 100_000 + 10));
            assert!(order.awaits(CommandId(n)) && !order.is_due(Time(n * 100_000)));
            assert!(order.is_overdue(Time(n * 100_000 + 10)));
            waits.push(order.failed(Time(n * 100_000 + 10)).1);
        }
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
        assert_eq!(order.failures(), 7);
    }

    #[test]
    fn an_answer_ends_it_and_a_lost_try_is_due_at_once() {
        let mut order = Order::new(Time(5));
        assert!(!order.is_due(Time(4)) && order.is_untouched());
        order.sent(CommandId(1), Time(50));
        order.forget(Time(7));
        assert!(order.is_due(Time(7)) && !order.awaits(CommandId(1)), "its answer would change nothing");
        order.answered(Time(9));
        assert_eq!(
            (order.is_due(Time(99)), order.wake_at(), order.answered_at()),
            (false, None, Some(Time(9)))
        );
    }
}
