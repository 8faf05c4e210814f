//! Listeners with TLS, over real sockets: who is let in, who is refused, with which word, and that nobody holds up others.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::time::{Duration, Instant};

use rcgen::KeyPair;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::block_in_place;
use tokio_stream::wrappers::ReceiverStream;
use wire::pb;
use wire::pb::agent_message::Body;
use wire::pb::controller_message::Body as Down;
use wire::pb::identity_client::IdentityClient;
use wire::pb::session_client::SessionClient;

use autoscaler::tls::authority::Authority;
use autoscaler::tls::peer::node_of;
use support::agent::{Books, hello, up};
use support::tls::{self, DAY, counted, host, join, node, request, token, until_counted};
use support::{Service, binary};

const TLS: [&str; 2] = ["--listen", "https://127.0.0.1:0"];

/// Opens a stream as `name`; its first answer, or the words of the refusal.
async fn stream(service: &Service, shown: Option<tls::Shown>, name: &str) -> Result<Down, String> {
    let channel = tls::channel(service, shown).await.ok_or("no connection")?;
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let first = up(Body::Hello(wire::convert::hello_to_pb(hello(name, &Books::default()))));
    sender.send(first).await.unwrap();
    let opening = async {
        let answer = SessionClient::new(channel).open(ReceiverStream::new(receiver)).await;
        let mut down = answer.map_err(|status| status.message().to_owned())?.into_inner();
        let message = down.message().await.map_err(|status| status.message().to_owned())?;
        message.and_then(|message| message.body).ok_or_else(|| "closed".to_owned())
    };
    tokio::time::timeout(Duration::from_secs(30), opening).await.expect("it must not hang")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_streams_as_itself_and_renews() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &TLS);
    let secret = block_in_place(|| token(&service, "n1"));
    let key = KeyPair::generate().unwrap();
    let given = join(&service, "n1", secret, request(&key)).await.unwrap();
    assert_eq!(node_of(&given.certificate).unwrap().as_str(), "n1");
    assert_eq!(given.authority, tls::authority(&service).certificate().to_vec());
    let shown = || Some((vec![given.certificate.clone().into()], tls::private(&key)));
    assert!(matches!(stream(&service, shown(), "n1").await, Ok(Down::Welcome(_))));

    let other = KeyPair::generate().unwrap();
    let mut client = IdentityClient::new(tls::channel(&service, shown()).await.unwrap());
    let next = client.renew(pb::RenewRequest { request: request(&other) }).await.unwrap().into_inner();
    assert_eq!(node_of(&next.certificate).unwrap().as_str(), "n1");
    let renewed = Some((vec![next.certificate.into()], tls::private(&other)));
    assert!(matches!(stream(&service, renewed, "n1").await, Ok(Down::Welcome(_))));

    // After a restart the authority is the same, and so both certificates are good.
    block_in_place(|| service.kill());
    let service = block_in_place(|| Service::start(state.path(), &TLS));
    assert!(matches!(stream(&service, shown(), "n1").await, Ok(Down::Welcome(_))));
    assert_eq!(block_in_place(|| service.get("/api/v1/nodes/n1").1["connected"].clone()), true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_speaks_for_the_node_of_its_certificate_only() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &TLS);
    let authority = tls::authority(&service);

    let why = stream(&service, Some(node(&authority, "n1", 0)), "n2").await;
    let Ok(Down::Refusal(refusal)) = why else { panic!("{why:?}") };
    assert!(
        refusal.why.contains("`n2`") && refusal.why.contains("certificate is for `n1`"),
        "{}",
        refusal.why
    );
    block_in_place(|| until_counted(&service, "streams_closed", "identity", 1));

    let why = stream(&service, None, "n1").await.unwrap_err();
    assert!(why.contains("no client certificate") && why.contains("join"), "{why}");
    block_in_place(|| until_counted(&service, "streams_closed", "no_certificate", 1));
    let mut client = IdentityClient::new(tls::channel(&service, None).await.unwrap());
    let renewing = pb::RenewRequest { request: request(&KeyPair::generate().unwrap()) };
    let why = client.renew(renewing).await.unwrap_err();
    assert!(why.message().contains("no client certificate"), "{why}");
    block_in_place(|| until_counted(&service, "certificates_refused", "no_certificate", 1));

    // The service's own certificate is no node's: it is for another purpose.
    let names = ["127.0.0.1".to_owned()];
    let own = authority.for_service(&names, autoscaler::clock::wall_ms(), DAY).unwrap();
    let why = stream(&service, Some(own), "n1").await.unwrap_err();
    assert!(!why.is_empty());
    block_in_place(|| until_counted(&service, "tls_handshakes_failed", "certificate_invalid", 1));
    assert_eq!(block_in_place(|| service.get("/api/v1/nodes").1["items"].clone()), serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_good_once_for_its_node_in_its_time() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &TLS);
    let asked = || request(&KeyPair::generate().unwrap());
    let refused = |service: &Service, code: &str| counted(service, "certificates_refused", code);

    let (first, second) = block_in_place(|| (token(&service, "n1"), token(&service, "n2")));
    let why = join(&service, "n2", first.clone(), asked()).await.unwrap_err();
    assert!(why.contains("for node `n1`, not for `n2`"), "{why}");
    let why = join(&service, "n1", vec![9; 16], asked()).await.unwrap_err();
    assert!(why.contains("not known here"), "{why}");
    let why = join(&service, "n1", first.clone(), b"no request".to_vec()).await.unwrap_err();
    assert!(why.contains("request does not hold"), "{why}");
    let why = join(&service, "../n1", first.clone(), asked()).await.unwrap_err();
    assert!(why.contains("node name"), "{why}");
    let why = join(&service, "n1", vec![1; 15], asked()).await.unwrap_err();
    assert!(why.contains("15 bytes"), "{why}");
    join(&service, "n1", first.clone(), asked()).await.expect("what was refused before cost nothing");
    let why = join(&service, "n1", first.clone(), asked()).await.unwrap_err();
    assert!(why.contains("used before"), "{why}");
    for code in ["token_of_another_node", "token_unknown", "invalid", "token_used"] {
        assert!(block_in_place(|| refused(&service, code)) >= 1, "{code}");
    }

    // Neither a crash nor a restart makes it good again; one that was not used is still good.
    block_in_place(|| service.kill());
    let service = block_in_place(|| Service::start(state.path(), &TLS));
    let why = join(&service, "n1", first, asked()).await.unwrap_err();
    assert!(why.contains("used before"), "{why}");
    join(&service, "n2", second, asked()).await.unwrap();

    // A newer one replaces it.
    let (old, new) = block_in_place(|| (token(&service, "n3"), token(&service, "n3")));
    assert!(join(&service, "n3", old, asked()).await.unwrap_err().contains("not known here"));
    join(&service, "n3", new, asked()).await.unwrap();

    // Its time is over.
    let late = block_in_place(|| token(&service, "n4"));
    block_in_place(|| service.stop());
    let db = rusqlite::Connection::open(state.path().join(autoscaler::store::FILE)).unwrap();
    let changed = db.execute("UPDATE join_tokens SET expires_ms = expires_ms - 900001 WHERE node = 'n4'", []);
    assert_eq!(changed.unwrap(), 1);
    drop(db);
    let service = block_in_place(|| Service::start(state.path(), &TLS));
    let why = join(&service, "n4", late, asked()).await.unwrap_err();
    assert!(why.contains("has expired"), "{why}");
    assert_eq!(block_in_place(|| refused(&service, "token_expired")), 1);
}

