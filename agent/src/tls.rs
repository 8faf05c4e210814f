//! Connections with TLS to an autoscaler on another machine, and words for what goes wrong on them.
//!
//! In TLS 1.3 the other end judges this node's certificate after the handshake is over here: its verdict comes with the
//! first read, deep under HTTP/2, which keeps no errors. So the connection itself remembers it ([`Said`]).

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::settings::Remote;
use crate::uplink;

/// Longest time until a connection has shown who both ends are.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug)]
pub struct ConnectError {
    remote: Remote,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Tls(rustls::Error),
    Io(io::Error),
    Late,
    Name,
}

impl ConnectError {
    /// The other end showed a certificate of another authority.
    #[must_use]
    pub fn is_unknown_authority(&self) -> bool {
        matches!(
            &self.cause,
            Cause::Tls(rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature
            ))
        )
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remote = &self.remote;
        match &self.cause {
            Cause::Tls(error) => write!(f, "{remote}: {}", words(error)),
            Cause::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                write!(f, "{remote}: it closed the connection before TLS began: is it a listener with TLS?")
            }
            Cause::Io(error) => write!(f, "{remote}: {error}"),
            Cause::Late => write!(f, "{remote}: no connection with TLS within {PATIENCE:?}"),
            Cause::Name => write!(f, "{remote}: this is no host name"),
        }
    }
}

impl std::error::Error for ConnectError {}

/// What went wrong, and what to do.
fn words(error: &rustls::Error) -> String {
    use rustls::Error as E;
    let text = match error {
        E::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "its certificate is not from the authority that this node joined: it is another service, or join again with a new token"
        }
        E::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "its certificate is for another name: add this one to `names` in [tls] of the autoscaler, or use one that is there"
        }
        E::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired: compare the clocks of both machines"
        }
        E::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "its certificate is not valid yet: compare the clocks of both machines",
        E::AlertReceived(AlertDescription::CertificateExpired) => {
            "it says that this node's certificate has expired: join again with a new token (trimtab node join-token NAME)"
        }
        E::AlertReceived(
            AlertDescription::UnknownCA | AlertDescription::BadCertificate | AlertDescription::DecryptError,
        ) => {
            "it does not accept this node's certificate, which is from another authority: join it with a new token (trimtab node join-token NAME)"
        }
        E::AlertReceived(AlertDescription::CertificateRequired) => {
            "it wants a certificate of this node: join first (trimtab node join-token NAME)"
        }
        E::InvalidMessage(_) => "it does not speak TLS there: is it the port of a listener with https://?",
        other => return other.to_string(),
    };
    text.to_owned()
}

/// What the other end said last about this node's certificate.
#[derive(Debug, Clone, Default)]
pub struct Said(Arc<OnceLock<String>>);

impl Said {
    /// That, or else what the layers above know.
    #[must_use]
    pub fn or(&self, above: &str) -> String {
        self.0.get().cloned().unwrap_or_else(|| above.to_owned())
    }
}

/// A connection on which the other end is known.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    said: Said,
}

impl Connection {
    /// Where to look for the other end's verdict when something fails above.
    #[must_use]
    pub fn said(&self) -> Said {
        self.said.clone()
    }

    fn note<T>(&self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &outcome
            && let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            // The first one is the cause of all others.
            let _ = self.said.0.set(words(error));
        }
        outcome
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.note(outcome)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.note(outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Connects, and shows each end the other's certificate as `config` says.
///
/// # Errors
/// [`ConnectError`] in words, within [`PATIENCE`].
pub async fn connect(remote: &Remote, config: Arc<ClientConfig>) -> Result<Connection, ConnectError> {
    let failed = |cause| ConnectError { remote: remote.clone(), cause };
    let name = ServerName::try_from(remote.host.clone()).map_err(|_| failed(Cause::Name))?;
    let connecting = async {
        let stream = TcpStream::connect((remote.host.as_str(), remote.port)).await?;
        // Small messages must not wait for each other; without it they are slower, not wrong.
        let _ = stream.set_nodelay(true);
        TlsConnector::from(config).connect(name, stream).await
    };
    match tokio::time::timeout(PATIENCE, connecting).await {
        Ok(Ok(stream)) => Ok(Connection { stream, said: Said::default() }),
        Ok(Err(error)) => {
            let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).cloned();
            Err(failed(tls.map_or(Cause::Io(error), Cause::Tls)))
        }
        Err(_) => Err(failed(Cause::Late)),
    }
}

/// HTTP/2 over a connection.
///
/// # Errors
/// In words.
pub async fn channel(remote: &Remote, connection: Connection) -> Result<Channel, String> {
    let said = connection.said();
    let mut connection = Some(connection);
    // The name is not looked up: there is a connection already, and only one.
    let connector = tower::service_fn(move |_: Uri| {
        let connection = connection.take();
        async move { connection.map(TokioIo::new).ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    let endpoint = uplink::tuned(Endpoint::from_static("http://autoscaler"));
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|error| format!("{remote}: {}", said.or(&uplink::chain(&error))))
}
