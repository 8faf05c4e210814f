//! Whatever is read, the loop keeps its promises.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

use std::collections::BTreeMap;

use agent_core::qos::allowance::Allowance;
use agent_core::qos::memory::Possible;
use agent_core::qos::settings::{CLEAN_MS, GROWTH, HEADROOM, LEAST_MILLIS, STALE_MS};
use agent_core::qos::{Act, BestEffort, Critical, Delay, Governor, NodeUse, Observation, Reason, Settings};
use proptest::prelude::*;

const CPU_MILLIS: u32 = 8_000;

/// One reading of a made-up node: rates, from which totals are made.
#[derive(Debug, Clone)]
struct Round {
    ms: u64,
    /// Mean delay in thousandths of the target; `None` = not read.
    delay: Option<u64>,
    stall: Option<f64>,
    memory_stall: f64,
    best_millis: Option<u64>,
    others_millis: Option<u64>,
    free: f64,
    critical: bool,
    tasks: usize,
}

fn round() -> impl Strategy<Value = Round> {
    let delay = prop_oneof![6 => Just(Some(0)), 2 => (0u64..6_000).prop_map(Some), 1 => Just(None)];
    let stall = prop_oneof![6 => Just(Some(0.0)), 1 => (0.0..1.0f64).prop_map(Some), 1 => Just(None)];
    let memory_stall = prop_oneof![8 => Just(0.0), 1 => 0.0..1.0f64];
    let others = prop_oneof![6 => (0u64..9_000).prop_map(Some), 6 => Just(None)];
    let best = prop_oneof![8 => (0u64..9_000).prop_map(Some), 1 => Just(None)];
    let free = prop_oneof![8 => Just(0.5), 1 => 0.0..0.3f64];
    let ms = prop_oneof![8 => Just(100u64), 4 => Just(1_000), 1 => 1u64..30_000];
    (ms, delay, stall, memory_stall, best, others, free, 0u8..20, 0usize..4).prop_map(
        |(ms, delay, stall, memory_stall, best_millis, others_millis, free, critical, tasks)| Round {
            ms,
            delay,
            stall,
            memory_stall,
            best_millis,
            others_millis,
            free,
            critical: critical > 0,
            tasks,
        },
    )
}

/// Makes totals of rounds.
#[derive(Default)]
struct Node {
    now_ms: u64,
    delay_ns: u64,
    runs: u64,
    stall_us: f64,
    memory_us: f64,
    best_us: u64,
    busy_us: u64,
    idle: bool,
}

impl Node {
    fn read(&mut self, r: &Round) -> Observation {
        self.now_ms += r.ms;
        let runs = r.ms * 10;
        self.runs += runs;
        self.delay_ns += r.delay.unwrap_or(0) * 1_000 * runs;
        self.stall_us += r.stall.unwrap_or(0.0) * r.ms as f64 * 1e3;
        self.memory_us += r.memory_stall * r.ms as f64 * 1e3;
        self.best_us += r.best_millis.unwrap_or(0) * r.ms;
        self.busy_us += (r.others_millis.unwrap_or(0) + r.best_millis.unwrap_or(0)) * r.ms;
        let critical = Critical {
            task: "web-1".parse().unwrap(),
            delay: r.delay.map(|_| Delay { total_ns: self.delay_ns, runs: self.runs }),
            lengths: None,
            cpu_stall_us: r.stall.map(|_| self.stall_us as u64),
            memory_stall_us: Some(self.memory_us as u64),
            cpu_us: None,
            held: None,
        };
        let best = (0..r.tasks).map(|n| BestEffort {
            task: format!("jobs-{n}").parse().unwrap(),
            age: n as u64,
            cpu_us: r.best_millis.map(|_| self.best_us),
            memory_bytes: Some(1 << 30),
            own_millis: None,
            held: false,
            idle: self.idle,
        });
        Observation {
            now_ms: self.now_ms,
            critical: if r.critical { vec![critical] } else { vec![] },
            best: best.collect(),
            node: r.others_millis.map(|_| NodeUse {
                busy_us: self.busy_us,
                memory_bytes: 1 << 34,
                available_bytes: (r.free * (1u64 << 34) as f64) as u64,
            }),
        }
    }
}

fn governor() -> Governor {
    Governor::new(Settings::default(), CPU_MILLIS, Possible::ALL)
}

fn millis(governor: &Governor) -> Option<u32> {
    match governor.allowance() {
        Allowance::Capped { millis } => Some(millis),
        _ => None,
    }
}

