//! The load generator: open loop, so that a slow answer delays no later request, and each latency is counted from the moment at which its
//! request was to be sent (no coordinated omission).
//!
//! It is a process of its own with real-time priority where that is allowed: its clients stand for other machines, so nothing that is
//! measured may delay them. What it costs the node is reported.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

use super::arrivals::Arrivals;
use super::histogram::Latencies;

/// No answer within this time is a failure of the measurement.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to send.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Plan {
    /// Port of the service.
    #[arg(long)]
    pub(super) port: u16,
    /// Connections: requests beyond them wait at the client.
    #[arg(long)]
    pub(super) connections: u32,
    /// Requests a second; 0 = each connection sends as soon as it has its answer.
    #[arg(long)]
    pub(super) rate: f64,
    #[arg(long)]
    pub(super) seed: u64,
    /// Not measured at the start, seconds.
    #[arg(long)]
    pub(super) warm: f64,
    /// Measured, seconds.
    #[arg(long)]
    pub(super) seconds: f64,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// From the moment at which each request was to be sent to its answer.
    pub(super) latencies: Latencies,
    /// From that moment to when a client that was free sent it: the generator's own fault.
    pub(super) late: Latencies,
    /// Answers that came within the measured time.
    pub(super) answers: u64,
    /// CPU time of the generator from its start to its end, µs, and how long that was.
    pub(super) cpu_us: u64,
    pub(super) wall_us: u64,
}

struct Shared {
    arrivals: Mutex<Arrivals>,
    began: Instant,
    plan: Plan,
}

/// The hidden command: says `go` when it begins, and at the end what came of it.
///
/// # Errors
/// When the service does not answer.
pub(super) fn generate(plan: Plan) -> Result<()> {
    let connect = |_| {
        let stream = TcpStream::connect(("127.0.0.1", plan.port)).context("connecting to the service")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    };
    let streams: Vec<TcpStream> = (0..plan.connections).map(connect).collect::<Result<_>>()?;
    let arrivals = Mutex::new(Arrivals::new(plan.rate, plan.seed));
    println!("go");
    let shared = Arc::new(Shared { arrivals, began: Instant::now(), plan });
    let clients: Vec<_> = streams
        .into_iter()
        .map(|stream| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || client(stream, &shared))
        })
        .collect();
    let mut all = Outcome::default();
    for client in clients {
        let one = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        all.latencies.merge(&one.latencies);
        all.late.merge(&one.late);
        all.answers += one.answers;
    }
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let us = |time: nix::sys::time::TimeVal| (time.tv_sec() * 1_000_000 + time.tv_usec()).cast_unsigned();
    all.cpu_us = us(usage.user_time()) + us(usage.system_time());
    all.wall_us = shared.began.elapsed().as_micros() as u64;
    println!("{}", serde_json::to_string(&all)?);
    Ok(())
}

/// One connection: takes the next arrival, waits for its moment, sends it, waits for the answer.
fn client(mut stream: TcpStream, shared: &Shared) -> Result<Outcome> {
    let (warm, end) = (shared.plan.warm, shared.plan.warm + shared.plan.seconds);
    let mut outcome = Outcome::default();
    loop {
        let (at, closed) = {
            let mut arrivals = shared.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            let at = arrivals.next().unwrap_or_default();
            (Duration::from_nanos(at), arrivals.is_closed())
        };
        let free = shared.began.elapsed();
        let at = if closed { free } else { at };
        if at.as_secs_f64() >= end {
            return Ok(outcome);
        }
        if let Some(wait) = at.checked_sub(free) {
            std::thread::sleep(wait);
        }
        let sent = shared.began.elapsed();
        stream.write_all(&[1])?;
        stream.read_exact(&mut [0]).context("the service does not answer")?;
        let done = shared.began.elapsed();
        let ns = |time: Duration| time.as_nanos() as u64;
        outcome.answers += u64::from((warm..end).contains(&done.as_secs_f64()));
        if at.as_secs_f64() >= warm {
            outcome.latencies.record(ns(done.saturating_sub(at)));
            if free < at {
                outcome.late.record(ns(sent.saturating_sub(at)));
            }
        }
    }
}

/// A generator that runs.
pub(super) struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What gives the generator its priority; empty when nothing is allowed.
pub(super) fn priority() -> &'static [&'static str] {
    const WAYS: [&[&str]; 2] = [&["chrt", "--fifo", "10"], &["nice", "-n", "-20"]];
    let works = |way: &&&[&str]| {
        let mut command = Command::new(way[0]);
        command.args(&way[1..]).arg("true").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    WAYS.iter().find(works).copied().unwrap_or_default()
}

impl Running {
    /// Starts it, and returns when the first request is due.
    pub(super) fn start(plan: &Plan, priority: &[&str]) -> Result<Self> {
        let own = std::env::current_exe()?;
        let mut command = match priority.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(own);
                command
            }
            None => Command::new(own),
        };
        command.args(["bench-colocate", "load"]);
        for (name, value) in [
            ("--port", plan.port.to_string()),
            ("--connections", plan.connections.to_string()),
            ("--rate", plan.rate.to_string()),
            ("--seed", plan.seed.to_string()),
            ("--warm", plan.warm.to_string()),
            ("--seconds", plan.seconds.to_string()),
        ] {
            command.arg(name).arg(value);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("no output of the load generator")?;
        let mut running = Self { child, output: BufReader::new(output) };
        let mut line = String::new();
        running.output.read_line(&mut line)?;
        ensure!(line == "go\n", "the load generator did not begin: {line:?}");
        Ok(running)
    }

    /// Waits for its end.
    pub(super) fn finish(mut self) -> Result<Outcome> {
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the load generator ended with {status}");
        serde_json::from_str(&text).context("reading what the load generator measured")
    }
}
