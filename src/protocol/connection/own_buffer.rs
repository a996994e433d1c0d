//! Receiving a large message into its own buffer, without a copy.

use super::{Connection, Received};
use crate::protocol::error::ProtocolError;

impl Connection {
    /// Returns how many bytes of payload the current data frame lacks. The caller can receive them directly into the
    /// message's buffer with [`spare_mut`](Self::spare_mut). Always 0 for a compressed message, which has to be
    /// decompressed first, and if fragments are delivered.
    ///
    /// ```
    /// use threadbare::protocol::{Connection, Role};
    ///
    /// let mut client = Connection::new(Role::Client, 1 << 20);
    /// client.receive(&mut b"\x82\x05he".to_vec())?;
    /// assert_eq!(client.lacks(), 3);
    /// # Ok::<(), threadbare::ProtocolError>(())
    /// ```
    #[must_use]
    pub fn lacks(&self) -> u64 {
        self.assembly.as_ref().map_or(0, |assembly| assembly.lacks())
    }

    /// Returns the size in bytes that the buffer of the current message must grow to, if the buffer is full.
    ///
    /// ```
    /// use threadbare::protocol::{Connection, Role};
    ///
    /// let mut client = Connection::new(Role::Client, 1 << 20);
    /// assert_eq!(client.wants_buffer(), None); // there is no message to assemble
    /// ```
    #[must_use]
    pub fn wants_buffer(&self) -> Option<u64> {
        self.assembly.as_ref().and_then(|assembly| assembly.wants_buffer())
    }

    /// Moves the current message to `buffer`, which may have been used before, and returns its previous buffer.
    ///
    /// ```
    /// use threadbare::protocol::{Connection, Role};
    ///
    /// fn reserve(connection: &mut Connection, used_before: &mut Vec<Vec<u8>>) {
    ///     if let Some(size) = connection.wants_buffer()
    ///         && let Some(mut buffer) = used_before.pop()
    ///     {
    ///         buffer.resize(usize::try_from(size).unwrap_or(usize::MAX).max(buffer.len()), 0);
    ///         used_before.push(connection.move_to(buffer));
    ///     }
    /// }
    /// # reserve(&mut Connection::new(Role::Server, 1 << 20), &mut vec![Vec::new()]);
    /// ```
    pub fn move_to(&mut self, buffer: Vec<u8>) -> Vec<u8> {
        match &mut self.assembly {
            Some(assembly) => assembly.move_to(buffer),
            None => buffer,
        }
    }

    /// Returns room for the payload of the current frame; empty if there is no such frame.
    ///
    /// ```
    /// use std::io::Read;
    /// use threadbare::protocol::{Connection, Received, Role};
    ///
    /// let mut client = Connection::new(Role::Client, 1 << 20);
    /// client.receive(&mut b"\x82\x05he".to_vec())?;
    /// let mut stream = &b"llo"[..];
    /// let mut received = Received::Nothing;
    /// while client.lacks() > 0 {
    ///     let size = stream.read(client.spare_mut())?; // no other buffer is needed
    ///     received = client.advance(size)?;
    /// }
    /// let Received::Assembled(message) = received else { panic!("a message") };
    /// assert_eq!(message.as_bytes(), b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spare_mut(&mut self) -> &mut [u8] {
        match &mut self.assembly {
            Some(assembly) if assembly.lacks() > 0 => assembly.spare_mut(),
            _ => &mut [],
        }
    }

    /// Takes `size` bytes that were received into [`spare_mut`](Self::spare_mut).
    ///
    /// ```
    /// use threadbare::protocol::{Connection, Received, Role};
    ///
    /// let mut client = Connection::new(Role::Client, 1 << 20);
    /// client.receive(&mut b"\x82\x01".to_vec())?;
    /// client.spare_mut()[0] = 7; // what the stream would write there
    /// assert!(matches!(client.advance(1)?, Received::Assembled(message) if message.as_bytes() == [7]));
    /// # Ok::<(), threadbare::ProtocolError>(())
    /// ```
    ///
    /// # Errors
    /// As for [`receive`](Self::receive).
    pub fn advance(&mut self, size: usize) -> Result<Received<'static>, ProtocolError> {
        let Some(mut assembly) = self.assembly.take() else { return Ok(Received::Nothing) };
        let received = assembly.advance(size).and_then(|completed| self.completed(completed));
        self.failed = received.is_err();
        if !self.failed {
            self.keep(assembly);
        }
        received
    }
}
