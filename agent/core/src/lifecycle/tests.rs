use std::collections::BTreeSet;
use std::fmt::Write;

use proptest::prelude::*;

use super::*;

fn states() -> Vec<State> {
    vec![
        State::Starting,
        State::Running { since_ms: 0, healthy: None, checked: false },
        State::Running { since_ms: 0, healthy: Some(true), checked: true },
        State::Stopping { kill_at_ms: 5 },
        State::Emptying { status: Some(0), signal: None, asked: true, kill_at_ms: 5 },
        State::Lingering { remove_at_ms: 5 },
        State::Over,
    ]
}

fn events() -> Vec<(&'static str, Event)> {
    vec![
        ("started", Event::Started { pid: 1, checked: true }),
        ("not started", Event::NotStarted { why: "no such file".into() }),
        ("found", Event::Found { pid: 1, checked: true }),
        ("stop asked", Event::StopAsked { grace_ms: 10 }),
        ("exited", Event::Exited { status: Some(0), signal: None }),
        ("emptied", Event::Emptied { cpu_total_us: Some(7) }),
        ("check passed", Event::CheckPassed),
        ("check failed", Event::CheckFailed { why: "timeout".into() }),
        ("tick", Event::Tick),
    ]
}

/// The shell sleeps until a state is due, so a tick must do nothing before, and something then.
#[test]
fn a_tick_does_something_when_it_is_due_and_not_before() {
    for state in states() {
        let unchanged = |now_ms| state.clone().on(Event::Tick, now_ms) == (state.clone(), vec![]);
        match state.due_ms() {
            Some(due_ms) => assert!(unchanged(due_ms - 1) && !unchanged(due_ms), "{state:?}"),
            None => assert!(unchanged(u64::MAX), "{state:?}"),
        }
    }
}

#[test]
fn a_start_is_over_when_it_is_healthy_or_took_too_long() {
    let running = |healthy| State::Running { since_ms: 7, healthy, checked: true };
    assert_eq!(running(Some(true)).startup_over_ms(), Some(7));
    assert_eq!(running(None).startup_over_ms(), Some(7 + STARTUP_LIMIT_MS));
    assert_eq!(running(Some(false)).startup_over_ms(), Some(7 + STARTUP_LIMIT_MS));
    assert_eq!(State::Starting.startup_over_ms(), None);
}

/// The committed diagram is what the machine does.
#[test]
fn the_diagram_is_the_machine() {
    let mut edges = BTreeSet::new();
    for state in states() {
        for (label, event) in events() {
            let from = state.name();
            let (to, effects) = state.clone().on(event, 100_000);
            if !effects.iter().any(|e| matches!(e, Effect::Anomaly(_)))
                && (from != to.name() || !effects.is_empty())
            {
                edges.insert(format!("  {from} -> {} [label=\"{label}\"];", to.name()));
            }
        }
    }
    let mut dot =
        "// Made by the test the_diagram_is_the_machine; UPDATE=1 writes it anew.\ndigraph lifecycle {\n"
            .to_owned();
    for edge in edges {
        writeln!(dot, "{edge}").unwrap();
    }
    dot.push_str("}\n");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lifecycle/lifecycle.dot");
    #[allow(clippy::disallowed_methods, reason = "a test compares with a committed file")]
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &dot).unwrap();
    } else {
        assert_eq!(std::fs::read_to_string(path).unwrap(), dot, "run with UPDATE=1 and read the difference");
    }
}

#[test]
fn a_task_that_ignores_sigterm_is_killed_after_its_grace_and_again() {
    let running = State::Running { since_ms: 0, healthy: Some(true), checked: true };
    let (state, effects) = running.on(Event::StopAsked { grace_ms: 500 }, 1000);
    assert_eq!(effects, [Effect::Terminate]);
    let (state, effects) = state.on(Event::Tick, 1499);
    assert!(effects.is_empty());
    let (state, effects) = state.on(Event::Tick, 1500);
    assert_eq!(effects, [Effect::Kill]);
    let (state, effects) = state.on(Event::Tick, 2500);
    assert_eq!(effects, [Effect::Kill]);
    let (state, effects) = state.on(Event::Exited { status: None, signal: Some(9) }, 2600);
    assert_eq!(effects, [Effect::AwaitEmpty]);
    let (state, effects) = state.on(Event::Emptied { cpu_total_us: Some(42) }, 2700);
    let ended = TaskEventKind::Ended { status: None, signal: Some(9), cpu_total_us: Some(42), asked: true };
    assert_eq!(effects, [Effect::Report(ended)]);
    let (state, effects) = state.on(Event::Tick, 2700 + LINGER_MS);
    assert_eq!((state, effects), (State::Over, vec![Effect::Remove]));
}

proptest! {
    /// However events come, an end is reported at most once and removal comes after it.
    #[test]
    fn an_end_is_reported_once_and_before_removal(order in prop::collection::vec((0usize..9, 0u64..4000), 0..60)) {
        let (mut state, mut now, mut ended, mut removed) = (State::Starting, 0, 0, 0);
        let events = events();
        for (which, wait) in order {
            now += wait;
            let (next, effects) = state.on(events[which].1.clone(), now);
            state = next;
            for effect in effects {
                match effect {
                    Effect::Report(TaskEventKind::Ended { .. }) => ended += 1,
                    Effect::Remove => { removed += 1; prop_assert_eq!(ended, 1); }
                    _ => {}
                }
            }
        }
        prop_assert!(ended <= 1 && removed <= 1);
    }
}
