//! One agent's stream.

use std::time::Duration;

use tokio::sync::watch;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wire::batch::Decoder;
use wire::pb::agent_message::Body;
use wire::pb::controller_message::Body as Down;
use wire::{CREDIT, MESSAGE_LIMIT, WireError, convert, pb};

use crate::control::{self, Admission, Batch, Outbox, Said, SessionId, ToAgent};
use crate::metrics::{Metrics, Reason};

/// An agent must introduce itself within this time.
const HELLO: Duration = Duration::from_secs(5);
/// Longest silence of a stream whose peer still answers pings: three times the longest send interval.
const SILENCE: Duration = Duration::from_secs(45);
/// Credit is given back in steps of this many bytes.
const CREDIT_STEP: u32 = CREDIT / 8;

/// Serves the `Session` service.
#[derive(Debug, Clone)]
pub(super) struct Sessions {
    control: control::Handle,
    queue: usize,
    metrics: Metrics,
    shutdown: Option<watch::Receiver<bool>>,
}

impl Sessions {
    pub(super) fn new(control: control::Handle, queue: usize, metrics: Metrics) -> Self {
        Self { control, queue, metrics, shutdown: None }
    }

    /// Streams end at shutdown.
    pub(super) fn until(mut self, shutdown: watch::Receiver<bool>) -> Self {
        self.shutdown = Some(shutdown);
        self
    }
}

/// Why a stream ends: a bounded code, and words for the agent when it did something wrong.
struct End {
    code: &'static str,
    why: Option<String>,
}

impl From<&'static str> for End {
    fn from(code: &'static str) -> Self {
        Self { code, why: None }
    }
}

impl From<WireError> for End {
    fn from(error: WireError) -> Self {
        let code = match &error {
            WireError::Missing(_) => "missing",
            WireError::Invalid { what: "version", .. } => "version",
            WireError::Invalid { .. } => "invalid",
            WireError::OverLimit { .. } => "over_limit",
            WireError::OutOfOrder { .. } => "out_of_order",
            WireError::Compression(_) => "compression",
        };
        Self { code, why: Some(error.to_string()) }
    }
}

#[tonic::async_trait]
impl pb::session_server::Session for Sessions {
    type OpenStream = ReceiverStream<Result<pb::ControllerMessage, Status>>;

