//! What the node's owner configured: files, then environment, then flags; each fault is reported, all at once.
//!
//! [`Fragment`] is one source with everything optional; merging fragments in order gives the input; [`Settings`] is
//! checked and complete. A setting remembers where it came from (`config show --origin`).

mod address;
mod balancer;
pub mod cluster;
mod executor;
mod host;
mod isolation;
mod leaves;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agent_core::classify::{Rule, RuleFile};
use agent_core::launcher::Launcher;
use agent_core::qos;
use agent_core::unit;
use model::id::{NodeId, RackName};
use serde::Deserialize;

pub use balancer::BalancerFragment;
pub use cluster::{CassandraFragment, Clusters, HdfsFragment, YarnFragment};
pub use executor::Executor;
pub use isolation::QosFragment;

pub use address::{Address, Remote};

/// One source of settings.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fragment {
    /// Name of this node; the host name when absent.
    pub node: Option<String>,
    /// The rack, room or zone that it stands in: what may be lost together.
    pub rack: Option<String>,
    /// Where the autoscaler listens: `https://HOST:PORT`, `http://127.0.0.1:7781` or `unix:/run/trimtab/agents.sock`.
    pub autoscaler: Option<String>,
    /// Directory of this agent's state.
    pub state: Option<PathBuf>,
    /// Directory of launchers.
    pub launchers: Option<PathBuf>,
    /// Directory of classification rules.
    pub rules: Option<PathBuf>,
    /// Whether the agent may act; false = observe only.
    pub act: Option<bool>,
    /// Address for `/metrics`, `/livez`, `/readyz`; port 0 = any.
    pub http: Option<String>,
    /// Time between rounds, ms.
    pub interval_ms: Option<u64>,
    /// Top of Trimtab's own tasks in the cgroup hierarchies.
    pub slice: Option<String>,
    /// Who runs tasks: `auto`, `systemd` or `direct`.
    pub executor: Option<Executor>,
    /// Most tasks of ours at once.
    pub max_tasks: Option<usize>,
    /// Most bytes of the spool on disk.
    pub spool_bytes: Option<u64>,
    /// Where the unified cgroup hierarchy is mounted; found when absent.
    pub cgroup: Option<PathBuf>,
    /// Whether to load kernel programs; false = read files only.
    pub ebpf: Option<bool>,
    /// Directory on a bpf file system where counting goes on while the agent restarts.
    pub pin: Option<PathBuf>,
    /// Let the kernel measure the run time of our programs (costs some ns at every switch): for benchmarks.
    pub measure_programs: Option<bool>,
    /// How best-effort work is held back beside latency-critical work.
    pub qos: QosFragment,
    /// Docker's socket, which is asked for the names of its containers.
    pub docker: Option<PathBuf>,
    /// Podman's socket, for containers of root.
    pub podman: Option<PathBuf>,
    /// containerd's socket, for what it does not run for Docker.
    pub containerd: Option<PathBuf>,
    /// Units whose children may be moved into cgroups of their own: services by name, anything else by its path.
    pub leaves: Option<Vec<String>>,
    /// Balancers on this host that may be read and told.
    pub balancer: Vec<BalancerFragment>,
    /// ResourceManagers on this host that may be read and told.
    pub yarn: Vec<YarnFragment>,
    /// NameNodes on this host that may be read and told.
    pub hdfs: Vec<HdfsFragment>,
    /// Cassandra nodes on this host that may be read and told.
    pub cassandra: Vec<CassandraFragment>,
}

/// Where each setting came from: a file, a variable, a flag, or the default.
pub type Origins = BTreeMap<&'static str, String>;

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of this node.
    pub node: NodeId,
    /// Its rack.
    pub rack: Option<RackName>,
    /// The autoscaler; `None` = measure for `/metrics` only.
    pub autoscaler: Option<Address>,
    /// State directory.
    pub state: PathBuf,
    /// Launchers by name.
    pub launchers: BTreeMap<String, Launcher>,
    /// Classification rules: the owner's, then those that Trimtab brings.
    pub rules: Vec<Rule>,
    /// May act.
    pub act: bool,
    /// Where to serve HTTP.
    pub http: Option<std::net::SocketAddr>,
    /// Time between rounds, ms; 100..=60000.
    pub interval_ms: u64,
    /// Top of own tasks.
    pub slice: String,
    /// Who runs tasks.
    pub executor: Executor,
    /// Most tasks.
    pub max_tasks: usize,
    /// Most bytes of the spool.
    pub spool_bytes: u64,
    /// The unified hierarchy.
    pub cgroup: PathBuf,
    /// Load kernel programs.
    pub ebpf: bool,
    /// Pin directory.
    pub pin: Option<PathBuf>,
    /// Measure our programs' run time.
    pub measure_programs: bool,
    /// Isolation.
    pub qos: qos::Settings,
    /// Docker's socket.
    pub docker: PathBuf,
    /// Podman's socket.
    pub podman: PathBuf,
    /// containerd's socket.
    pub containerd: PathBuf,
    /// Paths of the units whose children may be moved into leaves, below the top of the unified hierarchy.
    pub leaves: Vec<String>,
    /// Balancers.
    pub balancers: Vec<BalancerFragment>,
    /// Clusters.
    pub clusters: Clusters,
    /// Where each setting came from.
    pub origins: Origins,
}

