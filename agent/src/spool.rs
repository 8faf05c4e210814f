//! Where rounds wait while the autoscaler is away: one file per round, thinned when it grows too large.
//!
//! A round here stands alone: totals of the tasks that changed, in its own compression. Totals are cumulative, so a
//! round that is dropped costs resolution, never a count. The name of a file is the round's number and time; a file is
//! written beside and renamed, with its checksum at the end, so a crash leaves whole rounds only.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use agent_core::backlog::{Backlog, Key};
use agent_core::session::thin;
use model::gap::{Gap, GapKind};
use prost::Message;
use wire::pb::SampleBatch;

/// Rounds are merged to one in ten seconds first, then one in a minute.
const STEPS_NS: [u64; 2] = [10_000_000_000, 60_000_000_000];

/// Why the spool cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("spool {path}: {error}")]
pub struct SpoolError {
    /// Which file or directory.
    pub path: PathBuf,
    /// What happened.
    pub error: io::Error,
}

/// Rounds on disk.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    limit: u64,
    bytes: u64,
    /// Bytes of each.
    records: BTreeMap<Key, u64>,
    merged: u64,
    dropped: u64,
    /// Boot time of the first and last round merged or dropped since it was last told, ns.
    hole: Option<(GapKind, u64, u64)>,
}

impl Spool {
    /// Opens a spool of at most `limit` bytes. Rounds of another boot or agent are kept out by `epoch`: the name of its
    /// directory.
    ///
    /// # Errors
    /// [`SpoolError`] when the directory cannot be had.
    pub fn open(state: &Path, epoch: u64, limit: u64) -> Result<Self, SpoolError> {
        let top = state.join("spool");
        let directory = top.join(epoch.to_string());
        let fault = |path: &Path, error| SpoolError { path: path.to_owned(), error };
        fs::create_dir_all(&directory).map_err(|e| fault(&directory, e))?;
        for entry in fs::read_dir(&top).map_err(|e| fault(&top, e))?.filter_map(Result::ok) {
            // Numbers of an earlier agent mean nothing to this one's stream; its totals live on in the kernel.
            if entry.path() != directory {
                fs::remove_dir_all(entry.path()).map_err(|e| fault(&entry.path(), e))?;
            }
        }
        Ok(Self { directory, limit, bytes: 0, records: BTreeMap::new(), merged: 0, dropped: 0, hole: None })
    }

    /// Adds a round.
    ///
    /// # Errors
    /// [`SpoolError`] when the disk says no: the round is dropped and counted, the next one may fit.
    pub fn push(&mut self, batch: &SampleBatch) -> Result<(), SpoolError> {
        let mut bytes = batch.encode_to_vec();
        let sum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        let path = self.path(batch.boot_ns, batch.seq);
        let beside = path.with_extension("new");
        let written = fs::write(&beside, &bytes).and_then(|()| fs::rename(&beside, &path));
        if let Err(error) = written {
            self.lose(batch.boot_ns);
            let _ = fs::remove_file(&beside);
            return Err(SpoolError { path, error });
        }
        self.bytes += bytes.len() as u64;
        self.records.insert((batch.boot_ns, batch.seq), bytes.len() as u64);
        self.shrink();
        Ok(())
    }

    fn path(&self, boot_ns: u64, seq: u64) -> PathBuf {
        self.directory.join(format!("{boot_ns:020}-{seq:020}.batch"))
    }

    fn remove(&mut self, key: Key) {
        if let Some(bytes) = self.records.remove(&key) {
            self.bytes -= bytes;
            let _ = fs::remove_file(self.path(key.0, key.1));
        }
    }

    /// Merges the older half, coarser and coarser; drops the oldest only when nothing is left to merge.
    fn shrink(&mut self) {
        for step in STEPS_NS {
            if self.bytes <= self.limit {
                return;
            }
            let list: Vec<(u64, u64)> = self.records.keys().map(|(at, seq)| (*seq, *at)).collect();
            for seq in thin(&list, list.len() / 2, step) {
                if let Some((_, at)) = list.iter().find(|(s, _)| *s == seq) {
                    self.merged += 1;
                    self.widen(GapKind::Merged, *at);
                    self.remove((*at, seq));
                }
            }
        }
        while self.bytes > self.limit && self.records.len() > 1 {
            let Some(first) = self.records.keys().next().copied() else { return };
            self.lose(first.0);
            self.remove(first);
        }
    }

