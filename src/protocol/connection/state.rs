//! Going on with a connection in another process: its state as bytes.

use super::{Connection, Role};
use crate::protocol::assembly::Assembly;
use crate::protocol::deflate::{Codec, Extension};
use crate::protocol::state::{StateError, StateReader, StateWriter};

impl Connection {
    /// Has the connection keep what [`export`](Connection::export) needs of compressed messages: what of a message has
    /// arrived, and with context takeover twice the window.
    pub(crate) fn keep_exportable(&mut self) {
        if let Some(extension) = &mut self.extension {
            extension.keep_exportable();
        }
    }

    /// Appends the state of an open connection, with which [`import`](Connection::import) goes on elsewhere. `false` if it
    /// can not go on elsewhere now, and then what was appended is to be discarded: it closes, a message of this end is
    /// sent in parts, or a compressed message is handed out in fragments.
    pub(crate) fn export(&self, out: &mut StateWriter) -> bool {
        if !self.can_send() || self.close_received || self.failed {
            return false;
        }
        let assembly = self.assembly.as_deref();
        let is_inflating = assembly.is_some_and(Assembly::is_inflating);
        if is_inflating && self.delivers_fragments() {
            return false;
        }
        out.flag(self.extension.is_some());
        if let Some(extension) = &self.extension
            && !extension.export(out, is_inflating)
        {
            return false;
        }
        out.option(assembly, |out, assembly| assembly.export(out));
        if self.delivers_fragments() {
            out.u64(self.max_message_size);
        }
        true
    }

    /// Goes on with a connection whose state was [exported](Connection::export). `max_message_size` is that of messages
    /// that are assembled. The next hand-over is prepared as by [`keep_exportable`](Connection::keep_exportable).
    pub(crate) fn import(
        state: &mut StateReader<'_>,
        role: Role,
        max_message_size: u64,
        codec: &mut Codec,
    ) -> Result<Connection, StateError> {
        let mut connection = Connection::new(role, max_message_size);
        let (mut extension, arrived) = state.option(Extension::import)?.unzip();
        let arrived = arrived.unwrap_or_default();
        let inflates = extension.as_mut().map(|extension| (extension, arrived));
        let assembly = state.option(|state| Assembly::import(state, role, inflates, codec))?;
        if !arrived.is_empty() && !assembly.as_ref().is_some_and(Assembly::is_inflating) {
            return Err(StateError::Invalid("a compressed message that has not begun"));
        }
        if let Some(mut assembly) = assembly {
            assembly.set_max_assembled(max_message_size);
            if assembly.delivers_fragments() {
                connection.max_message_size = state.u64()?;
            }
            connection.keep(Box::new(assembly));
        }
        connection.extension = extension;
        Ok(connection)
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
