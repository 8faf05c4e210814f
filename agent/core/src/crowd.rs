//! Who crowds the disks: which of our tasks wait for them, and which of our tasks move most of the bytes.
//!
//! **Problem.** A task that reads or writes without end slows all others, and nothing in their own figures says why.
//! **Method.** A task waits when some thread of it stood still for a disk in two fifths of its last two rounds (the kernel's total in
//! `io.pressure`). Then the bytes of all our tasks in the same time are compared: the one that moved at least half of them is named.
//! **Bounds.** Two rounds at a second each: said within two seconds. What was not read is not compared; a task is not said to wait again
//! before [`AGAIN_NS`]. Tasks that are not ours have no vote: their bytes are read more rarely.

use std::collections::BTreeMap;

use model::action::Crowded;
use model::id::TaskName;

/// Share of the time that is borne, parts per million. At two fifths a task does about as much work in the time as if its disk were two fifths
/// slower; short bursts of writing out are below it over two rounds.
const BORNE_PPM: u64 = 400_000;
/// Share of our tasks' bytes that names the one that moves them, parts per million.
const MOST_PPM: u64 = 500_000;
/// Time between two words about a task that goes on waiting.
pub const AGAIN_NS: u64 = 10_000_000_000;
/// The shortest time that is judged: less is no two rounds.
const SHORTEST_NS: u64 = 500_000_000;

/// What a round says of one of our tasks; `None` is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Which.
    pub task: TaskName,
    /// Time in which some thread waited for a disk, total, µs.
    pub stall_us: Option<u64>,
    /// Bytes read and written, total.
    pub bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    at_ns: u64,
    stall_us: Option<u64>,
    bytes: Option<u64>,
}

#[derive(Debug)]
struct Seen {
    /// The round before the last, and the last.
    before: Option<Point>,
    last: Point,
    told_ns: Option<u64>,
}

/// Our tasks over the last rounds.
#[derive(Debug, Default)]
pub struct Crowd(BTreeMap<TaskName, Seen>);

