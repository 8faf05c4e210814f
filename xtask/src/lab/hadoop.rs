//! Hadoop on loopback: ResourceManager, NameNode, and workers of a NodeManager and a DataNode each; one JVM and one process id a daemon.

mod conf;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::MOST;
use super::agent::{Member, Part as ForAgent, Tool};
use super::daemon::{Daemons, Record, Wanted, until};
use super::disk;
use super::jars::{self, Artifact};
use crate::http::json;
use conf::{Offer, Places, Role};

/// The version of everything but the examples, which are not to be had at it; theirs run on it.
const VERSION: &str = "3.5.0";
const EXAMPLES: &str = "3.4.2";
const GROUP: &str = "org.apache.hadoop";

/// Size of a DataNode's disk; only what is written takes memory.
const DISK_MIB: u32 = 512;
/// Longest start of the whole cluster.
const START: Duration = Duration::from_secs(300);
/// A NodeManager waits for its applications to end.
const STOP: Duration = Duration::from_secs(40);

fn artifacts() -> Vec<Artifact> {
    let plain = |name| Artifact::new(GROUP, name, VERSION);
    let mut all: Vec<Artifact> = [
        "hadoop-common",
        "hadoop-hdfs",
        "hadoop-hdfs-client",
        "hadoop-yarn-server-resourcemanager",
        "hadoop-yarn-server-nodemanager",
        // Optional by its own description; the ResourceManager does not start without.
        "hadoop-yarn-server-timelineservice",
        "hadoop-yarn-client",
        "hadoop-mapreduce-client-jobclient",
        "hadoop-mapreduce-client-shuffle",
        "hadoop-mapreduce-client-app",
    ]
    .into_iter()
    .map(plain)
    .collect();
    all.push(Artifact { alone: true, ..Artifact::new(GROUP, "hadoop-mapreduce-examples", EXAMPLES) });
    // SleepJob, TestDFSIO.
    all.push(Artifact { classifier: Some("tests"), ..plain("hadoop-mapreduce-client-jobclient") });
    all
}

/// A daemon's part.
#[derive(Debug, Clone, Copy)]
struct Part {
    prefix: &'static str,
    class: &'static str,
    heap_mb: u32,
}

const RESOURCE_MANAGER: Part = Part {
    prefix: "rm",
    class: "org.apache.hadoop.yarn.server.resourcemanager.ResourceManager",
    heap_mb: 256,
};
const NAME_NODE: Part =
    Part { prefix: "nn", class: "org.apache.hadoop.hdfs.server.namenode.NameNode", heap_mb: 192 };
const NODE_MANAGER: Part =
    Part { prefix: "nm", class: "org.apache.hadoop.yarn.server.nodemanager.NodeManager", heap_mb: 160 };
const DATA_NODE: Part =
    Part { prefix: "dn", class: "org.apache.hadoop.hdfs.server.datanode.DataNode", heap_mb: 128 };

/// The cluster below one directory.
pub(super) struct Hadoop {
    directory: PathBuf,
    jars: PathBuf,
    daemons: Daemons,
    offer: Offer,
}

impl Hadoop {
    /// # Errors
    /// When the directory cannot be made.
    pub(super) fn open(directory: &Path, slice: Option<PathBuf>) -> Result<Self> {
        let jars = jars::place("hadoop", &artifacts());
        let directory = directory.join("hadoop");
        let daemons = Daemons::open(&directory.join("pids"), slice.map(|slice| slice.join("hadoop")))?;
        Ok(Self { directory, jars, daemons, offer: Offer { memory_mb: 1024, vcores: 4 } })
    }

