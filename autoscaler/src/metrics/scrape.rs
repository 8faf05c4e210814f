//! The fleet, for `/metrics`: nodes, workloads, the idle ledger, pauses. All of it is computed when somebody asks, from the
//! same views as the REST interface's answers, so the two cannot differ; a node or workload that is gone is gone here, too.
//!
//! Unknown is absent, never 0: a sum over what is there is then a lower bound, and alerts on absence work. Use is told of
//! connected nodes only, since a line that stays flat after its node fell silent would look like calm.

use autoscaler_core::fleet::{NodeView, WaitView};
use autoscaler_core::idle::{Amount, Page};
use autoscaler_core::survive::{Loss, Lost, Verdict};
use autoscaler_core::view::{GivenView, WorkloadView};
use model::prices::PriceSpec;
use model::units::{Millis, Share};
use model::workload::Target;

use super::Metrics;
use super::text::{Format, Kind, Text, labels};
use crate::api::{cause_words, word};
use crate::control::Facts;
use crate::store::PauseRow;

use Kind::{Counter, Gauge};

/// A page of the idle ledger that ended longer ago than this says nothing of now, ms. Pages last a minute.
const PAGE_SHOWN_MS: u64 = 300_000;

const GIB: f64 = 1_073_741_824.0;

/// What the store knows of it.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// Pauses in force.
    pub pauses: Vec<PauseRow>,
    /// The newest page of the idle ledger.
    pub page: Option<Page>,
    /// The prices in force.
    pub prices: Option<PriceSpec>,
}

type Of<T> = (&'static str, Kind, &'static str, fn(&T) -> Option<f64>);

/// Of each node, with the label `node`.
const NODES: [Of<NodeView>; 21] = [
    ("node_connected", Gauge, "1 while the node's agent is connected", |n| Some(flag(n.connected))),
    ("node_acts", Gauge, "1 when its owner lets the agent act", |n| Some(flag(n.inventory.acts))),
    ("node_capacity_cpu_cores", Gauge, "Logical CPUs of a connected node", |n| {
        n.connected.then_some(f64::from(n.inventory.cpus))
    }),
    ("node_capacity_memory_bytes", Gauge, "Usable memory of a connected node", |n| {
        n.connected.then_some(n.inventory.memory_bytes as f64)
    }),
    ("node_used_cpu_cores", Gauge, "CPU in use by all tasks of a connected node", |n| {
        n.cpu_cores.filter(|_| n.connected)
    }),
    ("node_used_memory_bytes", Gauge, "Memory charged to all tasks of a connected node", |n| {
        n.memory_bytes.filter(|_| n.connected).map(|bytes| bytes as f64)
    }),
    ("node_tasks", Gauge, "Tasks of a connected node", |n| n.connected.then_some(f64::from(n.tasks))),
    ("node_sample_age_seconds", Gauge, "Age of the newest sample of a node", |n| n.age_ms.map(seconds)),
    ("node_samples", Counter, "Samples taken since the node connected", |n| Some(n.samples as f64)),
    ("node_refused_samples", Counter, "Samples refused since the node connected", |n| Some(n.refused as f64)),
    ("node_run_delay_mean_seconds", Gauge, "Mean run-queue delay of a node's tasks over a minute", |n| {
        waits(n)?.run_delay_mean_seconds
    }),
    (
        "node_run_delay_p99_seconds",
        Gauge,
        "Run-queue delay of a node's tasks over a minute, 99th percentile",
        |n| waits(n)?.run_delay_p99_seconds,
    ),
    ("node_cpu_stall_ratio", Gauge, "Share of a minute in which some task of a node waited for a CPU", |n| {
        waits(n)?.cpu_stall_ratio
    }),
    (
        "node_memory_stall_ratio",
        Gauge,
        "Share of a minute in which all tasks of a node waited for memory",
        |n| waits(n)?.memory_stall_ratio,
    ),
    ("node_io_stall_ratio", Gauge, "Share of a minute in which some task of a node waited for IO", |n| {
        waits(n)?.io_stall_ratio
    }),
    ("node_accounting_error_ratio", Gauge, "How far the node's two CPU ledgers differ", |n| {
        n.standing.receipt?.error_ratio()
    }),
    ("node_clock_skew_seconds", Gauge, "A connected node's wall clock less the autoscaler's", |n| {
        n.standing.clock_skew_ms.filter(|_| n.connected).map(|ms| ms as f64 / 1e3)
    }),
    ("node_spooled_rounds", Gauge, "Rounds that wait on the disk of a connected node's agent", |n| {
        n.standing.receipt?.spool.filter(|_| n.connected).map(|spool| spool.rounds as f64)
    }),
    ("node_network_received_bytes", Counter, "Bytes that a node's network cards received", |n| {
        n.network.filter(|_| n.connected).map(|network| network.received_bytes as f64)
    }),
    ("node_network_sent_bytes", Counter, "Bytes that a node's network cards sent", |n| {
        n.network.filter(|_| n.connected).map(|network| network.sent_bytes as f64)
    }),
    ("node_gaps", Counter, "Holes in a node's data that its agent told of", |n| Some(n.standing.gaps as f64)),
];

