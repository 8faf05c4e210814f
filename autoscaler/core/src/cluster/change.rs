//! One change of a cluster on its way: which member, how far, and the order that its state asks for.
//!
//! The machines of the kinds differ; that a step is ordered once per try, tried again until it is answered, and given up after some tries does
//! not. So this holds a machine and its order together, whichever kind it is.

use model::action::{Outcome, OutcomeKind};
use model::id::{CommandId, NodeId, TaskName};
use serde::{Deserialize, Serialize};

use super::{cassandra, hdfs, yarn};
use crate::event::Time;
use crate::order::Order;

/// Tries of a step until it counts as given up; a tool that cannot be run now may be in a minute.
pub const TRIES: u32 = 5;

/// How far it is, by its kind's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Machine {
    /// A NodeManager.
    Yarn(yarn::State),
    /// A DataNode.
    Hdfs(hdfs::State),
    /// A Cassandra node.
    Cassandra(cassandra::State),
}

/// A step of any kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", content = "step", rename_all = "lowercase")]
pub enum Step {
    /// Of a NodeManager.
    Yarn(yarn::Step),
    /// Of a DataNode.
    Hdfs(hdfs::Step),
    /// Of a Cassandra node.
    Cassandra(cassandra::Step),
}

/// What happened, of any kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// To a NodeManager.
    Yarn(yarn::Event),
    /// To a DataNode.
    Hdfs(hdfs::Event),
    /// To a Cassandra node.
    Cassandra(cassandra::Event),
}

/// How long states may last, of all kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of NodeManagers.
    pub yarn: yarn::Limits,
    /// Of DataNodes.
    pub hdfs: hdfs::Limits,
    /// Of Cassandra nodes.
    pub cassandra: cassandra::Limits,
}

/// Something that people must hear of, in words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "what", content = "text", rename_all = "snake_case")]
pub enum Told {
    /// What others did, or what did not go as it should.
    Incident(String),
    /// An event that the state does not expect: nothing was done.
    Anomaly(String),
}

/// What all that ends a try has in common, and what only time or a person brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Common {
    Done,
    Refused,
    GaveUp,
    Cancel,
    Tick,
    Ended,
    NodeLost,
}

/// A change that is on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The member, as its cluster names it; empty while one that is to come is not known by a name yet.
    pub member: String,
    /// Its task, when it is one of Trimtab's.
    pub task: Option<TaskName>,
    /// Where its task runs.
    pub node: Option<NodeId>,
    /// When it began.
    pub began: Time,
    /// How far it is.
    pub machine: Machine,
    /// What the last failed try said.
    pub trouble: Option<String>,
    order: Order,
}

impl Change {
    /// A change that begins now, or is remembered: its step is ordered (again).
    #[must_use]
    pub fn new(
        member: String,
        task: Option<TaskName>,
        node: Option<NodeId>,
        machine: Machine,
        now: Time,
    ) -> Self {
        Self { member, task, node, began: now, machine, trouble: None, order: Order::new(now) }
    }

    /// The step that must be sent now, if any.
    #[must_use]
    pub fn due(&self, now: Time) -> Option<Step> {
        self.machine.step().filter(|_| self.order.is_due(now))
    }

    /// When time alone changes something about its order.
    #[must_use]
    pub fn wake_at(&self) -> Option<Time> {
        self.machine.step().and_then(|_| self.order.wake_at())
    }

    /// Its step was sent, and must be answered by `due`.
    pub fn sent(&mut self, command: CommandId, due: Time) {
        self.order.sent(command, due);
    }

    /// What was sent and not answered may never have arrived.
    pub fn forget_sent(&mut self, now: Time) {
        self.order.forget(now);
    }

