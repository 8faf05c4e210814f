use std::collections::BTreeMap;

use model::action::{Outcome, OutcomeKind, Verb};
use model::id::{CommandId, ControllerEpoch, Generation, WorkloadName};
use model::workload::Class;

use super::{ANSWER_MS, Fence, Issue, RETRY_LIMIT_MS, Replica, command};
use crate::event::Time;
use crate::replica::State;

fn replica() -> Replica {
    let (task, node) = ("jobs-1".parse().unwrap(), "n1".parse().unwrap());
    Replica::found(task, 1, node, State::Up { since: Time(0) }, Time(0))
}

fn send(replica: &mut Replica, class: Class, now: Time) -> CommandId {
    let (mut fence, mut generation) = (Fence::default(), Generation(0));
    fence.started(ControllerEpoch(1));
    let workload: WorkloadName = "jobs".parse().unwrap();
    let issue = Issue { to: replica.node.clone(), verb: Verb::Classify { class }, within_ms: ANSWER_MS };
    command(&mut fence, &mut generation, &workload, replica, issue, now).1.id
}

fn answer(command: CommandId, kind: OutcomeKind) -> Outcome {
    let (task, read_back) = ("jobs-1".parse().unwrap(), BTreeMap::new());
    Outcome { command, generation: Generation(1), task, kind, why: String::new(), read_back }
}

#[test]
fn a_class_is_sent_until_it_is_in_force_and_only_where_another_one_is_known() {
    let mut replica = replica();
    let be = Class::BestEffort;
    assert!(!replica.class_due(be, Time(0)), "nothing is known: an agent that says nothing is left alone");
    replica.has_class(Some(Class::Standard));
    assert!(!replica.class_due(Class::Standard, Time(0)));
    assert!(replica.class_due(be, Time(0)));
    let sent = send(&mut replica, be, Time(0));
    assert!(!replica.class_due(be, Time(1)), "it is on its way");
    assert!(!replica.classified(&answer(CommandId(99), OutcomeKind::Applied), Time(1)), "another's answer");
    assert!(replica.classified(&answer(sent, OutcomeKind::Failed), Time(1)));
    assert!(!replica.class_due(be, Time(2)), "it keeps its distance");
    let sent = {
        assert!(replica.class_due(be, Time(RETRY_LIMIT_MS)));
        send(&mut replica, be, Time(RETRY_LIMIT_MS))
    };
    assert!(replica.classified(&answer(sent, OutcomeKind::Applied), Time(RETRY_LIMIT_MS)));
    assert!(!replica.class_due(be, Time(RETRY_LIMIT_MS)));
}

#[test]
fn a_class_that_was_refused_is_not_sent_again_until_it_is_another() {
    let mut replica = replica();
    replica.has_class(Some(Class::Standard));
    assert!(replica.class_due(Class::BestEffort, Time(0)));
    let sent = send(&mut replica, Class::BestEffort, Time(0));
    assert!(replica.classified(&answer(sent, OutcomeKind::Refused), Time(0)));
    assert!(!replica.class_due(Class::BestEffort, Time(RETRY_LIMIT_MS * 10)));
    assert!(replica.class_due(Class::LatencyCritical, Time(RETRY_LIMIT_MS * 10)));
}

#[test]
fn an_answer_that_is_lost_is_asked_for_again() {
    let mut replica = replica();
    replica.has_class(Some(Class::Standard));
    assert!(replica.class_due(Class::BestEffort, Time(0)));
    send(&mut replica, Class::BestEffort, Time(0));
    let late = Time(ANSWER_MS * 3);
    assert!(!replica.class_due(Class::BestEffort, late), "this try is over, the next one keeps its distance");
    assert!(replica.class_due(Class::BestEffort, late.after(RETRY_LIMIT_MS)));
}
