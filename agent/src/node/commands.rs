//! A command's way: parse, guard, fence on disk, effect, read back, outcome.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::guard::{self, Limits, Verdict};
use model::action::{Command, Outcome, OutcomeKind, Verb};

use super::{Done, Event, Node};
use crate::adapter::Effect;
use crate::executor::ReadBack;

impl Node {
    pub(super) fn command(&mut self, message: wire::pb::Command) {
        let (id, generation) = (message.id, message.generation);
        let command = match Command::try_from(message) {
            Ok(command) => command,
            Err(why) => {
                // Without a task's name there is nobody to answer for: the controller's deadline ends it.
                tracing::warn!(id, generation, %why, "a command that cannot be read is refused");
                return;
            }
        };
        let frozen = self.frozen();
        let launchers: BTreeSet<String> = self.settings.launchers.keys().cloned().collect();
        let backends: BTreeSet<String> =
            self.haproxies.iter().flat_map(|h| h.backends().iter().cloned()).collect();
        let clusters = self.settings.clusters.names();
        let limits = Limits {
            acts: self.settings.act,
            frozen: frozen.as_deref(),
            launchers: &launchers,
            backends: &backends,
            clusters: &clusters,
            max_tasks: self.settings.max_tasks,
            tasks: self.executor.count(),
            memory_bytes: self.inventory.memory_bytes,
            cpu_millis: self.inventory.cpus.saturating_mul(1000),
        };
        let fence = self.fences.get(&command.task);
        match guard::judge(&command, self.fences.controller(), fence, &limits, self.controller_ms()) {
            Verdict::UnderWay => {}
            Verdict::Repeat(outcome) => drop(self.session.event(Event::Outcome(outcome))),
            Verdict::Refuse(why) => {
                tracing::warn!(command = %command.id, task = %command.task, verb = %command.verb, %why, "refused");
                let outcome = outcome(&command, (OutcomeKind::Refused, why.to_string(), BTreeMap::new()));
                self.session.event(Event::Outcome(outcome));
            }
            Verdict::Run(fence) => {
                let kept =
                    self.fences.saw(command.epoch).and_then(|()| self.fences.set(&command.task, fence));
                if let Err(error) = kept {
                    // Without the fence a second delivery would run again: better not at all.
                    let why = format!("its fence could not be kept: {error}");
                    let outcome = outcome(&command, (OutcomeKind::Failed, why, BTreeMap::new()));
                    self.session.event(Event::Outcome(outcome));
                    return;
                }
                tracing::info!(command = %command.id, task = %command.task, verb = %command.verb, "command");
                self.carry_out(command);
            }
        }
        self.send_events();
    }