    /// The rounds that wait, the oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = Key> {
        self.records.keys().copied()
    }

    /// The oldest round that is not on its way, whole. A damaged file is removed and counted as dropped.
    pub fn next(&mut self, backlog: &Backlog) -> Option<SampleBatch> {
        while let Some(key) = backlog.next(self.waiting()) {
            let read = fs::read(self.path(key.0, key.1)).ok().and_then(|bytes| {
                let (body, sum) = bytes.split_last_chunk::<4>()?;
                (crc32fast::hash(body) == u32::from_le_bytes(*sum)).then(|| SampleBatch::decode(body).ok())?
            });
            match read {
                Some(batch) => return Some(batch),
                None => {
                    self.lose(key.0);
                    self.remove(key);
                }
            }
        }
        None
    }

    /// A round arrived. It may have been merged or dropped meanwhile.
    pub fn done(&mut self, key: Key) {
        self.remove(key);
    }

    fn lose(&mut self, boot_ns: u64) {
        self.dropped += 1;
        self.widen(GapKind::Lost, boot_ns);
    }

    /// Widens the hole; losing is worse than merging and names the whole.
    fn widen(&mut self, kind: GapKind, boot_ns: u64) {
        self.hole = Some(match self.hole {
            None => (kind, boot_ns, boot_ns),
            Some((was, from, to)) => {
                let worse = if was == GapKind::Lost { was } else { kind };
                (worse, from.min(boot_ns), to.max(boot_ns))
            }
        });
    }

    /// What became coarser or was lost since the last call, as a gap to report.
    pub fn take_gap(&mut self) -> Option<Gap> {
        let (kind, from_ns, to_ns) = self.hole.take()?;
        let cause = match kind {
            GapKind::Lost => "rounds could not be kept on disk; totals are right, their course is not known",
            _ => "the spool was full: rounds were merged to a coarser interval",
        };
        Some(Gap { kind, from_ns, to_ns, cause: cause.to_owned() })
    }

    /// Rounds that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Rounds merged into later ones, and rounds dropped, since start.
    #[must_use]
    pub fn lost(&self) -> (u64, u64) {
        (self.merged, self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(second: u64, size: usize) -> SampleBatch {
        SampleBatch {
            seq: second + 1,
            boot_ns: second * 1_000_000_000,
            body: vec![7; size],
            ..Default::default()
        }
    }

    #[test]
    fn a_full_spool_merges_before_it_drops() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), 1, 20_000).unwrap();
        for second in 0..300 {
            spool.push(&batch(second, 200)).unwrap();
        }
        assert!(spool.bytes() <= 20_000 && spool.len() > 50, "{} in {}", spool.bytes(), spool.len());
        let (merged, dropped) = spool.lost();
        assert!(merged > 100 && dropped == 0, "{merged} {dropped}");
        assert_eq!(spool.take_gap().map(|g| g.kind), Some(GapKind::Merged));
        assert_eq!(spool.take_gap(), None);
        let mut backlog = Backlog::default();
        let first = spool.next(&backlog).unwrap();
        assert!(first.boot_ns < 60_000_000_000, "the oldest minute is still covered");
        let count = spool.len();
        backlog.sent((first.boot_ns, first.seq), 0);
        let second = spool.next(&backlog).unwrap();
        assert!(second.boot_ns > first.boot_ns);
        assert_eq!(spool.len(), count, "what is on its way waits for its acknowledgement");
        spool.done((first.boot_ns, first.seq));
        assert_eq!(spool.len(), count - 1);
    }

    #[test]
    fn damage_is_dropped_and_counted_and_another_agents_rounds_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), 1, 1 << 20).unwrap();
        spool.push(&batch(1, 10)).unwrap();
        spool.push(&batch(2, 10)).unwrap();
        let path = spool.path(1_000_000_000, 2);
        let mut bytes = fs::read(&path).unwrap();
        bytes[3] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(spool.next(&Backlog::default()).map(|b| b.seq), Some(3));
        assert_eq!(spool.lost(), (0, 1));
        Spool::open(dir.path(), 2, 1 << 20).unwrap();
        assert!(!path.exists());
    }
}
