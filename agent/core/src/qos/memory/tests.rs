use std::collections::BTreeSet;
use std::fmt::Write;

use proptest::prelude::*;

use super::*;

const HARD: Event = Event::Breach { short: true, possible: Possible::ALL };
const SOFT: Event = Event::Breach { short: false, possible: Possible::ALL };

fn states() -> Vec<State> {
    let mut states = vec![State::Calm, State::Resting { until_ms: 1_000_000 }];
    states.extend(Grade::ALL.map(|grade| State::Pressed { grade, acted_ms: 0, calm_since: Some(0) }));
    states
}

/// The committed diagram is what the machine does.
#[test]
fn the_diagram_is_the_machine() {
    let mut edges = BTreeSet::new();
    let nothing = Possible { reclaim: false, high: false, freeze: false };
    for state in states() {
        for (label, event) in [
            ("breach", SOFT),
            ("node short", HARD),
            ("breach, nothing possible", Event::Breach { short: false, possible: nothing }),
            ("calm", Event::Calm),
            ("between", Event::Between),
        ] {
            for now_ms in [GRADE_MS - 1, GRADE_MS, FREEZE_MS, 2_000_000] {
                let (next, effect) = state.on(event, now_ms);
                if next.name() != state.name() || effect.is_some() {
                    let effect = effect.map_or(String::new(), |e| {
                        let shown = format!("{e:?}");
                        format!(" / {}", shown.split(['(', ' ']).next().unwrap_or_default())
                    });
                    edges.insert(format!(
                        "  {} -> {} [label=\"{label}{effect}\"];",
                        state.name(),
                        next.name()
                    ));
                }
            }
        }
    }
    let mut dot = String::from("digraph memory {\n");
    for edge in edges {
        writeln!(dot, "{edge}").unwrap();
    }
    dot.push_str("}\n");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/qos/memory/memory.dot");
    assert_eq!(include_str!("memory.dot"), dot, "write this to {path}:\n{dot}");
}

#[test]
fn grades_come_in_order_each_with_its_time_and_only_a_short_node_ends_tasks() {
    let (mut state, mut seen) = (State::Calm, Vec::new());
    for now_ms in (0..40_000).step_by(100) {
        let (next, effect) = state.on(if now_ms < 20_000 { SOFT } else { HARD }, now_ms);
        state = next;
        seen.extend(effect.map(|effect| (now_ms, effect)));
    }
    use Effect::Apply;
    let expected = [
        (0, Apply(Grade::Reclaim)),
        (2_000, Apply(Grade::High)),
        (4_000, Apply(Grade::Freeze)),
        (20_000, Apply(Grade::Stop)),
        (30_000, Apply(Grade::Stop)),
    ];
    assert_eq!(seen, expected);
    let (calm, effect) = state.on(Event::Calm, 50_000);
    assert_eq!(effect, None);
    assert_eq!(calm.on(Event::Calm, 50_000 + CLEAN_MS), (State::Calm, Some(Effect::Undo(CLEAN_MS))));
}

#[test]
fn a_freeze_that_does_not_help_is_given_back_and_not_tried_again_for_a_while() {
    let frozen = State::Pressed { grade: Grade::Freeze, acted_ms: 0, calm_since: None };
    let (resting, effect) = frozen.on(SOFT, FREEZE_MS);
    assert_eq!(effect, Some(Effect::GiveUp(FREEZE_MS)));
    assert_eq!(resting.on(SOFT, FREEZE_MS + REST_MS - 1), (resting, None));
    assert_eq!(resting.on(HARD, FREEZE_MS + 1).1, Some(Effect::Apply(Grade::Reclaim)), "a short node is");
    assert_eq!(resting.on(SOFT, FREEZE_MS + REST_MS).1, Some(Effect::Apply(Grade::Reclaim)));
}

#[test]
fn what_a_host_cannot_do_is_passed_over() {
    let possible = Possible { reclaim: false, high: false, freeze: true };
    let event = Event::Breach { short: false, possible };
    assert_eq!(State::Calm.on(event, 0).1, Some(Effect::Apply(Grade::Freeze)));
    let none = Possible { freeze: false, ..possible };
    let event = Event::Breach { short: false, possible: none };
    assert_eq!(State::Calm.on(event, 0), (State::Calm, Some(Effect::Nothing)));
}

proptest! {
    /// Whatever comes, a stronger grade follows a weaker one after its time, nothing ends a task unless the node is short, and
    /// what was applied is given back before it is calm.
    #[test]
    fn grades_rise_one_at_a_time(events in prop::collection::vec((0u8..4, 50u64..3_000), 1..300)) {
        let (mut state, mut now_ms, mut last) = (State::Calm, 0, None::<(Grade, u64)>);
        for (event, ms) in events {
            now_ms += ms;
            let event = match event { 0 => SOFT, 1 => HARD, 2 => Event::Calm, _ => Event::Between };
            let (next, effect) = state.on(event, now_ms);
            match effect {
                Some(Effect::Apply(grade)) => {
                    if let Some((before, at)) = last {
                        prop_assert!(now_ms - at >= GRADE_MS);
                        prop_assert!(grade as u8 == before as u8 + 1 || (grade, before) == (Grade::Stop, Grade::Stop));
                    } else {
                        prop_assert_eq!(grade, Grade::Reclaim);
                    }
                    prop_assert!(grade != Grade::Stop || event == HARD);
                    last = Some((grade, now_ms));
                }
                Some(Effect::Undo(ms)) => {
                    prop_assert!(ms >= CLEAN_MS);
                    last = None;
                }
                Some(Effect::GiveUp(_)) => last = None,
                Some(Effect::Nothing) => prop_assert!(false, "everything is possible"),
                None => {}
            }
            prop_assert_eq!(last.is_some(), matches!(next, State::Pressed { .. }));
            state = next;
        }
    }
}
