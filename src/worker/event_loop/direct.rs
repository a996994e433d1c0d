//! Writes whole frames to a connection without a drive, if there is nothing else to do for it.

use std::io;

use crate::transport::output::MIN_SHARED_SIZE;
use crate::transport::shared_frame::SharedFrame;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::drive::Driver;
use crate::worker::event_loop::worker::Worker;
use crate::worker::slab::Key;

/// Whole frames for one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frames<'a> {
    pub(super) bytes: &'a [u8],
    /// The number of messages among them that are not counted yet.
    pub(super) messages: u64,
    /// The number of bytes among them that came from the inbox.
    pub(super) posted: usize,
    /// Whether the frames are to be compressed if that was negotiated.
    pub(super) compressible: bool,
}

/// Concatenates frames, if all of them are small, because what a socket does not take of them is copied, and if all together
/// are below `limit`, so that a queue never holds more. `None` stands for what is no data frame, and is not joined.
pub(super) fn join<'a>(frames: impl IntoIterator<Item = Option<&'a SharedFrame>>, limit: usize) -> Option<Vec<u8>> {
    let mut joined = Vec::new();
    for frame in frames {
        let frame = frame?.plain();
        if frame.len() >= MIN_SHARED_SIZE || joined.len() + frame.len() > limit {
            return None;
        }
        joined.extend_from_slice(frame);
    }
    Some(joined)
}

impl<D: Delivery> Worker<D> {
    /// Writes frames to a connection that has no other output, and drives it only if its socket does not take all of
    /// them. Returns `false`, and does nothing, if the frames must be sent in a drive.
    ///
    /// This does not call the application, so no panic needs to be caught.
    #[inline]
    pub(super) fn try_write_direct(&mut self, key: Key, frames: Frames<'_>) -> bool {
        // The frames of a connection that has ended are discarded.
        let Some(slot) = self.slots.get_mut(key) else { return true };
        let conn = &mut slot.conn;
        if !conn.can_send() || (frames.compressible && conn.endpoint.connection.compresses()) {
            return false;
        }
        let Some(result) = conn.endpoint.try_write_direct(frames.bytes) else { return false };
        let counters = &conn.info(&self.context, key).counters;
        match result {
            // A stream with a layer of its own may take more than its socket does.
            Ok(size) if size == frames.bytes.len() && !conn.endpoint.has_layer_backlog() => {
                counters.bytes_sent.add(size as u64);
                if frames.messages > 0 {
                    counters.messages_sent.add(frames.messages);
                }
                self.context.totals.bytes_sent += size as u64;
                self.context.totals.messages_sent += frames.messages;
                if let Some(peer) = &conn.peer {
                    peer.shared.publish(frames.posted, 0, 0);
                }
            }
            result => self.drive(key, |driver, _| driver.finish_direct(frames, result)),
        }
        true
    }
}

impl<D: Delivery> Driver<'_, D> {
    /// Continues after [`try_write_direct`](Worker::try_write_direct) if the socket did not take all of the frames.
    #[cold]
    fn finish_direct(&mut self, frames: Frames<'_>, result: io::Result<usize>) {
        self.state.posted += frames.posted;
        // Nothing was queued before the write, so that the handle shows nothing of what the stream's layer holds now.
        self.state.shown_backlog = 0;
        match result {
            Ok(size) => {
                self.active().count_written(size);
                self.state.counts.sent += frames.messages;
                self.context.output.cork().extend_from_slice(&frames.bytes[size..]);
                self.flush(&[]);
            }
            Err(error) => self.io_failed(&error),
        }
    }
}
