//! When does a cluster have least to do? Deleting what a ring's nodes do not own any more, or moving blocks to a node that came, can wait for that.
//!
//! Problem: both move everything that a node has, for hours, and take disk and network from requests; nothing is lost when it comes later in the
//! day. Method: the requests of each quarter of an hour of the last day; a quarter is low when it is among the lowest quarter of them, and
//! tomorrow is expected to be like today. Bounds: until a day is known nothing is expected, and nothing waits; who waits, waits for less than a day,
//! because each day has a lowest quarter.

use std::collections::BTreeMap;

use crate::event::Time;

/// Length of a slot of the day, ms.
const SLOT_MS: u64 = 900_000;
/// Slots of a day.
const SLOTS: usize = 96;
/// A day is known when so many of its slots are: agents and autoscalers are restarted.
const KNOWN: usize = 88;
/// This share of the slots is low.
const LOW: f64 = 0.25;
/// Up to so much above the level of low ones is as good: counting is never even.
const ALIKE: f64 = 1.1;

/// Requests in one slot.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Of which day, and from 1: 0 = none yet.
    day: u64,
    requests: u64,
    /// Time in which they were counted, of all nodes, ms.
    counted_ms: u64,
}

impl Slot {
    /// Requests of one node, 1/s.
    fn rate(&self) -> Option<f64> {
        (self.counted_ms > 0).then(|| self.requests as f64 * 1e3 / self.counted_ms as f64)
    }
}

/// The last day of a cluster.
#[derive(Debug, Clone)]
pub(super) struct Valley {
    slots: [Slot; SLOTS],
    /// What was counted last, by node, and when.
    last: BTreeMap<String, (u64, Time)>,
}

impl Default for Valley {
    fn default() -> Self {
        Self { slots: [Slot::default(); SLOTS], last: BTreeMap::new() }
    }
}

impl Valley {
    /// Takes in how many requests a node has ever had.
    pub(super) fn observe(&mut self, node: &str, requests: u64, at: Time) {
        let before = self.last.insert(node.to_owned(), (requests, at));
        let Some((before, since)) = before else { return };
        // A node that was started again counts from zero, and of a long silence nobody knows when it was that they came.
        let (Some(new), 1..SLOT_MS) = (requests.checked_sub(before), at.since(since)) else { return };
        let (day, slot) = place(at);
        if let Some(slot) = self.slots.get_mut(slot) {
            if slot.day != day + 1 {
                *slot = Slot { day: day + 1, ..Slot::default() };
            }
            slot.requests = slot.requests.saturating_add(new);
            slot.counted_ms += at.since(since);
        }
    }

    /// Takes in how many requests are under way on a node: each counts as one a second.
    pub(super) fn observe_level(&mut self, node: &str, under_way: u64, at: Time) {
        let (sum, since) = self.last.get(node).copied().unwrap_or((0, at));
        self.observe(node, sum.saturating_add(under_way.saturating_mul(at.since(since)) / 1_000), at);
    }

    /// How long until the next slot that is low, ms: 0 = this one is. `None` while no day is known.
    pub(super) fn wait_ms(&self, now: Time) -> Option<u64> {
        let mut rates: Vec<f64> = self.slots.iter().filter_map(Slot::rate).collect();
        if rates.len() < KNOWN {
            return None;
        }
        rates.sort_unstable_by(f64::total_cmp);
        let level = rates.get(((rates.len() - 1) as f64 * LOW) as usize)? * ALIKE;
        let (_, slot) = place(now);
        let low = |ahead: &usize| {
            let slot = self.slots.get((slot + ahead) % SLOTS);
            slot.and_then(Slot::rate).is_some_and(|rate| rate <= level)
        };
        let ahead = (0..SLOTS).find(low)? as u64;
        let into = now.0 % SLOT_MS;
        Some(if ahead == 0 { 0 } else { ahead * SLOT_MS - into })
    }
}

fn place(at: Time) -> (u64, usize) {
    let slot = at.0 / SLOT_MS;
    (slot / SLOTS as u64, (slot % SLOTS as u64) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: u64 = 3_600_000;

    /// Lives through hours of requests, each so many per second.
    fn live(valley: &mut Valley, total: &mut u64, from: u64, hours: u64, per_second: impl Fn(u64) -> u64) {
        let step = 60_000;
        for n in 0..hours * HOUR / step {
            let at = Time(from + n * step);
            *total += per_second(at.0 / HOUR % 24) * step / 1_000;
            valley.observe("10.0.0.1", *total, at);
        }
    }

    /// Nights from 0 to 6.
    fn day(hour: u64) -> u64 {
        if hour < 6 { 10 } else { 300 }
    }

    #[test]
    fn nothing_waits_before_a_day_is_known_and_then_it_waits_for_the_night() {
        let (mut valley, mut total) = (Valley::default(), 0);
        live(&mut valley, &mut total, 0, 20, day);
        assert_eq!(valley.wait_ms(Time(20 * HOUR)), None);
        live(&mut valley, &mut total, 20 * HOUR, 28, day);
        assert_eq!(valley.wait_ms(Time(50 * HOUR)), Some(0), "two in the morning");
        assert_eq!(valley.wait_ms(Time(60 * HOUR)), Some(12 * HOUR));
        assert_eq!(valley.wait_ms(Time(60 * HOUR + 100_000)), Some(12 * HOUR - 100_000));
    }

    #[test]
    fn what_is_under_way_says_as_much_as_what_was_asked() {
        let mut valley = Valley::default();
        for minute in 0..48 * 60 {
            valley.observe_level("name-node", day(minute / 60 % 24), Time(minute * 60_000));
        }
        assert_eq!(valley.wait_ms(Time(50 * HOUR)), Some(0));
        assert_eq!(valley.wait_ms(Time(60 * HOUR)), Some(12 * HOUR));
    }

    #[test]
    fn an_even_load_is_always_low_and_a_restart_counts_for_nothing() {
        let (mut valley, mut total) = (Valley::default(), 0);
        live(&mut valley, &mut total, 0, 24, |_| 50);
        total = 0;
        live(&mut valley, &mut total, 24 * HOUR, 10, |_| 50);
        for hour in 34..58 {
            assert_eq!(valley.wait_ms(Time(hour * HOUR)), Some(0));
        }
    }

    proptest! {
        /// Whatever a day was like, who waits waits for less than a day, and then it is low.
        #[test]
        fn the_wait_ends_within_a_day(rates in proptest::collection::vec(0_u64..2_000, 24), now in 0..24 * HOUR) {
            let (mut valley, mut total) = (Valley::default(), 0);
            live(&mut valley, &mut total, 0, 24, |hour| rates[hour as usize]);
            let now = Time(24 * HOUR + now);
            let wait = valley.wait_ms(now).unwrap();
            prop_assert!(wait < 24 * HOUR);
            prop_assert_eq!(valley.wait_ms(now.after(wait)), Some(0));
        }
    }
}
