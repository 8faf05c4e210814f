//! A node's identity: whom it tells the token's secret, what it keeps, and what a failure leaves.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::identity::join::{configure, join};
use agent::identity::{self, Identity};
use agent::settings::Remote;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use wire::token::JoinToken;

/// An authority of a test.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

fn seconds_from_now(seconds: i64) -> std::time::SystemTime {
    let now = std::time::SystemTime::now();
    let step = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { now - step } else { now + step }
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap().into();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn leaf(
        &self,
        key: &KeyPair,
        purpose: ExtendedKeyUsagePurpose,
        name: &str,
        ends: i64,
    ) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        params.not_before = seconds_from_now(-7200).into();
        params.not_after = seconds_from_now(ends).into();
        params.signed_by(key, &self.issuer).unwrap().into()
    }

    /// What a service for `name` shows.
    fn service(&self, name: &str, ends: i64) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let leaf = self.leaf(&key, ExtendedKeyUsagePurpose::ServerAuth, name, ends);
        (vec![leaf, self.certificate.clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    /// What a node gets for its key.
    fn answer(&self, key: &PrivateKeyDer<'_>, ends: i64) -> wire::pb::Certificate {
        let key = KeyPair::try_from(key).unwrap();
        let leaf = self.leaf(&key, ExtendedKeyUsagePurpose::ClientAuth, "node.example", ends);
        wire::pb::Certificate { certificate: leaf.to_vec(), authority: self.certificate.to_vec() }
    }

    fn token(&self) -> JoinToken {
        let sum = ring::digest::digest(&ring::digest::SHA256, &self.certificate);
        JoinToken { authority: sum.as_ref().try_into().unwrap(), secret: [0x5e; 16] }
    }
}

/// Everything that a server got to read.
type Read = Arc<Mutex<Vec<u8>>>;

/// Shows this chain to everybody, and keeps what it is told once the handshake is over; at most so many bytes.
async fn server(
    shown: (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    most: usize,
) -> (Remote, Read) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(shown.0, shown.1)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (remote, read) = (at(&listener), Read::default());
    let seen = Arc::clone(&read);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut bytes).await {
                seen.lock().unwrap().extend(&bytes[..n]);
                if seen.lock().unwrap().len() >= most {
                    break;
                }
            }
        }
    });
    (remote, read)
}

fn at(listener: &TcpListener) -> Remote {
    Remote { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() }
}

/// Answers each connection with these bytes, and closes it when `ends`.
async fn plain(answer: &'static [u8], ends: bool) -> Remote {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let remote = at(&listener);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(answer).await;
            if ends {
                // What was sent is read first: a close with unread bytes would take the answer away.
                let _ = stream.read(&mut [0; 4096]).await;
            } else {
                kept.push(stream);
            }
        }
    });
    remote
}

async fn refused(remote: &Remote, token: &JoinToken, state: &Path) -> String {
    join(remote, token, &"n1".parse().unwrap(), state).await.unwrap_err().to_string()
}

#[tokio::test]
async fn the_secret_is_told_to_the_authority_of_the_token_only() {
    let state = tempfile::tempdir().unwrap();
    let (meant, evil) = (Authority::new(), Authority::new());
    // Another service; one that adds the right authority's certificate, which is public; one under another name; one whose time is
    // over.
    let (mut chain, key) = evil.service("127.0.0.1", 3600);
    chain.push(meant.certificate.clone());
    let cases = [
        (evil.service("127.0.0.1", 3600), "shows no authority with the token's hash"),
        ((chain, key), "shows no authority with the token's hash"),
        (meant.service("other.example", 3600), "is for another name"),
        (meant.service("127.0.0.1", -3600), "has expired"),
    ];
    for (shown, word) in cases {
        let (remote, read) = server(shown, usize::MAX).await;
        let why = refused(&remote, &meant.token(), state.path()).await;
        assert!(why.contains(word) && why.contains("token was not sent"), "{why}");
        assert!(read.lock().unwrap().is_empty(), "{word}: {:?}", read.lock().unwrap());
    }
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0, "nothing is left in the state directory");

    // The recording does record: to the right service the secret is told.
    let (remote, read) = server(meant.service("127.0.0.1", 3600), usize::MAX).await;
    let state = state.path().to_owned();
    let joining =
        tokio::spawn(async move { join(&remote, &meant.token(), &"n1".parse().unwrap(), &state).await });
    let began = std::time::Instant::now();
    while !read.lock().unwrap().starts_with(b"PRI * HTTP/2.0") {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing was recorded");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    joining.abort();
}

#[tokio::test]
async fn an_answer_that_does_not_come_says_that_the_token_may_be_spent() {
    let state = tempfile::tempdir().unwrap();
    let meant = Authority::new();
    let (remote, read) = server(meant.service("127.0.0.1", 3600), 200).await;
    let why = refused(&remote, &meant.token(), state.path()).await;
    assert!(why.contains("may count as used") && !why.contains("not sent"), "{why}");
    assert!(read.lock().unwrap().len() >= 200);
    assert!(Identity::open(state.path()).unwrap().is_none());
}

