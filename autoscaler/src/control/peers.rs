//! The agents that are connected, and what waits for each.

use std::collections::BTreeMap;

use autoscaler_core::event::{Event, RunningTask, Time};
use model::action::{Command, Outcome, TaskEvent};
use model::adapter::AdapterReport;
use model::gap::Gap;
use model::id::{AgentEpoch, ControllerEpoch, NodeId};
use model::node::{Incarnation, Receipt};
use tokio::sync::{mpsc, oneshot};
use wire::convert::{Hello, RunsHere};

use super::Control;
use crate::ingest::Slots;
use crate::metrics::{Metrics, Reason};

/// One stream of one agent; never used twice by one controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(u64);

/// The first message to an agent that was admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// This controller.
    pub epoch: ControllerEpoch,
    /// Controller time.
    pub now: Time,
    /// The last batch of this agent epoch that is safe; 0 = none.
    pub acknowledged: u64,
    /// Wished distance of batches, ms.
    pub interval_ms: u32,
}

/// A message for an agent.
#[derive(Debug, Clone, PartialEq)]
pub enum ToAgent {
    /// It is admitted.
    Welcome(Welcome),
    /// Everything up to this batch is safe.
    Ack(u64),
    /// So many bytes more may be sent.
    Credit(u32),
    /// An order.
    Command(Box<Command>),
    /// A sign of life with controller time.
    Ping(Time),
    /// Why the stream is closed.
    Refusal(String),
}

/// What an agent said beside batches.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// The answer to a command.
    Outcome(Outcome),
    /// A task's change.
    Task(TaskEvent),
    /// A hole in the data.
    Gap(Gap),
    /// A comparison of ledgers.
    Receipt(Receipt),
    /// An adapter's report.
    Report(AdapterReport),
}

/// The way to one agent: bounded; a full one means that the agent does not read.
#[derive(Debug, Clone)]
pub struct Outbox {
    messages: mpsc::Sender<ToAgent>,
}

impl Outbox {
    /// Makes an outbox for at most `bound` waiting messages, and hands each message to the returned stream.
    #[must_use]
    pub fn new(bound: usize) -> (Self, tokio_stream::wrappers::ReceiverStream<ToAgent>) {
        let (messages, receiver) = mpsc::channel(bound);
        (Self { messages }, tokio_stream::wrappers::ReceiverStream::new(receiver))
    }

    /// Puts a message in; false when it is full or nobody reads any more.
    #[must_use]
    pub fn put(&self, message: ToAgent) -> bool {
        self.messages.try_send(message).is_ok()
    }
}

/// A session that was admitted; its welcome is in its outbox.
#[derive(Debug)]
pub struct Admission {
    /// Its identity.
    pub session: SessionId,
    /// Says why when the control loop ends the session.
    pub ended: oneshot::Receiver<&'static str>,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) node: NodeId,
    pub(super) incarnation: Incarnation,
    outbox: Outbox,
    end: Option<oneshot::Sender<&'static str>>,
    /// Controller time minus the node's boot clock, ms.
    pub(super) offset_ms: i64,
    pub(super) slots: Slots,
    pub(super) last_heard: Time,
    pub(super) handled: u64,
    acknowledged: u64,
    /// Samples in batches that were handled and not acknowledged.
    pub(super) owed: usize,
    /// The agent waits for the acknowledgement: something happened there that it tells until it is safe.
    pub(super) prompt: bool,
    pub(super) backlog: Vec<u64>,
}

/// With so many samples not acknowledged a node is told at the next commit: it keeps them until then, and a large node
/// must not keep several rounds (1,000 samples take it about 170 KB).
const OWED_LIMIT: usize = 1_000;

impl Peer {
    fn is_acknowledgement_due(&self) -> bool {
        let due = self.prompt || self.owed >= OWED_LIMIT;
        (due && self.handled > self.acknowledged) || !self.backlog.is_empty()
    }

