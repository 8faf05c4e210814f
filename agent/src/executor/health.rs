//! Health checks of tasks: an HTTP answer, or a connection that is accepted.

use std::time::Duration;

use agent_core::lifecycle::Event;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::{Happened, TaskFile};
use crate::adapter::get;

/// Checks until it is aborted.
pub(super) async fn check(file: TaskFile, sender: mpsc::Sender<Happened>) {
    let (interval, timeout) =
        (Duration::from_millis(file.health_ms.0), Duration::from_millis(file.health_ms.1));
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let result = match (&file.health_http, &file.health_tcp) {
            (Some(url), _) => http(url, timeout).await,
            (None, Some(address)) => tcp(address, timeout).await,
            (None, None) => return,
        };
        let event = match result {
            Ok(()) => Event::CheckPassed,
            Err(why) => Event::CheckFailed { why },
        };
        if sender.send(Happened { task: file.task.clone(), event }).await.is_err() {
            return;
        }
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
