//! What is sent now, what waits for its acknowledgement, what goes to disk.
//!
//! **Problem.** The stream breaks, the controller is away for a day, the agent is killed: no total may be lost, no
//! event doubled, and memory and disk stay bounded.
//! **Method.** Rounds are numbered. While the stream is up a round is sent and its changed rows are kept until they are
//! acknowledged; when it breaks, what was not acknowledged goes to the spool, and so does every later round until the
//! stream is back. Totals are cumulative, so the snapshot that begins the next stream is exact whatever was lost
//! between; the spool only gives back resolution. Events (a task's end, a command's outcome) are sent in order on the
//! same stream as the rounds, so an acknowledgement of a round covers all events before it; the others are sent again.
//! **Bounds.** Rounds without acknowledgement and events are limited; what is dropped is counted and becomes a gap.

use std::collections::VecDeque;
use std::sync::Arc;

use model::node::TaskInfo;
use model::sample::Values;

/// Most rounds kept in memory without acknowledgement; older ones go to the spool.
pub const UNACKNOWLEDGED_LIMIT: usize = 30;
/// Most events that wait.
pub const EVENT_LIMIT: usize = 10_000;
/// A snapshot of totals is sent at least this often, ns.
pub const SNAPSHOT_NS: u64 = 60_000_000_000;
/// Reconnect: shortest and longest mean wait, ms (full jitter between 0 and the bound, doubling).
pub const BACKOFF_MS: (u64, u64) = (500, 30_000);

/// Slot, task, totals.
pub type Row = (u32, Arc<TaskInfo>, Values);

/// The changed rows of one round.
#[derive(Debug, Clone, PartialEq)]
pub struct Round {
    /// Its number.
    pub seq: u64,
    /// When it was taken, CLOCK_BOOTTIME ns.
    pub boot_ns: u64,
    /// Wall clock minus boot clock then, ns.
    pub wall_offset_ns: i64,
    /// Rows that changed, and all rows that ended; see [`Session::newest`] for when they are filled in.
    pub rows: Vec<Row>,
    /// Slots that ended with it.
    pub gone: Vec<u32>,
}

/// What to do with a round.
#[derive(Debug, Clone, PartialEq)]
pub enum Disposition {
    /// Send it on the stream.
    Send {
        /// With totals.
        snapshot: bool,
    },
    /// The stream has no credit: the next one will cover it.
    Skip,
    /// It is among the rounds for the spool.
    Spool,
}

/// How the stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Down {
        retry_at_ms: u64,
    },
    Dialing,
    /// `granted` is the credit at the start of the stream.
    Up {
        granted: u64,
        credit: u64,
        skipped: u32,
    },
}

/// One agent's side of the session. `E` is what an event is.
#[derive(Debug)]
pub struct Session<E> {
    link: Link,
    attempt: u32,
    jitter: u64,
    next_seq: u64,
    unacknowledged: VecDeque<Round>,
    /// (the round that it was sent before, event); `None` = not sent on this stream.
    events: VecDeque<(Option<u64>, E)>,
    events_dropped: u64,
    last_snapshot_ns: Option<u64>,
}

