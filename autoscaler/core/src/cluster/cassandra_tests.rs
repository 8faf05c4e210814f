use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { move_ms: 100, revive_ms: 50 };

fn states() -> Vec<State> {
    let since = Time(0);
    vec![
        State::Asking { since, again: false },
        State::Asking { since, again: true },
        State::Leaving { since, again: false },
        State::Leaving { since, again: true },
        State::Reviving { since },
        State::Stopping { since },
        State::Mending { since },
        State::Starting { since },
        State::Joining { since },
        State::Settling { since },
        State::Cleaning { since, through: 0 },
        State::Aborting { since },
        State::Done { since },
        State::Cancelled { since },
        State::Failed { since, why: Why::NodeLost },
    ]
}

fn events() -> Vec<Event> {
    let mut events = vec![
        Event::SaysFailed,
        Event::AllClean,
        Event::Ended,
        Event::NodeLost,
        Event::Cancel,
        Event::Tick,
        Event::Seen { place: Place::Normal, settled: true },
    ];
    for step in [Step::Decommission, Step::Start, Step::Restart, Step::Stop, Step::Cleanup] {
        events.extend([Event::Done(step), Event::Refused(step), Event::GaveUp(step)]);
    }
    for place in [Place::Out, Place::Joining, Place::Normal, Place::Leaving, Place::Down, Place::Unclear] {
        events.push(seen(place));
    }
    events
}

fn seen(place: Place) -> Event {
    Event::Seen { place, settled: false }
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
    let drawn = crate::cluster::dot::graph("cassandra", edges);
    crate::testing::golden("src/cluster/cassandra.dot", include_str!("cassandra.dot"), &drawn);
}

#[test]
fn a_node_has_left_when_all_others_say_so() {
    let (names, told) = story(
        State::leave(Time(0)),
        &[
            Event::Done(Step::Decommission),
            seen(Place::Leaving),
            seen(Place::Unclear),
            seen(Place::Out),
            Event::Done(Step::Stop),
        ],
    );
    assert_eq!((names.as_str(), told), ("leaving leaving leaving stopping done", vec![]));
}

#[test]
fn a_second_call_that_says_success_at_once_is_not_the_end() {
    // null/200: the agent answers that it is leaving already.
    let (state, _) = State::leave(Time(0)).on(Event::Done(Step::Decommission), &LIMITS, Time(1));
    assert_eq!((state.name(), state.step()), ("leaving", None));
}

#[test]
fn a_node_that_dies_while_it_leaves_comes_back_and_is_asked_once_more() {
    let dies = [Event::Done(Step::Decommission), seen(Place::Down)];
    let (names, told) = story(
        State::leave(Time(0)),
        &[&dies[..], &[Event::Done(Step::Restart), seen(Place::Leaving), seen(Place::Normal)], &dies[..]]
            .concat(),
    );
    assert_eq!(names, "leaving reviving reviving reviving asking leaving failed");
    assert_eq!(told, [Effect::Incident(Incident::Died), Effect::Incident(Incident::DiedTwice)]);
}

#[test]
fn a_refusal_changes_nothing_and_a_failure_calls_a_person() {
    let asking = State::leave(Time(0));
    assert_eq!(asking.on(Event::Refused(Step::Decommission), &LIMITS, Time(1)).0.name(), "cancelled");
    let leaving = State::Leaving { since: Time(0), again: false };
    let (after, told) = leaving.on(Event::SaysFailed, &LIMITS, Time(1));
    assert_eq!((after.name(), told), ("failed", vec![Effect::Incident(Incident::NotHandedOver)]));
    // A node that was refused before says so until it succeeds: that is no failure of this one.
    assert_eq!(asking.on(Event::SaysFailed, &LIMITS, Time(1)), (asking, vec![]));
}

#[test]
fn what_has_begun_is_not_cancelled() {
    let leaving = State::Leaving { since: Time(0), again: false };
    let (after, told) = leaving.on(Event::Cancel, &LIMITS, Time(1));
    assert_eq!((after, told), (leaving, vec![Effect::Incident(Incident::CannotCancel)]));
    let (names, _) = story(State::join(Time(0)), &[Event::Cancel, Event::Done(Step::Stop)]);
    assert_eq!(names, "aborting cancelled", "nobody is a member so soon");
    for begun in [State::join(Time(0)), State::Joining { since: Time(0) }] {
        let (after, told) = begun.on(Event::Cancel, &LIMITS, Time(60_000));
        assert_eq!((after, told), (begun, vec![Effect::Incident(Incident::JoinGoesOn)]));
    }
}

#[test]
fn a_member_whose_process_ended_is_started_again_with_its_data() {
    let (names, told) =
        story(State::mend(Time(0)), &[Event::Done(Step::Restart), seen(Place::Down), seen(Place::Normal)]);
    assert_eq!((names.as_str(), told), ("mending mending done", vec![]));
    let (names, _) = story(State::mend(Time(0)), &[Event::Done(Step::Restart), Event::Ended]);
    assert_eq!(names, "mending failed");
}

#[test]
fn a_node_joins_settles_and_the_old_ones_are_cleaned_up_one_by_one() {
    let (names, told) = story(
        State::join(Time(0)),
        &[
            Event::Done(Step::Start),
            // Its tokens are in everybody's map while it joins.
            seen(Place::Joining),
            seen(Place::Normal),
            Event::Seen { place: Place::Normal, settled: true },
            Event::Done(Step::Cleanup),
            Event::GaveUp(Step::Cleanup),
            Event::Done(Step::Cleanup),
            Event::AllClean,
        ],
    );
    assert_eq!(names, "joining joining settling cleaning cleaning cleaning cleaning done");
    assert_eq!(told, [Effect::Incident(Incident::NotClean)]);
}

#[test]
fn a_join_that_does_not_end_is_given_up_with_its_directory() {
    let (names, told) = story(State::join(Time(0)), &[Event::Done(Step::Start), Event::Ended]);
    assert_eq!((names.as_str(), told), ("joining failed", vec![Effect::Incident(Incident::NotJoined)]));
    assert!(State::Joining { since: Time(0) }.is_slow(&LIMITS, Time(100)));
}

proptest! {
    /// A member is never ended before all others have seen it leave; and it is asked to leave twice at most.
    #[test]
    fn no_stop_before_it_is_out(choices in prop::collection::vec((0usize..60, 0u64..40), 1..60)) {
        let all = events();
        let mut state = State::leave(Time(0));
        let mut now = Time(0);
        let mut asked = 1;
        for (choice, ms) in choices {
            now = now.after(ms);
            let event = all[choice % all.len()];
            let (after, _) = state.on(event, &LIMITS, now);
            if after.step() == Some(Step::Stop) && state.step() != Some(Step::Stop) {
                prop_assert!(matches!(event, Event::Seen { place: Place::Out, .. }), "{event:?}");
            }
            asked += u32::from(after.name() == "asking" && state.name() != "asking");
            prop_assert!(asked <= 2 && (!state.is_over() || after == state));
            state = after;
        }
    }
}
