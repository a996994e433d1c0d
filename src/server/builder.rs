//! The settings of a server.

use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use crate::bridge::Bridge;
use crate::config::check::check_threads;
use crate::config::{Config, ConfigError};
use crate::protocol::Trusted;
use crate::protocol::handshake::{Accept, HostPolicy, OriginPolicy};
use crate::protocol::http::{ForwardedHeader, Request, Response};
use crate::server::control::ServerHandle;
use crate::server::listener::layer::Layer;
use crate::server::reactor::handshake::{Decide, Http};
use crate::server::reactor::pending::Pending;
use crate::server::reactor::pending_response::PendingResponse;
#[cfg(feature = "rustls-tls")]
use crate::transport::tls::server_config::Tls;
use crate::worker::handle::topic_events::TopicHook;
use crate::worker::topics::registry::Configure;

/// Makes a [`Server`](crate::Server); see [`Server::builder`](crate::Server::builder).
///
/// ```
/// use std::time::Duration;
/// use threadbare::{Config, OriginPolicy, Server};
///
/// let server = Server::builder()
///     .workers(2)
///     .config(Config::default().ping_interval(Duration::from_secs(10)))
///     .subprotocols(["chat.v2", "chat.v1"])
///     .origins(OriginPolicy::List(vec!["https://example.com".into()]))
///     .bind("127.0.0.1:0")?;
/// # Ok::<(), threadbare::BuildError>(())
/// ```
pub struct ServerBuilder {
    pub(super) workers: Option<usize>,
    pub(super) channels: usize,
    pub(super) config: Config,
    pub(super) subprotocols: Vec<Arc<String>>,
    pub(super) origins: OriginPolicy,
    pub(super) hosts: HostPolicy,
    pub(super) proxy_protocol: Trusted,
    pub(super) forwarded: Option<(ForwardedHeader, Trusted)>,
    pub(super) decide: Decide,
    pub(super) http: Http,
    pub(super) layer: Layer,
    pub(super) topics: Option<Box<Configure>>,
    pub(super) bridge: Option<Arc<dyn Bridge>>,
    pub(super) on_topic: Option<Box<TopicHook>>,
    /// Where another process takes the server over.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) hand_over: Option<std::path::PathBuf>,
    /// Another server is about to be taken over: nothing is accepted before.
    pub(super) takes_over: bool,
}

impl ServerBuilder {
    pub(super) fn new() -> ServerBuilder {
        ServerBuilder {
            workers: None,
            channels: 1,
            config: Config::default(),
            subprotocols: Vec::new(),
            origins: OriginPolicy::SameHost,
            hosts: HostPolicy::Any,
            proxy_protocol: Trusted::default(),
            forwarded: None,
            decide: Decide::Now(Box::new(|_| Ok(Accept::new()))),
            http: Http::Refused,
            layer: Layer::default(),
            topics: None,
            bridge: None,
            on_topic: None,
            #[cfg(all(target_os = "linux", feature = "handover"))]
            hand_over: None,
            takes_over: false,
        }
    }

    /// Sets the number of worker threads, 1 to 1,024. Default: one for each core.
    ///
    /// Beside two or more workers, one more thread accepts connections and does the opening handshakes. A single worker
    /// does both itself, which saves a switch between threads for each connection; a callback that takes long delays
    /// handshakes too. For a server without any thread see [`bind_inline`](ServerBuilder::bind_inline).
    ///
    /// ```
    /// use threadbare::Server;
    ///
    /// let server = Server::builder().workers(1).bind("127.0.0.1:0")?;
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn workers(mut self, count: impl Into<Option<usize>>) -> ServerBuilder {
        self.workers = count.into();
        self
    }

