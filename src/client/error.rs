//! The errors of clients, in connecting and in receiving.

use std::{fmt, io};

use crate::config::ConfigError;
use crate::protocol::close::CloseReason;
use crate::protocol::handshake::client::proxy::ProxyError;
use crate::protocol::handshake::client::{HandshakeError, RedirectError, UrlError};
use crate::protocol::http::HeaderError;
use crate::transport::tls::error::TlsError;

/// A client could not connect.
///
/// ```
/// use threadbare::{Client, ConnectError};
///
/// assert!(matches!(Client::connect("ftp://example.com"), Err(ConnectError::Url(_))));
/// let Err(error) = Client::builder().subprotocols(["not a token"]).connect("ws://127.0.0.1:8080") else {
///     panic!("it was refused before the client connected")
/// };
/// assert!(matches!(error, ConnectError::Header(_)));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL, or that of the proxy, is invalid.
    Url(UrlError),
    /// A header, subprotocol or origin is invalid.
    Header(HeaderError),
    /// A setting is invalid.
    Config(ConfigError),
    /// TLS failed with a `wss://` server, or can not begin.
    Tls {
        /// `host:port` of the server.
        addr: String,
        /// Why.
        source: TlsError,
    },
    /// The host's address could not be found.
    Resolve {
        /// The host.
        host: String,
        /// The system's error.
        source: io::Error,
    },
    /// None of the host's addresses could be connected to, the connection broke during the handshake, or no thread
    /// could be started.
    Io {
        /// What failed, with the address if there is one. If a proxy is used, it is the address of the proxy.
        operation: String,
        /// The system's error.
        source: io::Error,
    },
    /// The [`socket_hook`](crate::ClientBuilder::socket_hook) returned an error.
    Hook(io::Error),
    /// A phase took longer than its timeout.
    Timeout {
        /// The phase.
        phase: Phase,
        /// `host:port` of the server, or of the proxy if one is used.
        addr: String,
    },
    /// The proxy did not open a tunnel.
    Proxy {
        /// `host:port` of the proxy.
        addr: String,
        /// Why not.
        source: ProxyError,
    },
    /// The server's response does not complete the opening handshake. A refusal has the status, the headers, and the
    /// beginning of the body.
    Handshake {
        /// The URL, without user and password.
        url: String,
        /// What is wrong with the response.
        source: HandshakeError,
    },
    /// A redirect can not be followed.
    Redirect(RedirectError),
    /// There were more redirects than allowed.
    TooManyRedirects,
}

/// A phase of connecting. Each has a timeout of its own.
///
/// ```
/// use threadbare::{ConnectError, Phase};
///
/// fn explain(error: &ConnectError) {
///     match error {
///         ConnectError::Timeout { phase: Phase::Resolve, .. } => println!("the name server does not answer"),
///         ConnectError::Timeout { phase, addr } => println!("{addr} does not answer: {phase}"),
///         error => println!("{error}"),
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Finding the host's addresses.
    Resolve,
    /// Connecting to one of them.
    Connect,
    /// Opening a tunnel through the proxy.
    Proxy,
    /// The handshake of TLS.
    Tls,
    /// The opening handshake.
    Handshake,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Resolve => "the look-up of the host",
            Phase::Connect => "the attempt to connect",
            Phase::Proxy => "the tunnel through the proxy",
            Phase::Tls => "the handshake of TLS",
            Phase::Handshake => "the opening handshake",
        })
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Url(_) => f.write_str("the URL is wrong"),
            ConnectError::Header(_) => f.write_str("the request can not be sent"),
            ConnectError::Config(_) => f.write_str("a setting could not work"),
            ConnectError::Tls { addr, .. } => write!(f, "no TLS with {addr}"),
            ConnectError::Resolve { host, .. } => write!(f, "no address for {host:?}"),
            ConnectError::Io { operation, .. } => f.write_str(operation),
            ConnectError::Hook(_) => f.write_str("the socket hook failed"),
            ConnectError::Timeout { phase, addr } => write!(f, "{phase} took too long ({addr})"),
            ConnectError::Proxy { addr, .. } => write!(f, "no tunnel through the proxy {addr}"),
            ConnectError::Handshake { url, .. } => write!(f, "the opening handshake with {url} failed"),
            ConnectError::Redirect(_) => f.write_str("a redirect is not followed"),
            ConnectError::TooManyRedirects => f.write_str("the server redirects more often than allowed"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConnectError::Url(source) => Some(source),
            ConnectError::Header(source) => Some(source),
            ConnectError::Config(source) => Some(source),
            ConnectError::Resolve { source, .. } | ConnectError::Io { source, .. } | ConnectError::Hook(source) => {
                Some(source)
            }
            ConnectError::Proxy { source, .. } => Some(source),
            ConnectError::Handshake { source, .. } => Some(source),
            ConnectError::Redirect(source) => Some(source),
            ConnectError::Tls { source, .. } => Some(source),
            ConnectError::Timeout { .. } | ConnectError::TooManyRedirects => None,
        }
    }
}

macro_rules! from {
    ($($source:ty => $variant:ident),*) => {
        $(impl From<$source> for ConnectError {
            fn from(error: $source) -> ConnectError {
                ConnectError::$variant(error)
            }
        })*
    };
}

from!(UrlError => Url, HeaderError => Header, ConfigError => Config, RedirectError => Redirect);

impl ConnectError {
    pub(super) fn io(operation: impl Into<String>) -> impl FnOnce(io::Error) -> ConnectError {
        move |source| ConnectError::Io { operation: operation.into(), source }
    }
}

/// Why a client's `recv`, or another of its receiving methods, returned no message. `E` says how the client ended: a
/// [`CloseReason`] for a [`Client`](crate::Client), [`Ended`](crate::Ended) for a
/// [`ReconnectingClient`](crate::ReconnectingClient).
///
/// A completed closing handshake is not an error: after it, `recv` returns `Ok(None)`.
///
/// ```
/// use std::time::Duration;
/// use threadbare::{Client, ClientError};
///
/// fn receive(client: &Client) {
///     match client.recv_timeout(Duration::from_secs(5)) {
///         Ok(Some(message)) => println!("{message}"),
///         Ok(None) => println!("closed"),
///         Err(ClientError::Failed(reason)) => println!("lost: {reason}"),
///         Err(error) => println!("no message: {error}"),
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError<E = CloseReason> {
    /// `try_recv` found no message.
    Empty,
    /// No message came before the deadline.
    Timeout,
    /// The connection ended without a completed closing handshake.
    Failed(E),
}

impl<E> fmt::Display for ClientError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ClientError::Empty => "no message has arrived",
            ClientError::Timeout => "no message arrived before the deadline",
            ClientError::Failed(_) => "the connection ended without a completed closing handshake",
        })
    }
}

impl<E: std::error::Error + 'static> std::error::Error for ClientError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ClientError::Failed(reason) => Some(reason),
            _ => None,
        }
    }
}
