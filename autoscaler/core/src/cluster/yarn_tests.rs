use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { drain_ms: 100, end_ms: 10, vanished_ms: 50, register_ms: 10 };

fn states() -> Vec<State> {
    let since = Time(0);
    vec![
        State::Excluding { since },
        State::Draining { since, busy: true },
        State::Draining { since, busy: false },
        State::Ending { since, told: false },
        State::Ending { since, told: true },
        State::Vanished { since },
        State::Returning { since },
        State::Clearing { since },
        State::Starting { since },
        State::Registering { since },
        State::Done { since },
        State::Cancelled { since },
        State::Failed { since, why: Why::Ended },
    ]
}

const ALL: [YarnState; 8] = [
    YarnState::New,
    YarnState::Running,
    YarnState::Unhealthy,
    YarnState::Decommissioning,
    YarnState::Decommissioned,
    YarnState::Lost,
    YarnState::Rebooted,
    YarnState::Shutdown,
];

fn events() -> Vec<Event> {
    let mut events =
        vec![Event::Missing, Event::Restarted, Event::Ended, Event::NodeLost, Event::Cancel, Event::Tick];
    for step in [Step::Exclude, Step::Include, Step::Start, Step::Stop] {
        events.extend([Event::Done(step), Event::Refused(step), Event::GaveUp(step)]);
    }
    for state in ALL {
        for (busy, master) in [(false, false), (true, false), (true, true)] {
            events.push(Event::Seen { state, busy, master });
        }
    }
    events
}

fn seen(state: YarnState, busy: bool) -> Event {
    Event::Seen { state, busy, master: false }
}

/// Follows a story, each event 5 ms after the other: names of states, and what was told.
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
    let drawn = crate::cluster::dot::graph("yarn", edges);
    crate::testing::golden("src/cluster/yarn.dot", include_str!("yarn.dot"), &drawn);
}

#[test]
fn a_node_leaves_when_its_containers_and_their_applications_have_ended() {
    let (names, told) = story(
        State::leave(Time(0)),
        &[
            Event::Done(Step::Exclude),
            seen(YarnState::Decommissioning, true),
            // Without containers it waits for the applications that ran there.
            seen(YarnState::Decommissioning, false),
            seen(YarnState::Decommissioned, false),
            Event::Ended,
        ],
    );
    assert_eq!((names.as_str(), told), ("draining draining draining ending done", vec![]));
}

#[test]
fn a_node_comes_when_the_resource_manager_calls_it_running() {
    let (names, told) = story(
        State::join(Time(0)),
        &[
            Event::Refused(Step::Include),
            Event::Done(Step::Start),
            seen(YarnState::New, false),
            seen(YarnState::Running, false),
        ],
    );
    assert_eq!((names.as_str(), told), ("starting registering registering done", vec![]));
}

#[test]
fn a_refresh_without_grace_by_a_person_is_seen_and_said() {
    let (names, told) = story(
        State::leave(Time(0)),
        &[
            Event::Done(Step::Exclude),
            seen(YarnState::Decommissioning, true),
            seen(YarnState::Decommissioned, true),
            Event::Ended,
        ],
    );
    assert_eq!(names, "draining draining ending done");
    assert_eq!(told, [Effect::Incident(Incident::Forced)]);
}

#[test]
fn a_restart_of_the_resource_manager_is_said_and_the_drain_is_asked_for_again() {
    let draining = State::Draining { since: Time(0), busy: true };
    let (after, told) = draining.on(Event::Restarted, &LIMITS, Time(7));
    assert_eq!(after, State::Excluding { since: Time(7) });
    assert_eq!(told, [Effect::Incident(Incident::LostGrace), Effect::Reorder]);
    // It made an end at once, and lists the host without a port.
    let (names, _) = story(after, &[seen(YarnState::Decommissioned, false), Event::Ended]);
    assert_eq!(names, "ending done");
}

#[test]
fn a_drain_that_takes_too_long_is_cancelled_and_kills_nothing() {
    let draining = State::Draining { since: Time(0), busy: true };
    let (after, told) = draining.on(Event::Tick, &LIMITS, Time(100));
    assert_eq!((after.step(), told), (Some(Step::Include), vec![Effect::Incident(Incident::TooLong)]));
    // An application that is not over keeps an empty node for as long as it likes: nothing is at stake.
    let waiting = State::Draining { since: Time(0), busy: false };
    assert_eq!(waiting.on(Event::Tick, &LIMITS, Time(1_000)), (waiting, vec![]));
}

#[test]
fn an_application_master_ends_the_drain() {
    let master = Event::Seen { state: YarnState::Decommissioning, busy: true, master: true };
    let (names, told) =
        story(State::leave(Time(0)), &[Event::Done(Step::Exclude), master, Event::Done(Step::Include)]);
    assert_eq!(names, "draining returning cancelled");
    assert_eq!(told, [Effect::Incident(Incident::Master)]);
}

#[test]
fn a_cancel_after_it_went_out_says_that_it_must_be_started_again() {
    let (names, _) = story(
        State::Draining { since: Time(0), busy: false },
        &[Event::Cancel, seen(YarnState::Decommissioned, false)],
    );
    assert_eq!(names, "returning failed");
}

#[test]
fn its_process_may_end_before_the_report_says_so() {
    let draining = State::Draining { since: Time(0), busy: false };
    let (names, told) = story(draining, &[Event::Ended, seen(YarnState::Decommissioned, false)]);
    assert_eq!((names.as_str(), told), ("vanished done", vec![]));
    let (names, told) = story(draining, &[Event::Ended, seen(YarnState::Lost, false)]);
    assert_eq!((names.as_str(), told), ("vanished failed", vec![Effect::Incident(Incident::Lost)]));
}

#[test]
fn a_process_that_lingers_is_told_to_end() {
    let (after, told) = State::Ending { since: Time(0), told: false }.on(Event::Tick, &LIMITS, Time(10));
    assert_eq!((after.step(), told), (Some(Step::Stop), vec![Effect::Incident(Incident::Lingers)]));
}

proptest! {
    /// Nothing is ever told to end while it may have containers: only what the ResourceManager calls out.
    #[test]
    fn no_stop_before_it_is_out(choices in prop::collection::vec((0usize..60, 0u64..40), 1..60)) {
        let all = events();
        let mut state = State::leave(Time(0));
        let mut now = Time(0);
        let mut out = false;
        for (choice, ms) in choices {
            now = now.after(ms);
            let event = all[choice % all.len()];
            out |= matches!(event, Event::Seen { state: YarnState::Decommissioned | YarnState::Shutdown, .. });
            let (after, _) = state.on(event, &LIMITS, now);
            prop_assert!(after.step() != Some(Step::Stop) || out, "{state:?} {event:?}");
            prop_assert!(!state.is_over() || after == state, "what is over stays over");
            state = after;
        }
    }
}
