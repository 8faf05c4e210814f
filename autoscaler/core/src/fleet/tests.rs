use model::gap::{Gap, GapKind};
use model::id::{AgentEpoch, CgroupId};
use model::metric::Metric;
use model::node::{Container, TaskClass, TaskInfo, Tier};
use model::sample::Values;
use model::workload::Workload;

use super::*;

fn node() -> NodeId {
    NodeId::new("a").unwrap()
}

fn up(fleet: &mut Fleet, boot: u128) {
    let inventory = Inventory { acts: true, ..Inventory::new(2, 1 << 30, Tier::A) };
    fleet.node_up(node(), Incarnation { boot: BootId(boot), agent: AgentEpoch(1) }, inventory, Time(0));
}

fn info(cgroup: u64, task: Option<&str>) -> TaskInfo {
    TaskInfo {
        cgroup: CgroupId(cgroup),
        since_ns: 0,
        class: TaskClass {
            workload: task.map(|_| "web".parse().unwrap()),
            task: task.map(|t| t.parse().unwrap()),
            ..TaskClass::new("puma", "web")
        },
    }
}

fn values(cpu_us: u64, memory: u64) -> Values {
    let mut values = Values::default();
    values.set(Metric::CpuTime, cpu_us);
    values.set(Metric::MemoryCurrent, memory);
    values
}

const SECOND: u64 = 1_000_000_000;

fn service() -> Workload {
    serde_json::from_value(serde_json::json!({"name": "web", "spec": {
        "type": "service", "replicas": {"min": 1, "max": 2}, "target": {"cpu": "65%"},
        "service": {"launcher": "worker"}
    }}))
    .unwrap()
}

#[test]
fn usage_of_a_round_spans_all_its_samples() {
    let mut fleet = Fleet::new();
    up(&mut fleet, 1);
    let table = fleet.node(&node()).unwrap();
    assert!(table.task_appeared(3, info(9, Some("web-1")), Time(0)));
    for second in 0..=4u64 {
        let sample = values(second * 250_000, 5);
        let taken = table.sample(3, second * SECOND, &sample, Time(second * 1_000));
        assert_eq!(taken, Ingest::Taken);
    }
    let digest = &fleet.digests([&service()], Time(4_500))[0];
    assert_eq!(digest.replicas[0].cpu_cores, Some(0.25));
    assert_eq!(digest.replicas[0].age_ms, Some(500));
    // A round without a new sample repeats the usage, and its age says so.
    let digest = &fleet.digests([&service()], Time(9_000))[0];
    assert_eq!((digest.replicas[0].cpu_cores, digest.replicas[0].age_ms), (Some(0.25), Some(5_000)));
}

#[test]
fn what_containers_of_a_task_use_is_the_tasks_use() {
    let mut fleet = Fleet::new();
    up(&mut fleet, 1);
    let leaf = |cgroup| {
        let mut info = info(cgroup, Some("web-1"));
        let container = Container {
            id: format!("container_1_0001_01_{cgroup:06}"),
            name: String::new(),
            image: String::new(),
            labels: BTreeMap::new(),
        };
        info.class.container = Some(Box::new(container));
        info
    };
    let table = fleet.node(&node()).unwrap();
    for (slot, info) in [(1, leaf(7)), (3, info(9, Some("web-1"))), (4, leaf(8))] {
        assert!(table.task_appeared(slot, info, Time(0)));
    }
    for second in 0..=1u64 {
        table.sample(1, second * SECOND, &values(second * 250_000, 5), Time(second * 1_000));
        table.sample(3, second * SECOND, &values(second * 125_000, 5), Time(second * 1_000));
    }
    // One that has just begun has no use that is known, and does not hide that of the others.
    table.sample(4, SECOND, &values(9_000, 5), Time(1_000));
    let digest = &fleet.digests([&service()], Time(1_500))[0];
    let replicas: Vec<_> =
        digest.replicas.iter().map(|r| (r.task.as_str(), r.cpu_cores, r.memory_bytes)).collect();
    assert_eq!(replicas, [("web-1", Some(0.375), Some(15))]);
}

