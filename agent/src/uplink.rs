//! The stream to the autoscaler: this agent dials, says who it is, then messages go both ways until it breaks.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Endpoint, Uri};
use wire::pb::session_client::SessionClient;
use wire::pb::{AgentMessage, ControllerMessage, agent_message};

use crate::settings::Address;

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

/// Dials in the background; `hello` is the first message. What is heard goes to `heard`.
pub fn dial(address: Address, stream: u64, hello: wire::pb::Hello, heard: mpsc::Sender<Heard>) -> Stream {
    let (sender, receiver) = mpsc::channel(WAITING);
    // The channel is empty: the first message always fits.
    let _ = sender.try_send(AgentMessage { body: Some(agent_message::Body::Hello(hello)) });
    tokio::spawn(async move {
        let why = match talk(&address, stream, receiver, &heard).await {
            Ok(()) => "the autoscaler ended the stream".to_owned(),
            Err(why) => why,
        };
        let _ = heard.send(Heard::Closed { stream, why }).await;
    });
    Stream { sender }
}

async fn talk(
    address: &Address,
    stream: u64,
    receiver: mpsc::Receiver<AgentMessage>,
    heard: &mpsc::Sender<Heard>,
) -> Result<(), String> {
    let channel = connect(address).await?;
    let mut client = SessionClient::new(channel)
        .max_decoding_message_size(wire::MESSAGE_LIMIT)
        .max_encoding_message_size(wire::MESSAGE_LIMIT);
    let answer =
        client.open(ReceiverStream::new(receiver)).await.map_err(|status| status.message().to_owned())?;
    let mut messages = answer.into_inner();
    while let Some(message) = messages.next().await {
        let message = Box::new(message.map_err(|status| status.message().to_owned())?);
        if heard.send(Heard::Message { stream, message }).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn connect(address: &Address) -> Result<tonic::transport::Channel, String> {
    let tuned = |endpoint: Endpoint| {
        endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(64 << 10)
            .initial_connection_window_size(128 << 10)
    };
    let fault = |e: tonic::transport::Error| {
        let cause = std::error::Error::source(&e).map(|c| format!(": {c}")).unwrap_or_default();
        format!("{address}: {e}{cause}")
    };
    match address {
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
    }
}
