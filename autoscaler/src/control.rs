//! The one task that owns the brain, the fleet and the journal.
//!
//! Order within a turn: effects of the last round first, then input, then time. A round observes what happened, asks the
//! brain, makes both durable, and only then sends commands, acknowledgements and answers. When nothing can be made
//! durable (a full disk) the brain is told but not asked: nothing is done until the store works again, and `/readyz`,
//! decisions and metrics say so. A bound is on everything that waits: inputs, peers' queues, rounds not yet durable.

mod durable;
mod facts;
mod handle;
mod ingest;
mod live;
mod peers;
mod prices;
mod start;
mod tokens;
mod what_if;
mod writes;

pub use durable::Frozen;
pub use facts::{Decided, Facts};
pub use handle::{Handle, Health, Unreachable};
pub use live::{Live, Subscription};
pub use peers::{Admission, Outbox, Said, SessionId, ToAgent, Welcome};
pub use prices::PricesWritten;
pub use tokens::{TokenMade, TokenRefused};
pub use writes::{Expect, Write, WriteError, Written};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use autoscaler_core::brain::Brain;
use autoscaler_core::course::Course;
use autoscaler_core::event::{Event, Plan, Time};
use autoscaler_core::fleet::{EndedTask, Fleet};
use model::id::NodeId;
use tokio::sync::{Notify, broadcast, mpsc, watch};

use crate::clock::ControllerClock;
use crate::config::Settings;
use crate::history;
use crate::metrics::{Metrics, Reason};
use crate::store::{Reader, Store};
use durable::Durable;
use handle::Input;
use peers::Peers;
use writes::Waiting;

/// Inputs that may wait; a session that finds it full waits itself, and so does its agent.
const INPUTS: usize = 1024;
/// Inputs taken in one turn before time is looked at again.
const AT_ONCE: usize = 2048;
/// Longest that a batch waits for others to be taken with: waking the loop for each costs as much as taking it. A round
/// takes what waits, and so does whoever asks.
const GATHER: Duration = Duration::from_millis(50);
/// Distance of house-keeping, ms.
const TIDY_MS: u64 = 60_000;
/// A segment of the journal lasts at least this long, ms, however large it is.
const SEGMENT_MS: u64 = 3_600_000;
/// Distance of pings to agents, and of acknowledgements that nobody waits for, ms. Well under the rounds that an agent
/// keeps before it spools them (`agent_core::session::UNACKNOWLEDGED_LIMIT`, 30).
const PING_MS: u64 = 5_000;

/// The control loop.
#[derive(Debug)]
pub struct Control {
    settings: Settings,
    clock: ControllerClock,
    store: Store,
    reader: Reader,
    brain: Brain,
    fleet: Fleet,
    history: history::Handle,
    /// How workloads went, of minutes that are not stored yet.
    course: Course,
    /// For history, since the last round.
    observed: Vec<history::Observed>,
    metrics: Metrics,
    /// Decisions since the start.
    decided: BTreeMap<Decided, u64>,
    inputs: mpsc::Receiver<Input>,
    /// Something other than a batch came, or many batches wait.
    at_once: Arc<Notify>,
    live: broadcast::Sender<Live>,
    peers: Peers,
    events: Vec<Event>,
    ended: Vec<(NodeId, EndedTask)>,
    waiting: Vec<Waiting>,
    durable: Durable,
    wake_at: Option<Time>,
    next_round: Time,
    next_tidy: Time,
    next_ping: Time,
    segment_began: Time,
}

