//! Connects a client: look-up, TCP, proxy, handshake and redirects, each with a deadline.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::client::builder::{ClientBuilder, ProxyChoice};
use crate::client::client::{AwaitedEnd, Client};
use crate::client::delivery::Notice;
use crate::client::error::{ConnectError, Phase};
use crate::client::gather::Gather;
use crate::client::pool::{Established, EventRoute, Pool};
use crate::config::Config;
use crate::protocol::PeerAddr;
use crate::protocol::deflate::NegotiatedExtension;
use crate::protocol::handshake::client::proxy::{Proxy, ProxyError, Step, Tunnel};
use crate::protocol::handshake::client::{Agreed, ClientRequest, HandshakeError, Url, proxy, redirect, verify};
use crate::protocol::http::{HeadLimits, Request, ResponseReader};
use crate::transport::cancel::CancelToken;
use crate::transport::clock::deadline_after;
use crate::transport::dial;
use crate::transport::dial::DeadlineStream;
use crate::transport::resolve::resolve;
use crate::transport::stream::Stream;
#[cfg(feature = "rustls-tls")]
use crate::transport::tls::client_config::ClientTls;
use crate::transport::tls::error::TlsError;
#[cfg(feature = "rustls-tls")]
use crate::transport::tls::session::Session;
#[cfg(feature = "rustls-tls")]
use crate::transport::tls::stream::TlsStream;
#[cfg(unix)]
use crate::transport::unix;
use crate::worker::channel::event::Event;

/// At most 4096 bytes are taken by one read. Larger uses more stack; smaller needs more reads.
const CHUNK: usize = 4096;

/// Connects one client, until a deadline.
pub(super) struct Connector<'a> {
    pub(super) builder: &'a ClientBuilder,
    pub(super) handshake_timeout: Duration,
    pub(super) deadline: Instant,
    /// Ends the attempt before the deadline.
    pub(super) cancel: &'a CancelToken,
}

impl ClientBuilder {
    /// Connects to a URL: `ws://host:port/path`, or `ws+unix:/run/app.sock:/path` for a Unix socket. `http://` means the same
    /// as `ws://`.
    ///
    /// ```
    /// use threadbare::{Client, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let builder = Client::builder().header("X-Room", "7");
    /// let first = builder.connect(&format!("ws://{}", server.local_addr()))?;
    /// let second = builder.connect(&format!("ws://{}", server.local_addr()))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The URL or a setting is invalid, the server can not be reached in time, or it refuses the handshake.
    pub fn connect(&self, url: &str) -> Result<Client, ConnectError> {
        let request = self.request(url)?;
        let pool = self.worker()?;
        let (route, events, ending) = pool.channel();
        let established = self.establish(request, &pool.config, &CancelToken::default())?;
        let local_addr = established.local_addr.clone();
        let agreed = pool.register(established, &route, None);
        drop(route);
        let peer = loop {
            match events.recv() {
                Ok(Event::Open(peer, _)) => break peer,
                Ok(_) => {}
                Err(_) => return Err(ConnectError::io("the worker has ended")(io::ErrorKind::BrokenPipe.into())),
            }
        };
        let (gather, ended) = (Gather::new(&pool.config), OnceLock::new());
        Ok(Client { peer, events, gather, ended, agreed, local_addr, _end: AwaitedEnd { ending, pool } })
    }

    /// Makes the request for a URL, with the headers and subprotocols of the builder.
    pub(super) fn request(&self, url: &str) -> Result<ClientRequest, ConnectError> {
        let mut request = ClientRequest::new(Url::parse(url)?);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        for name in &self.subprotocols {
            request = request.subprotocol(name);
        }
        request.check()?;
        Ok(request)
    }

    /// Returns the pool, or starts a thread for this client alone.
    pub(super) fn worker(&self) -> Result<Arc<Pool>, ConnectError> {
        if let Some(pool) = &self.pool {
            return Ok(pool.pool.clone());
        }
        self.config.check()?;
        Ok(Arc::new(Pool::start(1, self.config.clone()).map_err(ConnectError::io("no thread"))?))
    }

    /// Connects, and assigns the connection to a worker.
    pub(super) fn open(
        &self,
        request: ClientRequest,
        pool: &Pool,
        route: &EventRoute,
        watcher: Option<Sender<Notice>>,
        cancel: &CancelToken,
    ) -> Result<Agreed, ConnectError> {
        let established = self.establish(request, &pool.config, cancel)?;
        Ok(pool.register(established, route, watcher))
    }

