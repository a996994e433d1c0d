//! The broadcasts of one iteration, in one write to each connection.

use crate::config::SlowConsumer;
use crate::transport::output::MIN_SHARED_SIZE;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::direct::Frames;
use crate::worker::event_loop::drive::Driver;
use crate::worker::event_loop::worker::Worker;
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
        let joined = join(messages, self.context.config.max_write_buffer_size);
        self.for_each_key(|worker, key| {
            let is_written = joined.as_deref().is_some_and(|bytes| {
                let messages = messages.len() as u64;
                worker.try_write_direct(key, Frames { bytes, messages, posted: 0, compressible: true })
            });
            if !is_written {
                worker.drive(key, |driver, _| driver.send_all(messages));
            }
        });
    }
}

/// Concatenates the frames of data messages, if all of them are small, because what a socket does not take of them is
/// copied, and if all together are below `limit`, so that a queue never holds more.
fn join(messages: &[Prepared], limit: usize) -> Option<Vec<u8>> {
    let mut joined = Vec::new();
    for message in messages {
        let Content::Data(frame) = &message.content else { return None };
        let frame = frame.plain();
        if frame.len() >= MIN_SHARED_SIZE || joined.len() + frame.len() > limit {
            return None;
        }
        joined.extend_from_slice(frame);
    }
    Some(joined)
}

impl<D: Delivery> Driver<'_, D> {
    /// Sends the messages, each unless the connection's output is above the high-water mark. A close is sent all the same.
    fn send_all(&mut self, messages: &[Prepared]) {
        for message in messages {
            if self.active().is_above_high_water() {
                // The socket may take what these frames brought.
                self.flush(&[]);
            }
            if !self.conn.can_send() {
                break;
            }
            if message.is_close() || !self.active().is_above_high_water() {
                self.active().push_prepared(message);
            } else if self.policy_for(message) == SlowConsumer::Disconnect {
                self.fail_slow_reader();
                break;
            } else {
                self.info().counters.add_dropped(1);
            }
        }
        self.flush(&[]);
    }

    /// What happens to a message for which there is no room.
    #[cold]
    fn policy_for(&self, message: &Prepared) -> SlowConsumer {
        let own = self.conn.peer.as_ref().map(|peer| peer.shared.policy());
        message.options().slow_consumer.or(own).unwrap_or_else(|| self.context.handle.policy())
    }
}
