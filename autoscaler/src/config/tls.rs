//! The `[tls]` section: how this service shows who it is, and whom it believes.

use std::net::SocketAddr;
use std::path::PathBuf;

use rustls::pki_types::ServerName;

use super::Address;
use super::settings::Check;

/// How `https://` listeners show who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// Names and addresses of this service, as agents write them; the first one is told to those who join.
    pub names: Vec<String>,
    /// Where certificates come from.
    pub source: Source,
    /// Lifetime of certificates of the built-in authority, ms.
    pub lifetime_ms: u64,
}

/// Where certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The built-in authority, in the state directory.
    BuiltIn,
    /// Files that the owner gives; they are read again when they change.
    Files {
        /// Certificate chain of this service.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
        /// Who signs agents' certificates.
        agents_ca: PathBuf,
    },
}

const FILES: [&str; 3] = ["tls.certificate", "tls.key", "tls.agents_ca"];
/// A certificate names its times in seconds: below this, what is renewed at two thirds hardly lives.
const LIFETIME_LEAST_MS: u64 = 3_000;
const LIFETIME_MOST_MS: u64 = 90 * 86_400_000;

impl Check<'_> {
    /// `Some(None)` when there is nothing to protect; `None` after a fault.
    pub(super) fn tls(&mut self, listen: &[Address]) -> Option<Option<TlsSettings>> {
        let lifetime_ms = self.millis("tls.lifetime", LIFETIME_LEAST_MS, LIFETIME_MOST_MS);
        let protected: Vec<SocketAddr> = listen
            .iter()
            .filter_map(|address| match address {
                Address::Tls(address) => Some(*address),
                _ => None,
            })
            .collect();
        let source = self.source(protected.is_empty())?;
        let names = self.names(&protected)?;
        let lifetime_ms = lifetime_ms?;
        Some((!protected.is_empty()).then_some(TlsSettings { names, source, lifetime_ms }))
    }

    fn source(&mut self, unused: bool) -> Option<Source> {
        let files = FILES.map(|name| self.input.get(name).0.to_owned());
        if files.iter().all(String::is_empty) {
            return Some(Source::BuiltIn);
        }
        let mut good = true;
        for (name, file) in FILES.into_iter().zip(&files) {
            // A section that is ignored must not look like protection.
            let why = match file.as_str() {
                "" => "give tls.certificate, tls.key and tls.agents_ca together, or none of them",
                _ if unused => "no listener uses TLS: write listen = \"https://ADDRESS\", or remove this",
                path if !path.starts_with('/') => "the file must be an absolute path",
                _ => continue,
            };
            self.fault(name, why);
            good = false;
        }
        let [certificate, key, agents_ca] = files.map(PathBuf::from);
        good.then_some(Source::Files { certificate, key, agents_ca })
    }

    fn names(&mut self, listen: &[SocketAddr]) -> Option<Vec<String>> {
        let text = self.input.get("tls.names").0.to_owned();
        let given = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let mut names: Vec<String> = given.map(str::to_owned).collect();
        let mut good = true;
        for name in &names {
            if ServerName::try_from(name.as_str()).is_err() {
                self.fault("tls.names", format!("{name:?} is neither a host name nor an address"));
                good = false;
            }
        }
        if names.is_empty() {
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            let mut own: Vec<String> =
                listen.iter().filter(|a| !a.ip().is_unspecified()).map(|a| a.ip().to_string()).collect();
            own.extend(ServerName::try_from(host.as_str()).is_ok().then_some(host));
            own.dedup();
            names = own;
        }
        if names.is_empty() && !listen.is_empty() {
            self.fault(
                "tls.names",
                "this host's name cannot be in a certificate: give a name by which agents reach it",
            );
            good = false;
        }
        good.then_some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ConfigFault, Fragment, Input, Settings};
    use super::*;

    fn checked(text: &str) -> Result<Settings, String> {
        let mut faults: Vec<ConfigFault> = Vec::new();
        let fragment = Fragment::from_toml("a.toml", text, &mut faults);
        let mut base = Fragment::default();
        base.flag("state", "--state", Some("/tmp/none".to_owned()));
        let settings = Settings::check(&Input::merge(&[fragment, base]), &mut faults);
        let text = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        settings.filter(|_| faults.is_empty()).ok_or(text)
    }

    #[test]
    fn a_listener_with_tls_may_be_open_and_knows_its_names() {
        assert_eq!(checked("").unwrap().tls, None);
        let open = checked("listen = \"https://0.0.0.0:7783\"\n[tls]\nnames = [\"a.example\", \"10.0.0.1\"]")
            .unwrap();
        let tls = open.tls.unwrap();
        assert_eq!(tls.names, ["a.example", "10.0.0.1"]);
        assert_eq!((tls.source, tls.lifetime_ms), (Source::BuiltIn, 86_400_000));
        let local = checked("listen = [\"127.0.0.1:1\", \"https://127.0.0.1:2\"]").unwrap().tls.unwrap();
        assert_eq!(local.names[0], "127.0.0.1", "its own address when nothing is said");
    }

    #[test]
    fn what_would_not_protect_is_refused() {
        let all = "[tls]\ncertificate = \"/a\"\nkey = \"/b\"\nagents_ca = \"/c\"";
        for (text, place, word) in [
            (all.to_owned(), "a.toml:2:1", "no listener uses TLS"),
            ("listen = \"https://127.0.0.1:1\"\n[tls]\nkey = \"/a\"".to_owned(), "default", "together"),
            (
                format!("listen = \"https://127.0.0.1:1\"\n{}", all.replace("/b", "b")),
                "a.toml:4:1",
                "absolute",
            ),
            ("listen = \"https://127.0.0.1:1\"\ntls.names = \"a b\"".to_owned(), "a.toml:2:", "host name"),
            ("api = \"https://127.0.0.1:1\"".to_owned(), "a.toml:1:1", "no log-in"),
            ("tls.lifetime = \"1s\"".to_owned(), "a.toml:1:", "between 3s"),
        ] {
            let faults = checked(&text).unwrap_err();
            assert!(faults.contains(place) && faults.contains(word), "{text}: {faults}");
        }
    }
}
