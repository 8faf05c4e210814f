//! TLS of the agents' listeners: what this service shows, whom it believes, and its certificate's renewal.
//!
//! TLS 1.3 only, no resumption: a connection is one handshake, so an expired certificate never opens one. A client
//! without a certificate gets through the handshake, because it may join; everything else asks for [`Peer::Node`].

pub mod authority;
mod files;
pub mod peer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use model::certificate::{Renewal, Validity};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;

use crate::clock;
use crate::config::{Source, TlsSettings};
use crate::metrics::Metrics;
use authority::Authority;
use files::Files;
pub(crate) use files::roots;

/// Longest sleep of the renewal: a wall clock that is set, and files that the owner replaces, are noticed after it.
const LOOK: Duration = Duration::from_secs(10);

/// SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    sum
}

/// Everything that `https://` listeners need.
#[derive(Debug)]
pub struct Tls {
    settings: TlsSettings,
    authority: Option<Arc<Authority>>,
    config: Arc<ServerConfig>,
    keeper: Keeper,
}

/// What a join token and a certificate of a node need.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// Signs; `None` when the owner gives certificates.
    pub authority: Option<Arc<Authority>>,
    /// Lifetime of certificates, ms.
    pub lifetime_ms: u64,
    /// How agents write this service, without the port.
    pub name: String,
}

impl Tls {
    /// Opens the authority, or reads the owner's files.
    ///
    /// # Errors
    /// When a file cannot be read or written or does not fit, with its path.
    pub fn open(state: &Path, settings: TlsSettings, metrics: Metrics) -> anyhow::Result<Self> {
        let now_ms = clock::wall_ms();
        let (authority, files, roots) = match &settings.source {
            Source::BuiltIn => {
                let authority = Authority::open(state, now_ms)?;
                let mut roots = RootCertStore::empty();
                roots.add(authority.certificate().clone()).context("the built-in authority")?;
                (Some(Arc::new(authority)), None, roots)
            }
            Source::Files { certificate, key, agents_ca } => {
                let files = Files::open(certificate, key)?;
                (None, Some(files), roots(agents_ca)?)
            }
        };
        let mut keeper = Keeper::new(settings.clone(), authority.clone(), files, metrics);
        keeper.renew(now_ms)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::new(Shown(keeper.shown.subscribe())));
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { settings, authority, config: Arc::new(config), keeper })
    }

    /// For listeners.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// For those who join and renew.
    #[must_use]
    pub fn enrolment(&self) -> Enrolment {
        let name = self.settings.names.first().cloned().unwrap_or_default();
        Enrolment { authority: self.authority.clone(), lifetime_ms: self.settings.lifetime_ms, name }
    }

    /// Keeps this service's certificate fresh until shutdown.
    ///
    /// # Errors
    /// Never: a failure is logged and tried again.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> anyhow::Result<()> {
        loop {
            let now_ms = clock::wall_ms();
            let wait = Duration::from_millis(self.keeper.due_ms().saturating_sub(now_ms)).min(LOOK);
            tokio::select! {
                // An error means that the sender is gone, which is a shutdown, too.
                _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
                () = tokio::time::sleep(wait) => self.keeper.look(clock::wall_ms()),
            }
        }
    }
}

/// Shows the certificate in use.
#[derive(Debug)]
struct Shown(watch::Receiver<Option<Arc<CertifiedKey>>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.borrow().clone()
    }
}

/// Owns the certificate in use.
#[derive(Debug)]
struct Keeper {
    settings: TlsSettings,
    authority: Option<Arc<Authority>>,
    files: Option<Files>,
    metrics: Metrics,
    shown: watch::Sender<Option<Arc<CertifiedKey>>>,
    renewal: Option<Renewal>,
}

impl Keeper {
    fn new(
        settings: TlsSettings,
        authority: Option<Arc<Authority>>,
        files: Option<Files>,
        metrics: Metrics,
    ) -> Self {
        Self { settings, authority, files, metrics, shown: watch::Sender::new(None), renewal: None }
    }

    /// When to look next, wall clock ms.
    fn due_ms(&self) -> u64 {
        match (&self.renewal, &self.authority) {
            (Some(renewal), Some(_)) => renewal.due_ms(),
            // The owner renews.
            _ => u64::MAX,
        }
    }

    /// Renews when it is time, or takes the owner's new files.
    fn look(&mut self, now_ms: u64) {
        let due = match &mut self.files {
            Some(files) => files.changed(),
            None => now_ms >= self.due_ms(),
        };
        if !due {
            return;
        }
        match self.renew(now_ms) {
            Ok(()) => tracing::info!("this service shows a new certificate"),
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "this service's certificate could not be renewed; the old one stays in use"
                );
                if let Some(renewal) = &mut self.renewal {
                    renewal.failed(now_ms);
                }
            }
        }
    }

    fn renew(&mut self, now_ms: u64) -> anyhow::Result<()> {
        let (chain, key) = match (&self.authority, &self.files) {
            (Some(authority), _) => authority
                .for_service(&self.settings.names, now_ms, self.settings.lifetime_ms)
                .context("making this service's certificate")?,
            (None, Some(files)) => files.read()?,
            (None, None) => anyhow::bail!("there is neither an authority nor a certificate"),
        };
        let (shown, validity) = certified(chain, &key)?;
        self.metrics.certificate_expiry.set(i64::try_from(validity.not_after_s).unwrap_or(i64::MAX));
        self.renewal = Some(Renewal::of(validity));
        self.shown.send_replace(Some(Arc::new(shown)));
        Ok(())
    }
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
) -> anyhow::Result<(CertifiedKey, Validity)> {
    let first = chain.first().context("the certificate chain is empty")?;
    let (_, parsed) = x509_parser::parse_x509_certificate(first).context("reading the certificate")?;
    let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    let validity = Validity {
        not_before_s: seconds(parsed.validity().not_before),
        not_after_s: seconds(parsed.validity().not_after),
    };
    let key = rustls::crypto::ring::sign::any_supported_type(key).context("reading the private key")?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().context("the certificate is not that of the private key")?;
    Ok((certified, validity))
}
