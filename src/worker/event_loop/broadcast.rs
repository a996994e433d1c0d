//! The broadcasts of one iteration, in one write to each connection.

use crate::config::SlowConsumer;
use crate::transport::output::MIN_SHARED_SIZE;
use crate::transport::shared_frame::SharedFrame;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::direct::Frames;
use crate::worker::event_loop::drive::Driver;
use crate::worker::event_loop::worker::Worker;

impl<D: Delivery> Worker<D> {
    /// Sends the broadcasts of this iteration to every connection.
    #[inline]
    pub(super) fn send_broadcasts(&mut self) {
        if !self.context.broadcasts.is_empty() {
            let frames = std::mem::take(&mut self.context.broadcasts);
            self.send_to_all(&frames);
        }
    }

    #[inline(never)]
    fn send_to_all(&mut self, frames: &[SharedFrame]) {
        let joined = join(frames, self.context.config.max_write_buffer_size);
        self.for_each_key(|worker, key| {
            let is_written = joined.as_deref().is_some_and(|bytes| {
                let messages = frames.len() as u64;
                worker.try_write_direct(key, Frames { bytes, messages, posted: 0, compressible: true })
            });
            if !is_written {
                worker.drive(key, |driver, _| driver.send_all(frames));
            }
        });
    }
}

/// Concatenates the frames, if all of them are small, because what a socket does not take of them is copied, and if all
/// together are below `limit`, so that a queue never holds more.
fn join(frames: &[SharedFrame], limit: usize) -> Option<Vec<u8>> {
    let frames: Vec<&[u8]> = frames.iter().map(|frame| &frame.plain()[..]).collect();
    let size = frames.iter().map(|frame| frame.len()).fold(0, usize::saturating_add);
    let is_small = size <= limit && frames.iter().all(|frame| frame.len() < MIN_SHARED_SIZE);
    is_small.then(|| frames.concat())
}

impl<D: Delivery> Driver<'_, D> {
    /// Sends the frames, each unless the connection's output is above the high-water mark.
    fn send_all(&mut self, frames: &[SharedFrame]) {
        for frame in frames {
            if self.active().is_above_high_water() {
                // The socket may take what these frames brought.
                self.flush(&[]);
            }
            if !self.conn.can_send() {
                return;
            }
            if !self.active().is_above_high_water() {
                self.active().send_shared(frame);
            } else if self.context.handle.policy() == SlowConsumer::Disconnect {
                self.fail_slow_reader();
                break;
            } else {
                self.info().counters.add_dropped(1);
            }
        }
        self.flush(&[]);
    }
}
