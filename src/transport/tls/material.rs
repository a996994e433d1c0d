//! Certificates, keys and the cryptography that they are used with.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::transport::tls::error::TlsError;

/// The cryptography of this library. It does not depend on what the process has installed as its default: a program may
/// have several users of rustls with different ideas about that.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    #[cfg(feature = "aws-lc-rs")]
    let make = rustls::crypto::aws_lc_rs::default_provider;
    #[cfg(not(feature = "aws-lc-rs"))]
    let make = rustls::crypto::ring::default_provider;
    PROVIDER.get_or_init(|| Arc::new(make())).clone()
}

/// Where a certificate chain, a key or a set of roots comes from.
#[derive(Clone)]
pub(super) enum Pem {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl Pem {
    pub(super) fn file(path: impl AsRef<Path>) -> Pem {
        Pem::File(path.as_ref().to_owned())
    }

    /// Whether it may be another when it is read again.
    pub(super) fn is_file(&self) -> bool {
        matches!(self, Pem::File(_))
    }

    fn read(&self) -> Result<Vec<u8>, TlsError> {
        match self {
            Pem::Bytes(bytes) => Ok(bytes.clone()),
            Pem::File(path) => std::fs::read(path)
                .map_err(|error| TlsError::Setup(format!("{} can not be read: {error}", path.display()))),
        }
    }

    fn unusable(&self, why: impl fmt::Display) -> TlsError {
        TlsError::Setup(format!("{self}: {why}"))
    }

    /// The certificates in it, one at least.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let bytes = self.read()?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match found {
            Ok(found) if found.is_empty() => {
                Err(self.unusable("there is no certificate in it, which begins with -----BEGIN CERTIFICATE-----"))
            }
            Ok(found) => Ok(found),
            Err(error) => Err(self.unusable(format_args!("the certificates can not be read: {error:?}"))),
        }
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let bytes = self.read()?;
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
            rustls::pki_types::pem::Error::NoItemsFound => self.unusable(
                "there is no private key in it that can be used, which begins with -----BEGIN PRIVATE KEY----- and is \
                 not encrypted",
            ),
            error => self.unusable(format_args!("the private key can not be read: {error:?}")),
        })
    }

    /// Adds its certificates to the roots.
    pub(super) fn add_to(&self, roots: &mut RootCertStore) -> Result<(), TlsError> {
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(|error| self.unusable(format_args!("a root can not be used: {error}")))?;
        }
        Ok(())
    }
}

/// Says where it comes from, and not what is in it.
impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pem::File(path) => write!(f, "{}", path.display()),
            Pem::Bytes(bytes) => write!(f, "{} bytes of PEM", bytes.len()),
        }
    }
}

/// A chain of certificates, the own one first, and its private key.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) chain: Pem,
    pub(super) key: Pem,
}

impl Identity {
    pub(super) fn is_file(&self) -> bool {
        self.chain.is_file() || self.key.is_file()
    }

    /// Reads both, and checks that they belong together.
    pub(super) fn load(&self) -> Result<CertifiedKey, TlsError> {
        let (chain, key) = (self.chain.certificates()?, self.key.key()?);
        CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
            let why = match error {
                rustls::Error::InconsistentKeys(_) => "the private key is not that of the first certificate".to_owned(),
                error => error.to_string(),
            };
            TlsError::Setup(format!("{} with {}: {why}", self.chain, self.key))
        })
    }
}
