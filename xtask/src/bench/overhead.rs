//! `cargo xtask bench overhead`: the agent's cost, read from the kernel's ledger of the agent's own cgroup.
//!
//! A population of cgroups with one process each, first all asleep, then all waking ten times a second. The agent
//! streams to a live autoscaler. Each peer gets the same population afterwards, in the same run. CPU comes from
//! cpu.stat of the measured program's own cgroup: user and kernel time, with nothing else in it.

mod peers;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::daemons;
use crate::cgroup::{cpu_us, rss_kib, unified_mount};
use crate::up::install;
use peers::{Measured, Missing};

/// Options of `cargo xtask bench overhead`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Cgroups.
    #[arg(long, default_value_t = 1000)]
    cgroups: usize,
    /// Length of each measurement, seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Also measure the peers that can be installed here.
    #[arg(long)]
    peers: bool,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Report {
    cgroups: usize,
    hz: f64,
    seconds: u64,
    /// All cgroups active.
    agent_cpu_core_pct: f64,
    /// All cgroups asleep.
    agent_cpu_core_pct_idle: f64,
    /// Run time of the kernel programs, all cgroups active; measured in a run of its own, because measuring costs.
    bpf_cpu_core_pct: f64,
    agent_rss_kib: u64,
    wire_bytes_active: f64,
    wire_bytes_idle: f64,
    peers: Vec<Measured>,
    /// Peers that were wanted and not measured.
    peers_missing: Vec<Missing>,
    kernel: String,
    load_average: String,
}

const SETTLE: Duration = Duration::from_secs(8);

/// A hidden command: one process of the population. Wakes when told to on standard input's file of the population.
pub(crate) fn sleeper(control: &Path) -> ! {
    loop {
        if control.exists() {
            let until = Instant::now() + Duration::from_micros(30);
            while Instant::now() < until {}
            std::thread::sleep(Duration::from_millis(100));
        } else {
            std::thread::sleep(Duration::from_secs(2));
        }
    }
}

/// Everything that must be gone at the end.
struct Bench {
    top: PathBuf,
    directory: PathBuf,
    population: Vec<Child>,
    programs: Vec<Child>,
    /// Cgroups of the population on a v1 hierarchy, where peers look.
    legacy: Vec<PathBuf>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        for child in self.programs.iter_mut().chain(&mut self.population) {
            let _ = child.kill();
        }
        for child in self.programs.iter_mut().chain(&mut self.population) {
            let _ = child.wait();
        }
        for cgroup in fs::read_dir(&self.top).into_iter().flatten().filter_map(Result::ok) {
            let _ = fs::remove_dir(cgroup.path());
        }
        for cgroup in &self.legacy {
            let _ = fs::remove_dir(cgroup);
        }
        let _ = fs::remove_dir(&self.top);
        let _ = fs::remove_dir_all(&self.directory);
    }
}

pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "making cgroups needs root");
    let bin = install::build(root, false)?;
    let unified = unified_mount()?;
    let id = std::process::id();
    let mut bench = Bench {
        top: unified.join(format!("trimtab-bench-{id}")),
        directory: std::env::temp_dir().join(format!("trimtab-bench-{id}")),
        population: Vec::new(),
        programs: Vec::new(),
        legacy: Vec::new(),
    };
    fs::create_dir_all(&bench.directory)?;
    fs::create_dir(&bench.top)?;
    println!("==> {} cgroups with a process each", args.cgroups);
    let awake = bench.directory.join("awake");
    for number in 0..args.cgroups {
        let child = inside(&bench.top.join(format!("c{number:05}")), &mut sleeper_command(&awake)?)?;
        bench.population.push(child);
    }
    bench.programs.push(daemons::autoscaler(&bin, &bench.directory)?);

    let length = Duration::from_secs(args.seconds);
    let agent = agent(&mut bench, &bin, false)?;
    std::thread::sleep(SETTLE);
    println!("==> all asleep, {} s", args.seconds);
    let idle = measure(&agent, length)?;
    fs::write(&awake, "")?;
    std::thread::sleep(SETTLE);
    println!("==> all active, {} s", args.seconds);
    let active = measure(&agent, length)?;
    stop(&mut bench)?;
    println!("==> kernel programs, 15 s");
    let measured = self::agent(&mut bench, &bin, true)?;
    std::thread::sleep(SETTLE);
    let programs = measure(&measured, Duration::from_secs(15))?;
    stop(&mut bench)?;
    let (peers, peers_missing) =
        if args.peers { peers::measure_all(&mut bench, length)? } else { Default::default() };
    let tasks = args.cgroups as f64;
    let report = Report {
        cgroups: args.cgroups,
        hz: 1.0,
        seconds: args.seconds,
        agent_cpu_core_pct: active.cpu_pct,
        agent_cpu_core_pct_idle: idle.cpu_pct,
        bpf_cpu_core_pct: programs.program_pct.context("the agent did not measure its kernel programs")?,
        agent_rss_kib: active.rss_kib,
        wire_bytes_active: active.wire_per_second.context("the agent does not count its wire bytes")? / tasks,
        wire_bytes_idle: idle.wire_per_second.context("the agent does not count its wire bytes")? / tasks,
        peers,
        peers_missing,
        kernel: super::kernel()?,
        load_average: super::load_average()?,
    };
    show(&report);
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    Ok(())
}

