//! Bytes that the host's network cards received and sent, by their drivers' counters: `statistics` of each interface in sysfs
//! (Documentation/ABI/testing/sysfs-class-net-statistics).
//!
//! A card is an interface with a device below it. What goes through a bridge, a bond, a VLAN or a container's own interface goes through a card,
//! too, or does not leave the host: added up with those it would be counted twice. The total begins with what the cards have counted since they
//! came up, and does not fall when a card goes or its driver begins anew. Two `pread`s for each card and round.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use agent_core::parse;
use model::gap::Unavailable;
use model::metric::Metric;
use model::sample::Values;

/// Where the kernel lists the interfaces of a network namespace.
pub(super) const CLASS: &str = "/sys/class/net";
/// Rounds between two looks for new cards: about a minute.
const LOOK: u64 = 60;
const COUNTERS: [(&str, Metric); 2] =
    [("statistics/rx_bytes", Metric::NetworkReceived), ("statistics/tx_bytes", Metric::NetworkSent)];

/// The cards of this host.
pub(super) struct Cards {
    class: PathBuf,
    /// By the interface's number, which a new name does not change.
    cards: BTreeMap<u64, [Counter; COUNTERS.len()]>,
    totals: [u64; COUNTERS.len()],
}

struct Counter {
    file: File,
    last: u64,
}

impl Counter {
    fn open(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        let last = counted(&file)?;
        Some(Self { file, last })
    }

    /// What was added since the last time; `None` when the card is gone.
    fn gained(&mut self) -> Option<u64> {
        let now = counted(&self.file)?;
        // A driver that was loaded anew begins with nothing.
        let gained = now.checked_sub(self.last).unwrap_or(now);
        self.last = now;
        Some(gained)
    }
}

/// A `u64` in decimal and a line feed: 21 bytes at most.
fn counted(file: &File) -> Option<u64> {
    let mut buffer = [0; 32];
    let read = file.read_at(&mut buffer, 0).ok()?;
    parse::single(buffer.get(..read)?).ok().flatten()
}

impl Cards {
    pub(super) fn find(class: PathBuf) -> Self {
        let mut cards = Self { class, cards: BTreeMap::new(), totals: [0; COUNTERS.len()] };
        cards.look();
        for card in cards.cards.values() {
            for (total, counter) in cards.totals.iter_mut().zip(card) {
                *total = total.saturating_add(counter.last);
            }
        }
        cards
    }

    pub(super) fn unavailable(&self) -> Option<Unavailable> {
        let why = format!(
            "no network card among the interfaces in {}: run the agent in the host's network namespace",
            self.class.display()
        );
        self.cards.is_empty().then(|| Unavailable { what: "network".into(), why })
    }

    /// Descriptors.
    pub(super) fn kept(&self) -> usize {
        self.cards.len() * COUNTERS.len()
    }

    /// Adds the totals of the host to its root cgroup; nothing when there is no card.
    pub(super) fn read(&mut self, root: &mut Values, round: u64) {
        if round % LOOK == LOOK - 1 {
            self.look();
        }
        let totals = &mut self.totals;
        self.cards.retain(|_, card| {
            let mut there = true;
            for (total, counter) in totals.iter_mut().zip(card) {
                let gained = counter.gained();
                there &= gained.is_some();
                *total = total.saturating_add(gained.unwrap_or(0));
            }
            there
        });
        if !self.cards.is_empty() {
            COUNTERS.iter().zip(&self.totals).for_each(|((_, metric), total)| root.set(*metric, *total));
        }
    }