    /// Connects and does the opening handshake, with a worker's settings.
    pub(super) fn establish(
        &self,
        mut request: ClientRequest,
        config: &Config,
        cancel: &CancelToken,
    ) -> Result<Established, ConnectError> {
        let deadline = deadline_after(Instant::now(), self.timeout);
        if let Some(offer) = config.deflate.offer() {
            request = request.extensions(&offer);
        }
        let connector = Connector { builder: self, handshake_timeout: config.handshake_timeout, deadline, cancel };
        let mut established = connector.open(request)?;
        let agreement = config.deflate.confirm(&established.agreed);
        established.agreement =
            agreement.map_err(|source| ConnectError::Handshake { url: established.url.clone(), source })?;
        Ok(established)
    }
}

impl Connector<'_> {
    /// Connects, following as many redirects as are allowed.
    pub(super) fn open(&self, mut request: ClientRequest) -> Result<Established, ConnectError> {
        for _ in 0..=self.builder.max_redirects {
            match self.open_once(&request) {
                Err(ConnectError::Handshake { source: HandshakeError::Redirect { status, location }, .. })
                    if self.builder.max_redirects > 0 =>
                {
                    let to = redirect(request.url(), status, &location)?;
                    request = request.redirected(to);
                }
                other => return other,
            }
        }
        Err(ConnectError::TooManyRedirects)
    }

    fn open_once(&self, request: &ClientRequest) -> Result<Established, ConnectError> {
        let url = request.url();
        let tls = if url.is_secure() { Some(self.tls(url)?) } else { None };
        let Dialled { mut stream, name, peer_addr, local_addr, mut received } = match url.socket_path() {
            Some(path) => self.dial_unix(url, path)?,
            None => self.dial_tcp(url)?,
        };
        let at = Target { url, addr: &name };
        let unreachable = || ConnectError::io(format!("no connection to {name}"));
        let until = self.until(self.handshake_timeout);
        if let Some(session) = tls {
            stream = self.encrypted(stream, session, until, &received, &at)?;
        }
        let mut deadline_stream = DeadlineStream::new(&mut stream, until, self.cancel).map_err(unreachable())?;
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce)
            .map_err(|error| ConnectError::io("no random numbers")(io::Error::other(error.to_string())))?;
        let sent = request.encode(nonce)?;
        // Before it is sent, so that no connection is opened and dropped.
        let own_request = Request::of_client(&sent, peer_addr.clone())
            .map_err(|_| unreachable()(io::Error::other("the request can not be read back")))?;
        deadline_stream.write_all(&sent).map_err(|error| at.broken(error, Phase::Handshake))?;
        let agreed = read_response(&mut deadline_stream, request, nonce, &mut received, &at)?;
        drop(deadline_stream);
        Ok(Established {
            stream,
            addr: peer_addr,
            local_addr,
            url: url.to_string(),
            request: own_request,
            leftover: received,
            agreed,
            agreement: NegotiatedExtension::default(),
        })
    }

    /// The session for a connection to the URL's host.
    #[cfg(feature = "rustls-tls")]
    fn tls(&self, url: &Url) -> Result<Session, ConnectError> {
        let tls = match &self.builder.tls {
            Some(tls) => Ok(tls.clone()),
            None => ClientTls::with_default_roots(),
        };
        tls.and_then(|tls| tls.session(url.host())).map_err(|source| no_tls(url, source))
    }

    #[cfg(not(feature = "rustls-tls"))]
    fn tls(&self, url: &Url) -> Result<std::convert::Infallible, ConnectError> {
        Err(no_tls(url, TlsError::Unavailable))
    }

    /// Does the handshake of TLS. Bytes that came with the proxy's answer belong to it.
    #[cfg(feature = "rustls-tls")]
    fn encrypted(
        &self,
        stream: Stream,
        session: Session,
        until: Instant,
        received: &[u8],
        at: &Target<'_>,
    ) -> Result<Stream, ConnectError> {
        if !received.is_empty() {
            // A server speaks only after the client has, so that these are no TLS.
            return Err(no_tls(at.url, TlsError::NotTls));
        }
        let mut stream = Stream::Tls(Box::new(TlsStream::new(stream, session)));
        let done = DeadlineStream::new(&mut stream, until, self.cancel).and_then(|mut stream| stream.handshake());
        match done {
            Ok(()) => Ok(stream),
            Err(error) => Err(at.broken(error, Phase::Tls)),
        }
    }

    #[cfg(not(feature = "rustls-tls"))]
    fn encrypted(
        &self,
        _: Stream,
        session: std::convert::Infallible,
        _: Instant,
        _: &[u8],
        _: &Target<'_>,
    ) -> Result<Stream, ConnectError> {
        match session {}
    }

    /// Connects to the host of a URL by TCP, or through a proxy.
    fn dial_tcp(&self, url: &Url) -> Result<Dialled, ConnectError> {
        let proxy = self.proxy(url)?;
        let (host, zone, port) = match &proxy {
            Some(proxy) => (proxy.host(), proxy.zone(), proxy.port()),
            None => (url.host(), url.zone(), url.port()),
        };
        let name = format!("{host}:{port}");
        let at = Target { url, addr: &name };
        let resolved = resolve(host, zone, port, self.until(self.builder.resolve_timeout), self.cancel);
        let addrs = resolved.map_err(|source| {
            let host = host.to_owned();
            at.timeout_or(source, Phase::Resolve, |source| ConnectError::Resolve { host, source })
        })?;
        let connected = dial::connect(&addrs, self.until(self.builder.connect_timeout), self.cancel);
        let unreachable = || ConnectError::io(format!("no connection to {name}"));
        let stream = connected.map_err(|error| at.timeout_or(error, Phase::Connect, unreachable()))?;
        stream.set_nodelay(true).map_err(unreachable())?;
        let peer_addr = stream.peer_addr().map_err(unreachable())?;
        let local_addr = stream.local_addr().map_err(unreachable())?;
        let mut stream = self.builder.hooks.call_tcp(stream).map_err(ConnectError::Hook)?;
        if local_addr == peer_addr {
            // TCP's simultaneous open (RFC 9293 3.5): on the local host, a connection to a closed port may connect the
            // socket to itself.
            let nobody = io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens there");
            return Err(unreachable()(nobody));
        }
        let mut received = Vec::new();
        if let Some(proxy) = &proxy {
            let tunnel = Tunnel::new(proxy, url).map_err(|source| at.proxy(source))?;
            let until = self.until(self.builder.proxy_timeout);
            let mut deadline_stream = DeadlineStream::new(&mut stream, until, self.cancel).map_err(unreachable())?;
            open_tunnel(&mut deadline_stream, tunnel, &mut received, &at)?;
        }
        Ok(Dialled { stream, name, peer_addr: peer_addr.into(), local_addr: local_addr.into(), received })
    }

    /// Connects to a Unix socket. There is no proxy to it.
    #[cfg(unix)]
    fn dial_unix(&self, url: &Url, path: &Path) -> Result<Dialled, ConnectError> {
        let name = format!("unix:{}", path.display());
        let unreachable = || ConnectError::io(format!("no connection to {name}"));
        let addr = unix::socket_addr(path).map_err(unreachable())?;
        let connected = dial::connect_unix(&addr, self.until(self.builder.connect_timeout), self.cancel);
        let at = Target { url, addr: &name };
        let stream = connected.map_err(|error| at.timeout_or(error, Phase::Connect, unreachable()))?;
        let local_addr = stream.local_addr().map_err(unreachable())?;
        let stream = self.builder.hooks.call_unix(stream).map_err(ConnectError::Hook)?;
        let (peer_addr, local_addr) = (PeerAddr::Unix(Some(path.to_owned())), unix::peer_addr(&local_addr));
        Ok(Dialled { stream, name, peer_addr, local_addr, received: Vec::new() })
    }

    #[cfg(not(unix))]
    fn dial_unix(&self, _: &Url, path: &Path) -> Result<Dialled, ConnectError> {
        let unsupported = io::Error::new(io::ErrorKind::Unsupported, "this system has no Unix sockets");
        Err(ConnectError::io(format!("no connection to unix:{}", path.display()))(unsupported))
    }

    fn until(&self, timeout: Duration) -> Instant {
        deadline_after(Instant::now(), timeout).min(self.deadline)
    }

    fn proxy(&self, url: &Url) -> Result<Option<Proxy>, ConnectError> {
        match &self.builder.proxy {
            ProxyChoice::None => Ok(None),
            ProxyChoice::Explicit(proxy) => Ok(Some(Proxy::parse(proxy)?)),
            ProxyChoice::Environment => Ok(proxy::from_environment(url, |name| std::env::var(name).ok())?),
        }
    }
}