    /// Sets the number of [`Events`](crate::Events) receivers, 1 to 1,024. Each connection has one of them for all its
    /// events. Take them with [`Server::take_events`](crate::Server::take_events). Default: 1. A server that has none, because
    /// it calls handlers or is an event loop, refuses another number.
    ///
    /// ```
    /// use threadbare::Server;
    ///
    /// let mut server = Server::builder().channels(4).bind("127.0.0.1:0")?;
    /// assert_eq!(server.take_events().len(), 4); // for four threads
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn channels(mut self, count: usize) -> ServerBuilder {
        self.channels = count;
        self
    }

    /// Sets the limits and timeouts.
    ///
    /// ```
    /// use threadbare::{Config, Server};
    ///
    /// let server = Server::builder().config(Config::default().max_connections(1_000)).bind("127.0.0.1:0")?;
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn config(mut self, config: Config) -> ServerBuilder {
        self.config = config;
        self
    }

    /// Sets the subprotocols that the server speaks. It chooses the first of the client's that is among them, unless
    /// [`on_request`](ServerBuilder::on_request) chooses (RFC 6455 4.2.2).
    ///
    /// ```
    /// use threadbare::{Client, Server};
    ///
    /// let server = Server::builder().subprotocols(["chat.v1", "chat.v2"]).bind("127.0.0.1:0")?;
    /// let url = format!("ws://{}", server.local_addr());
    /// let client = Client::builder().subprotocols(["chat.v2", "chat.v1"]).connect(&url)?;
    /// assert_eq!(client.subprotocol(), Some("chat.v2"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn subprotocols<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> ServerBuilder {
        self.subprotocols = names.into_iter().map(|name| Arc::new(name.into())).collect();
        self
    }

    /// Sets which web pages may connect. Default: those from the host that they connect to, so that another site's page
    /// can not use a visitor's cookies (RFC 6455 10.2). Most programs send no `Origin`, and may connect. One refusal a
    /// second is logged at `warn`, with the origin and the host; a proxy that changes `Host` is the usual cause.
    ///
    /// ```
    /// use threadbare::{Client, OriginPolicy, Server};
    ///
    /// let policy = OriginPolicy::List(vec!["https://example.com".into()]);
    /// let server = Server::builder().origins(policy).bind("127.0.0.1:0")?;
    /// let url = format!("ws://{}", server.local_addr());
    /// assert!(Client::builder().origin("https://example.com").connect(&url).is_ok());
    /// assert!(Client::builder().origin("https://example.org").connect(&url).is_err());
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn origins(mut self, policy: OriginPolicy) -> ServerBuilder {
        self.origins = policy;
        self
    }

    /// Sets the hosts that requests may name, as a protection against DNS rebinding; other requests are answered 421, and
    /// logged as those of [`origins`](ServerBuilder::origins). `*.example.com` stands for all hosts below `example.com`.
    /// Default: any.
    ///
    /// ```
    /// use threadbare::{Client, Server};
    ///
    /// let server = Server::builder().hosts(["chat.example.com"]).bind("127.0.0.1:0")?;
    /// assert!(Client::connect(&format!("ws://{}", server.local_addr())).is_err()); // it names another host
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn hosts<S: Into<String>>(mut self, hosts: impl IntoIterator<Item = S>) -> ServerBuilder {
        self.hosts = HostPolicy::List(hosts.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the proxies that begin each connection with a PROXY header, version 1 or 2 (`send-proxy` and `send-proxy-v2`
    /// of HAProxy, `proxy_protocol on` of nginx, a network load balancer): addresses, networks, or both. Default: none.
    ///
    /// From these addresses the header is required: a connection without one, or with a wrong one, is closed without an
    /// answer, and so is one whose header is incomplete after [`handshake_timeout`](Config::handshake_timeout). From others
    /// it is never believed, and answered 400 as other bytes that are no request. The header comes before TLS.
    ///
    /// [`Peer::addr`](crate::Peer::addr) and [`Request::client_addr`] are then the client's,
    /// [`Request::socket_addr`] is the proxy's, and
    /// [`max_connections_per_address`](Config::max_connections_per_address) counts the client's. A header without an
    /// address (`LOCAL`, `UNKNOWN`), as for a health check, leaves the proxy's.
    ///
    /// ```
    /// use std::io::Write;
    /// use std::net::TcpStream;
    /// use std::time::Duration;
    /// use threadbare::{Event, Server};
    ///
    /// let server = Server::builder().proxy_protocol(["127.0.0.1", "10.0.0.0/8"]).bind("127.0.0.1:0")?;
    /// let mut proxy = TcpStream::connect(server.local_addr())?;
    /// proxy.write_all(b"PROXY TCP4 192.0.2.1 198.51.100.1 40000 443\r\n")?;
    /// proxy.write_all(
    ///     b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    ///       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    /// )?;
    /// let Event::Open(peer, request) = server.recv_timeout(Duration::from_secs(5))? else { panic!("the first event") };
    /// assert_eq!(peer.addr().to_string(), "192.0.2.1:40000");
    /// assert_eq!(*request.socket_addr(), proxy.local_addr()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn proxy_protocol(mut self, proxies: impl Into<Trusted>) -> ServerBuilder {
        self.proxy_protocol = proxies.into();
        self
    }

    /// Sets the proxies whose header with the client's address is believed, and which header they write. The other header,
    /// which a client may send through them, is ignored. Default: none.
    ///
    /// The client is the first address from the right that is not one of `proxies`: each proxy appends whom it has the
    /// request from, and a client can only choose what is left of that. [`Request::client_addr`] and
    /// [`Peer::addr`](crate::Peer::addr) return it, with port 0 unless the header has one. From then on
    /// [`max_connections_per_address`](Config::max_connections_per_address) counts it; a proxy itself is not counted. A
    /// `Forwarded` that is malformed is answered 400.
    ///
    /// ```
    /// use threadbare::{ForwardedHeader, Server};
    ///
    /// let server = Server::builder()
    ///     .trusted_proxies(ForwardedHeader::XForwardedFor, ["127.0.0.1", "::1"]) // nginx, on this machine
    ///     .bind("127.0.0.1:0")?;
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn trusted_proxies(mut self, header: ForwardedHeader, proxies: impl Into<Trusted>) -> ServerBuilder {
        self.forwarded = Some((header, proxies.into()));
        self
    }

    /// Sets the hook that decides about each opening handshake. It runs on the thread that accepts, and must not block.
    /// A panic is answered 500.
    ///
    /// ```no_run
    /// use threadbare::{Accept, Response, Server};
    ///
    /// let server = Server::builder()
    ///     .on_request(|request| match request.path() {
    ///         "/chat" => Ok(Accept::new().subprotocol("chat")),
    ///         _ => Err(Response::new(404)),
    ///     })
    ///     .bind("127.0.0.1:0")?;
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn on_request(mut self, hook: impl Fn(&Request) -> Result<Accept, Response> + Send + 'static) -> ServerBuilder {
        self.decide = Decide::Now(Box::new(hook));
        self
    }

    /// As [`on_request`](ServerBuilder::on_request), for decisions that block, such as a look-up in a database: the
    /// [`Pending`] handshake goes to another thread and is decided from there.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use threadbare::{Accept, Client, Pending, Request, Response, Server};
    ///
    /// let (to_decide, handshakes) = mpsc::sync_channel::<(Request, Pending)>(256);
    /// let server = Server::builder()
    ///     .on_request_deferred(move |request, pending| {
    ///         let _ = to_decide.try_send((request, pending)); // if the channel is full, the answer is 500
    ///     })
    ///     .bind("127.0.0.1:0")?;
    /// std::thread::spawn(move || {
    ///     for (request, pending) in handshakes {
    ///         match request.path() {
    ///             "/chat" => pending.accept(Accept::new()), // a look-up in a database goes here
    ///             _ => pending.reject(Response::new(404)),
    ///         }
    ///     }
    /// });
    /// assert!(Client::connect(&format!("ws://{}/chat", server.local_addr())).is_ok());
    /// assert!(Client::connect(&format!("ws://{}/", server.local_addr())).is_err());
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn on_request_deferred(mut self, hook: impl Fn(Request, Pending) + Send + 'static) -> ServerBuilder {
        self.decide = Decide::Later(Box::new(hook));
        self
    }

    /// Sets the hook that answers plain HTTP requests on the same port, such as for a page, a health check or metrics. It runs
    /// on the thread that accepts, and must not block. A panic is answered 500. Without a hook the answer is 426 (Upgrade
    /// Required).
    ///
    /// The hook is given requests of every method but `CONNECT`, and their content ([`Request::body`]), which has at most
    /// [`max_body_size`](Config::max_body_size) bytes. A connection stays open for 1,000 requests, unless the client asks for
    /// its end or is silent for [`handshake_timeout`](Config::handshake_timeout). An opening handshake may follow. To `HEAD`
    /// the hook answers as to `GET`; the body is not sent.
    ///
    /// [`hosts`](ServerBuilder::hosts) holds for plain requests as well, [`origins`](ServerBuilder::origins) does not: a hook
    /// that changes something asks [`OriginPolicy::check`], because a page of any site can send a `POST`.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::net::TcpStream;
    /// use threadbare::{Response, Server};
    ///
    /// let server = Server::builder()
    ///     .http(|request| match (request.method(), request.path()) {
    ///         ("GET" | "HEAD", "/health") => Response::new(200).text("up\n"),
    ///         ("POST", "/echo") => Response::new(200).body(request.body()),
    ///         _ => Response::new(404),
    ///     })
    ///     .bind("127.0.0.1:0")?;
    /// let mut stream = TcpStream::connect(server.local_addr())?;
    /// stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    /// let mut answer = String::new();
    /// stream.read_to_string(&mut answer)?;
    /// assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nup\n"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn http(self, hook: impl Fn(&Request) -> Response + Send + 'static) -> ServerBuilder {
        self.http_with_server(move |request, _| hook(request))
    }

    /// As [`http`](ServerBuilder::http), for a hook that needs the server: to count its connections, or to broadcast.
    ///
    /// ```
    /// use threadbare::{OriginPolicy, Response, Server};
    ///
    /// let server = Server::builder()
    ///     .http_with_server(|request, server| match (request.method(), request.path()) {
    ///         ("GET" | "HEAD", "/metrics") => Response::new(200).text(&format!("connections {}\n", server.connections())),
    ///         ("POST", "/news") if OriginPolicy::SameHost.check(request).is_ok() => {
    ///             server.broadcast(request.body());
    ///             Response::new(204)
    ///         }
    ///         _ => Response::new(404),
    ///     })
    ///     .bind("127.0.0.1:0")?;
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn http_with_server(
        mut self,
        hook: impl Fn(&Request, &ServerHandle) -> Response + Send + 'static,
    ) -> ServerBuilder {
        self.http = Http::Now(Box::new(hook));
        self
    }

    /// As [`http`](ServerBuilder::http), for answers that block, such as a query of a database: the request goes to another
    /// thread with a [`PendingResponse`], and is answered from there. Requests of one connection are answered in their order;
    /// the next is read behind the response.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use threadbare::{PendingResponse, Request, Response, Server};
    ///
    /// let (to_answer, requests) = mpsc::sync_channel::<(Request, PendingResponse)>(256);
    /// let server = Server::builder()
    ///     .http_deferred(move |request, pending| {
    ///         let _ = to_answer.try_send((request, pending)); // if the channel is full, the answer is 500
    ///     })
    ///     .bind("127.0.0.1:0")?;
    /// std::thread::spawn(move || {
    ///     for (request, pending) in requests {
    ///         match request.path() {
    ///             "/report" => pending.respond(Response::new(200).text("a query of a database goes here\n")),
    ///             _ => pending.respond(Response::new(404)),
    ///         }
    ///     }
    /// });
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn http_deferred(mut self, hook: impl Fn(Request, PendingResponse) + Send + 'static) -> ServerBuilder {
        self.http = Http::Later(Box::new(hook));
        self
    }

    /// Has the server speak TLS: `wss://`, and `https://` for [`http`](ServerBuilder::http). A client that speaks plain HTTP
    /// is answered 400. A server with TLS at some of its listeners only has it set there, with
    /// [`Listener::tls`](crate::Listener::tls). [`handshake_timeout`](Config::handshake_timeout) limits the handshakes of TLS and of WebSocket
    /// together.
    ///
    /// ```no_run
    /// use threadbare::{Server, Tls};
    ///
    /// let tls = Tls::from_pem_files("chain.pem", "key.pem")?;
    /// let server = Server::builder().tls(tls).bind("0.0.0.0:443")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "rustls-tls")]
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> ServerBuilder {
        self.layer = Layer::tls(tls);
        self
    }

    fn count_workers(&self) -> usize {
        self.workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get))
    }

    /// Checks the settings of a server whose only worker the application's thread runs.
    pub(super) fn check_inline(&self) -> Result<(), ConfigError> {
        const WORKERS: &str = "1 for an event loop: the thread that polls it is the only worker";
        const CHANNELS: &str = "1 for an event loop: it has no channels";
        if self.workers.is_some_and(|workers| workers != 1) {
            return Err(ConfigError::new("workers", self.count_workers(), WORKERS));
        }
        if self.channels != 1 {
            return Err(ConfigError::new("channels", self.channels, CHANNELS));
        }
        self.check_all(1)?;
        self.check_hand_over()
    }

    /// Checks that an event loop is not to be handed over.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) fn check_hand_over(&self) -> Result<(), ConfigError> {
        const NEEDED: &str = "unset, because an event loop can not be handed over";
        self.hand_over.as_ref().map_or(Ok(()), |path| Err(ConfigError::new("hand_over", path.display(), NEEDED)))
    }

    #[cfg(not(all(target_os = "linux", feature = "handover")))]
    pub(super) fn check_hand_over(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// Checks the settings of a server whose connections have handlers, and returns the number of workers.
    pub(super) fn check_handler(&self) -> Result<usize, ConfigError> {
        if self.channels != 1 {
            return Err(ConfigError::new(
                "channels",
                self.channels,
                "1 for a server with handlers: it has no channels",
            ));
        }
        self.check()
    }

    /// Checks the settings, and returns the number of workers.
    pub(super) fn check(&self) -> Result<usize, ConfigError> {
        let workers = self.count_workers();
        self.check_all(workers)?;
        Ok(workers)
    }

    fn check_all(&self, workers: usize) -> Result<(), ConfigError> {
        self.config.check()?;
        check_threads("workers", workers)?;
        check_threads("channels", self.channels)?;
        if let Some(entry) = self.origins.invalid_entry() {
            return Err(ConfigError::new(
                "origins",
                entry,
                "scheme://host or scheme://host:port, with *. before a domain for all hosts below it, or null",
            ));
        }
        let forwarded = self.forwarded.as_ref().map(|(_, proxies)| ("trusted_proxies", proxies));
        for (name, proxies) in [Some(("proxy_protocol", &self.proxy_protocol)), forwarded].into_iter().flatten() {
            if let Some(entry) = proxies.invalid_entry() {
                return Err(ConfigError::new(
                    name,
                    entry,
                    "an IP address, a network such as 10.0.0.0/8 or fd00::/8 without bits beyond its prefix, or unix:",
                ));
            }
        }
        if let Some(entry) = self.hosts.invalid_entry() {
            return Err(ConfigError::new(
                "hosts",
                entry,
                "host or host:port, with *. before a domain for all hosts below it",
            ));
        }
        Ok(())
    }
}

/// As [`Server::builder`](crate::Server::builder) makes it.
impl Default for ServerBuilder {
    fn default() -> ServerBuilder {
        ServerBuilder::new()
    }
}

impl std::fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
