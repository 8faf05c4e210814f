//! A round's way: own totals, numbered, sent or spooled; every tenth with a receipt.

use std::sync::Arc;

use agent_core::raw::ROOT;
use agent_core::receipt::{self, Ledgers};
use agent_core::session::{Disposition, Round, Row};
use model::metric::Metric;
use model::node::{Spooled, TaskInfo};
use model::sample::Values;
use prost::Message;
use wire::batch::{Encoder, Header, Input};
use wire::pb::agent_message::Body;

use super::Node;
use crate::source::Reading;

/// Rounds between two receipts.
const RECEIPT_EVERY: u64 = 10;
/// Memory that was needed for a moment is given back after this round, when the first slow ones are over …
const GIVE_BACK_FIRST: u64 = 15;
/// … and every so many rounds, because a reconnect or a command needs some too.
const GIVE_BACK_EVERY: u64 = 60;

impl Node {
    pub(super) fn round(&mut self, reading: &mut Reading) {
        self.keep_rows();
        self.health = reading.health;
        self.read_ms = reading.raw.boot_ns / 1_000_000;
        self.paths.extend(reading.paths.drain(..));
        let (rules, paths, processes) = (&self.rules, &mut self.paths, &self.processes);
        let (containers, now_ms) = (&mut self.containers, reading.raw.boot_ns / 1_000_000);
        let leaves = &mut self.leaves;
        let changed = self.table.observe(&reading.raw, |id, _| {
            let path = paths.remove(&id).unwrap_or_default();
            let class =
                rules.classify(&path, containers.appeared(id, &path, now_ms), || processes.first(&path));
            leaves.appeared(rules, id, &path, &class);
            class
        });
        for ended in changed.gone.iter().filter_map(|slot| self.table.info(*slot)) {
            self.containers.gone(ended.cgroup);
            self.leaves.gone(ended.cgroup);
        }
        let header = Header {
            seq: self.session.number(),
            boot_ns: reading.raw.boot_ns,
            wall_offset_ns: reading.raw.wall_offset_ns,
        };
        self.look_for_crowd(reading.raw.boot_ns);
        self.send_events();
        // Without an autoscaler nobody waits for rounds: metrics are all there is.
        if self.settings.autoscaler.is_some() {
            let Header { seq, boot_ns, wall_offset_ns } = header;
            let round = Round { seq, boot_ns, wall_offset_ns, rows: Vec::new(), gone: changed.gone.clone() };
            let (disposition, for_spool) = self.session.taken(round);
            for mut round in for_spool {
                if round.seq == seq {
                    round.rows = self.rows(&round.gone);
                }
                self.spool_round(&round);
            }
            self.rows_kept = false;
            if let Disposition::Send { snapshot } = disposition {
                self.send_round(header, &changed.gone, reading, snapshot);
            }
        }
        self.look_after_leaves();
        self.since_receipt += 1;
        if self.since_receipt >= RECEIPT_EVERY {
            self.since_receipt = 0;
            self.make_receipt(reading);
        }
        if self.health.rounds % GIVE_BACK_EVERY == GIVE_BACK_FIRST {
            agent_bpf::memory::give_back();
        }
    }

    /// Says which of our tasks wait for a disk, and for whom.
    fn look_for_crowd(&mut self, boot_ns: u64) {
        let table = &self.table;
        let readings = self.executor.disks(|cgroup| table.values(table.slot_of(cgroup)?));
        if !readings.is_empty() {
            let told = self.crowd.round(boot_ns, readings);
            let events = self.executor.crowded(told);
            self.tell_all(events);
        }
    }

    /// Copies the rows of the last round out of the table, which is about to change or to be forgotten: only when the round has not
    /// been acknowledged.
    pub(super) fn keep_rows(&mut self) {
        let last = self.session.next_seq() - 1;
        if std::mem::replace(&mut self.rows_kept, true) {
            return;
        }
        let Some(gone) = self.session.newest().filter(|round| round.seq == last).map(|r| r.gone.clone())
        else {
            return;
        };
        let rows = self.rows(&gone);
        if let Some(round) = self.session.newest() {
            round.rows = rows;
        }
    }

    /// Rows that changed, and those that ended, ascending by slot.
    fn rows(&self, gone: &[u32]) -> Vec<Row> {
        let row = |slot: u32| Some((slot, Arc::clone(self.table.info(slot)?), *self.table.values(slot)?));
        let mut rows: Vec<Row> = self.table.changed().map(|(s, i, v)| (s, Arc::clone(i), *v)).collect();
        rows.extend(gone.iter().filter_map(|slot| row(*slot)));
        rows.sort_by_key(|(slot, _, _)| *slot);
        rows
    }

