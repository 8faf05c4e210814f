//! A short fuzzing of everything that reads bytes from outside (`e2e::fuzz`): seeds, mutated the same way in each run.
//! `cargo xtask fuzz` runs the same entries for longer.
//!
//! TRIMTAB_FUZZ_ROUNDS asks for more mutations of each target, TRIMTAB_FUZZ_SEED for other ones. A failure prints the
//! input; a hang ends by the runner's deadline.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

#[path = "support/mutate.rs"]
mod mutate;

use e2e::fuzz::TARGETS;
use mutate::Mutator;

const ROUNDS: u64 = 20_000;

/// Gives a target its seeds as they are, then mutations of them.
fn fuzz(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let number =
        |name: &str, default| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (rounds, seed) = (number("TRIMTAB_FUZZ_ROUNDS", ROUNDS), number("TRIMTAB_FUZZ_SEED", 1));
    let seeds = (target.seeds)();
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    assert!(seeds.iter().filter(|seed| (target.run)(seed)).count() > 0, "no seed is accepted");
    let mut mutator = Mutator::new(seed, &seeds, target.words);
    let mut accepted = 0;
    for _ in 0..rounds {
        let input = mutator.next();
        match std::panic::catch_unwind(|| (target.run)(&input)) {
            Ok(taken) => accepted += u64::from(taken),
            Err(panic) => {
                eprintln!("input: {:?}", String::from_utf8_lossy(&input));
                eprintln!("bytes: {input:?}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{accepted} of {rounds} mutations were accepted");
    // Of specifications, whose parsers are the strictest, about one in 140.
    assert!(accepted > rounds / 400, "mutations must get through: {accepted} of {rounds}");
}

#[test]
fn kernel_files() {
    fuzz("kernel_files");
}

#[test]
fn answers_of_haproxy_and_puma() {
    fuzz("answers");
}

#[test]
fn specifications() {
    fuzz("specifications");
}

#[test]
fn units() {
    fuzz("units");
}

#[test]
fn bodies_of_batches_into_the_fleet() {
    fuzz("batches");
}

#[test]
fn messages_of_agents() {
    fuzz("messages");
}

#[test]
fn identities() {
    fuzz("identities");
}
