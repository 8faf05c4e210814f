use std::collections::BTreeSet;
use std::fmt::Write;

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    balanced: true,
    boot_ms: 10,
    up_ms: 10,
    settle_ms: 3,
    down_ms: 10,
    drain_ms: 10,
    delete_ms: 10,
    away_ms: 50,
};

fn states() -> Vec<State> {
    let since = Time(0);
    vec![
        State::New { since, healthy: false },
        State::New { since, healthy: true },
        State::Booting { since },
        State::Added { since },
        State::Settle { since },
        State::Up { since },
        State::Down { since },
        State::Away { since },
        State::Draining { since },
        State::Returning { since },
        State::Term { since },
        State::Maint { since },
        State::Deleting { since },
        State::Deleted { since },
    ]
}

fn events() -> Vec<Event> {
    let steps =
        [Step::Start, Step::Add, Step::Ready, Step::Drain, Step::Stop, Step::Maintenance, Step::Remove];
    let mut events = vec![
        Event::Healthy,
        Event::Unhealthy,
        Event::Ended,
        Event::Missing,
        Event::Leave,
        Event::Return,
        Event::NodeLost,
        Event::Runs,
        Event::Tick,
    ];
    for step in steps {
        events.extend([Event::Done(step), Event::Refused(step), Event::GaveUp(step)]);
    }
    for state in [
        ServerState::Up,
        ServerState::Failing,
        ServerState::Down,
        ServerState::Draining,
        ServerState::Maintenance,
    ] {
        events.extend([Event::Seen { state, idle: false }, Event::Seen { state, idle: true }]);
    }
    events
}

fn label(event: Event) -> String {
    match event {
        Event::Seen { state, idle } => format!("seen {state:?}{}", if idle { " idle" } else { "" }),
        Event::Tick => "deadline".to_owned(),
        event => format!("{event:?}").to_lowercase().replace('(', " ").replace(')', ""),
    }
}

fn edges(balanced: bool) -> String {
    let limits = Limits { balanced, ..LIMITS };
    let mut lines = BTreeSet::new();
    for state in states() {
        let unreached = ["added", "draining", "returning", "maint", "deleting"];
        if !balanced && unreached.contains(&state.name()) {
            continue;
        }
        for event in events() {
            let (after, effects) = state.on(event, &limits, Time(100));
            if after.name() != state.name() {
                let effect = effects.iter().map(|e| format!(" / {e:?}")).collect::<String>();
                lines.insert(format!(
                    "  {} -> {} [label=\"{}{effect}\"];",
                    state.name(),
                    after.name(),
                    label(event)
                ));
            }
        }
    }
    let mut dot =
        format!("digraph replica_{} {{\n", if balanced { "behind_balancer" } else { "without_balancer" });
    for line in lines {
        writeln!(dot, "{line}").unwrap();
    }
    dot.push_str("}\n");
    dot
}

#[test]
fn the_edges_are_those_of_the_committed_graphs() {
    crate::testing::golden("src/replica_balanced.dot", include_str!("replica_balanced.dot"), &edges(true));
    crate::testing::golden("src/replica_plain.dot", include_str!("replica_plain.dot"), &edges(false));
}

#[test]
fn a_replica_comes_up_and_leaves_in_the_order_that_loses_nothing() {
    let mut state = State::New { since: Time(0), healthy: false };
    let mut steps = vec![];
    let story = [
        Event::Done(Step::Start),
        Event::Healthy,
        Event::Done(Step::Add),
        Event::Seen { state: ServerState::Down, idle: true },
        Event::Seen { state: ServerState::Up, idle: true },
        Event::Tick,
        Event::Leave,
        Event::Seen { state: ServerState::Draining, idle: false },
        Event::Seen { state: ServerState::Draining, idle: true },
        Event::Ended,
        Event::Done(Step::Maintenance),
        Event::Done(Step::Remove),
    ];
    for (at, event) in story.into_iter().enumerate() {
        let (after, effects) = state.on(event, &LIMITS, Time(5 * at as u64));
        assert_eq!(effects, vec![], "{event:?}");
        steps.push(after.name());
        state = after;
    }
    assert_eq!(
        steps.join(" "),
        "booting added added added settle up draining draining term maint deleting deleted"
    );
}

#[test]
fn a_cancelled_drain_takes_requests_again_and_a_stop_cannot_be_cancelled() {
    let (state, _) = State::Draining { since: Time(0) }.on(Event::Return, &LIMITS, Time(1));
    assert_eq!(state, State::Returning { since: Time(1) });
    let term = State::Term { since: Time(0) };
    assert_eq!(term.on(Event::Return, &LIMITS, Time(1)), (term, vec![Effect::Anomaly(term, Event::Return)]));
}

#[test]
fn a_balancer_that_forgot_its_servers_is_told_of_them_again() {
    let (state, effects) = State::Up { since: Time(0) }.on(Event::Missing, &LIMITS, Time(1));
    assert_eq!((state, effects), (State::Added { since: Time(1) }, vec![]));
    assert_eq!(state.step(), Some(Step::Add));
}

proptest! {
    /// A process is never asked to end while the balancer may still send it requests, unless its drain's deadline
    /// passed or it never was up.
    #[test]
    fn no_stop_without_a_drain(choices in prop::collection::vec((0usize..40, 0u64..6), 1..60)) {
        let all = events();
        let mut state = State::New { since: Time(0), healthy: false };
        let mut now = Time(0);
        let mut was_up = false;
        for (choice, ms) in choices {
            now = now.after(ms);
            let (after, _) = state.on(all[choice % all.len()], &LIMITS, now);
            was_up |= after.serves();
            if was_up && after.name() == "term" && state.name() != "term" {
                prop_assert!(matches!(state.name(), "draining" | "maint" | "deleting" | "deleted"));
            }
            if state.name() == "deleted" {
                prop_assert!(matches!(after.name(), "deleted" | "term"), "what runs all the same is ended");
            }
            state = after;
        }
    }

    /// Without any answer, time alone brings every replica that is asked to leave to its end or keeps asking.
    #[test]
    fn a_leaving_replica_always_asks_for_something(start in 0usize..13) {
        let state = states()[start];
        if state.leaves() {
            prop_assert!(state.step().is_some());
        }
    }
}

#[test]
fn only_its_agents_list_brings_back_a_replica_of_a_silent_node() {
    let away = State::Away { since: Time(0) };
    for event in events().into_iter().filter(|event| !matches!(event, Event::Runs)) {
        let (after, _) = away.on(event, &LIMITS, Time(1));
        assert!(!after.counts(), "{event:?} makes it {}", after.name());
    }
    assert!(away.on(Event::Runs, &LIMITS, Time(1)).0.counts());
}
