//! The TLS settings of a client.

use std::fmt;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::transport::tls::error::TlsError;
use crate::transport::tls::material::{Identity, Pem, provider};
use crate::transport::tls::server_config::ALPN;
use crate::transport::tls::session::Session;
use crate::transport::tls::stream::TlsStream;

/// Whom a client trusts, and its other settings of TLS, for [`ClientBuilder::tls`](crate::ClientBuilder::tls).
///
/// A client without them trusts the system's roots with the feature `rustls-tls-native-roots`, Mozilla's, as the library
/// was built with them, with `rustls-tls-webpki-roots`, and both with both.
///
/// ```no_run
/// use threadbare::{Client, ClientTls};
///
/// let tls = ClientTls::builder().root_file("our-own-ca.pem").build()?;
/// let client = Client::builder().tls(tls).connect("wss://build.intern.example.com/")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl ClientTls {
    /// Begins with the default roots.
    ///
    /// ```no_run
    /// use threadbare::ClientTls;
    ///
    /// let tls = ClientTls::builder().root_file("own-ca.pem").build()?;
    /// # Ok::<(), threadbare::TlsError>(())
    /// ```
    #[must_use]
    pub fn builder() -> ClientTlsBuilder {
        ClientTlsBuilder {
            roots: Vec::new(),
            default_roots: DefaultRoots::Trusted,
            identity: None,
            server_name: None,
            verification: Verification::On,
        }
    }

    /// Takes a configuration of rustls, for what the builder has not. The application protocol is `http/1.1`, unless the
    /// configuration names others.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use threadbare::ClientTls;
    ///
    /// fn wrap(config: rustls::ClientConfig) -> ClientTls {
    ///     ClientTls::from_rustls(Arc::new(config))
    /// }
    /// # let _ = wrap;
    /// ```
    #[must_use]
    pub fn from_rustls(config: Arc<ClientConfig>) -> ClientTls {
        let mut config = ClientConfig::clone(&config);
        config.enable_early_data = false;
        if config.alpn_protocols.is_empty() {
            config.alpn_protocols = vec![ALPN.to_vec()];
        }
        ClientTls { config: Arc::new(config), server_name: None }
    }

    /// What a client has that was given nothing else. The roots are read once in the life of the process.
    ///
    /// ```no_run
    /// use threadbare::ClientTls;
    ///
    /// let tls = ClientTls::with_default_roots()?;
    /// # Ok::<(), threadbare::TlsError>(())
    /// ```
    ///
    /// # Errors
    /// There are no roots.
    pub fn with_default_roots() -> Result<ClientTls, TlsError> {
        static DEFAULT: OnceLock<ClientTls> = OnceLock::new();
        if let Some(tls) = DEFAULT.get() {
            return Ok(tls.clone());
        }
        let tls = ClientTls::builder().build()?;
        Ok(DEFAULT.get_or_init(|| tls).clone())
    }

    /// Puts TLS over a stream that is connected to `host`, a name or an IP address, whose certificate the server must
    /// have. The handshake is done by the first read or write.
    ///
    /// ```no_run
    /// use std::net::TcpStream;
    /// use threadbare::{ClientTls, WebSocket};
    ///
    /// let stream = TcpStream::connect("example.com:443")?;
    /// let stream = ClientTls::with_default_roots()?.connect("example.com", stream)?;
    /// let socket = WebSocket::connect("wss://example.com/feed", stream)?; // in one step: `WebSocket::connect_tls`
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `host` is no name that a certificate could have.
    pub fn connect<S: Read + Write>(&self, host: &str, stream: S) -> Result<TlsStream<S>, TlsError> {
        Ok(TlsStream::new(stream, self.session(host)?))
    }

    /// A session for a connection to this host.
    pub(crate) fn session(&self, host: &str) -> Result<Session, TlsError> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => parse_name(host)?,
        };
        Session::client(self.config.clone(), name)
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

fn parse_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    // An IPv6 address is in brackets in a URL, and may have a zone.
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let bare = bare.split_once('%').map_or(bare, |(address, _)| address);
    ServerName::try_from(bare.to_owned())
        .map_err(|_| TlsError::Setup(format!("{host:?} is no name that a certificate could have")))
}