#[test]
fn killed_at_any_point_of_its_first_start_the_authority_is_whole_or_absent() {
    let (mut whole, mut absent, mut delay) = (0, 0, Duration::ZERO);
    // Killed a little later each time, from before its making until well after it.
    while whole < 8 {
        assert!(delay < Duration::from_secs(60), "it was never made");
        let state = tempfile::tempdir().unwrap();
        let mut command = binary();
        command.args(["--state", state.path().to_str().unwrap(), "--listen", TLS[1], "--api", "127.0.0.1:0"]);
        let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(delay);
        delay += Duration::from_millis(2) + delay / 16;
        child.kill().unwrap();
        child.wait().unwrap();
        let file = state.path().join(autoscaler::tls::authority::FILE);
        let before = file.exists().then(|| std::fs::read(&file).unwrap());
        let made = Authority::open(state.path(), autoscaler::clock::wall_ms()).unwrap();
        match before {
            Some(before) => {
                whole += 1;
                assert_eq!(std::fs::read(&file).unwrap(), before, "it is not made anew");
                let service = Service::start(state.path(), &TLS);
                assert_eq!(tls::authority(&service).fingerprint(), made.fingerprint());
            }
            None => absent += 1,
        }
    }
    println!("whole {whole}, absent {absent}");
}

