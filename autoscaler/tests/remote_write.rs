//! Samples reach a receiver of remote write once and in order, whatever it answers; and what it refuses is said.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use support::receiver::{Receiver, Reply, Sent};
use support::{Service, binary};

/// A service with this section in its configuration.
struct Sender {
    service: Service,
    folder: tempfile::TempDir,
}

impl Sender {
    fn start(section: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("autoscaler.toml");
        write(&config, section);
        let state = folder.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let service = Service::start_with(binary(), &state, &["--config", config.to_str().unwrap()]);
        Self { service, folder }
    }

    fn reconfigure(&self, section: &str) {
        write(&self.folder.path().join("autoscaler.toml"), section);
        self.service.reload();
    }

    /// The value of one of the counts of remote write.
    fn counted(&self, sample: &str) -> Option<f64> {
        let text = self.service.request("GET", "/metrics", &[], "").body;
        let sample = format!("trimtab_remote_write_{sample} ");
        text.lines().find_map(|line| line.strip_prefix(&sample)?.parse().ok())
    }

    fn until_counted(&self, sample: &str, least: f64) {
        self.service.until(sample, |_| self.counted(sample).filter(|count| *count >= least));
    }
}

fn write(config: &Path, section: &str) {
    std::fs::write(config, format!("[remote_write]\ninterval = \"1s\"\ntimeout = \"1s\"\n{section}\n"))
        .unwrap();
}

fn to(receiver: &Receiver) -> String {
    format!("url = \"http://{}/api/v1/write\"", receiver.address)
}

fn secret(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("secret");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Each series of what was taken, with its times in the order in which they came.
fn times(sent: &[Sent]) -> BTreeMap<String, Vec<i64>> {
    let mut times: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (labels, at, _) in sent.iter().filter(|one| one.taken).flat_map(Sent::samples) {
        times.entry(labels).or_default().push(at);
    }
    times
}

#[test]
fn what_a_scrape_has_arrives_once_and_in_order_whatever_happens_on_the_way() {
    let script = [
        Reply::Status(500, "x-none: 1"),
        Reply::Status(429, "retry-after: 3"),
        Reply::Cut,
        Reply::Hang,
        Reply::Status(200, "x-none: 1"),
        Reply::Status(503, "retry-after: Sun, 06 Nov 1994 08:49:37 GMT"),
    ];
    let receiver = Receiver::start(&script, None);
    let secrets = tempfile::tempdir().unwrap();
    let token = secret(secrets.path(), "s3cret\n");
    let sender = Sender::start(&format!(
        "{}\nbearer_token_file = \"{}\"\nlabels = [\"cluster=north\", \"instance=i1\"]",
        to(&receiver),
        token.display()
    ));
    let sent = sender.service.until("a dozen rounds", |_| {
        let sent = receiver.sent();
        (times(&sent).values().any(|times| times.len() >= 12)).then_some(sent)
    });
    let first = &sent[0];
    for header in [
        "post /api/v1/write http/1.1",
        "content-encoding: snappy",
        "content-type: application/x-protobuf",
        "x-prometheus-remote-write-version: 0.1.0",
        "authorization: bearer s3cret",
        &format!("host: {}", receiver.address),
    ] {
        assert!(first.head.contains(header), "{header}: {}", first.head);
    }
    for again in &sent[1..5] {
        assert_eq!(again.body, first.body, "it is the same that is sent again");
    }
    assert!(sent[4].taken && sent[5].body != first.body);
    assert_eq!(sent[6].body, sent[5].body);
    let waited = sent[2].at.duration_since(sent[1].at);
    assert!(waited >= Duration::from_secs(3), "it asked for 3 s: {waited:?}");

    let times = times(&sent);
    let loop_answers =
        "__name__=\"trimtab_loop_answers\",cluster=\"north\",instance=\"i1\",job=\"trimtab-autoscaler\"";
    let rounds = &times[loop_answers];
    for (labels, times) in &times {
        assert!(times.is_sorted_by(|a, b| a < b), "{labels}: {times:?}");
    }
    for pair in rounds.windows(2) {
        assert!((pair[1] - pair[0]) < 2_500, "none is missing, whatever happened: {rounds:?}");
    }

    sender.until_counted("samples_total", 1.0);
    for reason in ["status_5xx\"} 2", "status_429\"} 1", "network\"} 1", "timeout\"} 1"] {
        let (reason, count) = reason.split_once("\"} ").unwrap();
        let count: f64 = count.parse().unwrap();
        assert_eq!(
            sender.counted(&format!("requests_failed_total{{reason=\"{reason}\"}}")),
            Some(count),
            "{reason}"
        );
    }
    for reason in ["queue_full", "refused", "clock_set_back"] {
        assert_eq!(sender.counted(&format!("samples_dropped_total{{reason=\"{reason}\"}}")), Some(0.0));
    }
    sender.service.until("nothing waits", |_| (sender.counted("behind_seconds")? < 2.0).then_some(()));
    let names = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.split(['{', ' ']).next().unwrap_or_default().to_owned()).collect()
    };
    let scraped = names(&sender.service.request("GET", "/metrics", &[], "").body);
    let name = |labels: &str| labels.split('"').nth(1).unwrap().to_owned();
    // Asking counts as a request, of which the next samples tell.
    sender.service.until("the same names", |_| {
        let newest = receiver.sent().last()?.samples();
        let sent: BTreeSet<String> = newest.iter().map(|(labels, ..)| name(labels)).collect();
        (sent == scraped).then_some(())
    });
    let own = ["behind_seconds", "samples_total"].map(|name| format!("trimtab_remote_write_{name}"));
    assert!(own.iter().all(|name| scraped.contains(name)), "{scraped:?}");
    assert_eq!(sender.service.stop(), Some(0));
}

