//! Orders: each replica's step, fenced, sent once per try, and sent again until it is answered.
//!
//! Problem: an order or its answer can be lost, doubled, or come from before a restart. Method: the replica's state names
//! the step that is due; this module gives each try a [`CommandId`] (epoch in the high half, so it is unique for the life
//! of the store without asking it), the workload's next generation, and a deadline. An answer that names no try on its
//! way changes nothing. Bounds: one try at a time per replica, back-off from [`RETRY_MS`] doubling to [`RETRY_LIMIT_MS`],
//! [`tries`] tries until the state machine hears that it was given up.

use model::action::{Command, Crowded, Outcome, OutcomeKind, Size, Strain, Verb};
use model::id::{CommandId, ControllerEpoch, Generation, NodeId, TaskName, WorkloadName};
use model::workload::Class;

use crate::event::Time;
use crate::order::Order;
pub use crate::order::{RETRY_LIMIT_MS, RETRY_MS};
use crate::replica::{Effect, Event, Limits, State, Step};

/// Tries of a resize until it counts as given up.
const RESIZE_TRIES: u32 = 3;
/// Time that an agent has for a step beside what the step itself takes, ms: a round trip and a queue on both sides.
pub const ANSWER_MS: u64 = 5_000;
/// Starting a process takes 1–10 s (brain.md); three times the longest.
pub const START_MS: u64 = 30_000;

/// Identity and fence of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fence {
    epoch: ControllerEpoch,
    sent: u64,
}

impl Fence {
    /// A controller took over with this epoch.
    pub fn started(&mut self, epoch: ControllerEpoch) {
        *self = Self { epoch, sent: 0 };
    }

    /// The epoch in force.
    #[must_use]
    pub fn epoch(&self) -> ControllerEpoch {
        self.epoch
    }

    fn next(&mut self) -> CommandId {
        self.sent += 1;
        CommandId(self.epoch.0 << 32 | self.sent)
    }

    /// The workload's next command, and until when its answer is awaited.
    pub fn command(
        &mut self,
        generation: &mut Generation,
        (workload, task): (&WorkloadName, &TaskName),
        verb: Verb,
        within_ms: u64,
        now: Time,
    ) -> (Command, Time) {
        generation.0 += 1;
        let due = now.after(within_ms);
        let command = Command {
            id: self.next(),
            epoch: self.epoch,
            generation: *generation,
            workload: workload.clone(),
            task: task.clone(),
            verb,
            deadline_ms: due.0,
        };
        // The answer needs its way back after the deadline of the work.
        (command, due.after(ANSWER_MS))
    }
}

/// A replica: where it is, how far, and what is on its way to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Replica {
    /// Its name: `<workload>-<number>`.
    pub task: TaskName,
    /// Its number.
    pub number: u32,
    /// Where it runs.
    pub node: NodeId,
    /// How far it is.
    pub state: State,
    /// Its port for requests, when its kind has one.
    pub port: Option<u16>,
    /// Its control server's port.
    pub control_port: Option<u16>,
    /// Its address, as its agent read it back.
    pub host: Option<String>,
    /// Ordered at.
    pub created: Time,
    /// First took requests at.
    pub up_at: Option<Time>,
    /// What the last failed try said.
    pub trouble: Option<String>,
    /// What its limits did to it last, and when its agent said so.
    pub strain: Option<(Strain, Time)>,
    /// How it waits for its node's disks, and when its agent said so.
    pub crowded: Option<(Crowded, Time)>,
    /// Limits that its agent confirmed.
    pub given: Option<Size>,
    /// Limits that its start was ordered with.
    pub started_with: Option<Size>,
    order: Order,
    resize: Option<(Size, Order)>,
    /// How it stands to other tasks of its node, as far as its agent said.
    class: Option<Class>,
    classify: Option<(Class, Order)>,
}

/// A try of a resize failed.
fn resize_failed(order: &mut Order, why: &str, now: Time) -> Resized {
    let (failed, _) = order.failed(now);
    if failed < RESIZE_TRIES { Resized::Failed } else { Resized::GaveUp(why.to_owned()) }
}

/// How a resize ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resized {
    /// The limits are in force, and were read back.
    Applied,
    /// This try failed; it is tried again.
    Failed,
    /// It was refused, or failed too often.
    GaveUp(String),
}

/// Tries of a step until it counts as given up.
#[must_use]
pub fn tries(step: Step) -> u32 {
    match step {
        Step::Start | Step::Maintenance => 3,
        Step::Add | Step::Ready | Step::Drain | Step::Stop | Step::Remove => 5,
    }
}

