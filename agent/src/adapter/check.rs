//! A look at every configured cluster, for `trimtab-agent check`: whether it answers, and what is dangerous about it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use agent_core::advice::{self, Finding};
use model::adapter::AdapterReport;
use tokio::sync::mpsc;

use super::cassandra::Cassandra;
use super::get;
use super::hdfs::Hdfs;
use super::job::Jobs;
use super::yarn::Yarn;
use crate::settings::Clusters;

/// Longest wait for a setting of the ResourceManager.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Looks at all of them, one after the other.
pub async fn clusters(clusters: &Clusters) -> Vec<Finding> {
    // Nothing is changed, so no job is asked for.
    let jobs = Jobs::new(mpsc::channel(1).0);
    let mut findings = Vec::new();
    for config in &clusters.yarn {
        match Yarn::new(config, jobs.clone()).read().await {
            AdapterReport::Yarn(report) => {
                let listens = address(&config.url).map(|at| listeners(at.port())).unwrap_or_default();
                findings.extend(advice::yarn(&report, recovery(&config.url).await, &listens));
            }
            other => findings.extend(silent(&format!("yarn {}", config.cluster), other)),
        }
    }
    for config in &clusters.hdfs {
        let hdfs = Hdfs::new(config, jobs.clone());
        match hdfs.read().await {
            AdapterReport::Hdfs(report) => findings.extend(advice::hdfs(&report, hdfs.listed())),
            other => findings.extend(silent(&format!("hdfs {}", config.cluster), other)),
        }
    }
    for config in &clusters.cassandra {
        match Cassandra::new(config).read().await {
            AdapterReport::Cassandra(report) => findings.extend(advice::cassandra(&report)),
            other => findings.extend(silent(&format!("cassandra {} {}", config.cluster, config.url), other)),
        }
    }
    findings
}

fn silent(check: &str, report: AdapterReport) -> Option<Finding> {
    let AdapterReport::Unreachable { why, .. } = report else { return None };
    Some(Finding::bad(check, why, "start it, or correct its url in agent.toml"))
}

fn address(url: &str) -> Option<SocketAddr> {
    let rest = url.strip_prefix("http://")?;
    let address = rest.split('/').next()?.replace("localhost:", "127.0.0.1:");
    address.parse().ok()
}

/// Whether the ResourceManager says that it recovers; it answers in the form of Hadoop's own files.
async fn recovery(url: &str) -> Option<bool> {
    let asked = format!("{}/conf?name=yarn.resourcemanager.recovery.enabled", url.trim_end_matches('/'));
    let (status, body) = get(&asked, TIMEOUT).await.ok()?;
    let text = String::from_utf8_lossy(&body).into_owned();
    let value = text.split("<value>").nth(1)?.split('<').next()?.trim().to_owned();
    (status == 200).then(|| value == "true")
}

/// State of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Addresses on which something listens on a port.
fn listeners(port: u16) -> Vec<IpAddr> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|file| std::fs::read_to_string(file).unwrap_or_default());
    tables.iter().flat_map(|table| listed(table, port)).collect()
}

fn listed(table: &str, port: u16) -> Vec<IpAddr> {
    let of = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, _remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        let (ip, at) = local.split_once(':')?;
        (state == LISTEN && u16::from_str_radix(at, 16) == Ok(port)).then(|| parse(ip)).flatten()
    };
    table.lines().skip(1).filter_map(of).collect()
}

/// The kernel writes an address as words of four bytes in the host's order.
fn parse(hex: &str) -> Option<IpAddr> {
    let words: Vec<u32> = (0..hex.len() / 8)
        .map(|n| u32::from_str_radix(hex.get(n * 8..n * 8 + 8)?, 16).ok())
        .collect::<Option<_>>()?;
    match words[..] {
        [word] => Some(Ipv4Addr::from(word.to_ne_bytes()).into()),
        [a, b, c, d] => {
            let mut bytes = [0; 16];
            for (n, word) in [a, b, c, d].into_iter().enumerate() {
                bytes[n * 4..n * 4 + 4].copy_from_slice(&word.to_ne_bytes());
            }
            let ip = Ipv6Addr::from(bytes);
            Some(ip.to_ipv4_mapped().map_or(ip.into(), Into::into))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_found_with_their_addresses() {
        let local = std::net::TcpListener::bind("127.0.0.7:0").unwrap();
        let port = local.local_addr().unwrap().port();
        assert_eq!(listeners(port), [IpAddr::from([127, 0, 0, 7])]);
        drop(local);
        assert_eq!(listeners(port), Vec::<IpAddr>::new());
        if let Ok(open) = std::net::TcpListener::bind("[::]:0") {
            let found = listeners(open.local_addr().unwrap().port());
            assert!(found.iter().all(|ip| ip.is_unspecified()) && !found.is_empty(), "{found:?}");
        }
    }

    #[test]
    fn an_address_is_read_from_the_kernels_words() {
        assert_eq!(parse(&format!("{:08X}", u32::from_ne_bytes([10, 0, 0, 7]))), Some([10, 0, 0, 7].into()));
        let mapped = format!(
            "{:08X}{:08X}{:08X}{:08X}",
            0,
            0,
            u32::from_ne_bytes([0, 0, 255, 255]),
            u32::from_ne_bytes([10, 0, 0, 7])
        );
        assert_eq!(parse(&mapped), Some([10, 0, 0, 7].into()));
        assert_eq!((parse("zz"), parse("")), (None, None));
    }
}
