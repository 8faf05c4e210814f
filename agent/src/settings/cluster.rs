//! `[[yarn]]`, `[[hdfs]]`, `[[cassandra]]`: clusters that this host's agent reads, and may change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use agent_core::launcher::Launcher;
use model::id::WorkloadName;
use serde::Deserialize;

/// A ResourceManager on this host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct YarnFragment {
    /// Name of the cluster, as specifications say it.
    pub cluster: String,
    /// Where its REST interface is, for example `http://127.0.0.1:8088`.
    pub url: String,
    /// The exclude list that it reads (`yarn.resourcemanager.nodes.exclude-path`), an `.xml` file. Absent = no node is drained.
    #[serde(default)]
    pub exclude: Option<PathBuf>,
    /// The launcher that lets it read the list anew: `yarn rmadmin -refreshNodes -g {seconds} -server`.
    #[serde(default)]
    pub refresh: Option<String>,
}

/// A NameNode on this host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HdfsFragment {
    /// Name of the cluster, as specifications say it.
    pub cluster: String,
    /// Where its web interface is, for example `http://127.0.0.1:9870`.
    pub url: String,
    /// The list of hosts that it reads (`dfs.hosts`, with `CombinedHostFileManager`). Absent = no node is decommissioned.
    #[serde(default)]
    pub hosts: Option<PathBuf>,
    /// The launcher that lets it read the list anew: `hdfs dfsadmin -refreshNodes`.
    #[serde(default)]
    pub refresh: Option<String>,
    /// The launcher that moves blocks until all disks are about as full: `hdfs balancer`. Absent = a node that comes is filled by new blocks only.
    #[serde(default)]
    pub balance: Option<String>,
}

/// A Cassandra node on this host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CassandraFragment {
    /// Name of the cluster, as specifications say it.
    pub cluster: String,
    /// Where its Jolokia agent is, for example `http://127.0.0.1:8778/jolokia/`.
    pub url: String,
    /// Its address in the ring (`broadcast_address`). Learnt while it is a member; without this, one that left before the agent started is
    /// nobody's.
    #[serde(default)]
    pub address: Option<IpAddr>,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clusters {
    /// ResourceManagers.
    pub yarn: Vec<YarnFragment>,
    /// NameNodes.
    pub hdfs: Vec<HdfsFragment>,
    /// Cassandra nodes.
    pub cassandra: Vec<CassandraFragment>,
}

/// What a URL must begin with, and how it goes on.
const FORM: &str =
    "write http://ADDRESS:PORT with an address of this host, for example http://127.0.0.1:8088";

/// The address in a URL.
///
/// # Errors
/// What a URL here must look like.
pub fn address(url: &str) -> Result<SocketAddr, String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url:?}: {FORM}"))?;
    let address = rest.split('/').next().unwrap_or_default().replace("localhost:", "127.0.0.1:");
    address.parse().map_err(|_| format!("{url:?}: {FORM}"))
}

/// Whether a URL is one of this host: what it says goes over no network, and whoever answers is who the owner means.
fn endpoint(url: &str) -> Result<(), String> {
    let address = address(url)?;
    if url.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return Err(format!("{url:?} has a character that a URL does not have"));
    }
    if is_of_this_host(address.ip()) {
        Ok(())
    } else {
        Err(format!(
            "{} is no address of this host: the agent on its own host reads and changes it",
            address.ip()
        ))
    }
}

/// The kernel lets nobody bind to an address that is not here.
fn is_of_this_host(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

impl Clusters {
    /// Each cluster with its kind in front: what a command may name.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        let yarn = self.yarn.iter().map(|c| format!("yarn {}", c.cluster));
        let hdfs = self.hdfs.iter().map(|c| format!("hdfs {}", c.cluster));
        let cassandra = self.cassandra.iter().map(|c| format!("cassandra {}", c.cluster));
        yarn.chain(hdfs).chain(cassandra).collect()
    }

    /// What is wrong with them, each fault with its key.
    #[must_use]
    pub fn faults(&self, launchers: &BTreeMap<String, Launcher>) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let lists = |cluster: &str, list: (&str, Option<&PathBuf>), refresh: Option<&String>| {
            let (key, path) = list;
            match (path, refresh) {
                (None, None) => None,
                (Some(path), _) if !path.is_absolute() => {
                    Some(format!("{cluster}: {key} {} must be an absolute path", path.display()))
                }
                (Some(_), Some(launcher)) if !launchers.contains_key(launcher) => {
                    Some(format!("{cluster}: refresh {launcher:?} is no launcher in launch.d"))
                }
                (Some(_), Some(_)) => None,
                _ => Some(format!("{cluster}: {key} and refresh belong together")),
            }
        };
        for one in &self.yarn {
            faults.extend(common(&one.cluster, &one.url).map(|why| ("yarn", why)));
            let list = ("exclude", one.exclude.as_ref());
            faults.extend(lists(&one.cluster, list, one.refresh.as_ref()).map(|why| ("yarn", why)));
            if let Some(path) = one.exclude.as_ref().filter(|p| p.extension().is_none_or(|e| e != "xml")) {
                let why = "must end in .xml: timeouts per host are read from XML only";
                faults.push(("yarn", format!("{}: exclude {} {why}", one.cluster, path.display())));
            }
        }
        for one in &self.hdfs {
            faults.extend(common(&one.cluster, &one.url).map(|why| ("hdfs", why)));
            let list = ("hosts", one.hosts.as_ref());
            faults.extend(lists(&one.cluster, list, one.refresh.as_ref()).map(|why| ("hdfs", why)));
            if let Some(launcher) = one.balance.as_ref().filter(|launcher| !launchers.contains_key(*launcher))
            {
                let why = format!("{}: balance {launcher:?} is no launcher in launch.d", one.cluster);
                faults.push(("hdfs", why));
            }
        }
        for one in &self.cassandra {
            faults.extend(common(&one.cluster, &one.url).map(|why| ("cassandra", why)));
        }
        let twice = |names: Vec<&String>| {
            let mut seen = BTreeSet::new();
            names.into_iter().find(|name| !seen.insert(*name)).cloned()
        };
        let once = [
            ("yarn", twice(self.yarn.iter().map(|c| &c.cluster).collect())),
            ("hdfs", twice(self.hdfs.iter().map(|c| &c.cluster).collect())),
            // A host may have several nodes of one ring.
            ("cassandra", twice(self.cassandra.iter().map(|c| &c.url).collect())),
        ];
        faults.extend(
            once.into_iter().filter_map(|(kind, name)| Some((kind, format!("{} is there twice", name?)))),
        );
        faults
    }
}

