//! TLS handshakes, off the accept loop.
//!
//! Problem: a peer that connects and says nothing must not hold up a thousand that come back at once. Method: accepting only
//! starts a task for each connection; a handshake has [`PATIENCE`], and when [`AT_ONCE`] are under way the oldest gives
//! way: an honest one takes milliseconds, so it is the oldest only in a flood of a few thousand. Who shows no certificate has
//! [`STRANGER`] to join, and there are at most [`STRANGERS`] of them. Who does not speak TLS, or
//! shows a certificate that does not hold, is told so before the connection is closed, and is counted.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::metrics::{Metrics, Reason};
use crate::tls::peer::Peer;

/// Longest handshake.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most handshakes at once. A silent peer holds a socket and a task here, and nothing of TLS before its first byte.
const AT_ONCE: usize = 2048;
/// Longest connection of a peer without a certificate: it only has to join.
const STRANGER: Duration = Duration::from_secs(20);
/// Most connections of such peers at once.
const STRANGERS: usize = 1024;
/// How long a refused peer may take to read why.
const LINGER: Duration = Duration::from_secs(1);
/// Wait after an accept that failed: descriptors are used up, and come back.
const PAUSE: Duration = Duration::from_millis(100);
/// First byte of a TLS handshake record, RFC 8446 §5.1.
const HANDSHAKE: u8 = 22;
/// A fatal alert, `decode_error`, RFC 8446 §6: what TLS says to bytes that make no sense.
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 50];
/// What HTTP/2 with prior knowledge begins with, RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2";

/// A connection whose other end is known.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    stranger: Option<Stranger>,
}

/// What a connection without a certificate may use.
#[derive(Debug)]
struct Stranger {
    until: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(stranger) = &mut self.stranger
            && stranger.until.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Connections of a listener as their handshakes end. Accepting stops when nobody takes them any more.
pub(super) fn connections(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    metrics: Metrics,
) -> ReceiverStream<io::Result<Connection>> {
    let (done, connections) = mpsc::channel(64);
    tokio::spawn(accept(listener, TlsAcceptor::from(config), metrics, done, AT_ONCE));
    ReceiverStream::new(connections)
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    metrics: Metrics,
    done: mpsc::Sender<io::Result<Connection>>,
    at_once: usize,
) {
    let mut under_way: VecDeque<AbortHandle> = VecDeque::new();
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    loop {
        let (stream, from) = tokio::select! {
            () = done.closed() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(_) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        // Small messages must not wait for each other; without it they are slower, not wrong.
        let _ = stream.set_nodelay(true);
        if under_way.len() >= at_once {
            under_way.retain(|handshake| !handshake.is_finished());
        }
        if under_way.len() >= at_once
            && let Some(oldest) = under_way.pop_front()
        {
            oldest.abort();
            count(&metrics, "crowded");
        }
        let (acceptor, metrics, done) = (acceptor.clone(), metrics.clone(), done.clone());
        let strangers = Arc::clone(&strangers);
        let handshake = tokio::spawn(async move {
            let Ok(outcome) = tokio::time::timeout(PATIENCE, handshake(stream, acceptor, strangers)).await
            else {
                tracing::info!(%from, "no TLS handshake within 10 s: closed");
                return count(&metrics, "timeout");
            };
            match outcome {
                // The listener may be stopping.
                Ok(connection) => drop(done.send(Ok(connection)).await),
                Err(refused) => tell(refused, from, &metrics).await,
            }
        });
        under_way.push_back(handshake.abort_handle());
    }
}

fn count(metrics: &Metrics, reason: &'static str) {
    metrics.handshakes_failed.get_or_create(&Reason { reason }).inc();
}

/// A handshake that failed.
struct Refused {
    code: &'static str,
    why: String,
    /// A certificate that does not hold, and not just noise.
    is_notable: bool,
    /// The connection, on which the other end may still have to read why.
    stream: Option<TcpStream>,
}

async fn handshake(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    strangers: Arc<Semaphore>,
) -> Result<Connection, Refused> {
    if let Some(refused) = plain(&stream).await {
        return Err(Refused { stream: Some(stream), ..refused });
    }
    match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => {
            let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let peer = Peer::of(certificate.map(AsRef::as_ref));
            let stranger = match peer {
                Peer::Node(_) => None,
                Peer::Stranger | Peer::Nameless(_) => match strangers.try_acquire_owned() {
                    Ok(place) => {
                        Some(Stranger { until: Box::pin(tokio::time::sleep(STRANGER)), _place: place })
                    }
                    Err(_) => {
                        let why = "too many peers without a certificate are connected".to_owned();
                        return Err(Refused { code: "crowded", why, is_notable: true, stream: None });
                    }
                },
            };
            Ok(Connection { stream, peer, stranger })
        }
        Err((error, stream)) => {
            let (code, why, is_notable) = words(&error);
            if code == "not_tls" {
                // The library says nothing to a record that it cannot read; after an alert of its own a second one is not read.
                let _ = stream.try_write(&ALERT);
            }
            Err(Refused { code, why, is_notable, stream: Some(stream) })
        }
    }
}

/// What the other end speaks when it is not TLS; it is told so in its own words, where they are known.
async fn plain(stream: &TcpStream) -> Option<Refused> {
    let mut first = [0; 16];
    let seen = stream.peek(&mut first).await.unwrap_or(0);
    let first = &first[..seen];
    let (code, why, answer) = match first.first() {
        None | Some(&HANDSHAKE) => return None,
        // Methods are upper-case words.
        Some(byte) if byte.is_ascii_uppercase() => {
            let answer = if first.starts_with(PREFACE) {
                goaway("this port speaks TLS: use https://")
            } else {
                let body =
                    "this port speaks TLS: use https:// and a client certificate (trimtab node join-token)\n";
                let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length:";
                format!("{head} {}\r\n\r\n{body}", body.len()).into_bytes()
            };
            ("plain_http", "it speaks HTTP without TLS to a port with TLS", answer)
        }
        Some(_) => ("not_tls", "it does not speak TLS", ALERT.to_vec()),
    };
    // A peer that went away needs no answer.
    let _ = stream.writable().await;
    let _ = stream.try_write(&answer);
    Some(Refused { code, why: why.to_owned(), is_notable: false, stream: None })
}

/// Empty SETTINGS, then GOAWAY with INADEQUATE_SECURITY and words, RFC 9113 §6.5, §6.8, §7.
fn goaway(words: &str) -> Vec<u8> {
    let length = u8::try_from(8 + words.len()).unwrap_or(u8::MAX);
    let mut frames = vec![0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, length, 7, 0, 0, 0, 0, 0];
    frames.extend([0, 0, 0, 0, 0, 0, 0, 0x0c]);
    frames.extend(words.bytes().take(usize::from(length) - 8));
    frames
}

/// A code, words, and whether an owner should look at it.
fn words(error: &io::Error) -> (&'static str, String, bool) {
    use rustls::Error as E;
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<E>());
    let told = |code, why: &str| (code, why.to_owned(), true);
    match inner {
        Some(E::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            told("certificate_expired", "its certificate has expired: the node must join again")
        }
        Some(E::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => told("certificate_not_yet_valid", "its certificate is not valid yet: compare the clocks"),
        Some(E::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            told(
                "certificate_authority",
                "its certificate is from another authority: the node must join this service",
            )
        }
        Some(E::InvalidCertificate(other)) => {
            ("certificate_invalid", format!("its certificate does not hold: {other}"), true)
        }
        Some(E::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown,
        )) => told(
            "peer_refused",
            "it does not accept this service's certificate: it joined another one, or knows another name",
        ),
        Some(E::AlertReceived(alert)) => ("peer_refused", format!("it broke off: {alert:?}"), false),
        Some(E::InvalidMessage(_)) => ("not_tls", "it does not speak TLS".to_owned(), false),
        Some(other) => ("protocol", other.to_string(), false),
        None => ("closed", error.to_string(), false),
    }
}

