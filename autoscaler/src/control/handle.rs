//! How other tasks speak with the control loop.

use std::collections::BTreeMap;
use std::sync::Arc;

use autoscaler_core::event::Time;
use autoscaler_core::fleet::{NodeView, TaskView};
use autoscaler_core::survive::Question;
use autoscaler_core::view::{DrainView, Explanation, GivenView, Keeps, WorkloadView};
use model::histogram::DelayHistogram;
use model::id::{NodeId, WorkloadName};
use serde::Serialize;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};
use wire::convert::Hello;

use super::durable::Frozen;
use super::live::{Live, Subscription};
use super::peers::{Admission, Outbox, Said, SessionId};
use super::writes::{Reply, Write, WriteError, Written};
use super::{Control, INPUTS};
use crate::api::Members;
use crate::clock::ControllerClock;
use crate::ingest::Batch;
use crate::metrics::Metrics;
use crate::store::StoredReply;

/// By node: what Trimtab's own were given there, and whether it is to be empty.
type Claims = (BTreeMap<NodeId, GivenView>, BTreeMap<NodeId, DrainView>);

type Asked = Box<dyn FnOnce(&mut Control) + Send>;

/// One value that the control loop takes.
pub(super) enum Input {
    Connected { hello: Box<Hello>, outbox: Outbox, reply: oneshot::Sender<Result<Admission, &'static str>> },
    Batch { session: SessionId, batch: Box<Batch> },
    Said { session: SessionId, said: Box<Said> },
    Disconnected { session: SessionId, why: &'static str },
    Write { write: Box<Write>, reply: Reply },
    Ask(Asked),
}

/// The control loop has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the control loop has ended: the service is stopping")]
pub struct Unreachable;

/// Whether the service does its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Set while nothing can be made durable.
    pub frozen: Option<Frozen>,
    /// This controller's epoch.
    pub epoch: u64,
    /// Agents connected.
    pub agents: usize,
    /// Controller time, ms.
    pub now_ms: u64,
}

/// Gives the control loop values and asks it; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) inputs: mpsc::Sender<Input>,
    /// Ends the loop's wait for more batches.
    pub(super) at_once: Arc<Notify>,
    pub(super) live: broadcast::Sender<Live>,
    pub(super) clock: ControllerClock,
    pub(super) metrics: Metrics,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("control::Handle")
    }
}

impl Handle {
    /// Hands over what the loop takes at once. Waits while it is busy.
    async fn send(&self, input: Input) -> Result<(), Unreachable> {
        self.inputs.send(input).await.map_err(|_| Unreachable)?;
        self.at_once.notify_one();
        Ok(())
    }