    /// Takes an answer; `None` when it answers nothing that is on its way.
    pub fn answered(&mut self, outcome: &Outcome, limits: &Limits, now: Time) -> Option<Vec<Told>> {
        self.machine.step().filter(|_| self.order.awaits(outcome.command))?;
        self.order.returned();
        Some(match outcome.kind {
            OutcomeKind::Applied | OutcomeKind::Already => {
                self.order.answered(now);
                self.trouble = None;
                self.common(Common::Done, limits, now)
            }
            OutcomeKind::Refused => {
                self.trouble = Some(outcome.why.clone());
                self.common(Common::Refused, limits, now)
            }
            OutcomeKind::Failed => self.failed(outcome.why.clone(), limits, now),
        })
    }

    /// Lets time pass: an order that was not answered in time failed once more.
    pub fn tick(&mut self, limits: &Limits, now: Time) -> Vec<Told> {
        let mut told = Vec::new();
        if self.machine.step().is_some() && self.order.is_overdue(now) {
            told.extend(self.failed("no answer in time".to_owned(), limits, now));
        }
        told.extend(self.common(Common::Tick, limits, now));
        told
    }

    /// A person, or the plan, wants it as it was.
    pub fn cancel(&mut self, limits: &Limits, now: Time) -> Vec<Told> {
        self.common(Common::Cancel, limits, now)
    }

    /// Its process ended.
    pub fn ended(&mut self, limits: &Limits, now: Time) -> Vec<Told> {
        self.common(Common::Ended, limits, now)
    }

    /// Its node is lost.
    pub fn node_lost(&mut self, limits: &Limits, now: Time) -> Vec<Told> {
        self.common(Common::NodeLost, limits, now)
    }

    /// A report of `at` says something about the state: it is newer. While a start is not answered what was seen may be an earlier process;
    /// every other step can be seen to have worked before its answer comes, or without one.
    #[must_use]
    pub fn settled_before(&self, at: Time) -> bool {
        match self.machine.step() {
            Some(
                Step::Yarn(yarn::Step::Start)
                | Step::Hdfs(hdfs::Step::Start)
                | Step::Cassandra(cassandra::Step::Start | cassandra::Step::Restart),
            ) => self.order.answered_at().is_some_and(|answered| answered <= at),
            _ => self.machine.since() <= at,
        }
    }

    /// Tells its machine what happened. An event of another kind changes nothing.
    pub fn on(&mut self, event: Event, limits: &Limits, now: Time) -> Vec<Told> {
        let before = self.machine;
        let (mut told, mut reorder) = (Vec::new(), false);
        match (self.machine, event) {
            (Machine::Yarn(state), Event::Yarn(event)) => {
                let (state, effects) = state.on(event, &limits.yarn, now);
                self.machine = Machine::Yarn(state);
                for effect in effects {
                    match effect {
                        yarn::Effect::Reorder => reorder = true,
                        yarn::Effect::Incident(incident) => told.push(Told::Incident(incident.to_string())),
                        yarn::Effect::Anomaly(state, event) => told.push(anomaly(state.name(), event)),
                    }
                }
            }
            (Machine::Hdfs(state), Event::Hdfs(event)) => {
                let (state, effects) = state.on(event, &limits.hdfs, now);
                self.machine = Machine::Hdfs(state);
                for effect in effects {
                    match effect {
                        hdfs::Effect::Reorder => reorder = true,
                        hdfs::Effect::Incident(incident) => told.push(Told::Incident(incident.to_string())),
                        hdfs::Effect::Anomaly(state, event) => told.push(anomaly(state.name(), event)),
                    }
                }
            }
            (Machine::Cassandra(state), Event::Cassandra(event)) => {
                let (state, effects) = state.on(event, &limits.cassandra, now);
                self.machine = Machine::Cassandra(state);
                for effect in effects {
                    match effect {
                        cassandra::Effect::Reorder => reorder = true,
                        cassandra::Effect::Incident(incident) => {
                            told.push(Told::Incident(incident.to_string()));
                        }
                        cassandra::Effect::Anomaly(state, event) => told.push(anomaly(state.name(), event)),
                    }
                }
            }
            (machine, event) => told.push(anomaly(machine.name(), event)),
        }
        let moved = self.machine.step() != before.step() || self.machine.since() != before.since();
        if moved || reorder {
            self.order = Order::new(now);
        }
        told
    }

