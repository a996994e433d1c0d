//! Sending from any thread a message of which only the latest counts.

use crate::error::SendRefusal;
use crate::protocol::deflate::Compression;
use crate::protocol::message::CowMessage;
use crate::worker::handle::latest::{KeyedMessage, NotKept};
use crate::worker::handle::peer::Peer;
use crate::worker::handle::prepared::Prepared;
use crate::worker::handle::send::{Admission, Wait};

impl Peer {
    /// Sends a data message in place of one with the same key that was not sent yet, or returns it.
    pub(super) fn offer_latest<'a>(
        &self,
        message: CowMessage<'a>,
        key: u64,
        wait: Wait,
        compression: Compression,
    ) -> Result<(), (CowMessage<'a>, SendRefusal)> {
        if !self.takes_messages() {
            return Err((message, self.refusal()));
        }
        // A copy that is needed is made before the lock is taken.
        match self.keep_latest(key, KeyedMessage::new(message, compression), wait) {
            Err((KeyedMessage::Own { message, .. }, refusal)) => Err((message, refusal)),
            _ => Ok(()),
        }
    }

    /// Sends a message that was encoded before in place of one with the same key that was not sent yet.
    pub(super) fn offer_latest_prepared(&self, prepared: &Prepared, key: u64, wait: Wait) -> Result<(), SendRefusal> {
        if !self.takes_messages() {
            return Err(self.refusal());
        }
        let message = KeyedMessage::prepared(prepared, self.shared.worker.role);
        self.keep_latest(key, message, wait).map_err(|(_, refusal)| refusal)
    }

    /// Gives the worker a keyed message once there is room for its key, or returns it.
    fn keep_latest(&self, key: u64, mut message: KeyedMessage, wait: Wait) -> Result<(), (KeyedMessage, SendRefusal)> {
        let wait = wait.begin();
        loop {
            message = match self.shared.keep_latest(key, message) {
                Ok(()) => return Ok(()),
                Err((message, NotKept::Ended)) => return Err((message, self.refusal())),
                Err((message, NotKept::Full)) => message,
            };
            match self.admit_as(wait, || self.shared.has_room_for_key()) {
                Ok(Admission::Send) => {}
                Ok(Admission::Drop) => return Ok(()),
                Err(refusal) => return Err((message, refusal)),
            }
        }
    }
}