#[test]
fn a_token_is_refused_for_a_bad_name_without_tls_and_to_other_sites() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &TLS);
    let ask = |service: &Service, node: &str, headers: &[(&str, &str)]| {
        let answer = service.request("POST", &format!("/api/v1/nodes/{node}/join-token"), headers, "");
        (answer.status, answer.json()["detail"].as_str().unwrap_or_default().to_owned())
    };
    for bad in ["..%2Fetc", "-a", "a%20b", &"a".repeat(254)] {
        let (status, detail) = ask(&service, bad, &[]);
        assert!(status == 422 && detail.contains("cannot be a node's name"), "{bad}: {status} {detail}");
    }
    assert_eq!(ask(&service, "n1", &[("origin", "https://evil.example")]).0, 403);
    assert_eq!(ask(&service, "n1", &[("host", "evil.example")]).0, 403);
    service.stop();
    let plain = Service::start(state.path(), &[]);
    let (status, detail) = ask(&plain, "n1", &[]);
    assert!(status == 409 && detail.contains("https://ADDRESS"), "{status} {detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_does_not_hold_is_refused_with_an_alert_that_says_why() {
    let (state, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let service = Service::start(state.path(), &TLS);
    let authority = tls::authority(&service);
    let other = Authority::open(elsewhere.path(), autoscaler::clock::wall_ms()).unwrap();
    let cases = [
        (node(&authority, "n1", 2 * DAY), "CertificateExpired", "certificate_expired"),
        (node(&other, "n1", 0), "UnknownCA", "certificate_authority"),
    ];
    for (shown, alert, code) in cases {
        let root = authority.certificate().clone();
        // The handshake is over here before the other end has looked at the certificate.
        let outcome = match tls::connect(host(&service), root, Some(shown)).await {
            Ok(mut stream) => tls::rest(&mut stream).await.map(drop),
            Err(error) => Err(error),
        };
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(alert), "{error}");
        block_in_place(|| until_counted(&service, "tls_handshakes_failed", code, 1));
    }
    // Who expects another authority breaks off, and is counted.
    let error =
        tls::connect(host(&service), other.certificate().clone(), None).await.unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");
    block_in_place(|| until_counted(&service, "tls_handshakes_failed", "peer_refused", 1));
    assert!(matches!(stream(&service, Some(node(&authority, "n1", 0)), "n1").await, Ok(Down::Welcome(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_speak_tls_is_told_so_and_never_hangs() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &TLS);
    let talk = async |bytes: &[u8]| {
        let mut stream = TcpStream::connect(host(&service)).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        tls::rest(&mut stream).await.unwrap()
    };
    let answer = talk(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.1 400") && text.contains("this port speaks TLS"), "{text}");
    // An agent of old: HTTP/2 without TLS.
    let plain = tonic::transport::Endpoint::from_shared(format!("http://{}", host(&service))).unwrap();
    let spoken = match plain.connect().await {
        Ok(channel) => {
            let asked = pb::RenewRequest { request: Vec::new() };
            format!("{:?}", IdentityClient::new(channel).renew(asked).await.unwrap_err())
        }
        Err(error) => format!("{error:?}"),
    };
    assert!(spoken.contains("this port speaks TLS") || spoken.contains("INADEQUATE_SECURITY"), "{spoken}");
    block_in_place(|| until_counted(&service, "tls_handshakes_failed", "plain_http", 2));
    // A fatal alert of TLS: type 21, then version, length, level 2.
    let answer = talk(&[0x80; 600]).await;
    assert!(answer.first() == Some(&21) && answer.get(5) == Some(&2), "{answer:?}");
    let answer = talk(&[22, 3, 1, 0, 4, 9, 9, 9, 9]).await;
    assert!(answer.first() == Some(&21), "{answer:?}");
    block_in_place(|| until_counted(&service, "tls_handshakes_failed", "not_tls", 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_clients_hold_up_nobody_and_are_let_go() {
    // Two descriptors for each of 1,300 connections, half of them the service's, which inherits the limit.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &TLS);
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(host(&service)).await.unwrap());
    }
    let authority = tls::authority(&service);
    let mut stranger = tls::connect(host(&service), authority.certificate().clone(), None).await.unwrap();
    let began = Instant::now();
    let mut coming = tokio::task::JoinSet::new();
    for number in 0..1000 {
        let (shown, root) = (node(&authority, &format!("n{number}"), 0), authority.certificate().clone());
        let address = host(&service).to_owned();
        coming.spawn(async move { tls::connect(&address, root, Some(shown)).await.map(drop) });
    }
    while let Some(came) = coming.join_next().await {
        came.unwrap().unwrap();
    }
    let took = began.elapsed();
    // No measure of speed: the silent ones are still there, so nobody waited for one of them.
    let mut byte = [0];
    let first = tokio::time::timeout(Duration::from_millis(1), silent[0].peek(&mut byte)).await;
    assert!(first.is_err() || took > Duration::from_secs(9), "the silent ones were let go before: {took:?}");
    for stream in &mut silent {
        assert_eq!(tls::rest(stream).await.unwrap(), b"");
    }
    block_in_place(|| until_counted(&service, "tls_handshakes_failed", "timeout", 300));
    // Nor does one stay that shows no certificate and does not join.
    let _ = tls::rest(&mut stranger).await;
}

/// The certificate that a listener shows.
async fn shown(service: &Service) -> Vec<u8> {
    let root = tls::authority(service).certificate().clone();
    let stream = tls::connect(host(service), root, None).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_services_own_certificate_renews_itself_before_it_ends() {
    let state = tempfile::tempdir().unwrap();
    let config = state.path().join("a.toml");
    std::fs::write(&config, "[tls]\nlifetime = \"3s\"\n").unwrap();
    let more = [TLS[0], TLS[1], "--config", config.to_str().unwrap()];
    let service = Service::start(state.path(), &more);
    let first = shown(&service).await;
    let began = Instant::now();
    // Each connection verifies the certificate of that moment; three are more than one life.
    let mut seen = vec![first];
    while seen.len() < 4 {
        assert!(began.elapsed() < Duration::from_secs(60), "{} certificates", seen.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = shown(&service).await;
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owners_certificates_serve_as_well_and_are_read_again() {
    let (state, owner) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (now, names) = (autoscaler::clock::wall_ms(), ["127.0.0.1".to_owned()]);
    let authority = Authority::open(owner.path(), now).unwrap();
    let path = |name: &str| owner.path().join(name).display().to_string();
    let pem = |label: &str, der: &[u8]| pem::encode(&pem::Pem::new(label, der));
    let write = || {
        let (chain, key) = authority.for_service(&names, now, DAY).unwrap();
        std::fs::write(path("key"), pem("PRIVATE KEY", key.secret_der())).unwrap();
        std::fs::write(path("certificate"), pem("CERTIFICATE", &chain[0])).unwrap();
        chain[0].to_vec()
    };
    let before = write();
    std::fs::write(path("ca"), pem("CERTIFICATE", authority.certificate())).unwrap();
    let config = state.path().join("a.toml");
    let text = format!(
        "listen = \"https://127.0.0.1:0\"\n[tls]\ncertificate = {:?}\nkey = {:?}\nagents_ca = {:?}\n",
        path("certificate"),
        path("key"),
        path("ca")
    );
    std::fs::write(&config, &text).unwrap();
    let more = [TLS[0], TLS[1], "--config", config.to_str().unwrap()];
    let service = Service::start(state.path(), &more);
    assert!(!state.path().join("authority.pem").exists(), "no second authority");
    let seen = async || {
        let stream =
            tls::connect(host(&service), authority.certificate().clone(), Some(node(&authority, "n1", 0)));
        stream.await.unwrap().get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    assert_eq!(seen().await, before);
    let answer = block_in_place(|| service.request("POST", "/api/v1/nodes/n1/join-token", &[], ""));
    assert!(answer.status == 409 && answer.body.contains("come from the owner"), "{}", answer.body);

    let after = write();
    let began = Instant::now();
    while seen().await != after {
        assert!(began.elapsed() < Duration::from_secs(120), "the new files were not read");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    std::fs::write(path("ca"), "no certificate").unwrap();
    let mut command = binary();
    let elsewhere = owner.path().join("state").display().to_string();
    let output =
        command.args(["--config", config.to_str().unwrap(), "--state", &elsewhere]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("/ca holds no certificate"), "{said}");
}
