//! The settings of a client.

use std::net::TcpStream;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use crate::client::pool::ClientPool;
use crate::config::Config;
use crate::transport::stream::hooks::SocketHooks;
#[cfg(feature = "rustls-tls")]
use crate::transport::tls::client_config::ClientTls;

/// Makes a [`Client`](crate::Client); see [`Client::builder`](crate::Client::builder).
///
/// ```
/// use std::time::Duration;
/// use threadbare::{Client, Config, Server};
///
/// let server = Server::builder().subprotocols(["chat.v1"]).bind("127.0.0.1:0")?;
/// let client = Client::builder()
///     .header("Authorization", "Bearer secret")
///     .subprotocols(["chat.v2", "chat.v1"])
///     .config(Config::default().max_message_size(64 << 10))
///     .timeout(Duration::from_secs(10))
///     .connect(&format!("ws://{}/chat", server.local_addr()))?;
/// assert_eq!(client.subprotocol(), Some("chat.v1"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ClientBuilder {
    pub(super) headers: Vec<(String, String)>,
    pub(super) subprotocols: Vec<String>,
    pub(super) config: Config,
    pub(super) pool: Option<ClientPool>,
    pub(super) resolve_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) proxy_timeout: Duration,
    pub(super) timeout: Duration,
    pub(super) max_redirects: usize,
    pub(super) proxy: ProxyChoice,
    pub(super) hooks: SocketHooks,
    #[cfg(feature = "rustls-tls")]
    pub(super) tls: Option<ClientTls>,
}

/// Through which proxy a client connects.
#[derive(Clone, Debug)]
pub(super) enum ProxyChoice {
    Environment,
    None,
    Explicit(String),
}

impl ClientBuilder {
    pub(super) fn new() -> ClientBuilder {
        ClientBuilder {
            headers: Vec::new(),
            subprotocols: Vec::new(),
            config: Config::default(),
            pool: None,
            resolve_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            proxy_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            max_redirects: 0,
            proxy: ProxyChoice::Environment,
            hooks: SocketHooks::default(),
            #[cfg(feature = "rustls-tls")]
            tls: None,
        }
    }

    /// Adds a header to the request, such as `Authorization`. An invalid header is an error when the client connects.
    /// `User-Agent` replaces the default, the library's name and version. `Host` replaces the URL's host, for a server behind
    /// a gateway: the connection still goes to the URL's.
    ///
    /// ```
    /// use threadbare::Client;
    ///
    /// let builder = Client::builder().header("Authorization", "Bearer secret").header("X-Room", "7");
    /// ```
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> ClientBuilder {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets `Origin`, the site that the program acts for. Browsers send it. Other programs seldom need it.
    ///
    /// ```
    /// use threadbare::Client;
    ///
    /// let builder = Client::builder().origin("https://example.com");
    /// ```
    #[must_use]
    pub fn origin(self, origin: &str) -> ClientBuilder {
        self.header("Origin", origin)
    }

    /// Offers subprotocols, in the order of the client's preference.
    ///
    /// ```
    /// use threadbare::Client;
    ///
    /// let builder = Client::builder().subprotocols(["chat.v2", "chat.v1"]); // `chat.v2`, if the server speaks it
    /// ```
    #[must_use]
    pub fn subprotocols<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> ClientBuilder {
        self.subprotocols.extend(names.into_iter().map(Into::into));
        self
    }

    /// Sets the limits and timeouts of a client that has a thread of its own. A client in a pool has those of the pool.
    /// [`handshake_timeout`](Config::handshake_timeout) limits the client's opening handshake.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::{Client, Config};
    ///
    /// let builder = Client::builder().config(Config::default().ping_interval(Duration::from_secs(10)));
    /// ```
    #[must_use]
    pub fn config(mut self, config: Config) -> ClientBuilder {
        self.config = config;
        self
    }

    /// Has a worker of the pool serve the connection, rather than a thread of its own.
    ///
    /// ```
    /// use threadbare::{Client, ClientPool, Config};
    ///
    /// let pool = ClientPool::new(1, Config::default())?;
    /// let builder = Client::builder().pool(&pool); // for all clients that it makes
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn pool(mut self, pool: &ClientPool) -> ClientBuilder {
        self.pool = Some(pool.clone());
        self
    }

    /// How long the look-up of the host may take. Default: 5 s.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Client;
    ///
    /// let builder = Client::builder().resolve_timeout(Duration::from_secs(2));
    /// ```
    #[must_use]
    pub fn resolve_timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.resolve_timeout = timeout;
        self
    }