fn show(r: &Report) {
    let line = |what: &str, value: String, target: &str| println!("  {what:<44} {value:>12}   {target}");
    println!("\n{} cgroups at {} Hz, kernel {}, load {}", r.cgroups, r.hz, r.kernel, r.load_average);
    line(
        "agent, all active, % of one core",
        format!("{:.3}", r.agent_cpu_core_pct),
        "target <= 0.25 with the programs",
    );
    line("agent, all asleep, % of one core", format!("{:.3}", r.agent_cpu_core_pct_idle), "");
    line("kernel programs, % of one core", format!("{:.3}", r.bpf_cpu_core_pct), "");
    line("agent RSS, KiB", r.agent_rss_kib.to_string(), "target <= 10240");
    line("wire, bytes per active task and second", format!("{:.2}", r.wire_bytes_active), "target <= 20");
    line("wire, bytes per idle task and second", format!("{:.2}", r.wire_bytes_idle), "target <= 4");
    let own = r.agent_cpu_core_pct + r.bpf_cpu_core_pct;
    for peer in &r.peers {
        let what = format!("{} {}", peer.name, peer.version);
        line(
            &what,
            format!("{:.2} %", peer.cpu_core_pct),
            &format!(
                "{:.1} x our CPU, {} KiB = {:.1} x ours",
                peer.cpu_core_pct / own,
                peer.rss_kib,
                peer.rss_kib as f64 / r.agent_rss_kib as f64
            ),
        );
    }
    for peer in &r.peers_missing {
        line(&peer.name, "not measured".to_owned(), &peer.why);
    }
}

/// Starts a program and moves it into a cgroup of its own. What it does before counts as ours: measuring begins later.
fn inside(cgroup: &Path, command: &mut Command) -> Result<Child> {
    fs::create_dir(cgroup).with_context(|| format!("making {}", cgroup.display()))?;
    let child = command.stdin(Stdio::null()).spawn().context("starting a process")?;
    fs::write(cgroup.join("cgroup.procs"), child.id().to_string())?;
    Ok(child)
}

fn sleeper_command(awake: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bench-sleeper").arg(awake).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

/// A program under measurement.
struct Subject {
    cgroup: PathBuf,
    pid: u32,
    /// Where its own metrics are, when it is our agent.
    http: Option<String>,
}

fn agent(bench: &mut Bench, bin: &Path, measure_programs: bool) -> Result<Subject> {
    let cgroup = bench.top.join(if measure_programs { "agent-measured" } else { "agent" });
    let more = format!("measure_programs = {measure_programs}\n");
    let child = inside(&cgroup, &mut daemons::agent(bin, &bench.directory, &more)?)?;
    let pid = child.id();
    bench.programs.push(child);
    let http = Some(daemons::metrics(&bench.directory)?);
    Ok(Subject { cgroup, pid, http })
}

/// Ends the program that was measured last.
fn stop(bench: &mut Bench) -> Result<()> {
    if let Some(mut child) = bench.programs.pop() {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

struct Figures {
    cpu_pct: f64,
    rss_kib: u64,
    wire_per_second: Option<f64>,
    program_pct: Option<f64>,
}

fn measure(subject: &Subject, length: Duration) -> Result<Figures> {
    const WIRE: &str = "wire_bytes_total";
    const PROGRAMS: &str = "program_seconds_total";
    let (began, cpu) = (Instant::now(), cpu_us(&subject.cgroup)?);
    let (wire, programs) = (counter(subject, WIRE)?, counter(subject, PROGRAMS)?);
    std::thread::sleep(length);
    let seconds = began.elapsed().as_secs_f64();
    let used = cpu_us(&subject.cgroup)? - cpu;
    Ok(Figures {
        cpu_pct: used as f64 / 1e4 / seconds,
        rss_kib: rss_kib(subject.pid)?,
        wire_per_second: rate(WIRE, wire, counter(subject, WIRE)?, seconds)?,
        program_pct: rate(PROGRAMS, programs, counter(subject, PROGRAMS)?, seconds)?.map(|s| s * 100.0),
    })
}

/// A counter of our agent; `None` for a program that is not ours, and for a counter that this run does not have.
fn counter(subject: &Subject, name: &str) -> Result<Option<f64>> {
    let Some(url) = &subject.http else { return Ok(None) };
    let text =
        ureq::get(url).call().with_context(|| format!("reading {url}"))?.body_mut().read_to_string()?;
    daemons::metric(&text, name)
}

/// How much a counter rose per second; an error when it is there at only one end.
fn rate(name: &str, before: Option<f64>, after: Option<f64>, seconds: f64) -> Result<Option<f64>> {
    match (before, after) {
        (Some(before), Some(after)) => Ok(Some((after - before) / seconds)),
        (None, None) => Ok(None),
        _ => anyhow::bail!("the agent's counter {name} came or went while it was measured"),
    }
}