#[test]
fn a_nodes_use_is_the_sum_of_its_tasks() {
    let mut fleet = Fleet::new();
    up(&mut fleet, 1);
    let mut seed = 5u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut totals = [0u64; 6];
    for second in 1..200u64 {
        let (now, boot_ns) = (Time(second * 1_000), second * SECOND + random(1_000_000));
        let table = fleet.node(&node()).unwrap();
        for slot in 0..6u32 {
            match random(12) {
                0 => assert!(table.task_appeared(slot, info(u64::from(slot) + 9, None), now)),
                1 => table.task_gone(slot, None),
                // A total that falls begins anew.
                2 => totals[slot as usize] = 0,
                _ => totals[slot as usize] += random(900_000),
            }
            table.sample(slot, boot_ns, &values(totals[slot as usize], random(1 << 30)), now);
        }
        if random(3) > 0 {
            table.unchanged_at(boot_ns, now);
        }
        let used = fleet.tasks(None, now).into_iter().filter_map(|task| task.usage);
        let used: Vec<_> = used.collect();
        let cpu = used.iter().filter_map(|usage| usage.cpu_cores).reduce(|a, b| a + b);
        let memory = used.iter().filter_map(|usage| usage.memory_bytes).reduce(|a, b| a + b);
        let digest = &fleet.node_digests(now)[0];
        assert_eq!(
            (digest.cpu_cores.map(f64::to_bits), digest.memory_bytes),
            (cpu.map(f64::to_bits), memory),
            "{second}"
        );
    }
}

#[test]
fn a_task_is_digested_from_when_it_is_known_to_be_ours() {
    let mut fleet = Fleet::new();
    up(&mut fleet, 1);
    let table = fleet.node(&node()).unwrap();
    table.task_appeared(4, info(9, None), Time(0));
    table.sample(4, SECOND, &values(0, 5), Time(1_000));
    table.sample(4, 2 * SECOND, &values(500_000, 5), Time(2_000));
    assert!(fleet.digests([&service()], Time(2_000))[0].replicas.is_empty());
    fleet.node(&node()).unwrap().task_is(4, info(9, Some("web-1")));
    assert_eq!(fleet.digests([&service()], Time(2_000))[0].replicas[0].cpu_cores, Some(0.5));
    fleet.node(&node()).unwrap().task_gone(4, None);
    assert!(fleet.digests([&service()], Time(2_000))[0].replicas.is_empty());
}

#[test]
fn odd_samples_change_no_total() {
    let mut fleet = Fleet::new();
    up(&mut fleet, 1);
    let table = fleet.node(&node()).unwrap();
    table.task_appeared(0, info(9, None), Time(0));
    assert_eq!(table.sample(0, 5, &values(100, 0), Time(1)), Ingest::Taken);
    assert_eq!(table.sample(0, 5, &values(100, 0), Time(2)), Ingest::Duplicate);
    assert_eq!(table.sample(0, 4, &values(90, 0), Time(3)), Ingest::Older);
    assert_eq!(table.sample(1, 6, &values(90, 0), Time(3)), Ingest::UnknownSlot);
    assert_eq!(table.cpu_total_us(), 100);
    assert_eq!(table.sample(0, 6, &values(10, 0), Time(4)), Ingest::Restarted(Metric::CpuTime));
    assert!(!table.task_appeared(SLOT_LIMIT, info(1, None), Time(5)));
}

#[test]
fn the_totals_of_an_ended_task_are_those_read_after_its_end() {
    let mut fleet = Fleet::new();
    up(&mut fleet, 1);
    let table = fleet.node(&node()).unwrap();
    table.task_appeared(0, info(9, None), Time(0));
    table.sample(0, SECOND, &values(1_000, 7), Time(1_000));
    table.task_gone(0, Some((2 * SECOND, &values(1_234, 0))));
    assert_eq!(table.cpu_total_us(), 1_234);
    up(&mut fleet, 1);
    let ended = fleet.take_ended();
    assert_eq!(ended.len(), 1, "a new stream does not lose what nobody took");
    assert_eq!(ended[0].1.totals.unwrap().get(Metric::CpuTime), Some(1_234));
}

#[test]
fn what_ended_while_no_agent_looked_has_its_last_totals() {
    let mut fleet = Fleet::new();
    up(&mut fleet, 1);
    let table = fleet.node(&node()).unwrap();
    for (slot, cgroup) in [(0, 9), (1, 10)] {
        table.task_appeared(slot, info(cgroup, None), Time(0));
        table.sample(slot, SECOND, &values(1_000 * cgroup, 7), Time(1_000));
    }
    up(&mut fleet, 1);
    // A stream that breaks before it has named anything changes nothing of it.
    up(&mut fleet, 1);
    assert!(fleet.take_ended().is_empty(), "nobody knows yet");
    let table = fleet.node(&node()).unwrap();
    table.task_appeared(5, info(10, None), Time(2_000));
    table.all_are_named();
    table.all_are_named();
    let ended = fleet.take_ended();
    assert_eq!(ended.len(), 1, "the other one lives");
    assert_eq!(
        (ended[0].1.key.cgroup, ended[0].1.totals.unwrap().get(Metric::CpuTime)),
        (CgroupId(9), Some(9_000))
    );
}

