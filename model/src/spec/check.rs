//! What a specification must satisfy beside its grammar: bounds that make sense, alone and together.

use std::collections::BTreeMap;

use super::fault::Faults;
use super::section::Section;
use crate::units::{Bytes, Millis};
use crate::workload::{
    Balancer, Behavior, DatabaseLimit, Policy, PortRange, RailsSpec, Replicas, SizePolicy, Target,
    WorkloadKind, WorkloadSpec,
};

/// Most replicas of one workload.
const MOST_REPLICAS: u32 = 10_000;
/// Least CPU of one replica, thousandths of a core: the kernel's smallest quota is 1 ms in 100 ms.
const LEAST_CPU: u32 = 10;
/// Most CPU of one replica: more cores than one machine has.
const MOST_CPU: u32 = 4096 * 1000;
/// Shortest and longest time over which a size is judged: a few samples, and a month.
const LEAST_LOOK: Millis = Millis(5_000);
const MOST_LOOK: Millis = Millis(30 * 86_400_000);
/// Least memory of one replica: no process starts in less.
const LEAST_MEMORY: Bytes = Bytes(4 << 20);
/// Most memory of one replica.
const MOST_MEMORY: Bytes = Bytes(64 << 40);
/// A queue delay beyond this is no target.
const MOST_QUEUE_DELAY: Millis = Millis(600_000);
/// Longest waiting time of the behaviour section.
const MOST_WAIT: Millis = Millis(7 * 86_400_000);
/// Shrinking waits at least this many times as long as growing.
const COOLDOWN_RATIO: u64 = 5;

/// Each kind has its own section, and only that.
pub(super) fn sections(kind: WorkloadKind, spec: &Section<'_>, faults: &mut Faults<'_>) {
    const ALL: [WorkloadKind; 5] = [
        WorkloadKind::Rails,
        WorkloadKind::Service,
        WorkloadKind::Yarn,
        WorkloadKind::Hdfs,
        WorkloadKind::Cassandra,
    ];
    let own = kind.word();
    if spec.node(own).is_none() {
        let message = format!("a workload of type `{own}` needs a `{own}` section");
        let example = match kind {
            WorkloadKind::Rails => "rails: { balancer: { haproxy: …, backend: web }, launcher: puma-web }",
            WorkloadKind::Service => "service: { launcher: worker }",
            WorkloadKind::Yarn => "yarn: { cluster: batch, launcher: nodemanager }",
            WorkloadKind::Hdfs => "hdfs: { cluster: store, launcher: datanode, member: \"{node}:9866\" }",
            WorkloadKind::Cassandra => {
                "cassandra: { cluster: ring, launcher: cassandra, member: \"10.0.0.{slot}\", slots: … }"
            }
        };
        let help = Some(format!("write for example `{example}`"));
        faults.push(spec.place_of("type"), &spec.path_of(own), message, help);
    }
    for other in ALL.into_iter().filter(|other| *other != kind).map(WorkloadKind::word) {
        if spec.node(other).is_some() {
            let message = format!("a workload of type `{own}` has no `{other}` section");
            spec.fault(other, message, format!("remove it, or write `type: {other}`"), faults);
        }
    }
}

