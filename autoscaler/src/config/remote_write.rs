//! The `[remote_write]` section: where samples are sent, and how this service shows who it is there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use axum::http::Uri;

use super::keys::KEYS;
use super::settings::Check;

/// Where the samples of `/metrics` are sent, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteWriteSettings {
    /// The receiver.
    pub endpoint: Endpoint,
    /// Distance of samples, ms.
    pub interval_ms: u64,
    /// Longest time of a request, ms.
    pub timeout_ms: u64,
    /// What may wait, bytes as they are sent.
    pub max_bytes: u64,
    /// Labels on every sample.
    pub labels: BTreeMap<String, String>,
    /// How this service shows who it is.
    pub login: Option<Login>,
    /// Who may sign the receiver's certificate; `None` = whom the host believes.
    pub ca: Option<PathBuf>,
}

/// An address of HTTP, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `https://`.
    pub tls: bool,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Host and port as they were written: what `Host` says.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// Plain HTTP stays on this host, wherever the name leads.
    pub loopback_only: bool,
}

/// How this service shows who it is; the files are read for each request, so they may be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// A file with a token.
    Bearer(PathBuf),
    /// A file with a line `USER:PASSWORD`.
    Basic(PathBuf),
}

const SECTION: &str = "remote_write.";
const URL: &str = "remote_write.url";
const LABELS: &str = "remote_write.labels";
const BEARER: &str = "remote_write.bearer_token_file";
const BASIC: &str = "remote_write.basic_auth_file";
const CA: &str = "remote_write.ca";
const PLAIN: &str = "remote_write.allow_plain_http";

/// Labels that samples have themselves: another value would be a lie.
pub(crate) const OWN_LABELS: [&str; 13] = [
    "act", "cause", "kind", "le", "mode", "node", "policy", "reason", "signal", "state", "tier", "version",
    "workload",
];

impl Check<'_> {
    /// `Some(None)` when nothing is sent; `None` after a fault.
    pub(super) fn remote_write(&mut self) -> Option<Option<RemoteWriteSettings>> {
        let url = self.input.get(URL).0.to_owned();
        if url.is_empty() {
            return self.nothing_is_set().then_some(None);
        }
        let plain = self.parsed::<bool>(PLAIN);
        let interval = self.millis("remote_write.interval", 1000, 600_000);
        let timeout = self.millis("remote_write.timeout", 1000, 600_000);
        let max = self.bytes("remote_write.max_bytes", 1 << 20, 4 << 30);
        let labels = self.labels();
        let login = self.login();
        let ca = self.file(CA);
        let endpoint = match endpoint(&url) {
            Ok(endpoint) => Some(endpoint),
            Err(message) => {
                self.fault(URL, message);
                None
            }
        };
        let (mut endpoint, login, ca) = (endpoint?, login?, ca?);
        if !endpoint.tls {
            if ca.is_some() {
                self.fault(
                    CA,
                    "the address is no https://, so no certificate is looked at: remove one of the two",
                );
                return None;
            }
            endpoint.loopback_only = !plain? || login.is_some();
            if endpoint.loopback_only && !is_loopback(&endpoint.host) {
                self.fault(URL, plain_to_others(&url, login.is_some()));
                return None;
            }
        }
        Some(Some(RemoteWriteSettings {
            endpoint,
            interval_ms: interval?,
            timeout_ms: timeout?,
            max_bytes: max?,
            labels: labels?,
            login,
            ca,
        }))
    }

    /// A section that is ignored must not look as if it worked.
    fn nothing_is_set(&mut self) -> bool {
        let mut good = true;
        for key in KEYS.iter().filter(|key| key.name.starts_with(SECTION)) {
            if self.input.get(key.name).0 != key.default {
                self.fault(
                    key.name,
                    "nothing is sent without an address: give remote_write.url, or remove this",
                );
                good = false;
            }
        }
        good
    }

    fn labels(&mut self) -> Option<BTreeMap<String, String>> {
        let text = self.input.get(LABELS).0.to_owned();
        let mut labels = BTreeMap::from([("job".to_owned(), "trimtab-autoscaler".to_owned())]);
        labels
            .insert("instance".to_owned(), rustix::system::uname().nodename().to_string_lossy().into_owned());
        let mut good = true;
        for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            match label(one) {
                Ok((name, value)) => {
                    labels.insert(name.to_owned(), value.to_owned());
                }
                Err(message) => {
                    self.fault(LABELS, message);
                    good = false;
                }
            }
        }
        // A label without a value is none.
        labels.retain(|_, value| !value.is_empty());
        good.then_some(labels)
    }

    fn login(&mut self) -> Option<Option<Login>> {
        match (self.file(BEARER)?, self.file(BASIC)?) {
            (Some(_), Some(_)) => {
                self.fault(BASIC, format!("give {BEARER} or {BASIC}, not both"));
                None
            }
            (Some(file), None) => Some(Some(Login::Bearer(file))),
            (None, Some(file)) => Some(Some(Login::Basic(file))),
            (None, None) => Some(None),
        }
    }

    /// `Some(None)` when none is given; `None` after a fault.
    fn file(&mut self, name: &'static str) -> Option<Option<PathBuf>> {
        let path = PathBuf::from(self.input.get(name).0);
        if path.as_os_str().is_empty() || path.is_absolute() {
            return Some(Some(path).filter(|path| path.is_absolute()));
        }
        self.fault(name, "the file must be an absolute path");
        None
    }
}

