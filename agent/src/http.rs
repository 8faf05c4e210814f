//! `/metrics`, `/qos`, `/livez`, `/readyz` on loopback. What they say is asked of the node's loop, request by request.

use std::convert::Infallible;
use std::net::SocketAddr;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait for the node's loop; further ones wait in their connections.
const WAITING: usize = 16;

/// What the node's loop says of itself.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// Metrics in the text format of Prometheus (version 0.0.4).
    pub metrics: String,
    /// The isolation loop, as JSON.
    pub qos: String,
    /// Why the agent is not ready; empty = it is.
    pub not_ready: Vec<String>,
}

/// The end that asks.
#[derive(Debug, Clone)]
pub struct Asker(mpsc::Sender<Question>);

/// The end that is asked.
#[derive(Debug)]
pub struct Questions(mpsc::Receiver<Question>);

/// Somebody who wants to know.
#[derive(Debug)]
pub struct Question(oneshot::Sender<Published>);

/// Both ends.
#[must_use]
pub fn questions() -> (Asker, Questions) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Asker(sender), Questions(receiver))
}

impl Asker {
    /// `None` when the loop has ended.
    async fn ask(&self) -> Option<Published> {
        let (sender, receiver) = oneshot::channel();
        self.0.send(Question(sender)).await.ok()?;
        receiver.await.ok()
    }
}

impl Questions {
    /// The next one; `None` when nobody can ask.
    pub async fn next(&mut self) -> Option<Question> {
        self.0.recv().await
    }
}

impl Question {
    /// Answers.
    pub fn answer(self, published: Published) {
        // Who asked may have hung up.
        let _ = self.0.send(published);
    }
}

/// Serves until the process ends.
///
/// # Errors
/// When the address cannot be had.
pub async fn serve(address: SocketAddr, asker: Asker) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            };
            let asker = asker.clone();
            let service = hyper::service::service_fn(move |request| {
                let asker = asker.clone();
                async move { Ok::<_, Infallible>(answer(&request, &asker).await) }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    Ok(bound)
}

async fn answer<B>(request: &Request<B>, asker: &Asker) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain";
    let ending = (StatusCode::SERVICE_UNAVAILABLE, TEXT, "the agent ends\n".to_owned());
    let (status, kind, body) = match request.uri().path() {
        "/metrics" => match asker.ask().await {
            Some(said) => (StatusCode::OK, "text/plain; version=0.0.4", said.metrics),
            None => ending,
        },
        "/qos" => match asker.ask().await {
            Some(said) => (StatusCode::OK, "application/json", said.qos),
            None => ending,
        },
        "/livez" => (StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/readyz" => match asker.ask().await {
            Some(said) if said.not_ready.is_empty() => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            Some(said) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, said.not_ready.join("\n") + "\n"),
            None => ending,
        },
        _ => (StatusCode::NOT_FOUND, TEXT, "there is /metrics, /qos, /livez and /readyz\n".to_owned()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn get(path: &str, asker: &Asker) -> (u16, String) {
        let response = answer(&Request::builder().uri(path).body(()).unwrap(), asker).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn each_request_gets_what_holds_then_and_an_ended_loop_is_not_ready() {
        let (asker, mut questions) = questions();
        let (stop, mut stopped) = oneshot::channel::<()>();
        let answering = tokio::spawn(async move {
            for asked in 1.. {
                tokio::select! {
                    Some(question) = questions.next() => {
                        let not_ready = if asked == 2 { vec!["no stream".to_owned()] } else { Vec::new() };
                        let qos = format!("{{\"asked\":{asked}}}");
                        question.answer(Published { metrics: format!("asked {asked}\n"), qos, not_ready });
                    }
                    _ = &mut stopped => return,
                }
            }
        });
        assert_eq!(get("/metrics", &asker).await, (200, "asked 1\n".to_owned()));
        assert_eq!(get("/readyz", &asker).await, (503, "no stream\n".to_owned()));
        assert_eq!(get("/readyz", &asker).await, (200, "ok\n".to_owned()));
        assert_eq!(get("/metrics", &asker).await, (200, "asked 4\n".to_owned()));
        assert_eq!(get("/qos", &asker).await, (200, "{\"asked\":5}".to_owned()));
        stop.send(()).unwrap();
        answering.await.unwrap();
        assert_eq!(get("/metrics", &asker).await.0, 503);
        assert_eq!(get("/readyz", &asker).await.0, 503);
        assert_eq!(get("/livez", &asker).await.0, 200);
    }
}
