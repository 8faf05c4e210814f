//! Hadoop's configuration for one daemon of the lab. Everything not said is Hadoop's default; why something is said stands beside it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Whose configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// ResourceManager, NameNode, and clients.
    Master,
    /// NodeManager and DataNode number `n`, from 1.
    Worker(u32),
}

impl Role {
    pub(super) fn name(self) -> String {
        match self {
            Role::Master => "master".to_owned(),
            Role::Worker(n) => format!("worker{n}"),
        }
    }

    fn number(self) -> u32 {
        match self {
            Role::Master => 0,
            Role::Worker(n) => n,
        }
    }

    /// Loopback addresses of their own: YARN knows nodes by host name, and plain addresses work as names.
    pub(super) fn host(self) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 0, 10 + u8::try_from(self.number()).unwrap_or(0))
    }

    /// A DataNode's port for data: the NameNode sees each of them come from 127.0.0.1, so they differ by this.
    pub(super) fn transfer_port(self) -> u32 {
        9900 + self.number()
    }
}

/// What a worker advertises at first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    pub(super) memory_mb: u32,
    pub(super) vcores: u32,
}

/// Where things are.
pub(super) struct Places<'a> {
    pub(super) directory: &'a Path,
    pub(super) jars: &'a Path,
}

impl Places<'_> {
    pub(super) fn conf(&self, role: Role) -> PathBuf {
        self.directory.join("conf").join(role.name())
    }

    /// NodeManagers that are to leave.
    pub(super) fn exclude(&self) -> PathBuf {
        self.directory.join("conf/yarn-exclude.xml")
    }

    /// DataNodes that are not in plain service.
    pub(super) fn hosts(&self) -> PathBuf {
        self.directory.join("conf/dfs-hosts.json")
    }

    /// Writes the configuration of a role. Lists of hosts are made once and then belong to whoever drains.
    pub(super) fn write(&self, role: Role, offer: Offer) -> Result<()> {
        let conf = self.conf(role);
        // The jar has no web applications, and the daemons look for them; without any, /jmx answers all the same.
        for webapp in ["webapps/hdfs", "webapps/datanode"] {
            fs::create_dir_all(conf.join(webapp)).with_context(|| format!("making {}", conf.display()))?;
        }
        for (file, empty) in [(self.exclude(), "<hosts></hosts>\n"), (self.hosts(), "[]\n")] {
            if !file.exists() {
                fs::write(file, empty)?;
            }
        }
        let master = Role::Master.host();
        let files = [
            ("core-site.xml", self.core(role, master)),
            ("hdfs-site.xml", self.hdfs(role, master)),
            ("yarn-site.xml", self.yarn(role, master, offer)),
            ("mapred-site.xml", self.mapred(role)),
            ("capacity-scheduler.xml", scheduler()),
        ];
        for (name, properties) in files {
            fs::write(conf.join(name), xml(&properties))?;
        }
        fs::write(conf.join("log4j.properties"), LOG)?;
        Ok(())
    }

    /// Where a DataNode's blocks are.
    pub(super) fn blocks(&self, role: Role) -> PathBuf {
        self.directory.join("data").join(role.name()).join("blocks")
    }

    fn data(&self, role: Role, what: &str) -> String {
        self.directory.join("data").join(role.name()).join(what).display().to_string()
    }

    fn core(&self, role: Role, master: Ipv4Addr) -> Properties {
        vec![
            ("fs.defaultFS", format!("hdfs://{master}:8020")),
            ("hadoop.tmp.dir", self.data(role, "tmp")),
            // A client fails soon when there is nobody.
            ("ipc.client.connect.max.retries", "3".into()),
        ]
    }

    fn hdfs(&self, role: Role, master: Ipv4Addr) -> Properties {
        let host = role.host();
        vec![
            ("dfs.namenode.name.dir", self.data(Role::Master, "name")),
            ("dfs.namenode.rpc-address", format!("{master}:8020")),
            ("dfs.namenode.http-address", format!("{master}:9870")),
            ("dfs.replication", "2".into()),
            // Blocks enough with little data.
            ("dfs.blocksize", (4 << 20).to_string()),
            // A disk needs 1 GiB beyond a block, if nobody says otherwise: more than ours have.
            ("dfs.datanode.round-robin-volume-choosing-policy.additional-available-space", "0".into()),
            // The balancer leaves blocks below 10 MiB where they are, if nobody says otherwise.
            ("dfs.balancer.getBlocks.min-block-size", "1".into()),
            ("dfs.permissions.enabled", "false".into()),
            // A small cluster needs no time to settle; defaults are 30 s, 3 s, 30 s, 5 min, 3 s.
            ("dfs.namenode.safemode.extension", "0".into()),
            ("dfs.namenode.redundancy.interval.seconds", "1".into()),
            ("dfs.namenode.decommission.interval", "1".into()),
            ("dfs.namenode.heartbeat.recheck-interval", "5000".into()),
            ("dfs.heartbeat.interval", "1".into()),
            (
                "dfs.namenode.hosts.provider.classname",
                "org.apache.hadoop.hdfs.server.blockmanagement.CombinedHostFileManager".into(),
            ),
            ("dfs.hosts", self.hosts().display().to_string()),
            // DataNodes are reached by the name they gave, not by the address that they came from.
            ("dfs.client.use.datanode.hostname", "true".into()),
            ("dfs.datanode.use.datanode.hostname", "true".into()),
            ("dfs.datanode.hostname", host.to_string()),
            ("dfs.datanode.data.dir", self.blocks(role).display().to_string()),
            ("dfs.datanode.address", format!("{host}:{}", role.transfer_port())),
            ("dfs.datanode.http.address", format!("{host}:9864")),
            ("dfs.datanode.ipc.address", format!("{host}:9867")),
        ]
    }

    fn yarn(&self, role: Role, master: Ipv4Addr, offer: Offer) -> Properties {
        let host = role.host();
        vec![
            ("yarn.resourcemanager.hostname", master.to_string()),
            ("yarn.resourcemanager.nodes.exclude-path", self.exclude().display().to_string()),
            // Defaults are 20 s, 1 s, 10 min, 10 min / 3.
            ("yarn.resourcemanager.decommissioning-nodes-watcher.poll-interval-secs", "1".into()),
            ("yarn.resourcemanager.nodemanagers.heartbeat-interval-ms", "500".into()),
            ("yarn.nm.liveness-monitor.expiry-interval-ms", "30000".into()),
            ("yarn.resourcemanager.nm.liveness-monitor.interval-ms", "1000".into()),
            ("yarn.scheduler.minimum-allocation-mb", "128".into()),
            ("yarn.scheduler.maximum-allocation-mb", "2048".into()),
            ("yarn.resourcemanager.am.max-attempts", "2".into()),
            (
                "yarn.application.classpath",
                format!("{},{}/*", self.conf(Role::Master).display(), self.jars.display()),
            ),
            // A NodeManager that comes before the ResourceManager asks again soon; the default is 30 s.
            ("yarn.resourcemanager.connect.retry-interval.ms", "1000".into()),
            // Who may change nodes by RPC: the default is anybody.
            ("yarn.admin.acl", user()),
            // Applications survive a restart of the ResourceManager.
            ("yarn.resourcemanager.recovery.enabled", "true".into()),
            (
                "yarn.resourcemanager.store.class",
                "org.apache.hadoop.yarn.server.resourcemanager.recovery.FileSystemRMStateStore".into(),
            ),
            ("yarn.resourcemanager.fs.state-store.uri", format!("file://{}", self.data(Role::Master, "rm"))),
            ("yarn.resourcemanager.work-preserving-recovery.scheduling-wait-ms", "2000".into()),
            ("yarn.nodemanager.hostname", host.to_string()),
            ("yarn.nodemanager.address", format!("{host}:8041")),
            ("yarn.nodemanager.localizer.address", format!("{host}:8040")),
            ("yarn.nodemanager.webapp.address", format!("{host}:8042")),
            ("yarn.nodemanager.resource.memory-mb", offer.memory_mb.to_string()),
            ("yarn.nodemanager.resource.cpu-vcores", offer.vcores.to_string()),
            ("yarn.nodemanager.vmem-check-enabled", "false".into()),
            // A disk that is 90 % full, the default, makes a node unhealthy: a developer's may be.
            ("yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage", "99.5".into()),
            ("yarn.nodemanager.local-dirs", self.data(role, "local")),
            ("yarn.nodemanager.log-dirs", self.data(role, "logs")),
            ("yarn.nodemanager.aux-services", "mapreduce_shuffle".into()),
            (
                "yarn.nodemanager.aux-services.mapreduce_shuffle.class",
                "org.apache.hadoop.mapred.ShuffleHandler".into(),
            ),
        ]
    }

    fn mapred(&self, role: Role) -> Properties {
        let java = |heap: u32| format!("-Xmx{heap}m -XX:+UseSerialGC -XX:TieredStopAtLevel=1");
        vec![
            ("mapreduce.framework.name", "yarn".into()),
            ("mapreduce.application.classpath", format!("{}/*", self.jars.display())),
            // No history server.
            ("mapreduce.jobhistory.address", String::new()),
            ("yarn.app.mapreduce.am.resource.mb", "512".into()),
            ("yarn.app.mapreduce.am.command-opts", java(256)),
            ("mapreduce.map.memory.mb", "256".into()),
            ("mapreduce.map.java.opts", java(128)),
            ("mapreduce.reduce.memory.mb", "256".into()),
            ("mapreduce.reduce.java.opts", java(128)),
            ("mapreduce.task.io.sort.mb", "24".into()),
            // The shuffle service listens on all addresses: a port for each worker. In yarn-site.xml it would be overridden by the
            // defaults of MapReduce, which are read later.
            ("mapreduce.shuffle.port", (13_560 + role.number()).to_string()),
        ]
    }
}