fn endpoint(url: &str) -> Result<Endpoint, String> {
    let wrong = || {
        let shown: String = url.chars().take(100).collect();
        format!("{shown:?} is no address: write for example https://metrics.example.com/api/v1/write")
    };
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(wrong()),
    };
    let authority = uri.authority().ok_or_else(wrong)?;
    if authority.as_str().contains('@') {
        // The address itself is not repeated: it has a password in it.
        return Err(format!(
            "a password does not belong into the address: put USER:PASSWORD into a file, and name it in {BASIC}"
        ));
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let behind = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    let port = match behind.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port: &u16| *port > 0).ok_or_else(wrong)?,
        None if tls => 443,
        None => 80,
    };
    if host.is_empty() {
        return Err(wrong());
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    Ok(Endpoint { tls, host, port, authority: authority.as_str().to_owned(), path, loopback_only: false })
}

/// By its name; where the name leads is looked at again when it is dialled.
fn is_loopback(host: &str) -> bool {
    let address = host.parse::<IpAddr>().map(|address| address.to_canonical().is_loopback());
    address.unwrap_or_else(|_| host.eq_ignore_ascii_case("localhost"))
}

fn plain_to_others(url: &str, login: bool) -> String {
    let what = if login { "the secret of this service" } else { "what is sent" };
    let way_out = if login {
        String::new()
    } else {
        format!(", or set {PLAIN} = \"true\" where everybody between may read it")
    };
    format!(
        "{url} leads to another host without TLS, and {what} could be read on the way: write https://{way_out}"
    )
}

