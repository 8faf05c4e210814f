//! May this command run? The node's own answer, whatever the controller wants.
//!
//! **Problem.** Commands can arrive late, twice, out of order, or from a controller that was replaced; and the node's
//! owner has the last word on what may happen there.
//! **Method.** A fence per task, on disk before the effect: the controller's epoch, the generation, a hash of the
//! content, and the answer once there is one. Lower epochs and generations are refused; the same generation with the
//! same content is answered again, with other content refused.
//! **Bounds.** Tasks are never reused, so a fence may be forgotten a day after its task ended.

use std::collections::BTreeSet;
use std::net::IpAddr;

use model::action::{Command, Outcome, Verb};
use model::id::{ControllerEpoch, Generation};
use model::yarn::YarnStep;
use serde::{Deserialize, Serialize};

use crate::exclude::is_host;

/// What a node remembers of the last command about a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The controller that gave it.
    pub epoch: ControllerEpoch,
    /// Its generation.
    pub generation: Generation,
    /// [`content_hash`] of what was asked.
    pub content: u64,
    /// The answer, when there is one.
    pub outcome: Option<Outcome>,
}

/// What the node's owner and state allow now.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    /// The agent may act at all.
    pub acts: bool,
    /// A file on the node forbids every change: its reason.
    pub frozen: Option<&'a str>,
    /// Launchers by name.
    pub launchers: &'a BTreeSet<String>,
    /// Backends of balancers that the owner lists.
    pub backends: &'a BTreeSet<String>,
    /// Clusters that the owner lists, each with its kind in front: `yarn batch`.
    pub clusters: &'a BTreeSet<String>,
    /// Most tasks of ours at once.
    pub max_tasks: usize,
    /// Tasks of ours now.
    pub tasks: usize,
    /// Largest memory limit that may be set, bytes (the node's memory).
    pub memory_bytes: u64,
    /// Largest CPU quota, thousandths of a core (all CPUs).
    pub cpu_millis: u32,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Run it, after this fence is on disk.
    Run(Fence),
    /// It was carried out before: answer the same again.
    Repeat(Outcome),
    /// It is being carried out.
    UnderWay,
    /// It must not run.
    Refuse(Refusal),
}

/// Why a command must not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The controller was replaced.
    #[error("controller epoch {found} is over: this node has seen {seen}")]
    OldController {
        /// The command's.
        found: ControllerEpoch,
        /// The highest seen.
        seen: ControllerEpoch,
    },
    /// A later command was seen.
    #[error("generation {found} is over: this task is at {seen}")]
    OldGeneration {
        /// The command's.
        found: Generation,
        /// The fence's.
        seen: Generation,
    },
    /// The same number for something else.
    #[error("generation {0} was given before with other content")]
    OtherContent(Generation),
    /// Too late.
    #[error("its deadline passed {0} ms ago")]
    Late(u64),
    /// Observe-only.
    #[error("this agent only observes: its owner sets act = true to let it act")]
    ObserveOnly,
    /// The owner's switch.
    #[error("this node is frozen by its owner: {0}")]
    Frozen(String),
    /// Not on the owner's list.
    #[error("launcher {0:?} is not in launch.d of this node")]
    UnknownLauncher(String),
    /// Not on the owner's list.
    #[error("backend {0:?} is not among the balancers of this node's configuration")]
    UnknownBackend(String),
    /// Not on the owner's list.
    #[error("there is no cluster {0:?} in this node's configuration")]
    UnknownCluster(String),
    /// A name that is none: it would be written into a file or a URL.
    #[error("{0:?} is no name of a node")]
    NoNode(String),
    /// The node is full.
    #[error("{0} tasks run here and its owner allows no more")]
    TooManyTasks(usize),
    /// A limit that makes no sense here.
    #[error("{what} of {asked} is outside {allowed}")]
    OutOfBounds {
        /// Which limit.
        what: &'static str,
        /// What was asked.
        asked: u64,
        /// What is allowed.
        allowed: &'static str,
    },
}

