//! Certificates that the owner gives, in files of the form PEM.

use std::path::{Path, PathBuf};

use anyhow::Context;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The owner's certificate and key.
#[derive(Debug)]
pub(super) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    seen: [u8; 32],
}

impl Files {
    pub(super) fn open(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let mut files = Self { certificate: certificate.to_owned(), key: key.to_owned(), seen: [0; 32] };
        files.seen = files.sum()?;
        Ok(files)
    }

    /// True once after the files have changed; what cannot be read at the moment has not.
    pub(super) fn changed(&mut self) -> bool {
        match self.sum() {
            Ok(sum) => std::mem::replace(&mut self.seen, sum) != sum,
            Err(_) => false,
        }
    }

    fn sum(&self) -> anyhow::Result<[u8; 32]> {
        let mut bytes = read(&self.certificate)?;
        bytes.extend(read(&self.key)?);
        Ok(super::sha256(&bytes))
    }

    pub(super) fn read(&self) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .with_context(|| format!("{} holds no private key in PEM", self.key.display()))?;
        Ok((chain, key))
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let chain = chain.with_context(|| format!("{} holds no certificate in PEM", path.display()))?;
    anyhow::ensure!(!chain.is_empty(), "{} holds no certificate in PEM", path.display());
    Ok(chain)
}

/// The authorities whose certificates a file holds.
pub(crate) fn roots(path: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .with_context(|| format!("{}: a certificate is that of no authority", path.display()))?;
    }
    Ok(roots)
}
