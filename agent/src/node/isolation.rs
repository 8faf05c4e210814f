//! The isolation loop's shell: whom to look at, what a look means, what is done about it, what is shown.

use agent_core::qos::allowance::Allowance;
use agent_core::qos::governor::Step;
use agent_core::qos::meter::Reading;
use agent_core::qos::{Act, BestEffort, Governor, Observation, Reason};
use model::action::TaskEvent;
use model::gap::Unavailable;
use model::id::{CgroupId, TaskName};
use model::workload::Class;
use serde_json::{Value, json};

use super::{Done, Node};
use crate::deadman::Watcher;
use crate::executor::{Executor, ExecutorError};
use crate::sampler::Rounds;
use crate::settings::Settings;
use crate::source::{Place, Watch};
use crate::{clock, deadman};

/// What an act came to.
pub(super) struct Isolated {
    act: Act,
    error: ExecutorError,
}

/// The loop, and what it is told of the host.
pub(super) struct Isolation {
    governor: Governor,
    watch: Watch,
    /// What this host cannot do, and why.
    gaps: Vec<Unavailable>,
    /// Acts that were not carried out since the start.
    failed: u64,
    /// When the dead-man is looked after next, boot ms; `None` = there need not be one.
    deadman_ms: Option<u64>,
}

impl Isolation {
    pub(super) fn new(settings: &Settings, cpus: u32, executor: &Executor, counts_delays: bool) -> Self {
        let mut gaps = executor.class_gaps();
        if !counts_delays {
            let why = "the switch program does not run here (see unavailable in `trimtab-agent check`): the share of \
                       stalled time stands in for it";
            gaps.push(Unavailable { what: "run_queue_delay".into(), why: why.into() });
        }
        let governor = Governor::new(settings.qos, cpus.saturating_mul(1000), executor.possible());
        Self { governor, watch: Watch::default(), gaps, failed: 0, deadman_ms: None }
    }

    /// When nothing was read for too long, boot ms.
    pub(super) fn due_ms(&self) -> Option<u64> {
        if self.watch.is_empty() {
            return None;
        }
        [self.governor.silent_at_ms(), self.deadman_ms].into_iter().flatten().min()
    }
}

impl Node {
    fn isolates(&self) -> bool {
        self.settings.act && self.settings.qos.enabled
    }

    /// Tells the sampler whom to look at, when that has changed.
    pub(super) fn watch_again(&mut self, rounds: &Rounds) {
        let watch = if self.isolates() { self.whom() } else { Watch::default() };
        if watch == self.isolation.watch {
            return;
        }
        let over = watch.is_empty();
        self.isolation.watch = watch.clone();
        rounds.watch(watch);
        self.isolation.deadman_ms = (!over).then(clock::boot_ms);
        if over {
            let watcher = Watcher::of(&self.settings);
            tokio::spawn(async move { watcher.end().await });
            let step = self
                .isolation
                .governor
                .step(&Observation { now_ms: clock::boot_ms(), ..Observation::default() });
            self.follow(step);
        }
    }

    fn whom(&self) -> Watch {
        let mut watch = Watch::default();
        for (file, _, _) in self.executor.running() {
            // systemd makes the cgroup: until then there is nothing to look at.
            if file.cgroup == 0 {
                continue;
            }
            let place = || Place {
                cgroup: CgroupId(file.cgroup),
                path: self.executor.below_root(file),
                quota: self.executor.quota_directory(file),
            };
            match file.class {
                Class::LatencyCritical => watch.critical.push((place(), file.task.clone())),
                Class::Standard => {}
                Class::BestEffort => {
                    let known = BestEffort {
                        task: file.task.clone(),
                        age: file.generation.0,
                        cpu_us: None,
                        memory_bytes: None,
                        own_millis: file.own_cpu_millis(),
                        held: file.frozen,
                        idle: self.executor.is_idle(file),
                    };
                    watch.best.push((place(), known));
                }
            }
        }
        watch
    }

    /// The sampler has looked.
    pub(super) fn glanced(&mut self, seen: &Observation) {
        // It may have looked at those of before.
        let same = seen.best.len() == self.isolation.watch.best.len()
            && seen.best.iter().zip(&self.isolation.watch.best).all(|(b, (_, known))| b.task == known.task);
        if same && !self.isolation.watch.is_empty() {
            let step = self.isolation.governor.step(seen);
            self.follow(step);
        }
    }

