//! Clients with TLS: with a good certificate, a bad one, or none.

use std::sync::Arc;
use std::time::Duration;

use autoscaler::tls::authority::Authority;
use hyper_util::rt::TokioIo;
use model::id::NodeId;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use wire::pb;

use super::{PATIENCE, Service};

/// A key and a certificate for it.
pub(crate) type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

pub(crate) const DAY: u64 = 86_400_000;

/// The authority of a running service.
pub(crate) fn authority(service: &Service) -> Authority {
    Authority::open(&service.state, autoscaler::clock::wall_ms()).unwrap()
}

pub(crate) fn request(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

pub(crate) fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.serialize_der()).into()
}

/// What a node shows that `authority` let in `age_ms` ago, for a day.
pub(crate) fn node(authority: &Authority, name: &str, age_ms: u64) -> Shown {
    let key = KeyPair::generate().unwrap();
    let name: NodeId = name.parse().unwrap();
    let began = autoscaler::clock::wall_ms() - age_ms;
    let certificate = authority.for_node(&name, &request(&key), began, DAY).unwrap();
    (vec![certificate], private(&key))
}

/// The other end's last word on a connection below HTTP.
pub(crate) async fn connect(
    address: &str,
    root: CertificateDer<'static>,
    shown: Option<Shown>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shown {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// HTTP/2 on a connection with TLS.
pub(crate) async fn channel(service: &Service, shown: Option<Shown>) -> Option<Channel> {
    let root = authority(service).certificate().clone();
    let mut stream = Some(connect(host(service), root, shown).await.ok()?);
    let connector = tower::service_fn(move |_: Uri| {
        let stream = stream.take();
        async move {
            stream.map(TokioIo::new).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected))
        }
    });
    Endpoint::from_static("http://autoscaler").connect_with_connector(connector).await.ok()
}

/// `HOST:PORT` of the listener with TLS.
pub(crate) fn host(service: &Service) -> &str {
    service.agents.strip_prefix("https://").unwrap()
}

/// Makes a token; its secret.
pub(crate) fn token(service: &Service, node: &str) -> Vec<u8> {
    let answer = service.request("POST", &format!("/api/v1/nodes/{node}/join-token"), &[], "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let text = answer.json()["token"].as_str().unwrap().to_owned();
    let token: wire::token::JoinToken = text.parse().unwrap();
    assert_eq!(token.authority, authority(service).fingerprint());
    token.secret.to_vec()
}

/// Joins; the certificate, or the words of the refusal.
pub(crate) async fn join(
    service: &Service,
    node: &str,
    secret: Vec<u8>,
    request: Vec<u8>,
) -> Result<pb::Certificate, String> {
    let channel = channel(service, None).await.ok_or("no connection")?;
    let mut client = pb::identity_client::IdentityClient::new(channel);
    let question = pb::JoinRequest { version: Some(wire::VERSION), node: node.to_owned(), secret, request };
    let answer = tokio::time::timeout(PATIENCE, client.join(question)).await.map_err(|e| e.to_string())?;
    answer.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
}

/// The value of a counter, by its line in `/metrics`; 0 when it is not there.
pub(crate) fn counted(service: &Service, name: &str, reason: &str) -> u64 {
    let line = format!("trimtab_{name}_total{{reason=\"{reason}\"}} ");
    let text = service.request("GET", "/metrics", &[], "").body;
    text.lines().find_map(|l| l.strip_prefix(&line)?.parse().ok()).unwrap_or(0)
}

/// Waits until something was counted.
pub(crate) fn until_counted(service: &Service, name: &str, reason: &str, least: u64) {
    service.until(&format!("{name} {reason}"), |s| (counted(s, name, reason) >= least).then_some(()));
}

/// Reads until the other end closes; what it said, and never longer than this.
pub(crate) async fn rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let reading = tokio::io::AsyncReadExt::read_to_end(stream, &mut bytes);
    tokio::time::timeout(Duration::from_secs(60), reading).await.expect("it must not hang")?;
    Ok(bytes)
}