/// Answers a command. `seen` is the highest controller epoch that this node has seen, `fence` what it remembers of the
/// task, `now_ms` the controller's clock as this node knows it.
#[must_use]
pub fn judge(
    command: &Command,
    seen: ControllerEpoch,
    fence: Option<&Fence>,
    limits: &Limits<'_>,
    now_ms: u64,
) -> Verdict {
    let content = content_hash(command);
    if command.epoch < seen {
        return Verdict::Refuse(Refusal::OldController { found: command.epoch, seen });
    }
    if let Some(fence) = fence {
        if command.generation < fence.generation {
            return Verdict::Refuse(Refusal::OldGeneration {
                found: command.generation,
                seen: fence.generation,
            });
        }
        if command.generation == fence.generation {
            return match (&fence.outcome, fence.content == content) {
                (_, false) => Verdict::Refuse(Refusal::OtherContent(command.generation)),
                (Some(outcome), true) => Verdict::Repeat(Outcome { command: command.id, ..outcome.clone() }),
                (None, true) => Verdict::UnderWay,
            };
        }
    }
    match allowed(command, limits, now_ms) {
        Err(refusal) => Verdict::Refuse(refusal),
        Ok(()) => {
            let (epoch, generation) = (command.epoch, command.generation);
            Verdict::Run(Fence { epoch, generation, content, outcome: None })
        }
    }
}

fn allowed(command: &Command, limits: &Limits<'_>, now_ms: u64) -> Result<(), Refusal> {
    if now_ms > command.deadline_ms {
        return Err(Refusal::Late(now_ms - command.deadline_ms));
    }
    if !limits.acts {
        return Err(Refusal::ObserveOnly);
    }
    if let Some(why) = limits.frozen {
        return Err(Refusal::Frozen(why.to_owned()));
    }
    match &command.verb {
        Verb::Start { launcher, size, .. } => {
            if !limits.launchers.contains(launcher.as_str()) {
                return Err(Refusal::UnknownLauncher(launcher.to_string()));
            }
            if limits.tasks >= limits.max_tasks {
                return Err(Refusal::TooManyTasks(limits.tasks));
            }
            bounds(size, limits)
        }
        Verb::Resize { size } => bounds(size, limits),
        Verb::Balancer { backend, .. } if !limits.backends.contains(backend) => {
            Err(Refusal::UnknownBackend(backend.clone()))
        }
        Verb::Yarn { cluster, step } => {
            listed(limits, "yarn", cluster)?;
            named(step.host())?;
            match step {
                YarnStep::Advertise { resources, .. } => {
                    let (memory, vcores) = (resources.memory_mib, u64::from(resources.vcores));
                    within("memory of a node", memory, 1, i32::MAX as u64, "1 MiB to 2 PiB")?;
                    within("vcores of a node", vcores, 1, i32::MAX as u64, "1 to 2147483647")
                }
                YarnStep::Exclude { timeout_s, .. } => {
                    within("timeout of a drain", u64::from(*timeout_s), 1, i32::MAX as u64, "1 s to 68 years")
                }
                YarnStep::Include { .. } => Ok(()),
            }
        }
        Verb::Hdfs { cluster, step } => {
            listed(limits, "hdfs", cluster)?;
            named(step.node().rsplit_once(':').map_or(step.node(), |(host, _)| host))
        }
        Verb::Cassandra { cluster, node, .. } => {
            listed(limits, "cassandra", cluster)?;
            node.parse::<IpAddr>().map(drop).map_err(|_| Refusal::NoNode(node.clone()))
        }
        _ => Ok(()),
    }
}

fn listed(limits: &Limits<'_>, kind: &str, cluster: &str) -> Result<(), Refusal> {
    let name = format!("{kind} {cluster}");
    if limits.clusters.contains(&name) { Ok(()) } else { Err(Refusal::UnknownCluster(name)) }
}

