//! The choice between whole messages and fragments.

/// Whether messages are delivered whole, or what arrives of them at once. Set by [`Config::receive`](crate::Config::receive), and for
/// one connection by [`Accept::receive`](crate::Accept::receive).
///
/// A message may have frames of any size and in any number (RFC 6455 5.4), and an endpoint may hand out its data before all of
/// it has arrived. An application that can use the beginning of a message needs no memory for all of it.
///
/// ```
/// use std::io::Write;
/// use threadbare::{Client, Config, Event, Receive, Server};
///
/// let config = Config::default().receive(Receive::Fragments { max_size: None });
/// let server = Server::builder().config(config).bind("127.0.0.1:0")?;
/// let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
/// client.send("a message of any size")?;
/// let mut file = Vec::new();
/// for event in &server {
///     if let Event::Fragment(_peer, fragment) = event {
///         file.write_all(fragment.as_bytes())?;
///         if fragment.is_last() {
///             break;
///         }
///     }
/// }
/// assert_eq!(file, b"a message of any size");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Receive {
    /// Messages are delivered whole, to [`Handler::on_message`](crate::Handler::on_message) and as
    /// [`Event::Message`](crate::Event::Message). [`Config::max_message_size`](crate::Config::max_message_size) is the limit on them.
    Messages,
    /// What arrives of a message is delivered at once, to [`Handler::on_fragment`](crate::Handler::on_fragment) and as
    /// [`Event::Fragment`](crate::Event::Fragment). Text is valid UTF-8, and not cut inside a character. A message that
    /// turns out to be invalid fails the connection after some of its fragments were delivered.
    ///
    /// Fragments count towards [`Config::max_event_buffer_size`](crate::Config::max_event_buffer_size) as messages do: a connection whose fragments the
    /// application does not take is not read.
    ///
    /// [`Client::recv`](crate::Client::recv) still returns whole messages, of up to [`Config::max_message_size`](crate::Config::max_message_size) bytes,
    /// and [`Client::recv_reader`](crate::Client::recv_reader) reads one of any size.
    /// [`WebSocket::recv`](crate::WebSocket::recv) does not depend on this.
    Fragments {
        /// The largest message in bytes, summed over its fragments and decompressed. A larger one closes the connection with
        /// 1009. `None` sets no limit: the library needs none, because it keeps nothing of a message.
        max_size: Option<u64>,
    },
}
