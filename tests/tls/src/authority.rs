//! Certificates, and the settings of peers that have them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use threadbare::{ClientTls, Tls};
use time::{Duration, OffsetDateTime};

/// TLS 1.3 alone.
pub const TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// TLS 1.2 alone.
pub const TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];

/// The cryptography of the tests' own peers, with one cipher suite for each version.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    use rustls::crypto::ring::{cipher_suite, default_provider};
    let mut provider = default_provider();
    provider.cipher_suites =
        vec![cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256];
    Arc::new(provider)
}

/// A certificate authority, which nobody trusts who was not told to.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Certified {
    /// The certificate.
    pub chain: String,
    /// The private key.
    pub key: String,
}

impl Authority {
    /// Makes a new one, with a name of its own.
    #[must_use]
    pub fn new() -> Authority {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        Authority::called(&format!("authority {}", COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Makes a new one of this name.
    #[must_use]
    pub fn called(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an issuer");
        Authority { issuer }
    }

    /// Its own certificate, in PEM.
    #[must_use]
    pub fn root(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a certificate for these names.
    #[must_use]
    pub fn issue(&self, names: &[&str]) -> Certified {
        let now = OffsetDateTime::now_utc();
        self.issue_for(names, now - Duration::days(1), now + Duration::days(1))
    }

    /// Issues a certificate that is valid between two dates.
    #[must_use]
    pub fn issue_for(&self, names: &[&str], from: OffsetDateTime, until: OffsetDateTime) -> Certified {
        let (params, key) = params(names, from, until);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Certified { chain: certificate.pem(), key: key.serialize_pem() }
    }

    /// The settings of a server that is called `localhost` and `127.0.0.1`.
    #[must_use]
    pub fn server(&self) -> Tls {
        let Certified { chain, key } = self.issue(&["localhost", "127.0.0.1", "::1"]);
        Tls::from_pem(chain, key).expect("a certificate and its key")
    }

    /// The settings of a client that trusts this authority alone.
    #[must_use]
    pub fn client(&self) -> ClientTls {
        ClientTls::builder().root_pem(self.root()).no_default_roots().build().expect("a root")
    }

    /// The settings of rustls for a client that trusts this authority alone.
    #[must_use]
    pub fn rustls_client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.root().as_bytes()).expect("PEM")).expect("a root");
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("cipher suites")
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    /// The settings of rustls for a server that is called `localhost` and `127.0.0.1`.
    #[must_use]
    pub fn rustls_server(&self, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
        let (chain, key) = self.issue(&["localhost", "127.0.0.1"]).to_der();
        ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("cipher suites")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate and its key")
    }
}

fn params(names: &[&str], from: OffsetDateTime, until: OffsetDateTime) -> (CertificateParams, KeyPair) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    (params.not_before, params.not_after) = (from, until);
    (params, KeyPair::generate().expect("a key"))
}

impl Certified {
    /// A certificate that nobody issued but its owner.
    #[must_use]
    pub fn self_signed(names: &[&str]) -> Certified {
        let now = OffsetDateTime::now_utc();
        let (params, key) = params(names, now - Duration::days(1), now + Duration::days(1));
        let certificate = params.self_signed(&key).expect("a certificate");
        Certified { chain: certificate.pem(), key: key.serialize_pem() }
    }

    /// The settings of a server with it.
    #[must_use]
    pub fn server(&self) -> Tls {
        Tls::from_pem(self.chain.clone(), self.key.clone()).expect("a certificate and its key")
    }

    /// The certificate and the key as rustls takes them.
    #[must_use]
    pub fn to_der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes()).collect::<Result<_, _>>().expect("PEM");
        (chain, PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM"))
    }

    /// The certificate in DER.
    #[must_use]
    pub fn certificate(&self) -> Vec<u8> {
        self.to_der().0[0].to_vec()
    }
}

impl Default for Authority {
    fn default() -> Authority {
        Authority::new()
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}
