//! Close codes (RFC 6455 7.4).

use std::fmt;

/// A status code of the closing handshake: any `u16`, with the names of the IANA registry as constants.
///
/// ```
/// use threadbare::CloseCode;
///
/// assert_eq!(CloseCode::GOING_AWAY.0, 1001);
/// assert!(CloseCode(4000).is_sendable());
/// assert!(!CloseCode::ABNORMAL_CLOSURE.is_sendable());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(pub u16);

macro_rules! close_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal),* $(,)?) => {
        impl CloseCode {
            $($(#[$doc])* pub const $name: CloseCode = CloseCode($code);)*

            fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

close_codes! {
    /// 1000: the purpose of the connection is fulfilled.
    NORMAL_CLOSURE = 1000,
    /// 1001: the server goes down, or the browser leaves the page.
    GOING_AWAY = 1001,
    /// 1002: the peer broke the protocol.
    PROTOCOL_ERROR = 1002,
    /// 1003: the endpoint received a type of data that it does not accept.
    UNSUPPORTED_DATA = 1003,
    /// 1005: the close frame had no status code. Never sent in a frame.
    NO_STATUS_RECEIVED = 1005,
    /// 1006: the connection ended without a close frame. Never sent in a frame.
    ABNORMAL_CLOSURE = 1006,
    /// 1007: the data of a message was not consistent with its type, such as text that is not UTF-8.
    INVALID_FRAME_PAYLOAD_DATA = 1007,
    /// 1008: a message violated the endpoint's policy.
    POLICY_VIOLATION = 1008,
    /// 1009: a message was too big to process.
    MESSAGE_TOO_BIG = 1009,
    /// 1010: the client expected an extension that the server did not negotiate.
    MANDATORY_EXTENSION = 1010,
    /// 1011: the server encountered an unexpected condition.
    INTERNAL_ERROR = 1011,
    /// 1012: the service restarts.
    SERVICE_RESTART = 1012,
    /// 1013: the client should try again later.
    TRY_AGAIN_LATER = 1013,
    /// 1014: a gateway received an invalid response from upstream.
    BAD_GATEWAY = 1014,
    /// 1015: the TLS handshake failed. Never sent in a frame.
    TLS_HANDSHAKE = 1015,
}

impl CloseCode {
    /// Returns whether the code may be sent in a close frame: 1000 to 1003, 1007 to 1014 and 3000 to 4999 (RFC 6455 7.4
    /// and the IANA registry).
    ///
    /// ```
    /// use threadbare::CloseCode;
    ///
    /// assert!(CloseCode::NORMAL_CLOSURE.is_sendable());
    /// assert!(CloseCode(4999).is_sendable());
    /// assert!(!CloseCode(1005).is_sendable());
    /// assert!(!CloseCode(5000).is_sendable());
    /// ```
    #[must_use]
    pub fn is_sendable(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl From<u16> for CloseCode {
    fn from(code: u16) -> CloseCode {
        CloseCode(code)
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> u16 {
        code.0
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name}({})", self.0),
            None => write!(f, "CloseCode({})", self.0),
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
