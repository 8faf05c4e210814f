//! `/metrics`, `/tasks`, `/qos`, `/livez`, `/readyz` on loopback. What they say is asked of the node's loop, request by request.

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

/// What somebody wants to know of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Metrics in the text format of Prometheus (version 0.0.4).
    Metrics,
    /// The node and its tasks, as JSON.
    Tasks,
    /// The isolation loop, as JSON.
    Qos,
    /// Why the agent is not ready, a line each; empty = it is.
    Readiness,
}

/// The end that asks.
#[derive(Debug, Clone)]
pub struct Asker(mpsc::Sender<Question>);

/// The end that is asked.
#[derive(Debug)]
pub struct Questions(mpsc::Receiver<Question>);

/// Somebody who wants to know.
#[derive(Debug)]
pub struct Question {
    /// What.
    pub about: About,
    asker: oneshot::Sender<String>,
}

/// Both ends.
#[must_use]
pub fn questions() -> (Asker, Questions) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Asker(sender), Questions(receiver))
}

impl Asker {
    /// `None` when the loop has ended.
    async fn ask(&self, about: About) -> Option<String> {
        let (asker, receiver) = oneshot::channel();
        self.0.send(Question { about, asker }).await.ok()?;
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
    pub fn answer(self, said: String) {
        // Who asked may have hung up.
        let _ = self.asker.send(said);
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
    const JSON: &str = "application/json";
    let ok = |kind| move |body| (StatusCode::OK, kind, body);
    let ending = || (StatusCode::SERVICE_UNAVAILABLE, TEXT, "the agent ends\n".to_owned());
    let (status, kind, body) = match request.uri().path() {
        _ if !is_for_this_host(request) => {
            (StatusCode::FORBIDDEN, TEXT, "ask for 127.0.0.1, [::1] or localhost\n".to_owned())
        }
        "/metrics" => asker.ask(About::Metrics).await.map_or_else(ending, ok("text/plain; version=0.0.4")),
        "/tasks" => asker.ask(About::Tasks).await.map_or_else(ending, ok(JSON)),
        "/qos" => asker.ask(About::Qos).await.map_or_else(ending, ok(JSON)),
        "/livez" => ok(TEXT)("ok\n".to_owned()),
        "/readyz" => match asker.ask(About::Readiness).await {
            Some(faults) if faults.is_empty() => ok(TEXT)("ok\n".to_owned()),
            Some(faults) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, faults),
            None => ending(),
        },
        _ => {
            (StatusCode::NOT_FOUND, TEXT, "there is /metrics, /tasks, /qos, /livez and /readyz\n".to_owned())
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    response
}

/// A page of somebody else whose name leads to loopback is not answered (DNS rebinding): it would tell that page what runs here.
fn is_for_this_host<B>(request: &Request<B>) -> bool {
    let Some(host) = request.headers().get(hyper::header::HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
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
                        let ready = question.about == About::Readiness && asked != 2;
                        let said = if ready { String::new() } else { format!("{:?} {asked}\n", question.about) };
                        question.answer(said);
                    }
                    _ = &mut stopped => return,
                }
            }
        });
        assert_eq!(get("/metrics", &asker).await, (200, "Metrics 1\n".to_owned()));
        assert_eq!(get("/readyz", &asker).await, (503, "Readiness 2\n".to_owned()));
        assert_eq!(get("/readyz", &asker).await, (200, "ok\n".to_owned()));
        assert_eq!(get("/metrics", &asker).await, (200, "Metrics 4\n".to_owned()));
        assert_eq!(get("/qos", &asker).await, (200, "Qos 5\n".to_owned()));
        assert_eq!(get("/tasks", &asker).await, (200, "Tasks 6\n".to_owned()));
        stop.send(()).unwrap();
        answering.await.unwrap();
        assert_eq!(get("/metrics", &asker).await.0, 503);
        assert_eq!(get("/readyz", &asker).await.0, 503);
        assert_eq!(get("/livez", &asker).await.0, 200);
    }
    #[test]
    fn other_names_of_loopback_are_refused() {
        let asked = |host: &str| is_for_this_host(&Request::builder().header("host", host).body(()).unwrap());
        for good in ["127.0.0.1:7782", "localhost:7782", "LOCALHOST", "[::1]:7782", "[::1]", "127.0.0.1"] {
            assert!(asked(good), "{good}");
        }
        for bad in ["rebound.example:7782", "10.0.0.1:7782", "localhost.example", "", "::2"] {
            assert!(!asked(bad), "{bad}");
        }
        assert!(is_for_this_host(&Request::builder().body(()).unwrap()), "a request of HTTP 1.0 has none");
    }
}