type Asked = (WorkloadView, Target);

/// Of each workload, with the label `workload`.
const WORKLOADS: [Of<Asked>; 27] = [
    ("replicas_min", Gauge, "Replicas at least", |(w, _)| Some(f64::from(w.min))),
    ("replicas_max", Gauge, "Replicas at most", |(w, _)| Some(f64::from(w.max))),
    ("workload_paused", Gauge, "1 while an operator has paused it", |(w, _)| Some(flag(w.paused.is_some()))),
    ("workload_requests_per_second", Gauge, "Requests per second", |(w, _)| w.load.requests_per_second),
    ("workload_queued_requests", Gauge, "Requests queued now", |(w, _)| w.load.queued.map(|n| n as f64)),
    ("queue_delay_p95_seconds", Gauge, "Queue delay at the balancer, 95th percentile", |(w, _)| {
        w.load.queue_delay_p95_ms.map(|ms| ms / 1e3)
    }),
    ("utilisation_ratio", Gauge, "Busy share of what replicas are given", |(w, _)| w.load.utilisation),
    ("container_wait_seconds", Gauge, "For how long containers have waited without a pause", |(w, _)| {
        w.load.container_wait_ms.map(|ms| ms / 1e3)
    }),
    (
        "disk_ratio",
        Gauge,
        "Share of the space in use: of all (hdfs), of the fullest disk (cassandra)",
        |(w, _)| w.load.disk,
    ),
    ("latency_p99_seconds", Gauge, "Latency of requests at the slowest member, 99th percentile", |(w, _)| {
        w.load.latency_p99_ms.map(|ms| ms / 1e3)
    }),
    ("target_queue_delay_p95_seconds", Gauge, "Target: 95 % of requests wait at most so long", |(_, t)| {
        t.queue_delay_p95.map(|at_most| seconds(at_most.0))
    }),
    ("target_cpu_ratio", Gauge, "Target: use of what a replica is given", |(_, t)| {
        t.cpu.map(|share| share.0)
    }),
    ("target_container_wait_seconds", Gauge, "Target: containers wait at most so long", |(_, t)| {
        t.container_wait.map(|at_most| seconds(at_most.0))
    }),
    ("target_disk_ratio", Gauge, "Target: disks are at most so full", |(_, t)| t.disk.map(|share| share.0)),
    ("target_latency_p99_seconds", Gauge, "Target: 99 % of requests take at most so long", |(_, t)| {
        t.latency_p99.map(|at_most| seconds(at_most.0))
    }),
    ("workload_used_cpu_cores", Gauge, "CPU of all replicas", |(w, _)| w.load.cpu_cores),
    ("workload_used_memory_bytes", Gauge, "Memory of all replicas", |(w, _)| {
        w.load.memory_bytes.map(|bytes| bytes as f64)
    }),
    (
        "workload_reserved_cpu_cores",
        Gauge,
        "CPU given to replicas: their number times their size",
        |(w, _)| given(w, w.size.given.cpu_max_millis.map(|millis| f64::from(millis) / 1e3)),
    ),
    (
        "workload_reserved_memory_bytes",
        Gauge,
        "Memory given to replicas: their number times their size",
        |(w, _)| given(w, w.size.given.memory_max_bytes.map(|bytes| bytes as f64)),
    ),
    ("workload_size_cpu_cores", Gauge, "CPU quota of one replica", |(w, _)| {
        w.size.given.cpu_max_millis.map(|millis| f64::from(millis) / 1e3)
    }),
    ("workload_size_memory_bytes", Gauge, "Memory limit of one replica", |(w, _)| {
        w.size.given.memory_max_bytes.map(|bytes| bytes as f64)
    }),
    ("workload_load", Gauge, "Load: requests per second (rails) or cores (service)", |(w, _)| w.load.load),
    ("workload_forecast_load", Gauge, "Load expected when a replica started now would be ready", |(w, _)| {
        w.load.forecast
    }),
    ("workload_replica_load", Gauge, "Load that one replica carries at the target", |(w, _)| w.load.capacity),
    ("workload_ready_after_seconds", Gauge, "Time from an order to a ready replica", |(w, _)| {
        Some(seconds(w.load.ready_after_ms))
    }),
    ("workload_change_seconds", Gauge, "For how long a change of the cluster is on its way", |(w, _)| {
        w.cluster.as_ref()?.change.as_ref().map(|change| seconds(change.elapsed_ms))
    }),
    ("workload_members_found", Gauge, "Members in service that Trimtab did not start", |(w, _)| {
        w.cluster.as_ref().map(|cluster| cluster.found.len() as f64)
    }),
];

