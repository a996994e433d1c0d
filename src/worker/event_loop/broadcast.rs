//! The broadcasts of one iteration, in one write to each connection.

use crate::config::SlowConsumer;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::direct::{Frames, join};
use crate::worker::event_loop::drive::Driver;
use crate::worker::event_loop::worker::Worker;
use crate::worker::handle::latest::KeyedMessage;
use crate::worker::handle::prepared::{Content, Prepared};

impl<D: Delivery> Worker<D> {
    /// Sends the broadcasts of this iteration to every connection.
    #[inline]
    pub(super) fn send_broadcasts(&mut self) {
        if !self.context.broadcasts.is_empty() {
            let messages = std::mem::take(&mut self.context.broadcasts);
            self.send_to_all(&messages);
        }
    }

    #[inline(never)]
    fn send_to_all(&mut self, messages: &[Prepared]) {
        let frames = messages.iter().map(|message| match &message.content {
            Content::Data(frame) => Some(frame),
            Content::Control(_) => None,
        });
        let joined = join(frames, self.context.config.max_write_buffer_size);
        let has_keys = messages.iter().any(|message| message.key().is_some());
        self.for_each_key(|worker, key| {
            // An older message of the same key may wait.
            let has_older = has_keys && worker.slots.get_mut(key).is_some_and(|slot| slot.conn.has_latest());
            let is_written = !has_older
                && joined.as_deref().is_some_and(|bytes| {
                    let messages = messages.len() as u64;
                    worker.try_write_direct(key, Frames { bytes, messages, posted: 0, compressible: true })
                });
            if !is_written {
                worker.drive(key, |driver, _| driver.send_all(messages));
            }
        });
    }
}

impl<D: Delivery> Driver<'_, D> {
    /// Sends the messages, each unless the connection's output is above the high-water mark. A close is sent all the same.
    fn send_all(&mut self, messages: &[Prepared]) {
        for message in messages {
            if self.active().is_above_high_water() {
                // The socket may take what these frames brought.
                self.flush(&[]);
            }
            if !self.conn.takes_messages() {
                break;
            }
            if self.send_unless_full(message) {
                continue;
            }
            if self.policy_for(message) == SlowConsumer::Disconnect {
                self.fail_slow_reader();
                break;
            } else {
                self.context.count_dropped(self.info(), 1);
            }
        }
        self.flush(&[]);
    }

    /// Sends a message, or has it wait under its key; `false` if there is no room.
    fn send_unless_full(&mut self, message: &Prepared) -> bool {
        let mut active = self.active();
        if let Some(key) = message.key()
            && active.must_keep()
        {
            let role = active.conn.endpoint.connection.role();
            return active.keep_latest(key, KeyedMessage::prepared(message, role)).is_ok();
        }
        let has_room = message.is_close() || !active.is_above_high_water();
        if has_room {
            // A control frame that may not be sent is sent to none.
            active.push_prepared(message);
        }
        has_room
    }

    /// What happens to a message for which there is no room.
    #[cold]
    fn policy_for(&self, message: &Prepared) -> SlowConsumer {
        let own = self.conn.peer.as_ref().map(|peer| peer.shared.policy());
        message.options().slow_consumer.or(own).unwrap_or_else(|| self.context.handle.policy())
    }
}
