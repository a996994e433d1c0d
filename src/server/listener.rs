//! Where a server listens.

pub(super) mod bind;
mod conversions;
pub(super) mod layer;
pub(super) mod open;
#[cfg(unix)]
pub(super) mod socket_file;
mod tcp;
#[cfg(unix)]
pub(super) mod unix;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::server::listener::layer::Layer;
use crate::transport::stream::hooks::SocketHooks;
#[cfg(feature = "rustls-tls")]
use crate::transport::tls::server_config::Tls;

/// The kernel keeps at most this many connections until they are accepted. It is the default limit of Linux.
const BACKLOG: u32 = 4096;

/// Sees the listening socket before it is bound.
type ListenerHook = Arc<dyn Fn(&TcpListener) -> io::Result<()> + Send + Sync>;

/// An address, a path or a socket that a server listens on, with what is particular to it.
///
/// [`ServerBuilder::bind`](crate::ServerBuilder::bind) and its siblings take whatever converts into one: an address such
/// as `"127.0.0.1:8080"`, a Unix socket such as `"unix:/run/app.sock"`, or a listener of the standard library that was
/// made elsewhere. For options of its own, make a `Listener` of it first. A server takes several, in a `Vec` or an array.
///
/// ```
/// use threadbare::{Listener, Server};
///
/// let server = Server::bind([
///     Listener::from("127.0.0.1:0"),
///     Listener::from("[::1]:0").backlog(128),
/// ])?;
/// assert_eq!(server.local_addrs().len(), 2);
/// # Ok::<(), threadbare::BuildError>(())
/// ```
///
/// # Unix sockets
///
/// `unix:PATH` makes a socket in the file system. It is bound to a temporary name in the same directory, gets its
/// [`mode`](Listener::mode), and then takes the place of the socket that was there, if any: there is no moment without a
/// socket, and no other server is asked. What is no socket is not replaced. At its end the server removes the socket,
/// unless another has taken its place.
///
/// `unix:@NAME` is a name in Linux's abstract namespace. It has no file and no mode: any process of the same network
/// namespace may connect.
///
/// The address of a peer is [`PeerAddr::Unix`](crate::PeerAddr::Unix), as a rule without a path.
/// [`max_connections_per_address`](crate::Config::max_connections_per_address) does not apply to it.
///
/// # Listeners that were made elsewhere
///
/// A `TcpListener` or a `UnixListener` of the standard library is used as it is, so that a service manager can open the
/// port, or a process hand it to its successor. The server makes it non-blocking, also for others that have the same
/// socket. At its end the server closes it and nothing else: connections that wait to be accepted wait for the next
/// process that has it, and the file of a Unix socket stays. If no process has it, the system resets them.
pub struct Listener {
    place: Place,
    settings: Settings,
}

/// What is particular to one listener.
#[derive(Default)]
struct Settings {
    /// How the socket is made.
    backlog: Option<u32>,
    mode: Option<u32>,
    only_v6: bool,
    hook: Option<ListenerHook>,
    /// What each connection gets.
    hooks: SocketHooks,
    layer: Layer,
}

/// What is to be listened on.
enum Place {
    /// The first of these addresses that can be bound.
    Tcp(io::Result<Vec<SocketAddr>>),
    /// A path, or a name that begins with `@`.
    Unix(PathBuf),
    GivenTcp(TcpListener),
    #[cfg(unix)]
    GivenUnix(std::os::unix::net::UnixListener),
}

impl Listener {
    fn new(place: Place) -> Listener {
        Listener { place, settings: Settings::default() }
    }

    /// Listens on the first of the addresses that can be bound. Names are looked up at once, and an error is that of the
    /// server's start.
    ///
    /// `Listener::from` does the same for the types of the standard library; this is for generic code.
    ///
    /// ```
    /// use std::net::ToSocketAddrs;
    /// use threadbare::{BuildError, Listener, Server};
    ///
    /// fn start(addr: impl ToSocketAddrs) -> Result<Server, BuildError> {
    ///     Server::bind(Listener::tcp(addr))
    /// }
    ///
    /// let server = start(("localhost", 0))?;
    /// # Ok::<(), BuildError>(())
    /// ```
    #[must_use]
    pub fn tcp(addr: impl ToSocketAddrs) -> Listener {
        Listener::new(Place::Tcp(addr.to_socket_addrs().map(Iterator::collect)))
    }