impl<E: Clone> Session<E> {
    /// A session that is down and may dial at once. `seed` spreads the reconnects of a fleet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            link: Link::Down { retry_at_ms: 0 },
            attempt: 0,
            jitter: seed | 1,
            next_seq: 1,
            unacknowledged: VecDeque::new(),
            events: VecDeque::new(),
            events_dropped: 0,
            last_snapshot_ns: None,
        }
    }

    /// Whether to dial now; the answer `true` counts as an attempt.
    pub fn dial(&mut self, now_ms: u64) -> bool {
        match self.link {
            Link::Down { retry_at_ms } if now_ms >= retry_at_ms => {
                self.link = Link::Dialing;
                true
            }
            _ => false,
        }
    }

    /// When [`Self::dial`] will say yes, ms; `None` while dialing or up.
    #[must_use]
    pub fn retry_at_ms(&self) -> Option<u64> {
        match self.link {
            Link::Down { retry_at_ms } => Some(retry_at_ms),
            _ => None,
        }
    }

    /// The controller said welcome; `credit` bytes may be sent.
    ///
    /// What was sent on an earlier stream counts as not sent: the controller may have it, and takes it twice.
    pub fn welcomed(&mut self, credit: u32) {
        self.link = Link::Up { granted: credit.into(), credit: credit.into(), skipped: 0 };
        self.attempt = 0;
        self.last_snapshot_ns = None;
    }

    /// The stream broke or could not be had. Returns the rounds that nobody acknowledged: they belong in the spool.
    pub fn lost(&mut self, now_ms: u64) -> Vec<Round> {
        let bound = BACKOFF_MS.0.saturating_mul(1 << self.attempt.min(16)).min(BACKOFF_MS.1);
        self.attempt += 1;
        self.link = Link::Down { retry_at_ms: now_ms + self.random() % (bound + 1) };
        for (sent, _) in &mut self.events {
            *sent = None;
        }
        self.unacknowledged.drain(..).collect()
    }

    /// xorshift64 (Marsaglia 2003): enough to spread reconnects.
    fn random(&mut self) -> u64 {
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        self.jitter
    }

    /// Everything up to round `seq` is safe with the controller, with all events sent before it: those are returned.
    pub fn acknowledged(&mut self, seq: u64) -> Vec<E> {
        while self.unacknowledged.front().is_some_and(|round| round.seq <= seq) {
            self.unacknowledged.pop_front();
        }
        let covered = |(sent, _): &(Option<u64>, E)| sent.is_some_and(|s| s <= seq);
        let count = self.events.iter().take_while(|e| covered(e)).count();
        self.events.drain(..count).map(|(_, event)| event).collect()
    }

    /// The controller lets `bytes` more be sent, never more than at the start of the stream: it also gives back what small messages
    /// took, which nobody counted here.
    pub fn granted(&mut self, bytes: u32) {
        if let Link::Up { granted, credit, .. } = &mut self.link {
            *credit = credit.saturating_add(bytes.into()).min(*granted);
        }
    }

    /// A message of `bytes` was sent.
    pub fn spent(&mut self, bytes: usize) {
        if let Link::Up { credit, .. } = &mut self.link {
            *credit = credit.saturating_sub(bytes as u64);
        }
    }

    /// The newest round that was sent and is not acknowledged. Its rows may be filled in until the next one is taken: most rounds
    /// are acknowledged before, and then nobody had to copy them.
    pub fn newest(&mut self) -> Option<&mut Round> {
        self.unacknowledged.back_mut()
    }

    /// Numbers a round.
    pub fn number(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    /// Takes a round. Returns what to do with it, and rounds that belong in the spool: this one, or older ones that
    /// it pushes out.
    ///
    /// Without credit rounds are skipped, at most 4 of 5, then 14 of 15: the stream still shows that the node lives.
    pub fn taken(&mut self, round: Round) -> (Disposition, Vec<Round>) {
        let Link::Up { credit, skipped, .. } = &mut self.link else {
            return (Disposition::Spool, vec![round]);
        };
        let patience = if *skipped < 15 { 4 } else { 14 };
        if *credit == 0 && *skipped % (patience + 1) != patience {
            *skipped += 1;
            // A row that ended is in no later round: its end must not be skipped.
            if round.gone.is_empty() {
                return (Disposition::Skip, Vec::new());
            }
        } else if *credit > 0 {
            *skipped = 0;
        } else {
            *skipped += 1;
        }
        let due = self.last_snapshot_ns.is_none_or(|last| round.boot_ns.saturating_sub(last) >= SNAPSHOT_NS);
        if due {
            self.last_snapshot_ns = Some(round.boot_ns);
        }
        self.unacknowledged.push_back(round);
        let over = self.unacknowledged.len().saturating_sub(UNACKNOWLEDGED_LIMIT);
        (Disposition::Send { snapshot: due }, self.unacknowledged.drain(..over).collect())
    }

    /// Adds an event that must arrive. Returns false when the queue is full and the oldest was dropped.
    pub fn event(&mut self, event: E) -> bool {
        self.events.push_back((None, event));
        if self.events.len() > EVENT_LIMIT {
            self.events.pop_front();
            self.events_dropped += 1;
            return false;
        }
        true
    }

    /// Events to send now, before the next round; they count as sent with it.
    pub fn due_events(&mut self) -> Vec<E> {
        if !matches!(self.link, Link::Up { .. }) {
            return Vec::new();
        }
        let next = self.next_seq;
        let due = self.events.iter_mut().filter(|(sent, _)| sent.is_none());
        due.map(|(sent, event)| {
            *sent = Some(next);
            event.clone()
        })
        .collect()
    }

    /// Whether the stream is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    /// Whether anything but live rounds may be sent: half of the credit is theirs.
    #[must_use]
    pub fn has_credit_to_spare(&self) -> bool {
        matches!(self.link, Link::Up { granted, credit, .. } if credit > granted / 2)
    }

    /// Rounds without acknowledgement.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.unacknowledged.len()
    }

    /// Events that were dropped because their queue was full.
    #[must_use]
    pub fn events_dropped(&self) -> u64 {
        self.events_dropped
    }

    /// The number that the next round gets.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }
}

