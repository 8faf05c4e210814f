//! The synthetic agents, in a process of their own.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::receiver::Killed;

/// A running fleet, all of it connected.
pub(in crate::bench) struct Fleet {
    process: Killed,
    said: BufReader<ChildStdout>,
}

/// What the agents saw.
#[derive(Debug, Deserialize)]
pub(in crate::bench) struct Seen {
    pub(in crate::bench) connected_at_end: u64,
    /// Streams that were up and broke.
    pub(super) reconnects: u64,
    pub(super) slowest_ack_ms: u64,
    pub(super) visible_ms: Vec<u64>,
    pub(super) never_visible: u64,
}

impl Seen {
    /// A quantile of the time until a probed sample was visible, ms.
    pub(super) fn visible(&self, share: f64) -> u64 {
        let mut all = self.visible_ms.clone();
        all.sort_unstable();
        let at = ((all.len() as f64 * share).ceil() as usize).saturating_sub(1);
        all.get(at).copied().unwrap_or_default()
    }
}

impl Fleet {
    /// Starts it; returns when all agents are connected. With `api` samples are probed.
    pub(in crate::bench) fn start(
        bin: &Path,
        address: &str,
        agents: u32,
        tasks: u32,
        api: Option<&str>,
    ) -> Result<Self> {
        let mut child = Command::new(bin.join("e2e-fleet"))
            .args([address, &agents.to_string(), &tasks.to_string()])
            .args(api)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the fleet")?;
        let said = child.stdout.take().context("the fleet has no output")?;
        let mut fleet = Self { process: Killed(child), said: BufReader::new(said) };
        let mut line = String::new();
        fleet.said.read_line(&mut line)?;
        ensure!(line.trim() == "up", "the fleet could not connect: {line}");
        Ok(fleet)
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Ends it, and says what it saw.
    pub(in crate::bench) fn end(mut self) -> Result<Seen> {
        drop(self.process.0.stdin.take());
        let mut text = String::new();
        self.said.read_to_string(&mut text)?;
        let ended = self.process.0.wait()?;
        ensure!(ended.success(), "the fleet ended with {ended}");
        serde_json::from_str(&text).context("reading the fleet's result")
    }
}
