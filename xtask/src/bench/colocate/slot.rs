//! One slot: a mode, a load, some seconds; and what was measured in them.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::hog::{self, Kind};
use super::host::{self, Group};
use super::load::{Outcome, Plan, Running};
use super::stage::Stage;
use super::suppress::{INTERVAL, Suppress};

/// Who holds best-effort work back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// There is none.
    Off,
    /// The kernel, by the smallest weight.
    Weight,
    /// A fixed share of the node less what others use, besides.
    Fixed,
    /// Trimtab.
    Ours,
    /// The kernel, by an idle group, and nothing else: what Trimtab's loop adds to and takes from.
    Idle,
}

/// What one slot gave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Slot {
    pub(super) mode: Mode,
    /// Percent of the capacity that the service has alone.
    pub(super) load: u32,
    pub(super) round: u32,
    /// 0 = on the way there (A B C D), 1 = on the way back.
    pub(super) half: u32,
    pub(super) seed: u64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) requests: u64,
    /// Wanted, and answered, requests a second.
    pub(super) rate_wanted: f64,
    pub(super) rate: f64,
    /// CPU of the service and of best-effort work, cores.
    pub(super) critical_cores: f64,
    pub(super) best_cores: f64,
    /// Work of best-effort tasks, of what they do alone.
    pub(super) best_share: f64,
    /// CPU of the load generator, of the agent and of the autoscaler, cores.
    pub(super) generator_cores: f64,
    pub(super) agent_cores: f64,
    pub(super) autoscaler_cores: f64,
    /// CPU of everybody else on this machine, and what the hypervisor took, as a share of the node.
    pub(super) foreign: f64,
    pub(super) stolen: f64,
    /// How late the generator was by its own fault, 99th percentile, µs.
    pub(super) late_p99_us: f64,
    /// What the loop allowed at the end, cores; only of our mode.
    pub(super) allowance_cores: Option<f64>,
    /// Mean wait for a CPU that the agent last saw, ms.
    pub(super) delay_ms: Option<f64>,
}

impl Slot {
    /// CPU of the service and of best-effort work as a share of the node, 0..=1: the generator stands for other machines.
    pub(super) fn utilisation(&self, cpus: u32) -> f64 {
        (self.critical_cores + self.best_cores) / f64::from(cpus)
    }
}

/// What is the same for all slots.
pub(super) struct Bench {
    /// Before the stage: it has to be gone before its slice is.
    pub(super) group: Group,
    pub(super) stage: Stage,
    pub(super) priority: &'static [&'static str],
    pub(super) kind: Kind,
    pub(super) cpus: u32,
    /// Requests a second, alone.
    pub(super) capacity: f64,
    /// Work of best-effort tasks a second, alone.
    pub(super) best_alone: f64,
}

/// Which slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) mode: Mode,
    pub(super) load: u32,
    pub(super) round: u32,
    pub(super) half: u32,
    pub(super) seed: u64,
    pub(super) warm: f64,
    pub(super) seconds: f64,
}

/// Counters at one moment.
struct Marks {
    at: Instant,
    busy_us: u64,
    stolen_us: u64,
    critical_us: u64,
    best_us: u64,
    done: u64,
    agent_us: u64,
    autoscaler_us: u64,
}

/// Who applies the fixed rule.
struct Keeper {
    rule: Suppress,
    last: Marks,
}

