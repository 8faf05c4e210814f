//! Reading and telling what runs on this host: HAProxy by its runtime socket and its log, Puma by its control server,
//! container runtimes by their sockets (containerd by gRPC), clusters by HTTP and the lists that they read. Closed verbs, local endpoints, a
//! deadline on everything.

pub mod accept_queue;
pub mod cassandra;
pub mod check;
pub mod container;
pub mod containerd;
pub mod haproxy;
mod haproxy_config;
pub mod hdfs;
mod in_force;
pub mod job;
mod list_file;
pub mod listeners;
pub mod puma;
pub mod yarn;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use model::action::OutcomeKind;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Largest answer that is read, bytes: a ResourceManager's list of four thousand nodes (1.6 KiB each); the list of a thousand containers with
/// long labels is smaller.
const ANSWER_LIMIT: usize = 8 << 20;

/// How a step ended, why, and what was read back.
pub type Effect = (OutcomeKind, String, BTreeMap<String, String>);

/// A step that was not taken, or did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It is not sensible now; nothing was changed.
    Refused(String),
    /// It was tried; the text says what is left behind.
    Failed(String),
}

impl From<Failure> for Effect {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(why) => (OutcomeKind::Refused, why, BTreeMap::new()),
            Failure::Failed(why) => (OutcomeKind::Failed, why, BTreeMap::new()),
        }
    }
}

/// `GET` of a local URL `http://host:port/path`: status and body.
///
/// # Errors
/// A text that names the address and what happened.
pub async fn get(url: &str, timeout: Duration) -> Result<(u16, Bytes), String> {
    request(url, None, timeout).await
}

/// What stands at a path below a local URL.
///
/// # Errors
/// A text that names the address and what happened; an answer other than 200 is one.
pub(crate) async fn answered(url: &str, path: &str, timeout: Duration) -> Result<Bytes, String> {
    match get(&format!("{url}{path}"), timeout).await? {
        (200, body) => Ok(body),
        (status, _) => Err(format!("{url}{path}: answered {status}")),
    }
}

/// `POST` of JSON to a local URL: status and body.
///
/// # Errors
/// A text that names the address and what happened.
pub async fn post(url: &str, json: String, timeout: Duration) -> Result<(u16, Bytes), String> {
    request(url, Some(json), timeout).await
}

async fn request(url: &str, json: Option<String>, timeout: Duration) -> Result<(u16, Bytes), String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url:?} does not begin with http://"))?;
    let (address, path) =
        rest.split_once('/').map_or((rest, String::from("/")), |(a, p)| (a, format!("/{p}")));
    let asked = async {
        let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
        ask(stream, address, &path, json).await
    };
    within(timeout, address, asked).await
}

/// `GET` of a path on a unix socket: status and body.
///
/// # Errors
/// A text that names the socket and what happened.
pub async fn get_unix(socket: &Path, path: &str, timeout: Duration) -> Result<(u16, Bytes), String> {
    let asked = async {
        let stream = UnixStream::connect(socket).await.map_err(|e| e.to_string())?;
        ask(stream, "localhost", path, None).await
    };
    within(timeout, &socket.display().to_string(), asked).await
}

async fn ask<S>(stream: S, host: &str, path: &str, json: Option<String>) -> Result<(u16, Bytes), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let mut request = hyper::Request::builder().uri(path).header(hyper::header::HOST, host);
    if json.is_some() {
        request = request.method("POST").header(hyper::header::CONTENT_TYPE, "application/json");
    }
    let body = Full::new(Bytes::from(json.unwrap_or_default()));
    let request = request.body(body).map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await.map_err(|e| e.to_string())?;
    driver.abort();
    Ok((status, body.to_bytes()))
}

async fn within<T>(
    timeout: Duration,
    whom: &str,
    asked: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    match tokio::time::timeout(timeout, asked).await {
        Ok(result) => result.map_err(|why| format!("{whom}: {why}")),
        Err(_) => Err(format!("{whom}: no answer in {} ms", timeout.as_millis())),
    }
}