#[test]
fn what_is_refused_is_dropped_said_once_and_what_follows_is_taken() {
    let no = Reply::Status(400, "x-none: 1");
    let receiver = Receiver::start(&[no, no, Reply::Status(308, "location: /elsewhere"), no], None);
    let sender = Sender::start(&to(&receiver));
    sender.until_counted("samples_total", 1.0);
    let sent = receiver.sent();
    assert!(
        sent[..4].windows(2).all(|pair| pair[0].body != pair[1].body),
        "what was refused is not sent again"
    );
    let refused: usize = sent[..4].iter().map(|one| one.samples().len()).sum();
    assert_eq!(sender.counted("samples_dropped_total{reason=\"refused\"}"), Some(refused as f64));
    assert_eq!(sender.counted("requests_failed_total{reason=\"status_4xx\"}"), Some(3.0));
    assert_eq!(sender.counted("requests_failed_total{reason=\"status_3xx\"}"), Some(1.0));
    let log = sender.service.logged();
    assert_eq!(
        log.matches("it answered 400: because the test says so").count(),
        2,
        "before and after 308: {log}"
    );
    assert_eq!(log.matches("takes samples again").count(), 1, "{log}");
}

#[test]
fn a_receiver_that_comes_late_or_again_gets_what_was_taken_meanwhile() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sender = Sender::start(&format!("url = \"http://{address}/w\""));
    sender.until_counted("requests_failed_total{reason=\"network\"}", 2.0);
    sender.until_counted("behind_seconds", 3.0);
    assert!(sender.counted("waiting_bytes").unwrap() > 100.0);
    assert_eq!(sender.service.get("/api/v1/status").0, 200, "nobody else waits for it");
    let receiver = Receiver::on(TcpListener::bind(address).unwrap(), &[], None);
    sender.service.until("nothing waits", |_| (sender.counted("behind_seconds")? < 2.0).then_some(()));
    let longest = times(&receiver.sent()).into_values().map(|times| times.len()).max();
    assert!(longest.unwrap() >= 3, "what was taken while it was away is there");
    let log = sender.service.logged();
    assert_eq!(log.matches("samples cannot be sent").count(), 1, "{log}");
}