    fn places(&self) -> Places<'_> {
        Places { directory: &self.directory, jars: &self.jars }
    }

    /// Daemons that are killed leave files there.
    fn temporary(&self) -> PathBuf {
        self.directory.join("tmp")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.directory.join("logs").join(format!("{name}.log"))
    }

    /// Starts what does not run, with so many workers, and waits until all are ready. Without any there are the masters, for those who start
    /// workers by the launchers that an agent is given.
    pub(super) fn up(&self, workers: u32) -> Result<()> {
        ensure!((0..=MOST).contains(&workers), "{workers} workers: 0 to {MOST} are possible");
        jars::packages()?;
        jars::fetch("hadoop", &artifacts())?;
        let began = Instant::now();
        for directory in [self.directory.join("logs"), self.temporary()] {
            std::fs::create_dir_all(directory)?;
        }
        let places = self.places();
        places.write(Role::Master, self.offer)?;
        let mut own = true;
        for n in 1..=MOST {
            places.write(Role::Worker(n), self.offer)?;
            own &= disk::own(&places.blocks(Role::Worker(n)), DISK_MIB)?;
        }
        if !own {
            println!(
                "    DataNodes have no disks of their own: nothing is moved between them, they are as full as this machine's"
            );
        }
        self.format()?;
        let mut needed =
            vec![self.start(NAME_NODE, Role::Master)?, self.start(RESOURCE_MANAGER, Role::Master)?];
        for n in 1..=workers {
            needed.push(self.start(DATA_NODE, Role::Worker(n))?);
            needed.push(self.start(NODE_MANAGER, Role::Worker(n))?);
        }
        println!("==> hadoop: {} daemons; waiting until {workers} workers are ready", needed.len());
        until("HDFS", START, &needed, || hdfs_ready(workers).then_some(()))?;
        until("YARN", START, &needed, || yarn_ready(workers).then_some(()))?;
        println!("==> hadoop: ready after {:.0} s", began.elapsed().as_secs_f64());
        Ok(())
    }

    fn format(&self) -> Result<()> {
        if self.directory.join("data/master/name/current").exists() {
            return Ok(());
        }
        let output = self
            .client(&[NAME_NODE.class, "-format", "-nonInteractive"])
            .output()
            .context("starting java")?;
        std::fs::write(self.log("format"), &output.stderr)?;
        ensure!(
            output.status.success(),
            "the NameNode's directory was not made: see {}",
            self.log("format").display()
        );
        Ok(())
    }

    /// A JVM of an administrator or a client.
    pub(super) fn client(&self, arguments: &[&str]) -> Command {
        let conf = self.places().conf(Role::Master);
        let mut java = Command::new("java");
        java.args(["-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp"]);
        java.arg(self.class_path(&conf)).args(arguments).env("HADOOP_CONF_DIR", conf);
        java
    }

    fn class_path(&self, conf: &Path) -> String {
        format!("{}:{}/*", conf.display(), self.jars.display())
    }

    /// Arguments of the JVM that is this part of the cluster.
    fn arguments(&self, part: Part, conf: &Path) -> [String; 8] {
        [
            format!("-Xmx{}m", part.heap_mb),
            format!("-Djava.io.tmpdir={}", self.temporary().display()),
            "-XX:+UseSerialGC".to_owned(),
            "-XX:TieredStopAtLevel=1".to_owned(),
            "-XX:CICompilerCount=1".to_owned(),
            "-cp".to_owned(),
            self.class_path(conf),
            part.class.to_owned(),
        ]
    }

    fn start(&self, part: Part, role: Role) -> Result<(Record, PathBuf)> {
        let name = match role {
            Role::Master => part.prefix.to_owned(),
            Role::Worker(n) => format!("{}{n}", part.prefix),
        };
        let conf = self.places().conf(role);
        let mut java = Command::new("java");
        java.arg(format!("-Dproc_{name}")).args(self.arguments(part, &conf));
        // NodeManagers hand it to their containers.
        java.env("HADOOP_CONF_DIR", &conf).env("JAVA_HOME", java_home()?);
        let log = self.log(&name);
        let wanted = Wanted { name: &name, command: java, log: log.clone() };
        Ok((self.daemons.start(&wanted)?, log))
    }
}

impl super::Cluster for Hadoop {
    fn down(&self) -> Result<()> {
        let names = self.daemons.recorded()?;
        // Workers first.
        for prefix in ["nm", "rm", "dn", "nn"] {
            let of_kind: Vec<String> =
                names.iter().filter(|name| name.starts_with(prefix)).cloned().collect();
            self.daemons.stop_all(&of_kind, STOP)?;
        }
        Ok(())
    }

    fn forget(&self) -> Result<()> {
        (1..=MOST).try_for_each(|n| disk::give_back(&self.places().blocks(Role::Worker(n))))
    }