    /// An agent introduced itself. Waits while the loop is busy.
    ///
    /// # Errors
    /// The reason code when it is not admitted.
    pub async fn connected(&self, hello: Hello, outbox: Outbox) -> Result<Admission, &'static str> {
        let (reply, answer) = oneshot::channel();
        let input = Input::Connected { hello: Box::new(hello), outbox, reply };
        self.send(input).await.map_err(|_| "shutdown")?;
        answer.await.unwrap_or(Err("shutdown"))
    }

    /// A batch arrived. Waits while the loop is busy: that is the backpressure. The loop takes it within
    /// [`super::GATHER`], and at once when a task ended in it or many wait.
    ///
    /// # Errors
    /// [`Unreachable`] at the end of the service.
    pub async fn batch(&self, session: SessionId, batch: Batch) -> Result<(), Unreachable> {
        let urgent = !batch.gone.is_empty();
        let input = Input::Batch { session, batch: Box::new(batch) };
        if urgent {
            return self.send(input).await;
        }
        self.inputs.send(input).await.map_err(|_| Unreachable)?;
        if self.inputs.capacity() < INPUTS / 2 {
            self.at_once.notify_one();
        }
        Ok(())
    }

    /// Another message arrived.
    ///
    /// # Errors
    /// [`Unreachable`] at the end of the service.
    pub async fn said(&self, session: SessionId, said: Said) -> Result<(), Unreachable> {
        self.send(Input::Said { session, said: Box::new(said) }).await
    }

    /// A stream ended.
    pub async fn disconnected(&self, session: SessionId, why: &'static str) {
        // At the end of the service nobody needs to know.
        let _ = self.send(Input::Disconnected { session, why }).await;
    }

    /// Makes a change; returns when it is durable.
    ///
    /// # Errors
    /// [`WriteError`] when it did not go through.
    pub async fn write(&self, write: Write) -> Result<Written, WriteError> {
        let ended = || WriteError::Frozen(Unreachable.to_string());
        let (reply, answer) = oneshot::channel();
        self.send(Input::Write { write: Box::new(write), reply }).await.map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }

    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Control, Time) -> T + Send + 'static,
    ) -> Result<T, Unreachable> {
        let (reply, answer) = oneshot::channel();
        let asked: Asked = Box::new(move |control| {
            let now = control.clock.now();
            // Whoever asked may be gone.
            let _ = reply.send(question(control, now));
        });
        self.send(Input::Ask(asked)).await?;
        answer.await.map_err(|_| Unreachable)
    }

    /// All nodes, by name.
    ///
    /// # Errors
    /// [`Unreachable`] at the end of the service.
    pub async fn nodes(&self) -> Result<Vec<NodeView>, Unreachable> {
        self.ask(|control, now| control.fleet.nodes(now)).await
    }

    /// One node; `None` when it never introduced itself.
    ///
    /// # Errors
    /// [`Unreachable`] at the end of the service.
    pub async fn node(&self, node: NodeId) -> Result<Option<NodeView>, Unreachable> {
        self.ask(move |control, now| control.fleet.view(&node, now)).await
    }

    /// One node with the run-queue delays of its tasks; `None` when it never introduced itself.
    ///
    /// # Errors
    /// [`Unreachable`] at the end of the service.
    pub async fn delays(&self, node: NodeId) -> Result<Option<(NodeView, DelayHistogram)>, Unreachable> {
        self.ask(move |control, now| control.fleet.view(&node, now).zip(control.fleet.delays(&node))).await
    }

    /// What was given on each node where Trimtab has something, and the nodes that are to be empty, with what is left on each.
    ///
    /// # Errors
    /// [`Unreachable`] at the end of the service.
    pub async fn claims(&self) -> Result<Claims, Unreachable> {
        self.ask(|control, _| (control.brain.given(), control.brain.drains())).await
    }

    /// What Trimtab has on a node and what emptying it takes; `None` when nobody knows the node.
    ///
    /// # Errors
    /// [`Unreachable`] at the end of the service.
    pub async fn keeps(&self, node: NodeId) -> Result<Option<Vec<Keeps>>, Unreachable> {
        self.ask(move |control, now| control.knows(&node).then(|| control.brain.keeps(&node, now))).await
    }

    /// What must be known to say whether the loss of a node or a rack is survived.
    ///
    /// # Errors
    /// [`Unreachable`] at the end of the service.
    pub async fn losses(&self) -> Result<Question, Unreachable> {
        self.ask(|control, _| control.brain.losses()).await
    }

    /// Live tasks of all nodes, or of one.
    ///
    /// # Errors
    /// [`Unreachable`] at the end of the service.
    pub async fn tasks(&self, node: Option<NodeId>) -> Result<Vec<TaskView>, Unreachable> {
        self.ask(move |control, now| control.fleet.tasks(node.as_ref(), now)).await
    }

    /// Members of clusters that agents report.
    ///
    /// # Errors
    /// [`Unreachable`] at the end of the service.
    pub async fn members(&self) -> Result<Members, Unreachable> {
        self.ask(|control, now| Members::of(control.fleet.clusters(), now)).await
    }

    /// All workloads, by name.
    ///
    /// # Errors
    /// [`Unreachable`] at the end of the service.
    pub async fn workloads(&self) -> Result<Vec<WorkloadView>, Unreachable> {
        self.ask(|control, now| control.brain.workloads(now)).await
    }

    /// Why a workload is as it is; `None` when there is none of this name.
    ///
    /// # Errors
    /// [`Unreachable`] at the end of the service.
    pub async fn explain(&self, name: WorkloadName) -> Result<Option<Explanation>, Unreachable> {
        self.ask(move |control, now| control.brain.explain(&name, now)).await
    }

    /// Whether the service does its work.
    ///
    /// # Errors
    /// [`Unreachable`] at the end of the service.
    pub async fn health(&self) -> Result<Health, Unreachable> {
        self.ask(|control, now| Health {
            frozen: control.durable.frozen().cloned(),
            epoch: control.store.epoch().0,
            agents: control.peers.count(),
            now_ms: now.0,
        })
        .await
    }

    /// Remembers the answer to a request with a key. A failure only means that a repetition is not recognised.
    ///
    /// # Errors
    /// [`Unreachable`] at the end of the service.
    pub async fn remember_reply(&self, key: String, reply: StoredReply) -> Result<(), Unreachable> {
        self.ask(move |control, now| {
            if let Err(error) = control.store.remember_reply(&key, &reply, now) {
                tracing::warn!(%error, "a reply could not be remembered");
            }
        })
        .await
    }

    /// Shows what happens from now on.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        Subscription { events: self.live.subscribe(), metrics: self.metrics.clone() }
    }

    /// Controller time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.clock.now()
    }
}