/// A stream to the server, before the opening handshake.
struct Dialled {
    stream: Stream,
    /// `host:port` of the server or of the proxy, or `unix:PATH`, for errors.
    name: String,
    peer_addr: PeerAddr,
    local_addr: PeerAddr,
    /// The bytes that came from the server already.
    received: Vec<u8>,
}

fn no_tls(url: &Url, source: TlsError) -> ConnectError {
    ConnectError::Tls { addr: format!("{}:{}", url.host(), url.port()), source }
}

/// Opens a tunnel through a proxy. Bytes after the proxy's answer come from the server and stay in `received`.
fn open_tunnel(
    stream: &mut DeadlineStream<'_>,
    mut tunnel: Tunnel,
    received: &mut Vec<u8>,
    at: &Target<'_>,
) -> Result<(), ConnectError> {
    loop {
        match tunnel.advance(received).map_err(|source| at.proxy(source))? {
            Step::Receive => {
                if read_more(stream, received, Phase::Proxy, at)? == 0 {
                    return Err(at.proxy(tunnel.end(received)));
                }
            }
            Step::Send { consumed, bytes } => {
                received.drain(..consumed);
                stream.write_all(&bytes).map_err(|error| at.broken(error, Phase::Proxy))?;
            }
            Step::Open { consumed } => {
                received.drain(..consumed);
                return Ok(());
            }
        }
    }
}

