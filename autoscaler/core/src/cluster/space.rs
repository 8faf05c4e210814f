//! How many members the data of a cluster needs: HDFS by the space its blocks take, Cassandra by its fullest disk and by its latency.
//!
//! Problem: data comes slowly and moves slowly, and a disk that is full stops everything. Method: the share of the space in use against the
//! target, and members in proportion; a member less only when the others would still be below the target. Bounds: nothing is known of
//! what is not reported, so a member that is silent freezes the shrink.

use model::cassandra::CassandraReport;
use model::hdfs::{AdminState, DataNode, HdfsReport};
use model::reason::{Reason, Signal};
use model::workload::Target;

use super::gate::Ring;
use crate::assess::Assessment;

/// Disks are at most so full when no target is given (workloads.md: out at ≥ 60 %).
pub const DISK: f64 = 0.6;

/// Members for `used` of `capacity` bytes on `there` members: a wish on disk space.
fn wish(said: &mut Assessment, (used, capacity): (f64, f64), there: u32, target: f64) {
    let count = f64::from(there.max(1));
    let share = if capacity > 0.0 { used / capacity } else { 0.0 };
    (said.utilisation, said.load) = (share, count * share / target);
    said.ahead = said.load;
    let detail =
        format!("{:.0} % of the space of {there} is in use, target {:.0} %", share * 100.0, target * 100.0);
    // As many as would be at the target; one at least.
    let wish = (count * share / target).ceil().max(1.0) as u32;
    said.wish(Signal::Disk, wish, detail);
    if share > target {
        said.grow.push(Reason::LevelAbove { signal: Signal::Disk, level: share, target, held_ms: 0 });
    }
}

/// What HDFS says.
#[must_use]
pub fn hdfs(report: Option<&HdfsReport>, target: &Target, wanted: u32) -> Assessment {
    let Some(report) = report else { return Assessment::blind(wanted, Vec::new()) };
    let there = u32::try_from(serving(report).count()).unwrap_or(u32::MAX);
    let mut said = Assessment::blind(1, Vec::new());
    wish(&mut said, space(report), there, target.disk.map_or(DISK, |share| share.0));
    if let Some(replicas) = report.replication {
        said.wish(
            Signal::Bounds,
            replicas,
            format!("{replicas} replicas of a block, each on a node of its own"),
        );
    }
    said
}

fn serving(report: &HdfsReport) -> impl Iterator<Item = &DataNode> {
    report.nodes.iter().filter(|node| node.alive && node.state == AdminState::Normal)
}

/// Bytes in use and all that there are, of the nodes in service. What others take of the disks, or keep for themselves, is not there for
/// blocks: it lessens what remains.
fn space(report: &HdfsReport) -> (f64, f64) {
    let used = serving(report).map(|node| node.used_bytes as f64).sum();
    let all = serving(report).map(|node| node.used_bytes.saturating_add(node.remaining_bytes) as f64).sum();
    (used, all)
}

/// Share of HDFS's space that is in use; `None` where there is none.
#[must_use]
pub fn hdfs_disk(report: &HdfsReport) -> Option<f64> {
    let (used, all) = space(report);
    (all > 0.0).then(|| used / all)
}

/// One that has left keeps answering until its process ends, and one that joins has not all of its data yet.
fn full(ring: &Ring) -> impl Iterator<Item = &CassandraReport> {
    ring.values().filter(|view| view.mode.is_full())
}

/// Share in use of each disk that is known.
fn disks(ring: &Ring) -> impl Iterator<Item = f64> {
    full(ring).filter_map(|view| {
        let (all, free) = (view.disk_bytes?, view.disk_free_bytes?);
        Some(all.saturating_sub(free) as f64 / (all as f64).max(1.0))
    })
}

/// Share in use of a ring's fullest disk, which fills up first; `None` when none is known.
#[must_use]
pub fn ring_disk(ring: &Ring) -> Option<f64> {
    disks(ring).reduce(f64::max)
}

/// 99 % of a ring's requests take at most so long at the slowest member, ms; `None` when none tells it.
#[must_use]
pub fn ring_latency_ms(ring: &Ring) -> Option<f64> {
    full(ring).filter_map(|view| view.reads.p99_us.max(view.writes.p99_us)).max().map(|us| us as f64 / 1e3)
}

