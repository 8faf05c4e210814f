//! Other programs that read the same cgroups or processes once a second, measured as our agent is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::{Bench, SETTLE, Subject, inside, measure, stop};
use crate::up::install;

/// What a peer cost.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) cpu_core_pct: f64,
    pub(super) rss_kib: u64,
}

/// A peer that was not measured.
#[derive(Debug, Serialize)]
pub(super) struct Missing {
    pub(super) name: String,
    pub(super) why: String,
}

struct Peer {
    name: &'static str,
    /// Debian's package of it.
    package: &'static str,
    command: &'static [&'static str],
    /// It works only when somebody asks it: once a second, as Prometheus would.
    scraped: bool,
    /// It looks for cgroups on the v1 hierarchy of this controller, and nowhere else.
    legacy: Option<&'static str>,
}

const PEERS: &[Peer] = &[
    Peer {
        name: "systemd-cgtop",
        package: "systemd",
        command: &["systemd-cgtop", "--batch", "--delay=1", "--iterations=0", "--depth=9"],
        scraped: false,
        legacy: None,
    },
    Peer {
        name: "collectd",
        package: "collectd-core",
        command: &["collectd", "-f", "-C", "{dir}/collectd.conf"],
        scraped: false,
        // src/cgroups.c of collectd 5.12 walks the first level of the mount with the option `cpuacct`.
        legacy: Some("cpuacct"),
    },
    Peer {
        name: "process-exporter",
        package: "prometheus-process-exporter",
        command: &[
            "prometheus-process-exporter",
            "-procnames",
            "xtask",
            "-web.listen-address",
            "127.0.0.1:{port}",
        ],
        scraped: true,
        legacy: None,
    },
    Peer {
        name: "atop",
        package: "atop",
        command: &["atop", "-w", "{dir}/atop.raw", "1"],
        scraped: false,
        legacy: None,
    },
];

/// Peers that no package offers: they are named, so that nobody takes the list for complete.
const UNPACKAGED: &[(&str, &str)] = &[
    ("Rezolus", "no Debian package; its build from source needs clang and a BTF without `__parent`"),
    ("below", "no Debian package"),
    ("Telegraf", "no Debian package"),
    ("cAdvisor", "no Debian package"),
];

/// Measures each peer on the population of `bench`, one after the other.
pub(super) fn measure_all(bench: &mut Bench, length: Duration) -> Result<(Vec<Measured>, Vec<Missing>)> {
    let (mut peers, mut missing) = (Vec::new(), Vec::new());
    for peer in PEERS {
        match one(bench, peer, length) {
            Ok(measured) => peers.push(measured),
            Err(error) => {
                let why = format!("{error:#}");
                println!("    {}: NOT MEASURED: {why}", peer.name);
                missing.push(Missing { name: peer.name.to_owned(), why });
            }
        }
    }
    let unpackaged = |(name, why): &(&str, &str)| Missing { name: (*name).into(), why: (*why).into() };
    missing.extend(UNPACKAGED.iter().map(unpackaged));
    Ok((peers, missing))
}

fn one(bench: &mut Bench, peer: &Peer, length: Duration) -> Result<Measured> {
    if !install::installed(peer.package) {
        install::apt(&[peer.package])?;
    }
    if let Some(controller) = peer.legacy {
        populate(bench, controller)?;
    }
    println!("==> peer {}, {} s", peer.name, length.as_secs());
    fs::write(bench.directory.join("collectd.conf"), collectd(&bench.directory))?;
    let directory = bench.directory.display().to_string();
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
    let filled: Vec<String> =
        peer.command.iter().map(|a| a.replace("{dir}", &directory).replace("{port}", &port)).collect();
    let log = fs::File::create(bench.directory.join(format!("{}.log", peer.name)))?;
    let mut start = Command::new(&filled[0]);
    start.args(&filled[1..]).stdout(Stdio::null()).stderr(log);
    let cgroup = bench.top.join(format!("peer-{}", peer.name));
    let child = inside(&cgroup, &mut start)?;
    let subject = Subject { cgroup, pid: child.id(), http: None };
    bench.programs.push(child);
    std::thread::sleep(SETTLE);
    let url = peer.scraped.then(|| format!("http://127.0.0.1:{port}/metrics"));
    let figures = scraping(url.as_deref(), || measure(&subject, length));
    let ended = bench.programs.last_mut().map(|child| child.try_wait()).transpose()?.flatten();
    stop(bench)?;
    if let Some(status) = ended {
        let log = fs::read_to_string(bench.directory.join(format!("{}.log", peer.name))).unwrap_or_default();
        bail!("it ended with {status}: {}", log.lines().last().unwrap_or("no word why"));
    }
    let figures = figures?;
    ensure!(figures.cpu_pct > 0.0, "it did nothing");
    Ok(Measured {
        name: peer.name.to_owned(),
        version: version(peer.package),
        cpu_core_pct: figures.cpu_pct,
        rss_kib: figures.rss_kib,
    })
}

/// Reads a page once a second while `work` goes on. A page that cannot be read is an error: the peer would look cheap.
fn scraping<T>(url: Option<&str>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(url) = url else { return work() };
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let scraper = scope.spawn(|| -> Result<u64> {
            let mut pages = 0;
            while !is_over.load(Ordering::Relaxed) {
                let mut page = ureq::get(url).call().with_context(|| format!("reading {url}"))?;
                page.body_mut().read_to_string()?;
                pages += 1;
                std::thread::sleep(Duration::from_secs(1));
            }
            Ok(pages)
        });
        let result = work();
        is_over.store(true, Ordering::Relaxed);
        let pages = scraper.join().unwrap_or_else(|_| bail!("the scraper panicked"))?;
        ensure!(pages > 0, "{url} was never read");
        result
    })
}

/// Puts the population also on a v1 hierarchy, where a peer looks for it: directly below the root, the only level that collectd reads.
fn populate(bench: &mut Bench, controller: &str) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    let mount = mounts.lines().find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, path, "cgroup", options, ..] = words[..] else { return None };
        options.split(',').any(|option| option == controller).then(|| PathBuf::from(path))
    });
    let Some(mount) = mount else {
        bail!("it reads only the v1 hierarchy of {controller}, which is not mounted here");
    };
    for (number, child) in bench.population.iter().enumerate() {
        let cgroup = mount.join(format!("trimtab-bench-{}-c{number:05}", std::process::id()));
        fs::create_dir(&cgroup).with_context(|| format!("making {}", cgroup.display()))?;
        bench.legacy.push(cgroup.clone());
        fs::write(cgroup.join("cgroup.procs"), child.id().to_string())
            .with_context(|| format!("moving a process to {}", cgroup.display()))?;
    }
    Ok(())
}

/// Values go where they cost least: as text to standard output, which nobody keeps.
fn collectd(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "Interval 1\nBaseDir \"{directory}\"\nPIDFile \"{directory}/collectd.pid\"\nLoadPlugin cgroups\nLoadPlugin csv\n\
         <Plugin cgroups>\n  IgnoreSelected true\n</Plugin>\n<Plugin csv>\n  DataDir \"stdout\"\n</Plugin>\n"
    )
}

fn version(package: &str) -> String {
    let output = Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default()
}
