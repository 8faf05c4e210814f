//! The `spec` section of a workload, field by field.

use std::collections::BTreeMap;

use super::check;
use super::fault::Faults;
use super::section::{Read, Section, word};
use super::tree::Node;
use crate::workload::{
    Balancer, Behavior, Class, DatabaseLimit, Mode, Policy, PortRange, RailsSpec, Replicas, ServiceSpec,
    SizeMode, SizePolicy, Target, WorkloadKind, WorkloadSpec,
};

const SPEC: &[&str] = &[
    "type",
    "replicas",
    "target",
    "size",
    "mode",
    "policy",
    "class",
    "rails",
    "service",
    "yarn",
    "hdfs",
    "cassandra",
    "behavior",
];

/// A target in the kind's own terms, for who has given none.
fn target_of(kind: Option<WorkloadKind>) -> &'static str {
    match kind {
        Some(WorkloadKind::Rails) => "target: { queueDelayP95: 100ms }",
        Some(WorkloadKind::Yarn) => "target: { containerWait: 30s }",
        Some(WorkloadKind::Hdfs) => "target: { disk: 70% }",
        Some(WorkloadKind::Cassandra) => "target: { disk: 60% }",
        Some(WorkloadKind::Service) | None => "target: { cpu: 65% }",
    }
}

/// Reads and checks a `spec` section.
pub(super) fn read_spec(node: &Node, faults: &mut Faults<'_>) -> Option<WorkloadSpec> {
    let spec = Section::open(node, "spec", SPEC, faults)?;
    let kind: Option<WorkloadKind> = spec.required("type", "type: rails", faults);
    let replicas = spec.required("replicas", "replicas: { min: 2, max: 20 }", faults);
    let target = spec.required("target", target_of(kind), faults);
    let size = spec.or("size", SizePolicy::default(), faults);
    let mode = spec.or("mode", Mode::default(), faults);
    let policy = spec.or("policy", Policy::default(), faults);
    let class = spec.optional("class", faults);
    let rails = spec.optional("rails", faults);
    let service = spec.optional("service", faults);
    let yarn = spec.optional("yarn", faults).map(Box::new);
    let hdfs = spec.optional("hdfs", faults).map(Box::new);
    let cassandra = spec.optional("cassandra", faults).map(Box::new);
    let start_values = kind.map_or_else(Behavior::default, Behavior::of);
    let behavior = match spec.node("behavior") {
        Some(node) => behavior(node, &spec.path_of("behavior"), start_values, faults).unwrap_or(start_values),
        None => start_values,
    };
    let kind = kind?;
    check::sections(kind, &spec, faults);
    let read = WorkloadSpec {
        kind,
        replicas: replicas?,
        target: target?,
        size,
        mode,
        policy,
        class,
        rails,
        service,
        yarn,
        hdfs,
        cassandra,
        behavior,
    };
    check::whole(&read, &spec, faults);
    Some(read)
}

macro_rules! words {
    ($($kind:ident { $($word:literal => $value:ident),* })*) => {$(
        impl Read for $kind {
            fn read(node: &Node, path: &str, faults: &mut Faults<'_>) -> Option<Self> {
                word(node, path, &[$(($word, $kind::$value)),*], faults)
            }
        }
    )*};
}
words! {
    WorkloadKind { "rails" => Rails, "service" => Service, "yarn" => Yarn, "hdfs" => Hdfs, "cassandra" => Cassandra }
    Mode { "observe" => Observe, "recommend" => Recommend, "auto" => Auto }
    Policy { "trimtab" => Trimtab, "hpa" => Hpa }
    SizeMode { "recommend" => Recommend, "apply" => Apply }
    Class { "latency-critical" => LatencyCritical, "standard" => Standard, "best-effort" => BestEffort }
}

impl Read for Replicas {
    fn read(node: &Node, path: &str, faults: &mut Faults<'_>) -> Option<Self> {
        let s = Section::open(node, path, &["min", "max"], faults)?;
        let (min, max) = (s.required("min", "min: 2", faults), s.required("max", "max: 20", faults));
        let read = Self { min: min?, max: max? };
        check::replicas(read, &s, faults);
        Some(read)
    }
}

impl Read for Target {
    fn read(node: &Node, path: &str, faults: &mut Faults<'_>) -> Option<Self> {
        const FIELDS: &[&str] = &["queueDelayP95", "cpu", "containerWait", "disk", "latencyP99"];
        let s = Section::open(node, path, FIELDS, faults)?;
        let written = FIELDS.iter().any(|field| s.node(field).is_some());
        let read = Self {
            queue_delay_p95: s.optional("queueDelayP95", faults),
            cpu: s.optional("cpu", faults),
            container_wait: s.optional("containerWait", faults),
            disk: s.optional("disk", faults),
            latency_p99: s.optional("latencyP99", faults),
        };
        check::target(read, written, &s, faults);
        Some(read)
    }
}