    /// Listens on a Unix socket with this path, as `unix:PATH` does. A path that begins with `@` is a name in Linux's
    /// abstract namespace.
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// use threadbare::{Client, Listener, Server};
    ///
    /// let path = std::env::temp_dir().join(format!("threadbare-{}.sock", std::process::id()));
    /// let server = Server::bind(Listener::unix(&path).mode(0o660))?;
    /// let client = Client::connect(&format!("ws+unix:{}:/chat", path.display()))?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn unix(path: impl AsRef<Path>) -> Listener {
        Listener::new(Place::Unix(path.as_ref().to_owned()))
    }

    /// Sets how many connections the system keeps until they are accepted; it may keep fewer. Default: 4096, the limit of
    /// Linux, so that a burst of clients does not have to connect again. A listener that was made elsewhere keeps its own.
    ///
    /// ```
    /// use threadbare::{Listener, Server};
    ///
    /// let server = Server::bind(Listener::from("127.0.0.1:0").backlog(128))?;
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn backlog(mut self, connections: u32) -> Listener {
        self.settings.backlog = Some(connections);
        self
    }

    /// Sets the permissions of the file of a Unix socket: who connects needs the one to write. Default: what the process's
    /// umask leaves of 0o777. The umask is never changed. A server that has no file here does not start.
    ///
    /// ```
    /// use threadbare::Listener;
    ///
    /// let listener = Listener::from("unix:/run/app.sock").mode(0o660); // the owner and the group
    /// ```
    #[cfg(unix)]
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Listener {
        self.settings.mode = Some(mode);
        self
    }

    /// Has an IPv6 address take no IPv4 connections. `[::]` takes both on most systems, and can then not be bound beside
    /// `0.0.0.0` with the same port. Default: as the system does. It does not matter to other addresses.
    ///
    /// ```
    /// use threadbare::{Listener, Server};
    ///
    /// let first = Server::bind("0.0.0.0:0")?;
    /// let port = first.local_addr().port();
    /// let second = Server::bind(Listener::tcp(("::", port)).only_v6())?;
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn only_v6(mut self) -> Listener {
        self.settings.only_v6 = true;
        self
    }

    /// Calls `hook` with the listening TCP socket before it is bound, to set its options: `SO_REUSEPORT`, so that several
    /// processes share a port, or buffer sizes, which the accepted sockets inherit. A socket that was made elsewhere is
    /// bound already. It is not called for Unix sockets. An error is that of the server's start.
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// use socket2::SockRef;
    /// use threadbare::{Listener, Server};
    ///
    /// let share = |addr| Listener::tcp(addr).listener_hook(|socket| SockRef::from(socket).set_reuse_port(true));
    /// let first = Server::bind(share(([127, 0, 0, 1], 0).into()))?;
    /// let second = Server::bind(share(first.local_addr()))?; // the system shares the connections out
    /// # let _: (std::net::SocketAddr, std::net::SocketAddr) = (first.local_addr(), second.local_addr());
    /// # }
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn listener_hook(mut self, hook: impl Fn(&TcpListener) -> io::Result<()> + Send + Sync + 'static) -> Listener {
        self.settings.hook = Some(Arc::new(hook));
        self
    }

    /// Has this listener speak TLS, with these settings in place of those of
    /// [`ServerBuilder::tls`](crate::ServerBuilder::tls). So one server can speak `wss://` at one address and `ws://` at
    /// another.
    ///
    /// ```no_run
    /// use threadbare::{Listener, Server, Tls};
    ///
    /// let tls = Tls::from_pem_files("chain.pem", "key.pem")?;
    /// let server = Server::bind(vec![Listener::from("0.0.0.0:443").tls(tls), Listener::from("127.0.0.1:8080")])?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "rustls-tls")]
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Listener {
        self.settings.layer = Layer::tls(tls);
        self
    }

    /// Calls `hook` with each accepted TCP socket, before anything is read from it, to set its options: keepalive,
    /// `TCP_USER_TIMEOUT`, buffer sizes. It runs on the thread that accepts, and must not block. `TCP_NODELAY` is set
    /// already. An error drops the connection.
    ///
    /// ```
    /// use std::time::Duration;
    /// use socket2::{SockRef, TcpKeepalive};
    /// use threadbare::{Listener, Server};
    ///
    /// let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60));
    /// let listener = Listener::from("127.0.0.1:0")
    ///     .socket_hook(move |socket| SockRef::from(socket).set_tcp_keepalive(&keepalive));
    /// let server = Server::bind(listener)?;
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn socket_hook(mut self, hook: impl Fn(&TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Listener {
        self.settings.hooks.tcp = Some(Arc::new(hook));
        self
    }

    /// Calls `hook` with each accepted Unix socket, before anything is read from it: to set its buffer sizes, or to ask the
    /// system which user the peer is. It runs on the thread that accepts, and must not block. An error drops the
    /// connection.
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// use socket2::SockRef;
    /// use threadbare::Listener;
    ///
    /// let listener = Listener::from("unix:/run/app.sock")
    ///     .unix_socket_hook(|socket| SockRef::from(socket).set_send_buffer_size(1 << 20));
    /// # }
    /// ```
    #[cfg(unix)]
    #[must_use]
    pub fn unix_socket_hook(
        mut self,
        hook: impl Fn(&std::os::unix::net::UnixStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Listener {
        self.settings.hooks.unix = Some(Arc::new(hook));
        self
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place: &dyn fmt::Debug = match &self.place {
            Place::Tcp(addrs) => addrs,
            Place::Unix(path) => path,
            Place::GivenTcp(listener) => listener,
            #[cfg(unix)]
            Place::GivenUnix(listener) => listener,
        };
        f.debug_struct("Listener").field("place", place).finish_non_exhaustive()
    }
}

/// All that a server listens on: a [`Listener`] or whatever converts into one, or several listeners, in a `Vec` or an
/// array.
///
/// ```
/// use threadbare::{BuildError, Listener, Listeners, Server};
///
/// fn start(listeners: impl Into<Listeners>) -> Result<Server, BuildError> {
///     Server::builder().workers(1).bind(listeners)
/// }
///
/// start("127.0.0.1:0")?;
/// start(std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"))?;
/// start(["127.0.0.1:0", "localhost:0"].map(Listener::from))?;
/// start(["127.0.0.1:0", "localhost:0"].into_iter().map(Listener::from).collect::<Listeners>())?;
/// # Ok::<(), BuildError>(())
/// ```
#[derive(Debug)]
pub struct Listeners(Vec<Listener>);
