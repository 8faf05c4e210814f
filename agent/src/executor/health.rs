//! Health checks of tasks: an HTTP answer, or a connection that is accepted.

use std::time::Duration;

use agent_core::lifecycle::Event;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::{Happened, TaskFile, What};
use crate::adapter::get;

/// Longest time between two checks of a task that was not healthy yet: what is ready is in use at once, and a refused
/// connection costs a starting task nothing.
const STARTING: Duration = Duration::from_millis(200);

/// Checks until it is aborted.
pub(super) async fn check(file: TaskFile, sender: mpsc::Sender<Happened>) {
    let Some(health) = &file.health else { return };
    let (interval, timeout) =
        (Duration::from_millis(health.interval.0), Duration::from_millis(health.timeout.0));
    let mut started = false;
    loop {
        let result = match (&health.http, &health.tcp) {
            (Some(url), _) => http(url, timeout).await,
            (None, Some(address)) => tcp(address, timeout).await,
            (None, None) => return,
        };
        started |= result.is_ok();
        let event = match result {
            Ok(()) => Event::CheckPassed,
            Err(why) => Event::CheckFailed { why },
        };
        if sender.send(Happened { task: file.task.clone(), what: What::Life(event) }).await.is_err() {
            return;
        }
        tokio::time::sleep(if started { interval } else { interval.min(STARTING) }).await;
    }
}

async fn http(url: &str, timeout: Duration) -> Result<(), String> {
    let (status, _) = get(url, timeout).await?;
    if (200..400).contains(&status) { Ok(()) } else { Err(format!("{url} answered {status}")) }
}

async fn tcp(address: &str, timeout: Duration) -> Result<(), String> {
    match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(format!("{address}: {e}")),
        Err(_) => Err(format!("{address}: no answer in {} ms", timeout.as_millis())),
    }
}
