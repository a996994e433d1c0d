//! The TLS settings of a server.

use std::collections::HashMap;
use std::fmt;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, RwLock};

use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use crate::transport::tls::error::TlsError;
use crate::transport::tls::material::{Identity, Pem, provider};
use crate::transport::tls::server_name::NotesServerName;
use crate::transport::tls::session::Session;
use crate::transport::tls::stream::TlsStream;

/// The one protocol that a WebSocket's opening handshake is (RFC 7301, RFC 6455 1.2).
pub(super) const ALPN: &[u8] = b"http/1.1";

/// One ticket is sent after each handshake (RFC 8446 4.6.1). More are of use to clients that open several connections at
/// once, as a WebSocket client does not; without any, a client that comes back does a whole handshake.
const TICKETS: usize = 1;

/// The certificates of a server, and its other settings of TLS. All clones share them, so that
/// [`reload`](Tls::reload) works on a server that runs.
///
/// Use certificates with ECDSA keys, such as P-256: a handshake costs the server a seventh of what RSA costs.
///
/// ```no_run
/// use threadbare::{Server, Tls};
///
/// let tls = Tls::from_pem_files("chain.pem", "key.pem")?;
/// let server = Server::builder().tls(tls.clone()).bind("0.0.0.0:443")?;
/// // The certificate was renewed: new connections see the new one, and the others go on.
/// tls.reload()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
}

struct Shared {
    current: RwLock<Arc<ServerConfig>>,
    /// `None` if the application made the configuration.
    source: Option<TlsBuilder>,
}

impl Tls {
    /// Reads a certificate chain, the server's own first, and its private key, from files in PEM.
    ///
    /// ```no_run
    /// use threadbare::{Listener, MessageRef, Server, Socket, Tls};
    ///
    /// let tls = Tls::from_pem_files("chain.pem", "key.pem")?;
    /// let echo = |_: &_| |socket: &mut Socket<'_>, message: MessageRef<'_>| drop(socket.send(message));
    /// Server::builder().serve(Listener::from("0.0.0.0:443").tls(tls), echo)?.join();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// A file can not be read, there is no certificate or key in it, or they do not belong together.
    pub fn from_pem_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Tls, TlsError> {
        Tls::builder().default_files(chain, key).build()
    }