impl Metrics {
    /// Everything, in one of the formats. Without facts the control loop did not answer, and only what the service counts
    /// itself is told.
    #[must_use]
    pub fn scrape(&self, format: Format, facts: Option<&Facts>, stored: Option<&Stored>) -> String {
        let mut text = Text::begin(&self.render(), format);
        let one = |value: f64| vec![(String::new(), value)];
        let version = labels(&[("version", env!("CARGO_PKG_VERSION"))]);
        text.family("build_info", Gauge, "The version that runs", vec![(version, 1.0)]);
        let answers = "1 when the control loop answered this scrape in time";
        text.family("loop_answers", Gauge, answers, one(flag(facts.is_some())));
        if let Some(expiry) = self.certificate_expiry_s() {
            let help = "When this service's certificate expires, seconds since the Unix epoch";
            text.family("certificate_expiry_seconds", Gauge, help, one(expiry as f64));
        }
        text.family("cpu_seconds", Counter, "CPU time of this service", one(crate::clock::own_cpu_seconds()));
        if let Some(bytes) = resident_bytes() {
            text.family("resident_memory_bytes", Gauge, "Resident memory of this service", one(bytes));
        }
        self.remote_write.tell(&mut text, crate::clock::wall_ms());
        if let Some(facts) = facts {
            text.family("epoch", Gauge, "This controller's epoch", one(facts.epoch as f64));
            text.family(
                "inputs_waiting",
                Gauge,
                "Inputs that wait for the control loop",
                one(facts.waiting as f64),
            );
            nodes(&mut text, facts);
            workloads(&mut text, facts);
            headroom(&mut text, facts);
            if let Some(stored) = stored {
                pauses(&mut text, &stored.pauses, facts);
                let page = stored.page.as_ref();
                if let Some(page) = page.filter(|page| facts.now.since(page.to) <= PAGE_SHOWN_MS) {
                    ledger(&mut text, page);
                }
                stored.prices.iter().for_each(|spec| prices(&mut text, spec));
            }
        }
        text.end()
    }
}

fn nodes(text: &mut Text, facts: &Facts) {
    let info = |node: &NodeView| {
        (labels(&[("node", node.node.as_str()), ("tier", &node.inventory.tier.to_string())]), 1.0)
    };
    text.family(
        "node_info",
        Gauge,
        "A node and how well it is measured",
        facts.nodes.iter().map(info).collect(),
    );
    for (name, kind, help, value) in NODES {
        let sample = |node: &NodeView| Some((labels(&[("node", node.node.as_str())]), value(node)?));
        text.family(name, kind, help, facts.nodes.iter().filter_map(sample).collect());
    }
    let nodes = facts.losses.given();
    let given = |value: fn(&GivenView) -> Option<f64>| {
        let all = nodes.iter();
        all.filter_map(move |(node, given)| Some((labels(&[("node", node.as_str())]), value(given)?)))
            .collect()
    };
    let help = "CPU that Trimtab's own were given on a node, without those whose size does not say it";
    let cpu = given(|given| given.cpu_millis.map(|millis| millis as f64 / 1e3));
    text.family("node_reserved_cpu_cores", Gauge, help, cpu);
    let help = "Memory that Trimtab's own were given on a node, likewise";
    text.family("node_reserved_memory_bytes", Gauge, help, given(|given| Some(given.memory_bytes? as f64)));
    let left = facts.drains.iter();
    let left = left.map(|(node, drain)| (labels(&[("node", node.as_str())]), f64::from(drain.left)));
    text.family("node_drain_replicas", Gauge, "Replicas left on a node that is drained", left.collect());
}

