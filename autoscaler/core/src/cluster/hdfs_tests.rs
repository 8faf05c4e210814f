use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { stalled_ms: 100, register_ms: 10 };

fn states() -> Vec<State> {
    let since = Time(0);
    vec![
        State::Listing { since, again: false },
        State::Listing { since, again: true },
        State::Copying { since, again: false, left: 9 },
        State::Copying { since, again: true, left: 9 },
        State::Stopping { since },
        State::Returning { since },
        State::Clearing { since },
        State::Starting { since },
        State::Registering { since },
        State::Balancing { since },
        State::Done { since },
        State::Cancelled { since },
        State::Failed { since, why: Why::Died },
    ]
}

fn events() -> Vec<Event> {
    let mut events = vec![
        Event::Missing,
        Event::Even,
        Event::Endangered,
        Event::Ended,
        Event::NodeLost,
        Event::Cancel,
        Event::Tick,
    ];
    for step in [Step::Decommission, Step::Recommission, Step::Start, Step::Stop, Step::Balance] {
        events.extend([Event::Done(step), Event::Refused(step), Event::GaveUp(step)]);
    }
    for state in [
        AdminState::Normal,
        AdminState::Decommissioning,
        AdminState::Decommissioned,
        AdminState::EnteringMaintenance,
        AdminState::InMaintenance,
    ] {
        events.push(Event::Seen { alive: true, state, left: None });
    }
    events.push(Event::Seen { alive: false, state: AdminState::Decommissioning, left: None });
    events
}

fn seen(state: AdminState, left: Option<u64>) -> Event {
    Event::Seen { alive: true, state, left }
}

fn story(mut state: State, events: &[Event]) -> (String, Vec<Effect>) {
    let (mut names, mut told) = (Vec::new(), Vec::new());
    for (at, event) in events.iter().enumerate() {
        let (after, effects) = state.on(*event, &LIMITS, Time(5 * (at as u64 + 1)));
        names.push(after.name());
        told.extend(effects);
        state = after;
    }
    (names.join(" "), told)
}

#[test]
fn the_edges_are_those_of_the_committed_graph() {
    let mut edges = BTreeSet::new();
    for state in states() {
        for event in events() {
            let (after, effects) = state.on(event, &LIMITS, Time(1_000));
            edges.extend(crate::cluster::dot::edge(state.name(), after.name(), event, &effects));
        }
    }
    let drawn = crate::cluster::dot::graph("hdfs", edges);
    crate::testing::golden("src/cluster/hdfs.dot", include_str!("hdfs.dot"), &drawn);
}

#[test]
fn a_node_is_ended_only_when_the_name_node_calls_it_decommissioned() {
    let (names, told) = story(
        State::leave(Time(0)),
        &[
            Event::Done(Step::Decommission),
            // In the first second every counter is 0.
            seen(AdminState::Decommissioning, Some(0)),
            seen(AdminState::Decommissioning, Some(54)),
            seen(AdminState::Decommissioning, Some(3)),
            // One that is through is not counted any more.
            seen(AdminState::Decommissioning, None),
            seen(AdminState::Decommissioned, None),
            Event::Done(Step::Stop),
        ],
    );
    assert_eq!(names, "copying copying copying copying copying stopping done");
    assert_eq!(told, []);
}

#[test]
fn a_node_that_was_put_back_is_listed_once_more_and_then_left_in_service() {
    let back = seen(AdminState::Normal, None);
    let (names, told) = story(
        State::leave(Time(0)),
        &[Event::Done(Step::Decommission), back, Event::Done(Step::Decommission), back],
    );
    assert_eq!(names, "copying listing copying cancelled");
    assert_eq!(told, [Effect::Incident(Incident::PutBack), Effect::Incident(Incident::TakenBack)]);
}

#[test]
fn blocks_in_danger_or_no_progress_bring_it_back_to_service() {
    let copying = State::Copying { since: Time(0), again: false, left: 9 };
    for (event, at, incident) in
        [(Event::Endangered, 5, Incident::Endangered), (Event::Tick, 100, Incident::Stalled)]
    {
        let (after, told) = copying.on(event, &LIMITS, Time(at));
        assert_eq!((after.step(), told), (Some(Step::Recommission), vec![Effect::Incident(incident)]));
    }
    let (after, _) = copying.on(seen(AdminState::Decommissioning, Some(8)), &LIMITS, Time(99));
    assert_eq!(after.on(Event::Tick, &LIMITS, Time(198)).0, after, "it made progress: no limit on how long");
    let stopping = State::Stopping { since: Time(0) };
    assert_eq!(stopping.on(Event::Cancel, &LIMITS, Time(1)).0.step(), Some(Step::Recommission));
}

#[test]
fn a_node_that_dies_while_it_leaves_is_no_success() {
    let dead = Event::Seen { alive: false, state: AdminState::Decommissioning, left: None };
    let (names, told) = story(State::leave(Time(0)), &[Event::Done(Step::Decommission), dead]);
    assert_eq!((names.as_str(), told), ("copying failed", vec![Effect::Incident(Incident::Died)]));
}

#[test]
fn a_node_comes_when_the_name_node_has_it_in_service() {
    let (names, told) = story(
        State::join(Time(0)),
        &[
            Event::Done(Step::Recommission),
            Event::Done(Step::Start),
            seen(AdminState::Decommissioned, None),
            seen(AdminState::Normal, None),
            seen(AdminState::Normal, None),
            Event::Done(Step::Balance),
        ],
    );
    assert_eq!((names.as_str(), told), ("starting registering registering balancing balancing done", vec![]));
}

#[test]
fn one_that_serves_is_there_whether_or_not_blocks_can_be_moved_to_it() {
    let balancing = State::Balancing { since: Time(0) };
    for event in [Event::Even, Event::Cancel, Event::Ended, Event::NodeLost] {
        let (after, told) = balancing.on(event, &LIMITS, Time(1));
        assert_eq!((after.name(), told), ("done", vec![]), "{event:?}");
    }
    for event in [Event::Refused(Step::Balance), Event::GaveUp(Step::Balance)] {
        let (after, told) = balancing.on(event, &LIMITS, Time(1));
        assert_eq!(
            (after.name(), told),
            ("done", vec![Effect::Incident(Incident::NotBalanced)]),
            "{event:?}"
        );
    }
}

proptest! {
    /// A process is never ended before `Decommissioned` was seen of it.
    #[test]
    fn no_stop_before_it_is_decommissioned(choices in prop::collection::vec((0usize..60, 0u64..40), 1..60)) {
        let all = events();
        let mut state = State::leave(Time(0));
        let mut now = Time(0);
        for (choice, ms) in choices {
            now = now.after(ms);
            let event = all[choice % all.len()];
            let (after, _) = state.on(event, &LIMITS, now);
            if after.step() == Some(Step::Stop) && state.step() != Some(Step::Stop) {
                prop_assert!(matches!(event, Event::Seen { state: AdminState::Decommissioned, .. }), "{event:?}");
            }
            prop_assert!(!state.is_over() || after == state, "what is over stays over");
            state = after;
        }
    }
}
