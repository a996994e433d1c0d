//! Errors, by operation.

use std::{fmt, io};

pub use crossbeam_channel::{RecvError, RecvTimeoutError, TryRecvError};

use crate::config::ConfigError;

/// The server could not be built.
///
/// ```
/// use threadbare::{BuildError, Server};
///
/// let first = Server::bind("127.0.0.1:0")?;
/// match Server::bind(first.local_addr()) {
///     Err(BuildError::Io { operation, source }) => println!("{operation}: {source}"), // the port is in use
///     Err(error) => println!("{error}"),
///     Ok(_) => unreachable!("the first server has the port"),
/// }
/// # Ok::<(), BuildError>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// A setting is invalid.
    Config(ConfigError),
    /// An address could not be resolved or bound, or the system provides no further thread or poll.
    Io {
        /// What failed, with the address if there is one.
        operation: String,
        /// The system's error.
        source: io::Error,
    },
}

impl BuildError {
    pub(crate) fn io(operation: impl Into<String>) -> impl FnOnce(io::Error) -> BuildError {
        move |source| BuildError::Io { operation: operation.into(), source }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Config(_) => f.write_str("a setting could not work"),
            BuildError::Io { operation, .. } => f.write_str(operation),
        }
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BuildError::Config(error) => Some(error),
            BuildError::Io { source, .. } => Some(source),
        }
    }
}

impl From<ConfigError> for BuildError {
    fn from(error: ConfigError) -> BuildError {
        BuildError::Config(error)
    }
}

/// [`Peer::send`](crate::Peer::send) failed. The error holds the message.
///
/// ```
/// use threadbare::{Message, Peer, SendError};
///
/// fn send_or_keep(peer: &Peer, message: Message, kept: &mut Vec<Message>) {
///     match peer.send(message) {
///         Err(SendError::Full(message)) => kept.push(message),
///         Err(error) => println!("{} is not told: {error}", peer.id()),
///         Ok(()) => {}
///     }
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError<T> {
    /// The connection is closed or closing.
    Disconnected(T),
    /// The connection's queue is full, and the [`SlowConsumer`](crate::SlowConsumer) policy or the calling thread does
    /// not allow to wait.
    Full(T),
    /// A ping or pong of more than 125 bytes, or a close frame that may not be sent.
    Invalid(T),
}

/// [`Peer::try_send`](crate::Peer::try_send) failed. The error holds the message.
///
/// ```
/// use threadbare::{Peer, TrySendError};
///
/// /// Whether the peer is still there; a picture that has no room is left out.
/// fn show(peer: &Peer, picture: Vec<u8>) -> bool {
///     match peer.try_send(picture) {
///         Ok(()) | Err(TrySendError::Full(_)) => true,
///         Err(_) => false,
///     }
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrySendError<T> {
    /// The connection's queue is above the high-water mark.
    Full(T),
    /// The connection is closed or closing.
    Disconnected(T),
    /// A ping or pong of more than 125 bytes, or a close frame that may not be sent.
    Invalid(T),
}

/// [`Peer::send_timeout`](crate::Peer::send_timeout) failed. The error holds the message.
///
/// ```
/// use std::time::Duration;
/// use threadbare::{CloseCode, Peer, SendTimeoutError};
///
/// fn send_or_close(peer: &Peer, text: &str) {
///     if let Err(SendTimeoutError::Timeout(_)) = peer.send_timeout(text, Duration::from_secs(2)) {
///         let _ = peer.close(CloseCode::POLICY_VIOLATION, "too slow"); // it may be closed already
///     }
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendTimeoutError<T> {
    /// The connection's queue was above the high-water mark until the deadline.
    Timeout(T),
    /// The connection is closed or closing.
    Disconnected(T),
    /// A ping or pong of more than 125 bytes, or a close frame that may not be sent.
    Invalid(T),
}

/// Why a message was not sent. Each sending method converts it into an error of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SendRefusal {
    Full,
    Disconnected,
    Invalid,
}

impl From<ControlError> for SendRefusal {
    fn from(error: ControlError) -> SendRefusal {
        match error {
            ControlError::Disconnected => SendRefusal::Disconnected,
            ControlError::TooLong { .. } | ControlError::InvalidClose(_) => SendRefusal::Invalid,
        }
    }
}

impl<T> From<(T, SendRefusal)> for SendError<T> {
    fn from((message, refusal): (T, SendRefusal)) -> SendError<T> {
        match refusal {
            SendRefusal::Full => SendError::Full(message),
            SendRefusal::Disconnected => SendError::Disconnected(message),
            SendRefusal::Invalid => SendError::Invalid(message),
        }
    }
}

impl<T> From<(T, SendRefusal)> for TrySendError<T> {
    fn from((message, refusal): (T, SendRefusal)) -> TrySendError<T> {
        match refusal {
            SendRefusal::Full => TrySendError::Full(message),
            SendRefusal::Disconnected => TrySendError::Disconnected(message),
            SendRefusal::Invalid => TrySendError::Invalid(message),
        }
    }
}

impl<T> From<(T, SendRefusal)> for SendTimeoutError<T> {
    fn from((message, refusal): (T, SendRefusal)) -> SendTimeoutError<T> {
        match refusal {
            SendRefusal::Full => SendTimeoutError::Timeout(message),
            SendRefusal::Disconnected => SendTimeoutError::Disconnected(message),
            SendRefusal::Invalid => SendTimeoutError::Invalid(message),
        }
    }
}