    fn failed(&mut self, why: String, limits: &Limits, now: Time) -> Vec<Told> {
        self.trouble = Some(why);
        let (failed, wait) = self.order.failed(now);
        if failed < TRIES {
            return Vec::new();
        }
        let told = self.common(Common::GaveUp, limits, now);
        // A step that is asked for again all the same keeps its distance.
        self.order.keep_away(now.after(wait));
        told
    }

    fn common(&mut self, what: Common, limits: &Limits, now: Time) -> Vec<Told> {
        match self.machine.event(what) {
            Some(event) => self.on(event, limits, now),
            None => Vec::new(),
        }
    }
}

fn anomaly(state: &str, event: impl std::fmt::Debug) -> Told {
    Told::Anomaly(format!("{event:?} in state {state}"))
}

impl Machine {
    /// The step that its state asks for.
    #[must_use]
    pub fn step(self) -> Option<Step> {
        match self {
            Self::Yarn(state) => state.step().map(Step::Yarn),
            Self::Hdfs(state) => state.step().map(Step::Hdfs),
            Self::Cassandra(state) => state.step().map(Step::Cassandra),
        }
    }

    /// Since when it is in its state.
    #[must_use]
    pub fn since(self) -> Time {
        match self {
            Self::Yarn(state) => state.since(),
            Self::Hdfs(state) => state.since(),
            Self::Cassandra(state) => state.since(),
        }
    }

