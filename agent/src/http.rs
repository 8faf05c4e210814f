//! `/metrics`, `/livez`, `/readyz` on loopback.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What the node's loop publishes after each round.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// Metrics in the text format of Prometheus (version 0.0.4).
    pub metrics: Arc<str>,
    /// Why the agent is not ready; empty = it is.
    pub not_ready: Vec<String>,
}

/// Serves until the process ends.
///
/// # Errors
/// When the address cannot be had.
pub async fn serve(
    address: SocketAddr,
    published: watch::Receiver<Published>,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            };
            let published = published.clone();
            let service = hyper::service::service_fn(move |request| {
                let answer = answer(&request, &published.borrow());
                async move { Ok::<_, Infallible>(answer) }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    Ok(bound)
}

fn answer(request: &Request<hyper::body::Incoming>, published: &Published) -> Response<Full<Bytes>> {
    let (status, kind, body) = match request.uri().path() {
        "/metrics" => (StatusCode::OK, "text/plain; version=0.0.4", published.metrics.to_string()),
        "/livez" => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
        "/readyz" if published.not_ready.is_empty() => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
        "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", published.not_ready.join("\n") + "\n"),
        _ => (StatusCode::NOT_FOUND, "text/plain", "there is /metrics, /livez and /readyz\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    response
}

/// Writes one metric with its help and type.
pub fn metric(out: &mut String, name: &str, kind: &str, help: &str, samples: &[(String, f64)]) {
    use std::fmt::Write;
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in samples {
        let _ = writeln!(out, "{name}{labels} {value}");
    }
}
