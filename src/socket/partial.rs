//! What there is of a message that nobody reads as it arrives.

use crate::protocol::gathered::Gathered;

/// What a [`WebSocket`](super::WebSocket) has of a message whose fragments its connection delivers, while no reader has the
/// socket.
#[derive(Debug, Default)]
pub(super) struct Partial {
    /// What arrived after a reader was asked for, and did not come in time.
    pub(super) gathered: Gathered,
    /// A reader was dropped inside the message, the rest of which is discarded.
    pub(super) is_abandoned: bool,
}
