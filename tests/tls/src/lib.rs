//! What the tests of TLS share: a certificate authority, and certificates of it.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use threadbare::{ClientTls, Tls};
use time::{Duration, OffsetDateTime};

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
    /// Makes a new one.
    #[must_use]
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "threadbare's tests");
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
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        (params.not_before, params.not_after) = (from, until);
        let key = KeyPair::generate().expect("a key");
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
