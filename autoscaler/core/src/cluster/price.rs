//! What a change of a cluster is expected to cost, before it begins, and how well that was foreseen.
//!
//! A drain lasts as long as its longest application, data as long as its bytes take. How fast those are is learned from the changes that were
//! carried out to their end; before the first one the start values below hold.

use model::cassandra::CassandraReport;
use model::hdfs::HdfsReport;
use model::yarn::YarnReport;
use serde::{Deserialize, Serialize};

use super::gate::Ring;

/// What a change is expected to cost.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Price {
    /// How long, s.
    pub seconds: u64,
    /// Data that moves, bytes.
    pub bytes: u64,
    /// What can be lost by it, in words.
    pub risk: String,
}

/// How fast changes are, as learned.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// A busy NodeManager until it has drained, s.
    pub drain_s: f64,
    /// What any change takes beside its data or work, s.
    pub fixed_s: f64,
    /// Data that moves, bytes per second.
    pub bytes_per_s: f64,
}

impl Default for Rates {
    /// A job of some minutes; a process that ends in 10–22 s or starts in 5–20 s (workloads.md); a fifth of a gigabit network, which
    /// Cassandra's (24 MiB/s per stream) and HDFS's own limits are near to.
    fn default() -> Self {
        Self { drain_s: 300.0, fixed_s: 25.0, bytes_per_s: 24.0 * 1024.0 * 1024.0 }
    }
}

/// Share of what was learned before that a new observation replaces.
const LEARN: f64 = 0.3;
/// Less data than this says nothing about a rate, bytes.
const ENOUGH: u64 = 256 << 20;

impl Rates {
    fn moves(&self, bytes: u64) -> u64 {
        (self.fixed_s + bytes as f64 / self.bytes_per_s.max(1.0)).ceil() as u64
    }

    /// A change that moved `bytes` took so long; `busy` = it was a drain of a node with containers.
    pub fn learn(&mut self, bytes: u64, busy: bool, took_s: f64) {
        let toward = |old: &mut f64, new: f64| *old += LEARN * (new - *old);
        if bytes >= ENOUGH {
            toward(&mut self.bytes_per_s, bytes as f64 / (took_s - self.fixed_s).max(1.0));
        } else if busy {
            toward(&mut self.drain_s, (took_s - self.fixed_s).max(0.0));
        } else {
            toward(&mut self.fixed_s, took_s);
        }
    }
}

/// Of a member that comes.
#[must_use]
pub fn join(rates: &Rates, bytes: u64) -> Price {
    let risk = "nothing: it is no member until it has joined".to_owned();
    Price { seconds: rates.moves(bytes), bytes, risk }
}

/// Of a NodeManager that leaves.
#[must_use]
pub fn yarn_leave(rates: &Rates, report: &YarnReport, host: &str) -> Price {
    let node = report.nodes.iter().find(|node| node.host == host);
    let containers = node.map_or(0, |node| node.containers);
    // One without containers may still hold output that applications fetch.
    let busy = containers > 0 || report.apps_running > 0;
    let seconds = rates.fixed_s + if busy { rates.drain_s } else { 0.0 };
    let risk = match containers {
        0 => "no container runs on it".to_owned(),
        1 => "one container is waited for; map output on it is fetched before it goes".to_owned(),
        n => format!("{n} containers are waited for; map output on it is fetched before it goes"),
    };
    Price { seconds: seconds.ceil() as u64, bytes: 0, risk }
}

/// Of a DataNode that leaves.
#[must_use]
pub fn hdfs_leave(rates: &Rates, report: &HdfsReport, name: &str) -> Price {
    let node = report.nodes.iter().find(|node| node.name == name);
    let (bytes, blocks) = node.map_or((0, 0), |node| (node.used_bytes, node.blocks));
    let risk = format!("{blocks} blocks are copied before it goes; none has fewer replicas meanwhile");
    Price { seconds: rates.moves(bytes), bytes, risk }
}

/// Of a Cassandra node that leaves.
#[must_use]
pub fn ring_leave(rates: &Rates, ring: &Ring, member: &str) -> Price {
    let bytes = ring.get(member).map_or(0, |node| node.load_bytes);
    let risk = "from when it leaves it cannot be stopped without killing it; its requests go to the others"
        .to_owned();
    Price { seconds: rates.moves(bytes), bytes, risk }
}

/// Of a Cassandra node that joins: an equal share of all data.
#[must_use]
pub fn ring_join(rates: &Rates, ring: &Ring) -> Price {
    let loads = ring.values().map(|node: &CassandraReport| node.load_bytes);
    let all = loads.fold(0, u64::saturating_add);
    join(rates, all / (ring.len() as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_what_was_seen_and_small_moves_say_nothing_about_them() {
        let mut rates = Rates::default();
        let before = rates.bytes_per_s;
        rates.learn(1 << 20, false, 40.0);
        assert!(rates.bytes_per_s == before && rates.fixed_s > 25.0);
        for _ in 0..20 {
            rates.learn(10 << 30, false, 1_030.0);
        }
        let seconds = join(&rates, 10 << 30).seconds;
        assert!((1_000..1_060).contains(&seconds), "{seconds}");
        rates.learn(0, true, 100.0);
        assert!(rates.drain_s < 300.0);
    }
}
