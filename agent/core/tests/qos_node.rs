//! The loop on a simulated node, beside no isolation, the kernel's order alone, and a fixed suppression.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod node;

use node::{Policy, run};

const SEEDS: [u64; 3] = [1, 20_26, 0xfeed];

/// Quiet, and a burst in every two minutes.
fn bursts(second: u64) -> f64 {
    if (60..90).contains(&(second % 120)) { 0.82 } else { 0.3 }
}

#[test]
fn harm_is_less_than_with_weights_alone_and_more_work_is_done_than_under_fixed_suppression() {
    for seed in SEEDS {
        let of = |policy| run(policy, seed, 360, bursts);
        let (none, weight) = (of(Policy::None), of(Policy::Weight));
        let (fixed, ours) = (of(Policy::Suppress65), of(Policy::ours()));
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
        assert!(
            ours.best_s > fixed.best_s * 1.05,
            "measured harm leaves more than a fixed share, seed {seed}"
        );
    }
}

/// What the loop decided in a day with a burst, line by line.
#[test]
fn a_day_with_a_burst() {
    let day = run(Policy::ours(), 7, 300, bursts);
    let text = day.transcript.join("\n") + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts/qos-day.txt");
    let wanted = include_str!("transcripts/qos-day.txt");
    assert!(wanted == text, "write this to {path}, if it is right:\n{text}");
}
