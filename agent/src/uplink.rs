//! The stream to the autoscaler: this agent dials, says who it is, then messages go both ways until it breaks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};
use wire::pb::session_client::SessionClient;
use wire::pb::{AgentMessage, ControllerMessage, agent_message};

use crate::identity::Identity;
use crate::settings::{Address, Remote};
use crate::tls::{self, Said};

/// Messages that may wait to be written; when it is full the stream is slower than we are, and is given up.
const WAITING: usize = 256;
/// HTTP/2 keepalive: ask after this much silence …
const KEEPALIVE: Duration = Duration::from_secs(10);
/// … and give up when no answer comes within this.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a stream tells the node's loop. `stream` says which one: words of an earlier stream are ignored.
#[derive(Debug)]
pub enum Heard {
    /// A message arrived.
    Message {
        /// Of which stream.
        stream: u64,
        /// The message.
        message: Box<ControllerMessage>,
    },
    /// The stream is over.
    Closed {
        /// Which.
        stream: u64,
        /// Why.
        why: String,
    },
}

/// The writing end of one stream.
#[derive(Debug, Clone)]
pub struct Stream {
    sender: mpsc::Sender<AgentMessage>,
}

impl Stream {
    /// Sends a message; false when the stream is over or too slow.
    #[must_use]
    pub fn send(&self, body: agent_message::Body) -> bool {
        self.sender.try_send(AgentMessage { body: Some(body) }).is_ok()
    }
}

/// Dials in the background; `hello` is the first message. What is heard goes to `heard`. A remote autoscaler is shown the
/// identity in `state`, as it is now.
pub fn dial(
    address: Address,
    state: PathBuf,
    stream: u64,
    hello: wire::pb::Hello,
    heard: mpsc::Sender<Heard>,
) -> Stream {
    let (sender, receiver) = mpsc::channel(WAITING);
    // The channel is empty: the first message always fits.
    let _ = sender.try_send(AgentMessage { body: Some(agent_message::Body::Hello(hello)) });
    tokio::spawn(async move {
        let why = match talk(&address, &state, stream, receiver, &heard).await {
            Ok(()) => "the autoscaler ended the stream".to_owned(),
            Err(why) => why,
        };
        let _ = heard.send(Heard::Closed { stream, why }).await;
    });
    Stream { sender }
}

async fn talk(
    address: &Address,
    state: &Path,
    stream: u64,
    receiver: mpsc::Receiver<AgentMessage>,
    heard: &mpsc::Sender<Heard>,
) -> Result<(), String> {
    let (channel, said) = connect(address, state).await?;
    let mut client = SessionClient::new(channel)
        .max_decoding_message_size(wire::MESSAGE_LIMIT)
        .max_encoding_message_size(wire::MESSAGE_LIMIT);
    let answer =
        client.open(ReceiverStream::new(receiver)).await.map_err(|status| said.or(status.message()))?;
    let mut messages = answer.into_inner();
    while let Some(message) = messages.next().await {
        let message = Box::new(message.map_err(|status| said.or(status.message()))?);
        if heard.send(Heard::Message { stream, message }).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Keepalive and windows of every connection to an autoscaler.
pub(crate) fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(64 << 10)
        .initial_connection_window_size(128 << 10)
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

async fn connect(address: &Address, state: &Path) -> Result<(Channel, Said), String> {
    let fault = |e: tonic::transport::Error| format!("{address}: {}", chain(&e));
    let channel = match address {
        Address::Remote(remote) => return connect_remote(remote, state).await,
        Address::Loopback(a) => {
            tuned(Endpoint::from_shared(format!("http://{a}")).map_err(fault)?).connect().await.map_err(fault)
        }
        Address::Unix(path) => {
            let path = path.clone();
            // The name is not looked up: the connector below decides where this goes.
            let endpoint = tuned(Endpoint::from_static("http://autoscaler"));
            let connector = tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            });
            endpoint.connect_with_connector(connector).await.map_err(fault)
        }
    };
    Ok((channel?, Said::default()))
}

async fn connect_remote(remote: &Remote, state: &Path) -> Result<(Channel, Said), String> {
    let identity = Identity::open(state).map_err(|error| error.to_string())?.ok_or_else(|| {
        format!("{remote}: this node has no certificate: trimtab node join-token NAME there, then trimtab-agent join here")
    })?;
    let connection = tls::connect(remote, identity.client()?).await.map_err(|error| error.to_string())?;
    let said = connection.said();
    Ok((tls::channel(remote, connection).await?, said))
}
