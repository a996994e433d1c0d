//! Errors of making and starting a bridge.

use std::{fmt, io};

/// A bridge could not be made or started. That the engine can not be reached is no such error: a bridge goes on trying.
///
/// ```
/// use threadbare::BridgeError;
///
/// /// Checks a setting of a bridge of one's own.
/// fn check(shards: usize) -> Result<usize, BridgeError> {
///     match shards {
///         0 => Err(BridgeError::Setting { setting: "shards", problem: "0, but must be at least 1".to_owned() }),
///         shards => Ok(shards),
///     }
/// }
///
/// let error = check(0).expect_err("there must be one");
/// assert_eq!(error.to_string(), "shards could not work: 0, but must be at least 1");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum BridgeError {
    /// The URL of the engine is wrong.
    Url {
        /// The URL, without its password.
        url: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// The URL asks for TLS, and the library was built without it.
    NoTls {
        /// The URL, without its password.
        url: String,
    },
    /// A setting could not work.
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// The bridge was started before. Each serves one node, once.
    AlreadyStarted,
    /// The system provides no further thread, poll or random number.
    Io {
        /// What failed.
        operation: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl fmt::Display for BridgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BridgeError::Url { url, problem } => write!(f, "the URL {url} does not work: {problem}"),
            BridgeError::NoTls { url } => write!(
                f,
                "the URL {url} asks for TLS, which this build lacks: use the feature rustls-tls-native-roots, or \
                 redis:// to a stunnel on this machine"
            ),
            BridgeError::Setting { setting, problem } => write!(f, "{setting} could not work: {problem}"),
            BridgeError::AlreadyStarted => f.write_str("the bridge was started before, and serves one node once"),
            BridgeError::Io { operation, .. } => write!(f, "no {operation}"),
        }
    }
}

impl std::error::Error for BridgeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BridgeError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
