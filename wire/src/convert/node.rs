//! What an agent says of itself and of its tasks.

use model::gap::Unavailable;
use model::id::{AgentEpoch, BootId, CgroupId, Generation, NodeId, TaskName, WorkloadName};
use model::node::{
    Container, Incarnation, Inventory, LABEL_LIMIT, Receipt, Spooled, TaskClass, TaskInfo, Tier,
};
use model::workload::Class;

use super::{few, fit, name, optional_name, text, unspecified};
use crate::{TASK_LIMIT, WireError, check_version, pb};

/// Most features, launchers or unavailable metrics that a node may list.
const LIST_LIMIT: usize = 256;

/// An agent's introduction.
#[derive(Debug, Clone, PartialEq)]
pub struct Hello {
    /// Its node.
    pub node: NodeId,
    /// Its boot and its start.
    pub incarnation: Incarnation,
    /// What the node has.
    pub inventory: Inventory,
    /// Tasks of ours that it runs.
    pub tasks: Vec<RunsHere>,
    /// Boot clock when it was sent, ns.
    pub boot_ns: u64,
    /// Wall clock when it was sent, ms.
    pub wall_ms: u64,
}

/// A task of ours that an agent runs.
#[derive(Debug, Clone, PartialEq)]
pub struct RunsHere {
    /// Its name.
    pub task: TaskName,
    /// Whose.
    pub workload: WorkloadName,
    /// Its cgroup.
    pub cgroup: CgroupId,
    /// The generation that started it.
    pub generation: Generation,
    /// Its health check passes.
    pub healthy: bool,
    /// How it stands to other tasks of the node; `None` from an agent that does not say.
    pub class: Option<Class>,
}

/// Parses an introduction.
///
/// # Errors
/// [`WireError`] for another major version, a bad name, or lists over their limits.
pub fn hello(message: pb::Hello) -> Result<Hello, WireError> {
    check_version(message.version.as_ref())?;
    let boot: [u8; 16] = message.boot_id.as_slice().try_into().map_err(|_| WireError::Missing("boot id"))?;
    let agent = AgentEpoch(message.agent_epoch_ms);
    let tasks = few("running tasks", message.tasks, TASK_LIMIT)?;
    Ok(Hello {
        node: name("node", &message.node)?,
        incarnation: Incarnation { boot: BootId(u128::from_be_bytes(boot)), agent },
        inventory: message.inventory.ok_or(WireError::Missing("inventory"))?.try_into()?,
        tasks: tasks
            .into_iter()
            .map(|t| {
                Ok(RunsHere {
                    task: name("task", &t.task)?,
                    workload: name("workload", &t.workload)?,
                    cgroup: CgroupId(t.cgroup),
                    generation: Generation(t.generation),
                    healthy: t.healthy,
                    class: class(t.class)?,
                })
            })
            .collect::<Result<_, WireError>>()?,
        boot_ns: message.boot_ns,
        wall_ms: message.wall_ms,
    })
}

/// Makes the message of an introduction.
#[must_use]
pub fn hello_to_pb(hello: Hello) -> pb::Hello {
    pb::Hello {
        version: Some(crate::VERSION),
        node: hello.node.to_string(),
        boot_id: hello.incarnation.boot.0.to_be_bytes().to_vec(),
        agent_epoch_ms: hello.incarnation.agent.0,
        inventory: Some(hello.inventory.into()),
        tasks: hello
            .tasks
            .into_iter()
            .map(|t| pb::RunningTask {
                task: t.task.to_string(),
                workload: t.workload.to_string(),
                cgroup: t.cgroup.0,
                generation: t.generation.0,
                healthy: t.healthy,
                class: t.class.map_or(pb::Class::Unspecified, class_to_pb).into(),
            })
            .collect(),
        boot_ns: hello.boot_ns,
        wall_ms: hello.wall_ms,
    }
}

/// `None` where nothing is said.
pub(super) fn class(m: i32) -> Result<Option<Class>, WireError> {
    Ok(match pb::Class::try_from(m) {
        Ok(pb::Class::Unspecified) => None,
        Ok(pb::Class::LatencyCritical) => Some(Class::LatencyCritical),
        Ok(pb::Class::Standard) => Some(Class::Standard),
        Ok(pb::Class::BestEffort) => Some(Class::BestEffort),
        Err(_) => return Err(unspecified("class")),
    })
}

pub(super) fn class_to_pb(class: Class) -> pb::Class {
    match class {
        Class::LatencyCritical => pb::Class::LatencyCritical,
        Class::Standard => pb::Class::Standard,
        Class::BestEffort => pb::Class::BestEffort,
    }
}

