//! containerd's lists, by gRPC on its socket. Only ever read.
//!
//! Of its interface there are two questions here: which namespaces, and which containers in each. The messages have the fields that are
//! read, by their numbers in containerd's `api/services/{namespaces,containers}/v1`; a container's whole specification, which is most of an
//! answer, is skipped over as it arrives, one container at a time.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use agent_core::container::{self, MOBY};
use hyper_util::rt::TokioIo;
use model::node::Container;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

/// Longest wait for all answers together: a runtime that starts or ends many containers at once answers late.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most namespaces that are looked into.
const NAMESPACES: usize = 16;
/// Most containers that are taken of one namespace: above what a node runs, and a bound on this agent's memory.
const CONTAINERS: usize = 4096;

#[derive(Clone, PartialEq, prost::Message)]
struct Question {}

#[derive(Clone, PartialEq, prost::Message)]
struct Namespaces {
    #[prost(message, repeated, tag = "1")]
    namespaces: Vec<Namespace>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Namespace {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Streamed {
    #[prost(message, optional, tag = "1")]
    container: Option<Described>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Described {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(map = "string, string", tag = "2")]
    labels: HashMap<String, String>,
    #[prost(string, tag = "3")]
    image: String,
}

/// The containers of all namespaces but Docker's own, by containerd's socket.
///
/// # Errors
/// A text that names the socket and what happened.
pub async fn list(socket: &Path) -> Result<Vec<Container>, String> {
    super::within(TIMEOUT, &socket.display().to_string(), ask(socket)).await
}

async fn ask(socket: &Path) -> Result<Vec<Container>, String> {
    let mut containerd = Grpc::new(connect(socket).await?);
    containerd.ready().await.map_err(|e| crate::uplink::chain(&e))?;
    let path = PathAndQuery::from_static("/containerd.services.namespaces.v1.Namespaces/List");
    let answer = containerd.unary(Request::new(Question {}), path, ProstCodec::default()).await;
    let Namespaces { namespaces } = answer.map_err(|status| said(&status))?.into_inner();
    let mut all = Vec::new();
    for Namespace { name } in namespaces.into_iter().filter(|n| n.name != MOBY).take(NAMESPACES) {
        match in_namespace(&mut containerd, &name).await {
            Ok(containers) => all.extend(containers),
            // It went in the meantime.
            Err(status) if status.code() == Code::NotFound => {}
            Err(status) => return Err(format!("namespace {name:?}: {}", said(&status))),
        }
    }
    Ok(all)
}

async fn in_namespace(containerd: &mut Grpc<Channel>, name: &str) -> Result<Vec<Container>, Status> {
    let mut request = Request::new(Question {});
    let value: MetadataValue<Ascii> =
        name.parse().map_err(|_| Status::invalid_argument("its name is no text of a header"))?;
    request.metadata_mut().insert("containerd-namespace", value);
    containerd.ready().await.map_err(|e| Status::unavailable(crate::uplink::chain(&e)))?;
    let path = PathAndQuery::from_static("/containerd.services.containers.v1.Containers/ListStream");
    let codec = ProstCodec::<Question, Streamed>::default();
    let mut answers = containerd.server_streaming(request, path, codec).await?.into_inner();
    let mut containers = Vec::new();
    while let Some(Streamed { container }) = answers.message().await? {
        let Some(Described { id, labels, image }) = container else { continue };
        containers.extend(container::of_containerd(name, &id, &image, labels));
        if containers.len() >= CONTAINERS {
            break;
        }
    }
    Ok(containers)
}

async fn connect(socket: &Path) -> Result<Channel, String> {
    // Opened here, so that a socket that is not there, or not for us, is said in the kernel's words; the name is looked up by nobody.
    let mut opened = Some(UnixStream::connect(socket).await.map_err(|e| e.to_string())?);
    let connector = tower::service_fn(move |_: Uri| {
        let stream = opened.take();
        async move { stream.map(TokioIo::new).ok_or_else(|| std::io::Error::other("the connection is over")) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connector).await.map_err(|e| crate::uplink::chain(&e))
}

fn said(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use http_body_util::{BodyExt, Full};
    use hyper::body::{Bytes, Incoming};
    use hyper::{Request, Response};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::net::UnixListener;

    use super::*;

    /// What containerd 1.6.20 answered on a socket, frame by frame: namespaces `default` and `moby`; one container of the first.
    const RECORDED_NAMESPACES: &str = include_str!("containerd/namespaces.hex");
    const RECORDED_CONTAINERS: &str = include_str!("containerd/containers.hex");

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    type Asked = Arc<Mutex<Vec<(String, Option<String>)>>>;

    /// Answers each question by its path with bytes and a gRPC status, over real HTTP/2.
    async fn answer(
        namespaces: Vec<u8>,
        containers: Vec<u8>,
        status: &'static str,
    ) -> (Result<Vec<Container>, String>, Asked) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("containerd.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = Asked::default();
        let seen = Arc::clone(&asked);
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let path = request.uri().path().to_owned();
                let of =
                    request.headers().get("containerd-namespace").map(|v| v.to_str().unwrap().to_owned());
                seen.lock().unwrap().push((path.clone(), of));
                let first = path.ends_with("Namespaces/List");
                let body = if first { namespaces.clone() } else { containers.clone() };
                let status = if first { "0" } else { status };
                async move {
                    let trailers = hyper::HeaderMap::from_iter([(
                        hyper::header::HeaderName::from_static("grpc-status"),
                        hyper::header::HeaderValue::from_static(status),
                    )]);
                    let body =
                        Full::new(Bytes::from(body)).with_trailers(std::future::ready(Some(Ok(trailers))));
                    Ok::<_, Infallible>(
                        Response::builder().header("content-type", "application/grpc").body(body).unwrap(),
                    )
                }
            });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        let list = list(&socket).await;
        server.abort();
        (list, asked)
    }

    #[tokio::test]
    async fn what_containerd_answered_is_read_and_dockers_namespace_is_not_asked() {
        let (list, asked) = answer(bytes(RECORDED_NAMESPACES), bytes(RECORDED_CONTAINERS), "0").await;
        let list = list.unwrap();
        assert_eq!(list.len(), 1);
        assert_eq!((list[0].id.as_str(), list[0].name.as_str()), ("default/batch-7", "batch-7"));
        assert_eq!(
            (list[0].image.as_str(), list[0].labels["tier"].as_str()),
            ("docker.io/library/shop:1", "batch")
        );
        let namespaces: Vec<_> =
            asked.lock().unwrap().iter().filter_map(|(_, namespace)| namespace.clone()).collect();
        assert_eq!(namespaces, ["default"]);
    }

    #[tokio::test]
    async fn a_refusal_and_nonsense_are_named_with_the_socket() {
        let good = bytes(RECORDED_NAMESPACES);
        for (namespaces, containers, status, part) in [
            (good.clone(), vec![], "7", "PermissionDenied"),
            (good.clone(), vec![0, 0, 0, 0, 2, 0xff, 0xff], "0", "namespace \"default\""),
            (good.clone(), vec![0, 0xff, 0xff, 0xff, 0xff, 1], "0", "OutOfRange"),
            (vec![1, 2, 3], vec![], "0", "containerd.sock: "),
        ] {
            let why = answer(namespaces, containers, status).await.0.unwrap_err();
            assert!(why.contains(part) && why.contains("containerd.sock: "), "{why}");
        }
        let (gone, _) = answer(good, vec![], "5").await;
        assert_eq!(gone, Ok(vec![]), "a namespace that went has nothing");
        let missing = list(Path::new("/nonexistent/containerd.sock")).await.unwrap_err();
        assert!(missing.contains("No such file"), "{missing}");
    }
}