/// What a ring says, by fresh reports.
#[must_use]
pub fn ring(ring: &Ring, target: &Target, wanted: u32) -> Assessment {
    let members: Vec<&CassandraReport> = full(ring).collect();
    let there = u32::try_from(members.len()).unwrap_or(u32::MAX);
    if there == 0 {
        return Assessment::blind(wanted, Vec::new());
    }
    let mut said = Assessment::blind(1, Vec::new());
    if disks(ring).count() < members.len() {
        said.frozen.push(Reason::Missing { signal: Signal::Disk });
    }
    let fullest = ring_disk(ring).unwrap_or(0.0);
    wish(&mut said, (fullest, 1.0), there, target.disk.map_or(DISK, |share| share.0));
    if let Some((limit, p99_ms)) = target.latency_p99.zip(ring_latency_ms(ring)) {
        let limit_ms = limit.0.max(1) as f64;
        let above = p99_ms > limit_ms;
        let detail = format!("99 % of requests take up to {p99_ms:.1} ms, target {limit_ms:.0} ms");
        // One at a time: what another node brings is not known before it is there.
        said.wish(Signal::Latency, if above { there + 1 } else { 1 }, detail);
        if above {
            let (signal, level) = (Signal::Latency, p99_ms / limit_ms);
            said.grow.push(Reason::LevelAbove { signal, level, target: 1.0, held_ms: 0 });
        }
    }
    let most = members.iter().flat_map(|view| view.replication.values()).max().copied();
    if let Some(replicas) = most {
        said.wish(
            Signal::Bounds,
            replicas,
            format!("{replicas} replicas of a keyspace, each on a node of its own"),
        );
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing;
    use model::units::{Millis, Share};

    fn target(disk: f64) -> Target {
        Target { disk: Some(Share(disk)), ..Target::default() }
    }

    #[test]
    fn members_are_in_proportion_to_the_space_in_use_and_never_fewer_than_replicas() {
        let report = testing::hdfs(3, 700, 1_000);
        assert_eq!(hdfs(Some(&report), &target(0.5), 3).need, 5);
        assert_eq!(hdfs(Some(&testing::hdfs(6, 100, 1_000)), &target(0.5), 6).need, 2, "two replicas");
        assert_eq!(hdfs(None, &target(0.5), 4).need, 4);
    }

    #[test]
    fn what_is_not_told_is_no_number() {
        let report = testing::hdfs(3, 700, 1_000);
        assert_eq!(hdfs_disk(&report), Some(0.7));
        assert_eq!(hdfs_disk(&testing::file_system(Vec::new())), None);
        let mut cluster = testing::ring(2, 300, 1_000);
        assert_eq!((ring_disk(&cluster), ring_latency_ms(&cluster)), (Some(0.3), None));
        cluster.get_mut("10.0.0.1").unwrap().writes.p99_us = Some(2_500);
        cluster.get_mut("10.0.0.2").unwrap().disk_bytes = None;
        assert_eq!((ring_disk(&cluster), ring_latency_ms(&cluster)), (Some(0.3), Some(2.5)));
        cluster.get_mut("10.0.0.1").unwrap().disk_free_bytes = None;
        assert_eq!((ring_disk(&cluster), ring_disk(&Ring::new())), (None, None));
    }

    #[test]
    fn the_fullest_disk_and_the_slowest_coordinator_decide() {
        let mut cluster = testing::ring(4, 300, 1_000);
        assert_eq!(ring(&cluster, &target(0.6), 4).need, 3, "three replicas");
        cluster.get_mut("10.0.0.2").unwrap().disk_free_bytes = Some(100);
        assert_eq!(ring(&cluster, &target(0.6), 4).need, 6);
        let slow = Target { latency_p99: Some(Millis(10)), ..target(0.95) };
        cluster.get_mut("10.0.0.3").unwrap().reads.p99_us = Some(12_000);
        let said = ring(&cluster, &slow, 4);
        assert_eq!((said.need, said.signal), (5, Signal::Latency));
        cluster.get_mut("10.0.0.3").unwrap().disk_bytes = None;
        assert!(!ring(&cluster, &slow, 4).frozen.is_empty(), "nothing is known of its disk");
    }
}