    /// As [`from_pem_files`](Tls::from_pem_files), with their content.
    ///
    /// ```
    /// use threadbare::{Tls, TlsError};
    ///
    /// fn read(chain: &[u8], key: &[u8]) -> Result<Tls, TlsError> {
    ///     Tls::from_pem(chain, key)
    /// }
    /// # let _ = read;
    /// ```
    ///
    /// # Errors
    /// There is no certificate or key in it, or they do not belong together.
    pub fn from_pem(chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Result<Tls, TlsError> {
        Tls::builder().default_pem(chain, key).build()
    }

    /// Begins with no certificate, for several of them, or for clients that have certificates.
    ///
    /// ```no_run
    /// use threadbare::Tls;
    ///
    /// let tls = Tls::builder().default_files("chain.pem", "key.pem").build()?;
    /// # Ok::<(), threadbare::TlsError>(())
    /// ```
    #[must_use]
    pub fn builder() -> TlsBuilder {
        TlsBuilder {
            hosts: Vec::new(),
            default: None,
            tickets: TICKETS,
            client_roots: Vec::new(),
            clients: Clients::Any,
        }
    }

    /// Takes a configuration of rustls, for what the builder has not. Early data (RFC 8446 2.3) is switched off: it may be
    /// replayed, and an opening handshake has effects. The application protocol is `http/1.1`, unless the configuration
    /// names others.
    ///
    /// ```no_run
    /// use std::sync::Arc;
    /// use threadbare::Tls;
    ///
    /// fn of_mine(config: rustls::ServerConfig) -> Tls {
    ///     Tls::from_rustls(Arc::new(config))
    /// }
    /// ```
    #[must_use]
    pub fn from_rustls(config: Arc<ServerConfig>) -> Tls {
        Tls { shared: Arc::new(Shared { current: RwLock::new(adapted(ServerConfig::clone(&config))), source: None }) }
    }

    /// Reads the files again, such as after a certificate was renewed. Handshakes from then on see the new certificates;
    /// established connections go on. After an error everything stays as it was.
    ///
    /// ```
    /// use threadbare::Tls;
    ///
    /// /// Called when the certificate was renewed.
    /// fn renewed(tls: &Tls) {
    ///     if let Err(error) = tls.reload() {
    ///         eprintln!("the certificate of before stays: {error}");
    ///     }
    /// }
    /// # let _ = renewed;
    /// ```
    ///
    /// # Errors
    /// As those of [`build`](TlsBuilder::build), or nothing was read from a file.
    pub fn reload(&self) -> Result<(), TlsError> {
        let source = self.shared.source.as_ref().filter(|source| source.has_files()).ok_or_else(|| {
            TlsError::Setup("no certificate was read from a file: replace the settings by others instead".to_owned())
        })?;
        self.set(source.load()?);
        Ok(())
    }

    /// Has all clones of this use the present settings of another, as [`reload`](Tls::reload) does with files.
    ///
    /// ```
    /// # #[cfg(feature = "rustls-tls")]
    /// fn renew(tls: &threadbare::Tls, chain: &[u8], key: &[u8]) -> Result<(), threadbare::TlsError> {
    ///     tls.replace(&threadbare::Tls::from_pem(chain, key)?);
    ///     Ok(())
    /// }
    /// ```
    pub fn replace(&self, by: &Tls) {
        self.set(by.config());
    }

    /// Puts TLS over a stream that was accepted. The handshake is done by the first read or write.
    ///
    /// ```no_run
    /// use std::net::TcpListener;
    /// use threadbare::{Tls, WebSocket};
    ///
    /// let tls = Tls::from_pem_files("chain.pem", "key.pem")?;
    /// for stream in TcpListener::bind("0.0.0.0:443")?.incoming() {
    ///     let stream = tls.accept(stream?)?;
    ///     std::thread::spawn(move || -> Result<(), threadbare::SocketError> {
    ///         let mut socket = WebSocket::accept(stream)?;
    ///         while let Some(message) = socket.recv()? {
    ///             socket.send(&message)?;
    ///         }
    ///         Ok(())
    ///     });
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The settings, of rustls', can not work.
    pub fn accept<S: Read + Write>(&self, stream: S) -> Result<TlsStream<S>, TlsError> {
        Ok(TlsStream::new(stream, self.session()?))
    }

    fn set(&self, config: Arc<ServerConfig>) {
        // A thread that panicked while it held the lock has left a whole value.
        *self.shared.current.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = config;
    }

    fn config(&self) -> Arc<ServerConfig> {
        self.shared.current.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// A session with the settings of now.
    pub(crate) fn session(&self) -> Result<Session, TlsError> {
        Session::server(self.config())
    }
}

/// Says nothing of the keys.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Makes a [`Tls`]; see [`Tls::builder`].
///
/// ```no_run
/// use threadbare::Tls;
///
/// let tls = Tls::builder()
///     .host_files("chat.example.com", "chat.pem", "chat.key")
///     .host_files("*.example.org", "wildcard.pem", "wildcard.key")
///     .default_files("other.pem", "other.key")
///     .build()?;
/// # Ok::<(), threadbare::TlsError>(())
/// ```
#[derive(Clone)]
pub struct TlsBuilder {
    hosts: Vec<(String, Identity)>,
    default: Option<Identity>,
    tickets: usize,
    client_roots: Vec<Pem>,
    clients: Clients,
}

/// Which clients may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clients {
    /// Any; no certificate is asked for.
    Any,
    /// With a certificate that is verified, or without one.
    Optional,
    /// Only with a certificate that is verified.
    Certified,
}

impl TlsBuilder {
    /// Adds the certificate and key for clients that name this host (RFC 6066 3). `*.example.com` stands for all names
    /// with one label more.
    ///
    /// ```no_run
    /// use threadbare::Tls;
    ///
    /// let tls = Tls::builder().host_files("example.com", "example.pem", "example.key").build()?;
    /// # Ok::<(), threadbare::TlsError>(())
    /// ```
    #[must_use]
    pub fn host_files(mut self, host: &str, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> TlsBuilder {
        self.hosts.push((host.to_ascii_lowercase(), Identity { chain: Pem::file(chain), key: Pem::file(key) }));
        self
    }

    /// As [`host_files`](TlsBuilder::host_files), with the content of the files.
    ///
    /// ```
    /// use threadbare::{Tls, TlsError};
    ///
    /// fn build(chain: &[u8], key: &[u8]) -> Result<Tls, TlsError> {
    ///     Tls::builder().host_pem("example.com", chain, key).build()
    /// }
    /// # let _ = build;
    /// ```
    #[must_use]
    pub fn host_pem(mut self, host: &str, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> TlsBuilder {
        let identity = Identity { chain: Pem::Bytes(chain.into()), key: Pem::Bytes(key.into()) };
        self.hosts.push((host.to_ascii_lowercase(), identity));
        self
    }

    /// Sets the certificate and key for clients that name no host, or another. Without it their handshakes are refused.
    ///
    /// ```no_run
    /// use threadbare::Tls;
    ///
    /// let tls = Tls::builder()
    ///     .host_files("example.com", "example.pem", "example.key")
    ///     .default_files("other.pem", "other.key") // every other name, and clients that send none
    ///     .build()?;
    /// # Ok::<(), threadbare::TlsError>(())
    /// ```
    #[must_use]
    pub fn default_files(mut self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> TlsBuilder {
        self.default = Some(Identity { chain: Pem::file(chain), key: Pem::file(key) });
        self
    }

    /// As [`default_files`](TlsBuilder::default_files), with the content of the files.
    ///
    /// ```
    /// use threadbare::{Tls, TlsError};
    ///
    /// fn build(chain: &[u8], key: &[u8]) -> Result<Tls, TlsError> {
    ///     Tls::builder().default_pem(chain, key).build()
    /// }
    /// # let _ = build;
    /// ```
    #[must_use]
    pub fn default_pem(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> TlsBuilder {
        self.default = Some(Identity { chain: Pem::Bytes(chain.into()), key: Pem::Bytes(key.into()) });
        self
    }

    /// Sets how many tickets a client gets, with which it can come back with a shorter handshake. 0: none. Default: 1.
    ///
    /// ```no_run
    /// use threadbare::Tls;
    ///
    /// let tls = Tls::builder().default_files("chain.pem", "key.pem").tickets(0).build()?; // each handshake is a full one
    /// # Ok::<(), threadbare::TlsError>(())
    /// ```
    #[must_use]
    pub fn tickets(mut self, count: usize) -> TlsBuilder {
        self.tickets = count;
        self
    }

    /// Requires a certificate of each client, which one of these roots issued. [`Request::tls`](crate::Request::tls) has
    /// it. The file is in PEM. Default: clients need no certificate.
    ///
    /// ```no_run
    /// use threadbare::Tls;
    ///
    /// let tls = Tls::builder().default_files("chain.pem", "key.pem").client_roots_file("clients-ca.pem").build()?;
    /// # Ok::<(), threadbare::TlsError>(())
    /// ```
    #[must_use]
    pub fn client_roots_file(mut self, roots: impl AsRef<Path>) -> TlsBuilder {
        self.client_roots.push(Pem::file(roots));
        self.require()
    }

    /// As [`client_roots_file`](TlsBuilder::client_roots_file), with the content of the file.
    ///
    /// ```
    /// use threadbare::{Tls, TlsError};
    ///
    /// fn build(chain: &[u8], key: &[u8], roots: &[u8]) -> Result<Tls, TlsError> {
    ///     Tls::builder().default_pem(chain, key).client_roots_pem(roots).build()
    /// }
    /// # let _ = build;
    /// ```
    #[must_use]
    pub fn client_roots_pem(mut self, roots: impl Into<Vec<u8>>) -> TlsBuilder {
        self.client_roots.push(Pem::Bytes(roots.into()));
        self.require()
    }

    fn require(mut self) -> TlsBuilder {
        if self.clients == Clients::Any {
            self.clients = Clients::Certified;
        }
        self
    }

    /// Lets clients without a certificate connect too, where there are [roots](TlsBuilder::client_roots_file). A
    /// certificate that can not be verified is refused still.
    ///
    /// ```no_run
    /// use threadbare::Tls;
    ///
    /// let tls = Tls::builder()
    ///     .default_files("chain.pem", "key.pem")
    ///     .client_roots_file("clients-ca.pem")
    ///     .client_certificates_optional() // a hook looks at `Request::tls`
    ///     .build()?;
    /// # Ok::<(), threadbare::TlsError>(())
    /// ```
    #[must_use]
    pub fn client_certificates_optional(mut self) -> TlsBuilder {
        self.clients = Clients::Optional;
        self
    }

    /// Reads the certificates and keys.
    ///
    /// ```
    /// use threadbare::Tls;
    ///
    /// match Tls::builder().default_files("chain.pem", "key.pem").build() {
    ///     Ok(tls) => println!("{tls:?}"),
    ///     Err(error) => eprintln!("{error}"), // names the file
    /// }
    /// # Ok::<(), threadbare::TlsError>(())
    /// ```
    ///
    /// # Errors
    /// A file can not be read, there is nothing of use in it, a key and its certificate do not belong together, or there
    /// is no certificate at all.
    pub fn build(self) -> Result<Tls, TlsError> {
        let current = RwLock::new(self.load()?);
        Ok(Tls { shared: Arc::new(Shared { current, source: Some(self) }) })
    }

    fn has_files(&self) -> bool {
        let mut identities = self.hosts.iter().map(|(_, identity)| identity).chain(&self.default);
        identities.any(Identity::is_file) || self.client_roots.iter().any(Pem::is_file)
    }

    fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        if self.hosts.is_empty() && self.default.is_none() {
            return Err(TlsError::Setup("a server needs a certificate, and none was given".to_owned()));
        }
        let hosts = self.hosts.iter().map(|(host, identity)| Ok((host.clone(), Arc::new(identity.load()?))));
        let default = self.default.as_ref().map(Identity::load).transpose()?.map(Arc::new);
        let certificates = Certificates { hosts: hosts.collect::<Result<_, TlsError>>()?, default };
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = match self.clients {
            Clients::Any => builder.with_no_client_auth(),
            clients => {
                let mut roots = RootCertStore::empty();
                self.client_roots.iter().try_for_each(|pem| pem.add_to(&mut roots))?;
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
                let verifier = if clients == Clients::Optional { verifier.allow_unauthenticated() } else { verifier };
                let verifier = verifier.build().map_err(|error| TlsError::Setup(format!("clients' roots: {error}")))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(certificates));
        // The tickets hold the state of a session, sealed; a cache would be memory that nobody bounds for us.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = self.tickets;
        if self.tickets > 0 {
            config.ticketer = ticketer()?;
        }
        Ok(adapted(config))
    }
}

impl fmt::Debug for TlsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.hosts.iter().map(|(host, _)| host).collect();
        f.debug_struct("TlsBuilder").field("hosts", &hosts).field("tickets", &self.tickets).finish_non_exhaustive()
    }
}

fn ticketer() -> Result<Arc<dyn rustls::server::ProducesTickets>, TlsError> {
    #[cfg(feature = "aws-lc-rs")]
    let made = rustls::crypto::aws_lc_rs::Ticketer::new();
    #[cfg(not(feature = "aws-lc-rs"))]
    let made = rustls::crypto::ring::Ticketer::new();
    made.map_err(TlsError::from)
}

/// What every configuration has here.
fn adapted(mut config: ServerConfig) -> Arc<ServerConfig> {
    config.max_early_data_size = 0;
    if config.alpn_protocols.is_empty() {
        config.alpn_protocols = vec![ALPN.to_vec()];
    }
    config.cert_resolver = Arc::new(NotesServerName(config.cert_resolver));
    Arc::new(config)
}

/// The certificates of a server, by host.
#[derive(Debug)]
struct Certificates {
    hosts: HashMap<String, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    fn of(&self, host: &str) -> Option<&Arc<CertifiedKey>> {
        let host = host.to_ascii_lowercase();
        let wildcard = || host.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        self.hosts.get(&host).or_else(|| self.hosts.get(&wildcard()?))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|host| self.of(host));
        named.or(self.default.as_ref()).cloned()
    }
}
