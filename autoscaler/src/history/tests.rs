use std::collections::BTreeMap;

use autoscaler_core::event::Time;
use model::id::{BootId, CgroupId, NodeId};
use model::metric::Metric;
use model::sample::Values;
use proptest::prelude::*;

use super::chunk::{self, Effort, Run};
use super::file::{self, HistoryFile};
use super::gather::{self, Gather, Tasks};
use super::open::Open;
use super::sums::{self, SumQuery};
use super::{Observed, Query, Reading, Series, Tier};
use crate::config::HistorySettings;

fn node() -> NodeId {
    NodeId::new("n1").unwrap()
}

fn values(cpu_us: u64, memory: u64, delay_ns: u64) -> Values {
    let mut v = Values::default();
    v.set(Metric::CpuTime, cpu_us);
    v.set(Metric::MemoryCurrent, memory);
    v.set(Metric::RunDelay, delay_ns);
    v
}

fn batch(at_ms: u64, appeared: &[u64], changed: Vec<(u64, Values)>) -> Observed {
    Observed {
        node: node(),
        boot: BootId(7),
        at: Time(at_ms),
        snapshot: !appeared.is_empty() && at_ms < 2000,
        backlog: false,
        appeared: appeared.iter().map(|c| (*c as u32, CgroupId(*c))).collect(),
        changed: changed.into_iter().map(|(c, v)| Reading::new(c as u32, CgroupId(c), &v)).collect(),
        gone: Vec::new(),
    }
}

/// Totals of a task: CPU in µs, and waits in ns when they are counted.
pub(crate) fn task(cgroup: u64, cpu_us: u64, delay_ns: Option<u64>) -> Reading {
    let cgroup_id = CgroupId(cgroup);
    Reading { slot: cgroup as u32, cgroup: cgroup_id, cpu_us: Some(cpu_us), delay_ns, memory_bytes: None }
}

/// A history in which `n1` was read at these seconds, in its boot 7, with the same tasks each time.
pub(crate) fn written(
    state: &std::path::Path,
    batches: impl Iterator<Item = (u64, Vec<Reading>)>,
) -> super::Handle {
    let mut file = HistoryFile::open(state).unwrap();
    let mut open = Open::default();
    let mut last = 0;
    for (second, changed) in batches {
        let appeared =
            if last == 0 { changed.iter().map(|r| (r.slot, r.cgroup)).collect() } else { Vec::new() };
        let at = Time(second * 1000);
        let (node, boot) = (node(), BootId(7));
        let snapshot = last == 0;
        open.observe(&Observed {
            node,
            boot,
            at,
            snapshot,
            backlog: false,
            appeared,
            changed,
            gone: Vec::new(),
        });
        last = second;
    }
    file.write(&open.drain(last + 1)).unwrap();
    let (batches, _) = tokio::sync::mpsc::channel(1);
    super::Handle { batches, metrics: crate::metrics::Metrics::new(), path: file.path().to_owned() }
}

fn ask(
    state: &std::path::Path,
    cgroup: Option<u64>,
    series: Series,
    tier: Tier,
    from: u64,
    to: u64,
) -> Vec<Option<f64>> {
    let query = Query { node: node(), boot: None, cgroup, series, tier, from, to };
    file::query(&state.join("history.db"), &query).unwrap().values
}

#[test]
fn rates_holes_and_idle_seconds_are_told_apart() {
    let state = tempfile::tempdir().unwrap();
    let mut file = HistoryFile::open(state.path()).unwrap();
    let mut open = Open::default();
    open.observe(&batch(1_000, &[5], vec![(5, values(1_000_000, 8192, 0))]));
    open.observe(&batch(2_000, &[], vec![(5, values(1_500_000, 8192, 20_000_000))]));
    open.observe(&batch(3_000, &[], vec![]));
    // Nothing for 40 s, then again.
    open.observe(&batch(43_000, &[], vec![(5, values(9_000_000, 4096, 20_000_000))]));
    open.observe(&batch(44_000, &[], vec![(5, values(9_250_000, 4096, 20_000_000))]));
    file.write(&open.drain(60)).unwrap();
    let cpu = ask(state.path(), Some(5), Series::Cpu, Tier::S1, 0, 46);
    assert_eq!(cpu[1], None, "one reading gives no rate");
    assert_eq!(cpu[2], Some(0.5));
    assert_eq!(cpu[3], Some(0.0), "read and unchanged is a zero");
    assert!(cpu[4..44].iter().all(Option::is_none), "a hole is not a zero, and no rate spans it");
    assert_eq!(cpu[44], Some(0.25));
    assert_eq!(
        ask(state.path(), Some(5), Series::Memory, Tier::S1, 0, 46)[3],
        Some(8192.0),
        "memory is carried"
    );
    assert_eq!(ask(state.path(), Some(5), Series::RunDelay, Tier::S1, 0, 46)[2], Some(0.02));
    assert_eq!(ask(state.path(), Some(5), Series::CpuMax, Tier::S10, 0, 10)[0], Some(0.5));
    assert_eq!(
        ask(state.path(), Some(5), Series::Cpu, Tier::S10, 0, 10)[0],
        Some(0.25),
        "mean of two seconds"
    );
}

