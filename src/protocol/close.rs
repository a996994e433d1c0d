//! Close frames, and why a connection ended (RFC 6455 7).

use std::fmt;

pub use crate::protocol::close_code::CloseCode;
use crate::protocol::error::ProtocolError;
use crate::protocol::escaped::Escaped;
use crate::protocol::opcode::MAX_CONTROL_PAYLOAD;

/// The body of a close frame: a status code, and a reason of at most 123 bytes.
///
/// ```
/// use threadbare::{CloseCode, CloseFrame, Message};
///
/// let goodbye = Message::Close(Some(CloseFrame::new(CloseCode(4000), "the game is over")?));
/// # Ok::<(), threadbare::InvalidClose>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CloseFrame {
    /// The status code, which says why the connection is closed.
    pub code: CloseCode,
    /// The reason in words, for debugging. RFC 6455 5.5.1: "clients MUST NOT show it to end users".
    pub reason: String,
}

/// The size of the longest reason in bytes: the payload of a control frame without the status code.
///
/// ```
/// use threadbare::protocol::close::MAX_REASON_SIZE;
/// use threadbare::{CloseCode, CloseFrame};
///
/// assert!(CloseFrame::new(CloseCode::NORMAL_CLOSURE, "x".repeat(MAX_REASON_SIZE)).is_ok());
/// assert!(CloseFrame::new(CloseCode::NORMAL_CLOSURE, "x".repeat(MAX_REASON_SIZE + 1)).is_err());
/// ```
pub const MAX_REASON_SIZE: usize = MAX_CONTROL_PAYLOAD - 2;

impl CloseFrame {
    /// Creates a close frame that may be sent.
    ///
    /// ```
    /// use threadbare::{CloseCode, CloseFrame, InvalidClose};
    ///
    /// let frame = CloseFrame::new(CloseCode::NORMAL_CLOSURE, "done")?;
    /// assert_eq!((frame.code.0, frame.reason.as_str()), (1000, "done"));
    /// assert_eq!(CloseFrame::new(CloseCode(1005), ""), Err(InvalidClose::Code(CloseCode(1005))));
    /// # Ok::<(), InvalidClose>(())
    /// ```
    ///
    /// # Errors
    /// The code must not be sent in a frame, or the reason has more than 123 bytes.
    pub fn new(code: CloseCode, reason: impl Into<String>) -> Result<CloseFrame, InvalidClose> {
        let reason = reason.into();
        // RFC 6455 7.4.1: 1005, 1006 and 1015 "MUST NOT be set as a status code in a Close control frame".
        if !code.is_sendable() {
            return Err(InvalidClose::Code(code));
        }
        if reason.len() > MAX_REASON_SIZE {
            return Err(InvalidClose::Reason { size: reason.len() });
        }
        Ok(CloseFrame { code, reason })
    }

    /// Creates a close frame for a failure and cuts the description to 123 bytes. The code must be one that may be
    /// sent.
    #[must_use]
    pub(crate) fn describing(code: CloseCode, what: &str) -> CloseFrame {
        let mut reason = what.to_owned();
        while reason.len() > MAX_REASON_SIZE {
            reason.pop();
        }
        CloseFrame { code, reason }
    }

    /// Creates the close frame of an endpoint that goes away: 1001.
    pub(crate) fn going_away() -> CloseFrame {
        CloseFrame { code: CloseCode::GOING_AWAY, reason: String::new() }
    }

    /// Creates the answer to a close frame. RFC 6455 5.5.1: it "typically echos the status code it received".
    #[must_use]
    pub(crate) fn answer_to(received: Option<&CloseFrame>) -> Option<CloseFrame> {
        received.map(|frame| CloseFrame { code: frame.code, reason: String::new() })
    }

