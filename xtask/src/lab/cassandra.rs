//! Cassandra on loopback: one JVM and one process id a node, 127.0.0.1 and up; each answers JMX over HTTP for what its policy names.

mod conf;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::MOST;
use super::agent::{Member, Part};
use super::daemon::{Daemons, Record, Wanted, until};
use super::disk;
use super::jars::{self, Artifact};

const SERVER: [Artifact; 1] = [Artifact::new("org.apache.cassandra", "cassandra-all", "5.0.9")];
const BRIDGE: [Artifact; 1] = [Artifact {
    classifier: Some("javaagent"),
    alone: true,
    ..Artifact::new("org.jolokia", "jolokia-agent-jvm", "2.6.0")
}];
/// Longest start of one node: with Cassandra's own ring delay it takes a minute and a half.
const START: Duration = Duration::from_secs(300);
const STOP: Duration = Duration::from_secs(40);
/// From these, nodes that come learn of the ring: two, so that one of them may be away.
const SEEDS: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)];
/// Nodes that the agent is told of, whether they run or not.
const KNOWN: u32 = 6;
/// Size of the disk that all nodes share; only what they write takes memory.
const DISK_MIB: u32 = 8_192;
/// Where JMX answers over HTTP.
const BRIDGE_PORT: u16 = 8778;

/// The cluster below one directory.
pub(super) struct Cassandra {
    directory: PathBuf,
    server: PathBuf,
    bridge: PathBuf,
    daemons: Daemons,
}

impl Cassandra {
    /// # Errors
    /// When the directory cannot be made.
    pub(super) fn open(directory: &Path, slice: Option<PathBuf>) -> Result<Self> {
        let (server, bridge) = (jars::place("cassandra", &SERVER), jars::place("jolokia", &BRIDGE));
        let directory = directory.join("cassandra");
        if !disk::own(&directory, DISK_MIB)? {
            let at = directory.display();
            println!(
                "    no disk of its own: a ring shrinks only while the disk of {at} is less than half full"
            );
        }
        let daemons = Daemons::open(&directory.join("pids"), slice.map(|slice| slice.join("cassandra")))?;
        Ok(Self { directory, server, bridge, daemons })
    }

    fn node(&self, n: u32) -> PathBuf {
        self.directory.join(name(n))
    }

    /// Starts what does not run, one after the other: each is in service in everybody's view before the next one joins.
    pub(super) fn up(&self, nodes: u32) -> Result<()> {
        ensure!((1..=MOST).contains(&nodes), "{nodes} nodes: 1 to {MOST} are possible");
        jars::packages()?;
        jars::fetch("cassandra", &SERVER)?;
        jars::fetch("jolokia", &BRIDGE)?;
        let began = Instant::now();
        for n in 1..=nodes {
            if self.daemons.living(&name(n)).is_some() && self.joined(n).exists() {
                continue;
            }
            let began = Instant::now();
            self.add(n)?;
            println!("==> cassandra: node {n} is in service after {:.0} s", began.elapsed().as_secs_f64());
        }
        println!("==> cassandra: ready after {:.0} s", began.elapsed().as_secs_f64());
        Ok(())
    }

    /// A node that has been in service; what a join that did not end left behind is not used again.
    fn joined(&self, n: u32) -> PathBuf {
        self.node(n).join("joined")
    }

    fn add(&self, n: u32) -> Result<()> {
        let unknown = self.node(n).join("data").exists() && !self.joined(n).exists();
        // One that lives goes on joining, also when the command that started it is gone; one that others have as a member has joined.
        if unknown && self.daemons.living(&name(n)).is_none() && self.is_no_member(n) {
            // On its old directory it may take tokens of a node that has joined meanwhile; and while others know it, it is refused.
            println!(
                "==> cassandra: node {n} did not finish joining before: it begins anew when the others have forgotten it"
            );
            std::fs::remove_dir_all(self.node(n))?;
            until("forgotten by the others", START, &[], || self.is_forgotten(n).then_some(()))?;
        }
        let started = self.start(n)?;
        let what = format!("node {n} in everybody's view");
        until(&what, START, &[started], || self.is_normal(n).then_some(()))?;
        std::fs::write(self.joined(n), "")?;
        Ok(())
    }

