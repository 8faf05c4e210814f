//! A program that is run for a step and ends by itself: one of the owner's launchers, as a task with its user and its limits.
//!
//! Tools of clusters are JVMs of a hundred megabytes, so they must not run inside the agent's own limits.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// Longest run of a tool that is waited for: one that takes two seconds takes twenty on a loaded machine.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// What the node's loop is asked for.
#[derive(Debug)]
pub struct Job {
    /// The launcher.
    pub launcher: String,
    /// Values for those of its parameters that it declares.
    pub parameters: BTreeMap<String, String>,
    /// How long it may run.
    pub within: Duration,
    /// Where its end is told: an error says what happened.
    pub ended: oneshot::Sender<Result<(), String>>,
}

/// The end that asks for jobs.
#[derive(Debug, Clone)]
pub struct Jobs(mpsc::Sender<Job>);

impl Jobs {
    /// Jobs go to this channel.
    #[must_use]
    pub fn new(sender: mpsc::Sender<Job>) -> Self {
        Self(sender)
    }

    /// Runs a launcher to its end. The node's loop ends what takes longer than `within`.
    ///
    /// # Errors
    /// What happened instead of an end with status 0.
    pub async fn run(
        &self,
        launcher: &str,
        parameters: BTreeMap<String, String>,
        within: Duration,
    ) -> Result<(), String> {
        let (sender, ended) = oneshot::channel();
        let job = Job { launcher: launcher.to_owned(), parameters, within, ended: sender };
        let over = || format!("launcher {launcher}: the agent ended");
        self.0.send(job).await.map_err(|_| over())?;
        ended.await.map_err(|_| over())?
    }
}
