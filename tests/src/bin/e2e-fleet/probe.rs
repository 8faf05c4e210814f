//! How long until a sample can be seen: one agent at a time, from the hand-over of its batch to the answer of the REST
//! interface that counts it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::Seen;

/// Distance of probes. Each asks a few times: under 1 % of the receiver's work.
const EVERY: Duration = Duration::from_millis(500);
/// Distance of two questions of one probe.
const AGAIN: Duration = Duration::from_millis(20);
/// A sample that cannot be seen within this counts as never seen.
const PATIENCE: Duration = Duration::from_secs(20);

type Sent = (Instant, u64);

/// What is asked now, and what was answered.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    asked: Mutex<Option<(u64, oneshot::Sender<Sent>)>>,
    visible_ms: Mutex<Vec<u64>>,
    never: Mutex<u64>,
}

impl Probe {
    /// An agent handed over a batch: with it its stream holds so many samples.
    pub(crate) fn sent(&self, agent: u64, at: Instant, samples: u64) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, sender)) = asked.take_if(|(number, _)| *number == agent) {
            // Whoever asked gave up.
            let _ = sender.send((at, samples));
        }
    }

    /// Delays, ms, and how many samples were never seen.
    pub(crate) fn result(&self) -> (Vec<u64>, u64) {
        let visible = self.visible_ms.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (visible, *self.never.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Probes one agent after the other, for ever.
pub(crate) async fn run(api: String, agents: u64, seen: Arc<Seen>) {
    let mut number = 0;
    loop {
        tokio::time::sleep(EVERY).await;
        if seen.connected.load(Ordering::Relaxed) < agents {
            continue;
        }
        // Another one each time, far from the last.
        number = (number + 7919) % agents;
        let (sender, sent) = oneshot::channel();
        *seen.probe.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, sender));
        let Ok(Ok((at, samples))) = tokio::time::timeout(PATIENCE, sent).await else { continue };
        while taken(&api, number).await.is_none_or(|taken| taken < samples) && at.elapsed() < PATIENCE {
            tokio::time::sleep(AGAIN).await;
        }
        if at.elapsed() < PATIENCE {
            let ms = at.elapsed().as_millis() as u64;
            seen.probe.visible_ms.lock().unwrap_or_else(PoisonError::into_inner).push(ms);
        } else {
            *seen.probe.never.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        }
    }
}

/// Samples that the autoscaler has taken from an agent.
async fn taken(api: &str, agent: u64) -> Option<u64> {
    let mut stream = TcpStream::connect(api).await.ok()?;
    let request =
        format!("GET /api/v1/nodes/node-{agent:05} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let number = answer.split_once("\"samples\":")?.1;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
