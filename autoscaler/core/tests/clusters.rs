//! The brain with clusters that keep their own lists, in a simulated world: seeds are printed, so a failure is reproduced by its seed.
//!
//! `SEEDS=1000` plays more days than the default, `SEED=7` only that one.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cluster_world;
mod dice;

use autoscaler_core::idle::Cause;
use cluster_world::hdfs::Hdfs;
use cluster_world::ring::Ring;
use cluster_world::yarn::Yarn;
use cluster_world::{Cluster, Faults, World, workload};
use serde_json::json;

fn yarn(seed: u64) -> World<Yarn> {
    let mut workload = workload("yarn", "batch", &json!({"containerWait": "5s"}), (2, 6));
    workload.spec.yarn.as_mut().unwrap().advertise = serde_json::from_value(json!({
        "least": {"memory": "512Mi", "vcores": 2}, "most": {"memory": "1Gi", "vcores": 4}
    }))
    .unwrap();
    let mut world = World::new(seed, workload, Yarn::new(2));
    world.others = Some(((seed % 7) as f64, 1 << 30));
    world
}

fn hdfs(seed: u64) -> World<Hdfs> {
    World::new(seed, workload("hdfs", "store", &json!({"disk": "50%"}), (2, 6)), Hdfs::new(2))
}

fn ring(seed: u64) -> World<Ring> {
    World::new(seed, workload("cassandra", "ring", &json!({"disk": "40%"}), (2, 5)), Ring::new(2, 2))
}

/// A morning, a noon and an evening.
fn day<C: Cluster>(world: &mut World<C>, seconds: u64) {
    for level in [0.2, 0.9, 0.15] {
        world.cluster.load(level);
        world.run(seconds / 3);
    }
}

#[test]
fn a_quiet_day_of_each_kind_grows_and_shrinks() {
    fn check<C: Cluster>(mut world: World<C>, most: usize) {
        world.cluster.load(0.9);
        world.run(900);
        assert!(world.cluster.members() >= most, "{} members\n{}", world.cluster.members(), world.told());
        world.cluster.load(0.1);
        world.run(3_000);
        assert_eq!(world.at_rest(), Ok(()), "{}", world.told());
        assert!(world.cluster.members() <= 3, "{} members\n{}", world.cluster.members(), world.told());
    }
    check(yarn(1), 4);
    check(hdfs(1), 3);
    check(ring(1), 3);
}

#[test]
fn deleting_after_a_join_waits_for_the_night() {
    const HOUR: u64 = 3_600;
    let mut world = ring(1);
    world.cluster.load(0.1);
    world.run(36 * HOUR);
    world.cluster.load(0.5);
    world.run(HOUR);
    assert_eq!(world.cluster.members(), 3, "{}", world.told());
    assert!(world.cluster.cleaned.is_empty() && world.told().contains("fewer requests"), "{}", world.told());
    world.run(14 * HOUR);
    assert_eq!(world.at_rest(), Ok(()), "{}", world.told());
    let hours: Vec<u64> = world.cluster.cleaned.iter().map(|at| at / HOUR % 24).collect();
    assert_eq!(hours, [0, 0], "{}", world.told());
}

#[test]
fn blocks_are_moved_to_a_node_that_came_in_the_night_and_once_for_two_that_came() {
    const HOUR: u64 = 3_600;
    let mut world = hdfs(1);
    world.cluster.load(0.3);
    world.run(36 * HOUR);
    assert_eq!(world.cluster.members(), 2, "{}", world.told());
    world.cluster.balanced.clear();
    world.cluster.load(0.8);
    world.run(HOUR);
    let there = world.cluster.members();
    assert!(there > 3, "the next one did not wait for the night: {}", world.told());
    assert!(
        world.cluster.balanced.is_empty() && world.told().contains("fewer transfers"),
        "{}",
        world.told()
    );
    world.run(14 * HOUR);
    assert_eq!(world.at_rest(), Ok(()), "{}", world.told());
    let hours: Vec<u64> = world.cluster.balanced.iter().map(|at| at / HOUR % 24).collect();
    assert_eq!(hours, [0], "{}", world.told());
}