/// The targets that a kind can be measured by.
fn targets(read: &WorkloadSpec, spec: &Section<'_>, faults: &mut Faults<'_>) {
    let target = &read.target;
    let given = [
        ("queueDelayP95", target.queue_delay_p95.is_some()),
        ("cpu", target.cpu.is_some()),
        ("containerWait", target.container_wait.is_some()),
        ("disk", target.disk.is_some()),
        ("latencyP99", target.latency_p99.is_some()),
    ];
    let (may, example): (&[&str], _) = match read.kind {
        WorkloadKind::Rails => (&["queueDelayP95", "cpu"], "queueDelayP95: 20ms"),
        WorkloadKind::Service => (&["cpu"], "cpu: 65%"),
        WorkloadKind::Yarn => (&["containerWait"], "containerWait: 30s"),
        WorkloadKind::Hdfs => (&["disk"], "disk: 70%"),
        WorkloadKind::Cassandra => (&["disk", "latencyP99"], "disk: 60%"),
    };
    let kind = read.kind.word();
    for (name, _) in given.iter().filter(|(name, given)| *given && !may.contains(name)) {
        let message = format!("`{name}` is nothing that a workload of type `{kind}` is measured by");
        spec.fault("target", message, format!("write `target: {{ {example} }}`"), faults);
    }
    // Disks fill up whatever the latency is.
    if read.kind == WorkloadKind::Cassandra && target.disk.is_none() {
        let message = "a Cassandra cluster needs a target for its disks".to_owned();
        spec.fault("target", message, "write `target: { disk: 60% }`", faults);
    }
}

/// What only the whole shows.
pub(super) fn whole(read: &WorkloadSpec, spec: &Section<'_>, faults: &mut Faults<'_>) {
    targets(read, spec, faults);
    if read.policy == Policy::Hpa && read.kind.is_cluster() {
        let message =
            "the HPA's rule knows nothing of clusters that keep their own list of members".to_owned();
        spec.fault("policy", message, "leave `policy` out", faults);
    }
    if read.kind != WorkloadKind::Yarn
        && read.cluster().is_some_and(|c| c.drain.is_some() || c.advertise.is_some())
    {
        let message = "`drain` and `advertise` are YARN's alone".to_owned();
        spec.fault(read.kind.word(), message, "remove them", faults);
    }
    let span = match (&read.rails, &read.service) {
        (Some(rails), _) => Some(rails.ports.span),
        (None, Some(service)) => service.ports.map(|p| p.span),
        (None, None) => None,
    };
    if let Some(span) = span
        && u32::from(span) < read.replicas.max
        && read.replicas.max <= MOST_REPLICAS
    {
        let message = format!("{span} ports are too few for {} replicas on one host", read.replicas.max);
        spec.fault(
            "replicas",
            message,
            format!("set the section's `ports.span` to at least {}", read.replicas.max),
            faults,
        );
    }
    if let Some(rails) = &read.rails
        && let Some(database) = rails.database
    {
        let room = u64::from(database.max_connections.saturating_sub(database.reserved));
        let need = u64::from(read.replicas.min) * u64::from(rails.workers) * u64::from(database.pool);
        if need > room {
            let message = format!(
                "{} replicas need {need} database connections (workers × pool each), {room} are left",
                read.replicas.min
            );
            spec.fault(
                "replicas",
                message,
                "lower `replicas.min`, `rails.workers` or `rails.database.pool`",
                faults,
            );
        }
    }
}

pub(super) fn replicas(read: Replicas, s: &Section<'_>, faults: &mut Faults<'_>) {
    if read.min == 0 {
        s.fault(
            "min",
            "`min` is 0: a workload keeps at least one replica".to_owned(),
            "write `min: 1`",
            faults,
        );
    }
    if read.max > MOST_REPLICAS {
        s.fault("max", format!("`max` is {}, more than {MOST_REPLICAS}", read.max), "lower it", faults);
    }
    if read.min > read.max {
        let message = format!("`min` ({}) is greater than `max` ({})", read.min, read.max);
        s.fault("min", message, format!("write `min: {}, max: {}`", read.max, read.min), faults);
    }
}