#[test]
fn a_slower_stream_speaks_for_the_seconds_between() {
    let mut open = Open::default();
    open.observe(&batch(1_000, &[5], vec![(5, values(0, 4096, 0))]));
    open.observe(&batch(6_000, &[], vec![(5, values(1_000_000, 4096, 0))]));
    let parts = open.drain(60);
    let runs = &parts.values().next().unwrap()[&Series::Cpu];
    assert_eq!(runs, &[Run { cgroup: 5, first: 2, values: vec![2000; 5] }]);
}

#[test]
fn a_flush_in_the_middle_changes_nothing() {
    let feed = |open: &mut Open, from: u64, to: u64| {
        for second in from..to {
            let appeared: &[u64] = if second == 1 { &[5, 6] } else { &[] };
            let busy = second * 10_000;
            let mut changed = vec![(5, values(busy, 1 << 20, second))];
            if second % 7 == 1 {
                changed.push((6, values(second, 4096 * second, 0)));
            }
            open.observe(&batch(second * 1000 + 30, appeared, changed));
        }
    };
    let gather = |parts: Vec<super::open::Parts>| {
        let mut all: BTreeMap<(u64, u64, Series), BTreeMap<u32, u32>> = BTreeMap::new();
        for (key, series) in parts.into_iter().flatten() {
            for (series, runs) in series {
                for run in runs {
                    all.entry((key.window, run.cgroup, series))
                        .or_default()
                        .extend((run.first..).zip(run.values));
                }
            }
        }
        all
    };
    let (mut once, mut often) = (Open::default(), Open::default());
    feed(&mut once, 1, 7500);
    let whole = gather(vec![once.drain(7500)]);
    let mut parts = Vec::new();
    for minute in 0..125 {
        feed(&mut often, (minute * 60).max(1), (minute + 1) * 60);
        parts.push(often.drain(minute * 60));
    }
    parts.push(often.drain(7500));
    assert_eq!(gather(parts), whole);
    assert_eq!(whole.len(), 12, "two windows, two tasks, three series");
}

#[test]
fn closed_windows_are_merged_and_reduced_and_old_ones_dropped() {
    let state = tempfile::tempdir().unwrap();
    let mut file = HistoryFile::open(state.path()).unwrap();
    let mut open = Open::default();
    for second in 1..7200u64 {
        let appeared: &[u64] = if second == 1 { &[5] } else { &[] };
        open.observe(&batch(second * 1000, appeared, vec![(5, values(second * 100_000, 1 << 20, 0))]));
        if second % 60 == 0 {
            file.write(&open.drain(second)).unwrap();
        }
    }
    file.write(&open.drain(7200)).unwrap();
    let before = ask(state.path(), Some(5), Series::Cpu, Tier::S1, 0, 7200);
    file.compact(7200 + 900).unwrap();
    assert!(
        ask(state.path(), Some(5), Series::Cpu, Tier::M10, 0, 7200).iter().all(Option::is_none),
        "not yet settled"
    );
    file.compact(7200 + 901).unwrap();
    assert_eq!(ask(state.path(), Some(5), Series::Cpu, Tier::S1, 0, 7200), before);
    let ten = ask(state.path(), Some(5), Series::Cpu, Tier::M10, 0, 7200);
    assert_eq!(ten.len(), 12);
    assert!(ten.iter().all(|v| v.is_some_and(|v| (v - 0.1).abs() < 1e-9)), "{ten:?}");
    let hour = HistorySettings { flush_ms: 60_000, retain_ms: [3_600_000; 4], max_bytes: 1 << 30 };
    file.retain(&hour, 7200 * 3).unwrap();
    assert!(ask(state.path(), Some(5), Series::Cpu, Tier::M1, 0, 7200).iter().all(Option::is_none));
}