    /// How long it may take to connect by TCP, all addresses of the host included. Default: 10 s.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Client;
    ///
    /// let builder = Client::builder().connect_timeout(Duration::from_secs(2));
    /// ```
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.connect_timeout = timeout;
        self
    }

    /// How long the proxy may take to open the tunnel, once the client is connected to it. Default: 10 s.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Client;
    ///
    /// let builder = Client::builder().proxy("http://proxy.example.com:3128").proxy_timeout(Duration::from_secs(20));
    /// ```
    #[must_use]
    pub fn proxy_timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.proxy_timeout = timeout;
        self
    }

    /// How long connecting may take in all, redirects included. Default: 30 s.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Client;
    ///
    /// let builder = Client::builder().timeout(Duration::from_secs(5)); // nobody waits longer
    /// ```
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.timeout = timeout;
        self
    }

    /// How many redirects are followed. Each is a new request with a new key. Credentials are not sent to another
    /// origin, and `wss` is never redirected to `ws`. Default: none, because a WebSocket endpoint seldom moves, and a
    /// redirect may lead to a log-in page.
    ///
    /// ```
    /// use threadbare::Client;
    ///
    /// let builder = Client::builder().max_redirects(2);
    /// ```
    #[must_use]
    pub fn max_redirects(mut self, count: usize) -> ClientBuilder {
        self.max_redirects = count;
        self
    }

    /// Connects through a proxy, except to Unix sockets: `http://host:port` (CONNECT) or `socks5://host:port`, with `user:password@` if the
    /// proxy requires it. Default: the environment variables `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`.
    ///
    /// ```
    /// use threadbare::Client;
    ///
    /// let builder = Client::builder().proxy("socks5://anna:secret@proxy.example.com");
    /// ```
    #[must_use]
    pub fn proxy(mut self, url: &str) -> ClientBuilder {
        self.proxy = ProxyChoice::Explicit(url.to_owned());
        self
    }

    /// Connects without a proxy, and ignores the environment variables.
    ///
    /// ```
    /// use threadbare::Client;
    ///
    /// let builder = Client::builder().no_proxy();
    /// ```
    #[must_use]
    pub fn no_proxy(mut self) -> ClientBuilder {
        self.proxy = ProxyChoice::None;
        self
    }

    /// Sets whom the client trusts with `wss://` URLs, its own certificate, and the name that the server's must have. See
    /// [`ClientTls`] for the default.
    ///
    /// ```no_run
    /// use threadbare::{Client, ClientTls};
    ///
    /// let tls = ClientTls::builder().root_file("our-own-ca.pem").build()?;
    /// let client = Client::builder().tls(tls).connect("wss://build.intern.example.com/")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "rustls-tls")]
    #[must_use]
    pub fn tls(mut self, tls: ClientTls) -> ClientBuilder {
        self.tls = Some(tls);
        self
    }

    /// Calls `hook` with each new TCP socket, before anything is sent, to set its options. `TCP_NODELAY` is set already. An
    /// error is [`ConnectError::Hook`](crate::ConnectError::Hook), and no connection is made.
    ///
    /// ```
    /// use threadbare::Client;
    ///
    /// let builder = Client::builder().socket_hook(|socket| socket.set_ttl(16));
    /// ```
    #[must_use]
    pub fn socket_hook(
        mut self,
        hook: impl Fn(&TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> ClientBuilder {
        self.hooks.tcp = Some(Arc::new(hook));
        self
    }

    /// Calls `hook` with each new Unix socket, as [`socket_hook`](ClientBuilder::socket_hook) does with TCP sockets.
    ///
    /// ```
    /// use socket2::SockRef;
    /// use threadbare::Client;
    ///
    /// let builder =
    ///     Client::builder().unix_socket_hook(|socket| SockRef::from(socket).set_send_buffer_size(1 << 20));
    /// ```
    #[cfg(unix)]
    #[must_use]
    pub fn unix_socket_hook(
        mut self,
        hook: impl Fn(&UnixStream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> ClientBuilder {
        self.hooks.unix = Some(Arc::new(hook));
        self
    }
}

/// As [`Client::builder`](crate::Client::builder) makes it.
impl Default for ClientBuilder {
    fn default() -> ClientBuilder {
        ClientBuilder::new()
    }
}

impl std::fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The headers may hold secrets.
        f.debug_struct("ClientBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