fn named(host: &str) -> Result<(), Refusal> {
    if is_host(host) { Ok(()) } else { Err(Refusal::NoNode(host.to_owned())) }
}

fn within(what: &'static str, asked: u64, low: u64, high: u64, allowed: &'static str) -> Result<(), Refusal> {
    if (low..=high).contains(&asked) { Ok(()) } else { Err(Refusal::OutOfBounds { what, asked, allowed }) }
}

/// Smallest memory limit that may be set: under it no process starts.
const MEMORY_FLOOR: u64 = 1 << 20;

fn bounds(size: &model::action::Size, limits: &Limits<'_>) -> Result<(), Refusal> {
    let within = |what, value: Option<u64>, low: u64, high: u64, allowed| {
        value.map_or(Ok(()), |asked| within(what, asked, low, high, allowed))
    };
    within("cpu weight", size.cpu_weight.map(u64::from), 1, 10_000, "1..=10000")?;
    let cpu = size.cpu_max_millis.map(u64::from);
    within("cpu quota", cpu, 10, limits.cpu_millis.into(), "10m to all CPUs of the node")?;
    for (what, value) in [("memory.high", size.memory_high_bytes), ("memory.max", size.memory_max_bytes)] {
        within(what, value, MEMORY_FLOOR, limits.memory_bytes, "1 MiB to the node's memory")?;
    }
    Ok(())
}

