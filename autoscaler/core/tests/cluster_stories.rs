//! Golden stories of clusters: what people, bad luck and the brain do, and what came of it. A bug report becomes a text file.
//!
//! In a file under `tests/cluster_stories`, lines that begin with `> ` are input, all others output. `UPDATE=1` writes the output anew. The
//! world is that of the simulation ([`cluster_world`]), without faults but those that are told.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cluster_world;
mod dice;
mod golden;

use std::collections::BTreeMap;
use std::fmt::Write;

use autoscaler_core::event::Event;
use cluster_world::hdfs::Hdfs;
use cluster_world::ring::Ring;
use cluster_world::yarn::Yarn;
use cluster_world::{Cluster, World, workload};
use model::units::Millis;
use model::workload::{Mode, Workload};
use serde_json::json;

/// Plays all that comes after a story's first input in the world that it names.
fn play<C: Cluster>(mut world: World<C>, lines: &[&str]) -> String {
    let (mut out, mut shown) = (String::new(), 0);
    for line in lines {
        writeln!(out, "> {line}").unwrap();
        input(&mut world, line);
        for said in &world.log[shown..] {
            let (at, what) = said.split_once(' ').unwrap();
            writeln!(out, "{:>5} {what}", at.parse::<u64>().unwrap() - 1_000).unwrap();
        }
        shown = world.log.len();
    }
    world.replays();
    out
}

fn input<C: Cluster>(world: &mut World<C>, line: &str) {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let words: Vec<&str> = rest.split_whitespace().collect();
    let workload = world.workload.name.clone();
    let reason = "a story".to_owned();
    match (verb, words.as_slice()) {
        ("run", [seconds]) => world.run(seconds.parse().unwrap()),
        // Until a change is in a state, or nothing is left to do.
        ("until", [state]) => {
            let reached = |world: &World<C>| match *state {
                "rest" => world.at_rest().is_ok(),
                state => world.state().as_deref() == Some(state),
            };
            for _ in 0..3_600 {
                if reached(world) {
                    return;
                }
                world.run(1);
            }
            panic!("{line}: {:?}\n{}", world.state(), world.told());
        }
        ("load", [level]) => world.cluster.load(level.parse().unwrap()),
        ("bounds", [min, max]) => world.bounds(min.parse().unwrap(), max.parse().unwrap()),
        ("drain", [node]) => world.drain(node, true),
        ("return", [node]) => world.drain(node, false),
        ("autoscaler", ["dies"]) => world.restart(),
        ("agent", [node, seconds]) => {
            world.agent_leaves(&node.parse().unwrap(), seconds.parse().unwrap());
        }
        ("end", [member]) => world.process_ends(member, "by itself", false),
        ("pause", []) => world.tell(Event::Paused { workload: Some(workload), reason, until: None }),
        ("resume", []) => world.tell(Event::Resumed { workload: Some(workload) }),
        ("cancel", []) => world.tell(Event::Cancelled { workload, reason }),
        ("approve", []) => {
            let decision = world.brain.recommends(&workload).expect("nothing is recommended");
            world.tell(Event::Approved { workload, decision });
        }
        ("reject", length) => {
            let decision = world.brain.recommends(&workload).expect("nothing is recommended");
            let for_ms = length.first().map(|length| length.parse::<Millis>().unwrap().0);
            world.tell(Event::Declined { workload, decision, reason, for_ms });
        }
        ("but", _) => world.fault(rest),
        _ => panic!("{line}"),
    }
}

/// The first input: the kind, and what of its specification differs.
fn begin(line: &str) -> (String, Workload) {
    let mut words = line.split_whitespace();
    let kind = words.next().unwrap().to_owned();
    let set: BTreeMap<&str, &str> = words.map(|word| word.split_once('=').unwrap()).collect();
    let number = |key: &str| set.get(key).map_or(2, |value| value.parse().unwrap());
    let (cluster, target) = match kind.as_str() {
        "yarn" => ("batch", json!({"containerWait": "5s"})),
        "hdfs" => ("store", json!({"disk": "50%"})),
        "cassandra" => ("ring", json!({"disk": "40%"})),
        other => panic!("{other}"),
    };
    let mut workload = workload(&kind, cluster, &target, (number("min"), number("max")));
    if set.get("mode") == Some(&"recommend") {
        workload.spec.mode = Mode::Recommend;
    }
    (kind, workload)
}

fn story(text: &str) -> String {
    let remarks =
        text.lines().take_while(|line| line.starts_with('#')).fold(String::new(), |mut all, line| {
            writeln!(all, "{line}").unwrap();
            all
        });
    let inputs: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("> ")).collect();
    let (first, rest) = inputs.split_first().unwrap();
    let (kind, workload) = begin(first);
    let played = match kind.as_str() {
        "yarn" => play(World::new(1, workload, Yarn::new(2)), rest),
        "hdfs" => play(World::new(1, workload, Hdfs::new(2)), rest),
        _ => play(World::new(1, workload, Ring::new(2, 2)), rest),
    };
    format!("{remarks}> {first}\n{played}")
}

#[test]
fn stories_end_as_they_did() {
    golden::replay("cluster_stories", 10, story);
}