fn workloads(text: &mut Text, facts: &Facts) {
    let all = &facts.workloads;
    let info = |(w, _): &Asked| {
        let words = [("kind", word(&w.kind)), ("mode", word(&w.mode)), ("policy", word(&w.policy))];
        let mut said = vec![("workload", w.name.as_str())];
        said.extend(words.iter().map(|(name, value)| (*name, value.as_str())));
        (labels(&said), 1.0)
    };
    let help = "A workload, its kind, and how far Trimtab may go";
    text.family("workload_info", Gauge, help, all.iter().map(info).collect());
    let states = |(w, _): &Asked| {
        let name = w.name.clone();
        [("wanted", w.wanted), ("up", w.up), ("starting", w.starting), ("leaving", w.leaving)].map(
            |(state, count)| (labels(&[("workload", name.as_str()), ("state", state)]), f64::from(count)),
        )
    };
    text.family("replicas", Gauge, "Replicas of a workload by state", all.iter().flat_map(states).collect());
    for (name, kind, help, value) in WORKLOADS {
        let sample = |asked: &Asked| Some((labels(&[("workload", asked.0.name.as_str())]), value(asked)?));
        text.family(name, kind, help, all.iter().filter_map(sample).collect());
    }
    let reached = all.iter().flat_map(|(w, target)| {
        let (load, time) = (&w.load, |limit: Option<Millis>| limit.map(|limit| limit.0 as f64));
        let share = |limit: Option<Share>| limit.map(|limit| limit.0);
        let signals = [
            ("queue_delay", load.queue_delay_p95_ms, time(target.queue_delay_p95)),
            ("cpu", load.utilisation, share(target.cpu)),
            ("container_wait", load.container_wait_ms, time(target.container_wait)),
            ("disk", load.disk, share(target.disk)),
            ("latency", load.latency_p99_ms, time(target.latency_p99)),
        ];
        let name = w.name.as_str();
        signals.into_iter().filter_map(move |(signal, now, limit)| {
            Some((labels(&[("workload", name), ("signal", signal)]), now? / limit?))
        })
    });
    let help = "A signal as a share of its target: missed above 1, absent when one of the two is not known";
    text.family(
        "target_reached_ratio",
        Gauge,
        help,
        reached.filter(|(_, share)| share.is_finite()).collect(),
    );
    let frozen = all.iter().flat_map(|(w, _)| {
        let codes: std::collections::BTreeSet<&str> = w.frozen.iter().map(|reason| reason.code()).collect();
        let name = w.name.clone();
        codes.into_iter().map(move |code| (labels(&[("workload", name.as_str()), ("reason", code)]), 1.0))
    });
    text.family("workload_frozen", Gauge, "1 while this keeps a workload from shrinking", frozen.collect());
    let decided = facts.decided.iter().map(|(decided, count)| {
        let (kind, act) = (word(&decided.kind), if decided.act { "true" } else { "false" });
        let name = decided.workload.as_str();
        let all = [("workload", name), ("kind", kind.as_str()), ("reason", decided.reason), ("act", act)];
        (labels(&all), *count as f64)
    });
    text.family(
        "decisions",
        Counter,
        "Decisions by what and why; act is true when carried out",
        decided.collect(),
    );
}

/// What cannot be told is absent.
fn headroom(text: &mut Text, facts: &Facts) {
    let answer = facts.losses.answer();
    let survived = |verdict: Verdict| match verdict {
        Verdict::Yes => Some(1.0),
        Verdict::No => Some(0.0),
        Verdict::Unknown => None,
    };
    let all = [("node", &answer.node), ("rack", &answer.rack)];
    let all = all.iter().filter_map(|(of, answer)| Some((labels(&[("of", *of)]), survived(answer.verdict)?)));
    let help = "1 when all that runs has a place after the loss of any one node, or rack";
    text.family("survives_loss", Gauge, help, all.collect());
    let node = |loss: &Loss| match &loss.lost {
        Lost::Node(node) => Some((labels(&[("node", node.as_str())]), survived(loss.verdict)?)),
        Lost::Rack(_) => None,
    };
    let help = "1 when all that runs on a node has a place elsewhere";
    text.family("node_loss_survived", Gauge, help, answer.losses.iter().filter_map(node).collect());
    if let Some(free) = answer.free {
        let one = |value: f64| vec![(String::new(), value)];
        let of = "neither given nor used on nodes where something may be started";
        text.family("headroom_cpu_cores", Gauge, &format!("CPU {of}"), one(free.cpu_millis as f64 / 1e3));
        text.family("headroom_memory_bytes", Gauge, &format!("Memory {of}"), one(free.memory_bytes as f64));
    }
    let more = answer
        .more
        .iter()
        .filter_map(|more| Some((labels(&[("workload", more.workload.as_str())]), more.replicas? as f64)));
    let help = "More replicas of a workload that would fit, if nothing else took the room";
    text.family("workload_room_replicas", Gauge, help, more.collect());
}