    /// All that was handled is safe: says so.
    fn acknowledge(&mut self, safe: &mut BTreeMap<NodeId, (AgentEpoch, u64)>) {
        for seq in std::mem::take(&mut self.backlog) {
            self.put(ToAgent::Ack(seq));
        }
        if self.handled > self.acknowledged {
            self.acknowledged = self.handled;
            (self.owed, self.prompt) = (0, false);
            safe.insert(self.node.clone(), (self.incarnation.agent, self.handled));
            self.put(ToAgent::Ack(self.handled));
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Peers {
    next: u64,
    peers: BTreeMap<SessionId, Peer>,
    by_node: BTreeMap<NodeId, SessionId>,
    /// Nodes whose stream is down, and when they count as lost.
    silent: BTreeMap<NodeId, Time>,
    /// The last safe batch of each node's agent epoch.
    safe: BTreeMap<NodeId, (AgentEpoch, u64)>,
}

impl Peers {
    pub(super) fn get_mut(&mut self, session: SessionId) -> Option<&mut Peer> {
        self.peers.get_mut(&session)
    }

    /// Sends to a node, or counts why it could not.
    pub(super) fn send(&mut self, node: &NodeId, message: ToAgent, metrics: &Metrics) {
        let is_command = matches!(message, ToAgent::Command(_));
        let Some(session) = self.by_node.get(node).copied() else {
            if is_command {
                metrics.commands_unsent.get_or_create(&Reason { reason: "not_connected" }).inc();
            }
            return;
        };
        if self.put(session, message) {
            if is_command {
                metrics.commands.inc();
            }
        } else if is_command {
            metrics.commands_unsent.get_or_create(&Reason { reason: "queue_full" }).inc();
        }
    }

    fn put(&mut self, session: SessionId, message: ToAgent) -> bool {
        self.peers.get_mut(&session).is_some_and(|peer| peer.put(message))
    }

    /// Tells agents what became safe with the last commit: at once those that told of an event, sent what they had spooled,
    /// or have much to keep. An acknowledgement a second for all would cost as much as the batches themselves.
    pub(super) fn acknowledge(&mut self) {
        for peer in self.peers.values_mut().filter(|peer| peer.is_acknowledgement_due()) {
            peer.acknowledge(&mut self.safe);
        }
    }

    /// Tells all agents the time and, when the last commit is `safe`, what became safe: in one go, so that each is woken
    /// and written to once.
    pub(super) fn ping(&mut self, now: Time, safe: bool) {
        for peer in self.peers.values_mut() {
            if safe {
                peer.acknowledge(&mut self.safe);
            }
            peer.put(ToAgent::Ping(now));
        }
    }

    /// Ends every session.
    pub(super) fn end_all(&mut self, why: &'static str) {
        self.peers.values_mut().for_each(|peer| peer.end(why));
    }

    /// How many are connected.
    pub(super) fn count(&self) -> usize {
        self.peers.len()
    }
}

impl Peer {
    /// Sends a message; an agent that does not read is disconnected.
    pub(super) fn put(&mut self, message: ToAgent) -> bool {
        let taken = self.outbox.put(message);
        if !taken {
            self.end("queue_full");
        }
        taken
    }

    fn end(&mut self, why: &'static str) {
        if let Some(end) = self.end.take() {
            // A session that ended by itself needs no telling.
            let _ = end.send(why);
        }
    }
}

impl Control {
    pub(super) fn connected(&mut self, hello: Hello, outbox: Outbox) -> Result<Admission, &'static str> {
        let now = self.clock.now();
        let node = hello.node;
        if self.peers.count() >= self.settings.limits.agents && !self.peers.by_node.contains_key(&node) {
            return Err("agents_limit");
        }
        self.peers.next += 1;
        let session = SessionId(self.peers.next);
        if let Some(older) = self.peers.by_node.insert(node.clone(), session)
            && let Some(mut peer) = self.peers.peers.remove(&older)
        {
            peer.end("replaced");
        }
        self.peers.silent.remove(&node);
        let agent = hello.incarnation.agent;
        let acknowledged =
            self.peers.safe.get(&node).filter(|(epoch, _)| *epoch == agent).map_or(0, |(_, seq)| *seq);
        let (end, ended) = oneshot::channel();
        let boot_ms = i64::try_from(hello.boot_ns / 1_000_000).unwrap_or(i64::MAX);
        self.peers.peers.insert(
            session,
            Peer {
                node: node.clone(),
                incarnation: hello.incarnation,
                outbox,
                end: Some(end),
                offset_ms: i64::try_from(now.0).unwrap_or(i64::MAX).saturating_sub(boot_ms),
                slots: Slots::default(),
                last_heard: now,
                handled: acknowledged,
                acknowledged,
                owed: 0,
                // The first batch of a stream shows the agent that the way is open.
                prompt: true,
                backlog: Vec::new(),
            },
        );
        let welcome = Welcome {
            epoch: self.store.epoch(),
            now,
            acknowledged,
            interval_ms: u32::try_from(self.settings.round_ms).unwrap_or(1000),
        };
        if let Some(peer) = self.peers.get_mut(session) {
            peer.put(ToAgent::Welcome(welcome));
        }
        self.metrics.agents.set(i64::try_from(self.peers.count()).unwrap_or(i64::MAX));
        tracing::info!(%node, tier = %hello.inventory.tier, tasks = hello.tasks.len(), "agent connected");
        self.fleet.node_up(node.clone(), hello.incarnation, hello.inventory.clone(), now);
        let tasks =
            hello.tasks.into_iter().map(|RunsHere { task, workload, cgroup, generation, healthy, class }| {
                RunningTask { task, workload, cgroup, generation, healthy, class }
            });
        self.events.push(Event::NodeUp {
            node,
            incarnation: hello.incarnation,
            inventory: hello.inventory,
            tasks: tasks.collect(),
        });
        Ok(Admission { session, ended })
    }

    pub(super) fn disconnected(&mut self, session: SessionId, why: &'static str) {
        let now = self.clock.now();
        let Some(peer) = self.peers.peers.remove(&session) else { return };
        self.metrics.agents.set(i64::try_from(self.peers.count()).unwrap_or(i64::MAX));
        if self.peers.by_node.get(&peer.node) == Some(&session) {
            self.peers.by_node.remove(&peer.node);
            tracing::info!(node = %peer.node, why, "agent disconnected");
            self.fleet.node_down(&peer.node, now);
            let due = peer.last_heard.after(self.settings.node_dead_after_ms);
            self.peers.silent.insert(peer.node, due);
        }
    }

    /// Nodes that stayed away count as lost.
    pub(super) fn lose_silent_nodes(&mut self, now: Time) {
        let due: Vec<NodeId> =
            self.peers.silent.iter().filter(|(_, at)| **at <= now).map(|(node, _)| node.clone()).collect();
        for node in due {
            self.peers.silent.remove(&node);
            tracing::warn!(%node, "node counts as lost");
            let why = format!("its agent was not heard for {} ms", self.settings.node_dead_after_ms);
            self.events.push(Event::NodeDown { node, why });
        }
    }

    pub(super) fn said(&mut self, session: SessionId, said: Said) {
        let now = self.clock.now();
        let Some(peer) = self.peers.get_mut(session) else { return };
        peer.last_heard = now;
        // A receipt and a report are told anew; the rest is told until it is safe.
        peer.prompt |= !matches!(said, Said::Receipt(_) | Said::Report(_));
        let node = peer.node.clone();
        match said {
            Said::Outcome(outcome) => self.events.push(Event::Outcome { node, outcome }),
            Said::Task(event) => self.events.push(Event::Task { node, event }),
            Said::Gap(gap) => {
                self.fleet.gap(&node, gap.clone(), now);
                self.events.push(Event::Gap { node, gap });
            }
            Said::Receipt(receipt) => {
                self.fleet.receipt(&node, receipt);
                self.events.push(Event::Receipt { node, receipt });
            }
            Said::Report(report) => self.fleet.report(&node, report, now),
        }
    }
}