/// Reads and checks the server's response. The bytes after it stay in `received`.
fn read_response(
    stream: &mut DeadlineStream<'_>,
    request: &ClientRequest,
    nonce: [u8; 16],
    received: &mut Vec<u8>,
    at: &Target<'_>,
) -> Result<Agreed, ConnectError> {
    let mut reader = ResponseReader::new(HeadLimits::default());
    let (response, size) = loop {
        if let Some(found) = reader.read(received).map_err(|error| at.handshake(error.into()))? {
            break found;
        }
        if read_more(stream, received, Phase::Handshake, at)? == 0 {
            return Err(at.handshake(reader.end(received).into()));
        }
    };
    received.drain(..size);
    match verify(response, request, nonce) {
        Ok(agreed) => Ok(agreed),
        Err(error @ HandshakeError::Refused(_)) => {
            // The beginning of the body often says why. If it does not arrive, the status is returned without it.
            while error.awaits_body(received)
                && read_more(stream, received, Phase::Handshake, at).is_ok_and(|size| size > 0)
            {}
            Err(at.handshake(error.with_body(received)))
        }
        Err(error) => Err(at.handshake(error)),
    }
}

/// Reads once. Returns 0 at the end of the stream.
fn read_more(
    stream: &mut DeadlineStream<'_>,
    received: &mut Vec<u8>,
    phase: Phase,
    at: &Target<'_>,
) -> Result<usize, ConnectError> {
    let mut chunk = [0; CHUNK];
    let size = stream.read(&mut chunk).map_err(|error| at.broken(error, phase))?;
    received.extend_from_slice(&chunk[..size]);
    Ok(size)
}

/// The target of a connection, for the errors that name it.
struct Target<'a> {
    url: &'a Url,
    /// `host:port` of the server, or of the proxy.
    addr: &'a str,
}

impl Target<'_> {
    fn handshake(&self, source: HandshakeError) -> ConnectError {
        ConnectError::Handshake { url: self.url.to_string(), source }
    }

    fn proxy(&self, source: ProxyError) -> ConnectError {
        ConnectError::Proxy { addr: self.addr.to_owned(), source }
    }

    /// The error of a connection that failed, or whose phase took too long. With TLS 1.3 a server that refuses the client's
    /// certificate says so only after the client's handshake of TLS is complete.
    fn broken(&self, error: io::Error, phase: Phase) -> ConnectError {
        if let Some(source) = error.get_ref().and_then(|source| source.downcast_ref::<TlsError>()) {
            return no_tls(self.url, source.clone());
        }
        self.timeout_or(error, phase, ConnectError::io(format!("the connection to {} broke", self.addr)))
    }

    fn timeout_or(
        &self,
        error: io::Error,
        phase: Phase,
        other: impl FnOnce(io::Error) -> ConnectError,
    ) -> ConnectError {
        if error.kind() == io::ErrorKind::TimedOut {
            ConnectError::Timeout { phase, addr: self.addr.to_owned() }
        } else {
            other(error)
        }
    }
}