/// Rules that Trimtab brings.
const DEFAULT_RULES: &str = include_str!("../dist/tasks.d/90-default.toml");

/// Everything that is wrong, one fault a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Faults(pub Vec<String>);

impl Settings {
    /// Reads the configuration: `file`, the `conf.d` and its own folder beside it, then `environment`, then `flags`.
    ///
    /// # Errors
    /// [`Faults`] with every fault found, each naming its file or variable.
    pub fn read(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: Fragment,
    ) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let mut sources = Vec::new();
        for path in file.map(files).unwrap_or_default() {
            match read_toml::<Fragment>(&path) {
                Ok(fragment) => sources.push((path.display().to_string(), fragment)),
                Err(fault) => faults.push(fault),
            }
        }
        match from_environment(environment) {
            Ok(fragment) => sources.push(("environment".to_owned(), fragment)),
            Err(mut more) => faults.append(&mut more),
        }
        sources.push(("command line".to_owned(), flags));
        let (input, origins) = merge(sources);
        check(input, origins, faults)
    }

    /// Settings that differ in `new` and cannot change while the agent runs.
    #[must_use]
    pub fn waits_for_start(&self, new: &Self) -> Vec<&'static str> {
        let differs = [
            ("node", self.node != new.node),
            ("rack", self.rack != new.rack),
            ("state", self.state != new.state),
            ("http", self.http != new.http),
            ("interval_ms", self.interval_ms != new.interval_ms),
            ("slice", self.slice != new.slice),
            ("spool_bytes", self.spool_bytes != new.spool_bytes),
            ("cgroup", self.cgroup != new.cgroup),
            ("ebpf", self.ebpf != new.ebpf),
            ("pin", self.pin != new.pin),
            ("measure_programs", self.measure_programs != new.measure_programs),
            ("docker", self.docker != new.docker),
            ("podman", self.podman != new.podman),
            ("containerd", self.containerd != new.containerd),
            ("leaves", self.leaves != new.leaves),
            ("balancer", self.balancers != new.balancers),
            ("yarn, hdfs or cassandra", self.clusters != new.clusters),
        ];
        differs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }

    /// Takes over what may change while the agent runs.
    pub fn take(&mut self, new: Self) {
        let Self { autoscaler, launchers, rules, act, max_tasks, qos, .. } = new;
        (self.autoscaler, self.launchers, self.rules) = (autoscaler, launchers, rules);
        (self.act, self.max_tasks, self.qos) = (act, max_tasks, qos);
    }

    /// Settings as `key = value` lines, with origins when asked.
    #[must_use]
    pub fn show(&self, with_origin: bool) -> String {
        let text = |o: Option<String>| o.unwrap_or_else(|| "(none)".to_owned());
        let values: [(&str, String); 20] = [
            ("node", self.node.to_string()),
            ("rack", text(self.rack.as_ref().map(ToString::to_string))),
            ("autoscaler", text(self.autoscaler.as_ref().map(ToString::to_string))),
            ("state", self.state.display().to_string()),
            ("launchers", format!("{:?}", self.launchers.keys().collect::<Vec<_>>())),
            ("rules", format!("{} rules", self.rules.len())),
            ("act", self.act.to_string()),
            ("http", text(self.http.map(|a| a.to_string()))),
            ("interval_ms", self.interval_ms.to_string()),
            ("slice", self.slice.clone()),
            ("executor", format!("{:?}", self.executor).to_lowercase()),
            ("max_tasks", self.max_tasks.to_string()),
            ("spool_bytes", self.spool_bytes.to_string()),
            ("cgroup", self.cgroup.display().to_string()),
            ("ebpf", self.ebpf.to_string()),
            ("docker", self.docker.display().to_string()),
            ("podman", self.podman.display().to_string()),
            ("containerd", self.containerd.display().to_string()),
            ("leaves", format!("{:?}", self.leaves)),
            ("clusters", format!("{:?}", self.clusters.names())),
        ];
        let mut out = String::new();
        for (key, value) in values.into_iter().chain(isolation::shown(&self.qos)) {
            out.push_str(&format!("{key} = {value}"));
            if with_origin {
                out.push_str(&format!("    # {}", self.origins.get(key).map_or("default", String::as_str)));
            }
            out.push('\n');
        }
        out
    }
}