/// Says and counts why, and lets the other end read what it was told: a close with unread bytes would take it away.
async fn tell(refused: Refused, from: SocketAddr, metrics: &Metrics) {
    let Refused { code, why, is_notable, stream } = refused;
    if is_notable {
        tracing::warn!(%from, reason = code, %why, "a TLS connection was refused");
    } else {
        tracing::info!(%from, reason = code, %why, "a TLS connection was refused");
    }
    count(metrics, code);
    if let Some(mut stream) = stream {
        let drain = async {
            let _ = stream.shutdown().await;
            let mut waste = [0; 4096];
            while matches!(stream.read(&mut waste).await, Ok(n) if n > 0) {}
        };
        let _ = tokio::time::timeout(LINGER, drain).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, TlsSettings};
    use crate::tls::Tls;

    #[tokio::test]
    async fn when_too_many_are_under_way_the_oldest_gives_way() {
        let state = tempfile::tempdir().unwrap();
        let settings = TlsSettings {
            names: vec!["127.0.0.1".to_owned()],
            source: Source::BuiltIn,
            lifetime_ms: 86_400_000,
        };
        let metrics = Metrics::new();
        let tls = Tls::open(state.path(), settings, metrics.clone()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (done, _connections) = mpsc::channel(4);
        let accepting =
            tokio::spawn(accept(listener, TlsAcceptor::from(tls.config()), metrics.clone(), done, 3));
        let mut silent = Vec::new();
        for _ in 0..5 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        for stream in &mut silent[..2] {
            // Closed without a word, long before its time is over.
            let closed = tokio::time::timeout(PATIENCE / 2, stream.read(&mut [0; 16])).await;
            assert!(matches!(closed.unwrap(), Ok(0) | Err(_)));
        }
        let crowded = metrics.handshakes_failed.get_or_create(&Reason { reason: "crowded" }).get();
        assert_eq!(crowded, 2);
        for stream in &silent[2..] {
            let waiting = stream.try_read(&mut [0; 16]).unwrap_err();
            assert_eq!(waiting.kind(), io::ErrorKind::WouldBlock, "the younger ones are still waited for");
        }
        accepting.abort();
    }

    #[test]
    fn the_words_to_http_2_are_two_frames() {
        let frames = goaway("no");
        assert_eq!(frames[..9], [0, 0, 0, 4, 0, 0, 0, 0, 0]);
        assert_eq!(frames[9..18], [0, 0, 10, 7, 0, 0, 0, 0, 0]);
        assert_eq!((&frames[18..26], &frames[26..]), (&[0, 0, 0, 0, 0, 0, 0, 12][..], &b"no"[..]));
        assert!(goaway(&"x".repeat(400)).len() < 300);
    }
}
