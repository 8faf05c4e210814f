//! How the loop begins: the journal is run through a brain, then the new epoch is announced.

use std::sync::Arc;

use autoscaler_core::brain::Config;
use autoscaler_core::event::{Event, Time};
use autoscaler_core::fleet::Fleet;
use tokio::sync::{Notify, broadcast, mpsc};

use super::handle::Handle;
use super::{Control, INPUTS, PING_MS, TIDY_MS, live};
use crate::clock::ControllerClock;
use crate::config::Settings;
use crate::history;
use crate::metrics::Metrics;
use crate::replay::{self, Replayed};
use crate::store::{Base, Reader, Store, StoreError};

impl Control {
    /// Rebuilds the brain from the store.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read or a new segment cannot be begun.
    pub fn new(
        settings: Settings,
        clock: ControllerClock,
        mut store: Store,
        history: history::Handle,
        metrics: Metrics,
    ) -> Result<(Self, Handle), StoreError> {
        let reader = store.reader();
        let now = clock.now();
        let config = Config {
            round_ms: settings.round_ms,
            reconnect_ms: settings.reconnect_ms,
            risk: settings.risk,
            ..Config::default()
        };
        let began = std::time::Instant::now();
        let (replayed, segment_began) = match resume(&reader, &settings, config, now)? {
            Some(resumed) => resumed,
            None => (renew(&mut store, &reader, config, now)?, now),
        };
        if replayed.differed > 0 {
            tracing::warn!(
                differed = replayed.differed,
                plans = replayed.plans,
                "plans differ from the journal"
            );
        }
        tracing::info!(
            epoch = %store.epoch(), rounds = replayed.rounds, milliseconds = began.elapsed().as_millis() as u64,
            "journal replayed"
        );
        let (sender, inputs) = mpsc::channel(INPUTS);
        let (live, _) = broadcast::channel(live::BEHIND);
        let at_once = Arc::new(Notify::new());
        let handle = Handle {
            inputs: sender,
            at_once: Arc::clone(&at_once),
            live: live.clone(),
            clock,
            metrics: metrics.clone(),
        };
        let epoch = store.epoch();
        let control = Self {
            next_round: now.after(settings.round_ms),
            next_tidy: now.after(TIDY_MS),
            next_ping: now.after(PING_MS),
            settings,
            clock,
            store,
            reader,
            brain: replayed.brain,
            fleet: Fleet::new(),
            history,
            course: autoscaler_core::course::Course::default(),
            observed: Vec::new(),
            metrics,
            decided: std::collections::BTreeMap::new(),
            inputs,
            at_once,
            live,
            peers: super::Peers::default(),
            events: vec![Event::Started { epoch }],
            ended: Vec::new(),
            waiting: Vec::new(),
            durable: super::Durable::default(),
            wake_at: None,
            segment_began,
        };
        Ok((control, handle))
    }

    /// The segment has become too long for a replay: a new one begins as a start would, and agents introduce themselves
    /// again.
    pub(super) fn begin_again(&mut self, now: Time) -> Result<(), StoreError> {
        tracing::info!("a new segment of the journal begins");
        let config = Config {
            round_ms: self.settings.round_ms,
            reconnect_ms: self.settings.reconnect_ms,
            risk: self.settings.risk,
            ..Config::default()
        };
        let base = Base { config: config.into(), events: self.brain.memory(), warm_from: None };
        self.brain = begin(&mut self.store, &self.reader, &base, now)?.brain;
        self.segment_began = now;
        self.peers.end_all("new_segment");
        self.events.push(Event::Started { epoch: self.store.epoch() });
        Ok(())
    }
}

/// Replays the last segment, unless it is too long, of another configuration, or damaged.
fn resume(
    reader: &Reader,
    settings: &Settings,
    config: Config,
    now: Time,
) -> Result<Option<(Replayed, Time)>, StoreError> {
    let Some(first) = reader.segments()?.last().copied() else { return Ok(None) };
    let mut began = None;
    let read = reader.journal(first, first + 1, |_, at, _| began = Some(at));
    let Some(began) = began.filter(|_| read.is_ok()) else { return Ok(None) };
    if now.since(began) > settings.journal.replay_ms {
        return Ok(None);
    }
    match replay::segment(reader, first, i64::MAX) {
        Ok(Some(replayed)) if replayed.base.config == config.into() => Ok(Some((replayed, began))),
        Ok(_) => Ok(None),
        Err(error @ StoreError::Damaged { .. }) => {
            tracing::error!(%error, "the journal is damaged: beginning a new segment from the specifications");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Begins a new segment from what the last brain knew (without it, from the specifications and pauses in force) and the
/// rounds since then. What it had learned of the load is not in it: nothing shrinks until that is seen anew.
fn renew(store: &mut Store, reader: &Reader, config: Config, now: Time) -> Result<Replayed, StoreError> {
    let config = config.into();
    let base = match reader.memory() {
        Ok(Some((seq, events))) if reader.journal(seq + 1, i64::MAX, |_, _, _| {}).is_ok() => {
            Base { config, events, warm_from: Some(seq + 1) }
        }
        _ => Base { config, events: reader.in_force(now)?, warm_from: None },
    };
    begin(store, reader, &base, now)
}

fn begin(store: &mut Store, reader: &Reader, base: &Base, now: Time) -> Result<Replayed, StoreError> {
    store.begin_segment(now, base)?;
    let first = reader.segments()?.last().copied().unwrap_or_default();
    let replayed = replay::segment(reader, first, i64::MAX)?;
    replayed.ok_or_else(|| StoreError::Damaged {
        path: std::path::PathBuf::from(crate::store::FILE),
        seq: first,
        why: "the base that was just written is not there".to_owned(),
    })
}