    /// Follows cards that are new: they count from now on.
    fn look(&mut self) {
        let Ok(entries) = fs::read_dir(&self.class) else { return };
        for entry in entries.filter_map(Result::ok) {
            let path = entry.path();
            // Of hundreds of containers' interfaces none has it.
            if !path.join("device").exists() {
                continue;
            }
            let number = fs::read(path.join("ifindex")).ok();
            let Some(number) = number.and_then(|bytes| parse::single(&bytes).ok().flatten()) else {
                continue;
            };
            if self.cards.contains_key(&number) {
                continue;
            }
            if let [Some(received), Some(sent)] = COUNTERS.map(|(file, _)| Counter::open(&path.join(file))) {
                self.cards.insert(number, [received, sent]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(class: &Path, (name, number): (&str, u64), card: bool, counted: (u64, u64)) {
        let directory = class.join(name);
        fs::create_dir_all(directory.join("statistics")).unwrap();
        fs::write(directory.join("ifindex"), format!("{number}\n")).unwrap();
        count(class, name, counted);
        if card {
            fs::create_dir_all(directory.join("device")).unwrap();
        }
    }

    fn count(class: &Path, name: &str, (received, sent): (u64, u64)) {
        fs::write(class.join(name).join("statistics/rx_bytes"), format!("{received}\n")).unwrap();
        fs::write(class.join(name).join("statistics/tx_bytes"), format!("{sent}\n")).unwrap();
    }

    fn read(cards: &mut Cards, round: u64) -> Option<(u64, u64)> {
        let mut root = Values::default();
        cards.read(&mut root, round);
        root.get(Metric::NetworkReceived).zip(root.get(Metric::NetworkSent))
    }

    #[test]
    fn cards_alone_are_added_up() {
        let dir = tempfile::tempdir().unwrap();
        interface(dir.path(), ("eth0", 2), true, (100, 10));
        interface(dir.path(), ("eth1", 3), true, (1, 1));
        interface(dir.path(), ("veth7", 9), false, (5_000, 5_000));
        let mut cards = Cards::find(dir.path().into());
        assert_eq!((read(&mut cards, 0), cards.unavailable()), (Some((101, 11)), None));
        count(dir.path(), "eth0", (150, 20));
        count(dir.path(), "veth7", (9_000, 9_000));
        assert_eq!(read(&mut cards, 1), Some((151, 21)));
    }

    #[test]
    fn a_total_never_falls_and_jumps_for_no_card_that_comes_or_is_renamed() {
        let dir = tempfile::tempdir().unwrap();
        interface(dir.path(), ("eth0", 2), true, (100, 10));
        let mut cards = Cards::find(dir.path().into());
        interface(dir.path(), ("eth1", 3), true, (7_000, 7_000));
        count(dir.path(), "eth0", (5, 3));
        assert_eq!(
            read(&mut cards, 1),
            Some((105, 13)),
            "its driver began anew; the other card is not known yet"
        );
        fs::rename(dir.path().join("eth0"), dir.path().join("lan")).unwrap();
        assert_eq!(read(&mut cards, LOOK - 1), Some((105, 13)));
        count(dir.path(), "lan", (6, 3));
        count(dir.path(), "eth1", (7_001, 7_002));
        assert_eq!(read(&mut cards, LOOK), Some((107, 15)));
    }

    #[test]
    fn a_host_without_a_card_says_so_and_gives_nothing() {
        let dir = tempfile::tempdir().unwrap();
        interface(dir.path(), ("veth7", 9), false, (5_000, 5_000));
        let mut cards = Cards::find(dir.path().into());
        assert_eq!(read(&mut cards, 0), None, "not zero");
        assert!(cards.unavailable().is_some_and(|gap| gap.what == "network"));
        interface(dir.path(), ("eth0", 2), true, (100, 10));
        fs::write(dir.path().join("eth0/statistics/tx_bytes"), "").unwrap();
        assert_eq!(read(&mut cards, LOOK - 1), None, "a counter that is none");
        assert!(Cards::find(dir.path().join("none")).unavailable().is_some());
    }

    /// By what the kernel lists in another way.
    #[test]
    fn this_hosts_cards_count_what_the_kernel_lists() {
        let listed = || -> Option<(u64, u64)> {
            let text = fs::read_to_string("/proc/net/dev").ok()?;
            let mut found = None;
            for line in text.lines() {
                let Some((name, numbers)) = line.split_once(':') else { continue };
                if Path::new(CLASS).join(name.trim()).join("device").exists() {
                    let numbers: Vec<u64> =
                        numbers.split_whitespace().filter_map(|n| n.parse().ok()).collect();
                    let sum = found.get_or_insert((0, 0));
                    *sum = (sum.0 + numbers[0], sum.1 + numbers[8]);
                }
            }
            found
        };
        let before = listed();
        let told = read(&mut Cards::find(CLASS.into()), 0);
        let after = listed();
        assert_eq!(told.is_some(), before.is_some());
        if let (Some(told), Some(before), Some(after)) = (told, before, after) {
            assert!(before.0 <= told.0 && told.0 <= after.0, "received: {before:?}, {told:?}, {after:?}");
            assert!(before.1 <= told.1 && told.1 <= after.1, "sent: {before:?}, {told:?}, {after:?}");
        }
    }
}
