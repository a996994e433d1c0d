//! Close frames, and why a connection ended (RFC 6455 7).

use std::fmt;

pub use crate::protocol::close_code::CloseCode;
use crate::protocol::error::ProtocolError;
use crate::protocol::opcode::MAX_CONTROL_PAYLOAD;

/// The body of a close frame: a code and, for people, a reason of at most 123 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CloseFrame {
    /// Why the connection is closed, for programs.
    pub code: CloseCode,
    /// Why the connection is closed, for people; not meant to be shown to users (RFC 6455 7.1.6).
    pub reason: String,
}

/// The longest reason: a control frame's payload less the code.
pub const MAX_REASON_SIZE: usize = MAX_CONTROL_PAYLOAD - 2;

impl CloseFrame {
    /// A close frame that may be sent.
    ///
    /// # Errors
    /// A code that must not stand in a frame, or a reason of more than 123 bytes.
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

    /// A close frame for a failure, whose description is cut to what fits; to be used with codes that may be sent.
    #[must_use]
    pub(crate) fn describing(code: CloseCode, what: &str) -> CloseFrame {
        let mut reason = what.to_owned();
        while reason.len() > MAX_REASON_SIZE {
            reason.pop();
        }
        CloseFrame { code, reason }
    }

    /// The close frame of an endpoint that goes away: 1001.
    pub(crate) fn going_away() -> CloseFrame {
        CloseFrame { code: CloseCode::GOING_AWAY, reason: String::new() }
    }

    /// The answer to a close frame. RFC 6455 5.5.1: it "typically echos the status code it received".
    #[must_use]
    pub(crate) fn answer_to(received: Option<&CloseFrame>) -> Option<CloseFrame> {
        received.map(|frame| CloseFrame { code: frame.code, reason: String::new() })
    }

    /// Reads the payload of a received close frame; `None` if it is empty.
    ///
    /// # Errors
    /// A payload of one byte, a code that must not be on the wire, a reason that is not UTF-8.
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
        // RFC 6455 5.5.1: the reason is "UTF-8-encoded data"; 8.1 says what befalls other bytes.
        let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::InvalidUtf8)?;
        Ok(Some(CloseFrame { code, reason: reason.to_owned() }))
    }

    /// Appends the payload of the close frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.code.0.to_be_bytes());
        out.extend_from_slice(self.reason.as_bytes());
    }
}

/// A close frame that may not be sent; nothing went on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidClose {
    /// RFC 6455 7.4 does not let this code stand in a frame.
    Code(CloseCode),
    /// The reason is longer than 123 bytes.
    Reason {
        /// Its size in bytes.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseCause {
    /// The peer started the closing handshake.
    Peer,
    /// This side started the closing handshake and the peer answered it.
    Local,
    /// The peer broke the protocol or a limit; the code says which, and the peer was told.
    Failed,
    /// A callback panicked; the peer was told 1011.
    Panicked,
    /// The TCP connection ended, or was reset, without a closing handshake.
    Lost,
    /// The peer was silent beyond the ping interval and its grace, or did not answer our close.
    TimedOut,
    /// This side dropped the connection with `abort`.
    Aborted,
}

/// Why a connection ended: the code and reason as received or, where there were none, as RFC 6455 7.1.5 names them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CloseReason {
    /// The code: 1005 if the peer's close frame had none, 1006 if there was no close frame.
    pub code: CloseCode,
    /// The reason the peer gave, or what went wrong in words.
    pub reason: String,
    /// Who ended it, and how.
    pub cause: CloseCause,
}

impl CloseReason {
    /// A reason in so many words.
    #[must_use]
    pub fn new(code: CloseCode, reason: impl Into<String>, cause: CloseCause) -> CloseReason {
        CloseReason { code, reason: reason.into(), cause }
    }

    /// The reason that a close frame of the peer states.
    #[must_use]
    pub fn from_frame(frame: Option<CloseFrame>, cause: CloseCause) -> CloseReason {
        match frame {
            Some(frame) => CloseReason::new(frame.code, frame.reason, cause),
            // RFC 6455 7.1.5: "If this Close control frame contains no status code, _The WebSocket Connection Close
            // Code_ is considered to be 1005".
            None => CloseReason::new(CloseCode::NO_STATUS_RECEIVED, "", cause),
        }
    }

    /// An end without a close frame: 1006.
    #[must_use]
    pub fn abnormal(reason: impl Into<String>, cause: CloseCause) -> CloseReason {
        CloseReason::new(CloseCode::ABNORMAL_CLOSURE, reason, cause)
    }

    /// Whether the closing handshake was completed (RFC 6455 7.1.4, "closed _cleanly_").
    #[must_use]
    pub fn is_clean(&self) -> bool {
        matches!(self.cause, CloseCause::Peer | CloseCause::Local)
    }
}

/// A reason stands for the messages that there will not be; a clean end is one too.
impl std::error::Error for CloseReason {}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.code.fmt(f)?;
        if !self.reason.is_empty() {
            write!(f, " ({})", self.reason)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_08_every_code_is_sorted_as_the_registry_says() {
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
    fn p_09_the_reason_is_utf_8() {
        assert_eq!(CloseFrame::parse(b"\x03\xe8\xc3"), Err(ProtocolError::InvalidUtf8));
        assert_eq!(CloseFrame::parse("\u{3}\u{0}".as_bytes()), Err(ProtocolError::InvalidCloseCode(CloseCode(768))));
    }

    #[test]
    fn p_17_a_reason_fits_a_control_frame() {
        assert!(CloseFrame::new(CloseCode::NORMAL_CLOSURE, "x".repeat(123)).is_ok());
        let error = CloseFrame::new(CloseCode::NORMAL_CLOSURE, "x".repeat(124)).unwrap_err();
        assert_eq!(error.to_string(), "a close reason of 124 bytes is over the limit of 123: shorten it");
    }

    #[test]
    fn what_describes_a_failure_is_cut_between_characters() {
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