#[test]
fn the_file_stays_under_its_size() {
    let state = tempfile::tempdir().unwrap();
    let mut file = HistoryFile::open(state.path()).unwrap();
    let mut seed = 1u64;
    for window in 0..12u64 {
        let mut noise = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as u32
        };
        let runs = (0..20)
            .map(|cgroup| Run { cgroup, first: 0, values: (0..7200).map(|_| noise()).collect() })
            .collect();
        let key = super::open::PartKey { node: node(), boot: BootId(7), window: window * 7200 };
        file.write(&BTreeMap::from([(key, BTreeMap::from([(Series::Cpu, runs)]))])).unwrap();
    }
    let small = HistorySettings { flush_ms: 60_000, retain_ms: [u64::MAX / 2; 4], max_bytes: 4 << 20 };
    file.retain(&small, 13 * 7200).unwrap();
    let left = file.weigh(Tier::S1).bytes;
    assert!(left <= 4 << 20, "{left} bytes are left");
    let newest = ask(state.path(), Some(3), Series::Cpu, Tier::S1, 11 * 7200, 12 * 7200);
    assert!(newest[0].is_some(), "the newest is kept");
}

/// The promise B4: at most 1.2 bytes per stored value. A node with 100 tasks: 10 busy with noise and waves, 30 that
/// work now and then, 60 idle, as the design's machines look.
#[test]
fn a_stored_value_takes_about_a_byte() {
    assert!(bytes_per_value(10, 30) <= 1.2);
    // Also when each task works all the time, with noise of a fifth.
    assert!(bytes_per_value(100, 0) <= 1.2);
}

/// Of 100 tasks, `busy` always work and `rare` now and then.
fn bytes_per_value(busy: usize, rare: usize) -> f64 {
    let state = tempfile::tempdir().unwrap();
    let mut file = HistoryFile::open(state.path()).unwrap();
    let mut open = Open::default();
    let mut seed = 9u64;
    let mut noise = move |to: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % to
    };
    let mut cpu = [0u64; 100];
    let mut delay = [0u64; 100];
    let all: Vec<u64> = (0..100).collect();
    for second in 1..7201u64 {
        let mut changed = Vec::new();
        for task in 0..100usize {
            let wave = ((second as f64 / 600.0).sin() + 1.2) * 200_000.0;
            let used = match task {
                t if t < busy => wave as u64 + noise(40_000),
                t if t < busy + rare && noise(20) == 0 => 2_000 + noise(3_000),
                _ => 0,
            };
            if used == 0 && second > 1 {
                continue;
            }
            cpu[task] += used;
            delay[task] += used * 20 + noise(10_000);
            let memory = (64 << 20) + task as u64 * 4096 * 100 + (second / 90) * 8192;
            changed.push((task as u64, values(cpu[task], memory, delay[task])));
        }
        open.observe(&batch(second * 1000, if second == 1 { &all } else { &[] }, changed));
        if second % 60 == 0 {
            file.write(&open.drain(second)).unwrap();
        }
    }
    file.compact(3 * 7200).unwrap();
    let mut sum = (0.0, 0.0);
    for tier in Tier::ALL {
        let weight = file.weigh(tier);
        let each = weight.bytes as f64 / weight.values as f64;
        println!("{tier:?}: {} values, {} bytes, {each:.3} bytes per value", weight.values, weight.bytes);
        sum = (sum.0 + weight.values as f64, sum.1 + weight.bytes as f64);
    }
    println!("{busy} busy, {rare} rare: {:.3} bytes per value", sum.1 / sum.0);
    sum.1 / sum.0
}