#[tokio::test]
async fn who_does_not_speak_tls_is_named_and_never_waited_for_long() {
    let state = tempfile::tempdir().unwrap();
    let token = Authority::new().token();
    let remote = plain(b"HTTP/1.1 400 Bad Request\r\n\r\n", true).await;
    let why = refused(&remote, &token, state.path()).await;
    assert!(why.contains("does not speak TLS there"), "{why}");
    let why = refused(&plain(b"", true).await, &token, state.path()).await;
    assert!(why.contains("closed the connection before TLS began"), "{why}");
    // Deadline of the agent: 10 s.
    let silent = plain(b"", false).await;
    let waited = tokio::time::timeout(Duration::from_secs(60), refused(&silent, &token, state.path())).await;
    assert!(waited.unwrap().contains("no connection with TLS within 10s"));
    let nobody = Remote { host: "127.0.0.1".to_owned(), port: 9 };
    let why = refused(&nobody, &token, state.path()).await;
    assert!(why.contains("https://127.0.0.1:9") && why.contains("token was not sent"), "{why}");
}

#[test]
fn an_identity_is_kept_whole_and_only_its_owner_reads_it() {
    let state = tempfile::tempdir().unwrap();
    assert!(Identity::open(state.path()).unwrap().is_none());
    let authority = Authority::new();
    let (key, _) = identity::request().unwrap();
    let identity = Identity::given(key.clone_key(), authority.answer(&key, 3600)).unwrap();
    identity.keep(state.path()).unwrap();
    let path = state.path().join(identity::FILE);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let read = Identity::open(state.path()).unwrap().unwrap();
    assert_eq!(read.validity(), identity.validity());
    let validity = read.validity().unwrap();
    assert_eq!(validity.not_after_s - validity.not_before_s, 10_800);

    // The next one cannot be written: the one before stays in use.
    fs::create_dir(path.with_extension("new")).unwrap();
    let (key, _) = identity::request().unwrap();
    let next = Identity::given(key.clone_key(), authority.answer(&key, 7200)).unwrap();
    assert!(next.keep(state.path()).is_err());
    assert_eq!(Identity::open(state.path()).unwrap().unwrap().validity(), identity.validity());
    fs::remove_dir(path.with_extension("new")).unwrap();
    next.keep(state.path()).unwrap();
    assert_eq!(Identity::open(state.path()).unwrap().unwrap().validity(), next.validity());

    let whole = fs::read_to_string(&path).unwrap();
    for damaged in ["", &whole[..whole.len() / 2], &whole.replacen("PRIVATE", "PUBLIC", 2)] {
        fs::write(&path, damaged).unwrap();
        let why = Identity::open(state.path()).unwrap_err().to_string();
        assert!(why.contains("identity.pem is damaged") && why.contains("join again"), "{why}");
    }
}

#[test]
fn a_certificate_that_does_not_fit_is_not_taken() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (key, _) = identity::request().unwrap();
    let (stranger, _) = identity::request().unwrap();
    let mut mixed = authority.answer(&key, 3600);
    mixed.authority = other.certificate.to_vec();
    let cases = [
        (authority.answer(&stranger, 3600), "key and certificate"),
        (mixed, "BadSignature"),
        (authority.answer(&key, -60), "clocks"),
        (wire::pb::Certificate::default(), "cannot be read"),
    ];
    for (answer, word) in cases {
        let why = Identity::given(key.clone_key(), answer).unwrap_err().to_string();
        assert!(why.contains("does not hold") && why.contains(word), "{word}: {why}");
    }
}

#[test]
fn the_configuration_is_written_once_and_an_owners_file_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.toml");
    let remote = Remote { host: "2001:db8::1".to_owned(), port: 7783 };
    let node = "n1".parse().unwrap();
    let written = configure(&file, &remote, &node).unwrap();
    let text = fs::read_to_string(&written).unwrap();
    assert!(text.ends_with("node = \"n1\"\nautoscaler = \"https://[2001:db8::1]:7783\"\n"), "{text}");
    let before = fs::metadata(&written).unwrap().modified().unwrap();
    assert_eq!(configure(&file, &remote, &node).unwrap(), written);
    assert_eq!(fs::metadata(&written).unwrap().modified().unwrap(), before, "the same again changes nothing");
    configure(&file, &Remote { port: 1, ..remote.clone() }, &node).unwrap();
    assert!(fs::read_to_string(&written).unwrap().contains("]:1\""));
    fs::write(&written, "# mine\n").unwrap();
    assert!(configure(&file, &remote, &node).unwrap_err().contains("left alone"));
    assert_eq!(fs::read_to_string(&written).unwrap(), "# mine\n");
}