pub(super) fn target(read: Target, written: bool, s: &Section<'_>, faults: &mut Faults<'_>) {
    if !written {
        let message = "the target is empty: nothing says what must hold".to_owned();
        faults.push(
            s.place_of(""),
            &s.path,
            message,
            Some("write `cpu: 65%` or `queueDelayP95: 20ms`".to_owned()),
        );
    }
    if let Some(delay) = read.queue_delay_p95 {
        let good = Millis(1)..=MOST_QUEUE_DELAY;
        within("queueDelayP95", delay, &good, "for example 20ms", s, faults);
    }
    if let Some(cpu) = read.cpu
        && !(0.01..=0.99).contains(&cpu.0)
    {
        let message = format!("a CPU target of {cpu} cannot be held: it must lie between 1% and 99%");
        s.fault("cpu", message, "60% to 75% suits most services", faults);
    }
    if let Some(wait) = read.container_wait {
        within("containerWait", wait, &(Millis(0)..=MOST_WAIT), "for example 30s", s, faults);
    }
    if let Some(disk) = read.disk
        && !(0.05..=0.9).contains(&disk.0)
    {
        let message = format!("a disk target of {disk} cannot be held: it must lie between 5% and 90%");
        s.fault(
            "disk",
            message,
            "60% for Cassandra (a compaction may need as much again), 70% for HDFS",
            faults,
        );
    }
    if let Some(latency) = read.latency_p99 {
        within("latencyP99", latency, &(Millis(1)..=MOST_QUEUE_DELAY), "for example 20ms", s, faults);
    }
}

pub(super) fn size(read: SizePolicy, s: &Section<'_>, faults: &mut Faults<'_>) {
    if let Some(cpu) = read.cpu
        && !(LEAST_CPU..=MOST_CPU).contains(&cpu.0)
    {
        let message = format!("{cpu} is not a sensible amount of CPU for one replica");
        s.fault("cpu", message, "from 10m to 4096; `1500m` is one and a half cores", faults);
    }
    if let Some(memory) = read.memory
        && !(LEAST_MEMORY..=MOST_MEMORY).contains(&memory)
    {
        let message = format!("{memory} is not a sensible amount of memory for one replica");
        s.fault("memory", message, "from 4Mi to 64Ti; `512Mi` has its unit behind the number", faults);
    }
    for (name, value) in [("after", read.after), ("verify", read.verify)] {
        if !(LEAST_LOOK..=MOST_LOOK).contains(&value) {
            let message = format!("`{name}` of {value} is outside {LEAST_LOOK} to {MOST_LOOK}");
            s.fault(name, message, "the defaults are after: 2h and verify: 1m", faults);
        }
    }
    if let Some(startup) = read.startup_cpu {
        if startup.0 > MOST_CPU {
            let message = format!("{startup} is not a sensible amount of CPU for one replica");
            s.fault("startupCpu", message, "at most 4096", faults);
        } else if read.cpu.is_none_or(|cpu| startup < cpu) {
            let message = "`startupCpu` must be at least `cpu`: it is what a replica has until it is healthy";
            s.fault("startupCpu", message.to_owned(), "for example cpu: 500m and startupCpu: 2", faults);
        }
    }
}

pub(super) fn rails(read: &RailsSpec, s: &Section<'_>, faults: &mut Faults<'_>) {
    for (name, value, most) in [("workers", read.workers, 1024), ("threads", read.threads, 4096)] {
        if value == 0 || value > most {
            s.fault(
                name,
                format!("`{name}` is {value}, it must lie between 1 and {most}"),
                "see Puma's configuration",
                faults,
            );
        }
    }
    parameters(&read.parameters, s, faults);
}

/// Names of parameters reach a launcher's command line and environment.
pub(super) fn parameters(read: &BTreeMap<String, String>, s: &Section<'_>, faults: &mut Faults<'_>) {
    for name in read.keys() {
        let good = !name.is_empty()
            && name.len() <= 63
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        if !good {
            let shown: String = name.chars().take(60).collect();
            let message = format!("{shown:?} is not a parameter's name");
            s.fault("parameters", message, "use letters, digits, `_` and `-`, at most 63", faults);
        }
    }
}