/// Best-effort work that Trimtab knows nothing of; ended when dropped.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Bench {
    fn plan(&self, rate: f64, seed: u64, warm: f64, seconds: f64) -> Plan {
        Plan { port: self.stage.port, connections: super::workers(), rate, seed, warm, seconds }
    }

    /// Requests a second that the service answers when every worker always has one.
    pub(super) fn calibrate_service(&mut self, seconds: f64) -> Result<()> {
        let outcome = Running::start(&self.plan(0.0, 0, 1.0, seconds), self.priority)?.finish()?;
        self.capacity = outcome.answers as f64 / seconds;
        Ok(())
    }

    /// What best-effort work does in a second when it has the node for itself.
    pub(super) fn calibrate_best(&mut self, seconds: f64) -> Result<()> {
        let other = self.other()?;
        std::thread::sleep(Duration::from_secs(1));
        let (_, before) = self.best(Mode::Weight)?;
        let began = Instant::now();
        std::thread::sleep(Duration::from_secs_f64(seconds));
        let (_, after) = self.best(Mode::Weight)?;
        self.best_alone = (after - before) as f64 / began.elapsed().as_secs_f64();
        drop(other);
        Ok(())
    }

    /// Starts best-effort work outside Trimtab.
    fn other(&self) -> Result<Other> {
        let counter = self.stage.other_counter();
        let _ = std::fs::remove_file(&counter);
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench-colocate", "burn"]).arg(&counter);
        command.arg(self.cpus.to_string()).arg(self.kind.name());
        let other = Other(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
        self.group.add(other.0.id())?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while hog::read(&counter).is_none_or(|(_, done)| done == 0) {
            anyhow::ensure!(Instant::now() < deadline, "best-effort work did not begin");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(other)
    }

    /// Process and work done of the best-effort work of a mode.
    fn best(&self, mode: Mode) -> Result<(u32, u64)> {
        match mode {
            Mode::Off | Mode::Ours => self.stage.done(),
            Mode::Weight | Mode::Fixed | Mode::Idle => {
                hog::read(&self.stage.other_counter()).context("best-effort work counts nothing")
            }
        }
    }

    fn marks(&self, mode: Mode) -> Result<Marks> {
        let (best, done) = self.best(mode)?;
        let (agent_us, autoscaler_us) = self.stage.control_us()?;
        let (busy_us, stolen_us) = host::busy_and_stolen_us()?;
        let (critical_us, best_us) = (host::process_us(self.stage.service)?, host::process_us(best)?);
        let at = Instant::now();
        Ok(Marks { at, busy_us, stolen_us, critical_us, best_us, done, agent_us, autoscaler_us })
    }

    /// Measures one slot. Our mode's best-effort task runs on afterwards; [`Self::rest`] stops it.
    pub(super) fn slot(&mut self, wanted: Wanted) -> Result<Slot> {
        let Wanted { mode, warm, seconds, .. } = wanted;
        self.stage.check_alive()?;
        self.group.set_quota(None)?;
        self.group.set_idle(mode == Mode::Idle)?;
        let other = match mode {
            Mode::Weight | Mode::Fixed | Mode::Idle => Some(self.other()?),
            Mode::Off | Mode::Ours => None,
        };
        if mode == Mode::Ours {
            self.stage.best_effort(true)?;
        }
        let rate = self.capacity * f64::from(wanted.load) / 100.0;
        let running = Running::start(&self.plan(rate, wanted.seed, warm, seconds), self.priority)?;
        let began = Instant::now();
        let mut keeper = match mode {
            Mode::Fixed => Some(Keeper { rule: Suppress::new(self.cpus), last: self.marks(mode)? }),
            _ => None,
        };
        self.wait(began + Duration::from_secs_f64(warm), keeper.as_mut())?;
        let before = self.marks(mode)?;
        self.wait(before.at + Duration::from_secs_f64(seconds), keeper.as_mut())?;
        let after = self.marks(mode)?;
        let qos = self.stage.qos();
        let outcome = running.finish()?;
        drop(other);
        let slot = self.judge(wanted, rate, &before, &after, &outcome)?;
        let allowance = qos.as_ref().and_then(|said| said["allowanceMillis"].as_f64());
        Ok(Slot {
            allowance_cores: allowance.filter(|_| mode == Mode::Ours).map(|millis| millis / 1e3),
            delay_ms: qos.and_then(|said| said["critical"][0]["delayMs"].as_f64()),
            ..slot
        })
    }

    /// Our mode is over: its best-effort task stops.
    pub(super) fn rest(&self) -> Result<()> {
        self.stage.best_effort(false)
    }

    /// Waits, and applies a rule meanwhile.
    fn wait(&self, until: Instant, mut keeper: Option<&mut Keeper>) -> Result<()> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let Some(keeper) = keeper.as_deref_mut() else {
                std::thread::sleep(left);
                continue;
            };
            let due = keeper.last.at + INTERVAL;
            std::thread::sleep(left.min(due.saturating_duration_since(Instant::now())));
            if Instant::now() < due {
                continue;
            }
            let now = self.marks(Mode::Fixed)?;
            let others = now.busy_us - keeper.last.busy_us;
            let others = others.saturating_sub(now.best_us - keeper.last.best_us) as f64;
            let us = (now.at - keeper.last.at).as_micros() as f64;
            if let Some(quota) = keeper.rule.on(others / us) {
                self.group.set_quota(Some(quota))?;
            }
            keeper.last = now;
        }
    }

    fn judge(
        &self,
        wanted: Wanted,
        rate: f64,
        before: &Marks,
        after: &Marks,
        outcome: &Outcome,
    ) -> Result<Slot> {
        let us = (after.at - before.at).as_micros() as f64;
        let cores = |after: u64, before: u64| after.saturating_sub(before) as f64 / us;
        let node = f64::from(self.cpus);
        let (critical_cores, best_cores) =
            (cores(after.critical_us, before.critical_us), cores(after.best_us, before.best_us));
        let generator_cores = outcome.cpu_us as f64 / outcome.wall_us.max(1) as f64;
        let agent_cores = cores(after.agent_us, before.agent_us);
        let autoscaler_cores = cores(after.autoscaler_us, before.autoscaler_us);
        let own = critical_cores + best_cores + generator_cores + agent_cores + autoscaler_cores;
        let foreign = (cores(after.busy_us, before.busy_us) - own).max(0.0) / node;
        let seconds = us / 1e6;
        let quantile = |share| outcome.latencies.quantile(share).map(|ns| ns as f64 / 1e3);
        Ok(Slot {
            mode: wanted.mode,
            load: wanted.load,
            round: wanted.round,
            half: wanted.half,
            seed: wanted.seed,
            p50_us: quantile(0.5).context("no request was answered")?,
            p99_us: quantile(0.99).context("no request was answered")?,
            requests: outcome.latencies.count(),
            rate_wanted: rate,
            rate: outcome.answers as f64 / wanted.seconds,
            critical_cores,
            best_cores,
            best_share: (after.done.saturating_sub(before.done)) as f64 / seconds / self.best_alone,
            generator_cores,
            agent_cores,
            autoscaler_cores,
            foreign,
            stolen: cores(after.stolen_us, before.stolen_us) / node,
            late_p99_us: outcome.late.quantile(0.99).unwrap_or(0) as f64 / 1e3,
            allowance_cores: None,
            delay_ms: None,
        })
    }
}