    /// Parses the payload of a received close frame; `None` if it is empty.
    ///
    /// ```
    /// use threadbare::{CloseCode, CloseFrame, ProtocolError};
    ///
    /// let frame = CloseFrame::parse(b"\x03\xe8bye")?.expect("it has a code");
    /// assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::NORMAL_CLOSURE, "bye"));
    /// assert_eq!(CloseFrame::parse(b"")?, None);
    /// assert_eq!(CloseFrame::parse(b"\x03"), Err(ProtocolError::CloseWithoutCode));
    /// # Ok::<(), ProtocolError>(())
    /// ```
    ///
    /// # Errors
    /// The payload has one byte, the code must not be sent in a frame, or the reason is not UTF-8.
    pub fn parse(payload: &[u8]) -> Result<Option<CloseFrame>, ProtocolError> {
        let Some((&code, reason)) = payload.split_first_chunk() else {
            // RFC 6455 5.5.1: "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned integer".
            return if payload.is_empty() { Ok(None) } else { Err(ProtocolError::CloseWithoutCode) };
        };
        let code = CloseCode(u16::from_be_bytes(code));
        // RFC 6455 7.4.2: 0 to 999 are not used; 1004 to 1006 and 1015 are reserved; the rest up to 2999 is unassigned.
        if !code.is_sendable() {
            return Err(ProtocolError::InvalidCloseCode(code));
        }
        // RFC 6455 5.5.1: the reason is "UTF-8-encoded data"; 8.1: other bytes fail the connection.
        let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::InvalidUtf8)?;
        Ok(Some(CloseFrame { code, reason: reason.to_owned() }))
    }

    /// Appends the payload of the close frame to `out`.
    ///
    /// ```
    /// use threadbare::{CloseCode, CloseFrame};
    ///
    /// let mut payload = Vec::new();
    /// CloseFrame::new(CloseCode::NORMAL_CLOSURE, "bye")?.encode(&mut payload);
    /// assert_eq!(payload, b"\x03\xe8bye");
    /// # Ok::<(), threadbare::InvalidClose>(())
    /// ```
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.code.0.to_be_bytes());
        out.extend_from_slice(self.reason.as_bytes());
    }
}

/// A close frame may not be sent. Nothing was sent.
///
/// ```
/// use threadbare::{CloseCode, CloseFrame, InvalidClose};
///
/// let error = CloseFrame::new(CloseCode::NORMAL_CLOSURE, "x".repeat(124)).expect_err("it is too long");
/// assert!(matches!(error, InvalidClose::Reason { .. }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidClose {
    /// RFC 6455 7.4 does not allow this code in a close frame.
    Code(CloseCode),
    /// The reason is longer than 123 bytes.
    Reason {
        /// The size of the reason in bytes.
        size: usize,
    },
}

impl fmt::Display for InvalidClose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidClose::Code(code) => {
                write!(f, "close code {code} may not be sent: use 1000 to 1003, 1007 to 1014 or 3000 to 4999")
            }
            InvalidClose::Reason { size } => {
                write!(f, "a close reason of {size} bytes is over the limit of {MAX_REASON_SIZE}: shorten it")
            }
        }
    }
}

impl std::error::Error for InvalidClose {}

/// How a connection ended.
///
/// ```
/// use threadbare::{CloseCause, CloseReason};
///
/// fn is_fault_of_network(reason: &CloseReason) -> bool {
///     matches!(reason.cause, CloseCause::Lost | CloseCause::TimedOut)
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseCause {
    /// The peer started the closing handshake.
    Peer,
    /// This endpoint started the closing handshake and the peer answered it.
    Local,
    /// The peer violated the protocol or exceeded a limit. The code says which, and was sent to the peer.
    Failed,
    /// A callback panicked. The peer was sent 1011.
    Panicked,
    /// The TCP connection ended, or was reset, without a closing handshake.
    Lost,
    /// The peer sent nothing for longer than the ping interval and its grace, or did not answer a close frame in time.
    TimedOut,
    /// This endpoint dropped the connection with `abort`.
    Aborted,
}

/// Why a connection ended: the code and the reason that were received or, if none were received, those of RFC 6455
/// 7.1.5 and 7.1.6.
///
/// ```
/// use threadbare::{CloseCode, CloseReason};
///
/// fn log(reason: &CloseReason) {
///     match reason.code {
///         CloseCode::NORMAL_CLOSURE | CloseCode::GOING_AWAY => println!("left"),
///         code => println!("ended with {code}: {} ({:?})", reason.reason, reason.cause),
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CloseReason {
    /// The status code: 1005 if the peer's close frame had none, 1006 if no close frame was received.
    pub code: CloseCode,
    /// The reason in the peer's close frame, or a description of what went wrong.
    pub reason: String,
    /// Who ended the connection, and how.
    pub cause: CloseCause,
}

impl CloseReason {
    /// Creates a close reason from its parts.
    ///
    /// ```
    /// use threadbare::{CloseCause, CloseCode, CloseReason};
    ///
    /// let reason = CloseReason::new(CloseCode::GOING_AWAY, "restart", CloseCause::Peer);
    /// assert_eq!(reason.code.0, 1001);
    /// ```
    #[must_use]
    pub fn new(code: CloseCode, reason: impl Into<String>, cause: CloseCause) -> CloseReason {
        CloseReason { code, reason: reason.into(), cause }
    }

