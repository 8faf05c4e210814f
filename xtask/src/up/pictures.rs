//! The pictures of the documentation: a browser and a terminal beside the running day.

use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::stage::Stage;
use crate::web;

/// When they are taken, as a share of the day: its flash crowd is over, and what it led to is to be seen.
pub(super) const AT: f64 = 0.7;
/// How long they may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// Pictures that are being taken; what takes them ends with this.
pub(super) struct Pictures(Child);

impl Pictures {
    /// # Errors
    /// When there is no browser, or no Node.
    pub(super) fn start(root: &Path, bin: &Path, stage: &Stage, directory: &Path) -> Result<Self> {
        println!("==> taking pictures");
        let mut command = web::pictures(root, bin, &stage.dashboard()?, directory)?;
        Ok(Self(command.spawn().context("starting node")?))
    }

    /// Waits for the last one.
    ///
    /// # Errors
    /// When one could not be taken.
    pub(super) fn finish(mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait()? {
                ensure!(status.success(), "the pictures could not be taken: {status}");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("the pictures were not taken within {} s", PATIENCE.as_secs());
    }
}

impl Drop for Pictures {
    fn drop(&mut self) {
        // It has ended, or must: the browser ends with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