    fn send_round(&mut self, header: Header, gone: &[u32], reading: &mut Reading, snapshot: bool) {
        let Some(up) = &mut self.up else { return };
        let table = &self.table;
        if snapshot {
            // It names every task anew, also those that end with it: their final totals are in it.
            up.named.clear();
        }
        // An ended row is in no later round, so it is told also when this stream has not named it: it ended in the first
        // round after an outage, or came in a round that was skipped.
        let mut appeared: Vec<(u32, TaskInfo)> = gone
            .iter()
            .filter(|slot| !up.named.contains(**slot))
            .filter_map(|slot| Some((*slot, TaskInfo::clone(table.info(*slot)?))))
            .collect();
        let unnamed = table.live().filter(|(slot, _, _)| !up.named.contains(*slot));
        appeared.extend(unnamed.map(|(slot, info, _)| (slot, TaskInfo::clone(info))));
        let mut tasks: Vec<(u32, &Values)> = table.live().map(|(slot, _, values)| (slot, values)).collect();
        if !gone.is_empty() {
            tasks.extend(gone.iter().filter_map(|slot| Some((*slot, table.values(*slot)?))));
            tasks.sort_by_key(|(slot, _)| *slot);
        }
        appeared.iter().for_each(|(slot, _)| up.named.insert(*slot));
        let delays: Vec<(u32, Vec<(u16, u64)>)> =
            reading.delays.drain(..).filter_map(|(id, delays)| Some((table.slot_of(id)?, delays))).collect();
        let input = Input { appeared: &appeared, tasks: &tasks, gone, delays: &delays };
        let batch = match up.encoder.encode(header, &input, snapshot) {
            Ok(batch) => batch,
            Err(error) => return self.lost(&format!("encoding: {error}")),
        };
        for slot in gone {
            up.named.remove(*slot);
        }
        let bytes = batch.encoded_len();
        self.wire_bytes += bytes as u64;
        self.session.spent(bytes);
        if !up.stream.send(Body::Batch(batch)) {
            self.lost("the stream is slower than one batch a round");
        }
    }

    /// When a spooled round can be sent, boot ms: there is one that is not on its way, live rounds leave credit, and the first
    /// one of the stream has named the tasks.
    pub(super) fn backlog_due_ms(&self) -> Option<u64> {
        let up = self.up.as_ref().filter(|up| !up.named.is_empty() && self.session.has_credit_to_spare())?;
        up.backlog.due_ms().filter(|_| self.spool.len() > up.backlog.under_way())
    }

    /// Sends one spooled round.
    pub(super) fn send_backlog(&mut self, now_ms: u64) {
        let Some(up) = &mut self.up else { return };
        let Some(batch) = self.spool.next(&up.backlog) else { return };
        let (key, bytes) = ((batch.boot_ns, batch.seq), batch.encoded_len());
        if !up.stream.send(Body::Batch(batch)) {
            return self.lost("the stream is slower than the rounds of the spool");
        }
        up.backlog.sent(key, now_ms);
        self.wire_bytes += bytes as u64;
        self.session.spent(bytes);
    }

    pub(super) fn spool_round(&mut self, round: &Round) {
        let appeared: Vec<(u32, TaskInfo)> =
            round.rows.iter().map(|(s, i, _)| (*s, TaskInfo::clone(i))).collect();
        let tasks: Vec<(u32, &Values)> = round.rows.iter().map(|(slot, _, values)| (*slot, values)).collect();
        let header = Header { seq: round.seq, boot_ns: round.boot_ns, wall_offset_ns: round.wall_offset_ns };
        let input = Input { appeared: &appeared, tasks: &tasks, gone: &round.gone, delays: &[] };
        let pushed = Encoder::encode_alone(header, &input)
            .map_err(|error| error.to_string())
            .and_then(|batch| self.spool.push(&batch).map_err(|e| e.to_string()));
        if let Err(why) = pushed {
            tracing::warn!(%why, "a round could not be spooled: its resolution is lost, its totals are not");
        }
    }

    fn make_receipt(&mut self, reading: &Reading) {
        let switch = |values: &Values| values.get(Metric::OnCpu);
        let rows = || self.table.live().filter(|(_, info, _)| info.cgroup != ROOT);
        let later = Ledgers {
            boot_ns: reading.raw.boot_ns,
            kernel_us: self.table.cgroups_cpu_us(),
            switch_ns: rows().filter_map(|(_, _, values)| switch(values)).reduce(|a, b| a.saturating_add(b)),
            proc_stat_us: reading.raw.busy_us.unwrap_or_default(),
            iterator_error_us: reading.health.iterator_error_us,
        };
        if let Some(earlier) = self.ledgers.replace(later)
            && let Some(mut receipt) = receipt::receipt(&earlier, &later)
        {
            receipt.spool = Some(Spooled { rounds: self.spool.len() as u64, bytes: self.spool.bytes() });
            self.receipt = Some(receipt);
            if let Some(up) = &self.up {
                // A receipt that does not fit is followed by the next one.
                let _ = up.stream.send(Body::Receipt(receipt.into()));
            }
        }
    }
}