impl Replica {
    /// A replica whose start is due now.
    #[must_use]
    pub fn new(task: TaskName, number: u32, node: NodeId, now: Time) -> Self {
        Self {
            task,
            number,
            node,
            state: State::New { since: now, healthy: false },
            port: None,
            control_port: None,
            host: None,
            created: now,
            up_at: None,
            trouble: None,
            strain: None,
            crowded: None,
            given: None,
            started_with: None,
            order: Order::new(now),
            resize: None,
            class: None,
            classify: None,
        }
    }

    /// A replica that was found, or remembered, in this state: its step is ordered again.
    #[must_use]
    pub fn found(task: TaskName, number: u32, node: NodeId, state: State, now: Time) -> Self {
        Self { state, ..Self::new(task, number, node, now) }
    }

    /// Tells its state machine what happened.
    pub fn on(&mut self, event: Event, limits: &Limits, now: Time) -> Vec<Effect> {
        let (state, effects) = self.state.on(event, limits, now);
        let moved = state.step() != self.state.step() || state.since() != self.state.since();
        if moved || effects.contains(&Effect::Reorder) {
            self.order = Order::new(now);
        }
        self.state = state;
        if state.serves() && self.up_at.is_none() {
            self.up_at = Some(now);
        }
        effects
    }

    /// Whether limits must be sent now so that it has `wanted`. A change of mind starts anew.
    pub fn resize_due(&mut self, wanted: Size, now: Time) -> bool {
        if self.given == Some(wanted) || !self.state.serves() {
            self.resize = None;
            return false;
        }
        if self.resize.as_ref().is_none_or(|(to, _)| *to != wanted) {
            self.resize = Some((wanted, Order::new(now)));
        }
        self.resize.as_ref().is_some_and(|(_, order)| order.is_due(now))
    }

    /// Limits were sent.
    pub fn resize_sent(&mut self, command: CommandId, due: Time) {
        if let Some((_, order)) = &mut self.resize {
            order.sent(command, due);
        }
    }

    /// Takes an answer about limits; `None` when it is about something else.
    pub fn resized(&mut self, outcome: &Outcome, now: Time) -> Option<Resized> {
        let (to, order) = self.resize.as_mut().filter(|(_, order)| order.awaits(outcome.command))?;
        match outcome.kind {
            OutcomeKind::Applied | OutcomeKind::Already => {
                self.given = Some(*to);
                self.resize = None;
                Some(Resized::Applied)
            }
            OutcomeKind::Refused => {
                order.tried(RESIZE_TRIES);
                Some(resize_failed(order, &outcome.why, now))
            }
            OutcomeKind::Failed => Some(resize_failed(order, &outcome.why, now)),
        }
    }

    /// Lets time pass for limits that were sent.
    pub fn resize_tick(&mut self, now: Time) -> Option<Resized> {
        let (_, order) = self.resize.as_mut().filter(|(_, order)| order.is_overdue(now))?;
        Some(resize_failed(order, "no answer in time", now))
    }

    /// Its agent said how it stands to other tasks of its node.
    pub fn has_class(&mut self, class: Option<Class>) {
        self.class = class.or(self.class);
    }

    /// Whether its class must be sent now. What is not known is not changed; what was refused is not sent again.
    pub fn class_due(&mut self, wanted: Class, now: Time) -> bool {
        if self.class.is_none_or(|class| class == wanted) || !self.state.serves() {
            self.classify = None;
            return false;
        }
        if self.classify.as_ref().is_none_or(|(to, _)| *to != wanted) {
            self.classify = Some((wanted, Order::new(now)));
        }
        let Some((_, order)) = &mut self.classify else { return false };
        if order.is_overdue(now) {
            order.failed(now);
        }
        order.is_due(now) && order.failures() < RESIZE_TRIES
    }

    /// Takes an answer about its class; false when it is about something else.
    pub fn classified(&mut self, outcome: &Outcome, now: Time) -> bool {
        let waits = self.classify.as_mut().filter(|(_, order)| order.awaits(outcome.command));
        let Some((to, order)) = waits else { return false };
        match outcome.kind {
            OutcomeKind::Applied | OutcomeKind::Already => {
                self.class = Some(*to);
                self.classify = None;
            }
            OutcomeKind::Refused => {
                order.tried(RESIZE_TRIES);
                order.failed(now);
            }
            OutcomeKind::Failed => drop(order.failed(now)),
        }
        true
    }

    /// The step that must be sent now, if any.
    #[must_use]
    pub fn due(&self, now: Time) -> Option<Step> {
        self.state.step().filter(|_| self.order.is_due(now))
    }