    /// The owner's switch: a file `FROZEN` in the state directory; its text is the reason.
    pub(super) fn frozen(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.settings.state.join("FROZEN")).ok()?;
        let reason = text.lines().next().unwrap_or_default().trim();
        Some(if reason.is_empty() {
            "FROZEN is there".to_owned()
        } else {
            reason.chars().take(120).collect()
        })
    }

    fn carry_out(&mut self, command: Command) {
        let effect = match &command.verb {
            Verb::Balancer { backend, step } => {
                let Some(haproxy) = self.haproxies.iter().find(|h| h.backends().contains(backend)).cloned()
                else {
                    return self.finish(&command, failed("no such balancer"));
                };
                let (backend, step, done) = (backend.clone(), step.clone(), self.done.clone());
                tokio::spawn(async move {
                    let effect = haproxy.step(&backend, &command.task, &step).await;
                    let _ = done.send(Done::Outcome(outcome(&command, effect))).await;
                });
                return;
            }
            Verb::Yarn { .. } | Verb::Hdfs { .. } | Verb::Cassandra { .. } => {
                return self.cluster_step(command);
            }
            Verb::Start { .. } => self.start(&command),
            Verb::Stop { grace_ms } => {
                if !self.task_names().contains(&command.task) {
                    (OutcomeKind::Already, "no such task runs here".to_owned(), BTreeMap::new())
                } else {
                    match self.executor.stop(&command.task, *grace_ms) {
                        Ok(events) => {
                            self.tell_all(events);
                            (OutcomeKind::Applied, String::new(), BTreeMap::new())
                        }
                        Err(e) => failed(e),
                    }
                }
            }
            Verb::Resize { size } => match self.executor.resize(&command.task, *size) {
                Ok(change) => return self.later(command, change),
                Err(e) => failed(e),
            },
            Verb::Classify { class } => match self.executor.classify(&command.task, *class) {
                Ok(Some(change)) => {
                    let change = async move { Ok(change.await?.read_back()) };
                    return self.later(command, change);
                }
                Ok(None) => (OutcomeKind::Already, format!("it is {class}"), BTreeMap::new()),
                Err(e) => failed(e),
            },
            Verb::Freeze | Verb::Thaw => {
                match self.executor.freeze(&command.task, command.verb == Verb::Freeze) {
                    Ok(change) => return self.later(command, change),
                    Err(e) => failed(e),
                }
            }
            Verb::Reclaim { bytes } => read_back(self.executor.reclaim(&command.task, *bytes)),
            Verb::PumaWorkers { by } => {
                use rustix::process::Signal;
                let signal = if *by > 0 { Signal::TTIN } else { Signal::TTOU };
                match self.executor.signal(&command.task, signal) {
                    // Signals coalesce and are lost: the worker count in Puma's report is what confirms it.
                    Ok(()) => (
                        OutcomeKind::Applied,
                        "signalled; booted_workers confirms it".into(),
                        BTreeMap::new(),
                    ),
                    Err(e) => failed(e),
                }
            }
        };
        self.finish(&command, effect);
    }

    /// Answers when a change has been read back.
    fn later(&self, command: Command, change: impl Future<Output = ReadBack> + Send + 'static) {
        let done = self.done.clone();
        tokio::spawn(async move {
            let effect = read_back(change.await);
            let _ = done.send(Done::Outcome(outcome(&command, effect))).await;
        });
    }

    fn start(&mut self, command: &Command) -> Effect {
        let Verb::Start { launcher, parameters, size, startup_cpu_millis, class } = &command.verb else {
            return failed("not a start");
        };
        if self.task_names().contains(&command.task) {
            return (OutcomeKind::Already, "it runs".to_owned(), self.address());
        }
        let Some(launcher) = self.settings.launchers.get(launcher.as_str()) else {
            return failed("no such launcher");
        };
        let launch = match launcher.launch(&command.task, &command.workload, parameters, *size) {
            Ok(mut launch) => {
                let cpus = self.inventory.cpus.saturating_mul(1_000);
                launch.startup_cpu_millis =
                    launcher.startup(*startup_cpu_millis, launch.size.cpu_max_millis, cpus);
                launch
            }
            Err(why) => return (OutcomeKind::Refused, why.to_string(), BTreeMap::new()),
        };
        match self.executor.start(&command.task, &command.workload, command.generation, launch, *class) {
            Ok(()) => (OutcomeKind::Applied, String::new(), self.address()),
            Err(e) => failed(e),
        }
    }

    /// Where a balancer on this host reaches a task. Tasks listen on loopback in this version.
    fn address(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("host".to_owned(), "127.0.0.1".to_owned())])
    }

    fn finish(&mut self, command: &Command, effect: Effect) {
        self.answer(outcome(command, effect));
    }

    /// Keeps an outcome for repeats, then tells it.
    pub(super) fn answer(&mut self, outcome: Outcome) {
        let task = outcome.task.clone();
        if let Some(fence) = self.fences.get(&task).filter(|f| f.generation == outcome.generation) {
            let fence = guard::Fence { outcome: Some(outcome.clone()), ..fence.clone() };
            if let Err(error) = self.fences.set(&task, fence) {
                tracing::error!(%error, "an outcome could not be kept");
            }
        }
        tracing::info!(command = %outcome.command, %task, kind = ?outcome.kind, why = %outcome.why, "outcome");
        self.session.event(Event::Outcome(outcome));
        self.send_events();
    }
}

pub(super) fn outcome(command: &Command, (kind, why, read_back): Effect) -> Outcome {
    Outcome {
        command: command.id,
        generation: command.generation,
        task: command.task.clone(),
        kind,
        why,
        read_back,
    }
}

#[allow(clippy::needless_pass_by_value, reason = "callers hand over an error that they are done with")]
fn failed(why: impl std::fmt::Display) -> Effect {
    (OutcomeKind::Failed, why.to_string(), BTreeMap::new())
}

fn read_back(result: ReadBack) -> Effect {
    match result {
        Ok(back) => (OutcomeKind::Applied, String::new(), back),
        Err(e) => failed(e),
    }
}