/// The pause of a workload outlives its withdrawal, should the name come back; until then it is nobody's.
fn pauses(text: &mut Text, pauses: &[PauseRow], facts: &Facts) {
    let whole = pauses.iter().find(|pause| pause.workload.is_none());
    let age = |pause: &PauseRow| seconds(facts.now.0.saturating_sub(pause.at_ms));
    text.family(
        "paused",
        Gauge,
        "1 while an operator has paused everything",
        vec![(String::new(), flag(whole.is_some()))],
    );
    let since = whole.map(|pause| (String::new(), age(pause)));
    text.family("paused_seconds", Gauge, "For how long everything is paused", since.into_iter().collect());
    let each = pauses.iter().filter_map(|pause| {
        let name = pause.workload.as_ref()?;
        let known = facts.workloads.iter().any(|(workload, _)| workload.name == *name);
        known.then(|| (labels(&[("workload", name.as_str())]), age(pause)))
    });
    text.family("workload_paused_seconds", Gauge, "For how long one workload is paused", each.collect());
}

/// The newest closed page, as means over its time.
fn ledger(text: &mut Text, page: &Page) {
    let lasted = seconds(page.to.since(page.from));
    if lasted <= 0.0 {
        return;
    }
    let bytes = |amount: &Amount| amount.gib_seconds() * GIB / lasted;
    let cores = |amount: &Amount| amount.core_seconds() / lasted;
    let one = |value: f64| vec![(String::new(), value)];
    let of = "in the newest minute of the idle ledger";
    text.family("ledger_capacity_cpu_cores", Gauge, &format!("CPU {of}"), one(cores(&page.capacity)));
    text.family("ledger_capacity_memory_bytes", Gauge, &format!("Memory {of}"), one(bytes(&page.capacity)));
    text.family("ledger_used_cpu_cores", Gauge, &format!("CPU used {of}"), one(cores(&page.used)));
    text.family("ledger_used_memory_bytes", Gauge, &format!("Memory used {of}"), one(bytes(&page.used)));
    let lines = |value: &dyn Fn(&Amount) -> f64| {
        let sample = |line: &autoscaler_core::idle::Idle| {
            // The words are those of the REST interface.
            let (cause, workload, reason) = cause_words(&line.cause);
            let all = [
                ("cause", cause.as_str()),
                ("workload", workload.as_deref().unwrap_or_default()),
                ("reason", reason.as_deref().unwrap_or_default()),
            ];
            (labels(&all), value(&line.amount))
        };
        page.idle.iter().map(sample).collect::<Vec<_>>()
    };
    text.family("idle_cpu_cores", Gauge, &format!("CPU that was idle {of}, by cause"), lines(&cores));
    text.family("idle_memory_bytes", Gauge, &format!("Memory that was idle {of}, by cause"), lines(&bytes));
}

/// As their owner gave them, so that what is idle can be shown as money.
fn prices(text: &mut Text, spec: &PriceSpec) {
    let one = |price: f64| vec![(labels(&[("currency", spec.currency.as_str())]), price)];
    text.family("price_core_hour", Gauge, "Price of a core for an hour", one(spec.per_core_hour.0));
    text.family("price_gib_hour", Gauge, "Price of a GiB of memory for an hour", one(spec.per_gib_hour.0));
}

/// Each replica that runs, times the size of one.
fn given(view: &WorkloadView, size: Option<f64>) -> Option<f64> {
    let replicas = view.up + view.starting + view.leaving;
    if replicas == 0 { Some(0.0) } else { size.map(|size| size * f64::from(replicas)) }
}

/// Those of a node that is there.
fn waits(node: &NodeView) -> Option<&WaitView> {
    node.waits.as_ref().filter(|_| node.connected)
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1e3
}

/// What the kernel says; `None` where /proc is not as usual.
fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

#[cfg(test)]
mod tests;
