//! Whether whole messages are delivered, or what arrives of them at once.

use super::Connection;
use crate::protocol::fragment::Fragment;

impl Connection {
    /// Delivers what arrives of a message at once from now on, as [`Received::Fragment`](super::Received::Fragment) or
    /// [`Received::OwnFragment`](super::Received::OwnFragment). Returns what has arrived of the message under way, as
    /// its first fragment.
    ///
    /// `max_size` is the largest message in bytes, summed over its fragments, in place of the connection's
    /// `max_message_size`; `None` if messages of any size are received. The connection keeps at most three bytes of a
    /// message, whatever its size: those of a character of which bytes are missing.
    ///
    /// ```
    /// use threadbare::protocol::{Connection, Received, Role};
    ///
    /// let mut client = Connection::new(Role::Client, 1 << 20);
    /// assert_eq!(client.deliver_fragments(None), None); // nothing has arrived
    /// let mut input = *b"\x81\x05gr\xc3"; // three bytes of five
    /// let (size, received) = client.receive(&mut input)?;
    /// let Received::Fragment(fragment) = received else { panic!("a fragment") };
    /// assert_eq!((size, fragment.as_text()), (5, Some("gr"))); // up to the character that is not whole
    /// assert!(fragment.is_first() && !fragment.is_last());
    /// # Ok::<(), threadbare::ProtocolError>(())
    /// ```
    pub fn deliver_fragments(&mut self, max_size: Option<u64>) -> Option<Fragment> {
        if self.failed || self.close_received {
            return None;
        }
        let max_assembled = std::mem::replace(&mut self.max_message_size, max_size.unwrap_or(u64::MAX));
        self.assembly.get_or_insert_default().deliver_fragments(max_assembled)
    }

    /// Delivers whole messages from now on, with the limit on them that it had before. Returns whether it does: during a
    /// message, this changes nothing.
    ///
    /// ```
    /// use threadbare::protocol::{Connection, Role};
    ///
    /// let mut client = Connection::new(Role::Client, 1 << 20);
    /// client.deliver_fragments(None);
    /// client.receive(&mut b"\x81\x02h".to_vec())?;
    /// assert!(!client.deliver_messages()); // a byte is missing
    /// client.receive(&mut b"i".to_vec())?;
    /// assert!(client.deliver_messages());
    /// # Ok::<(), threadbare::ProtocolError>(())
    /// ```
    pub fn deliver_messages(&mut self) -> bool {
        if let Some(max_assembled) = self.assembly.as_mut().and_then(|assembly| assembly.deliver_messages()) {
            self.max_message_size = max_assembled;
            self.assembly.take_if(|assembly| assembly.is_idle());
        }
        !self.delivers_fragments()
    }

    /// Returns whether what arrives of a message is delivered at once.
    ///
    /// ```
    /// use threadbare::protocol::{Connection, Role};
    ///
    /// let mut server = Connection::new(Role::Server, 1 << 20);
    /// assert!(!server.delivers_fragments());
    /// server.deliver_fragments(None);
    /// assert!(server.delivers_fragments());
    /// ```
    #[must_use]
    pub fn delivers_fragments(&self) -> bool {
        self.assembly.as_ref().is_some_and(|assembly| assembly.delivers_fragments())
    }
}
