//! Puma's control server.

use std::time::Duration;

use agent_core::launcher::PumaControl;
use model::adapter::{AdapterReport, PumaReport};

use super::{accept_queue, get};
use crate::executor::TaskFile;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_millis(900);

/// Reads the task's Puma; `None` when the task has none.
pub async fn read(file: &TaskFile) -> Option<AdapterReport> {
    let PumaControl { address, token, listener } = file.puma.as_ref()?;
    let query = token.as_ref().map(|t| format!("?token={t}")).unwrap_or_default();
    let endpoint = format!("http://{address}/stats");
    let answer = get(&format!("{endpoint}{query}"), TIMEOUT).await;
    let report = match answer {
        Ok((200, body)) => agent_core::puma::stats(&body, &file.task),
        Ok((status, _)) => Err(format!("answered {status}")),
        Err(why) => Err(why),
    };
    Some(match report {
        Ok(report) => {
            let accept_queue = listener.as_ref().and_then(|l| l.parse().ok()).and_then(accept_queue::waiting);
            AdapterReport::Puma(PumaReport { accept_queue, ..report })
        }
        Err(why) => AdapterReport::Unreachable { endpoint, why },
    })
}
