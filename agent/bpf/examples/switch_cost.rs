//! What a context switch costs with each contender attached, in ns of program run time: `cargo xtask bench switch`.
//!
//! The contenders take turns within each round, in an order that rotates, so that drift of the machine falls on all alike. The
//! kernel's own statistics time each run; they add the same to every contender, so differences are what counts.
//!
//! Usage: `switch_cost OBJECT ROUNDS MILLISECONDS`; prints `workload contender round ns switches` lines.

use agent_bpf::yardsticks::{Contender, measure};
use std::error::Error;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Larger than the last-level cache's share that a scheduler's data would keep in it.
const EVICTING_BYTES: usize = 8 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, object, rounds, milliseconds] = arguments.as_slice() else {
        return Err("usage: switch_cost OBJECT ROUNDS MILLISECONDS".into());
    };
    let contenders = Contender::load_all(&std::fs::read(object)?)?;
    let (rounds, duration): (usize, _) = (rounds.parse()?, Duration::from_millis(milliseconds.parse()?));
    let _statistics = measure()?;
    for (workload, run) in [("hot", ping_pong as Workload), ("cold", nap)] {
        for round in 0..rounds {
            for turn in 0..contenders.len() {
                let contender = &contenders[(turn + round) % contenders.len()];
                let before = contender.cost()?;
                let links = contender.attach()?;
                run(duration)?;
                drop(links);
                let after = contender.cost()?;
                let switches = after.switches - before.switches;
                let ns = (after.run_time_ns - before.run_time_ns) as f64 / switches as f64;
                println!("{workload} {} {round} {ns:.1} {switches}", contender.name);
            }
        }
    }
    Ok(())
}

type Workload = fn(Duration) -> io::Result<()>;

/// Two threads on one CPU pass a byte back and forth: a switch every few µs, everything in the cache.
fn ping_pong(duration: Duration) -> io::Result<()> {
    let ((mut from_a, mut to_b), (mut from_b, mut to_a)) = (io::pipe()?, io::pipe()?);
    std::thread::scope(|threads| {
        let echo = threads.spawn(move || -> io::Result<()> {
            stay_on_cpu(1)?;
            let mut byte = [0];
            while from_a.read(&mut byte)? == 1 {
                to_a.write_all(&byte)?;
            }
            Ok(())
        });
        let serve = threads.spawn(move || -> io::Result<()> {
            stay_on_cpu(1)?;
            let (end, mut byte) = (std::time::Instant::now() + duration, [0]);
            while std::time::Instant::now() < end {
                to_b.write_all(&byte)?;
                from_b.read_exact(&mut byte)?;
            }
            drop(to_b);
            Ok(())
        });
        joined(serve.join()).and(joined(echo.join()))
    })
}

/// A thread that sleeps a millisecond, again and again, beside one that sweeps the caches on the same CPU.
fn nap(duration: Duration) -> io::Result<()> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let sweeper = threads.spawn(|| -> io::Result<()> {
            stay_on_cpu(1)?;
            let mut lines = vec![0_u8; EVICTING_BYTES];
            while !stop.load(Relaxed) {
                for line in lines.iter_mut().step_by(64) {
                    *line = line.wrapping_add(1);
                }
                std::hint::black_box(&mut lines);
            }
            Ok(())
        });
        let napper = threads.spawn(|| -> io::Result<()> {
            stay_on_cpu(1)?;
            let end = std::time::Instant::now() + duration;
            while std::time::Instant::now() < end {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        });
        let napped = joined(napper.join());
        stop.store(true, Relaxed);
        napped.and(joined(sweeper.join()))
    })
}

fn joined(result: std::thread::Result<io::Result<()>>) -> io::Result<()> {
    result.unwrap_or_else(|_| Err(io::Error::other("a thread of the workload panicked")))
}

fn stay_on_cpu(cpu: usize) -> io::Result<()> {
    // SAFETY: a zeroed `cpu_set_t` is an empty set, and the call reads it only.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