const DISCONNECTED: &str = "the connection is closed or closing";
const FULL: &str = "the connection's output is above max_write_buffer_size: its peer reads too slowly";
const INVALID: &str = "not sent: a ping or pong holds at most 125 bytes, and a close frame a sendable code";

macro_rules! send_error {
    ($name:ident, $($variant:ident => $text:expr),*) => {
        impl<T> $name<T> {
            /// The message that was not sent.
            ///
            /// ```
            #[doc = concat!("use threadbare::", stringify!($name), ";\n")]
            #[doc = concat!("let error = ", stringify!($name), "::Disconnected(\"hello\");")]
            /// assert_eq!(error.into_inner(), "hello");
            /// ```
            pub fn into_inner(self) -> T {
                match self {
                    $($name::$variant(message) => message,)*
                }
            }
        }

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $($name::$variant(_) => f.write_str(concat!(stringify!($variant), "(..)")),)*
                }
            }
        }

        impl<T> fmt::Display for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $($name::$variant(_) => f.write_str($text),)*
                }
            }
        }

        impl<T> std::error::Error for $name<T> {}
    };
}

send_error!(SendError, Disconnected => DISCONNECTED, Full => FULL, Invalid => INVALID);
send_error!(TrySendError, Disconnected => DISCONNECTED, Full => FULL, Invalid => INVALID);
send_error!(SendTimeoutError, Disconnected => DISCONNECTED, Timeout => FULL, Invalid => INVALID);

/// A control frame was refused. Nothing was sent.
///
/// ```
/// use threadbare::{CloseCode, ControlError, Peer};
///
/// fn ping(peer: &Peer) {
///     assert_eq!(peer.ping(&[0; 126]), Err(ControlError::TooLong { size: 126 }));
///     assert!(matches!(peer.close(CloseCode(1005), ""), Err(ControlError::InvalidClose(_))));
///     if peer.ping(b"") == Err(ControlError::Disconnected) {
///         println!("{} has left", peer.id());
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlError {
    /// The connection is closed or closing.
    Disconnected,
    /// RFC 6455 5.5 lets a ping or pong carry at most 125 bytes.
    TooLong {
        /// The payload's size in bytes.
        size: usize,
    },
    /// A close code or reason that may not be sent.
    InvalidClose(crate::protocol::close::InvalidClose),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlError::Disconnected => f.write_str(DISCONNECTED),
            ControlError::TooLong { size } => {
                write!(f, "a control frame of {size} bytes is over the limit of 125: send less, or a message")
            }
            ControlError::InvalidClose(_) => f.write_str("this close frame may not be sent"),
        }
    }
}

impl std::error::Error for ControlError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ControlError::InvalidClose(error) => Some(error),
            ControlError::Disconnected | ControlError::TooLong { .. } => None,
        }
    }
}

/// The name of a topic has no byte, or more than 255.
///
/// ```
/// let server = threadbare::Server::bind("127.0.0.1:0")?;
/// let error = server.handle().topic("").unwrap_err();
/// assert_eq!(error.to_string(), "a name of 0 bytes: the name of a topic has 1 to 255");
/// # Ok::<(), threadbare::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidTopicName {
    /// The size of the name in bytes.
    pub size: usize,
}

impl fmt::Display for InvalidTopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a name of {} bytes: the name of a topic has 1 to 255", self.size)
    }
}

impl std::error::Error for InvalidTopicName {}

/// [`Peer::subscribe`](crate::Peer::subscribe) failed.
///
/// ```
/// use threadbare::{Peer, SubscribeError};
///
/// fn join(peer: &Peer, room: &str) {
///     match peer.subscribe(room) {
///         Err(SubscribeError::InvalidName(error)) => drop(peer.send(error.to_string())), // it may be gone
///         Err(error) => println!("{} is not subscribed: {error}", peer.id()),
///         Ok(_) => {}
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The connection is closed or closing.
    Disconnected,
    /// The name of the topic is empty or too long.
    InvalidName(InvalidTopicName),
    /// The connection is a client's: only a server has topics.
    NoServer,
    /// There is no such topic, and the server has as many as it may have ([`Config::max_topics`](crate::Config::max_topics)).
    TooManyTopics,
    /// The connection has as many subscriptions as it may have
    /// ([`Config::max_subscriptions`](crate::Config::max_subscriptions)).
    TooManySubscriptions,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubscribeError::Disconnected => f.write_str(DISCONNECTED),
            SubscribeError::InvalidName(error) => error.fmt(f),
            SubscribeError::NoServer => f.write_str("the connection is a client's: only a server has topics"),
            SubscribeError::TooManyTopics => f.write_str("the server has as many topics as it may have"),
            SubscribeError::TooManySubscriptions => {
                f.write_str("the connection has as many subscriptions as it may have")
            }
        }
    }
}

impl std::error::Error for SubscribeError {}

impl From<InvalidTopicName> for SubscribeError {
    fn from(error: InvalidTopicName) -> SubscribeError {
        SubscribeError::InvalidName(error)
    }
}

/// Displays an error and its causes on one line, as `error: cause: cause of that`.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut error = self.0;
        while let Some(source) = error.source() {
            write!(f, ": {source}")?;
            error = source;
        }
        Ok(())
    }
}