/// Which records of a full spool to keep: of every `step_ns` the last one, in the oldest part `..=upto`. Records are
/// (number, boot ns), ascending; the last of all is always kept. Returns the numbers to drop.
#[must_use]
pub fn thin(records: &[(u64, u64)], upto: usize, step_ns: u64) -> Vec<u64> {
    let end = upto.min(records.len().saturating_sub(1));
    let window = |i: usize| records[i].1 / step_ns;
    (0..end).filter(|i| window(*i) == window(*i + 1)).map(|i| records[i].0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round(seq: u64) -> Round {
        Round { seq, boot_ns: seq * 1_000_000_000, wall_offset_ns: 0, rows: vec![], gone: vec![] }
    }

    fn up(session: &mut Session<u32>) {
        assert!(session.dial(u64::MAX));
        session.welcomed(1000);
    }

    #[test]
    fn what_was_not_acknowledged_goes_to_the_spool_when_the_stream_breaks() {
        let mut s: Session<u32> = Session::new(7);
        up(&mut s);
        for expected in 1..=3 {
            let r = round(s.number());
            assert_eq!(r.seq, expected);
            let snapshot = expected == 1;
            assert_eq!(s.taken(r.clone()), (Disposition::Send { snapshot }, vec![]));
        }
        s.acknowledged(2);
        assert_eq!(s.lost(0).iter().map(|r| r.seq).collect::<Vec<_>>(), [3]);
        let r = round(s.number());
        assert_eq!(s.taken(r).0, Disposition::Spool);
    }

    #[test]
    fn an_event_is_sent_again_until_a_later_round_is_acknowledged() {
        let mut s: Session<u32> = Session::new(7);
        s.event(10);
        assert_eq!(s.due_events(), Vec::<u32>::new(), "the stream is down");
        up(&mut s);
        assert_eq!(s.due_events(), [10]);
        assert_eq!(s.due_events(), Vec::<u32>::new());
        let r = round(s.number());
        s.taken(r);
        s.lost(0);
        up(&mut s);
        assert_eq!(s.due_events(), [10], "not known whether it arrived: again");
        let r = round(s.number());
        s.taken(r.clone());
        s.acknowledged(r.seq);
        s.lost(0);
        up(&mut s);
        assert_eq!(s.due_events(), Vec::<u32>::new());
    }

    #[test]
    fn without_credit_the_interval_stretches_but_an_end_is_never_skipped() {
        let mut s: Session<u32> = Session::new(7);
        up(&mut s);
        let first = round(s.number());
        s.taken(first);
        s.spent(1000);
        let mut sent = Vec::new();
        for _ in 0..60 {
            let r = round(s.number());
            if matches!(s.taken(r.clone()).0, Disposition::Send { .. }) {
                sent.push(r.seq);
            }
        }
        let gaps: Vec<u64> = sent.windows(2).map(|w| w[1] - w[0]).collect();
        assert!(gaps.iter().all(|g| *g >= 5) && gaps.iter().any(|g| *g >= 15), "{gaps:?}");
        let last = Round { gone: vec![4], ..round(s.number()) };
        assert!(matches!(s.taken(last).0, Disposition::Send { .. }));
        s.granted(500);
        let r = round(s.number());
        assert!(matches!(s.taken(r).0, Disposition::Send { .. }));
    }

    #[test]
    fn spooled_rounds_leave_live_ones_half_of_the_credit() {
        let mut s: Session<u32> = Session::new(7);
        assert!(!s.has_credit_to_spare(), "the stream is down");
        up(&mut s);
        assert!(s.has_credit_to_spare());
        s.spent(499);
        assert!(s.has_credit_to_spare());
        s.spent(1);
        assert!(!s.has_credit_to_spare());
        let r = round(s.number());
        assert!(matches!(s.taken(r).0, Disposition::Send { .. }), "a live round goes");
        s.granted(1);
        assert!(s.has_credit_to_spare());
        s.granted(100_000);
        s.spent(500);
        assert!(!s.has_credit_to_spare(), "credit does not pile up");
    }

    #[test]
    fn reconnects_spread_and_stay_under_their_bound() {
        let mut waits = Vec::new();
        for seed in 1..200u64 {
            let mut s: Session<u32> = Session::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            for _ in 0..12 {
                s.dial(u64::MAX);
                s.lost(0);
            }
            waits.push(s.retry_at_ms().unwrap());
        }
        assert!(waits.iter().all(|w| *w <= BACKOFF_MS.1));
        let mean = waits.iter().sum::<u64>() / waits.len() as u64;
        assert!((10_000..20_000).contains(&mean), "full jitter has its mean at half the bound: {mean}");
    }

    proptest! {
        /// Every record that is dropped is covered by a later one of the same window, and the last one stays.
        #[test]
        fn thinning_keeps_the_last_of_each_window(times in prop::collection::vec(0u64..600, 1..200), upto in 0usize..200) {
            let mut times = times;
            times.sort_unstable();
            let records: Vec<(u64, u64)> = times.iter().enumerate().map(|(i, t)| (i as u64, t * 1_000_000_000)).collect();
            let dropped = thin(&records, upto, 10_000_000_000);
            for seq in &dropped {
                let (_, at) = records[*seq as usize];
                prop_assert!(records.iter().any(|(s, t)| s > seq && !dropped.contains(s) && t / 10_000_000_000 == at / 10_000_000_000));
            }
            prop_assert!(!dropped.contains(&(records.len() as u64 - 1)));
        }

        /// However the stream comes and goes, an event is delivered to the last stream unless it was acknowledged.
        #[test]
        fn no_event_is_lost(steps in prop::collection::vec(0u8..5, 1..80)) {
            let mut s: Session<u32> = Session::new(3);
            let (mut count, mut received, mut in_flight) = (0u32, std::collections::BTreeSet::new(), Vec::new());
            for step in steps {
                match step {
                    0 => { count += 1; s.event(count); }
                    1 if s.is_up() => {
                        in_flight.extend(s.due_events());
                        let r = round(s.number());
                        s.taken(r.clone());
                    }
                    2 if s.is_up() => { received.extend(in_flight.drain(..)); s.acknowledged(s.next_seq() - 1); }
                    3 => { s.lost(0); in_flight.clear(); }
                    4 if s.dial(u64::MAX) => s.welcomed(1000),
                    _ => {}
                }
            }
            if !s.is_up() { s.dial(u64::MAX); s.welcomed(1000); }
            in_flight.extend(s.due_events());
            received.extend(in_flight);
            prop_assert_eq!(received.len() as u32, count);
        }
    }
}