impl TryFrom<pb::Inventory> for Inventory {
    type Error = WireError;
    fn try_from(m: pb::Inventory) -> Result<Self, WireError> {
        let tier = match m.tier() {
            pb::Tier::A => Tier::A,
            pb::Tier::B => Tier::B,
            pb::Tier::C => Tier::C,
            pb::Tier::Unspecified => return Err(unspecified("tier")),
        };
        let texts = |what, list: Vec<String>| {
            few(what, list, LIST_LIMIT)?.into_iter().map(|t| text(what, t)).collect::<Result<Vec<_>, _>>()
        };
        Ok(Inventory {
            cpus: m.cpus,
            memory_bytes: m.memory_bytes,
            kernel: text("kernel", m.kernel)?,
            tier,
            features: texts("features", m.features)?,
            unavailable: few("unavailable", m.unavailable, LIST_LIMIT)?
                .into_iter()
                .map(|u| {
                    Ok(Unavailable { what: text("unavailable", u.what)?, why: text("unavailable", u.why)? })
                })
                .collect::<Result<_, WireError>>()?,
            launchers: texts("launchers", m.launchers)?,
            acts: m.acts,
            rack: optional_name("rack", &m.rack)?,
            version: Some(text("version", m.version)?).filter(|version| !version.is_empty()),
        })
    }
}

impl From<Inventory> for pb::Inventory {
    fn from(i: Inventory) -> Self {
        let tier = match i.tier {
            Tier::A => pb::Tier::A,
            Tier::B => pb::Tier::B,
            Tier::C => pb::Tier::C,
        };
        pb::Inventory {
            cpus: i.cpus,
            memory_bytes: i.memory_bytes,
            kernel: fit(i.kernel),
            tier: tier.into(),
            features: i.features.into_iter().map(fit).collect(),
            unavailable: i
                .unavailable
                .into_iter()
                .map(|u| pb::Unavailable { what: fit(u.what), why: fit(u.why) })
                .collect(),
            launchers: i.launchers.into_iter().map(fit).collect(),
            acts: i.acts,
            rack: i.rack.map(String::from).unwrap_or_default(),
            version: i.version.map(fit).unwrap_or_default(),
        }
    }
}

/// Parses a task of a batch.
///
/// # Errors
/// [`WireError`] for a bad name or a text over its limit.
pub fn task_info(m: pb::Task) -> Result<(u32, TaskInfo), WireError> {
    let class = TaskClass {
        kind: text("task kind", m.kind)?,
        name: text("task name", m.name)?,
        workload: optional_name("workload", &m.workload)?,
        task: optional_name("task", &m.task)?,
        container: m.container.map(|c| container(c).map(Box::new)).transpose()?,
    };
    Ok((m.slot, TaskInfo { cgroup: CgroupId(m.cgroup), since_ns: m.since_ns, class }))
}

fn container(m: pb::Container) -> Result<Container, WireError> {
    let labels = few("labels", m.labels, LABEL_LIMIT)?;
    let labels = labels.into_iter().map(|l| Ok((text("label", l.key)?, text("label", l.value)?)));
    Ok(Container {
        id: text("container", m.id)?,
        name: text("container name", m.name)?,
        image: text("image", m.image)?,
        labels: labels.collect::<Result<_, WireError>>()?,
    })
}

/// Makes the part of a task's message that tells its container.
pub(crate) fn container_to_pb(container: &Container) -> pb::Container {
    let label =
        |(key, value): (&String, &String)| pb::Label { key: fit(key.clone()), value: fit(value.clone()) };
    pb::Container {
        id: fit(container.id.clone()),
        name: fit(container.name.clone()),
        image: fit(container.image.clone()),
        labels: container.labels.iter().take(LABEL_LIMIT).map(label).collect(),
    }
}

impl From<pb::Receipt> for Receipt {
    fn from(m: pb::Receipt) -> Self {
        Receipt {
            interval_ns: m.interval_ns,
            kernel_us: m.kernel_us,
            switch_us: m.switch_us,
            proc_stat_us: m.proc_stat_us,
            iterator_error_us: m.iterator_error_us,
            spool: m.spool.map(|m| Spooled { rounds: m.rounds, bytes: m.bytes }),
        }
    }
}

impl From<Receipt> for pb::Receipt {
    fn from(r: Receipt) -> Self {
        pb::Receipt {
            interval_ns: r.interval_ns,
            kernel_us: r.kernel_us,
            switch_us: r.switch_us,
            proc_stat_us: r.proc_stat_us,
            iterator_error_us: r.iterator_error_us,
            spool: r.spool.map(|s| pb::Spooled { rounds: s.rounds, bytes: s.bytes }),
        }
    }
}
