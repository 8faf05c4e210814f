//! What waits to be sent, in the order in which it was taken. It is bounded: the oldest goes first when it overflows.

use std::collections::VecDeque;

use axum::body::Bytes;

/// A request that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    /// What is sent.
    pub(super) body: Bytes,
    /// Samples in it.
    pub(super) samples: u64,
    /// When they were taken, ms since the Unix epoch.
    pub(super) at_ms: u64,
}

/// Which request; they count up from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number(u64);

/// Requests in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    chunks: VecDeque<Chunk>,
    /// The number of the first one.
    first: u64,
    bytes: u64,
}

impl Queue {
    /// Adds one, and drops the oldest while more than `max_bytes` wait. How many samples were dropped.
    pub(super) fn push(&mut self, chunk: Chunk, max_bytes: u64) -> u64 {
        self.bytes += chunk.body.len() as u64;
        self.chunks.push_back(chunk);
        let mut dropped = 0;
        while self.bytes > max_bytes
            && let Some(oldest) = self.drop_first()
        {
            dropped += oldest.samples;
        }
        dropped
    }

    /// The oldest. It stays until it is [`Self::done`].
    pub(super) fn first(&self) -> Option<(Number, Chunk)> {
        self.chunks.front().map(|chunk| (Number(self.first), chunk.clone()))
    }

    /// One need not be sent any more. False when it was dropped in between.
    pub(super) fn done(&mut self, number: Number) -> bool {
        number.0 == self.first && self.drop_first().is_some()
    }

    /// Drops everything; how many samples that were.
    pub(super) fn clear(&mut self) -> u64 {
        let mut dropped = 0;
        while let Some(chunk) = self.drop_first() {
            dropped += chunk.samples;
        }
        dropped
    }

    /// When the oldest sample was taken, ms since the Unix epoch.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        self.chunks.front().map(|chunk| chunk.at_ms)
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn drop_first(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        self.first += 1;
        self.bytes -= chunk.body.len() as u64;
        Some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunk(bytes: usize, samples: u64) -> Chunk {
        Chunk { body: vec![0; bytes].into(), samples, at_ms: samples }
    }

    #[test]
    fn the_oldest_is_dropped_and_what_is_under_way_is_not_mistaken_for_the_next() {
        let mut queue = Queue::default();
        assert_eq!(queue.push(chunk(10, 1), 25), 0);
        assert_eq!(queue.push(chunk(10, 2), 25), 0);
        let (under_way, sent) = queue.first().unwrap();
        assert_eq!((sent.samples, queue.oldest_ms(), queue.bytes()), (1, Some(1), 20));
        assert_eq!(queue.push(chunk(10, 4), 25), 1);
        assert!(!queue.done(under_way), "it was dropped; the next one stays");
        assert_eq!(queue.first().unwrap().1.samples, 2);
        assert_eq!(queue.push(chunk(99, 8), 25), 14, "one that never fits does not stay either");
        assert_eq!((queue.first(), queue.bytes(), queue.oldest_ms()), (None, 0, None));
    }

    proptest! {
        #[test]
        fn each_sample_is_sent_once_in_order_or_counted_as_dropped(
            steps in prop::collection::vec((any::<bool>(), 0_usize..40, any::<bool>()), 0..200)
        ) {
            let mut queue = Queue::default();
            let (mut pushed, mut dropped, mut sent, mut last, mut next) = (0, 0, 0, 0, 1);
            let mut under_way: Option<(Number, Chunk)> = None;
            for (push, bytes, finish) in steps {
                if push {
                    let mut one = chunk(bytes, 1);
                    one.at_ms = next;
                    next += 1;
                    pushed += 1;
                    dropped += queue.push(one, 100);
                } else if let Some((number, chunk)) = under_way.take().filter(|_| finish) {
                    if queue.done(number) {
                        sent += chunk.samples;
                        prop_assert!(chunk.at_ms > last);
                        last = chunk.at_ms;
                    }
                } else {
                    under_way = queue.first();
                }
                prop_assert!(queue.bytes() <= 100);
            }
            dropped += queue.clear();
            prop_assert_eq!(pushed, sent + dropped);
            prop_assert_eq!(queue.bytes(), 0);
        }
    }
}