/// What history costs of a task sample: taking it, and writing its minute. Printed, not judged: `xtask bench` judges.
#[test]
fn the_cost_of_a_minute_is_printed() {
    const NODES: u64 = 40;
    const TASKS: u64 = 50;
    let state = tempfile::tempdir().unwrap();
    let mut file = HistoryFile::open(state.path()).unwrap();
    let mut open = Open::default();
    let all: Vec<u64> = (0..TASKS).collect();
    let batches: Vec<Observed> = (1..=120u64)
        .flat_map(|second| (0..NODES).map(move |node| (second, node)))
        .map(|(second, node)| {
            let used = |task: u64| second * 25_000 + (second * 31 + task * 17 + node) % 97 * 40;
            let changed =
                (0..TASKS).map(|t| (t, values(used(t), (64 << 20) + (second + t) % 64 * 4096, used(t) * 20)));
            let one = batch(second * 1000 + node, if second == 1 { &all } else { &[] }, changed.collect());
            Observed { node: format!("n{node}").parse().unwrap(), ..one }
        })
        .collect();
    let each = |began: std::time::Instant| began.elapsed().as_secs_f64() * 1e6 / (120 * NODES * TASKS) as f64;
    let began = std::time::Instant::now();
    batches.iter().for_each(|batch| open.observe(batch));
    println!("take {:.3} µs per task sample", each(began));
    let began = std::time::Instant::now();
    let written = [60, 120].map(|until| file.write(&open.drain(until)).unwrap());
    println!("write {:.3} µs per task sample, {written:?}", each(began));
    assert_eq!(written[1].values, NODES * TASKS * (60 * 3 + 6 * 5 + 5));
}

