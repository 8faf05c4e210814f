//! Reading and telling what runs on this host: HAProxy by its runtime socket and its log, Puma by its control server,
//! container runtimes by their sockets (containerd by gRPC). Closed verbs, local endpoints, a deadline on everything.

pub mod accept_queue;
pub mod container;
pub mod containerd;
pub mod haproxy;
mod haproxy_config;
pub mod puma;

use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Largest answer that is read, bytes: the list of a thousand containers with long labels.
const ANSWER_LIMIT: usize = 4 << 20;

/// `GET` of a local URL `http://host:port/path`: status and body.
///
/// # Errors
/// A text that names the address and what happened.
pub async fn get(url: &str, timeout: Duration) -> Result<(u16, Bytes), String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url:?} does not begin with http://"))?;
    let (address, path) =
        rest.split_once('/').map_or((rest, String::from("/")), |(a, p)| (a, format!("/{p}")));
    let asked = async {
        let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
        ask(stream, address, &path).await
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
        ask(stream, "localhost", path).await
    };
    within(timeout, &socket.display().to_string(), asked).await
}

async fn ask<S>(stream: S, host: &str, path: &str) -> Result<(u16, Bytes), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let request = hyper::Request::get(path)
        .header(hyper::header::HOST, host)
        .body(Empty::<Bytes>::new())
        .map_err(|e| e.to_string())?;
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
