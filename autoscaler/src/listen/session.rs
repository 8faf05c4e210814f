//! One agent's stream.

use std::pin::pin;
use std::time::Duration;

use model::id::NodeId;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tokio_stream::adapters::Map;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wire::batch::Decoder;
use wire::pb::agent_message::Body;
use wire::pb::controller_message as down;
use wire::{CREDIT, MESSAGE_LIMIT, WireError, convert, pb};

use super::identity;
use crate::control::{self, Admission, Outbox, Said, SessionId, ToAgent};
use crate::ingest::Batch;
use crate::metrics::{Metrics, Reason};
use crate::tls::peer::Peer;

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
    /// The peer's certificate says who it is; without it, its Hello does.
    certificates: bool,
}

impl Sessions {
    pub(super) fn new(control: control::Handle, queue: usize, metrics: Metrics) -> Self {
        Self { control, queue, metrics, shutdown: None, certificates: false }
    }

    /// Peers show certificates: a stream speaks for the node that is named there.
    pub(super) fn with_certificates(mut self) -> Self {
        self.certificates = true;
        self
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

type Down = Map<ReceiverStream<ToAgent>, fn(ToAgent) -> Result<pb::ControllerMessage, Status>>;

#[tonic::async_trait]
impl pb::session_server::Session for Sessions {
    type OpenStream = Down;

    async fn open(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let identity = match self.certificates.then(|| identity::node_of(request.extensions().get::<Peer>()))
        {
            Some(Err(status)) => {
                self.close(&End { code: "no_certificate", why: Some(status.message().to_owned()) });
                return Err(status);
            }
            Some(Ok(node)) => Some(node),
            None => None,
        };
        let (outbox, waiting) = Outbox::new(self.queue);
        let sessions = self.clone();
        tokio::spawn(async move {
            let end = sessions.serve(request.into_inner(), identity, &outbox).await;
            sessions.close(&end);
            if let Some(why) = end.why {
                // The agent may be gone already, or it does not read.
                let _ = outbox.put(ToAgent::Refusal(why));
            }
        });
        // The stream ends when nobody holds its outbox any more: this session and the control loop.
        Ok(Response::new(waiting.map(message as fn(ToAgent) -> _)))
    }
}

impl Sessions {
    /// Counts and logs the end of a stream.
    fn close(&self, end: &End) {
        self.metrics.streams_closed.get_or_create(&Reason { reason: end.code }).inc();
        if let Some(why) = &end.why {
            tracing::warn!(reason = end.code, %why, "stream closed");
            self.metrics.refused.get_or_create(&Reason { reason: end.code }).inc();
        }
    }

    /// `identity` is the node of the peer's certificate, where certificates are shown.
    async fn serve(
        &self,
        mut up: Streaming<pb::AgentMessage>,
        identity: Option<NodeId>,
        outbox: &Outbox,
    ) -> End {
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
        if let Some(identity) = identity.filter(|identity| *identity != hello.node) {
            let why = format!(
                "the agent calls its node `{}` but its certificate is for `{identity}`: set node = \"{identity}\" there, or join anew",
                hello.node
            );
            return End { code: "identity", why: Some(why) };
        }
        let admission = match self.control.connected(hello, outbox.clone()).await {
            Ok(admission) => admission,
            Err(code) => return End { code, why: Some(format!("not admitted: {code}")) },
        };
        let session = admission.session;
        let end = self.receive(admission, &mut up, outbox).await;
        self.control.disconnected(session, end.code).await;
        end
    }

    async fn receive(
        &self,
        mut admission: Admission,
        up: &mut Streaming<pb::AgentMessage>,
        outbox: &Outbox,
    ) -> End {
        let mut decoder = match Decoder::new() {
            Ok(decoder) => decoder,
            Err(error) => return error.into(),
        };
        let mut stopped = pin!(stopped(self.shutdown.clone()));
        // One timer for the stream, moved only when it fires: a timer for each message costs more than its parsing.
        let mut silence = pin!(tokio::time::sleep(SILENCE));
        let mut heard = Instant::now();
        let mut credit = Credit::default();
        loop {
            let arrived = tokio::select! {
                biased;
                ended = &mut admission.ended => return ended.unwrap_or("shutdown").into(),
                () = &mut stopped => return "shutdown".into(),
                arrived = up.message() => arrived,
                () = &mut silence => {
                    if heard.elapsed() >= SILENCE {
                        return End { code: "silent", why: Some("nothing was sent for 45 s".to_owned()) };
                    }
                    silence.as_mut().reset(heard + SILENCE);
                    continue;
                }
            };
            let arrived = match arrived {
                Ok(Some(arrived)) => arrived,
                Ok(None) => return "closed".into(),
                Err(status) if status.code() == tonic::Code::OutOfRange => {
                    return End { code: "over_limit", why: Some(status.message().to_owned()) };
                }
                Err(_) => return "transport".into(),
            };
            heard = Instant::now();
            let bytes = u32::try_from(prost_length(&arrived)).unwrap_or(u32::MAX);
            self.metrics.received_bytes.inc_by(bytes.into());
            if !credit.spend(bytes) {
                return End { code: "credit", why: Some("more was sent than the credit allows".to_owned()) };
            }
            match self.pass(admission.session, arrived, &mut decoder).await {
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

async fn stopped(shutdown: Option<watch::Receiver<bool>>) {
    match shutdown {
        // An error means that the sender is gone, which is a shutdown, too.
        Some(mut shutdown) => drop(shutdown.wait_for(|stop| *stop).await),
        None => std::future::pending().await,
    }
}

fn prost_length(message: &pb::AgentMessage) -> usize {
    prost::Message::encoded_len(message)
}

#[allow(clippy::unnecessary_wraps, reason = "the form that a stream of tonic takes")]
fn message(message: ToAgent) -> Result<pb::ControllerMessage, Status> {
    let body = match message {
        ToAgent::Welcome(welcome) => down::Body::Welcome(pb::Welcome {
            version: Some(wire::VERSION),
            controller_epoch: welcome.epoch.0,
            controller_ms: welcome.now.0,
            acknowledged_seq: welcome.acknowledged,
            interval_ms: welcome.interval_ms,
        }),
        ToAgent::Ack(seq) => down::Body::Ack(pb::Ack { seq }),
        ToAgent::Credit(bytes) => down::Body::Credit(pb::Credit { bytes }),
        ToAgent::Command(command) => down::Body::Command((*command).into()),
        ToAgent::Ping(now) => down::Body::Ping(pb::Ping { controller_ms: now.0 }),
        ToAgent::Refusal(why) => down::Body::Refusal(pb::Refusal { why: convert::fit(why) }),
    };
    Ok(pb::ControllerMessage { body: Some(body) })
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