/// Makes a [`ClientTls`]; see [`ClientTls::builder`].
///
/// ```no_run
/// use threadbare::ClientTls;
///
/// let tls = ClientTls::builder()
///     .root_file("our-own-ca.pem")
///     .no_default_roots() // trust nobody else
///     .certificate_files("device-7.pem", "device-7.key")
///     .build()?;
/// # Ok::<(), threadbare::TlsError>(())
/// ```
#[derive(Clone)]
pub struct ClientTlsBuilder {
    roots: Vec<Pem>,
    default_roots: DefaultRoots,
    identity: Option<Identity>,
    server_name: Option<String>,
    verification: Verification,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DefaultRoots {
    Trusted,
    NotTrusted,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verification {
    On,
    Off,
}

impl ClientTlsBuilder {
    /// Trusts the certificates of this file in PEM too, as issuers.
    ///
    /// ```no_run
    /// use threadbare::ClientTls;
    ///
    /// let tls = ClientTls::builder().root_file("own-ca.pem").build()?;
    /// # Ok::<(), threadbare::TlsError>(())
    /// ```
    #[must_use]
    pub fn root_file(mut self, roots: impl AsRef<Path>) -> ClientTlsBuilder {
        self.roots.push(Pem::file(roots));
        self
    }

    /// As [`root_file`](ClientTlsBuilder::root_file), with the content of the file.
    ///
    /// ```
    /// use threadbare::{ClientTls, TlsError};
    ///
    /// fn trusting(root: &[u8]) -> Result<ClientTls, TlsError> {
    ///     ClientTls::builder().root_pem(root).build()
    /// }
    /// # let _ = trusting;
    /// ```
    #[must_use]
    pub fn root_pem(mut self, roots: impl Into<Vec<u8>>) -> ClientTlsBuilder {
        self.roots.push(Pem::Bytes(roots.into()));
        self
    }

    /// Trusts no issuers but those that were added.
    ///
    /// ```no_run
    /// use threadbare::ClientTls;
    ///
    /// let tls = ClientTls::builder().no_default_roots().root_file("own-ca.pem").build()?; // no other authority
    /// # Ok::<(), threadbare::TlsError>(())
    /// ```
    #[must_use]
    pub fn no_default_roots(mut self) -> ClientTlsBuilder {
        self.default_roots = DefaultRoots::NotTrusted;
        self
    }

    /// Sets the client's own certificate, with its chain, and its private key, for servers that ask for one. The files are
    /// in PEM.
    ///
    /// ```no_run
    /// use threadbare::ClientTls;
    ///
    /// let tls = ClientTls::builder().root_file("own-ca.pem").certificate_files("me.pem", "me.key").build()?;
    /// # Ok::<(), threadbare::TlsError>(())
    /// ```
    #[must_use]
    pub fn certificate_files(mut self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> ClientTlsBuilder {
        self.identity = Some(Identity { chain: Pem::file(chain), key: Pem::file(key) });
        self
    }

    /// As [`certificate_files`](ClientTlsBuilder::certificate_files), with the content of the files.
    ///
    /// ```
    /// use threadbare::{ClientTls, TlsError};
    ///
    /// fn known(root: &[u8], chain: &[u8], key: &[u8]) -> Result<ClientTls, TlsError> {
    ///     ClientTls::builder().root_pem(root).certificate_pem(chain, key).build()
    /// }
    /// # let _ = known;
    /// ```
    #[must_use]
    pub fn certificate_pem(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> ClientTlsBuilder {
        self.identity = Some(Identity { chain: Pem::Bytes(chain.into()), key: Pem::Bytes(key.into()) });
        self
    }

    /// Sets the name that the server's certificate must have, and that the client asks for. Default: the URL's host.
    ///
    /// ```no_run
    /// use threadbare::ClientTls;
    ///
    /// // The URL has an address, and the certificate a name.
    /// let tls = ClientTls::builder().root_file("own-ca.pem").server_name("game.internal").build()?;
    /// # Ok::<(), threadbare::TlsError>(())
    /// ```
    #[must_use]
    pub fn server_name(mut self, name: &str) -> ClientTlsBuilder {
        self.server_name = Some(name.to_owned());
        self
    }

    /// Accepts any certificate, and with it any server that somebody puts in between: the connection is encrypted, and not
    /// protected from anybody who can change it. For tests against one's own server.
    ///
    /// ```no_run
    /// use threadbare::ClientTls;
    ///
    /// let tls = ClientTls::builder().danger_accept_any_certificate().build()?; // for a test, and nothing else
    /// # Ok::<(), threadbare::TlsError>(())
    /// ```
    #[must_use]
    pub fn danger_accept_any_certificate(mut self) -> ClientTlsBuilder {
        self.verification = Verification::Off;
        self
    }

    /// Reads the roots, the certificate and the key.
    ///
    /// ```
    /// use threadbare::ClientTls;
    ///
    /// match ClientTls::builder().root_file("own-ca.pem").build() {
    ///     Ok(tls) => println!("{tls:?}"),
    ///     Err(error) => eprintln!("{error}"), // names the file
    /// }
    /// # Ok::<(), threadbare::TlsError>(())
    /// ```
    ///
    /// # Errors
    /// A file can not be read, there is nothing of use in it, a key and its certificate do not belong together, there are
    /// no roots, or the name is none.
    pub fn build(self) -> Result<ClientTls, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = match self.verification {
            Verification::On => builder.with_root_certificates(self.load_roots()?),
            Verification::Off => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AcceptsAny(provider().signature_verification_algorithms))),
        };
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = identity.load()?;
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        let server_name = self.server_name.as_deref().map(parse_name).transpose()?;
        Ok(ClientTls { config: Arc::new(config), server_name })
    }

    fn load_roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        let mut failures = Vec::new();
        if self.default_roots == DefaultRoots::Trusted {
            add_default_roots(&mut roots, &mut failures);
        }
        self.roots.iter().try_for_each(|pem| pem.add_to(&mut roots))?;
        if roots.is_empty() {
            let why = if failures.is_empty() { String::new() } else { format!(" ({})", failures.join("; ")) };
            return Err(TlsError::Setup(format!(
                "no issuer of certificates is trusted{why}: add a root, install the system's certificates, or enable the \
                 feature rustls-tls-webpki-roots"
            )));
        }
        Ok(roots)
    }
}

impl fmt::Debug for ClientTlsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTlsBuilder").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// Adds the roots of the features that are enabled.
#[cfg_attr(
    not(feature = "rustls-tls-native-roots"),
    expect(unused_variables, clippy::ptr_arg, reason = "only the system's roots can fail to be read")
)]
fn add_default_roots(roots: &mut RootCertStore, failures: &mut Vec<String>) {
    #[cfg(feature = "rustls-tls-webpki-roots")]
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    #[cfg(feature = "rustls-tls-native-roots")]
    {
        let found = rustls_native_certs::load_native_certs();
        failures.extend(found.errors.iter().map(ToString::to_string));
        // A system has some that are too old to be read.
        let (_, _) = roots.add_parsable_certificates(found.certs);
    }
}

/// Accepts any certificate, and checks that the server has the key of the one that it shows.
#[derive(Debug)]
struct AcceptsAny(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AcceptsAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
