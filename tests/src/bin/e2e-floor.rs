//! The floor under `cargo xtask bench ingest`: takes the streams of `e2e-fleet` with the same transport, gathers and
//! acknowledges as the autoscaler does, and does nothing with the batches.
//!
//! `e2e-floor SOCKET GATHER_MS` runs until it is killed.

use std::process::ExitCode;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};
use wire::pb;
use wire::pb::controller_message::Body;

/// Batches between two acknowledgements.
const ACKNOWLEDGE: u64 = 5;

struct Floor;

fn message(body: Body) -> Result<pb::ControllerMessage, Status> {
    Ok(pb::ControllerMessage { body: Some(body) })
}

#[tonic::async_trait]
impl pb::session_server::Session for Floor {
    type OpenStream = ReceiverStream<Result<pb::ControllerMessage, Status>>;

    async fn open(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let (down, stream) = mpsc::channel(8);
        let mut up = request.into_inner();
        tokio::spawn(async move {
            let mut first = Some(Body::Welcome(pb::Welcome::default()));
            let mut count = 0u64;
            while let Ok(Some(message)) = up.message().await {
                std::hint::black_box(&message);
                if let pb::AgentMessage { body: Some(pb::agent_message::Body::Batch(batch)) } = message {
                    count += 1;
                    let ack = count.is_multiple_of(ACKNOWLEDGE).then_some(pb::Ack { seq: batch.seq });
                    first = first.or(ack.map(Body::Ack));
                }
                if let Some(body) = first.take()
                    && down.send(self::message(body)).await.is_err()
                {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, gather] = arguments.as_slice() else {
        eprintln!("usage: e2e-floor SOCKET GATHER_MS");
        return ExitCode::from(2);
    };
    let gather = Duration::from_millis(gather.parse().unwrap_or(0));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(move || std::thread::sleep(gather))
        .build();
    let served = runtime.map_err(|e| e.to_string()).and_then(|runtime| {
        runtime.block_on(async {
            let listener = UnixListener::bind(socket).map_err(|e| e.to_string())?;
            // Listening again on a listening socket sets the length of its queue, listen(2).
            rustix::net::listen(&listener, 4096).map_err(|e| e.to_string())?;
            tonic::transport::Server::builder()
                .http2_keepalive_interval(Some(Duration::from_secs(5)))
                .http2_keepalive_timeout(Some(Duration::from_secs(5)))
                .add_service(pb::session_server::SessionServer::new(Floor))
                .serve_with_incoming(UnixListenerStream::new(listener))
                .await
                .map_err(|e| e.to_string())
        })
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