    /// Nothing was read for long.
    pub(super) fn isolation_on_time(&mut self, now_ms: u64) {
        if self.isolation.governor.silent_at_ms().is_some_and(|due| due <= now_ms) {
            let step = self.isolation.governor.silent(now_ms);
            self.follow(step);
        }
        if self.isolation.deadman_ms.is_some_and(|due| due <= now_ms) {
            self.isolation.deadman_ms = Some(now_ms + deadman::CHECK_MS);
            self.look_after_deadman();
        }
    }

    /// Starts a watcher when there is none.
    fn look_after_deadman(&self) {
        if deadman::is_watched(&self.settings.state) {
            return;
        }
        let watcher = Watcher::of(&self.settings);
        tokio::spawn(async move {
            match watcher.start().await {
                Ok(()) => tracing::info!("a dead-man watches over best-effort work"),
                Err(error) => tracing::error!("no dead-man watches over best-effort work: {error:#}"),
            }
        });
    }

    /// The owner changed the settings; what was held back by a loop that is now off is let go.
    pub(super) fn isolation_reloaded(&mut self) {
        self.isolation.governor.set(self.settings.qos);
        if !self.isolates() {
            let acts = self.isolation.governor.release();
            self.follow(Step { acts, reasons: Vec::new() });
        }
    }

    fn follow(&mut self, step: Step) {
        for reason in step.reasons.iter().filter(|reason| reason.acts()) {
            let code = reason.code();
            match reason {
                // Up to one a second, or by the clock.
                Reason::Grown { .. } | Reason::HeadroomShort { .. } | Reason::Paused { .. } => {
                    tracing::debug!(code, %reason, "isolation");
                }
                _ => tracing::info!(code, %reason, "isolation"),
            }
        }
        for act in step.acts {
            if let Err(error) = self.isolate(&act) {
                self.not_isolated(Isolated { act, error });
            }
        }
    }

    fn isolate(&mut self, act: &Act) -> Result<(), ExecutorError> {
        if let Act::Stop { .. } = act {
            let events: Vec<TaskEvent> = self.executor.stop_for(act)?;
            self.tell_all(events);
            return Ok(());
        }
        let change = self.executor.isolate(act)?;
        let (done, act) = (self.done.clone(), act.clone());
        tokio::spawn(async move {
            if let Err(error) = change.await {
                let _ = done.send(Done::Isolated(Isolated { act, error })).await;
            }
        });
        Ok(())
    }

    /// What was not carried out is said once, and ordered again where that makes sense.
    pub(super) fn not_isolated(&mut self, Isolated { act, error }: Isolated) {
        let isolation = &mut self.isolation;
        let lives = self.executor.running().any(|(file, _, _)| file.task == *act.task());
        if !lives || matches!(error, ExecutorError::Unknown(_)) {
            return;
        }
        isolation.failed += 1;
        isolation.governor.failed(&act, error.is_impossible());
        let (what, why) = (what(&act).to_owned(), error.to_string());
        if !isolation.gaps.iter().any(|gap| gap.what == what) {
            tracing::warn!(task = %act.task(), what, why, "isolation: not carried out");
            isolation.gaps.push(Unavailable { what, why });
        }
    }