fn calm(ms: u64) -> Round {
    Round {
        ms,
        delay: Some(0),
        stall: Some(0.0),
        memory_stall: 0.0,
        best_millis: Some(400),
        others_millis: Some(1_000),
        free: 0.5,
        critical: true,
        tasks: 1,
    }
}

/// A node that has been calm for a minute.
fn grown() -> (Node, Governor) {
    let (mut node, mut governor) = (Node::default(), governor());
    for _ in 0..60 {
        governor.step(&node.read(&calm(1_000)));
    }
    assert_eq!(millis(&governor), Some(5_400), "80 % of eight CPUs less the one that others use");
    (node, governor)
}

#[test]
fn a_breach_shrinks_in_the_reading_that_shows_it_and_a_severe_one_goes_to_the_floor() {
    // Where waits are counted, stalled time is not looked at.
    for (delay, stall, to) in [(Some(1_001), 0.0, 400), (None, 0.51, 400), (Some(9_000), 0.0, 400)] {
        let (mut node, mut governor) = grown();
        let breach = Round { delay, stall: Some(stall), best_millis: Some(400), ..calm(100) };
        let step = governor.step(&node.read(&breach));
        assert_eq!(millis(&governor), Some(to), "{:?}", step.reasons);
        assert!(matches!(&step.acts[..], [Act::Cap { millis: Some(400), .. }]), "{:?}", step.acts);
    }
    let (mut node, mut governor) = grown();
    governor.step(&node.read(&Round { best_millis: Some(5_400), ..calm(1_000) }));
    let busy = Round { best_millis: Some(5_400), others_millis: None, delay: Some(1_500), ..calm(100) };
    governor.step(&node.read(&busy));
    assert_eq!(millis(&governor), Some(2_700), "half of what was used");
    let step = governor.step(&node.read(&Round { delay: Some(4_000), ..busy }));
    assert_eq!(millis(&governor), Some(400), "{:?}", step.reasons);
    let step = governor.step(&node.read(&Round { delay: Some(4_000), ..busy }));
    assert!(matches!(step.reasons[0], Reason::AtFloor { .. }), "{:?}", step.reasons);
}

#[test]
fn between_calm_and_breach_nothing_moves_and_growth_near_the_last_breach_is_slow() {
    let (mut node, mut governor) = grown();
    // This node waits as long in a pause.
    governor.set(Settings { pauses: false, ..Settings::default() });
    governor.step(&node.read(&Round { best_millis: Some(5_400), ..calm(1_000) }));
    governor.step(&node.read(&Round { delay: Some(2_000), best_millis: Some(5_400), ..calm(100) }));
    let before = millis(&governor).unwrap();
    for _ in 0..60 {
        governor.step(&node.read(&Round { delay: Some(900), best_millis: Some(2_000), ..calm(1_000) }));
    }
    assert_eq!(millis(&governor), Some(before), "90 % of what is borne is not calm");
    let mut levels = Vec::new();
    for _ in 0..40 {
        governor.step(&node.read(&calm(1_000)));
        levels.push(millis(&governor).unwrap());
    }
    // Of the 5,400 at which it broke: fast to 80 %, slow from there.
    let (fast, slow): (Vec<_>, Vec<_>) = levels.windows(2).partition(|pair| pair[0] < 4_320);
    assert!(fast.iter().any(|pair| pair[1] - pair[0] == 800), "{levels:?}");
    assert!(fast.iter().all(|pair| pair[1] <= 4_320), "it is approached, not jumped at: {levels:?}");
    assert!(slow.iter().all(|pair| pair[1] - pair[0] <= 80), "{levels:?}");
    assert_eq!(levels.last(), Some(&5_400));
}

#[test]
fn without_data_it_holds_and_then_goes_to_the_floor() {
    let (mut node, mut governor) = grown();
    let blind = Round { delay: None, stall: None, ..calm(1_000) };
    for round in 1..=STALE_MS / 1_000 {
        let step = governor.step(&node.read(&blind));
        assert!(matches!(step.reasons[0], Reason::NoData { .. }), "round {round}: {:?}", step.reasons);
        assert_eq!(millis(&governor), Some(5_400));
    }
    let step = governor.step(&node.read(&blind));
    assert!(matches!(step.reasons[0], Reason::BlindTooLong { to: 400, .. }), "{:?}", step.reasons);
    // No reading at all is the same.
    let (node, mut governor) = grown();
    let due = governor.silent_at_ms().unwrap();
    assert_eq!(due, node.now_ms + STALE_MS);
    assert!(governor.silent(due - 1).reasons.is_empty());
    assert_eq!(governor.silent(due).acts.len(), 1);
    assert_eq!((millis(&governor), governor.silent_at_ms()), (Some(400), None));
}

