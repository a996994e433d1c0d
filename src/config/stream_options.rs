//! How a message is sent in parts.

use crate::protocol::deflate::Compression;
use crate::protocol::frame::Opcode;

/// How a message is sent in parts: whether it is text or binary, how large the parts are, and whether it may be
/// compressed.
///
/// ```
/// use threadbare::{Compression, StreamOptions};
///
/// # let server = threadbare::Server::bind("127.0.0.1:0")?;
/// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
/// # let picture = &b"\xFF\xD8"[..];
/// client.send_stream(picture, StreamOptions::binary().compression(Compression::Never))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamOptions {
    pub(crate) opcode: Opcode,
    pub(crate) fragment_size: Option<usize>,
    pub(crate) compression: Compression,
}

impl StreamOptions {
    /// A binary message.
    ///
    /// ```
    /// use threadbare::{Peer, StreamOptions};
    ///
    /// fn send_file(peer: &Peer, path: &str) -> std::io::Result<u64> {
    ///     peer.send_stream(std::fs::File::open(path)?, StreamOptions::binary())
    /// }
    /// ```
    #[must_use]
    pub fn binary() -> StreamOptions {
        StreamOptions { opcode: Opcode::Binary, fragment_size: None, compression: Compression::Auto }
    }

    /// A text message. What is written is checked to be UTF-8 (RFC 6455 8.1) before it is sent; a character may be in two
    /// parts.
    ///
    /// ```
    /// use threadbare::{Peer, StreamOptions};
    ///
    /// fn send_log(peer: &Peer) -> std::io::Result<u64> {
    ///     peer.send_stream(std::fs::File::open("server.log")?, StreamOptions::text())
    /// }
    /// ```
    #[must_use]
    pub fn text() -> StreamOptions {
        StreamOptions { opcode: Opcode::Text, ..StreamOptions::binary() }
    }

    /// The size of the parts in bytes, before compression; 1 at least. Default:
    /// [`Config::fragment_size`](crate::Config::fragment_size).
    ///
    /// ```
    /// use threadbare::StreamOptions;
    ///
    /// let options = StreamOptions::binary().fragment_size(16 << 10);
    /// ```
    #[must_use]
    pub fn fragment_size(mut self, bytes: usize) -> StreamOptions {
        self.fragment_size = Some(bytes.max(1));
        self
    }

    /// Whether the message may be compressed where permessage-deflate was negotiated. Default: [`Compression::Auto`]. A
    /// compressor takes 400 KB for as long as the message is under way, and is freed while no part comes.
    ///
    /// ```
    /// use threadbare::{Compression, StreamOptions};
    ///
    /// let video = StreamOptions::binary().compression(Compression::Never); // it would not get smaller
    /// ```
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> StreamOptions {
        self.compression = compression;
        self
    }
}