    /// What `/qos` says.
    pub(super) fn isolation_shown(&self) -> String {
        let Isolation { governor, gaps, watch, .. } = &self.isolation;
        let settings = governor.settings();
        let owner = |task: &TaskName| {
            self.executor
                .running()
                .find(|(file, _, _)| file.task == *task)
                .map(|(file, _, _)| file.workload.to_string())
        };
        let critical: Vec<Value> = watch
            .critical
            .iter()
            .map(|(_, task)| {
                let reading = governor.readings().iter().find(|reading| reading.task == *task);
                let by_delay = reading.and_then(Reading::wait).is_none_or(|(by_delay, _)| by_delay);
                // The one of the two that decides.
                let unit = |wait: f64| if by_delay { wait / 1e6 } else { wait };
                let borne = unit(governor.own().borne(task, by_delay, settings));
                json!({
                    "task": task,
                    "workload": owner(task),
                    "delayMs": reading.and_then(|r| r.delay_ns).map(|ns| ns as f64 / 1e6),
                    "cpuStall": reading.and_then(|r| r.cpu_stall),
                    "memoryStall": reading.and_then(|r| r.memory_stall),
                    "limited": reading.is_some_and(|r| r.limited),
                    "decides": if by_delay { "delayMs" } else { "cpuStall" },
                    "ownMean": unit(governor.own().mean(task, by_delay)),
                    "borne": borne,
                    "added": governor.added(task).collect::<Vec<_>>(),
                })
            })
            .collect();
        let best: Vec<Value> = watch
            .best
            .iter()
            .map(|(_, known)| {
                json!({
                    "task": known.task,
                    "workload": owner(&known.task),
                    "usedMillis": governor.measured().best.get(&known.task).copied().flatten(),
                    "quotaMillis": governor.given(&known.task).flatten().or(known.own_millis),
                    "frozen": governor.frozen().contains(&known.task) || known.held,
                })
            })
            .collect();
        let now_ms = clock::boot_ms();
        let decisions: Vec<Value> = governor
            .decisions()
            .rev()
            .map(|decision| {
                json!({
                    "agoMs": now_ms.saturating_sub(decision.at_ms),
                    "acts": decision.acts,
                    "why": decision.reason.to_string(),
                    "reason": decision.reason,
                })
            })
            .collect();
        let off = (!self.isolates()).then_some(match self.settings.act {
            true => "enabled = false in [qos] of the configuration",
            false => "this agent only observes: act = true lets it act",
        });
        let allowance = match governor.allowance() {
            Allowance::Capped { millis } => Some(millis),
            Allowance::Idle | Allowance::Open => None,
        };
        json!({
            "apiVersion": "trimtab/v1",
            "node": self.settings.node,
            "off": off,
            "targets": {
                "delayMs": settings.delay_ns as f64 / 1e6,
                "cpuStall": settings.cpu_stall,
                "memoryStall": settings.memory_stall,
                "headroom": governor.usual_headroom(),
                "floor": settings.floor,
                "memoryFree": settings.memory_free,
                "harm": settings.harm,
                "pauses": settings.pauses,
            },
            "state": governor.allowance(),
            "allowanceMillis": allowance,
            "limitMillis": governor.limit(),
            "headroom": governor.headroom(),
            "cpuMillis": self.inventory.cpus.saturating_mul(1000),
            "othersMillis": governor.measured().others_millis,
            "memory": governor.memory(),
            "deadMan": {
                "afterMs": deadman::AFTER_MS,
                "watcher": deadman::watcher_pid(&self.settings.state),
            },
            "critical": critical,
            "bestEffort": best,
            "decisions": decisions,
            "notPossible": gaps,
        })
        .to_string()
    }

    /// Metrics: name, kind, help, samples by label. Labels are classes and reasons, of which there are few.
    pub(super) fn isolation_metrics(&self, mut add: impl FnMut(&str, &str, &str, Vec<(String, f64)>)) {
        let Isolation { governor, watch, failed, .. } = &self.isolation;
        let class = |class: Class, count: usize| (format!("{{class=\"{class}\"}}"), count as f64);
        let counts = vec![
            class(Class::LatencyCritical, watch.critical.len()),
            class(Class::BestEffort, watch.best.len()),
        ];
        add("qos_tasks", "gauge", "Tasks that the isolation loop looks at.", counts);
        let help = "CPU that best-effort work may use together while it is limited.";
        if let Allowance::Capped { millis } = governor.allowance() {
            add("qos_allowance_cores", "gauge", help, vec![(String::new(), f64::from(millis) / 1e3)]);
        }
        let worst = governor.readings().iter().filter_map(|reading| reading.delay_ns).max();
        if let Some(ns) = worst {
            let help = "Mean wait for a CPU of the latency-critical task that waits longest.";
            add("qos_run_queue_delay_seconds", "gauge", help, vec![(String::new(), ns as f64 / 1e9)]);
        }
        let frozen = governor.frozen().len() as f64;
        add(
            "qos_frozen_tasks",
            "gauge",
            "Best-effort tasks frozen by the loop.",
            vec![(String::new(), frozen)],
        );
        let reasons = governor.counts().iter();
        let reasons = reasons.map(|(code, n)| (format!("{{reason=\"{code}\"}}"), *n as f64)).collect();
        add("qos_decisions_total", "counter", "Decisions of the isolation loop, acts and non-acts.", reasons);
        let help = "Acts of the isolation loop that were not carried out.";
        add("qos_failed_total", "counter", help, vec![(String::new(), *failed as f64)]);
    }
}

/// The control that an act needs, as gaps name it.
fn what(act: &Act) -> &'static str {
    match act {
        Act::Cap { .. } => "cpu.max",
        Act::Reclaim { .. } => "memory.reclaim",
        Act::High { .. } => "memory.high",
        Act::Freeze { .. } | Act::Thaw { .. } => "cgroup.freeze",
        Act::Stop { .. } => "stop",
    }
}