type Properties = Vec<(&'static str, String)>;

fn scheduler() -> Properties {
    let calculator = "org.apache.hadoop.yarn.util.resource.DominantResourceCalculator";
    vec![
        ("yarn.scheduler.capacity.root.queues", "default".into()),
        ("yarn.scheduler.capacity.root.default.capacity", "100".into()),
        ("yarn.scheduler.capacity.maximum-am-resource-percent", "0.5".into()),
        ("yarn.scheduler.capacity.resource-calculator", calculator.into()),
    ]
}

fn user() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid())
        .ok()
        .flatten()
        .map_or_else(String::new, |user| user.name)
}

const LOG: &str = "log4j.rootLogger=INFO,console\n\
                   log4j.appender.console=org.apache.log4j.ConsoleAppender\n\
                   log4j.appender.console.target=System.err\n\
                   log4j.appender.console.layout=org.apache.log4j.PatternLayout\n\
                   log4j.appender.console.layout.ConversionPattern=%d{ISO8601} %p %c{1}: %m%n\n";

fn xml(properties: &[(&str, String)]) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let lines: String = properties
        .iter()
        .map(|(name, value)| {
            format!("  <property><name>{name}</name><value>{}</value></property>\n", escape(value))
        })
        .collect();
    format!("<?xml version=\"1.0\"?>\n<configuration>\n{lines}</configuration>\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a fault of a test is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn workers_differ_in_all_that_they_listen_on_and_lists_of_hosts_are_kept() {
        let directory = std::env::temp_dir().join(format!("trimtab-lab-conf-{}", std::process::id()));
        let places = Places { directory: &directory, jars: Path::new("/a&b") };
        let offer = Offer { memory_mb: 1024, vcores: 4 };
        for role in [Role::Master, Role::Worker(1), Role::Worker(2)] {
            places.write(role, offer).unwrap();
        }
        fs::write(places.exclude(), "<hosts><host><name>127.0.0.11</name></host></hosts>").unwrap();
        places.write(Role::Master, offer).unwrap();
        let read = |role, file: &str| fs::read_to_string(places.conf(role).join(file)).unwrap();
        for (file, key) in [
            ("mapred-site.xml", "mapreduce.shuffle.port"),
            ("hdfs-site.xml", "dfs.datanode.address"),
            ("yarn-site.xml", "yarn.nodemanager.address"),
            ("yarn-site.xml", "yarn.nodemanager.local-dirs"),
        ] {
            let line = |role| {
                let text = read(role, file);
                text.lines().find(|line| line.contains(key)).unwrap().to_owned()
            };
            assert_ne!(line(Role::Worker(1)), line(Role::Worker(2)), "{key}");
        }
        assert!(read(Role::Master, "mapred-site.xml").contains("/a&amp;b/*"));
        let kept = fs::read_to_string(places.exclude()).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        assert!(kept.contains("127.0.0.11"), "who drains owns this list: {kept}");
    }
}