impl Read for SizePolicy {
    fn read(node: &Node, path: &str, faults: &mut Faults<'_>) -> Option<Self> {
        let s =
            Section::open(node, path, &["mode", "cpu", "memory", "startupCpu", "after", "verify"], faults)?;
        let read = Self {
            mode: s.or("mode", SizeMode::default(), faults),
            cpu: s.optional("cpu", faults),
            memory: s.optional("memory", faults),
            startup_cpu: s.optional("startupCpu", faults),
            after: s.or("after", SizePolicy::default().after, faults),
            verify: s.or("verify", SizePolicy::default().verify, faults),
        };
        check::size(read, &s, faults);
        Some(read)
    }
}

impl Read for RailsSpec {
    fn read(node: &Node, path: &str, faults: &mut Faults<'_>) -> Option<Self> {
        const FIELDS: &[&str] =
            &["balancer", "launcher", "workers", "threads", "ports", "database", "parameters"];
        let s = Section::open(node, path, FIELDS, faults)?;
        let balancer =
            s.required("balancer", "balancer: { haproxy: /run/haproxy/admin.sock, backend: web }", faults);
        let launcher = s.required("launcher", "launcher: puma-web", faults);
        let read = Self {
            workers: s.or("workers", 1, faults),
            threads: s.or("threads", 1, faults),
            ports: s.or("ports", PortRange::default(), faults),
            database: s.optional("database", faults),
            parameters: s.or("parameters", BTreeMap::new(), faults),
            balancer: balancer?,
            launcher: launcher?,
        };
        check::rails(&read, &s, faults);
        Some(read)
    }
}

impl Read for ServiceSpec {
    fn read(node: &Node, path: &str, faults: &mut Faults<'_>) -> Option<Self> {
        let s = Section::open(node, path, &["launcher", "parameters", "ports"], faults)?;
        let launcher = s.required("launcher", "launcher: worker", faults);
        let parameters = s.or("parameters", BTreeMap::new(), faults);
        check::parameters(&parameters, &s, faults);
        let ports = s.optional("ports", faults);
        Some(Self { launcher: launcher?, parameters, ports })
    }
}

impl Read for Balancer {
    fn read(node: &Node, path: &str, faults: &mut Faults<'_>) -> Option<Self> {
        let s = Section::open(node, path, &["haproxy", "backend"], faults)?;
        let haproxy = s.required("haproxy", "haproxy: /run/haproxy/admin.sock", faults);
        let backend = s.required("backend", "backend: web", faults);
        let read = Self { haproxy: haproxy?, backend: backend? };
        check::balancer(&read, &s, faults);
        Some(read)
    }
}

impl Read for PortRange {
    fn read(node: &Node, path: &str, faults: &mut Faults<'_>) -> Option<Self> {
        let s = Section::open(node, path, &["from", "span"], faults)?;
        let (from, span) =
            (s.required("from", "from: 9300", faults), s.required("span", "span: 100", faults));
        let read = Self { from: from?, span: span? };
        check::ports(read, &s, faults);
        Some(read)
    }
}

impl Read for DatabaseLimit {
    fn read(node: &Node, path: &str, faults: &mut Faults<'_>) -> Option<Self> {
        let s = Section::open(node, path, &["maxConnections", "reserved", "pool"], faults)?;
        let most = s.required("maxConnections", "maxConnections: 100", faults);
        let pool = s.required("pool", "pool: 5", faults);
        let read = Self { max_connections: most?, reserved: s.or("reserved", 0, faults), pool: pool? };
        check::database(read, &s, faults);
        Some(read)
    }
}

/// How careful to be; what is not written is as `d` says.
fn behavior(node: &Node, path: &str, d: Behavior, faults: &mut Faults<'_>) -> Option<Behavior> {
    const FIELDS: &[&str] = &[
        "growAfter",
        "shrinkAfter",
        "shrinkCooldown",
        "growCooldown",
        "stepUp",
        "stepDown",
        "survivorsBelow",
        "drainDeadline",
        "stopGrace",
    ];
    let s = Section::open(node, path, FIELDS, faults)?;
    let read = Behavior {
        grow_after: s.or("growAfter", d.grow_after, faults),
        shrink_after: s.or("shrinkAfter", d.shrink_after, faults),
        shrink_cooldown: s.or("shrinkCooldown", d.shrink_cooldown, faults),
        grow_cooldown: s.or("growCooldown", d.grow_cooldown, faults),
        step_up: s.or("stepUp", d.step_up, faults),
        step_down: s.or("stepDown", d.step_down, faults),
        survivors_below: s.or("survivorsBelow", d.survivors_below, faults),
        drain_deadline: s.or("drainDeadline", d.drain_deadline, faults),
        stop_grace: s.or("stopGrace", d.stop_grace, faults),
    };
    check::behavior(read, &s, faults);
    Some(read)
}