#[test]
fn the_node_without_latency_critical_work_is_best_efforts_and_with_it_is_not() {
    let (mut node, mut governor) = (Node::default(), governor());
    let alone = Round { critical: false, ..calm(1_000) };
    let step = governor.step(&node.read(&alone));
    assert!(matches!(&step.acts[..], [Act::Cap { millis: None, .. }]), "{:?}", step.acts);
    governor.step(&node.read(&alone));
    let step = governor.step(&node.read(&calm(1_000)));
    assert!(matches!(step.reasons[0], Reason::Began { millis: 5_400 }), "{:?}", step.reasons);
}

#[test]
fn a_short_node_ends_the_youngest_and_nobody_else() {
    let (mut node, mut governor) = (Node::default(), governor());
    let short = Round { free: 0.02, tasks: 3, ..calm(1_000) };
    let mut acts = Vec::new();
    for _ in 0..9 {
        acts.extend(governor.step(&node.read(&short)).acts);
    }
    let order: Vec<&str> = acts
        .iter()
        .filter_map(|act| match act {
            Act::Cap { .. } => None,
            Act::Reclaim { .. } => Some("reclaim"),
            Act::High { .. } => Some("high"),
            Act::Freeze { .. } => Some("freeze"),
            Act::Thaw { .. } => Some("thaw"),
            Act::Stop { .. } => Some("stop"),
        })
        .collect();
    let expected = [
        "reclaim", "reclaim", "reclaim", "high", "high", "high", "freeze", "freeze", "freeze", "thaw", "stop",
    ];
    assert_eq!(order, expected);
    let Some(Act::Stop { task, why }) = acts.last() else { panic!("{acts:?}") };
    assert_eq!(task.as_str(), "jobs-2");
    assert!(why.contains("2.0 % of the memory is available"), "{why}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn promises_hold_whatever_is_read(rounds in prop::collection::vec(round(), 1..200), idle in any::<bool>()) {
        let (mut node, mut governor) = (Node { idle, ..Node::default() }, governor());
        let settings = Settings::default();
        let usual = if idle { 0.0 } else { HEADROOM };
        let most = (f64::from(CPU_MILLIS) * (1.0 - usual)) as u32;
        let (mut before, mut last_unclean, mut grown_at) = (None, 0u64, None::<u64>);
        let mut given: BTreeMap<String, Option<u32>> = BTreeMap::new();
        for round in &rounds {
            let seen = node.read(round);
            let borne = |by_delay| governor.own().borne(&"web-1".parse().unwrap(), by_delay, &settings);
            let breach = match (round.delay, round.stall) {
                (Some(us), _) => us as f64 * 1e3 > borne(true),
                (None, stall) => stall.is_some_and(|share| share > borne(false) + 0.01),
            };
            let step = governor.step(&seen);
            let pauses = matches!(step.reasons.last(), Some(Reason::Paused { .. }));
            let reasons = if pauses { 3 } else { 2 };
            prop_assert_eq!(step.reasons.len(), reasons, "one about CPU, one about memory, and pauses have theirs");
            for reason in &step.reasons {
                prop_assert!(!reason.to_string().is_empty());
                prop_assert!(agent_core::qos::reason::CODES.contains(&reason.code()));
            }
            for act in &step.acts {
                prop_assert!(act.task().as_str().starts_with("jobs-"), "latency-critical work is never touched");
                if let Act::Cap { task, millis } = act {
                    given.insert(task.to_string(), *millis);
                }
            }
            given.retain(|task, _| seen.best.iter().any(|b| b.task.as_str() == task));
            let now = millis(&governor);
            let unknown = round.delay.is_none() && round.stall.is_none();
            if unknown || breach || round.ms > 2_000 || !round.critical || round.tasks == 0 {
                last_unclean = node.now_ms;
            }
            if let Some(now) = now {
                let floor = 400.max(LEAST_MILLIS * round.tasks as u32);
                let most = if governor.headroom() < usual { CPU_MILLIS } else { most };
                prop_assert!((floor..=most).contains(&now), "{now}");
                prop_assert_eq!(given.len(), round.tasks, "each task has its share");
                let shares: u32 = if now >= CPU_MILLIS { 0 } else { given.values().map(|share| share.unwrap_or(u32::MAX / 8)).sum() };
                prop_assert!(shares <= now, "{shares} of {now}");
                if let Some(before) = before.filter(|before| now > *before)
                    && !matches!(step.reasons[0], Reason::Began { .. })
                {
                        prop_assert!(!unknown && !breach, "{:?}", step.reasons);
                        prop_assert!(node.now_ms - last_unclean >= CLEAN_MS);
                        prop_assert!(now - before <= (f64::from(CPU_MILLIS) * GROWTH) as u32);
                        prop_assert!(grown_at.is_none_or(|at| node.now_ms - at >= 1_000));
                        grown_at = Some(node.now_ms);
                }
            }
            before = now;
        }
    }
}