pub(super) fn balancer(read: &Balancer, s: &Section<'_>, faults: &mut Faults<'_>) {
    let path = &read.haproxy;
    if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
        let message = "HAProxy's runtime socket must be an absolute path without `..`".to_owned();
        s.fault("haproxy", message, "for example `/run/haproxy/admin.sock`", faults);
    }
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    if read.backend.is_empty() || read.backend.len() > 63 || !read.backend.chars().all(good) {
        let message = "this is not a name of a HAProxy backend".to_owned();
        s.fault("backend", message, "letters, digits, `_`, `-`, `.` and `:`, at most 63", faults);
    }
}

pub(super) fn ports(read: PortRange, s: &Section<'_>, faults: &mut Faults<'_>) {
    if read.from < 1024 {
        s.fault(
            "from",
            format!("port {} is reserved for the system", read.from),
            "begin at 1024 or above",
            faults,
        );
    }
    if read.span == 0 {
        s.fault("span", "a range needs at least one port".to_owned(), "write `span: 100`", faults);
    }
    let last = u32::from(read.from) + 2 * u32::from(read.span);
    if last > 65_536 {
        let message = format!("the range and the control ports behind it end at {}, beyond 65535", last - 1);
        s.fault("span", message, "lower `from` or `span`", faults);
    }
}

pub(super) fn database(read: DatabaseLimit, s: &Section<'_>, faults: &mut Faults<'_>) {
    if read.pool == 0 {
        s.fault(
            "pool",
            "a worker without connections cannot work".to_owned(),
            "write ActiveRecord's `pool`",
            faults,
        );
    }
    if read.reserved >= read.max_connections {
        let message =
            format!("{} of {} connections are reserved: none is left", read.reserved, read.max_connections);
        s.fault("reserved", message, "lower it", faults);
    }
}

pub(super) fn behavior(read: Behavior, s: &Section<'_>, faults: &mut Faults<'_>) {
    let waits = [
        ("growAfter", read.grow_after, Millis(0)),
        ("shrinkAfter", read.shrink_after, Millis(0)),
        ("shrinkCooldown", read.shrink_cooldown, Millis(0)),
        ("growCooldown", read.grow_cooldown, Millis(0)),
        ("drainDeadline", read.drain_deadline, Millis(1000)),
        ("stopGrace", read.stop_grace, Millis(1000)),
    ];
    for (name, value, least) in waits {
        within(name, value, &(least..=MOST_WAIT), "for example 30s", s, faults);
    }
    for (name, value) in [("stepUp", read.step_up), ("stepDown", read.step_down)] {
        if value == 0 || value > MOST_REPLICAS {
            s.fault(
                name,
                format!("`{name}` is {value}, it must lie between 1 and {MOST_REPLICAS}"),
                "write 1 or more",
                faults,
            );
        }
    }
    let least = read.grow_cooldown.0.saturating_mul(COOLDOWN_RATIO);
    if read.shrink_cooldown.0 < least && read.shrink_cooldown <= MOST_WAIT && read.grow_cooldown <= MOST_WAIT
    {
        let message = format!(
            "`shrinkCooldown` ({}) is shorter than {COOLDOWN_RATIO} × `growCooldown` ({}): it would flap",
            read.shrink_cooldown, read.grow_cooldown
        );
        let at = if s.node("shrinkCooldown").is_some() { "shrinkCooldown" } else { "growCooldown" };
        s.fault(at, message, format!("write `shrinkCooldown: {}` or more", Millis(least)), faults);
    }
    if read.survivors_below.0 > 0.95 {
        let message = format!("survivors at {} have no room for a wave", read.survivors_below);
        s.fault("survivorsBelow", message, "70% is the default; at most 95%", faults);
    }
}

pub(super) fn within(
    name: &str,
    value: Millis,
    good: &std::ops::RangeInclusive<Millis>,
    help: &str,
    s: &Section<'_>,
    faults: &mut Faults<'_>,
) {
    if !good.contains(&value) {
        let message = format!("`{name}` is {value}, it must lie between {} and {}", good.start(), good.end());
        s.fault(name, message, help, faults);
    }
}