#[test]
fn a_boot_ends_all_tasks_of_the_one_before() {
    let mut fleet = Fleet::new();
    up(&mut fleet, 1);
    let table = fleet.node(&node()).unwrap();
    table.task_appeared(0, info(9, None), Time(0));
    table.sample(0, SECOND, &values(1_000, 7), Time(1_000));
    up(&mut fleet, 2);
    let ended = fleet.take_ended();
    assert_eq!(ended[0].1.key.boot, BootId(1));
    assert_eq!(ended[0].1.totals.unwrap().get(Metric::CpuTime), Some(1_000));
}

#[test]
fn an_unreachable_adapter_leaves_its_last_report_to_grow_old() {
    let mut fleet = Fleet::new();
    up(&mut fleet, 1);
    let report = PumaReport {
        task: "web-1".parse().unwrap(),
        booted_workers: 1,
        workers: 1,
        max_threads: 2,
        busy_threads: 1,
        accept_queue: None,
    };
    fleet.report(&node(), AdapterReport::Puma(report), Time(1_000));
    let silent = AdapterReport::Unreachable { endpoint: "x".into(), why: "refused".into() };
    fleet.report(&node(), silent, Time(3_000));
    fleet.node(&node()).unwrap().task_appeared(0, info(9, Some("web-1")), Time(0));
    let digest = &fleet.digests([&service()], Time(5_000))[0];
    assert_eq!(digest.replicas[0].puma.as_ref().unwrap().1, 4_000);
}

#[test]
fn what_an_agent_lost_and_how_its_clock_stands_outlasts_a_stream_and_a_boot() {
    let mut fleet = Fleet::new();
    let hole = Gap { kind: GapKind::Lost, from_ns: 0, to_ns: SECOND, cause: "the disk was full".into() };
    // Of a node that nobody knows nothing is known.
    fleet.gap(&node(), hole.clone(), Time(1));
    up(&mut fleet, 1);
    assert_eq!(fleet.nodes(Time(1))[0].standing, Standing::default());
    fleet.gap(&node(), hole.clone(), Time(2));
    fleet.clock_skew(&node(), -40);
    up(&mut fleet, 2);
    let standing = fleet.nodes(Time(3))[0].standing.clone();
    assert_eq!((standing.gaps, standing.clock_skew_ms), (1, Some(-40)));
    assert_eq!(standing.last_gap, Some((hole, Time(2))));
}

#[test]
fn the_network_of_a_node_is_what_its_root_cgroup_tells_twice() {
    let mut fleet = Fleet::new();
    up(&mut fleet, 1);
    let network = |fleet: &Fleet| fleet.view(&node(), Time(0)).unwrap().network;
    let table = fleet.node(&node()).unwrap();
    assert!(table.task_appeared(0, info(1, None), Time(0)) && table.task_appeared(1, info(9, None), Time(0)));
    let bytes = |received, sent| {
        let mut values = values(0, 0);
        values.set(Metric::NetworkReceived, received);
        values.set(Metric::NetworkSent, sent);
        values
    };
    // A task is not the node.
    table.sample(1, SECOND, &bytes(7, 7), Time(1_000));
    table.sample(1, 2 * SECOND, &bytes(9, 9), Time(2_000));
    table.sample(0, SECOND, &bytes(1_000, 50), Time(1_000));
    assert_eq!(network(&fleet), None, "told once");
    fleet.node(&node()).unwrap().sample(0, 3 * SECOND, &bytes(4_000, 50), Time(3_000));
    let told = network(&fleet).unwrap();
    assert_eq!((told.received_per_second, told.sent_per_second), (1_500.0, 0.0));
    assert_eq!((told.received_bytes, told.sent_bytes), (4_000, 50));
    // The agent was started anew without a card to read.
    fleet.node(&node()).unwrap().sample(0, 4 * SECOND, &values(0, 0), Time(4_000));
    assert_eq!(network(&fleet), None, "not zero");
}
