use std::collections::BTreeMap;

use autoscaler_core::event::Time;
use autoscaler_core::fleet::Fleet;
use model::id::{AgentEpoch, BootId, CgroupId, NodeId};
use model::metric::Metric;
use model::node::{Incarnation, Inventory, TaskClass, TaskInfo, Tier};
use model::sample::Values;
use wire::batch::{Encoder, Gone, Header, Input};

use super::{Batch, Slots, Stream, Taken, into_fleet};

fn node() -> NodeId {
    NodeId::new("n1").unwrap()
}

fn fleet() -> Fleet {
    let mut fleet = Fleet::new();
    let inventory = Inventory::new(2, 1 << 30, Tier::A);
    fleet.node_up(node(), Incarnation { boot: BootId(1), agent: AgentEpoch(1) }, inventory, Time(0));
    fleet
}

fn info(cgroup: u64) -> TaskInfo {
    let class = TaskClass::new("a", "b");
    TaskInfo { cgroup: CgroupId(cgroup), since_ns: 1, class }
}

fn cpu(us: u64) -> Values {
    let mut values = Values::default();
    values.set(Metric::CpuTime, us);
    values
}

fn batch(
    seq: u64,
    snapshot: bool,
    appeared: &[(u32, u64)],
    changed: &[(u32, u64, u64)],
    gone: &[(u32, u64, u64)],
) -> Batch {
    Batch {
        header: Header { seq, boot_ns: seq * 1_000_000_000, wall_offset_ns: 0 },
        backlog: false,
        snapshot,
        appeared: appeared.iter().map(|(slot, cgroup)| (*slot, info(*cgroup))).collect(),
        changed: changed.iter().map(|(slot, cgroup, us)| (*slot, CgroupId(*cgroup), cpu(*us))).collect(),
        gone: gone
            .iter()
            .map(|(slot, cgroup, us)| Gone { slot: *slot, cgroup: CgroupId(*cgroup), values: cpu(*us) })
            .collect(),
        delays: Vec::new(),
    }
}

fn totals(fleet: &Fleet, now: Time) -> BTreeMap<u64, (u64, Option<u64>)> {
    let tasks = fleet.tasks(None, now).into_iter();
    tasks.map(|t| (t.info.cgroup.0, (t.totals.get("cpu_time_us").copied().unwrap_or(0), t.age_ms))).collect()
}

#[test]
fn a_snapshot_on_a_running_stream_ends_only_what_it_does_not_name() {
    let (mut fleet, mut slots) = (fleet(), Slots::default());
    let mut take =
        |fleet: &mut Fleet, batch: &Batch, now| into_fleet(fleet, &node(), &mut slots, batch, Time(now));
    take(
        &mut fleet,
        &batch(1, true, &[(0, 10), (1, 11), (2, 12)], &[(0, 10, 5), (1, 11, 5), (2, 12, 5)], &[]),
        1000,
    );
    take(&mut fleet, &batch(2, false, &[], &[(0, 10, 50)], &[]), 2000);
    let now = totals(&fleet, Time(2000));
    assert_eq!(now[&10], (50, Some(0)));
    assert_eq!(now[&11], (5, Some(0)), "read and unchanged is fresh");
    take(&mut fleet, &batch(3, true, &[(0, 10), (2, 13)], &[(0, 10, 60), (2, 13, 1)], &[]), 3000);
    let ended: BTreeMap<u64, u64> = fleet
        .take_ended()
        .into_iter()
        .map(|(_, t)| (t.key.cgroup.0, t.totals.unwrap().get(Metric::CpuTime).unwrap()))
        .collect();
    assert_eq!(ended, BTreeMap::from([(11, 5), (12, 5)]), "the slot of 12 belongs to 13 now");
    assert_eq!(totals(&fleet, Time(3000)).keys().copied().collect::<Vec<_>>(), [10, 13]);
    take(&mut fleet, &batch(4, false, &[], &[], &[(0, 10, 61)]), 4000);
    let last = fleet.take_ended();
    assert_eq!(last[0].1.totals.unwrap().get(Metric::CpuTime), Some(61), "final totals come with the end");
    assert_eq!(fleet.table(&node()).unwrap().cpu_total_us(), 5 + 5 + 61 + 1);
}