    fn shown(&self) -> Result<Vec<String>> {
        let master = Role::Master.host();
        self.daemons.shown(|name| match name.split_at(2) {
            ("rm", _) => format!("http://{master}:8088, administration {master}:8033"),
            ("nn", _) => format!("http://{master}:9870, hdfs://{master}:8020"),
            ("nm", n) => format!("http://{}:8042", worker(n).host()),
            (_, n) => format!("http://{}:9864, data {}", worker(n).host(), worker(n).transfer_port()),
        })
    }

    fn for_agent(&self) -> Result<ForAgent> {
        let (places, master) = (self.places(), Role::Master.host());
        let (exclude, hosts) = (places.exclude(), places.hosts());
        let sections = format!(
            "[[yarn]]\ncluster = \"batch\"\nurl = \"http://{master}:8088\"\nexclude = {:?}\nrefresh = \"yarn-refresh\"\n\n\
             [[hdfs]]\ncluster = \"store\"\nurl = \"http://{master}:9870\"\nhosts = {:?}\nrefresh = \"hdfs-refresh\"\n\
             balance = \"hdfs-balancer\"\n",
            exclude.display().to_string(),
            hosts.display().to_string()
        );
        let (java, conf) = (java_home()?.join("bin/java"), places.conf(Role::Master));
        let class_path = self.class_path(&conf);
        let tool = |arguments: &[&str], seconds: bool| {
            Tool { java: &java, class_path: &class_path, conf: &conf, arguments }.launcher(seconds)
        };
        let yarn =
            ["org.apache.hadoop.yarn.client.cli.RMAdminCLI", "-refreshNodes", "-g", "{seconds}", "-server"];
        let hdfs = ["org.apache.hadoop.hdfs.tools.DFSAdmin", "-refreshNodes"];
        let balancer = ["org.apache.hadoop.hdfs.server.balancer.Balancer", "-threshold", "10"];
        let worker = |part: Part| {
            let conf = places.conf(Role::Master).with_file_name("worker{slot}");
            let arguments = self.arguments(part, &conf);
            let environment = [
                ("HADOOP_CONF_DIR", conf.display().to_string()),
                // NodeManagers hand it to their containers.
                ("JAVA_HOME", java.parent().and_then(Path::parent).unwrap_or(&java).display().to_string()),
            ];
            Member {
                java: &java,
                arguments: &arguments,
                environment: &environment,
                leaves: part.prefix == NODE_MANAGER.prefix,
            }
            .launcher(MOST)
        };
        let launchers = vec![
            ("yarn-refresh".to_owned(), tool(&yarn, true)),
            ("hdfs-refresh".to_owned(), tool(&hdfs, false)),
            ("hdfs-balancer".to_owned(), tool(&balancer, false)),
            ("nodemanager".to_owned(), worker(NODE_MANAGER)),
            ("datanode".to_owned(), worker(DATA_NODE)),
        ];
        Ok(ForAgent { sections, launchers })
    }
}

/// Where the ResourceManager answers.
pub(crate) fn resource_manager() -> String {
    format!("http://{}:8088", Role::Master.host())
}

fn worker(number: &str) -> Role {
    Role::Worker(number.parse().unwrap_or(0))
}

pub(super) fn java_home() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let java =
        std::env::split_paths(&path).map(|directory| directory.join("java")).find(|java| java.exists());
    let java = std::fs::canonicalize(java.context("no java in PATH")?)?;
    Ok(java.parent().and_then(Path::parent).context("java is not in bin")?.to_owned())
}

fn hdfs_ready(workers: u32) -> bool {
    data_nodes() >= Some(workers.into())
}

/// DataNodes that the NameNode has in service, once it is operational.
pub(crate) fn data_nodes() -> Option<u64> {
    let query = "qry=Hadoop:service=NameNode,name=FSNamesystemState";
    let said = json(&format!("http://{}:9870/jmx?{query}", Role::Master.host()))?;
    let bean = &said["beans"][0];
    bean["NumLiveDataNodes"].as_u64().filter(|_| bean["FSState"] == "Operational")
}

fn yarn_ready(workers: u32) -> bool {
    let said = json(&format!("{}/ws/v1/cluster/metrics", resource_manager()));
    said.is_some_and(|said| said["clusterMetrics"]["activeNodes"].as_u64() >= Some(workers.into()))
}