/// The file, then `conf.d/*.toml` beside it, then those of its own folder, each in order of their names.
fn files(file: &Path) -> Vec<PathBuf> {
    let shared = file.parent().map(|p| p.join("conf.d")).unwrap_or_default();
    let more = [shared, own_folder(file)].into_iter().flat_map(|directory| toml_files(&directory));
    std::iter::once(file.to_owned()).chain(more).collect()
}

/// The folder of this daemon alone: `agent.d` beside `agent.toml`. An autoscaler on the same host reads `conf.d`, too, and
/// refuses keys that are not its own.
#[must_use]
pub fn own_folder(file: &Path) -> PathBuf {
    file.with_extension("d")
}

fn toml_files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "toml"));
    paths.sort();
    paths
}

fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}

/// `TRIMTAB_<KEY>=value`, for settings that are one value.
fn from_environment(variables: impl Iterator<Item = (String, String)>) -> Result<Fragment, Vec<String>> {
    let mut table = toml::Table::new();
    let mut faults = Vec::new();
    for (name, value) in variables {
        let Some(key) = name.strip_prefix("TRIMTAB_").map(str::to_lowercase) else { continue };
        if !KEYS.contains(&key.as_str()) {
            continue;
        }
        // A number or a truth value where it reads as one, a text otherwise.
        let parsed = match (value.parse::<i64>(), value.parse::<bool>()) {
            (Ok(n), _) => toml::Value::Integer(n),
            (_, Ok(b)) => toml::Value::Boolean(b),
            _ => toml::Value::String(value),
        };
        let one = toml::Table::from_iter([(key.clone(), parsed.clone())]);
        match one.try_into::<Fragment>() {
            Ok(_) => drop(table.insert(key, parsed)),
            Err(e) => faults.push(format!("{name}: {}", e.message())),
        }
    }
    if faults.is_empty() {
        table.try_into().map_err(|e: toml::de::Error| vec![e.to_string()])
    } else {
        Err(faults)
    }
}

macro_rules! settings_keys {
    ($($key:ident),*; $($list:ident),*) => {
        const KEYS: &[&str] = &[$(stringify!($key)),*];

        fn merge(sources: Vec<(String, Fragment)>) -> (Fragment, Origins) {
            let (mut merged, mut origins) = (Fragment::default(), Origins::new());
            for (origin, fragment) in sources {
                $(if fragment.$key.is_some() {
                    merged.$key = fragment.$key;
                    origins.insert(stringify!($key), origin.clone());
                })*
                $(if !fragment.$list.is_empty() {
                    merged.$list.extend(fragment.$list);
                    origins.insert(stringify!($list), origin.clone());
                })*
                origins.extend(fragment.qos.said().map(|key| (key, origin.clone())));
                merged.qos = merged.qos.then(fragment.qos);
            }
            (merged, origins)
        }
    };
}
settings_keys!(
    node,
    rack,
    autoscaler,
    state,
    launchers,
    rules,
    act,
    http,
    interval_ms,
    slice,
    executor,
    max_tasks,
    spool_bytes,
    cgroup,
    ebpf,
    pin,
    measure_programs,
    docker,
    podman,
    containerd,
    leaves;
    balancer,
    yarn,
    hdfs,
    cassandra
);

