//! A connection that goes on in another process: its output is held back, and told with what else waits.

use super::Endpoint;
use crate::protocol::state::StateWriter;
use crate::transport::chunk::Chunk;
use crate::transport::stream::byte_stream::ByteStream;

impl<S: ByteStream> Endpoint<S> {
    /// Writes nothing from now on. All output waits.
    pub(crate) fn pause(&mut self) {
        self.pending.get_or_insert_default().is_paused = true;
    }

    /// Writes again.
    pub(crate) fn resume(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.is_paused = false;
        }
        self.drop_empty_pending();
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.is_paused())
    }

    /// Appends what was received and is not decoded, and the ping that waits for its answer.
    pub(crate) fn export_input(&self, out: &mut StateWriter) {
        let pending = self.pending.as_deref();
        let carry = pending.and_then(|pending| pending.carry.as_deref());
        out.bytes(carry.map_or(&[], |carry| carry.rest()));
        let ping = pending.and_then(|pending| pending.late_ping.as_deref());
        out.option(ping, StateWriter::bytes);
    }

    /// Appends the output that waits, and returns its size.
    pub(crate) fn export_output(&self, out: &mut StateWriter) -> usize {
        let size = self.pending.as_ref().map_or(0, |pending| pending.len());
        out.pieces(size, self.pending.iter().flat_map(|pending| pending.pieces()));
        size
    }

    /// The output that waits, without the first `size` bytes of it.
    pub(crate) fn output_behind(&self, size: usize) -> Vec<u8> {
        let (mut output, mut skipped) = (Vec::new(), size);
        for piece in self.pending.iter().flat_map(|pending| pending.pieces()) {
            let here = skipped.min(piece.len());
            skipped -= here;
            output.extend_from_slice(&piece[here..]);
        }
        output
    }

    /// Forgets the output that waits, which another process writes.
    pub(crate) fn drop_output(&mut self) {
        self.pending = None;
    }

    /// Has output wait that another process did not write, and a ping that it did not answer.
    pub(crate) fn queue(&mut self, output: Vec<u8>, late_ping: Option<Vec<u8>>) {
        if output.is_empty() && late_ping.is_none() {
            return;
        }
        let (size, pending) = (output.len(), self.pending.get_or_insert_default());
        pending.push(Chunk::owned(output, 0, size));
        pending.late_ping = late_ping;
    }
}
