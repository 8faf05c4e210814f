//! A list is changed, a tool has it read, and what was asked for must show; else the list is as before.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Failure;
use super::job::{self, Jobs};
use super::list_file::ListFile;

/// Time until a step must show in what a cluster says: HDFS tells its nodes with their next heartbeat, every 3 s.
const SHOWN: Duration = Duration::from_secs(20);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(250);

/// What a look at a cluster says of a step.
pub(super) enum Look<T> {
    /// It is done.
    Shown(T),
    /// Not yet, and why.
    NotYet(String),
    /// Something else happened.
    Wrong(String),
}

/// Looks until a step shows.
///
/// # Errors
/// When something else happened, or nothing in time.
pub(super) async fn shown<T, F>(look: impl Fn() -> F) -> Result<T, Failure>
where
    F: Future<Output = Look<T>>,
{
    let until = tokio::time::Instant::now() + SHOWN;
    loop {
        let why = match look().await {
            Look::Shown(is) => return Ok(is),
            Look::NotYet(why) => why,
            Look::Wrong(why) => return Err(Failure::Failed(why)),
        };
        if tokio::time::Instant::now() >= until {
            return Err(Failure::Failed(format!("{why}, {} s after it was asked", SHOWN.as_secs())));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A list, and what has it read.
#[derive(Debug, Clone)]
pub(super) struct List {
    pub(super) file: ListFile,
    /// The launcher of the tool that has it read.
    refresh: String,
    jobs: Jobs,
}

impl List {
    /// Of a configuration that names both, or neither.
    pub(super) fn new(file: Option<std::path::PathBuf>, refresh: Option<String>, jobs: Jobs) -> Option<Self> {
        Some(Self { file: ListFile::new(file?), refresh: refresh?, jobs })
    }

    /// Puts `to` into the place of `from` and has it read. When that fails or does not show, `from` stands there again: what is on a list and
    /// not in force would be in force after anybody's next refresh. `then` = what that leaves, in words behind "is as before".
    ///
    /// # Errors
    /// Why it is not in force, and whether the list is as before.
    pub(super) async fn put_in_force<T>(
        &self,
        (from, to): (&str, &str),
        parameters: BTreeMap<String, String>,
        shown: impl Future<Output = Result<T, Failure>>,
        then: &str,
    ) -> Result<T, Failure> {
        self.file.swap(from, to).map_err(Failure::Failed)?;
        let refreshed = match self.jobs.run(&self.refresh, parameters, job::TIMEOUT).await {
            Ok(()) => shown.await,
            Err(why) => Err(Failure::Failed(format!("refreshing: {why}"))),
        };
        refreshed.map_err(|failure| {
            let (Failure::Failed(why) | Failure::Refused(why)) = failure;
            Failure::Failed(match self.file.swap(to, from) {
                Ok(()) => format!("{why}; the list is as before{then}"),
                Err(error) => format!("{why}; and the list could not be put back: {error}"),
            })
        })
    }
}
