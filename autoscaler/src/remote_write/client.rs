//! One request after the other to the receiver. A connection is kept while there is more to send.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::CertificateError;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_rustls::TlsConnector;

use super::answer;
use super::target::Target;
use crate::config::Endpoint;

/// Largest answer that is read, bytes. A longer one costs its connection.
const ANSWER: usize = 64 << 10;

/// What a receiver answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    /// One line of it.
    pub(super) words: String,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Fault {
    /// The label it is counted by.
    pub(super) code: &'static str,
    /// What went wrong, and what to do.
    pub(super) words: String,
}

impl Fault {
    fn network(words: impl Into<String>) -> Self {
        Self { code: "network", words: words.into() }
    }
}

/// A connection and the task that drives it, which ends with it.
#[derive(Debug)]
struct Open {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

type Lookup = JoinHandle<io::Result<Vec<SocketAddr>>>;

/// Sends to one receiver.
#[derive(Debug)]
pub(super) struct Client {
    target: Arc<Target>,
    open: Option<Open>,
    /// At most one at a time: a name server that hangs holds one of the threads that wait, and must not hold all of them.
    lookup: Option<Lookup>,
}

impl Client {
    pub(super) fn new(target: Arc<Target>) -> Self {
        Self { target, open: None, lookup: None }
    }

    /// Nothing more is to be sent for now; a connection that is idle would be closed by the other end.
    pub(super) fn rest(&mut self) {
        self.open = None;
    }

    /// Sends one request and reads the answer, within the time of the settings.
    pub(super) async fn send(&mut self, body: Bytes) -> Result<Answer, Fault> {
        let patience = Duration::from_millis(self.target.settings.timeout_ms);
        let outcome = tokio::time::timeout(patience, self.exchange(body)).await;
        let outcome = outcome.unwrap_or_else(|_| {
            Err(Fault {
                code: "timeout",
                words: format!("it did not answer within {} s", patience.as_secs()),
            })
        });
        if outcome.is_err() {
            self.open = None;
        }
        outcome
    }

    async fn exchange(&mut self, body: Bytes) -> Result<Answer, Fault> {
        let authorization = self.target.authorization();
        let authorization = authorization.map_err(|e| Fault { code: "secret", words: format!("{e:#}") })?;
        let endpoint = self.target.settings.endpoint.clone();
        let mut request = Request::post(&endpoint.path)
            .header(header::HOST, &endpoint.authority)
            .header(header::USER_AGENT, concat!("trimtab-autoscaler/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::CONTENT_ENCODING, "snappy")
            .header("x-prometheus-remote-write-version", "0.1.0");
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(Full::new(body)).map_err(|error| Fault::network(error.to_string()))?;
        let failed = |error: hyper::Error| Fault::network(chain(&error));
        let open = self.connection(&endpoint).await?;
        let response = open.sender.send_request(request).await.map_err(failed)?;
        let status = response.status().as_u16();
        let wait = response.headers().get(header::RETRY_AFTER).and_then(|wait| wait.to_str().ok());
        let retry_after = wait.and_then(|wait| answer::retry_after(wait, SystemTime::now()));
        let said = match Limited::new(response.into_body(), ANSWER).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => {
                // What is left of it would be taken for the next answer.
                self.open = None;
                Bytes::new()
            }
        };
        Ok(Answer { status, retry_after, words: answer::words(&said) })
    }

    /// The one that is open and takes another request, or a new one.
    async fn connection(&mut self, endpoint: &Endpoint) -> Result<&mut Open, Fault> {
        let usable = match &mut self.open {
            Some(open) => open.sender.ready().await.is_ok(),
            None => false,
        };
        let open = match self.open.take() {
            Some(open) if usable => open,
            _ => self.dial(endpoint).await?,
        };
        Ok(self.open.insert(open))
    }

    async fn dial(&mut self, endpoint: &Endpoint) -> Result<Open, Fault> {
        let addresses = self.addresses(endpoint).await?;
        let stream = connect(&addresses).await.map_err(|error| Fault::network(error.to_string()))?;
        // Small messages must not wait for each other; without it they are slower, not wrong.
        let _ = stream.set_nodelay(true);
        let Some(config) = self.target.tls.clone() else { return handshake(stream).await };
        let name = ServerName::try_from(endpoint.host.clone());
        let name =
            name.map_err(|_| Fault { code: "tls", words: "its name cannot be in a certificate".to_owned() })?;
        match TlsConnector::from(config).connect(name, stream).await {
            Ok(stream) => handshake(stream).await,
            Err(error) => {
                Err(match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                    Some(tls) => Fault { code: "tls", words: tls_words(tls) },
                    None => Fault::network(error.to_string()),
                })
            }
        }
    }

    async fn addresses(&mut self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, Fault> {
        if let Ok(address) = endpoint.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, endpoint.port)]);
        }
        let lookup = self.lookup.get_or_insert_with(|| {
            let name = (endpoint.host.clone(), endpoint.port);
            tokio::task::spawn_blocking(move || Ok(name.to_socket_addrs()?.collect()))
        });
        let found = lookup.await;
        self.lookup = None;
        let host = &endpoint.host;
        let found = found.map_err(|error| Fault::network(error.to_string()))?;
        let found = found.map_err(|error| Fault::network(format!("{host} is not known by name: {error}")))?;
        let near =
            |address: &SocketAddr| !endpoint.loopback_only || address.ip().to_canonical().is_loopback();
        let found: Vec<SocketAddr> = found.into_iter().filter(near).collect();
        if found.is_empty() {
            return Err(Fault::network(format!(
                "{host} leads to no address of this host, and there is no TLS on it"
            )));
        }
        Ok(found)
    }
}

/// The first that takes a connection.
async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn handshake(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Open, Fault> {
    let opened = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = opened.map_err(|error| Fault::network(chain(&error)))?;
    // Its end is seen by the next request.
    let driver = tokio::spawn(async move { drop(connection.await) });
    Ok(Open { sender, driver: driver.abort_handle() })
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// What went wrong, and what to do.
fn tls_words(error: &rustls::Error) -> String {
    use rustls::Error as E;
    let text = match error {
        E::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "its certificate is from an authority that is not believed here: name that one in remote_write.ca"
        }
        E::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name: write one that is in it into remote_write.url",
        E::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired"
        }
        E::InvalidMessage(_) => "it does not speak TLS there: is it the right port?",
        other => return other.to_string(),
    };
    text.to_owned()
}