#[test]
fn people_see_what_was_decided_and_not_every_reading() {
    let (mut node, mut governor) = grown();
    for _ in 0..600 {
        governor.step(&node.read(&calm(100)));
    }
    let breach = Round { delay: Some(9_000), ..calm(100) };
    for round in 0..300 {
        let round = if round % 2 == 0 { breach.clone() } else { calm(100) };
        governor.step(&node.read(&round));
    }
    let codes: Vec<&str> = governor.decisions().map(|d| d.reason.code()).collect();
    assert!(codes.len() < 20, "{codes:?}");
    for code in ["began", "grown", "at_ceiling", "delay_above", "memory_calm"] {
        assert!(codes.contains(&code), "{code} in {codes:?}");
    }
    let steps: u64 = governor.counts().values().sum();
    assert_eq!(steps, 2 * (60 + 600 + 300), "each step counts one reason about CPU and one about memory");
    let grown = governor.decisions().find(|d| d.reason.code() == "grown").unwrap();
    assert!(matches!(grown.reason, Reason::Grown { from: 400, to: 5_400, .. }), "{:?}", grown.reason);
}

#[test]
fn a_pause_takes_everything_for_three_readings_and_gives_it_back() {
    let (mut node, mut governor) = grown();
    let busy = Round { best_millis: Some(3_000), tasks: 2, ..calm(150) };
    let mut given: BTreeMap<String, Option<u32>> = BTreeMap::new();
    let mut pauses = Vec::new();
    for step in 0..600 {
        let before = given.clone();
        let done = governor.step(&node.read(&busy));
        let caps: Vec<_> = done
            .acts
            .iter()
            .filter_map(|act| match act {
                Act::Cap { task, millis } => Some((task.to_string(), *millis)),
                _ => None,
            })
            .collect();
        given.extend(caps);
        if matches!(done.reasons.last(), Some(Reason::Paused { tasks: 2 })) {
            assert!(given.values().all(|share| *share == Some(LEAST_MILLIS)), "step {step}: {given:?}");
            pauses.push((step, before));
        }
        if let Some((began, before)) = pauses.last() {
            match step - began {
                1 | 2 => assert_eq!(done.reasons[0], Reason::PauseHolds),
                3 => assert_eq!(&given, before, "what each had before"),
                _ => {}
            }
        }
    }
    assert_eq!(pauses.len(), 8, "every ten seconds while it is new here: {pauses:?}");
    assert!(governor.limit().is_none());
}

#[test]
fn what_was_found_to_harm_is_not_tried_again_until_less_was_found_harmless() {
    let (mut node, mut governor) = grown();
    let mut pausing = false;
    let mut limits = Vec::new();
    for _ in 0..20_000 {
        let (delay, level) = (500, millis(&governor).unwrap());
        // Harm above 2,000m only, and below the target.
        let wait = if pausing || level <= 2_000 { 50 } else { delay };
        let used = if pausing { 10 } else { u64::from(level) };
        let round = Round { delay: Some(wait), best_millis: Some(used), ..calm(150) };
        let step = governor.step(&node.read(&round));
        pausing = match &step.reasons[..] {
            [.., Reason::Paused { .. }] => true,
            [Reason::PauseHolds, ..] => pausing,
            _ => false,
        };
        if limits.last() != Some(&governor.limit()) {
            limits.push(governor.limit());
        }
        if let Some(limit) = governor.limit() {
            assert!(millis(&governor).unwrap() <= limit);
        }
    }
    assert!(limits.len() >= 3, "{limits:?}");
    assert_eq!(limits[..2], [None, Some(2_700)], "half of the 5,400 that it used: {limits:?}");
    assert_eq!(limits[2], Some(1_350), "that was still too much: {limits:?}");
    assert_eq!(limits[3], Some(2_150), "and that was not: a step more, {limits:?}");
}
