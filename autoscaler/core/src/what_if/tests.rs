use proptest::prelude::*;
use serde_json::json;

use super::*;

const MINUTE: u64 = 60_000;

fn workload(json: serde_json::Value) -> Workload {
    Workload { name: "jobs".parse().unwrap(), spec: serde_json::from_value(json).unwrap() }
}

fn service() -> Workload {
    workload(json!({
        "type": "service", "replicas": {"min": 1, "max": 20}, "target": {"cpu": "65%"}, "mode": "auto",
        "size": {"cpu": "500m", "memory": "1Gi"}, "service": {"launcher": "worker"}
    }))
}

fn rails() -> Workload {
    workload(json!({
        "type": "rails", "replicas": {"min": 2, "max": 20}, "target": {"queueDelayP95": "100ms"},
        "size": {"cpu": "1"}, "rails": {
            "balancer": {"haproxy": "/run/haproxy.sock", "backend": "web"}, "launcher": "puma", "threads": 5
        }
    }))
}

fn subject(workload: Workload) -> Subject {
    let threads = crate::controller::threads(&workload);
    let cores = crate::controller::cores(&workload);
    Subject {
        workload,
        wanted: 4,
        capacity: Capacity::new(threads, cores),
        work: Work { service_ms: 40.0, cpu_ms: Some(10.0) },
        ready_ms: 8_000,
        uses: BTreeMap::new(),
    }
}

/// A day of a daily wave between half a core and 3.5 cores, a minute a step.
fn day() -> Recorded {
    let wave = |minute: u32| 2.0 - 1.5 * (f64::from(minute) / 1_440.0 * std::f64::consts::TAU).cos();
    Recorded {
        from: Time(1_000 * MINUTE),
        step_ms: MINUTE,
        cores: (0..1_440).map(|minute| Some(wave(minute))).collect(),
        replicas: vec![Some(4); 1_440],
        replica_cores_p95: Some(0.4),
        replica_memory: Some(300 << 20),
    }
}

fn play(subject: &Subject, recorded: &Recorded, question: Question) -> Played {
    replay(subject, recorded, &question, &Config::default()).unwrap()
}

#[test]
fn the_same_question_gives_the_same_answer() {
    let (subject, day) = (subject(service()), day());
    let played = play(&subject, &day, Question::default());
    assert_eq!(played.as_is, played.asked);
    assert_eq!((played.differed, played.covered_ms), (0, 1_440 * MINUTE));
    assert_eq!(played.series.load.len(), 360, "put together by fours");
    // 2 cores on average, a third of one for each replica: six, and what the forecast and patience add.
    let mean = played.as_is.replica_hours / 24.0;
    assert!((6.0..11.0).contains(&mean), "{mean}");
    assert!(played.as_is.breach_ms < 30 * MINUTE && played.as_is.changes > 4, "{:?}", played.as_is);
    assert!((played.as_is.core_hours - played.as_is.replica_hours / 2.0).abs() < 1e-9);
    assert_eq!(played.as_is.gib_hours, Some(played.as_is.replica_hours));
}

#[test]
fn a_higher_target_and_less_load_take_less_and_what_differs_has_reasons() {
    let (subject, day) = (subject(service()), day());
    let higher = play(&subject, &day, Question { cpu: Some(Share(0.85)), ..Question::default() });
    assert!(higher.asked.replica_hours < 0.9 * higher.as_is.replica_hours, "{higher:?}");
    assert_eq!(higher.spec.target.cpu, Some(Share(0.85)));
    assert!(higher.differed as usize >= higher.differences.len() && !higher.differences.is_empty());
    for one in &higher.differences {
        assert_ne!((one.as_is.before, one.as_is.after), (one.asked.before, one.asked.after), "{one:?}");
        assert!(!one.as_is.reasons.is_empty() && !one.asked.reasons.is_empty(), "{one:?}");
    }
    let more = play(&subject, &day, Question { load: 1.5, ..Question::default() });
    assert!(more.asked.replica_hours > 1.2 * more.as_is.replica_hours, "{more:?}");
    assert!(more.asked.most <= 20 && more.asked.most > more.as_is.most);
}

