//! Synthetic agents for `cargo xtask bench ingest`: each speaks the real protocol, once a second, and reconnects as an
//! agent does. Some samples are followed until the REST interface shows them.
//!
//! `e2e-fleet ADDRESS AGENTS TASKS [API]` runs until its standard input ends; then it prints what it saw as one JSON
//! object. ADDRESS is `unix:PATH` or `HOST:PORT`; API is `HOST:PORT`. It prints `up` when all agents have connected.

mod agent;
mod probe;

use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use probe::Probe;

/// What all agents saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    samples: AtomicU64,
    connected: AtomicU64,
    reconnects: AtomicU64,
    slowest_ack_ms: AtomicU64,
    stop: AtomicBool,
    probe: Probe,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(address), Some(Ok(agents)), Some(Ok(tasks))) = (
        arguments.first(),
        arguments.get(1).map(|n| n.parse::<u64>()),
        arguments.get(2).map(|n| n.parse::<u32>()),
    ) else {
        eprintln!("usage: e2e-fleet ADDRESS AGENTS TASKS [API]");
        return ExitCode::from(2);
    };
    let api = arguments.get(3).cloned();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    let seen = Arc::new(Seen::default());
    let stop = Arc::clone(&seen);
    std::thread::spawn(move || {
        // Whatever ends the input ends the fleet.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stop.stop.store(true, Ordering::Relaxed);
    });
    runtime.block_on(async {
        for number in 0..agents {
            tokio::spawn(agent::run(number, tasks, address.clone(), Arc::clone(&seen)));
        }
        if let Some(api) = api {
            tokio::spawn(probe::run(api, agents, Arc::clone(&seen)));
        }
        let mut up = false;
        while !seen.stop.load(Ordering::Relaxed) {
            if !up && seen.connected.load(Ordering::Relaxed) == agents {
                up = true;
                println!("up");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let (visible, timed_out) = seen.probe.result();
    println!(
        "{{\"samples\": {}, \"connected_at_end\": {}, \"reconnects\": {}, \"slowest_ack_ms\": {}, \"visible_ms\": {visible:?}, \"never_visible\": {timed_out}}}",
        seen.samples.load(Ordering::Relaxed),
        seen.connected.load(Ordering::Relaxed),
        seen.reconnects.load(Ordering::Relaxed),
        seen.slowest_ack_ms.load(Ordering::Relaxed),
    );
    ExitCode::SUCCESS
}
