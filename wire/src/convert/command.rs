//! Commands, from the autoscaler to an agent.

use std::collections::BTreeMap;

use model::action::{BalancerStep, Command, Size, Verb};
use model::id::{CommandId, ControllerEpoch, Generation};

use super::cluster;
use super::node::{class, class_to_pb};
use super::{fit, name, text};
use crate::{WireError, pb};

/// Most parameters of a launcher.
const PARAMETER_LIMIT: usize = 64;

impl TryFrom<pb::Command> for Command {
    type Error = WireError;
    fn try_from(m: pb::Command) -> Result<Self, WireError> {
        Ok(Command {
            id: CommandId(m.id),
            epoch: ControllerEpoch(m.epoch),
            generation: Generation(m.generation),
            workload: name("workload", &m.workload)?,
            task: name("task", &m.task)?,
            verb: verb(m.verb.ok_or(WireError::Missing("verb"))?)?,
            deadline_ms: m.deadline_ms,
        })
    }
}

impl From<Command> for pb::Command {
    fn from(c: Command) -> Self {
        pb::Command {
            id: c.id.0,
            epoch: c.epoch.0,
            generation: c.generation.0,
            workload: c.workload.to_string(),
            task: c.task.to_string(),
            deadline_ms: c.deadline_ms,
            verb: Some(verb_to_pb(c.verb)),
        }
    }
}

fn verb(m: pb::command::Verb) -> Result<Verb, WireError> {
    use pb::command::Verb as Pb;
    Ok(match m {
        Pb::Start(s) => {
            if s.parameters.len() > PARAMETER_LIMIT {
                let (what, found) = ("launcher parameters", s.parameters.len());
                return Err(WireError::OverLimit { what, found, limit: PARAMETER_LIMIT });
            }
            let parameters = s.parameters.into_iter();
            let parameters = parameters.map(|(k, v)| Ok((text("parameter", k)?, text("parameter", v)?)));
            Verb::Start {
                launcher: name("launcher", &s.launcher)?,
                parameters: parameters.collect::<Result<BTreeMap<_, _>, WireError>>()?,
                size: s.size.map(size).unwrap_or_default(),
                startup_cpu_millis: s.startup_cpu_millis,
                class: class(s.class)?.unwrap_or_default(),
            }
        }
        Pb::Stop(s) => Verb::Stop { grace_ms: s.grace_ms },
        Pb::Resize(s) => Verb::Resize { size: size(s) },
        Pb::Classify(c) => Verb::Classify { class: class(c)?.ok_or(WireError::Missing("class"))? },
        Pb::Freeze(true) => Verb::Freeze,
        Pb::Freeze(false) => Verb::Thaw,
        Pb::ReclaimBytes(bytes) => Verb::Reclaim { bytes },
        Pb::Balancer(b) => Verb::Balancer {
            backend: text("backend", b.backend)?,
            step: step(b.step.ok_or(WireError::Missing("balancer step"))?)?,
        },
        Pb::PumaWorkers(by) => Verb::PumaWorkers {
            by: i8::try_from(by).ok().filter(|by| by.abs() == 1).ok_or_else(|| WireError::Invalid {
                what: "puma workers",
                why: format!("{by} is not +1 or -1"),
            })?,
        },
        Pb::Yarn(y) => cluster::yarn_verb(y)?,
        Pb::Hdfs(h) => cluster::hdfs_verb(h)?,
        Pb::Cassandra(c) => cluster::cassandra_verb(c)?,
    })
}

fn step(m: pb::balancer_verb::Step) -> Result<BalancerStep, WireError> {
    use pb::balancer_verb::Step;
    let port = |what, n: u32| {
        u16::try_from(n)
            .ok()
            .filter(|p| *p > 0)
            .ok_or_else(|| WireError::Invalid { what, why: format!("{n}") })
    };
    Ok(match m {
        Step::Add(a) => BalancerStep::Add {
            host: text("host", a.host)?,
            port: port("port", a.port)?,
            check_port: port("check port", a.check_port)?,
            limit: a.limit,
        },
        Step::Ready(_) => BalancerStep::Ready,
        Step::Drain(_) => BalancerStep::Drain,
        Step::Maintenance(_) => BalancerStep::Maintenance,
        Step::Remove(_) => BalancerStep::Remove,
    })
}

fn verb_to_pb(verb: Verb) -> pb::command::Verb {
    use pb::balancer_verb::Step;
    use pb::command::Verb as Pb;
    match verb {
        Verb::Start { launcher, parameters, size, startup_cpu_millis, class } => Pb::Start(pb::Start {
            launcher: launcher.to_string(),
            parameters: parameters.into_iter().map(|(k, v)| (fit(k), fit(v))).collect(),
            size: Some(size_to_pb(size)),
            startup_cpu_millis,
            class: class_to_pb(class).into(),
        }),
        Verb::Stop { grace_ms } => Pb::Stop(pb::Stop { grace_ms }),
        Verb::Resize { size } => Pb::Resize(size_to_pb(size)),
        Verb::Classify { class } => Pb::Classify(class_to_pb(class).into()),
        Verb::Freeze => Pb::Freeze(true),
        Verb::Thaw => Pb::Freeze(false),
        Verb::Reclaim { bytes } => Pb::ReclaimBytes(bytes),
        Verb::Balancer { backend, step } => {
            let step = match step {
                BalancerStep::Add { host, port, check_port, limit } => Step::Add(pb::BalancerAdd {
                    host: fit(host),
                    port: port.into(),
                    check_port: check_port.into(),
                    limit,
                }),
                BalancerStep::Ready => Step::Ready(true),
                BalancerStep::Drain => Step::Drain(true),
                BalancerStep::Maintenance => Step::Maintenance(true),
                BalancerStep::Remove => Step::Remove(true),
            };
            Pb::Balancer(pb::BalancerVerb { backend: fit(backend), step: Some(step) })
        }
        Verb::PumaWorkers { by } => Pb::PumaWorkers(by.into()),
        Verb::Yarn { cluster, step } => Pb::Yarn(cluster::yarn_verb_to_pb(cluster, step)),
        Verb::Hdfs { cluster, step } => Pb::Hdfs(cluster::hdfs_verb_to_pb(cluster, step)),
        Verb::Cassandra { cluster, node, step } => {
            Pb::Cassandra(cluster::cassandra_verb_to_pb(cluster, node, step))
        }
    }
}

fn size(m: pb::Size) -> Size {
    Size {
        cpu_weight: m.cpu_weight,
        cpu_max_millis: m.cpu_max_millis,
        memory_high_bytes: m.memory_high_bytes,
        memory_max_bytes: m.memory_max_bytes,
    }
}

fn size_to_pb(s: Size) -> pb::Size {
    pb::Size {
        cpu_weight: s.cpu_weight,
        cpu_max_millis: s.cpu_max_millis,
        memory_high_bytes: s.memory_high_bytes,
        memory_max_bytes: s.memory_max_bytes,
    }
}
