use super::*;

const STEP: u64 = 60;

fn record(tier: Tier) -> Record {
    Record { tasks: Tasks::new(), of: Vec::new(), places: 0, from_s: 600, count: 6, tier }
}

fn replica(places: &[usize], runs: bool) -> Replica {
    Replica { places: places.iter().copied().collect(), runs }
}

fn of(values: &[(&str, Replica)], cores: &Values, ready_ms: u64) -> Recorded {
    let replicas: BTreeMap<String, Replica> = values
        .iter()
        .map(|(name, one)| ((*name).to_owned(), Replica { places: one.places.clone(), runs: one.runs }))
        .collect();
    let memory: Values = vec![vec![Some(1e6), None, Some(3e6), None, None, None]; cores.len()];
    recorded(&replicas, cores, &memory, &record(Tier::M1), 6, ready_ms)
}

#[test]
fn a_replica_that_must_have_run_and_is_missing_makes_a_hole() {
    let cores: Values = vec![
        vec![Some(1.0), Some(1.0), Some(1.0), Some(1.0), Some(1.0), Some(1.0)],
        // Its node was silent for a step, and is at the end.
        vec![None, Some(0.5), None, Some(0.5), Some(0.5), None],
        // It ended: that is no hole.
        vec![Some(2.0), Some(2.0), None, None, None, None],
    ];
    let all = [("a", replica(&[0], true)), ("b", replica(&[1], true)), ("c", replica(&[2], false))];
    let got = of(&all, &cores, 1_000);
    assert_eq!(got.cores, [Some(3.0), Some(3.5), None, Some(1.5), Some(1.5), None]);
    assert_eq!(got.replicas, [Some(2), Some(3), Some(1), Some(2), Some(2), Some(1)]);
    assert_eq!(
        (got.step_ms, got.replica_memory, got.replica_cores_p95),
        (STEP * 1_000, Some(3_000_000), Some(2.0))
    );
}

#[test]
fn a_start_is_no_load_and_nothing_at_all_is_no_zero() {
    let cores: Values = vec![
        vec![Some(1.0), Some(1.0), Some(1.0), None, None, None],
        vec![None, Some(9.0), Some(0.5), None, None, None],
    ];
    let all = [("a", replica(&[0], false)), ("b", replica(&[1], false))];
    let got = of(&all, &cores, 50_000);
    assert_eq!(
        got.cores,
        [Some(1.0), Some(1.0), Some(1.5), None, None, None],
        "its first minute was its start"
    );
    assert_eq!(got.replicas[..4], [Some(1), Some(2), Some(2), None]);
    // A replica that was adopted has two cgroups, one after the other.
    let got = of(&[("a", replica(&[0, 1], false))], &cores, 1_000);
    assert_eq!(got.cores[..3], [Some(1.0), Some(10.0), Some(1.5)]);
    assert_eq!(got.replicas[1], Some(1));
    assert_eq!(of(&[], &cores, 0).covered_ms(), 0);
}

#[test]
fn the_step_fits_the_range_and_a_month_is_a_few_thousand_of_them() {
    let steps = |range: u64| range / 1_000 / tier(range).seconds();
    assert_eq!(
        [600_000, 21_600_000, 86_400_000, 259_200_000].map(|range| tier(range).seconds()),
        [10, 10, 60, 60]
    );
    assert_eq!(tier(31 * 86_400_000), Tier::M10);
    for range in [600_000, 21_600_000, 259_200_000, *RANGES.end()] {
        assert!((12..=4_500).contains(&steps(range)), "{range}: {}", steps(range));
    }
}