    /// When time alone changes something about its order.
    #[must_use]
    pub fn wake_at(&self) -> Option<Time> {
        self.state.step().and_then(|_| self.order.wake_at())
    }

    /// A report of `at` shows the effect of the state's step: it was answered before.
    #[must_use]
    pub fn settled_before(&self, at: Time) -> bool {
        match self.state.step() {
            None => self.state.since() <= at,
            Some(_) => self.order.answered_at().is_some_and(|answered| answered <= at),
        }
    }

    /// A report of `at` that does not show its server says so: the step was answered before, or was tried in vain.
    #[must_use]
    pub fn absent_since(&self, at: Time) -> bool {
        let in_vain = self.order.failures() > 0 && self.state.since() <= at;
        self.settled_before(at) || (in_vain && !matches!(self.state, State::Added { .. }))
    }

    /// Its step was never sent: it was found by a controller that may not act, or has no address to send.
    #[must_use]
    pub fn never_sent(&self) -> bool {
        self.order.is_untouched()
    }

    /// Its step was sent: the command's identity is remembered until it is answered or due.
    pub fn sent(&mut self, command: CommandId, due: Time) {
        self.order.sent(command, due);
    }

    /// What was sent and not answered may never have arrived (its receiver, or this controller, started anew).
    pub fn forget_sent(&mut self, now: Time) {
        self.order.forget(now);
        self.resize = None;
        self.classify = None;
    }

    /// Takes an answer. `None` when it answers nothing that is on its way.
    pub fn answered(&mut self, outcome: &Outcome, limits: &Limits, now: Time) -> Option<Vec<Effect>> {
        let step = self.state.step().filter(|_| self.order.awaits(outcome.command))?;
        self.order.returned();
        match outcome.kind {
            OutcomeKind::Applied | OutcomeKind::Already => {
                self.order.answered(now);
                self.trouble = None;
                if step == Step::Start {
                    self.given = self.started_with;
                    self.host = outcome.read_back.get("host").cloned().or(self.host.take());
                }
                Some(self.on(Event::Done(step), limits, now))
            }
            OutcomeKind::Refused if step == Step::Start => {
                self.trouble = Some(outcome.why.clone());
                Some(self.on(Event::Refused(step), limits, now))
            }
            OutcomeKind::Refused | OutcomeKind::Failed => {
                Some(self.failed(step, outcome.why.clone(), limits, now))
            }
        }
    }

    /// Lets time pass: an order that was not answered by its deadline failed once more.
    pub fn tick(&mut self, limits: &Limits, now: Time) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(step) = self.state.step().filter(|_| self.order.is_overdue(now)) {
            effects.extend(self.failed(step, "no answer in time".to_owned(), limits, now));
        }
        effects.extend(self.on(Event::Tick, limits, now));
        effects
    }

    fn failed(&mut self, step: Step, why: String, limits: &Limits, now: Time) -> Vec<Effect> {
        self.trouble = Some(why);
        let (failed, wait) = self.order.failed(now);
        if failed < tries(step) {
            return Vec::new();
        }
        let effects = self.on(Event::GaveUp(step), limits, now);
        // A step that is asked for again all the same keeps its distance.
        self.order.keep_away(now.after(wait));
        effects
    }
}

/// One command for a step that is due: to whom, and what.
#[derive(Debug, Clone, PartialEq)]
pub struct Issue {
    /// The agent that carries it out.
    pub to: NodeId,
    /// The verb.
    pub verb: Verb,
    /// Time until it must be answered, ms.
    pub within_ms: u64,
}

/// Fences an issue and makes it a command.
pub fn command(
    fence: &mut Fence,
    generation: &mut Generation,
    workload: &WorkloadName,
    replica: &mut Replica,
    issue: Issue,
    now: Time,
) -> (NodeId, Command) {
    let task = replica.task.clone();
    let (command, answered) = fence.command(generation, (workload, &task), issue.verb, issue.within_ms, now);
    match &command.verb {
        Verb::Resize { .. } => replica.resize_sent(command.id, answered),
        Verb::Classify { class } => {
            replica.classify = replica.classify.map(|(_, order)| {
                let mut order = order;
                order.sent(command.id, answered);
                (*class, order)
            });
        }
        Verb::Start { size, class, .. } => {
            replica.started_with = Some(*size);
            replica.has_class(Some(*class));
            replica.sent(command.id, answered);
        }
        _ => replica.sent(command.id, answered),
    }
    (issue.to, command)
}

#[cfg(test)]
#[path = "rollout_tests.rs"]
mod tests;