impl Crowd {
    /// Takes one round at `now_ns` (CLOCK_BOOTTIME); who waits, and for whom. Tasks that are not in it are forgotten.
    pub fn round(&mut self, now_ns: u64, readings: Vec<Reading>) -> Vec<(TaskName, Crowded)> {
        let mut seen = BTreeMap::new();
        let mut moved: Vec<(TaskName, u64, u64)> = Vec::new();
        let mut waiting = Vec::new();
        for Reading { task, stall_us, bytes } in readings {
            let point = Point { at_ns: now_ns, stall_us, bytes };
            let earlier = self.0.remove(&task);
            let told_ns = earlier.as_ref().and_then(|seen| seen.told_ns);
            if let Some(from) = earlier.as_ref().and_then(|seen| seen.before)
                && let Some(ns) = now_ns.checked_sub(from.at_ns).filter(|ns| *ns >= SHORTEST_NS)
            {
                let gained = |now: Option<u64>, then: Option<u64>| now?.checked_sub(then?);
                if let Some(bytes) = gained(bytes, from.bytes) {
                    moved.push((task.clone(), bytes, ns));
                }
                let part = |us: u64| (u128::from(us) * 1_000_000_000 / u128::from(ns)).min(1_000_000) as u64;
                let stalled = gained(stall_us, from.stall_us).map(part);
                let again = told_ns.is_none_or(|told| now_ns.saturating_sub(told) >= AGAIN_NS);
                if let Some(ppm) = stalled.filter(|ppm| *ppm >= BORNE_PPM && again) {
                    waiting.push((task.clone(), ppm));
                }
            }
            seen.insert(task, Seen { before: earlier.map(|seen| seen.last), last: point, told_ns });
        }
        self.0 = seen;
        let all = moved.iter().fold(0_u64, |all, (_, bytes, _)| all.saturating_add(*bytes));
        let share = |bytes: u64| (u128::from(bytes) * 1_000_000 / u128::from(all.max(1))) as u64;
        let most =
            moved.iter().max_by_key(|(_, bytes, _)| *bytes).filter(|(_, bytes, _)| share(*bytes) >= MOST_PPM);
        let told = waiting.into_iter().map(|(task, ppm)| {
            if let Some(seen) = self.0.get_mut(&task) {
                seen.told_ns = Some(now_ns);
            }
            let crowded = Crowded {
                stalled_ppm: ppm as u32,
                by: most.map(|(by, _, _)| by.clone()),
                share_ppm: most.map_or(0, |(_, bytes, _)| share(*bytes) as u32),
                bytes_per_s: most.map_or(0, |(_, bytes, ns)| {
                    (u128::from(*bytes) * 1_000_000_000 / u128::from(*ns)) as u64
                }),
            };
            (task, crowded)
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: u64 = 1_000_000_000;

    fn reading(task: &str, stall_us: u64, bytes: u64) -> Reading {
        Reading { task: task.parse().unwrap(), stall_us: Some(stall_us), bytes: Some(bytes) }
    }

    /// `web` waits from second 3 on, and `hog` moves nearly everything.
    fn round(crowd: &mut Crowd, second: u64) -> Vec<(TaskName, Crowded)> {
        let busy = second.saturating_sub(3);
        let readings = vec![
            reading("hog-1", busy * 900_000, busy * 95_000_000),
            reading("web-1", busy * 700_000, busy * 5_000_000),
        ];
        crowd.round(second * S, readings)
    }

    #[test]
    fn who_waits_is_told_within_two_rounds_with_who_makes_it_wait() {
        let mut crowd = Crowd::default();
        let told: Vec<_> = (1..=5).map(|second| round(&mut crowd, second)).collect();
        assert!(told[..3].iter().all(Vec::is_empty), "nobody waits: {told:?}");
        let at = told.iter().position(|told| !told.is_empty()).unwrap();
        let (task, web) = told[at].iter().find(|(task, _)| task.as_str() == "web-1").unwrap_or(&told[at][0]);
        assert!(at <= 4 && web.by.as_ref().is_some_and(|by| by.as_str() == "hog-1"), "{task}: {web:?}");
        assert_eq!(web.share_ppm, 950_000);
        let (_, all) = &told[4].last().unwrap();
        assert_eq!(all.bytes_per_s, 95_000_000);
    }

    #[test]
    fn it_is_not_told_again_at_once() {
        let mut crowd = Crowd::default();
        let times: Vec<u64> = (1..=40)
            .filter(|second| round(&mut crowd, *second).iter().any(|(task, _)| task.as_str() == "web-1"))
            .collect();
        assert!(times.windows(2).all(|two| two[1] - two[0] == AGAIN_NS / S), "{times:?}");
        assert!(times.len() >= 3, "{times:?}");
    }

    #[test]
    fn what_is_not_known_accuses_nobody() {
        let mut crowd = Crowd::default();
        for second in 1..10 {
            let unknown = |task: &str| Reading { task: task.parse().unwrap(), stall_us: None, bytes: None };
            assert!(crowd.round(second * S, vec![unknown("web-1"), unknown("hog-1")]).is_empty());
        }
        for second in 10..20 {
            let waits = Reading { bytes: None, ..reading("web-1", second * 1_000_000, 0) };
            let told = crowd.round(second * S, vec![waits]);
            assert!(told.iter().all(|(_, crowded)| crowded.by.is_none()), "{told:?}");
        }
    }

    #[test]
    fn a_quarter_each_is_nobodys_doing() {
        let mut crowd = Crowd::default();
        let mut told = Vec::new();
        for second in 1..6 {
            let readings = (0..4).map(|n| reading(&format!("web-{n}"), second * 800_000, second * 1_000_000));
            told.extend(crowd.round(second * S, readings.collect()));
        }
        assert_eq!(told.len(), 4);
        assert!(told.iter().all(|(_, crowded)| crowded.by.is_none() && crowded.bytes_per_s == 0));
    }

    proptest! {
        #[test]
        fn any_numbers_give_shares_within_bounds(
            rounds in prop::collection::vec((any::<u64>(), prop::collection::vec((any::<Option<u64>>(), any::<Option<u64>>()), 0..4)), 0..12)
        ) {
            let mut crowd = Crowd::default();
            for (now, tasks) in rounds {
                let readings = tasks.into_iter().enumerate().map(|(n, (stall_us, bytes))| Reading {
                    task: format!("web-{n}").parse().unwrap(),
                    stall_us: stall_us.map(|us| us >> 20),
                    bytes: bytes.map(|bytes| bytes >> 3),
                });
                for (_, crowded) in crowd.round(now, readings.collect()) {
                    prop_assert!(u64::from(crowded.stalled_ppm) >= BORNE_PPM && crowded.stalled_ppm <= 1_000_000);
                    prop_assert!(crowded.share_ppm <= 1_000_000);
                }
            }
        }
    }
}
