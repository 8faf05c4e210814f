//! The built-in authority: one key and its certificate, made at the first start with an `https://` listener.
//!
//! It signs this service's certificate and those of nodes, all of them short-lived and for one purpose each, so that a
//! node's certificate never passes for the service's. Its key stays in the state directory. The join token carries the
//! SHA-256 of its certificate, so losing the file means that every node joins again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::id::NodeId;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};

use super::peer::NODE_URI;
use crate::durable;

/// The authority's file in the state directory: private key, then certificate, as PEM.
pub const FILE: &str = "authority.pem";
/// Ten years, with leap days: as long as kubeadm's authority lives. The nodes' certificates are the short ones.
const LIFE_S: u64 = 3653 * 86_400;
/// Clocks of nodes may be behind by this much, s: certificates begin as much earlier.
const SKEW_S: u64 = 300;
/// Longest common name, characters: ub-common-name of RFC 5280. It is for people; the identity is the alternative name.
const COMMON_NAME: usize = 64;

/// Key and certificate that sign all others.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    fingerprint: [u8; 32],
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The file system.
    #[error("{path}: {error}")]
    Disk {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The file is not what this program writes.
    #[error(
        "{path} is damaged: {why}; restore it from a copy, or move it away and let every node join again"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No key or certificate could be made.
    #[error("a certificate could not be made: {0}")]
    Making(#[from] rcgen::Error),
}

/// Why a node gets no certificate.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It is no PKCS #10 request that is signed with its own key.
    #[error("the certificate request does not hold: {0}")]
    Invalid(rcgen::Error),
    /// Another kind of key.
    #[error("the certificate request has a key of another kind than ECDSA P-256")]
    Key,
    /// Signing failed.
    #[error("signing failed: {0}")]
    Signing(rcgen::Error),
}

impl Authority {
    /// Opens the authority of a state directory; the first time it is made, durably. `now_ms` is the wall clock.
    ///
    /// # Errors
    /// [`AuthorityError`] when the file cannot be read or written, or is damaged: it is never made anew then.
    pub fn open(state: &Path, now_ms: u64) -> Result<Self, AuthorityError> {
        let path = state.join(FILE);
        let disk = |error| AuthorityError::Disk { path: path.clone(), error };
        match std::fs::read(&path) {
            Ok(pem) => Self::parse(&pem).map_err(|why| AuthorityError::Damaged { path: path.clone(), why }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let (pem, made) = Self::make(now_ms)?;
                durable::write_secret(&path, pem.as_bytes()).map_err(disk)?;
                tracing::info!(path = %path.display(), "an authority for nodes' certificates was made: keep a copy");
                Ok(made)
            }
            Err(error) => Err(disk(error)),
        }
    }

    fn parse(pem: &[u8]) -> Result<Self, String> {
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|e| format!("private key: {e}"))?;
        let key = KeyPair::try_from(&key).map_err(|e| format!("private key: {e}"))?;
        let certificate = CertificateDer::from_pem_slice(pem).map_err(|e| format!("certificate: {e}"))?;
        let parsed =
            x509_parser::parse_x509_certificate(&certificate).map_err(|e| format!("certificate: {e}"))?.1;
        if parsed.public_key().subject_public_key.data != rcgen::PublicKeyData::der_bytes(&key) {
            return Err("the certificate is not that of the private key".to_owned());
        }
        if !parsed.is_ca() {
            return Err("the certificate is not that of an authority".to_owned());
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|e| format!("certificate: {e}"))?;
        Ok(Self { issuer, fingerprint: super::sha256(&certificate), certificate })
    }

    fn make(now_ms: u64) -> Result<(String, Self), rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        let number = wire::token::hex(&super::sha256(rcgen::PublicKeyData::der_bytes(&key))[..4]);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("Trimtab authority {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let now_s = now_ms / 1000;
        (params.not_before, params.not_after) = (time(now_s.saturating_sub(86_400)), time(now_s + LIFE_S));
        let certificate = params.self_signed(&key)?;
        let pem = format!("{}{}", key.serialize_pem(), certificate.pem());
        let certificate = CertificateDer::from(certificate);
        let fingerprint = super::sha256(&certificate);
        Ok((pem, Self { issuer: Issuer::new(params, key), certificate, fingerprint }))
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of its certificate: what a join token carries.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// A certificate for `node` and the key of `request` (PKCS #10, DER), valid from `now_ms` for `life_ms`. Nothing else of
    /// the request counts: the name is what the caller established.
    ///
    /// # Errors
    /// [`RequestError`] when the request is not signed with its own key, or the key is of another kind.
    pub fn for_node(
        &self,
        node: &NodeId,
        request: &[u8],
        now_ms: u64,
        life_ms: u64,
    ) -> Result<CertificateDer<'static>, RequestError> {
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
            .map_err(RequestError::Invalid)?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(RequestError::Key);
        }
        let uri = Ia5String::try_from(format!("{NODE_URI}{node}")).map_err(RequestError::Signing)?;
        let mut params = leaf(ExtendedKeyUsagePurpose::ClientAuth, node.as_str(), now_ms, life_ms);
        params.subject_alt_names = vec![SanType::URI(uri)];
        let certificate =
            params.signed_by(&request.public_key, &self.issuer).map_err(RequestError::Signing)?;
        Ok(certificate.into())
    }

    /// A new key and certificate for this service under `names`.
    ///
    /// # Errors
    /// When a name cannot be in a certificate.
    pub fn for_service(
        &self,
        names: &[String],
        now_ms: u64,
        life_ms: u64,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), rcgen::Error> {
        let key = KeyPair::generate()?;
        let name = names.first().map_or("trimtab-autoscaler", String::as_str);
        let mut params = leaf(ExtendedKeyUsagePurpose::ServerAuth, name, now_ms, life_ms);
        params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((vec![certificate.into(), self.certificate.clone()], key.into()))
    }
}

