//! The loop on a simulated node, beside no isolation, the kernel's order alone, and a fixed suppression.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod node;

use node::{Machine, Outcome, Policy, run};

const SEEDS: [u64; 3] = [1, 20_26, 0xfeed];

/// Quiet, and a burst in every two minutes.
fn bursts(second: u64) -> f64 {
    if (60..90).contains(&(second % 120)) { 0.82 } else { 0.3 }
}

#[test]
fn harm_is_less_than_with_weights_alone_and_more_work_is_done_than_under_fixed_suppression() {
    for seed in SEEDS {
        let of = |policy| run(Machine::USUAL, policy, seed, 360, bursts);
        let (none, weight) = (of(Policy::None), of(Policy::Weight));
        let (fixed, ours) = (of(Policy::Suppress65), of(Policy::ours(Machine::USUAL)));
        println!(
            "seed {seed}: p50, p99, mean of the slowest hundredth of requests, ms; CPU seconds of best-effort work"
        );
        for (name, is) in [("none", &none), ("weight", &weight), ("fixed 65 %", &fixed), ("loop", &ours)] {
            let (p50, p99, tail) = (is.quantile(0.5), is.quantile(0.99), is.tail());
            println!("  {name:<10} {p50:6.1} {p99:7.1} {tail:7.2} {:8.0}", is.best_s);
        }
        assert!(none.tail() > weight.tail() * 2.0, "idle work harms far less than equals, seed {seed}");
        assert!(weight.tail() > ours.tail() * 1.02, "and the loop less than that, seed {seed}");
        assert!(ours.tail() < fixed.tail() * 1.05, "no more than a fixed suppression, seed {seed}");
        assert!(weight.best_s > ours.best_s, "harm is what work costs, seed {seed}");
        // A fifth slower beside it is more than is borne by default, and less of it is what comes of that.
        assert!(ours.best_s > fixed.best_s, "seed {seed}");
        assert!(ours.counts.get("harms").is_some_and(|n| *n > 0), "seed {seed}");
    }
}

#[test]
fn where_it_harms_little_it_gets_what_the_kernel_would_give_it() {
    let mild = Machine { cpus: 8, interference: 0.1 };
    for seed in SEEDS {
        let of = |policy| run(mild, policy, seed, 1_200, bursts);
        let (weight, fixed, ours) = (of(Policy::Weight), of(Policy::Suppress65), of(Policy::ours(mild)));
        println!(
            "seed {seed}: weight {:.0}, fixed {:.0}, ours {:.0}; {:?}",
            weight.best_s, fixed.best_s, ours.best_s, ours.counts
        );
        assert!(ours.best_s > fixed.best_s * 1.3, "seed {seed}");
        assert!(ours.tail() < weight.tail() * 1.02, "seed {seed}");
    }
}

fn steady(machine: Machine, policy: Policy, seed: u64, load: f64) -> Outcome {
    run(machine, policy, seed, 1_200, |_| load)
}

#[test]
fn a_service_that_waits_for_itself_does_not_hold_best_effort_work_back() {
    let two = Machine { cpus: 2, interference: 0.0 };
    for seed in SEEDS {
        let (ours, fixed) =
            (steady(two, Policy::ours(two), seed, 0.6), steady(two, Policy::Suppress65, seed, 0.6));
        println!("seed {seed}: {:.0} CPU seconds, {:.0} fixed; {:?}", ours.best_s, fixed.best_s, ours.counts);
        let breaches: u64 = ["delay_above", "at_floor"].iter().filter_map(|code| ours.counts.get(code)).sum();
        assert!(breaches < 80, "one reading in a hundred, seed {seed}: {breaches}");
        assert!(ours.best_s > fixed.best_s * 1.5, "seed {seed}");
        assert_eq!(ours.counts.get("harms"), None, "it adds nothing, seed {seed}");
    }
}

#[test]
fn pauses_show_harm_that_stays_below_the_target() {
    let sensitive = Machine { cpus: 8, interference: 4.0 };
    for seed in SEEDS {
        let ours = steady(sensitive, Policy::ours(sensitive), seed, 0.3);
        println!("seed {seed}: {:.0} CPU seconds; {:?}", ours.best_s, ours.counts);
        assert!(ours.counts.get("harms").is_some_and(|n| *n > 0), "seed {seed}");
    }
}

/// What the loop decided in a day with a burst, line by line.
#[test]
fn a_day_with_a_burst() {
    let day = run(Machine::USUAL, Policy::ours(Machine::USUAL), 7, 300, bursts);
    let text = day.transcript.join("\n") + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts/qos-day.txt");
    let wanted = include_str!("transcripts/qos-day.txt");
    assert!(wanted == text, "write this to {path}, if it is right:\n{text}");
}
