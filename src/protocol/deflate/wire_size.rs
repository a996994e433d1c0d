//! The limit on the compressed size of a message.

use crate::protocol::error::ProtocolError;
#[cfg(all(target_os = "linux", feature = "handover"))]
use crate::protocol::state::{StateError, StateReader, StateWriter};

/// A message of any size may be 64 KiB larger than the bound for its data. Larger inflates more data that inflate to
/// nothing; smaller may refuse a peer that flushes more often than it sends a fragment.
const SLACK: u64 = 64 << 10;

/// Each fragment may have 16 bytes more. An encoder that is flushed after each fragment adds 8 at most: the header and
/// the end of a block, and an empty stored block.
const SLACK_PER_FRAGMENT: u64 = 16;

/// The frames of a compressed message that were announced so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::protocol) struct WireSize {
    bytes: u64,
    frames: u64,
}

impl WireSize {
    /// Adds a frame whose header has arrived.
    pub(in crate::protocol) fn add(&mut self, payload_len: u64) {
        self.bytes = self.bytes.saturating_add(payload_len);
        self.frames = self.frames.saturating_add(1);
    }

    /// Appends the counts, for a process that goes on with the message.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(in crate::protocol) fn export(self, out: &mut StateWriter) {
        out.u64(self.bytes);
        out.u64(self.frames);
    }

    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(in crate::protocol) fn import(state: &mut StateReader<'_>) -> Result<WireSize, StateError> {
        Ok(WireSize { bytes: state.u64()?, frames: state.u64()? })
    }

    /// Checks the next frame of a message of which `inflated` bytes have been decompressed so far.
    pub(in crate::protocol) fn check_next(
        mut self,
        payload_len: u64,
        inflated: u64,
        max_message_size: u64,
    ) -> Result<(), ProtocolError> {
        // A fragment that inflates to nothing earns no slack: a message has at most one for each of its bytes.
        let limit = limit(max_message_size, self.frames.min(inflated));
        self.add(payload_len);
        // RFC 6455 7.4.1: 1009 is for "a message that is too big for it to process".
        if self.bytes > limit {
            return Err(ProtocolError::CompressedMessageTooBig { size: self.bytes, limit });
        }
        Ok(())
    }
}

/// The largest size to which an encoder compresses a message of `max_message_size`.
///
/// Data that do not get smaller grow by 5 bytes for each stored block of up to 65,535 (RFC 1951 3.2.4). An encoder that
/// does not use stored blocks writes at most 9 bits for each byte, with the fixed codes (RFC 1951 3.2.6), which is an
/// eighth more; a 64th more has room for the headers of its blocks. `deflateBound` of zlib, which holds for its smallest
/// buffers as well, is an eighth and a 170th more.
fn limit(max_message_size: u64, fragments: u64) -> u64 {
    max_message_size
        .saturating_add(max_message_size / 8)
        .saturating_add(max_message_size / 64)
        .saturating_add(SLACK)
        .saturating_add(fragments.saturating_mul(SLACK_PER_FRAGMENT))
}
