//! Who this node is towards an autoscaler on another machine: a key that never leaves it, and a certificate for it.
//!
//! One file, `identity.pem` in the state directory: private key, certificate, and last the authority that both ends
//! believe. It is replaced as a whole, so that key and certificate always belong together. An owner with an authority of
//! their own may write it themselves.

pub mod join;
pub mod renew;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_core::certificate;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::certificate::Validity;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, RootCertStore};

use crate::durable::{self, DurableError};

/// The identity's file in the state directory.
pub const FILE: &str = "identity.pem";

/// Key, certificate, authority.
#[derive(Debug)]
pub struct Identity {
    key: PrivateKeyDer<'static>,
    /// The node's certificate first.
    chain: Vec<CertificateDer<'static>>,
    authority: CertificateDer<'static>,
}

/// Why there is no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be kept or read.
    #[error(transparent)]
    Disk(#[from] DurableError),
    /// Its content does not fit together.
    #[error("{path} is damaged: {why}; join again with a new token (trimtab node join-token NAME)")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A certificate that was given does not fit.
    #[error("the certificate that the autoscaler gives does not hold: {0}")]
    Given(String),
    /// No key could be made.
    #[error("a key could not be made: {0}")]
    Key(#[from] rcgen::Error),
}

/// A new key, and the request for its certificate (PKCS #10, DER).
///
/// # Errors
/// [`IdentityError::Key`] when the system has no randomness.
pub fn request() -> Result<(PrivateKeyDer<'static>, Vec<u8>), IdentityError> {
    let key = KeyPair::generate()?;
    // No name is asked for: the autoscaler knows whom it lets in.
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let request = params.serialize_request(&key)?.der().to_vec();
    Ok((PrivatePkcs8KeyDer::from(key.serialize_der()).into(), request))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(authority: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).map_err(|error| format!("the authority's certificate: {error}"))?;
    Ok(Arc::new(roots))
}

impl Identity {
    /// Reads the identity of a state directory; `None` when there is none.
    ///
    /// # Errors
    /// [`IdentityError`] when the file cannot be read, or key and certificate are not of each other.
    pub fn open(state: &Path) -> Result<Option<Self>, IdentityError> {
        let path = state.join(FILE);
        let Some(pem) = durable::read_bytes(&path)? else { return Ok(None) };
        Self::parse(&pem).map(Some).map_err(|why| IdentityError::Damaged { path, why })
    }

    fn parse(pem: &[u8]) -> Result<Self, String> {
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|e| format!("private key: {e}"))?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let mut chain = chain.map_err(|e| format!("certificate: {e}"))?;
        let authority =
            chain.pop().filter(|_| !chain.is_empty()).ok_or("certificate or authority is missing")?;
        let identity = Self { key, chain, authority };
        identity.check()?;
        Ok(identity)
    }

    /// From what an autoscaler answers to the request of `key`. It must be signed by the authority that came with it, be valid
    /// now, and be for this key.
    ///
    /// # Errors
    /// [`IdentityError::Given`].
    pub fn given(key: PrivateKeyDer<'static>, answer: wire::pb::Certificate) -> Result<Self, IdentityError> {
        let identity =
            Self { key, chain: vec![answer.certificate.into()], authority: answer.authority.into() };
        identity.check().and_then(|()| identity.check_signature()).map_err(IdentityError::Given)?;
        Ok(identity)
    }

    fn check(&self) -> Result<(), String> {
        if self.validity().is_none() {
            return Err("the certificate cannot be read".to_owned());
        }
        let key = CertifiedKey::from_der(self.chain.clone(), self.key.clone_key(), &provider());
        key.and_then(|key| key.keys_match()).map_err(|error| format!("key and certificate: {error}"))
    }

    fn check_signature(&self) -> Result<(), String> {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(&self.authority)?, provider())
            .build()
            .map_err(|error| error.to_string())?;
        let verified = verifier.verify_client_cert(&self.chain[0], &self.chain[1..], UnixTime::now());
        verified.map(|_| ()).map_err(|error| {
            use CertificateError as C;
            match &error {
                rustls::Error::InvalidCertificate(
                    C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. },
                ) => format!("{error}: compare the clocks of both machines"),
                _ => error.to_string(),
            }
        })
    }

    /// Makes it this node's identity, durably: a crash or a full disk leaves the one before.
    ///
    /// # Errors
    /// [`IdentityError::Disk`].
    pub fn keep(&self, state: &Path) -> Result<(), IdentityError> {
        let mut pem = block("PRIVATE KEY", self.key.secret_der());
        self.chain.iter().for_each(|certificate| pem += &block("CERTIFICATE", certificate));
        pem += &block("CERTIFICATE", &self.authority);
        Ok(durable::write_secret(&state.join(FILE), pem.as_bytes())?)
    }

    /// From when to when its certificate is valid; known of every identity that was opened.
    #[must_use]
    pub fn validity(&self) -> Option<Validity> {
        certificate::validity(self.chain.first()?)
    }

    /// Who signed it.
    #[must_use]
    pub fn authority(&self) -> &CertificateDer<'static> {
        &self.authority
    }

    /// For connections on which both ends show who they are.
    ///
    /// # Errors
    /// When the authority's certificate is none.
    pub fn client(&self) -> Result<Arc<ClientConfig>, String> {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots(&self.authority)?, provider())
            .build()
            .map_err(|error| error.to_string())?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| error.to_string())?
            .with_webpki_verifier(verifier)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|error| error.to_string())?;
        tune(&mut config);
        Ok(Arc::new(config))
    }
}

/// HTTP/2, and no resumption: a connection is one handshake, so that an expired certificate never opens one.
fn tune(config: &mut ClientConfig) {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
}

/// RFC 7468.
fn block(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