    /// Creates the close reason for a close frame of the peer.
    ///
    /// ```
    /// use threadbare::{CloseCause, CloseCode, CloseFrame, CloseReason};
    ///
    /// let frame = CloseFrame::parse(b"\x03\xe8bye")?;
    /// assert_eq!(CloseReason::from_frame(frame, CloseCause::Peer).code, CloseCode::NORMAL_CLOSURE);
    /// assert_eq!(CloseReason::from_frame(None, CloseCause::Peer).code.0, 1005); // it had no code
    /// # Ok::<(), threadbare::ProtocolError>(())
    /// ```
    #[must_use]
    pub fn from_frame(frame: Option<CloseFrame>, cause: CloseCause) -> CloseReason {
        match frame {
            Some(frame) => CloseReason::new(frame.code, frame.reason, cause),
            // RFC 6455 7.1.5: "If this Close control frame contains no status code, _The WebSocket Connection Close
            // Code_ is considered to be 1005".
            None => CloseReason::new(CloseCode::NO_STATUS_RECEIVED, "", cause),
        }
    }

    /// Creates the close reason of a connection that ended without a close frame: 1006.
    ///
    /// ```
    /// use threadbare::{CloseCause, CloseCode, CloseReason};
    ///
    /// let reason = CloseReason::abnormal("the connection was reset", CloseCause::Lost);
    /// assert_eq!(reason.code, CloseCode::ABNORMAL_CLOSURE);
    /// assert!(!reason.is_clean());
    /// ```
    #[must_use]
    pub fn abnormal(reason: impl Into<String>, cause: CloseCause) -> CloseReason {
        CloseReason::new(CloseCode::ABNORMAL_CLOSURE, reason, cause)
    }

    /// Returns whether the closing handshake was completed (RFC 6455 7.1.4, "closed _cleanly_").
    ///
    /// ```
    /// use threadbare::{CloseCause, CloseCode, CloseReason};
    ///
    /// assert!(CloseReason::new(CloseCode::NORMAL_CLOSURE, "", CloseCause::Peer).is_clean());
    /// assert!(!CloseReason::abnormal("the connection was reset", CloseCause::Lost).is_clean());
    /// ```
    #[must_use]
    pub fn is_clean(&self) -> bool {
        matches!(self.cause, CloseCause::Peer | CloseCause::Local)
    }
}

/// A receive call returns the close reason as its error when no more messages can arrive, after a clean close too.
impl std::error::Error for CloseReason {}

/// Control characters of the reason, which may be the peer's, are escaped.
impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.code.fmt(f)?;
        if !self.reason.is_empty() {
            write!(f, " ({})", Escaped(&self.reason))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_08_close_codes_are_accepted_as_the_registry_says() {
        for code in 0..=u16::MAX {
            let legal = (1000..=1003).contains(&code) || (1007..=1014).contains(&code) || (3000..=4999).contains(&code);
            let parsed = CloseFrame::parse(&code.to_be_bytes());
            if legal {
                assert_eq!(parsed, Ok(Some(CloseFrame { code: CloseCode(code), reason: String::new() })));
            } else {
                assert_eq!(parsed, Err(ProtocolError::InvalidCloseCode(CloseCode(code))));
            }
            assert_eq!(CloseFrame::new(CloseCode(code), "").is_ok(), legal);
        }
        assert_eq!(CloseFrame::parse(b""), Ok(None));
        assert_eq!(CloseFrame::parse(b"\x03"), Err(ProtocolError::CloseWithoutCode));
    }

    #[test]
    fn p_09_a_close_reason_that_is_not_utf_8_is_refused() {
        assert_eq!(CloseFrame::parse(b"\x03\xe8\xc3"), Err(ProtocolError::InvalidUtf8));
        assert_eq!(CloseFrame::parse("\u{3}\u{0}".as_bytes()), Err(ProtocolError::InvalidCloseCode(CloseCode(768))));
    }

    #[test]
    fn p_17_a_close_reason_over_123_bytes_is_refused() {
        assert!(CloseFrame::new(CloseCode::NORMAL_CLOSURE, "x".repeat(123)).is_ok());
        let error = CloseFrame::new(CloseCode::NORMAL_CLOSURE, "x".repeat(124)).unwrap_err();
        assert_eq!(error.to_string(), "a close reason of 124 bytes is over the limit of 123: shorten it");
    }

    #[test]
    fn the_description_of_a_failure_is_cut_between_characters() {
        for (what, kept) in
            [("x".repeat(123), 123), ("x".repeat(124), 123), ("€".repeat(50), 123), ("é".repeat(90), 122)]
        {
            let frame = CloseFrame::describing(CloseCode::PROTOCOL_ERROR, &what);
            assert_eq!(frame.reason, what[..kept]);
            assert!(CloseFrame::new(frame.code, frame.reason).is_ok());
        }
        assert_eq!(CloseFrame::describing(CloseCode::PROTOCOL_ERROR, "why").reason, "why");
    }
}
