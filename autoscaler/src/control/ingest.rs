//! A batch of one agent: into the fleet, and to history.

use autoscaler_core::event::Time;
use wire::batch::Header;

use super::Control;
use super::peers::{SessionId, ToAgent};
use crate::clock;
use crate::history::{self, Observed, Reading};
use crate::ingest::{Batch, ended_of_backlog, into_fleet};

impl Control {
    pub(super) fn batch(&mut self, session: SessionId, batch: &Batch) {
        let now = self.clock.now();
        let Some(peer) = self.peers.get_mut(session) else { return };
        peer.last_heard = now;
        self.metrics.batches.inc();
        self.metrics.samples.inc_by(batch.samples() as u64);
        if batch.backlog {
            let node = peer.node.clone();
            if batch.gone.is_empty() {
                // Resolution only: history may lose its last minute anyway, so nobody waits for the disk.
                peer.put(ToAgent::Ack(batch.header.seq));
            } else {
                peer.backlog.push(batch.header.seq);
            }
            self.ended.extend(ended_of_backlog(peer.incarnation, batch).map(|ended| (node.clone(), ended)));
        } else {
            peer.handled = peer.handled.max(batch.header.seq);
            peer.owed += batch.changed.len();
            peer.prompt |= !batch.gone.is_empty();
            into_fleet(&mut self.fleet, &peer.node, &mut peer.slots, batch, now);
            self.fleet.clock_skew(&peer.node, skew_ms(&batch.header, clock::wall_ms()));
        }
        // The node's boot clock on controller time; a batch is never later than now.
        let boot_ms = i64::try_from(batch.header.boot_ns / 1_000_000).unwrap_or(i64::MAX);
        let at = u64::try_from(boot_ms.saturating_add(peer.offset_ms)).unwrap_or(0).min(now.0);
        self.observed.push(Observed {
            node: peer.node.clone(),
            boot: peer.incarnation.boot,
            at: Time(at),
            snapshot: batch.snapshot,
            backlog: batch.backlog,
            appeared: batch.appeared.iter().map(|(slot, info)| (*slot, info.cgroup)).collect(),
            changed: batch.changed.iter().map(|(s, c, values)| Reading::new(*s, *c, values)).collect(),
            gone: batch.gone.iter().map(|g| Reading::new(g.slot, g.cgroup, &g.values)).collect(),
        });
        if self.observed.len() >= history::AT_ONCE {
            self.hand_over();
        }
    }

    /// Gives history what was observed since the last time: once a round, so that it is woken once.
    pub(super) fn hand_over(&mut self) {
        self.history.observe(std::mem::take(&mut self.observed));
    }
}

/// How far the wall clock that a batch was taken by is ahead of one that reads `wall_ms` now, ms.
fn skew_ms(header: &Header, wall_ms: u64) -> i64 {
    let taken_ms = (i128::from(header.boot_ns) + i128::from(header.wall_offset_ns)) / 1_000_000;
    let ahead = taken_ms - i128::from(wall_ms);
    i64::try_from(ahead).unwrap_or(if ahead < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_ahead_is_ahead_and_hostile_ones_do_not_overflow() {
        let at = |boot_ns, wall_offset_ns| Header { seq: 1, boot_ns, wall_offset_ns };
        assert_eq!(skew_ms(&at(5_000_000_000, 1_000_000_000_000), 1_004_000), 1_000);
        assert_eq!(skew_ms(&at(5_000_000_000, 1_000_000_000_000), 1_005_030), -30);
        assert_eq!(skew_ms(&at(u64::MAX, i64::MAX), 0), 27_670_116_110_564);
        assert_eq!(skew_ms(&at(0, i64::MIN), u64::MAX), i64::MIN);
    }
}