#[test]
fn a_batch_of_the_spool_leaves_the_fleet_alone_and_tells_who_ended() {
    let (mut fleet, mut stream) = (fleet(), Stream::new(node()).unwrap());
    let rows = [(3, cpu(77))];
    let tasks: Vec<(u32, &Values)> = rows.iter().map(|(slot, values)| (*slot, values)).collect();
    let input = Input { appeared: &[(3, info(9))], tasks: &tasks, gone: &[3], ..Input::default() };
    let header = Header { seq: 1, boot_ns: 5_000_000_000, wall_offset_ns: 0 };
    let old = Encoder::encode_alone(header, &input).unwrap();
    let Taken::Backlog { ended } = stream.take(&old, &mut fleet, Time(9_000)).unwrap() else {
        panic!("it is of the past")
    };
    assert_eq!(ended[0].totals.unwrap().get(Metric::CpuTime), Some(77));
    assert_eq!((ended[0].key.boot, ended[0].boot_ns), (BootId(1), Some(5_000_000_000)));
    assert!(fleet.tasks(None, Time(9_000)).is_empty());
}

/// The receiver's cost of a task sample without sockets: decode and ingest. Printed, not judged: `xtask bench` judges.
#[test]
fn the_cost_of_a_sample_is_printed() {
    const TASKS: u32 = 1000;
    const BATCHES: u64 = 200;
    let mut encoder = Encoder::new().unwrap();
    let appeared: Vec<_> = (0..TASKS).map(|slot| (slot, info(u64::from(slot) + 100))).collect();
    let batches: Vec<_> = (1..=BATCHES)
        .map(|seq| {
            let tasks: Vec<_> = (0..TASKS)
                .map(|slot| {
                    let mut values = cpu(seq * 10_000 + u64::from(slot) * seq % 977);
                    values.set(Metric::MemoryCurrent, (1 << 20) + u64::from(slot) * 4096 + (seq % 5) * 4096);
                    values.set(Metric::RunDelay, seq * 70_000 + u64::from(slot));
                    (slot, values)
                })
                .collect();
            let header = Header { seq, boot_ns: seq * 1_000_000_000, wall_offset_ns: 0 };
            let columns: Vec<(u32, &Values)> = tasks.iter().map(|(slot, values)| (*slot, values)).collect();
            let input = Input {
                appeared: if seq == 1 { &appeared } else { &[] },
                tasks: &columns,
                ..Input::default()
            };
            encoder.encode(header, &input, false).unwrap()
        })
        .collect();
    let (mut fleet, mut stream) = (fleet(), Stream::new(node()).unwrap());
    let began = std::time::Instant::now();
    for batch in &batches {
        let taken = stream.take(batch, &mut fleet, Time(batch.seq * 1000)).unwrap();
        assert_eq!(taken, Taken::Live { samples: TASKS as usize });
    }
    let each = began.elapsed().as_secs_f64() * 1e6 / (BATCHES as f64 * f64::from(TASKS));
    println!("{each:.3} µs per task sample (three changing values each)");
    assert_eq!(fleet.nodes(Time(0))[0].samples, BATCHES * u64::from(TASKS));
}

/// From the wire to what is shown of a node: waits of its tasks, and the stalls of its root cgroup.
#[test]
fn waits_of_tasks_and_stalls_of_the_root_are_those_of_the_node() {
    let mut fleet = fleet();
    let mut stream = Stream::new(node()).unwrap();
    let mut encoder = Encoder::new().unwrap();
    assert_eq!(fleet.view(&node(), Time(0)).unwrap().waits, None);
    for second in 0..=20u64 {
        let (mut root, mut task) = (Values::default(), Values::default());
        root.set(Metric::CpuStall, 500 + second * 100_000);
        root.set(Metric::MemoryStall, second * 10_000);
        task.set(Metric::RunDelay, second * 2_000_000);
        task.set(Metric::RunCount, second * 100);
        task.set(Metric::CpuStall, second * 900_000);
        let appeared = if second == 0 { vec![(0, info(1)), (1, info(9))] } else { Vec::new() };
        let delays = [(1, vec![(10, 99), (100, 1)])];
        let input = Input {
            appeared: &appeared,
            tasks: &[(0, &root), (1, &task)],
            gone: &[],
            delays: if second % 10 == 9 { &delays } else { &[] },
        };
        let header = Header { seq: second + 1, boot_ns: 7 + second * 1_000_000_000, wall_offset_ns: 0 };
        let message = encoder.encode(header, &input, false).unwrap();
        stream.take(&message, &mut fleet, Time(second * 1_000)).unwrap();
    }
    let waits = fleet.view(&node(), Time(20_000)).unwrap().waits.unwrap();
    assert_eq!((waits.seconds, waits.run_delay_mean_seconds), (20.0, Some(20e-6)));
    let shares = (waits.cpu_stall_ratio, waits.memory_stall_ratio, waits.io_stall_ratio);
    assert_eq!(shares, (Some(0.1), Some(0.01), None), "of the root, and not of a task");
    let short = model::histogram::midpoint(10).unwrap() as f64 / 1e9;
    assert_eq!(waits.run_delay_p99_seconds, Some(short));
    assert_eq!(fleet.delays(&node()).unwrap().count(), 200);
}
