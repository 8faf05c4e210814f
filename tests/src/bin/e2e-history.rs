//! Fills a state directory with history as the service itself writes it, days of it in a minute: batches of made-up nodes go through
//! `autoscaler::history`, half an hour at a time, with a clock that stands where each ends.
//!
//! `e2e-history STATE NODES TASKS DAYS` ends the history now. A node is read every ten seconds, as a busy link does it; a task's CPU
//! follows the day, with noise.

use std::error::Error;
use std::path::Path;

use autoscaler::clock::{ControllerClock, boot_ns, wall_ms};
use autoscaler::config::HistorySettings;
use autoscaler::history::{History, Observed, Reading, WINDOW};
use autoscaler::metrics::Metrics;
use autoscaler_core::event::Time;
use model::id::{BootId, CgroupId, NodeId};
use tokio::sync::watch;

const STEP_MS: u64 = 10_000;
/// What is written at once, s. A window needs several parts: they are merged, and reduced to ten minutes, once it is closed.
const PART: u64 = WINDOW / 4;
const DAY_S: u64 = 86_400;
/// As the service's own defaults have it.
const SETTINGS: HistorySettings = HistorySettings {
    flush_ms: 60_000,
    retain_ms: [6 * 3_600_000, 2 * 86_400_000, 14 * 86_400_000, 366 * 86_400_000],
    max_bytes: 8 << 30,
};

struct Task {
    cpu_us: u64,
    delay_ns: u64,
    memory_bytes: u64,
}

struct Node {
    name: NodeId,
    tasks: Vec<Task>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let all: Vec<String> = std::env::args().skip(1).collect();
    let [state, nodes, tasks, days] = all.as_slice() else {
        return Err("usage: e2e-history STATE NODES TASKS DAYS".into());
    };
    let (nodes, tasks, days): (usize, usize, u64) = (nodes.parse()?, tasks.parse()?, days.parse()?);
    std::fs::create_dir_all(state)?;
    let mut fleet = (1..=nodes).map(|n| node(n, tasks)).collect::<Result<Vec<_>, _>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = wall_ms() / 1000;
    let mut noise = 1;
    for part in (end - days * DAY_S) / PART..=end / PART {
        let (from, to) = (part * PART, ((part + 1) * PART).min(end));
        let batches =
            fleet.iter_mut().flat_map(|node| read(node, from * 1000, to * 1000, &mut noise)).collect();
        runtime.block_on(write(Path::new(state), batches, to * 1000))?;
    }
    Ok(())
}

fn node(number: usize, tasks: usize) -> Result<Node, Box<dyn Error>> {
    let task = |_| Task { cpu_us: 0, delay_ns: 0, memory_bytes: 256 << 20 };
    Ok(Node { name: NodeId::new(format!("n{number}"))?, tasks: (0..tasks).map(task).collect() })
}

/// All that a node says between two instants.
fn read(node: &mut Node, from: u64, to: u64, noise: &mut u64) -> Vec<Observed> {
    let mut batches = Vec::new();
    for at in (from..to).step_by(usize::try_from(STEP_MS).unwrap_or(usize::MAX)) {
        let day = (at / 1000 % DAY_S) as f64 / DAY_S as f64;
        let load = 0.55 - 0.45 * (day * std::f64::consts::TAU).cos();
        let changed = (0u32..).zip(&mut node.tasks).map(|(slot, task)| {
            // A linear congruential generator, Knuth's constants.
            *noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let share = (*noise >> 33) as f64 / f64::from(1u32 << 31);
            let used = load * (0.5 + share) / f64::from(slot + 1);
            task.cpu_us += (used * STEP_MS as f64 * 1e3) as u64;
            task.delay_ns += (used * share * 1e7) as u64;
            task.memory_bytes = (256 << 20) + ((load * share * 64.0) as u64) * (1 << 20);
            Reading {
                slot,
                cgroup: CgroupId(1_000 + u64::from(slot)),
                cpu_us: Some(task.cpu_us),
                delay_ns: Some(task.delay_ns),
                memory_bytes: Some(task.memory_bytes),
            }
        });
        let changed: Vec<Reading> = changed.collect();
        let snapshot = at == from;
        let appeared =
            if snapshot { changed.iter().map(|r| (r.slot, r.cgroup)).collect() } else { Vec::new() };
        batches.push(Observed {
            node: node.name.clone(),
            boot: BootId(1),
            at: Time(at),
            snapshot,
            backlog: false,
            appeared,
            changed,
            gone: Vec::new(),
        });
    }
    batches
}

/// Opens, takes, writes and ends, as the service does at a stop.
async fn write(state: &Path, batches: Vec<Observed>, now_ms: u64) -> Result<(), Box<dyn Error>> {
    let clock = ControllerClock::start(now_ms, None, boot_ns());
    let metrics = Metrics::new();
    let (history, handle) = History::open(state, SETTINGS, clock, metrics.clone())?;
    let (stop, stopped) = watch::channel(false);
    handle.observe(batches);
    drop(handle);
    stop.send_replace(true);
    history.run(stopped).await?;
    if metrics.history_dropped.get() + metrics.history_failed.get() > 0 {
        return Err("history did not take everything".into());
    }
    Ok(())
}