#[test]
fn a_maximum_that_is_too_low_shows_as_breaches_and_a_risk_as_replicas() {
    let (subject, day) = (subject(service()), day());
    let bound = play(&subject, &day, Question { max: Some(6), ..Question::default() });
    // Six replicas of a third of a core carry 1.95: the load is above that for half the day.
    assert!((9.0..15.0).contains(&(bound.asked.breach_ms as f64 / 3.6e6)), "{:?}", bound.asked);
    assert_eq!(bound.asked.most, 6);
    let bold = play(&subject, &day, Question { risk: Some(0.01), ..Question::default() });
    let careful = play(&subject, &day, Question { risk: Some(1.0), ..Question::default() });
    assert!(bold.asked.replica_hours <= careful.asked.replica_hours, "{bold:?} {careful:?}");
    assert_eq!(bold.as_is, careful.as_is, "the risk in force is that of the service");
}

#[test]
fn a_headroom_is_a_size() {
    let (subject, day) = (subject(service()), day());
    let small = play(&subject, &day, Question { headroom: Some(0.25), ..Question::default() });
    assert_eq!((small.asked.cpu_millis, small.asked.memory_bytes), (500, Some(375 << 20)));
    assert!(small.asked.gib_hours < small.as_is.gib_hours);
    let unknown = Recorded { replica_cores_p95: None, ..day };
    let refused = replay(
        &subject,
        &unknown,
        &Question { headroom: Some(0.25), ..Question::default() },
        &Config::default(),
    );
    assert_eq!(refused, Err(Unplayed::NoPeak));
}

#[test]
fn requests_are_told_from_cpu_and_a_tighter_queue_takes_more() {
    let (subject, day) = (subject(rails()), day());
    let played = play(&subject, &day, Question { queue_delay: Some(Millis(5)), ..Question::default() });
    let largest = played.series.load.iter().flatten().copied().fold(0.0, f64::max);
    assert!((largest - 350.0).abs() < 1.0, "3.5 cores at 10 ms each: {largest}");
    assert!(played.asked.replica_hours > played.as_is.replica_hours, "{played:?}");
    assert!(played.assumes.iter().any(|words| words.contains("10.0 ms of CPU")), "{:?}", played.assumes);
    assert!(played.assumes.iter().any(|words| words.contains("mode were auto")), "{:?}", played.assumes);
    let mut unknown = subject;
    unknown.work.cpu_ms = None;
    let refused = replay(&unknown, &day, &Question::default(), &Config::default());
    assert_eq!(refused, Err(Unplayed::NoCost));
}

#[test]
fn the_policy_of_kubernetes_is_played_by_its_own_rule() {
    let mut hpa = service();
    hpa.spec.policy = Policy::Hpa;
    let played = play(&subject(hpa), &day(), Question::default());
    let mean = played.as_is.replica_hours / 24.0;
    assert!((6.0..8.5).contains(&mean), "{mean}");
    let mut waits = rails();
    waits.spec.policy = Policy::Hpa;
    let refused = replay(&subject(waits), &day(), &Question::default(), &Config::default());
    assert_eq!(refused, Err(Unplayed::NoDelays));
}

#[test]
fn what_is_not_known_counts_nowhere() {
    let (subject, whole) = (subject(service()), day());
    let mut holed = whole.clone();
    holed.cores[600..700].fill(None);
    let played = play(&subject, &holed, Question::default());
    assert_eq!(played.covered_ms, 1_340 * MINUTE);
    assert!(played.as_is.replica_hours < play(&subject, &whole, Question::default()).as_is.replica_hours);
    assert_eq!(played.series.load[160], None);
    assert_eq!(played.series.asked[160], None, "what was wanted without a load is not told either");
    assert!(played.assumes.iter().any(|words| words.starts_with("100 min")), "{:?}", played.assumes);
}