    /// Its state's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Yarn(state) => state.name(),
            Self::Hdfs(state) => state.name(),
            Self::Cassandra(state) => state.name(),
        }
    }

    /// Its member has come, and what is left can wait.
    #[must_use]
    pub fn keeps_house(self) -> bool {
        matches!(
            self,
            Self::Hdfs(hdfs::State::Balancing { .. }) | Self::Cassandra(cassandra::State::Cleaning { .. })
        )
    }

    /// The change is over.
    #[must_use]
    pub fn is_over(self) -> bool {
        match self {
            Self::Yarn(state) => state.is_over(),
            Self::Hdfs(state) => state.is_over(),
            Self::Cassandra(state) => state.is_over(),
        }
    }

    /// What is common to all kinds as an event of its own; `None` for the end of a step that there is not.
    fn event(self, what: Common) -> Option<Event> {
        macro_rules! of {
            ($kind:ident, $state:expr, $wrap:expr) => {{
                use $kind::Event as E;
                let step = $state.step();
                let event = match what {
                    Common::Done => step.map(E::Done),
                    Common::Refused => step.map(E::Refused),
                    Common::GaveUp => step.map(E::GaveUp),
                    Common::Cancel => Some(E::Cancel),
                    Common::Tick => Some(E::Tick),
                    Common::Ended => Some(E::Ended),
                    Common::NodeLost => Some(E::NodeLost),
                };
                event.map($wrap)
            }};
        }
        match self {
            Self::Yarn(state) => of!(yarn, state, Event::Yarn),
            Self::Hdfs(state) => of!(hdfs, state, Event::Hdfs),
            Self::Cassandra(state) => of!(cassandra, state, Event::Cassandra),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::id::Generation;
    use model::yarn::YarnState;

    use super::*;

    const LIMITS: Limits = Limits {
        yarn: yarn::Limits { drain_ms: 60_000, end_ms: 10_000, vanished_ms: 60_000, register_ms: 10_000 },
        hdfs: hdfs::Limits { stalled_ms: 60_000, register_ms: 10_000 },
        cassandra: cassandra::Limits { move_ms: 60_000, revive_ms: 10_000 },
    };

    fn leaving() -> Change {
        let machine = Machine::Yarn(yarn::State::leave(Time(0)));
        Change::new("w3".into(), None, None, machine, Time(0))
    }

    fn outcome(command: u64, kind: OutcomeKind) -> Outcome {
        Outcome {
            command: CommandId(command),
            generation: Generation(1),
            task: "batch-3".parse().unwrap(),
            kind,
            why: "no JVM".into(),
            read_back: BTreeMap::new(),
        }
    }

    #[test]
    fn a_step_is_sent_once_and_its_answer_moves_the_machine() {
        let mut change = leaving();
        assert_eq!(change.due(Time(0)), Some(Step::Yarn(yarn::Step::Exclude)));
        change.sent(CommandId(1), Time(100));
        assert_eq!(change.due(Time(50)), None);
        assert_eq!(change.answered(&outcome(2, OutcomeKind::Applied), &LIMITS, Time(60)), None);
        assert_eq!(change.answered(&outcome(1, OutcomeKind::Applied), &LIMITS, Time(60)), Some(vec![]));
        assert_eq!((change.machine.name(), change.due(Time(60))), ("draining", None));
    }

    #[test]
    fn a_step_that_fails_is_tried_again_and_then_given_up() {
        let mut change = leaving();
        let mut now = Time(0);
        for try_of in 1..=TRIES {
            assert!(change.due(now).is_some(), "try {try_of}");
            change.sent(CommandId(try_of.into()), now.after(1_000));
            now = now.after(500);
            assert!(change.answered(&outcome(try_of.into(), OutcomeKind::Failed), &LIMITS, now).is_some());
            assert_eq!((change.trouble.as_deref(), change.due(now)), (Some("no JVM"), None));
            now = now.after(20_000);
        }
        assert_eq!(change.machine.name(), "returning", "what is on the list may be in force after all");
        assert_eq!(change.due(now), Some(Step::Yarn(yarn::Step::Include)));
    }

    #[test]
    fn a_silent_agent_is_a_failed_try_and_a_restart_asks_again() {
        let mut change = leaving();
        change.sent(CommandId(1), Time(100));
        assert_eq!(change.tick(&LIMITS, Time(100)), vec![]);
        assert_eq!(change.trouble.as_deref(), Some("no answer in time"));
        change.sent(CommandId(2), Time(10_000));
        change.forget_sent(Time(700));
        assert!(change.due(Time(700)).is_some());
        assert_eq!(change.answered(&outcome(2, OutcomeKind::Applied), &LIMITS, Time(800)), None, "too late");
    }

    #[test]
    fn what_people_must_hear_of_is_told_in_words() {
        let mut change = leaving();
        change.sent(CommandId(1), Time(100));
        change.answered(&outcome(1, OutcomeKind::Applied), &LIMITS, Time(10));
        let out = yarn::Event::Seen { state: YarnState::Decommissioned, busy: true, master: false };
        let told = change.on(Event::Yarn(out), &LIMITS, Time(20));
        assert!(matches!(&told[..], [Told::Incident(text)] if text.contains("without a grace")), "{told:?}");
        assert_eq!(change.ended(&LIMITS, Time(30)), vec![]);
        assert!(change.machine.is_over());
        let other = change.on(Event::Hdfs(hdfs::Event::Tick), &LIMITS, Time(40));
        assert!(matches!(&other[..], [Told::Anomaly(_)]), "{other:?}");
    }

    #[test]
    fn a_report_from_before_says_nothing_and_a_start_must_be_answered() {
        let mut change = leaving();
        assert!(change.settled_before(Time(5)), "an exclusion is seen when it works, answered or not");
        change.sent(CommandId(1), Time(100));
        change.answered(&outcome(1, OutcomeKind::Applied), &LIMITS, Time(10));
        assert!(!change.settled_before(Time(9)) && change.settled_before(Time(10)));
        let joins = Machine::Yarn(yarn::State::Starting { since: Time(0) });
        let mut change = Change::new("w3".into(), None, None, joins, Time(0));
        change.sent(CommandId(1), Time(100));
        assert!(!change.settled_before(Time(50)), "it may be an earlier process that is seen");
    }
}