    fn start(&self, n: u32) -> Result<(Record, PathBuf)> {
        let node = self.node(n);
        conf::write(&node, SEEDS)?;
        let arguments = self.arguments(&node, &node.display().to_string(), &address(n).to_string())?;
        let mut java = Command::new("java");
        java.args(arguments).env("MALLOC_ARENA_MAX", "2");
        let (name, log) = (name(n), node.join("system.log"));
        let wanted = Wanted { name: &name, command: java, log: log.clone() };
        Ok((self.daemons.start(&wanted)?, log))
    }

    /// What a node's JVM is told. `conf` is below `configured`; `at` and `address` may be texts that a launcher fills in.
    fn arguments(&self, configured: &Path, at: &str, address: &str) -> Result<Vec<String>> {
        let mut arguments: Vec<String> = conf::MODULES.iter().map(|&module| module.to_owned()).collect();
        arguments.extend(
            [
                "-Xms128m",
                "-Xmx320m",
                "-Xss512k",
                "-XX:MaxDirectMemorySize=128m",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-XX:+ExitOnOutOfMemoryError",
                "-XX:-UsePerfData",
            ]
            .map(str::to_owned),
        );
        arguments.push(format!("-javaagent:{}", jars::jar(&self.server, "jamm-")?.display()));
        let conf = configured.join("conf");
        // With its one thread of its own, a call that takes long would make it deaf.
        arguments.push(format!(
            "-javaagent:{}=host={address},port={BRIDGE_PORT},executor=cached,discoveryEnabled=false,policyLocation=file://{}",
            jars::jar(&self.bridge, "jolokia-agent-jvm")?.display(),
            conf.join("bridge.xml").display()
        ));
        let conf = conf.display();
        for property in [
            format!("cassandra.config=file://{conf}/cassandra.yaml"),
            // Without it, what is set like this is not read.
            "cassandra.config.allow_system_properties=true".to_owned(),
            format!("cassandra.settings.listen_address={address}"),
            format!("cassandra.settings.rpc_address={address}"),
            format!("cassandra.storagedir={at}"),
            format!("cassandra.logdir={at}"),
            format!("logback.configurationFile={conf}/logback.xml"),
            "cassandra-foreground=yes".to_owned(),
            // For tests: the defaults are 30 s, 5 s and 1 s. That gossip settles is never left out.
            "cassandra.ring_delay_ms=5000".to_owned(),
            "cassandra.gossip_settle_min_wait_ms=1000".to_owned(),
            "cassandra.gossip_settle_interval_ms=500".to_owned(),
            "cassandra.superuser_setup_delay_ms=0".to_owned(),
            format!("java.io.tmpdir={}", configured.join("tmp").display()),
            format!("user.home={}", configured.join("tmp").display()),
            "java.net.preferIPv4Stack=true".to_owned(),
        ] {
            arguments.push(format!("-D{property}"));
        }
        arguments.push("-cp".to_owned());
        arguments.push(format!("{conf}:{}/*", self.server.display()));
        arguments.push("org.apache.cassandra.service.CassandraDaemon".to_owned());
        Ok(arguments)
    }

    /// In service in the view of all that live, and nobody moves.
    fn is_normal(&self, n: u32) -> bool {
        let Ok(living) = self.living() else { return false };
        let address = address(n).to_string();
        let own = read(n, &["OperationMode"]);
        own.is_some_and(|own| own["OperationMode"] == "NORMAL")
            && living.iter().all(|other| {
                let view = read(*other, &["LiveNodes", "JoiningNodes", "LeavingNodes", "TokenToEndpointMap"]);
                view.is_some_and(|view| {
                    has_token(&view, &address)
                        && listed(&view["LiveNodes"], &address)
                        && !listed(&view["JoiningNodes"], &address)
                        && !listed(&view["LeavingNodes"], &address)
                })
            })
    }