#[test]
fn what_cannot_be_replayed_says_why_and_when_it_can() {
    let ask = |workload: Workload, recorded: &Recorded, question: Question| {
        replay(&subject(workload), recorded, &question, &Config::default()).map(drop).unwrap_err()
    };
    let yarn = json!({"type": "yarn", "replicas": {"min": 1, "max": 3}, "target": {"containerWait": "30s"}});
    let refused = ask(workload(yarn), &day(), Question::default());
    assert!(refused.to_string().contains("members of a yarn cluster"), "{refused}");
    let nothing = Recorded { cores: vec![None; 1_440], ..day() };
    let refused = ask(service(), &nothing, Question::default());
    assert_eq!((refused.enough_in_ms(7), refused), (Some(7), Unplayed::NoHistory));
    let short = Recorded { cores: vec![Some(1.0); 5], ..day() };
    let refused = ask(service(), &short, Question::default());
    assert_eq!(refused, Unplayed::TooShort { covered_ms: 5 * MINUTE, needed_ms: 12 * MINUTE + 8_000 });
    assert_eq!(refused.enough_in_ms(0), Some(7 * MINUTE + 8_000));
    assert_eq!(refused.to_string(), "only 5 min of its load are recorded; 12 min are needed");
    let queue = Question { queue_delay: Some(Millis(5)), ..Question::default() };
    assert_eq!(ask(service(), &day(), queue), Unplayed::NoQueue);
    let bounds = Question { min: Some(30), ..Question::default() };
    assert_eq!(ask(service(), &day(), bounds), Unplayed::Bounds { min: 30, max: 20 });
    assert_eq!(ask(service(), &day(), bounds).enough_in_ms(9), None, "time does not help");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever was recorded and is asked: bounds hold, sums fit the time that is known, and the same gives the same.
    #[test]
    fn any_record_keeps_the_bounds(
        cores in prop::collection::vec(prop::option::weighted(0.9, 0.0f64..40.0), 200..500),
        kind in any::<bool>(), step in prop::sample::select(vec![10_000u64, 60_000, 600_000]),
        ready_ms in 0u64..400_000, first in prop::option::of(0u32..50),
        (min, more) in (1u32..9, 0u32..20), cpu in prop::option::of(0.05f64..1.0),
        risk in prop::option::of(0.0f64..=1.0), load in 0.1f64..10.0, headroom in prop::option::of(0.0f64..3.0),
    ) {
        let mut subject = subject(if kind { service() } else { rails() });
        subject.ready_ms = ready_ms;
        let recorded = Recorded {
            from: Time(7), step_ms: step, replicas: vec![first; cores.len()], cores,
            replica_cores_p95: Some(0.3), replica_memory: None,
        };
        let question = Question {
            cpu: cpu.map(Share), queue_delay: None, min: Some(min), max: Some(min + more), risk, load, headroom,
        };
        match replay(&subject, &recorded, &question, &Config::default()) {
            Err(why) => prop_assert!(matches!(why, Unplayed::TooShort { .. }), "{}", why),
            Ok(played) => {
                let hours = played.covered_ms as f64 / 3.6e6;
                for (outcome, min, max) in [
                    (&played.as_is, subject.workload.spec.replicas.min, subject.workload.spec.replicas.max),
                    (&played.asked, min, min + more),
                ] {
                    prop_assert!(outcome.replica_hours >= hours * f64::from(min) - 1e-6);
                    prop_assert!(outcome.replica_hours <= hours * f64::from(max) + 1e-6);
                    prop_assert!(outcome.breach_ms <= played.covered_ms && (min..=max).contains(&outcome.most));
                }
                prop_assert!(played.series.load.len() <= POINTS && played.series.asked.len() == played.series.load.len());
                for wanted in played.series.asked.iter().flatten() {
                    prop_assert!((min..=min + more).contains(wanted));
                }
                prop_assert!(played.differences.len() <= DIFFERENCES_KEPT);
                let again = replay(&subject, &recorded, &question, &Config::default()).unwrap();
                prop_assert_eq!(again, played);
            }
        }
    }
}

#[test]
fn a_month_is_played_at_a_coarse_step() {
    let steps = 31 * 144;
    let noise = |step: u64| (step * 7_919 % 101) as f64 / 101.0;
    let recorded = Recorded {
        from: Time(0),
        step_ms: 600_000,
        cores: (0..steps).map(|step| Some(2.0 + (step as f64 / 23.0).sin() + noise(step))).collect(),
        replicas: vec![Some(6); steps as usize],
        ..day()
    };
    for workload in [service(), rails()] {
        let played = play(&subject(workload), &recorded, Question { load: 1.1, ..Question::default() });
        assert_eq!(played.covered_ms, 31 * 1_440 * MINUTE);
        assert!(played.as_is.changes > 31 && played.series.load.len() <= POINTS, "{:?}", played.as_is);
    }
}
