//! Where requests go and what they need: authorities that are believed, and the secret, both from files.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use axum::http::HeaderValue;
use base64::Engine as _;
use rustix::fs::OFlags;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::config::{Login, RemoteWriteSettings};
use crate::tls;

/// Where distributions keep the authorities that a host believes: Debian, Fedora, openSUSE, Alpine.
const HOST: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Largest file with a secret, bytes.
const SECRET: u64 = 64 << 10;

/// A receiver that could be dialled.
#[derive(Debug)]
pub struct Target {
    pub(super) settings: RemoteWriteSettings,
    /// `None` for plain HTTP.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

/// Why there is no [`Target`].
#[derive(Debug)]
pub struct TargetFault {
    /// The key that names what is wrong.
    pub key: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Target {
    /// Reads the files that the settings name. The secret is read once to see that it is there, and again for each request.
    ///
    /// # Errors
    /// [`TargetFault`] when a file cannot be read or does not hold what it should.
    pub fn open(settings: RemoteWriteSettings) -> Result<Self, TargetFault> {
        let fault = |key| move |error: anyhow::Error| TargetFault { key, message: format!("{error:#}") };
        let tls = settings.endpoint.tls.then(|| config(settings.ca.as_deref())).transpose();
        let tls =
            tls.map_err(fault(if settings.ca.is_some() { "remote_write.ca" } else { "remote_write.url" }))?;
        let target = Self { settings, tls };
        target.authorization().map_err(fault(match target.settings.login {
            Some(Login::Basic(_)) => "remote_write.basic_auth_file",
            _ => "remote_write.bearer_token_file",
        }))?;
        Ok(target)
    }

    /// What `Authorization` says; `None` without a login.
    pub(super) fn authorization(&self) -> Result<Option<HeaderValue>> {
        let (path, text) = match &self.settings.login {
            None => return Ok(None),
            Some(Login::Bearer(path)) => (path, format!("Bearer {}", secret(path)?)),
            Some(Login::Basic(path)) => {
                let line = secret(path)?;
                ensure!(line.contains(':'), "{}: write one line USER:PASSWORD", path.display());
                (path, format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(line)))
            }
        };
        let mut value = HeaderValue::from_str(&text).ok();
        if let Some(value) = &mut value {
            value.set_sensitive(true);
        }
        let value = value
            .with_context(|| format!("{}: the secret has characters that cannot be sent", path.display()));
        Ok(Some(value?))
    }
}

/// TLS 1.3 with the receiver's certificate checked; this service shows none.
fn config(ca: Option<&Path>) -> Result<Arc<ClientConfig>> {
    let roots = match ca {
        Some(path) => tls::roots(path)?,
        None => host_roots()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn host_roots() -> Result<RootCertStore> {
    for path in HOST {
        let Ok(bytes) = std::fs::read(path) else { continue };
        let mut roots = RootCertStore::empty();
        // A list of a hundred authorities may have one that is not understood.
        let (taken, _) =
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok));
        if taken > 0 {
            return Ok(roots);
        }
    }
    bail!(
        "this host has no list of authorities ({}): install the package ca-certificates, or name one in remote_write.ca",
        HOST.join(", ")
    )
}

/// A file's only line. It must not be one that everybody may read.
fn secret(path: &Path) -> Result<String> {
    let shown = path.display();
    // A pipe that never ends must not stop everything.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.with_context(|| format!("{shown} cannot be read by this service"))?;
    let metadata = file.metadata()?;
    ensure!(metadata.is_file(), "{shown} is no file");
    let mode = metadata.permissions().mode() & 0o777;
    ensure!(
        mode & 0o007 == 0,
        "{shown}: everybody on this host may read or write the secret (mode {mode:04o}): `chmod o= {shown}`, and let the \
         service's group read it"
    );
    let mut text = String::new();
    file.take(SECRET).read_to_string(&mut text).with_context(|| format!("{shown} holds no text"))?;
    let text = text.trim();
    ensure!(!text.is_empty(), "{shown} is empty");
    ensure!(!text.contains(['\n', '\r']), "{shown} has more than one line");
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;
    use crate::config::Endpoint;

    fn settings(login: Option<Login>, ca: Option<&Path>) -> RemoteWriteSettings {
        let endpoint = Endpoint {
            tls: ca.is_some(),
            host: "127.0.0.1".into(),
            port: 1,
            authority: "127.0.0.1:1".into(),
            path: "/".into(),
            loopback_only: ca.is_none(),
        };
        RemoteWriteSettings {
            endpoint,
            interval_ms: 1000,
            timeout_ms: 1000,
            max_bytes: 1 << 20,
            labels: std::collections::BTreeMap::new(),
            login,
            ca: ca.map(Path::to_owned),
        }
    }

    fn written(folder: &Path, text: &str, mode: u32) -> std::path::PathBuf {
        let path = folder.join("secret");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn secrets_are_sent_as_they_should_be_and_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Target::open(settings(None, None)).unwrap().authorization().unwrap(), None);
        let path = written(folder.path(), "abc.def\n", 0o640);
        let target = Target::open(settings(Some(Login::Bearer(path.clone())), None)).unwrap();
        assert_eq!(target.authorization().unwrap().unwrap().to_str().unwrap(), "Bearer abc.def");
        written(folder.path(), "new", 0o600);
        let value = target.authorization().unwrap().unwrap();
        assert_eq!(value.to_str().unwrap(), "Bearer new");
        assert!(!format!("{value:?}").contains("new"), "it is not shown where values are logged");
        written(folder.path(), "Aladdin:open sesame", 0o600);
        let basic = Target::open(settings(Some(Login::Basic(path)), None)).unwrap();
        let value = basic.authorization().unwrap().unwrap();
        assert_eq!(value.to_str().unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "the example of RFC 7617");
    }

    #[test]
    fn a_file_that_will_not_do_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let basic =
            |path: &Path| Target::open(settings(Some(Login::Basic(path.to_owned())), None)).unwrap_err();
        for (text, mode, word) in [
            ("a:b", 0o644, "chmod o="),
            ("", 0o600, "is empty"),
            ("a:b\nc", 0o600, "more than one line"),
            ("no colon", 0o600, "USER:PASSWORD"),
        ] {
            let fault = basic(&written(folder.path(), text, mode));
            assert_eq!(fault.key, "remote_write.basic_auth_file");
            assert!(fault.message.contains(word) && fault.message.contains("secret"), "{}", fault.message);
            assert!(!fault.message.contains("a:b"), "{}", fault.message);
        }
        assert!(basic(folder.path()).message.contains("is no file"));
        let absent = Target::open(settings(None, Some(Path::new("/nonexistent.pem")))).unwrap_err();
        assert_eq!((absent.key, absent.message.contains("/nonexistent.pem")), ("remote_write.ca", true));
        let odd = Target::open(settings(None, Some(&written(folder.path(), "no PEM", 0o600)))).unwrap_err();
        assert!(odd.message.contains("holds no certificate"), "{}", odd.message);
    }
}