fn check(input: Fragment, origins: Origins, mut faults: Vec<String>) -> Result<Settings, Faults> {
    let from = |key: &str| origins.get(key).map_or("default", String::as_str).to_owned();
    let mut fault = |key: &str, why: String| faults.push(format!("{key} ({}): {why}", from(key)));
    let root = rustix::process::geteuid().is_root();

    let node = input.node.clone().unwrap_or_else(host::name);
    let node = node.parse::<NodeId>().map_err(|e| fault("node", e.to_string())).ok();
    let rack = input.rack.map(|rack| rack.parse::<RackName>().map_err(|e| fault("rack", e.to_string())));
    let autoscaler = input
        .autoscaler
        .as_deref()
        .and_then(|a| a.parse::<Address>().map_err(|why| fault("autoscaler", why)).ok());
    let http = input.http.as_deref().and_then(|text| match text.parse::<std::net::SocketAddr>() {
        Ok(a) if a.ip().is_loopback() => Some(a),
        Ok(a) => {
            fault("http", format!("{a} is not on loopback: without TLS nothing listens elsewhere"));
            None
        }
        Err(e) => {
            fault("http", format!("{text:?}: {e}; write for example 127.0.0.1:7782"));
            None
        }
    });
    let interval_ms = input.interval_ms.unwrap_or(1000);
    if !(100..=60_000).contains(&interval_ms) {
        fault("interval_ms", format!("{interval_ms} is outside 100..=60000"));
    }
    let slice = input.slice.unwrap_or_else(|| "trimtab.slice".to_owned());
    if slice.is_empty() || slice.starts_with('.') || slice.contains(['/', '\0']) {
        fault("slice", format!("{slice:?} must be one name, for example trimtab.slice"));
    }
    let executor = input.executor.unwrap_or_default();
    if executor.is_systemd()
        && input.act == Some(true)
        && let Some(why) = unit::bad_top(&slice)
    {
        fault("slice", format!("{why}, where systemd runs tasks"));
    }
    let mut launchers = BTreeMap::new();
    let directory = input.launchers.unwrap_or_else(|| PathBuf::from("/etc/trimtab/launch.d"));
    if origins.contains_key("launchers") && !directory.is_dir() {
        fault("launchers", format!("{} is no directory", directory.display()));
    }
    for path in toml_files(&directory) {
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        match read_toml::<Launcher>(&path) {
            Ok(launcher) => {
                let launcher = Launcher { name: name.clone(), ..launcher };
                match launcher.check(root) {
                    Ok(()) => drop(launchers.insert(name, launcher)),
                    Err(e) => fault("launchers", format!("{}: {e}", path.display())),
                }
            }
            Err(why) => fault("launchers", why),
        }
    }
    let mut rules = Vec::new();
    for path in toml_files(&input.rules.unwrap_or_else(|| PathBuf::from("/etc/trimtab/tasks.d"))) {
        match read_toml::<RuleFile>(&path) {
            Ok(file) => rules.extend(file.rules),
            Err(why) => fault("rules", why),
        }
    }
    match toml::from_str::<RuleFile>(DEFAULT_RULES) {
        Ok(file) => rules.extend(file.rules),
        Err(e) => fault("rules", format!("built in: {e}")),
    }
    let cgroup = match input.cgroup.clone().or_else(host::unified_mount) {
        Some(path) if path.join("cgroup.controllers").exists() => Some(path),
        Some(path) => {
            fault(
                "cgroup",
                format!("{} is no unified cgroup hierarchy (no cgroup.controllers)", path.display()),
            );
            None
        }
        None => {
            fault("cgroup", "no cgroup2 mount in /proc/self/mountinfo: mount one, or set cgroup".to_owned());
            None
        }
    };
    let mut leaves = Vec::new();
    for listed in input.leaves.unwrap_or_default() {
        match leaves::path(&listed, &slice) {
            Ok(path) => leaves.push(path),
            Err(why) => fault("leaves", why),
        }
    }
    for balancer in &input.balancer {
        if let Some(bad) = balancer.backends.iter().find(|b| !agent_core::haproxy::safe_word(b)) {
            fault(
                "balancer",
                format!("backend {bad:?} has characters that the runtime socket does not take"),
            );
        }
    }
    let clusters = Clusters { yarn: input.yarn, hdfs: input.hdfs, cassandra: input.cassandra };
    for (key, why) in clusters.faults(&launchers) {
        fault(key, why);
    }
    let qos = input.qos.settings();
    for (key, why) in qos.faults() {
        fault("qos", format!("{key}: {why}"));
    }
    match (node, cgroup) {
        (Some(node), Some(cgroup)) if faults.is_empty() => Ok(Settings {
            node,
            rack: rack.and_then(Result::ok),
            autoscaler,
            state: input.state.unwrap_or_else(host::default_state),
            launchers,
            rules,
            act: input.act.unwrap_or(false),
            http,
            interval_ms,
            slice,
            executor,
            max_tasks: input.max_tasks.unwrap_or(500),
            spool_bytes: input.spool_bytes.unwrap_or(256 << 20),
            cgroup,
            ebpf: input.ebpf.unwrap_or(true),
            pin: input.pin,
            measure_programs: input.measure_programs.unwrap_or(false),
            qos,
            docker: input.docker.unwrap_or_else(|| PathBuf::from("/run/docker.sock")),
            podman: input.podman.unwrap_or_else(|| PathBuf::from("/run/podman/podman.sock")),
            containerd: input.containerd.unwrap_or_else(|| PathBuf::from("/run/containerd/containerd.sock")),
            leaves,
            balancers: input.balancer,
            clusters,
            origins,
        }),
        _ => Err(Faults(faults)),
    }
}

#[cfg(test)]
mod tests;