#[test]
fn a_reload_changes_the_receiver_and_a_bad_one_changes_nothing() {
    let (first, second) = (Receiver::start(&[], None), Receiver::start(&[], None));
    let sender = Sender::start(&to(&first));
    sender.service.until("the first", |_| (!first.sent().is_empty()).then_some(()));
    let loose = sender.folder.path().join("loose");
    std::fs::write(&loose, "a:b").unwrap();
    std::fs::set_permissions(&loose, std::fs::Permissions::from_mode(0o644)).unwrap();
    let bad = format!("{}\nbasic_auth_file = \"{}\"", to(&second), loose.display());
    sender.reconfigure(&bad);
    sender.service.until("the refusal", |service| service.logged().contains("chmod o=").then_some(()));
    let log = sender.service.logged();
    assert!(log.contains("autoscaler.toml:5:1") && log.contains("not reloaded"), "{log}");
    let before = first.sent().len();
    sender.service.until("the first goes on", |_| (first.sent().len() > before + 1).then_some(()));
    assert!(second.sent().is_empty());
    let checked = binary()
        .args(["check-config", "--state", "/tmp/none", "--config"])
        .arg(sender.folder.path().join("autoscaler.toml"))
        .output()
        .unwrap();
    assert_eq!(checked.status.code(), Some(5), "{checked:?}");
    assert!(String::from_utf8_lossy(&checked.stderr).contains("chmod o="));

    let login = secret(sender.folder.path(), "Aladdin:open sesame");
    sender.reconfigure(&format!("{}\nbasic_auth_file = \"{}\"", to(&second), login.display()));
    sender.service.until("the second", |_| (!second.sent().is_empty()).then_some(()));
    assert!(second.sent()[0].head.contains("authorization: basic qwxhzgrpbjpvcgvuihnlc2ftzq=="));
    sender.reconfigure("url = \"\"\n");
    sender.service.until("a refusal: the rest of the section is still there", |service| {
        service.logged().contains("give remote_write.url").then_some(())
    });
    std::fs::write(sender.folder.path().join("autoscaler.toml"), "").unwrap();
    sender.service.reload();
    sender.service.until("the end of it", |_| sender.counted("samples_total").is_none().then_some(()));
    assert!(
        !sender.service.logged().contains("takes effect at the next start"),
        "{}",
        sender.service.logged()
    );
}

#[test]
fn a_receiver_shows_who_it_is() {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .unwrap();
    let receiver = Receiver::start(&[], Some(Arc::new(config)));
    let port = receiver.address.port();
    let folder = tempfile::tempdir().unwrap();
    let (ca, other) = (folder.path().join("ca.pem"), folder.path().join("other.pem"));
    std::fs::write(&ca, key.cert.pem()).unwrap();
    let stranger = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&other, stranger.cert.pem()).unwrap();
    let section =
        |host: &str, ca: &Path| format!("url = \"https://{host}:{port}/w\"\nca = \"{}\"", ca.display());

    let sender = Sender::start(&section("localhost", &other));
    sender.until_counted("requests_failed_total{reason=\"tls\"}", 1.0);
    assert!(
        sender.service.logged().contains("name that one in remote_write.ca"),
        "{}",
        sender.service.logged()
    );
    sender.reconfigure(&section("127.0.0.1", &ca));
    sender
        .service
        .until("the wrong name", |service| service.logged().contains("for another name").then_some(()));
    assert!(receiver.sent().is_empty(), "nothing was told to somebody unknown");
    sender.reconfigure(&section("localhost", &ca));
    sender.until_counted("samples_total", 1.0);
    assert!(receiver.sent()[0].head.contains(&format!("host: localhost:{port}")));
}