    async fn open(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let (down, stream) = tokio::sync::mpsc::channel(8);
        let sessions = self.clone();
        tokio::spawn(async move {
            let end = sessions.serve(request.into_inner(), down.clone()).await;
            sessions.metrics.streams_closed.get_or_create(&Reason { reason: end.code }).inc();
            if let Some(why) = end.why {
                tracing::warn!(reason = end.code, %why, "stream closed");
                sessions.metrics.refused.get_or_create(&Reason { reason: end.code }).inc();
                // The agent may be gone already.
                let _ = down.send(Ok(message(ToAgent::Refusal(why)))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

type DownSender = tokio::sync::mpsc::Sender<Result<pb::ControllerMessage, Status>>;

impl Sessions {
    async fn serve(&self, mut up: Streaming<pb::AgentMessage>, down: DownSender) -> End {
        let hello = match tokio::time::timeout(HELLO, up.message()).await {
            Err(_) => return End { code: "hello", why: Some("no Hello within 5 s".to_owned()) },
            Ok(Err(_) | Ok(None)) => return "transport".into(),
            Ok(Ok(Some(message))) => match message.body {
                Some(Body::Hello(hello)) => match convert::hello(hello) {
                    Ok(hello) => hello,
                    Err(error) => return error.into(),
                },
                _ => return End { code: "hello", why: Some("the first message must be Hello".to_owned()) },
            },
        };
        let (outbox, mut waiting) = Outbox::new(self.queue);
        let admission = match self.control.connected(hello, outbox.clone()).await {
            Ok(admission) => admission,
            Err(code) => return End { code, why: Some(format!("not admitted: {code}")) },
        };
        let session = admission.session;
        let welcome = pb::Welcome {
            version: Some(wire::VERSION),
            controller_epoch: admission.epoch.0,
            controller_ms: admission.now.0,
            acknowledged_seq: admission.acknowledged,
            interval_ms: admission.interval_ms,
        };
        let first = [
            pb::ControllerMessage { body: Some(Down::Welcome(welcome)) },
            message(ToAgent::Policy(admission.policy.clone())),
        ];
        for one in first {
            if down.send(Ok(one)).await.is_err() {
                self.control.disconnected(session, "transport").await;
                return "transport".into();
            }
        }
        // What waits for the agent flows beside what comes from it; it ends when the agent no longer reads.
        let forward = async {
            while let Some(one) = waiting.next().await {
                if down.send(Ok(message(one))).await.is_err() {
                    break;
                }
            }
            End::from("transport")
        };
        let end = tokio::select! {
            end = self.receive(session, &mut up, admission, &outbox) => end,
            end = forward => end,
        };
        self.control.disconnected(session, end.code).await;
        end
    }

    async fn receive(
        &self,
        session: SessionId,
        up: &mut Streaming<pb::AgentMessage>,
        mut admission: Admission,
        outbox: &Outbox,
    ) -> End {
        let mut decoder = match Decoder::new() {
            Ok(decoder) => decoder,
            Err(error) => return error.into(),
        };
        let mut shutdown = self.shutdown.clone();
        let mut credit = Credit::default();
        loop {
            let arrived = tokio::select! {
                biased;
                ended = &mut admission.ended => return ended.unwrap_or("shutdown").into(),
                () = stopped(&mut shutdown) => return "shutdown".into(),
                arrived = tokio::time::timeout(SILENCE, up.message()) => arrived,
            };
            let arrived = match arrived {
                Err(_) => return End { code: "silent", why: Some("nothing was sent for 45 s".to_owned()) },
                Ok(Ok(Some(arrived))) => arrived,
                Ok(Ok(None)) => return "closed".into(),
                Ok(Err(status)) if status.code() == tonic::Code::OutOfRange => {
                    return End { code: "over_limit", why: Some(status.message().to_owned()) };
                }
                Ok(Err(_)) => return "transport".into(),
            };
            let bytes = u32::try_from(prost_length(&arrived)).unwrap_or(u32::MAX);
            self.metrics.received_bytes.inc_by(bytes.into());
            if !credit.spend(bytes) {
                return End { code: "credit", why: Some("more was sent than the credit allows".to_owned()) };
            }
            match self.pass(session, arrived, &mut decoder).await {
                Ok(()) => {}
                Err(end) => return end,
            }
            if let Some(grant) = credit.give_back(bytes)
                && !outbox.put(ToAgent::Credit(grant))
            {
                return "queue_full".into();
            }
        }
    }

    /// Parses a message and hands it on.
    async fn pass(
        &self,
        session: SessionId,
        arrived: pb::AgentMessage,
        decoder: &mut Decoder,
    ) -> Result<(), End> {
        let said = match arrived.body.ok_or(WireError::Missing("message body"))? {
            Body::Batch(batch) => {
                let batch = Batch::from(decoder.decode(&batch)?);
                return self.control.batch(session, batch).await.map_err(|_| "shutdown".into());
            }
            Body::Outcome(m) => Said::Outcome(m.try_into()?),
            Body::Adapter(m) => Said::Report(m.try_into()?),
            Body::Receipt(m) => Said::Receipt(m.into()),
            Body::Gap(m) => Said::Gap(m.try_into()?),
            Body::Task(m) => Said::Task(m.try_into()?),
            Body::Hello(_) => {
                return Err(End { code: "hello", why: Some("Hello comes once, at the start".to_owned()) });
            }
        };
        self.control.said(session, said).await.map_err(|_| "shutdown".into())
    }
}

/// The credit of one stream.
#[derive(Debug)]
struct Credit {
    left: i64,
    to_return: u32,
}

impl Default for Credit {
    fn default() -> Self {
        Self { left: i64::from(CREDIT), to_return: 0 }
    }
}

impl Credit {
    /// False when the agent sends much more than it may; the last message of a window may overshoot it.
    fn spend(&mut self, bytes: u32) -> bool {
        self.left -= i64::from(bytes);
        self.left >= -2 * i64::try_from(MESSAGE_LIMIT).unwrap_or(i64::MAX)
    }

    fn give_back(&mut self, bytes: u32) -> Option<u32> {
        self.to_return = self.to_return.saturating_add(bytes);
        if self.to_return < CREDIT_STEP {
            return None;
        }
        self.left += i64::from(self.to_return);
        Some(std::mem::take(&mut self.to_return))
    }
}

async fn stopped(shutdown: &mut Option<watch::Receiver<bool>>) {
    match shutdown {
        // An error means that the sender is gone, which is a shutdown, too.
        Some(shutdown) => drop(shutdown.wait_for(|stop| *stop).await),
        None => std::future::pending().await,
    }
}

fn prost_length(message: &pb::AgentMessage) -> usize {
    prost::Message::encoded_len(message)
}

fn message(message: ToAgent) -> pb::ControllerMessage {
    let body = match message {
        ToAgent::Ack(seq) => Down::Ack(pb::Ack { seq }),
        ToAgent::Credit(bytes) => Down::Credit(pb::Credit { bytes }),
        ToAgent::Command(command) => Down::Command((*command).into()),
        ToAgent::Policy(balancers) => Down::Policy(pb::Policy {
            balancers: balancers
                .into_iter()
                .map(|(workload, socket, backend)| pb::BalancerPolicy { workload, socket, backend })
                .collect(),
        }),
        ToAgent::Ping(now) => Down::Ping(pb::Ping { controller_ms: now.0 }),
        ToAgent::Refusal(why) => Down::Refusal(pb::Refusal { why: convert::fit(why) }),
    };
    pb::ControllerMessage { body: Some(body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_is_given_back_in_steps_and_misuse_is_seen() {
        let mut credit = Credit::default();
        let mut given = 0;
        for _ in 0..1000 {
            assert!(credit.spend(1000));
            given += credit.give_back(1000).unwrap_or(0);
        }
        assert!((1_000_000 - given) < CREDIT_STEP, "{given}");
        let mut greedy = Credit::default();
        assert!((0..10).any(|_| !greedy.spend(1 << 20)), "sending on without credit is noticed");
    }
}
