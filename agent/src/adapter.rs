//! Reading and telling what runs on this host: HAProxy by its runtime socket and its log, Puma by its control server.
//! Closed verbs, local endpoints, a deadline on everything.

pub mod accept_queue;
pub mod haproxy;
mod haproxy_config;
pub mod puma;

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Largest answer that is read, bytes.
const ANSWER_LIMIT: usize = 1 << 20;

/// `GET` of a local URL `http://host:port/path`: status and body.
///
/// # Errors
/// A text that names the address and what happened.
pub async fn get(url: &str, timeout: Duration) -> Result<(u16, Bytes), String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url:?} does not begin with http://"))?;
    let (address, path) =
        rest.split_once('/').map_or((rest, String::from("/")), |(a, p)| (a, format!("/{p}")));
    let ask = async {
        let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        let driver = tokio::spawn(connection);
        let request = hyper::Request::get(path)
            .header(hyper::header::HOST, address)
            .body(Empty::<Bytes>::new())
            .map_err(|e| e.to_string())?;
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = response.status().as_u16();
        let body =
            Limited::new(response.into_body(), ANSWER_LIMIT).collect().await.map_err(|e| e.to_string())?;
        driver.abort();
        Ok((status, body.to_bytes()))
    };
    match tokio::time::timeout(timeout, ask).await {
        Ok(result) => result.map_err(|why: String| format!("{address}: {why}")),
        Err(_) => Err(format!("{address}: no answer in {} ms", timeout.as_millis())),
    }
}