/// A node is emptied: another member comes first, and one drain moves everybody who is there.
fn empties<C: Cluster>(mut world: World<C>) {
    // No room between minimum and maximum.
    world.bounds(3, 3);
    world.cluster.load(0.3);
    world.run(300);
    let there = world.cluster.members();
    let node = ["h1", "h2", "h3"].into_iter().max_by_key(|node| world.processes_on(node)).unwrap();
    assert!(world.processes_on(node) > 0);
    world.drain(node, true);
    for _ in 0..40 {
        world.run(30);
        assert!(world.cluster.members() >= there, "{}", world.told());
    }
    assert_eq!(world.processes_on(node), 0, "{}", world.told());
    assert_eq!(world.at_rest(), Ok(()), "{}", world.told());
    assert_eq!(world.cluster.members(), there, "{}", world.told());
    world.drain(node, false);
    world.run(60);
    assert_eq!(world.at_rest(), Ok(()), "{}", world.told());
    world.replays();
}

#[test]
fn a_drained_node_leads_its_members_out_and_never_are_fewer_there() {
    empties(yarn(1));
    empties(hdfs(1));
    empties(ring(1));
}

#[test]
fn node_managers_advertise_what_others_leave() {
    let mut workload = workload("yarn", "batch", &json!({"containerWait": "5s"}), (2, 2));
    let spec = workload.spec.yarn.as_mut().unwrap();
    spec.advertise = serde_json::from_value(json!({
        "least": {"memory": "512Mi", "vcores": 2}, "most": {"memory": "14Gi", "vcores": 32}, "vcoresPerCore": 4
    }))
    .unwrap();
    let mut world = World::new(1, workload, Yarn::new(2));
    world.cluster.load(0.9);
    // A quiet night: 7.2 cores less one of others, four virtual cores each.
    world.others = Some((1.0, 1 << 30));
    world.run(200);
    assert_eq!(world.cluster.advertised(), [24, 24], "{}", world.told());
    let page = world.brain.take_idle().pop().unwrap();
    let over_sized = page.idle.iter().find(|idle| matches!(&idle.cause, Cause::OverSized { .. })).unwrap();
    let cores = over_sized.amount.core_seconds() * 1e3 / page.to.since(page.from) as f64;
    assert!((cores - 11.0).abs() < 0.1, "six cores advertised and half a one used, twice: {cores}");
    // The others' morning counts at once, and nothing is killed for it.
    world.others = Some((6.5, 1 << 30));
    world.run(15);
    assert_eq!(world.cluster.advertised(), [2, 2], "{}", world.told());
    // What they used is not forgotten in ten seconds; in an evening it is.
    world.others = Some((1.0, 1 << 30));
    world.run(10);
    assert!(world.cluster.advertised().iter().all(|slots| *slots < 8), "{:?}", world.cluster.advertised());
    world.run(600);
    assert_eq!(world.cluster.advertised(), [24, 24], "{}", world.told());
    // Nothing is given away of a node that is not measured.
    world.others = None;
    world.run(60);
    assert_eq!(world.cluster.advertised(), [24, 24]);
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("SEED"), number("SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, seeds) => 0..seeds.unwrap_or(default),
    }
}

/// Everything goes wrong for a day; then nothing does, and it comes to rest.
fn storms<C: Cluster>(kind: &str, world: impl Fn(u64) -> World<C>) {
    let mut changes = 0;
    for seed in seeds(60) {
        println!("{kind}, seed {seed}");
        let mut world = world(seed);
        world.run(60);
        world.faults = Faults {
            lose: 0.1,
            agent: 0.004,
            autoscaler: 0.004,
            process: 0.002,
            cluster: 0.004,
            people: 0.004,
        };
        day(&mut world, 1_500);
        world.faults = Faults::default();
        for node in ["h1", "h2", "h3"] {
            world.drain(node, false);
        }
        world.cluster.load(0.3);
        // The longest deadline that a change has, and what may follow.
        for _ in 0..40 {
            world.run(120);
            if world.at_rest().is_ok() {
                break;
            }
        }
        assert_eq!(world.at_rest(), Ok(()), "{kind}, seed {seed}\n{}", world.told());
        if seed < 5 {
            world.replays();
        }
        changes += world.changes;
    }
    assert!(changes > 0);
}

#[test]
fn a_yarn_cluster_never_loses_work_to_us_and_comes_to_rest() {
    storms("yarn", yarn);
}

#[test]
fn a_file_system_never_loses_a_replica_to_us_and_comes_to_rest() {
    storms("hdfs", hdfs);
}

#[test]
fn a_ring_never_has_two_changes_and_comes_to_rest() {
    storms("cassandra", ring);
}