impl Control {
    /// Runs until shutdown. The last round is made durable before it returns.
    ///
    /// # Errors
    /// Only when the store fails for good.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> anyhow::Result<()> {
        self.round(false)?;
        let mut gather = false;
        loop {
            if std::mem::take(&mut gather) {
                self.gather(&mut shutdown).await;
            }
            let wait = self.until_due();
            tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => break,
                input = self.inputs.recv() => {
                    let Some(input) = input else { break };
                    gather = true;
                    self.take(input);
                    for _ in 0..AT_ONCE {
                        match self.inputs.try_recv() {
                            Ok(input) => self.take(input),
                            Err(_) => break,
                        }
                    }
                    // A digest's events wait for the round; what somebody did does not.
                    if !self.events.is_empty() || !self.ended.is_empty() {
                        self.round(false)?;
                    }
                    if self.clock.now() >= self.next_round {
                        self.tick()?;
                    }
                }
                () = tokio::time::sleep(wait) => {
                    if self.clock.now() >= self.next_round { self.tick()? } else { self.round(false)? }
                }
            }
        }
        self.hand_over();
        self.round(false)?;
        self.remember();
        Ok(())
    }

    /// Time until the next round.
    fn until_due(&self) -> Duration {
        let due = self.wake_at.map_or(self.next_round, |wake| wake.min(self.next_round));
        Duration::from_millis(due.since(self.clock.now()))
    }

    /// Waits until there is more to do than to take a batch.
    async fn gather(&mut self, shutdown: &mut watch::Receiver<bool>) {
        let wait = GATHER.min(self.until_due());
        tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop) => {}
            () = self.at_once.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Connected { hello, outbox, reply } => {
                let admission = self.connected(*hello, outbox);
                // A session that went away in the meantime says so itself.
                let _ = reply.send(admission);
            }
            Input::Batch { session, batch } => self.batch(session, &batch),
            Input::Said { session, said } => self.said(session, *said),
            Input::Disconnected { session, why } => self.disconnected(session, why),
            Input::Write { write, reply } => self.write(*write, reply),
            Input::Ask(question) => question(self),
        }
    }

    /// A whole round: what was measured since the last one, too.
    fn tick(&mut self) -> anyhow::Result<()> {
        let now = self.clock.now();
        while self.next_round <= now {
            self.next_round = self.next_round.after(self.settings.round_ms);
        }
        self.hand_over();
        self.lose_silent_nodes(now);
        let digests = self.fleet.digests(self.brain.specs(), now);
        self.events.extend(digests.into_iter().map(Event::Digest));
        let clusters = self.fleet.cluster_digests(self.brain.cluster_specs());
        self.events.extend(clusters.into_iter().map(|digest| Event::Cluster(Box::new(digest))));
        let nodes = self.fleet.node_digests(now);
        if !nodes.is_empty() {
            self.events.push(Event::Nodes { nodes });
        }
        self.round(true)?;
        self.course.observe(self.brain.glances(), now);
        if now >= self.next_ping {
            self.next_ping = now.after(PING_MS);
            self.peers.ping(now, self.durable.frozen().is_none());
        }
        if now >= self.next_tidy {
            self.next_tidy = now.after(TIDY_MS);
            self.tidy(now)?;
        }
        Ok(())
    }

    /// Observes, asks, makes durable, and then lets it have effect.
    fn round(&mut self, whole: bool) -> anyhow::Result<()> {
        let began = std::time::Instant::now();
        let now = self.clock.now();
        let events = std::mem::take(&mut self.events);
        let mut ended = std::mem::take(&mut self.ended);
        ended.extend(self.fleet.take_ended());
        let was_frozen = self.durable.frozen().is_some() && !self.catch_up(now)?;
        for event in &events {
            self.brain.observe(event.clone(), now);
        }
        let plan = (!was_frozen).then(|| self.brain.next(now));
        self.wake_at = plan.as_ref().and_then(|plan| plan.wake_at).filter(|at| *at > now);
        let idle = self.brain.take_idle();
        let round = durable::OwnedRound { at: now, events, plan, idle, ended };
        if was_frozen {
            self.durable.keep(round, &self.metrics);
            self.refuse_waiting();
        } else {
            self.commit(round, now)?;
        }
        self.metrics.rounds.inc();
        self.metrics.round_seconds.observe(began.elapsed().as_secs_f64());
        if whole {
            self.show(now);
        }
        Ok(())
    }

    fn commit(&mut self, round: durable::OwnedRound, now: Time) -> anyhow::Result<()> {
        let began = std::time::Instant::now();
        match self.store.commit(&round.borrowed()) {
            Ok(()) => {
                self.metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
                if let Some(plan) = round.plan {
                    self.carry_out(plan, now);
                }
                self.answer_waiting();
                self.peers.acknowledge();
            }
            Err(error) if error.is_transient() => {
                tracing::error!(%error, "the store cannot be written: frozen, nothing is done until it can");
                self.metrics.frozen.set(1);
                self.durable.freeze(error.to_string(), now);
                self.durable.keep(round, &self.metrics);
                self.refuse_waiting();
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Writes what waits. True when all of it is durable and the loop may act again.
    fn catch_up(&mut self, now: Time) -> anyhow::Result<bool> {
        while let Some(round) = self.durable.oldest() {
            match self.store.commit(&round.borrowed()) {
                Ok(()) => {
                    if let Some(plan) = self.durable.written() {
                        self.carry_out(plan, now);
                    }
                }
                Err(error) if error.is_transient() => {
                    self.durable.still(error.to_string());
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        tracing::info!("the store can be written again: acting again");
        self.metrics.frozen.set(0);
        self.durable.thaw();
        Ok(true)
    }

    /// Sends the commands of a durable plan and shows its decisions.
    fn carry_out(&mut self, plan: Plan, now: Time) {
        for (node, command) in plan.commands {
            if command.deadline_ms < now.0 {
                self.metrics.commands_unsent.get_or_create(&Reason { reason: "late" }).inc();
                continue;
            }
            tracing::info!(%node, task = %command.task, id = %command.id, generation = %command.generation, verb = %command.verb, "command");
            self.peers.send(&node, ToAgent::Command(Box::new(command)), &self.metrics);
        }
        for decision in plan.decisions {
            tracing::info!(workload = %decision.workload, act = decision.act, "{decision}");
            *self.decided.entry(Decided::from(&decision)).or_default() += 1;
            // Nobody listens: not an error.
            let _ = self.live.send(Live::Decision(Box::new(decision)));
        }
    }

    /// Shows the state after a whole round to live streams.
    fn show(&mut self, now: Time) {
        if self.live.receiver_count() > 0 {
            for view in self.brain.workloads(now) {
                let _ = self.live.send(Live::Workload(Box::new(view)));
            }
        }
    }

    /// Keeps what a new brain would have to know. When it fails an older memory and the journal serve as well.
    fn remember(&mut self) {
        if self.durable.frozen().is_none()
            && let Err(error) = self.store.remember(&self.brain.memory())
        {
            tracing::warn!(%error, "the brain's memory could not be kept");
        }
    }

    fn tidy(&mut self, now: Time) -> anyhow::Result<()> {
        self.forget_decided();
        if self.durable.frozen().is_some() {
            return Ok(());
        }
        let minutes = self.course.take();
        if let Err(error) = self.store.note_course(&minutes) {
            tracing::warn!(%error, minutes = minutes.len(), "how workloads went could not be stored: charts have a hole");
        }
        let journal = self.settings.journal;
        match self.store.retain(&journal, now) {
            Err(error) if !error.is_transient() => return Err(error.into()),
            Err(error) => tracing::warn!(%error, "old records could not be dropped"),
            Ok(()) => {}
        }
        let bytes = match self.store.bytes() {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(%error, "the size of the store is not known");
                return Ok(());
            }
        };
        self.metrics.store_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.remember();
        let age = now.since(self.segment_began);
        if age > journal.retain_ms || (age > SEGMENT_MS && bytes > journal.max_bytes.saturating_mul(2)) {
            self.begin_again(now)?;
        }
        Ok(())
    }
}
