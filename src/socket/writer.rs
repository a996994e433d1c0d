//! Sending a message in parts over a [`WebSocket`].

use std::io::{self, Read, Write};

use crate::config::stream_options::StreamOptions;
use crate::protocol::Last;
use crate::protocol::close::{CloseCause, CloseCode, CloseFrame, CloseReason};
use crate::socket::codecs::with_codec;
use crate::socket::{SocketError, WebSocket};
use crate::transport::chunk::Chunk;
use crate::transport::message_writer::{Carrier, MessageWriter, UNFINISHED};

impl<S: Read + Write> WebSocket<S> {
    /// Begins a message that is written in parts, so that it may have any size. Each part is written to the stream, so a
    /// write waits as long as the stream does. Nothing is received meanwhile, and no ping is answered.
    ///
    /// ```
    /// use std::io::Write;
    /// use threadbare::StreamOptions;
    ///
    /// # use threadbare::{Config, Message, Role, WebSocket};
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// # let config = Config::default();
    /// # let mut client = WebSocket::from_established(stream, Role::Client, vec![], &config);
    /// # let mut server = WebSocket::from_established(listener.accept()?.0, Role::Server, vec![], &config);
    /// let mut writer = client.writer(StreamOptions::text());
    /// for line in ["one", "two", "three"] {
    ///     writeln!(writer, "{line}")?;
    /// }
    /// writer.finish()?;
    /// assert_eq!(server.recv()?, Some(Message::from("one\ntwo\nthree\n")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// There is none here. A write fails with [`BrokenPipe`](io::ErrorKind::BrokenPipe) if the connection is closed or
    /// closing, with the kind of the stream's error, and with [`TimedOut`](io::ErrorKind::TimedOut) over a stream that times out
    /// or does not block: then nothing is lost, and the write can be repeated. The [`SocketError`] is the source.
    #[must_use = "a message is sent by `finish`"]
    pub fn writer(&mut self, options: StreamOptions) -> MessageWriter<&mut WebSocket<S>> {
        let size = self.fragment_size;
        MessageWriter::new(self, (), options, size)
    }

    /// Sends a message that consists of what `source` has, in parts, and returns its size in bytes. The source is read as
    /// the stream takes it, and is never in memory as a whole.
    ///
    /// ```no_run
    /// use std::fs::File;
    /// use threadbare::{StreamOptions, WebSocket};
    ///
    /// # let stream = std::net::TcpStream::connect("127.0.0.1:8080")?;
    /// let mut socket = WebSocket::connect("ws://127.0.0.1:8080/upload", stream)?;
    /// let size = socket.send_stream(File::open("film.mp4")?, StreamOptions::binary())?;
    /// println!("{size} bytes");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for a write of [`writer`](WebSocket::writer), and that of the source. If a part was sent before, the message
    /// can not be completed, and the connection is failed with 1011.
    pub fn send_stream(&mut self, source: impl Read, options: StreamOptions) -> io::Result<u64> {
        self.writer(options).copy_from(source)
    }

    /// Fails the connection with 1011, because a message was not finished.
    fn fail_message(&mut self) {
        let frame = CloseFrame::describing(CloseCode::INTERNAL_ERROR, UNFINISHED);
        if self.ended.is_none() && self.endpoint.close(&mut self.output, Some(&frame)) {
            // The stream may be what has failed.
            let _ = self.flush();
            self.ended = Some(CloseReason::new(CloseCode::INTERNAL_ERROR, UNFINISHED, CloseCause::Failed));
        }
    }
}

impl<S: Read + Write> Carrier for &mut WebSocket<S> {
    type Message = ();

    fn send_part(&mut self, _: &mut (), payload: &mut Vec<u8>, last: Last, options: &StreamOptions) -> io::Result<()> {
        if self.ended.is_some() || !self.endpoint.connection.permits_fragment(options.opcode) {
            return Err(to_io(SocketError::Closed));
        }
        self.drain_to_limit().map_err(to_io)?;
        let bytes = std::mem::take(payload);
        let (size, output) = (bytes.len(), &mut self.output);
        let kind = (options.opcode, last);
        let sent = with_codec(&mut self.endpoint, |endpoint, codec| {
            endpoint.push_fragment(output, codec, kind, Chunk::owned(bytes, 0, size), options.compression)
        });
        if !sent {
            return Err(io::Error::other("the compressor failed"));
        }
        if last == Last::Yes {
            self.stats.messages_sent += 1;
        }
        let written = self.write_unless_busy();
        // A buffer that was sent serves for the next part.
        let size = options.fragment_size.unwrap_or(self.fragment_size);
        *payload = self.output.pool.take(0, size as u64).unwrap_or_default();
        match written {
            // It is queued. The next part waits until there is room.
            Ok(()) | Err(SocketError::Timeout) => Ok(()),
            Err(error) => Err(to_io(error)),
        }
    }

    fn flush_parts(&mut self, _: &mut ()) -> io::Result<()> {
        WebSocket::flush(self).map_err(to_io)
    }

    fn fail_message(&mut self, _: &mut ()) {
        WebSocket::fail_message(self);
    }
}

/// The error of a write.
fn to_io(error: SocketError) -> io::Error {
    error.into_io(io::ErrorKind::BrokenPipe)
}
