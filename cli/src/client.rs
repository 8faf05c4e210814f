//! Asks the REST interface, over TCP or a unix socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use autoscaler::api::Problem;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;

use crate::failure::{Failure, Kind};

const DEFAULT: &str = "http://127.0.0.1:7780";
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Largest answer, bytes.
const LARGEST: usize = 256 << 20;

#[derive(Debug, Clone)]
enum Target {
    Tcp(String),
    Unix(PathBuf),
}

/// A client of one autoscaler.
#[derive(Debug)]
pub(crate) struct Client {
    target: Target,
    shown: String,
    runtime: tokio::runtime::Runtime,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) etag: Option<String>,
    pub(crate) body: Bytes,
}

impl Client {
    /// For the given address, or for the service that runs on this host.
    pub(crate) fn new(url: Option<&str>) -> Result<Self, Failure> {
        let shown = url.map(str::to_owned).or_else(local).unwrap_or_else(|| DEFAULT.to_owned());
        let target = target(&shown)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { target, shown, runtime })
    }

    /// Where it asks.
    pub(crate) fn address(&self) -> &str {
        &self.shown
    }

    /// Reads a path as a value.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        Ok(serde_json::from_slice(&self.send(Method::GET, path, &[], Bytes::new())?.body)?)
    }

    /// Sends a request; an answer that is no success is a failure.
    pub(crate) fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let answer = self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, self.exchange(method, path, headers, body)).await
        });
        let late =
            || Failure::new(Kind::Timeout, format!("{} did not answer within {PATIENCE:?}", self.shown));
        let answer = answer.map_err(|_| late())??;
        if answer.status.is_success() { Ok(answer) } else { Err(refused(&answer)) }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let unreachable = |why: String| {
            Failure::new(
                Kind::Unreachable,
                format!("the autoscaler at {} cannot be reached: {why}", self.shown),
            )
            .next("start it (systemctl start trimtab-autoscaler), or name another with --url or TRIMTAB_URL")
        };
        let no_time = || unreachable(format!("no connection within {CONNECT:?}"));
        let (mut sender, host) = match &self.target {
            Target::Tcp(authority) => {
                let stream = tokio::time::timeout(CONNECT, tokio::net::TcpStream::connect(authority)).await;
                let stream = stream.map_err(|_| no_time())?.map_err(|e| unreachable(e.to_string()))?;
                (
                    connect(TokioIo::new(stream)).await.map_err(|e| unreachable(e.to_string()))?,
                    authority.as_str(),
                )
            }
            Target::Unix(path) => {
                let stream = tokio::time::timeout(CONNECT, tokio::net::UnixStream::connect(path)).await;
                let stream = stream.map_err(|_| no_time())?.map_err(|e| unreachable(e.to_string()))?;
                (connect(TokioIo::new(stream)).await.map_err(|e| unreachable(e.to_string()))?, "localhost")
            }
        };
        let mut request = Request::builder().method(method).uri(path).header("host", host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request =
            request.body(Full::new(body)).map_err(|error| Failure::new(Kind::Usage, error.to_string()))?;
        let response = sender.send_request(request).await.map_err(|e| unreachable(e.to_string()))?;
        let status = response.status();
        let etag = response.headers().get("etag").and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let collected = Limited::new(response.into_body(), LARGEST).collect().await;
        let body = collected.map_err(|e| unreachable(e.to_string()))?.to_bytes();
        Ok(Answer { status, etag, body })
    }
}

async fn connect<T>(io: TokioIo<T>) -> Result<http1::SendRequest<Full<Bytes>>, hyper::Error>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(io).await?;
    // A connection that breaks shows in the request.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

fn refused(answer: &Answer) -> Failure {
    let kind = match answer.status.as_u16() {
        404 => Kind::NotFound,
        409 | 412 => Kind::Conflict,
        400 | 415 | 422 => Kind::Validation,
        401 | 403 => Kind::NotAuthorised,
        408 | 504 => Kind::Timeout,
        _ => Kind::Error,
    };
    match serde_json::from_slice::<Problem>(&answer.body) {
        Ok(problem) => Failure::new(kind, problem.detail),
        Err(_) => Failure::new(kind, format!("the autoscaler answers {}", answer.status))
            .next("see that --url names Trimtab's REST interface, not another service"),
    }
}

fn target(url: &str) -> Result<Target, Failure> {
    if let Some(path) = url.strip_prefix("unix:") {
        return Ok(Target::Unix(PathBuf::from(path)));
    }
    let authority = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    match authority {
        Some(authority) if !authority.is_empty() && !authority.contains('/') => {
            let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            Ok(Target::Tcp(if has_port { authority.to_owned() } else { format!("{authority}:80") }))
        }
        _ => Err(Failure::new(Kind::Usage, format!("`{url}` is not an address of an autoscaler")).next(
            "write http://127.0.0.1:7780 or unix:/run/trimtab/api.sock; TLS comes with a later version",
        )),
    }
}

/// State directories in which a service of this host may have left its addresses.
pub(crate) fn state_directories() -> Vec<PathBuf> {
    let mut directories = Vec::new();
    directories.extend(variable("TRIMTAB_STATE"));
    for own in own_states() {
        directories.extend([own.join("up/autoscaler"), own]);
    }
    directories.push(PathBuf::from("/var/lib/trimtab-autoscaler"));
    directories
}

/// Where this user keeps state of Trimtab's, by the XDG base directory specification.
pub(crate) fn own_states() -> impl Iterator<Item = PathBuf> {
    let home = variable("HOME").map(|home| home.join(".local/state"));
    variable("XDG_STATE_HOME").into_iter().chain(home).map(|state| state.join("trimtab"))
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn local() -> Option<String> {
    state_directories().into_iter().find_map(|directory| endpoints(&directory)?.into_iter().next())
}

/// Where the service of this state directory says that it listens; `None` when none runs.
pub(crate) fn endpoints(directory: &Path) -> Option<Vec<String>> {
    let text = std::fs::read(directory.join("endpoints.json")).ok()?;
    let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let written = |address: &str| {
        if address.starts_with("unix:") { address.to_owned() } else { format!("http://{address}") }
    };
    Some(value.get("api")?.as_array()?.iter().filter_map(|one| one.as_str()).map(written).collect())
}

/// Escapes one part of a path or one value of a query.
pub(crate) fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood_and_others_refused() {
        assert!(matches!(target("http://127.0.0.1:7780/"), Ok(Target::Tcp(a)) if a == "127.0.0.1:7780"));
        assert!(matches!(target("http://localhost"), Ok(Target::Tcp(a)) if a == "localhost:80"));
        assert!(matches!(target("unix:/run/a.sock"), Ok(Target::Unix(_))));
        for bad in ["https://a", "127.0.0.1:1", "http://", "http://a/b", ""] {
            assert!(target(bad).is_err(), "{bad}");
        }
        assert_eq!(escaped("a/b ü"), "a%2Fb%20%C3%BC");
    }
}