fn leaf(purpose: ExtendedKeyUsagePurpose, name: &str, now_ms: u64, life_ms: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name.chars().take(COMMON_NAME).collect::<String>());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    let (now_s, life_s) = (now_ms / 1000, life_ms / 1000);
    // A short life is not made much longer by its earlier begin: two thirds of it must lie ahead.
    let skew_s = SKEW_S.min(life_s / 4);
    (params.not_before, params.not_after) = (time(now_s.saturating_sub(skew_s)), time(now_s + life_s));
    params
}

/// Seconds since the Unix epoch in the type of `rcgen`, which has no name there.
fn time<T>(seconds: u64) -> T
where
    T: From<std::time::SystemTime>,
{
    T::from(std::time::UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::peer::node_of;
    use std::os::unix::fs::PermissionsExt;

    const NOW: u64 = 1_800_000_000_000;

    fn request(key: &KeyPair) -> Vec<u8> {
        CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
    }

    #[test]
    fn it_is_made_once_and_the_same_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::open(dir.path(), NOW).unwrap();
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = Authority::open(dir.path(), NOW + 1000).unwrap();
        assert_eq!(first.fingerprint(), second.fingerprint());
        // What was half written before a crash is not read, and what is damaged is not replaced.
        std::fs::write(dir.path().join("authority.new"), "-----BEGIN").unwrap();
        assert_eq!(Authority::open(dir.path(), NOW).unwrap().fingerprint(), first.fingerprint());
        let pem = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        let other = Authority::make(NOW).unwrap().0;
        let mixed = format!(
            "{}{}",
            other.split_inclusive("KEY-----\n").take(2).collect::<String>(),
            &pem[pem.find("-----BEGIN CERT").unwrap()..]
        );
        for damaged in [
            "",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            &pem[..pem.len() / 2],
            &mixed,
        ] {
            std::fs::write(dir.path().join(FILE), damaged).unwrap();
            let error = Authority::open(dir.path(), NOW).unwrap_err().to_string();
            assert!(error.contains("authority.pem is damaged") && error.contains("restore"), "{error}");
            assert_eq!(std::fs::read_to_string(dir.path().join(FILE)).unwrap(), damaged);
        }
    }

    #[test]
    fn a_node_gets_its_name_and_nothing_else_that_it_asks_for() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), NOW).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut greedy = CertificateParams::new(vec!["autoscaler.example".to_owned()]).unwrap();
        greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let asked = greedy.serialize_request(&key).unwrap();
        let node: NodeId = "n1.example".parse().unwrap();
        let der = authority.for_node(&node, asked.der(), NOW, 86_400_000).unwrap();
        assert_eq!(node_of(&der).unwrap(), node);
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert!(!parsed.is_ca());
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        let names = &parsed.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert_eq!(names.len(), 1, "{names:?}");
        assert_eq!(parsed.validity().not_after.timestamp(), 1_800_086_400);
        assert_eq!(parsed.validity().not_before.timestamp(), 1_799_999_700);
    }

    #[test]
    fn a_request_must_be_signed_by_its_own_key_of_the_known_kind() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), NOW).unwrap();
        let node: NodeId = "n1".parse().unwrap();
        let asked = |bytes: &[u8]| authority.for_node(&node, bytes, NOW, 86_400_000).unwrap_err();
        let mut forged = request(&KeyPair::generate().unwrap());
        let last = forged.len() - 1;
        forged[last] ^= 1;
        assert!(matches!(asked(&forged), RequestError::Invalid(_)));
        assert!(matches!(asked(b"no request"), RequestError::Invalid(_)));
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert!(matches!(asked(&request(&other)), RequestError::Key));
    }
}
