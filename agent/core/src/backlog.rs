//! Which spooled rounds are on their way, and when the next one may go.
//!
//! A receiver may acknowledge only when its disk has what it was sent, once a second or more rarely. So several rounds
//! are on their way at once, and each waits in the spool for its own acknowledgement: they need not come in order. The
//! set lives as long as one stream, so that whatever was not acknowledged is sent again on the next one.
//! **Bounds.** [`WINDOW`] rounds, [`PACE_MS`] between two of them.

use std::collections::BTreeMap;

/// Most spooled rounds without acknowledgement: at one each [`PACE_MS`] no limit for a receiver that answers within 3 s.
pub const WINDOW: usize = 32;
/// Shortest time between two spooled rounds, ms: a fleet that comes back does not flood the autoscaler.
pub const PACE_MS: u64 = 100;

/// Boot ns and number of a spooled round.
pub type Key = (u64, u64);

/// Spooled rounds on their way, on one stream.
#[derive(Debug, Default)]
pub struct Backlog {
    /// Number → boot ns.
    under_way: BTreeMap<u64, u64>,
    next_ms: u64,
}

impl Backlog {
    /// The earliest time for the next round, ms; `None` while the window is full.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        (self.under_way.len() < WINDOW).then_some(self.next_ms)
    }

    /// Which one to send next: the oldest of `waiting`, ascending, that is not on its way.
    pub fn next(&self, mut waiting: impl Iterator<Item = Key>) -> Option<Key> {
        waiting.find(|(_, seq)| !self.under_way.contains_key(seq))
    }

    /// How many are on their way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// One was sent.
    pub fn sent(&mut self, (boot_ns, seq): Key, now_ms: u64) {
        self.under_way.insert(seq, boot_ns);
        self.next_ms = now_ms + PACE_MS;
    }

    /// Number `seq` has arrived. Returns it when it was on its way: it need not wait any longer.
    pub fn acknowledged(&mut self, seq: u64) -> Option<Key> {
        self.under_way.remove(&seq).map(|boot_ns| (boot_ns, seq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Sends what waits to a receiver that acknowledges everything each `every_ms`. Returns the time that it took, ms.
    fn drain(rounds: u64, every_ms: u64) -> u64 {
        let mut waiting: BTreeSet<Key> = (1..=rounds).map(|seq| (seq * 1_000, seq)).collect();
        let (mut backlog, mut arrived, mut unanswered) = (Backlog::default(), Vec::new(), Vec::new());
        let mut now_ms = 0;
        while !waiting.is_empty() {
            now_ms += 10;
            assert!(now_ms < 1_000 * rounds, "{} of {rounds} wait", waiting.len());
            if backlog.due_ms().is_some_and(|due| due <= now_ms)
                && let Some(key) = backlog.next(waiting.iter().copied())
            {
                backlog.sent(key, now_ms);
                arrived.push(key.1);
                unanswered.push(key.1);
            }
            assert!(backlog.under_way() <= WINDOW);
            if now_ms % every_ms == 0 {
                for seq in unanswered.drain(..) {
                    let key = backlog.acknowledged(seq).unwrap();
                    assert!(waiting.remove(&key));
                }
            }
        }
        assert_eq!(arrived, (1..=rounds).collect::<Vec<_>>(), "each once, the oldest first");
        now_ms
    }

    #[test]
    fn a_receiver_that_acknowledges_once_a_second_gets_ten_rounds_a_second() {
        for every_ms in [10, 200, 1_000, 3_000] {
            let took_ms = drain(600, every_ms);
            assert!(
                took_ms <= 600 * PACE_MS + 2 * every_ms,
                "{took_ms} ms with an answer each {every_ms} ms"
            );
        }
    }

    #[test]
    fn a_receiver_that_does_not_answer_is_not_sent_more() {
        let mut backlog = Backlog::default();
        for seq in 1..=WINDOW as u64 {
            assert!(backlog.due_ms().is_some());
            backlog.sent((seq, seq), 0);
        }
        assert_eq!(backlog.due_ms(), None);
        assert_eq!(backlog.acknowledged(1_000), None, "a live round's");
        assert_eq!(backlog.acknowledged(7), Some((7, 7)));
        assert_eq!(backlog.due_ms(), Some(PACE_MS));
    }

    proptest! {
        /// However streams break and answers come, a round leaves the spool only by its own answer, and all leave it.
        #[test]
        fn nothing_leaves_before_its_answer(steps in prop::collection::vec((0u8..8, any::<prop::sample::Index>()), 1..300)) {
            let mut waiting: BTreeSet<Key> = (1..=60u64).map(|seq| (seq * 1_000, seq)).collect();
            let (mut backlog, mut unanswered, mut received) = (Backlog::default(), Vec::new(), BTreeSet::new());
            let finish = (0..200).map(|i| if i % 2 == 0 { (2, None) } else { (4, None) });
            for (step, index) in steps.into_iter().map(|(s, i)| (s, Some(i))).chain(finish) {
                match step {
                    0 => { backlog = Backlog::default(); unanswered.clear(); }
                    1..=3 => if let (Some(_), Some(key)) = (backlog.due_ms(), backlog.next(waiting.iter().copied())) {
                        backlog.sent(key, 0);
                        unanswered.push(key.1);
                        received.insert(key.1);
                    },
                    _ if !unanswered.is_empty() => {
                        let seq = unanswered.swap_remove(index.map_or(0, |i| i.index(unanswered.len())));
                        let key = backlog.acknowledged(seq);
                        prop_assert!(key.is_some_and(|key| waiting.remove(&key)));
                        prop_assert!(received.contains(&seq));
                    }
                    _ => {}
                }
            }
            prop_assert!(waiting.is_empty(), "{} wait for ever", waiting.len());
        }
    }
}
