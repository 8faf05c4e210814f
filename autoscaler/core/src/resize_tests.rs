use super::*;
use proptest::prelude::*;

fn size(cpu: u32, memory: u64) -> Size {
    Size { cpu_max_millis: Some(cpu), memory_max_bytes: Some(memory), ..Size::default() }
}

fn task(n: u32) -> TaskName {
    TaskName::new(format!("web-{n}")).unwrap()
}

const FROM: fn() -> Size = || size(1_000, 1 << 30);
const TO: fn() -> Size = || size(800, 1 << 30);

fn canary() -> State {
    let event = Event::Proposed { task: task(1), from: FROM(), to: TO() };
    State::Steady.on(event, 10_000, Time(0)).0
}

fn look(fault: Option<&str>) -> Event {
    Event::Looked { ms: 5_000, fault: fault.map(str::to_owned) }
}

/// Plays events a second apart.
fn play(mut state: State, events: Vec<Event>) -> (State, Vec<Effect>) {
    let mut all = Vec::new();
    for (at, event) in events.into_iter().enumerate() {
        let (next, effects) = state.on(event, 10_000, Time(1_000 * at as u64));
        state = next;
        all.extend(effects);
    }
    (state, all)
}

#[test]
fn one_first_then_the_others_then_steady() {
    let state = canary();
    assert_eq!((state.wants(&task(1), FROM()), state.wants(&task(2), FROM())), (TO(), FROM()));
    let (state, effects) = play(state, vec![look(None), look(None), look(None)]);
    assert_eq!((state.name(), effects), ("canary", vec![]), "nothing counts before it has the size");
    let (state, effects) = play(state, vec![Event::Applied, look(None), look(None)]);
    assert_eq!((state.name(), effects), ("spreading", vec![Effect::Spread]));
    assert_eq!(state.wants(&task(2), FROM()), TO());
    let (state, effects) = play(state, vec![Event::Applied, look(None), look(None), Event::Applied]);
    assert_eq!((state, effects), (State::Steady, vec![Effect::Settled]));
}

#[test]
fn two_bad_looks_or_one_breakage_bring_everybody_back() {
    let applied = canary().on(Event::Applied, 10_000, Time(0)).0;
    let (state, effects) = play(applied.clone(), vec![look(Some("full")), look(None), look(Some("full"))]);
    assert_eq!((state.name(), effects), ("canary", vec![]), "one bad look is noise");
    let (state, effects) = play(state, vec![look(Some("full"))]);
    assert_eq!((state.name(), effects), ("returning", vec![Effect::Return("full".to_owned())]));
    assert_eq!((state.wants(&task(1), TO()), state.wants(&task(2), TO())), (FROM(), FROM()));
    assert_eq!(state.on(Event::Applied, 10_000, Time(0)), (State::Steady, vec![Effect::Returned]));
    let (state, _) = play(applied, vec![look(None), look(None), Event::Broke("killed".to_owned())]);
    assert_eq!(state.name(), "returning", "also while the others follow");
}

#[test]
fn what_cannot_be_judged_is_taken_back() {
    let state = canary();
    let overdue = Time(OVERDUE * 10_000 + ANSWER_MS);
    assert_eq!(state.clone().on(Event::Tick, 10_000, Time(overdue.0 - 1)).0, state);
    assert_eq!(state.on(Event::Tick, 10_000, overdue).0.name(), "returning");
}

#[test]
fn a_lower_limit_without_room_is_a_fault() {
    let replica = |cpu: f64, throttled: Option<f64>, memory: u64| ReplicaDigest {
        task: task(1),
        node: "a".parse().unwrap(),
        age_ms: Some(0),
        cpu_cores: Some(cpu),
        throttled_ratio: throttled,
        run_delay_mean_seconds: None,
        memory_bytes: Some(memory),
        oom_kills: None,
        puma: None,
    };
    assert_eq!(fault(&replica(0.5, Some(0.1), 1 << 29), FROM(), TO()), None);
    assert!(fault(&replica(0.79, None, 0), FROM(), TO()).unwrap().contains("cores"));
    assert!(fault(&replica(0.1, Some(0.3), 0), FROM(), TO()).unwrap().contains("held back"));
    assert_eq!(fault(&replica(0.99, Some(0.9), 0), TO(), FROM()), None, "it was given more");
    let less = size(1_000, 1 << 29);
    assert!(fault(&replica(0.1, None, (1 << 29) - 100), FROM(), less).unwrap().contains("bytes"));
}

proptest! {
    /// However far the recommendation is, a step keeps to its limits, goes the right way, and gets there in the end.
    #[test]
    fn steps_are_limited_and_arrive(cpu in 10u32..8_000, memory in 1u64 << 24..1 << 36, to_cpu in 10u32..8_000,
        to_memory in 1u64 << 24..1 << 36) {
        let (mut at, wanted) = (size(cpu, memory), size(to_cpu, to_memory));
        for _ in 0..80 {
            let (next, limited) = step(at, wanted);
            let ratio = |a: Option<u64>, b: Option<u64>| b.unwrap() as f64 / a.unwrap() as f64;
            for ratio in [
                ratio(at.cpu_max_millis.map(u64::from), next.cpu_max_millis.map(u64::from)),
                ratio(at.memory_max_bytes, next.memory_max_bytes),
            ] {
                prop_assert!((1.0 - STEP_DOWN - 1e-9..=STEP_UP + 1e-9).contains(&ratio), "{at:?} {next:?}");
            }
            prop_assert!(limited || next == wanted);
            at = next;
        }
        // A limit of a step that rounds to nothing would never arrive.
        prop_assert_eq!(at.memory_max_bytes, wanted.memory_max_bytes);
        prop_assert!(at.cpu_max_millis.unwrap().abs_diff(to_cpu) <= 4, "{:?}", at);
    }

    /// No order of events leaves it stuck between two sizes without wanting one of them.
    #[test]
    fn any_events_end_steady_once_all_is_applied(events in prop::collection::vec(0u8..7, 0..40)) {
        let mut state = State::Steady;
        for (at, event) in events.into_iter().enumerate() {
            let event = match event {
                0 => Event::Proposed { task: task(1), from: FROM(), to: TO() },
                1 => Event::Applied,
                2 => look(None),
                3 => look(Some("full")),
                4 => Event::Broke("lost".to_owned()),
                5 => Event::Withdrawn,
                _ => Event::Tick,
            };
            state = state.on(event, 10_000, Time(at as u64 * 1_000)).0;
            let wants = state.wants(&task(1), FROM());
            prop_assert!(wants == FROM() || wants == TO());
        }
        for _ in 0..4 {
            for event in [Event::Applied, look(None), look(None), look(None)] {
                state = state.on(event, 10_000, Time(60_000)).0;
            }
        }
        prop_assert_eq!(state, State::Steady);
    }
}