#[test]
fn many_tasks_at_once_are_as_each_by_itself() {
    let state = tempfile::tempdir().unwrap();
    let mut file = HistoryFile::open(state.path()).unwrap();
    let mut open = Open::default();
    for second in 1..=300u64 {
        let appeared: &[u64] = if second == 1 { &[5, 6, 7] } else { &[] };
        // One of them is idle for a while, and for a minute nothing comes at all.
        if (120..180).contains(&second) {
            continue;
        }
        let mut changed = vec![(5, values(second * 250_000, 8192 * second, 0)), (7, values(second, 4096, 0))];
        if second > 60 {
            changed.push((6, values(second * 500_000, 4096, 0)));
        }
        open.observe(&batch(second * 1000, appeared, changed));
    }
    for until in [60, 120, 240, 301] {
        file.write(&open.drain(until)).unwrap();
    }
    let source = (node().to_string(), BootId(7).to_string());
    let of = |cgroups: &[(u64, usize)]| Tasks::from([(source.clone(), cgroups.iter().copied().collect())]);
    for (series, tier) in [(Series::Cpu, Tier::S10), (Series::MemoryMax, Tier::M1), (Series::Cpu, Tier::S1)] {
        let (from, count) = (60, (240 / tier.seconds()) as usize);
        let tasks = of(&[(5, 1), (6, 0), (99, 2)]);
        let mut into = vec![vec![None; count]; 3];
        let asked = Gather { tasks: &tasks, series, tier, from, count };
        gather::gather(&state.path().join("history.db"), &asked, &mut into).unwrap();
        for (cgroup, place) in [(5, 1), (6, 0), (99, 2)] {
            let alone = ask(state.path(), Some(cgroup), series, tier, from, from + 240);
            assert_eq!(into[place], alone, "{series:?} of {cgroup}");
        }
        assert!(into[1].iter().flatten().count() > 2 && into[2].iter().all(Option::is_none));
        assert!(into[1].iter().any(Option::is_none), "the minute without data is a hole");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_packed_is_unpacked(runs in prop::collection::vec((any::<u64>(), 0..100u32, prop::collection::vec(any::<u32>(), 1..50)), 0..20)) {
        let runs: Vec<Run> = runs.into_iter().map(|(cgroup, first, values)| Run { cgroup, first, values }).collect();
        for effort in [Effort::Part, Effort::Window] {
            prop_assert_eq!(&chunk::decode(&chunk::encode(&runs, effort).unwrap()).unwrap(), &runs);
        }
    }

    /// However parts overlap and follow each other, joined they hold each slot's last value, in as few runs as can be.
    #[test]
    fn parts_are_joined(runs in prop::collection::vec((0..3u64, 0..60u32, prop::collection::vec(any::<u32>(), 1..30)), 0..20)) {
        let runs: Vec<Run> = runs.into_iter().map(|(cgroup, first, values)| Run { cgroup, first, values }).collect();
        let joined = chunk::join(runs.clone());
        let slots = |runs: &[Run]| -> BTreeMap<(u64, u32), u32> {
            runs.iter().flat_map(|run| (run.first..).zip(&run.values).map(|(s, v)| ((run.cgroup, s), *v))).collect()
        };
        let mut in_order = runs;
        in_order.sort_by_key(|run| (run.cgroup, run.first));
        prop_assert_eq!(slots(&joined), slots(&in_order));
        let apart = |pair: &[Run]| (pair[0].cgroup, pair[0].first as usize + pair[0].values.len()) < (pair[1].cgroup, pair[1].first as usize);
        prop_assert!(joined.windows(2).all(apart), "{:?}", joined);
    }

    #[test]
    fn a_coarser_value_is_the_mean_or_the_largest_of_its_slots(values in prop::collection::vec(0..1000u32, 1..200), first in 0..20u32, hole in 0..200usize) {
        let (a, b) = values.split_at(hole.min(values.len()));
        let runs: Vec<Run> = [(first, a), (first + a.len() as u32 + 3, b)].into_iter().filter(|(_, v)| !v.is_empty())
            .map(|(first, values)| Run { cgroup: 1, first, values: values.to_vec() }).collect();
        let mut groups: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for run in &runs {
            (run.first..).zip(&run.values).for_each(|(slot, value)| groups.entry(slot / 10).or_default().push(*value));
        }
        for largest in [false, true] {
            let coarse = chunk::coarser(&runs, 10, largest);
            let seen: Vec<(u32, u32)> = coarse.iter().flat_map(|run| (run.first..).zip(run.values.clone())).collect();
            let expected: Vec<(u32, u32)> = groups.iter().map(|(slot, values)| {
                let (sum, count) = (values.iter().sum::<u32>(), values.len() as u32);
                (*slot, if largest { *values.iter().max().unwrap() } else { (sum + count / 2) / count })
            }).collect();
            prop_assert_eq!(seen, expected);
        }
    }

    #[test]
    fn a_damaged_chunk_is_an_error_and_never_a_panic(at in 0..200usize, bit in 0..8u32) {
        let run = Run { cgroup: 5, first: 3, values: (0..300).map(|n| n * n % 97).collect() };
        let mut blob = chunk::encode(&[run], Effort::Window).unwrap();
        let at = at % blob.len();
        blob[at] ^= 1 << bit;
        let _ = chunk::decode(&blob);
    }
}

#[test]
fn groups_of_tasks_are_summed_in_one_walk_and_other_boots_are_left_out() {
    let state = tempfile::tempdir().unwrap();
    let mut file = HistoryFile::open(state.path()).unwrap();
    let mut open = Open::default();
    for second in 1..=120u64 {
        let appeared: &[u64] = if second == 1 { &[5, 6, 7, 8] } else { &[] };
        let changed = vec![
            (5, values(second * 250_000, 4096, second * 1_000_000)),
            (6, values(second * 500_000, 4096, 0)),
            (7, values(second * 125_000, 4096, 0)),
            (8, values(second * 999_000, 4096, 0)),
        ];
        open.observe(&batch(second * 1000, appeared, changed));
    }
    file.write(&open.drain(121)).unwrap();
    let ask = |boot: u128, series: Series| {
        let groups = BTreeMap::from([(5, 0), (6, 1), (7, 1), (99, 2)]);
        let query = SumQuery {
            node: node(),
            boot: BootId(boot),
            groups,
            series,
            tier: Tier::S10,
            from: 0,
            count: 14,
        };
        sums::query(&state.path().join("history.db"), &query).unwrap()
    };
    let cpu = ask(7, Series::Cpu);
    assert_eq!((cpu.groups.len(), cpu.groups[0].len()), (3, 14));
    let near = |value: f32, expected: f32| (value - expected).abs() < 1e-3;
    assert!(
        near(cpu.groups[0][5], 0.25) && near(cpu.groups[1][5], 0.625) && near(cpu.groups[2][5], 0.0),
        "{cpu:?}"
    );
    assert_eq!((cpu.known[0], cpu.known[11], cpu.known[13]), (true, true, false));
    assert!(near(ask(7, Series::RunDelay).groups[0][5], 0.001));
    assert!(ask(8, Series::Cpu).known.iter().all(|known| !known), "another boot");
}