/// FNV-1a (64 bit, Fowler–Noll–Vo) of what a command asks, independent of its identity and deadline.
#[must_use]
pub fn content_hash(command: &Command) -> u64 {
    let content = serde_json::to_vec(&(&command.workload, &command.task, &command.verb)).unwrap_or_default();
    content
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::action::{OutcomeKind, Size};
    use model::id::CommandId;
    use proptest::prelude::*;

    fn command(epoch: u64, generation: u64, grace_ms: u32) -> Command {
        Command {
            id: CommandId(generation),
            epoch: ControllerEpoch(epoch),
            generation: Generation(generation),
            workload: "web".parse().unwrap(),
            task: "web-1".parse().unwrap(),
            verb: Verb::Stop { grace_ms },
            deadline_ms: 1000,
        }
    }

    fn limits<'a>(launchers: &'a BTreeSet<String>, backends: &'a BTreeSet<String>) -> Limits<'a> {
        Limits {
            acts: true,
            frozen: None,
            launchers,
            backends,
            clusters: backends,
            max_tasks: 2,
            tasks: 0,
            memory_bytes: 1 << 30,
            cpu_millis: 2000,
        }
    }

    fn with_outcome(fence: &Fence) -> Fence {
        let outcome = Outcome {
            command: CommandId(1),
            generation: fence.generation,
            task: "web-1".parse().unwrap(),
            kind: OutcomeKind::Applied,
            why: String::new(),
            read_back: std::collections::BTreeMap::new(),
        };
        Fence { outcome: Some(outcome), ..fence.clone() }
    }

    #[test]
    fn a_command_runs_once_and_is_answered_as_often_as_it_comes() {
        let (l, b) = (BTreeSet::new(), BTreeSet::new());
        let Verdict::Run(fence) = judge(&command(1, 5, 9), ControllerEpoch(1), None, &limits(&l, &b), 0)
        else {
            panic!()
        };
        let again =
            |fence: &Fence, c: &Command| judge(c, ControllerEpoch(1), Some(fence), &limits(&l, &b), 0);
        assert_eq!(again(&fence, &command(1, 5, 9)), Verdict::UnderWay);
        let done = with_outcome(&fence);
        assert!(matches!(again(&done, &command(1, 5, 9)), Verdict::Repeat(_)));
        assert_eq!(again(&done, &command(1, 5, 8)), Verdict::Refuse(Refusal::OtherContent(Generation(5))));
        assert!(matches!(again(&done, &command(1, 4, 9)), Verdict::Refuse(Refusal::OldGeneration { .. })));
        assert!(matches!(again(&done, &command(1, 6, 9)), Verdict::Run(_)));
    }

    #[test]
    fn the_owner_has_the_last_word() {
        let (l, b) = (BTreeSet::from(["puma".to_owned()]), BTreeSet::new());
        let refused = |c: &Command, limits: &Limits<'_>| match judge(c, ControllerEpoch(3), None, limits, 500)
        {
            Verdict::Refuse(why) => why.to_string(),
            other => panic!("{other:?}"),
        };
        let ok = limits(&l, &b);
        let stop = command(3, 1, 9);
        assert!(refused(&command(2, 1, 9), &ok).contains("epoch 2 is over"));
        assert!(refused(&Command { deadline_ms: 400, ..stop.clone() }, &ok).contains("100 ms ago"));
        assert!(refused(&stop, &Limits { acts: false, ..ok }).contains("only observes"));
        assert!(refused(&stop, &Limits { frozen: Some("audit"), ..ok }).contains("audit"));
        let start = |launcher: &str, size| Command {
            verb: Verb::Start {
                launcher: launcher.parse().unwrap(),
                parameters: Default::default(),
                size,
                startup_cpu_millis: None,
                class: Default::default(),
            },
            ..stop.clone()
        };
        assert!(refused(&start("sh", Size::default()), &ok).contains("launch.d"));
        assert!(refused(&start("puma", Size::default()), &Limits { tasks: 2, ..ok }).contains("no more"));
        let huge = Size { memory_max_bytes: Some(2 << 30), ..Size::default() };
        assert!(refused(&start("puma", huge), &ok).contains("memory.max of 2147483648"));
        let step = model::action::BalancerStep::Drain;
        let drain = Command { verb: Verb::Balancer { backend: "web".into(), step }, ..stop.clone() };
        assert!(refused(&drain, &ok).contains("balancers"));
        let include = |cluster: &str, host: &str| Command {
            verb: Verb::Yarn { cluster: cluster.into(), step: YarnStep::Include { host: host.into() } },
            ..stop.clone()
        };
        let clusters = BTreeSet::from(["yarn batch".to_owned()]);
        let ok = Limits { clusters: &clusters, ..ok };
        assert!(refused(&include("other", "a"), &ok).contains("no cluster \"yarn other\""));
        for name in ["", "a b", "<name/>", "../x", "a:8041", "ä"] {
            assert!(refused(&include("batch", name), &ok).contains("no name of a node"), "{name}");
        }
        let nothing = YarnStep::Advertise { host: "a".into(), resources: Default::default() };
        let nothing = Verb::Yarn { cluster: "batch".into(), step: nothing };
        assert!(refused(&Command { verb: nothing, ..stop.clone() }, &ok).contains("memory of a node of 0"));
    }

    proptest! {
        /// However commands are repeated and reordered, each generation takes effect at most once, in ascending order.
        #[test]
        fn effects_ascend(order in prop::collection::vec((1u64..4, 1u64..8, 0u32..2), 1..60)) {
            let (l, b) = (BTreeSet::new(), BTreeSet::new());
            let (mut seen, mut fence, mut ran) = (ControllerEpoch(0), None::<Fence>, Vec::new());
            for (epoch, generation, grace) in order {
                let c = command(epoch, generation, grace);
                if let Verdict::Run(f) = judge(&c, seen, fence.as_ref(), &limits(&l, &b), 0) {
                    ran.push((epoch, generation));
                    fence = Some(with_outcome(&f));
                    seen = seen.max(c.epoch);
                }
            }
            prop_assert!(ran.windows(2).all(|w| w[0].1 < w[1].1 && w[0].0 <= w[1].0), "{ran:?}");
        }
    }
}