    /// Somebody lives, and has no tokens of it, or has it as joining. Alone, a node that is started again is what it was.
    fn is_no_member(&self, n: u32) -> bool {
        let address = address(n).to_string();
        let others = self.living().unwrap_or_default();
        let mut views =
            others.iter().filter_map(|other| read(*other, &["TokenToEndpointMap", "JoiningNodes"]));
        views.any(|view| !has_token(&view, &address) || listed(&view["JoiningNodes"], &address))
    }

    /// Nobody's failure detector knows it.
    fn is_forgotten(&self, n: u32) -> bool {
        let Ok(living) = self.living() else { return false };
        let known = format!("/{}", address(n));
        living.iter().all(|other| {
            let states = read_of(*other, "org.apache.cassandra.net:type=FailureDetector", &["SimpleStates"]);
            let states = states.as_ref().and_then(|said| said["SimpleStates"].as_object());
            states.is_some_and(|states| !states.contains_key(&known))
        })
    }

    fn living(&self) -> Result<Vec<u32>> {
        Ok(self.daemons.all()?.iter().filter_map(|record| number(&record.name)).collect())
    }
}

impl super::Cluster for Cassandra {
    fn down(&self) -> Result<()> {
        self.daemons.stop_all(&self.daemons.recorded()?, STOP)
    }

    fn forget(&self) -> Result<()> {
        disk::give_back(&self.directory)
    }

    fn shown(&self) -> Result<Vec<String>> {
        self.daemons.shown(|name| {
            let address = address(number(name).unwrap_or(0));
            format!("CQL {address}:9042, JMX http://{address}:{BRIDGE_PORT}/jolokia")
        })
    }

    fn for_agent(&self) -> Result<Part> {
        let mut sections = String::new();
        // Those that a launcher may start, too.
        for n in 1..=KNOWN {
            let address = address(n);
            sections.push_str(&format!(
                "[[cassandra]]\ncluster = \"ring\"\nurl = \"http://{address}:{BRIDGE_PORT}/jolokia/\"\naddress = \"{address}\"\n\n"
            ));
        }
        // Its directory is named by its task: a new member never finds the data of an old one.
        let member = self.directory.join("member");
        conf::write(&member, SEEDS)?;
        let at = self.directory.join("{task}").display().to_string();
        let arguments = self.arguments(&member, &at, "127.0.0.{slot}")?;
        let environment = [("MALLOC_ARENA_MAX", "2".to_owned())];
        let java = super::hadoop::java_home()?.join("bin/java");
        let launcher =
            Member { java: &java, arguments: &arguments, environment: &environment, leaves: false }
                .launcher(KNOWN);
        Ok(Part { sections, launchers: vec![("cassandra".to_owned(), launcher)] })
    }
}

fn number(name: &str) -> Option<u32> {
    name.strip_prefix('n')?.parse().ok()
}

fn listed(list: &Value, address: &str) -> bool {
    list.as_array().is_some_and(|all| all.iter().any(|listed| listed == address))
}

fn has_token(view: &Value, address: &str) -> bool {
    view["TokenToEndpointMap"].as_object().is_some_and(|all| all.values().any(|owner| owner == address))
}

fn name(n: u32) -> String {
    format!("n{n}")
}

fn address(n: u32) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, u8::try_from(n).unwrap_or(0))
}

/// Attributes of a node's storage service.
fn read(n: u32, attributes: &[&str]) -> Option<Value> {
    read_of(n, "org.apache.cassandra.db:type=StorageService", attributes)
}

/// Attributes of a node's bean. The status of HTTP is 200 also for what failed: the one inside counts.
fn read_of(n: u32, bean: &str, attributes: &[&str]) -> Option<Value> {
    let url = format!("http://{}:{BRIDGE_PORT}/jolokia/", address(n));
    let asked = json!({ "type": "read", "mbean": bean, "attribute": attributes });
    let mut said: Value = ureq::post(url).send_json(asked).ok()?.body_mut().read_json().ok()?;
    (said["status"] == 200).then(|| said["value"].take())
}