fn label(text: &str) -> Result<(&str, &str), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| {
        format!("{text:?} is no label: write NAME=VALUE, as in [\"cluster=north\"]; a value has no comma")
    })?;
    let (name, value) = (name.trim(), value.trim());
    let mut letters = name.chars();
    let first = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !first || name.starts_with("__") || !letters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(format!(
            "{name:?} is no name of a label: letters, digits and _, and not two of them in front"
        ));
    }
    if OWN_LABELS.contains(&name) {
        return Err(format!("`{name}` is a label of samples themselves: choose another name"));
    }
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::super::{ConfigFault, Fragment, Input, Settings};
    use super::*;

    fn checked(text: &str) -> Result<Option<RemoteWriteSettings>, String> {
        let mut faults: Vec<ConfigFault> = Vec::new();
        let fragment = Fragment::from_toml("a.toml", &format!("[remote_write]\n{text}"), &mut faults);
        let mut base = Fragment::default();
        base.flag("state", "--state", Some("/tmp/none".to_owned()));
        let settings = Settings::check(&Input::merge(&[fragment, base]), &mut faults);
        let said = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        settings.filter(|_| faults.is_empty()).map(|settings| settings.remote_write).ok_or(said)
    }

    #[test]
    fn nothing_is_sent_unless_it_is_said_where() {
        assert_eq!(checked(""), Ok(None));
        assert_eq!(checked("interval = \"15s\"\nlabels = []"), Ok(None), "defaults written out are no wish");
        let faults = checked("interval = \"5s\"\nca = \"/a\"").unwrap_err();
        assert!(
            faults.contains("a.toml:2:1: `remote_write.interval`")
                && faults.contains("give remote_write.url")
        );
        assert!(faults.contains("a.toml:3:1: `remote_write.ca`"), "{faults}");
    }

    #[test]
    fn an_address_is_taken_apart_and_labels_are_added() {
        let written = "url = \"https://metrics.example.com/api/v1/push?tenant=a\"\nbearer_token_file = \"/t\"\n\
                       labels = [\"cluster=north\", \"job = own\", \"instance=\"]\nca = \"/ca.pem\"";
        let settings = checked(written).unwrap().unwrap();
        assert_eq!(
            settings.endpoint,
            Endpoint {
                tls: true,
                host: "metrics.example.com".into(),
                port: 443,
                authority: "metrics.example.com".into(),
                path: "/api/v1/push?tenant=a".into(),
                loopback_only: false,
            }
        );
        let labels: Vec<(&str, &str)> =
            settings.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(labels, [("cluster", "north"), ("job", "own")]);
        assert_eq!((settings.login, settings.ca), (Some(Login::Bearer("/t".into())), Some("/ca.pem".into())));
        assert_eq!(
            (settings.interval_ms, settings.timeout_ms, settings.max_bytes),
            (15_000, 30_000, 64 << 20)
        );
        let plain = checked("url = \"http://[::1]:9090\"").unwrap().unwrap();
        assert_eq!((plain.endpoint.host.as_str(), plain.endpoint.port), ("::1", 9090));
        assert_eq!((plain.endpoint.path.as_str(), plain.endpoint.loopback_only), ("/", true));
        assert_eq!(plain.labels["job"], "trimtab-autoscaler");
        assert!(plain.labels.contains_key("instance"));
    }

    #[test]
    fn plain_http_stays_on_this_host_unless_it_is_allowed_and_never_carries_a_secret_elsewhere() {
        for local in ["http://127.0.0.1:9090/w", "http://localhost/w", "http://[::ffff:127.0.0.1]/w"] {
            assert!(checked(&format!("url = \"{local}\"\nbasic_auth_file = \"/a\"")).is_ok(), "{local}");
        }
        let other = "url = \"http://10.0.0.9/w\"";
        let faults = checked(other).unwrap_err();
        assert!(faults.contains("https://") && faults.contains("allow_plain_http"), "{faults}");
        let allowed = checked(&format!("{other}\nallow_plain_http = true")).unwrap().unwrap();
        assert!(!allowed.endpoint.loopback_only);
        let secret =
            checked(&format!("{other}\nallow_plain_http = true\nbearer_token_file = \"/t\"")).unwrap_err();
        assert!(secret.contains("secret") && !secret.contains("allow_plain_http"), "{secret}");
    }

    #[test]
    fn each_fault_says_what_to_do() {
        for (text, word) in [
            ("url = \"metrics.example.com/write\"", "https://metrics.example.com/api"),
            ("url = \"ftp://a/b\"", "no address"),
            ("url = \"https://a:0/\"", "no address"),
            ("url = \"https://a:99999/\"", "no address"),
            ("url = \"https:///w\"", "no address"),
            ("url = \"https://me:hunter2@a/w\"", "basic_auth_file"),
            ("url = \"https://a/w\"\nlabels = [\"a\"]", "NAME=VALUE"),
            ("url = \"https://a/w\"\nlabels = [\"__a=b\"]", "no name of a label"),
            ("url = \"https://a/w\"\nlabels = [\"node=b\"]", "choose another name"),
            ("url = \"https://a/w\"\nca = \"ca.pem\"", "absolute"),
            ("url = \"https://a/w\"\nbearer_token_file = \"/a\"\nbasic_auth_file = \"/b\"", "not both"),
            ("url = \"http://127.0.0.1/w\"\nca = \"/ca.pem\"", "no https://"),
            ("url = \"https://a/w\"\ninterval = \"1ms\"", "between 1s and 10m"),
            ("url = \"https://a/w\"\nallow_plain_http = \"yes\"", "true"),
        ] {
            let faults = checked(text).unwrap_err();
            assert!(faults.contains(word), "{text}: {faults}");
            assert!(!faults.contains("hunter2"), "{faults}");
        }
    }
}