fn common(cluster: &str, url: &str) -> impl Iterator<Item = String> {
    let name = cluster.parse::<WorkloadName>().err().map(|why| format!("cluster {cluster:?}: {why}"));
    name.into_iter().chain(endpoint(url).err().map(|why| format!("{cluster}: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yarn(url: &str, exclude: Option<&str>, refresh: Option<&str>) -> Clusters {
        let one = YarnFragment {
            cluster: "batch".into(),
            url: url.into(),
            exclude: exclude.map(PathBuf::from),
            refresh: refresh.map(str::to_owned),
        };
        Clusters { yarn: vec![one], ..Clusters::default() }
    }

    fn faults(clusters: &Clusters) -> String {
        let launcher = toml::from_str("command = ['/usr/bin/yarn']\nallow_root = true").unwrap();
        let launchers = BTreeMap::from([("yarn-refresh".to_owned(), launcher)]);
        clusters.faults(&launchers).into_iter().map(|(key, why)| format!("{key}: {why}\n")).collect()
    }

    #[test]
    fn what_moves_blocks_must_be_a_launcher() {
        let of = |balance: &str| {
            let one = HdfsFragment {
                cluster: "store".into(),
                url: "http://127.0.0.1:9870".into(),
                hosts: None,
                refresh: None,
                balance: Some(balance.to_owned()),
            };
            faults(&Clusters { hdfs: vec![one], ..Clusters::default() })
        };
        assert_eq!(of("yarn-refresh"), "");
        assert!(of("nothing").contains("balance \"nothing\" is no launcher"));
    }

    #[test]
    fn only_endpoints_of_this_host_are_asked() {
        for url in ["http://127.0.0.1:8088", "http://localhost:8088", "http://127.0.0.10:8088/"] {
            assert_eq!(faults(&yarn(url, None, None)), "", "{url}");
        }
        for url in ["https://127.0.0.1:1", "127.0.0.1:8088", "http://rm.example:8088", "http://127.0.0.1"] {
            assert!(faults(&yarn(url, None, None)).contains("write http://"), "{url}");
        }
        // An address of nobody (RFC 5737).
        assert!(faults(&yarn("http://192.0.2.1:8088", None, None)).contains("no address of this host"));
        assert!(faults(&yarn("http://127.0.0.1:8088/a b", None, None)).contains("a character"));
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let mut clusters = yarn("http://192.0.2.1:8088", Some("list"), None);
        clusters.yarn[0].cluster = "Batch 1".into();
        let said = faults(&clusters);
        for part in ["not allowed", "no address of this host", "absolute", ".xml"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn a_list_needs_the_launcher_that_has_it_read() {
        let of = |exclude, refresh| faults(&yarn("http://127.0.0.1:8088", exclude, refresh));
        assert_eq!(of(Some("/etc/hadoop/exclude.xml"), Some("yarn-refresh")), "");
        assert!(of(Some("/etc/hadoop/exclude.xml"), None).contains("belong together"));
        assert!(of(None, Some("yarn-refresh")).contains("belong together"));
        assert!(of(Some("/etc/hadoop/exclude.xml"), Some("other")).contains("no launcher"));
        assert!(of(Some("exclude.xml"), Some("yarn-refresh")).contains("absolute"));
        assert!(of(Some("/etc/hadoop/exclude"), Some("yarn-refresh")).contains(".xml"));
    }

    #[test]
    fn a_cluster_is_named_once_and_a_host_may_have_many_nodes_of_a_ring() {
        let mut clusters = yarn("http://127.0.0.1:8088", None, None);
        clusters.yarn.push(clusters.yarn[0].clone());
        let node = |url: &str| CassandraFragment { cluster: "ring".into(), url: url.into(), address: None };
        clusters.cassandra = vec![node("http://127.0.0.1:8778"), node("http://127.0.0.2:8778")];
        assert_eq!(faults(&clusters), "yarn: batch is there twice\n");
        assert_eq!(clusters.names().into_iter().collect::<Vec<_>>(), ["cassandra ring", "yarn batch"]);
    }
}
