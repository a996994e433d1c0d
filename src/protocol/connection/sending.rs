//! Sending frames, and the close frame after which nothing more is sent (RFC 6455 5.5.1).

use super::Connection;
use crate::protocol::close::{CloseCode, CloseFrame};
use crate::protocol::frame::{self, Opcode};
use crate::protocol::mask::MaskingKey;
use crate::protocol::outgoing::Last;

impl Connection {
    /// Returns whether a message may be sent: RFC 6455 5.5.1 forbids data frames after a close frame.
    ///
    /// ```
    /// use threadbare::protocol::{Connection, Role};
    ///
    /// let mut server = Connection::new(Role::Server, 1 << 20);
    /// assert!(server.can_send() && server.can_send_control());
    /// server.close(None, None, &mut Vec::new());
    /// assert!(!server.can_send() && !server.can_send_control());
    /// ```
    #[inline]
    #[must_use]
    pub fn can_send(&self) -> bool {
        self.outgoing.permits_message()
    }

    /// Returns whether a ping, pong or close frame may be sent.
    ///
    /// ```
    /// use threadbare::protocol::frame::Opcode;
    /// use threadbare::protocol::{Connection, Role};
    ///
    /// let mut server = Connection::new(Role::Server, 1 << 20);
    /// let mut out = Vec::new();
    /// if server.can_send_control() {
    ///     server.send(Opcode::Ping, b"", None, &mut out);
    /// }
    /// assert_eq!(out, b"\x89\x00");
    /// ```
    #[inline]
    #[must_use]
    pub fn can_send_control(&self) -> bool {
        self.outgoing.permits(Opcode::Ping)
    }

    /// Appends a frame with `payload` to `out`. A client passes a new masking key for every frame, a server passes
    /// `None`.
    ///
    /// Returns `false` and appends nothing if a close frame was sent.
    ///
    /// ```
    /// use threadbare::protocol::frame::Opcode;
    /// use threadbare::protocol::{Connection, Role};
    ///
    /// let mut server = Connection::new(Role::Server, 1 << 20);
    /// let mut out = Vec::new();
    /// assert!(server.send(Opcode::Text, b"Hello", None, &mut out));
    /// assert_eq!(out, b"\x81\x05Hello"); // RFC 6455 5.7
    /// ```
    pub fn send(&mut self, opcode: Opcode, payload: &[u8], key: Option<MaskingKey>, out: &mut Vec<u8>) -> bool {
        if !self.outgoing.permits(opcode) {
            return false;
        }
        frame::encode(out, opcode, payload, key);
        self.outgoing = self.outgoing.after(opcode, Last::Yes);
        true
    }

    /// Appends a close frame to `out`, which starts the closing handshake or answers the peer's close frame.
    ///
    /// Returns `false` and appends nothing if a close frame was sent before.
    ///
    /// ```
    /// use threadbare::protocol::{Connection, Role};
    /// use threadbare::{CloseCode, CloseFrame};
    ///
    /// let mut server = Connection::new(Role::Server, 1 << 20);
    /// let mut out = Vec::new();
    /// assert!(server.close(Some(&CloseFrame::new(CloseCode::NORMAL_CLOSURE, "bye")?), None, &mut out));
    /// assert_eq!(out, b"\x88\x05\x03\xe8bye");
    /// assert!(!server.close(None, None, &mut out)); // it was sent already
    /// # Ok::<(), threadbare::InvalidClose>(())
    /// ```
    pub fn close(&mut self, close: Option<&CloseFrame>, key: Option<MaskingKey>, out: &mut Vec<u8>) -> bool {
        let mut payload = Vec::new();
        if let Some(close) = close {
            close.encode(&mut payload);
        }
        let sent = self.send(Opcode::Close, &payload, key, out);
        if sent {
            self.sent_code = Some(close.map_or(CloseCode::NO_STATUS_RECEIVED, |close| close.code));
        }
        sent
    }

    /// _Fail the WebSocket Connection_ (RFC 6455 7.1.7): appends a close frame to `out`, and ignores all bytes that
    /// arrive from now on.
    ///
    /// ```
    /// use threadbare::CloseFrame;
    /// use threadbare::protocol::{Connection, Role, State};
    ///
    /// let mut server = Connection::new(Role::Server, 1 << 20);
    /// let error = server.receive(&mut b"\x81\x02hi".to_vec()).expect_err("it is not masked");
    /// let mut out = Vec::new();
    /// server.fail(&CloseFrame::new(error.close_code(), error.to_string())?, None, &mut out);
    /// assert_eq!((&out[2..4], server.state()), (&1002_u16.to_be_bytes()[..], State::Closed));
    /// # Ok::<(), threadbare::InvalidClose>(())
    /// ```
    pub fn fail(&mut self, close: &CloseFrame, key: Option<MaskingKey>, out: &mut Vec<u8>) {
        self.close(Some(close), key, out);
        self.give_up();
    }
}
