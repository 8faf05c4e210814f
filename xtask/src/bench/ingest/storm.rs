//! All agents at once: the autoscaler is killed and started again.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::fleet::Fleet;
use super::receiver::Receiver;

/// How the agents came back.
#[derive(Debug, Serialize)]
pub(super) struct Storm {
    /// From the kill until all were connected again.
    pub(super) back_seconds: f64,
    /// From when it listened again.
    pub(super) back_since_listening_seconds: f64,
    /// Connections that found a full accept queue, in this network namespace meanwhile.
    pub(super) listen_overflows: u64,
    /// Connections that a listener dropped for any reason.
    pub(super) listen_drops: u64,
}

/// Long after the target, so that a miss has a figure.
const PATIENCE: Duration = Duration::from_secs(180);

impl Storm {
    pub(super) fn run(receiver: &mut Receiver, fleet: &Fleet, agents: u32) -> Result<Self> {
        println!("==> the autoscaler is killed and started again");
        let before = (tcp("ListenOverflows")?, tcp("ListenDrops")?);
        let killed = Instant::now();
        receiver.restart()?;
        let listening = Instant::now();
        while receiver.counter("trimtab_agents_connected")? < u64::from(agents) {
            ensure!(killed.elapsed() < PATIENCE, "agents stay away: the fleet is process {}", fleet.pid());
            std::thread::sleep(Duration::from_millis(50));
        }
        let back = (killed.elapsed().as_secs_f64(), listening.elapsed().as_secs_f64());
        // A batch or two from each, so that what follows is seen too.
        std::thread::sleep(Duration::from_secs(3));
        Ok(Self {
            back_seconds: back.0,
            back_since_listening_seconds: back.1,
            listen_overflows: tcp("ListenOverflows")?.saturating_sub(before.0),
            listen_drops: tcp("ListenDrops")?.saturating_sub(before.1),
        })
    }
}

/// A counter of the kernel's extended TCP statistics.
fn tcp(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/net/netstat").context("reading /proc/net/netstat")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = lines.next().zip(lines.next()).context("/proc/net/netstat has no TcpExt")?;
    let value = names.split(' ').zip(values.split(' ')).find(|(found, _)| *found == name);
    value.and_then(|(_, value)| value.parse().ok()).with_context(|| format!("no {name} in /proc/net/netstat"))
}
