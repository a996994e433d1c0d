//! A turn's broadcasts, each connection's share in one write.

use std::io;

use crate::config::SlowConsumer;
use crate::protocol::close::{CloseCause, CloseCode};
use crate::transport::output::MIN_SHARED_SIZE;
use crate::transport::shared_frame::SharedFrame;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::drive::Driver;
use crate::worker::event_loop::worker::Worker;
use crate::worker::slab::Key;

impl<D: Delivery> Worker<D> {
    /// Sends the turn's broadcasts to every connection.
    #[inline]
    pub(super) fn send_broadcasts(&mut self) {
        if !self.context.broadcasts.is_empty() {
            let frames = std::mem::take(&mut self.context.broadcasts);
            self.send_to_all(&frames);
        }
    }

    #[inline(never)]
    fn send_to_all(&mut self, frames: &[SharedFrame]) {
        let joined = join(frames);
        self.for_each_key(|worker, key| {
            match joined.as_deref().and_then(|bytes| worker.try_write_frames(key, bytes, frames.len())) {
                Some(Ok([])) => {}
                Some(rest) => worker.drive(key, |driver, _| {
                    driver.context.counts.sent += if rest.is_ok() { frames.len() as u64 } else { 0 };
                    driver.send_rest(rest);
                }),
                None => worker.drive(key, |driver, _| driver.send_all(frames)),
            }
        });
    }

    /// Writes `count` frames to a connection that has nothing else to do, and answers what its socket did not take; `None`
    /// if it has, or may want them compressed. That is a turn without the application's part, and so without what is there
    /// for its panics.
    #[inline]
    pub(super) fn try_write_frames<'a>(
        &mut self,
        key: Key,
        frames: &'a [u8],
        count: usize,
    ) -> Option<io::Result<&'a [u8]>> {
        let conn = &mut self.slots.get_mut(key)?.conn;
        if conn.endpoint.connection.compresses() {
            return None;
        }
        self.context.key = key;
        let rest = conn.try_write_direct(&self.context, frames)?;
        if matches!(rest, Ok([])) {
            conn.info(&self.context).counters.messages_sent.add(count as u64);
        }
        Some(rest)
    }
}

/// The frames one behind the other, if they are small: what a socket does not take of them is copied.
fn join(frames: &[SharedFrame]) -> Option<Vec<u8>> {
    let frames: Vec<&[u8]> = frames.iter().map(|frame| &frame.plain()[..]).collect();
    frames.iter().all(|frame| frame.len() < MIN_SHARED_SIZE).then(|| frames.concat())
}

impl<D: Delivery> Driver<'_, D> {
    /// Sends the frames, unless the connection's output stands above its mark.
    fn send_all(&mut self, frames: &[SharedFrame]) {
        if !self.conn.can_send() {
            return;
        }
        if !self.conn.is_above_mark(self.context) {
            for frame in frames {
                self.conn.send_shared(self.context, frame);
            }
            self.flush(&mut []);
        } else if self.context.config.slow_consumer == SlowConsumer::Disconnect {
            self.fail_with(CloseCode::POLICY_VIOLATION, "reads too slowly", CloseCause::Failed);
            self.flush(&mut []);
        } else {
            self.conn.info(self.context).counters.add_dropped(frames.len() as u32);
        }
    }
}
