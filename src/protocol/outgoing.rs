//! Which frames an endpoint may send next.

use crate::protocol::opcode::Opcode;

/// The state of the sending direction. Every frame is checked against it before it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Outgoing {
    /// The next data frame begins a message.
    #[default]
    BetweenMessages,
    /// A fragment of a message was sent, and its last fragment was not. RFC 6455 5.4: "The fragments of one message
    /// MUST NOT be interleaved between the fragments of another message"; control frames may be sent between them.
    InMessage,
    /// As [`InMessage`](Outgoing::InMessage), of a message that is compressed.
    InCompressedMessage,
    /// The close frame was sent. RFC 6455 5.5.1: "The application MUST NOT send any more data frames after sending a
    /// Close frame."
    CloseSent,
}

impl Outgoing {
    /// Returns whether a frame with this opcode may be sent.
    #[inline]
    pub(crate) fn permits(self, opcode: Opcode) -> bool {
        match self {
            Outgoing::BetweenMessages => opcode != Opcode::Continuation,
            Outgoing::InMessage | Outgoing::InCompressedMessage => {
                opcode == Opcode::Continuation || opcode.is_control()
            }
            Outgoing::CloseSent => false,
        }
    }

    /// Returns whether an unfragmented message may be sent.
    #[inline]
    pub(crate) fn permits_message(self) -> bool {
        self == Outgoing::BetweenMessages
    }

    /// Returns the state after a permitted frame was sent. `last` is its FIN.
    pub(crate) fn after(self, opcode: Opcode, last: Last) -> Outgoing {
        match (opcode, last) {
            (Opcode::Close, _) => Outgoing::CloseSent,
            (Opcode::Ping | Opcode::Pong, _) => self,
            (Opcode::Text | Opcode::Binary | Opcode::Continuation, Last::Yes) => Outgoing::BetweenMessages,
            (Opcode::Text | Opcode::Binary | Opcode::Continuation, Last::No) => self.in_message(),
        }
    }

    fn in_message(self) -> Outgoing {
        if self == Outgoing::InCompressedMessage { self } else { Outgoing::InMessage }
    }
}

/// FIN of a frame: whether it is the last fragment of its message (RFC 6455 5.2).
///
/// ```
/// use threadbare::protocol::Last;
///
/// /// Which fragment of `count` ends the message.
/// fn last(index: usize, count: usize) -> Last {
///     if index + 1 == count { Last::Yes } else { Last::No }
/// }
/// # assert_eq!([last(0, 2), last(1, 2)], [Last::No, Last::Yes]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Last {
    /// FIN is set.
    Yes,
    /// More fragments follow.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Opcode; 6] =
        [Opcode::Continuation, Opcode::Text, Opcode::Binary, Opcode::Close, Opcode::Ping, Opcode::Pong];

    fn permitted(state: Outgoing) -> Vec<Opcode> {
        ALL.into_iter().filter(|opcode| state.permits(*opcode)).collect()
    }

    #[test]
    fn fragments_are_not_interleaved_and_nothing_follows_a_close_frame() {
        let start = Outgoing::default();
        assert_eq!(permitted(start), [Opcode::Text, Opcode::Binary, Opcode::Close, Opcode::Ping, Opcode::Pong]);
        assert_eq!(start.after(Opcode::Text, Last::Yes), start);
        let within = start.after(Opcode::Binary, Last::No);
        assert_eq!(permitted(within), [Opcode::Continuation, Opcode::Close, Opcode::Ping, Opcode::Pong]);
        assert!(start.permits_message() && !within.permits_message());
        assert_eq!(within.after(Opcode::Ping, Last::Yes), within);
        assert_eq!(within.after(Opcode::Continuation, Last::No), within);
        assert_eq!(within.after(Opcode::Continuation, Last::Yes), start);
        let compressed = Outgoing::InCompressedMessage;
        assert_eq!(permitted(compressed), permitted(within));
        assert_eq!(compressed.after(Opcode::Continuation, Last::No), compressed);
        assert_eq!(compressed.after(Opcode::Continuation, Last::Yes), start);
        for state in [start, within, compressed] {
            assert_eq!(permitted(state.after(Opcode::Close, Last::Yes)), []);
        }
    }
}
