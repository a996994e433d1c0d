//! Sending a message in parts, on one connection of several.

use std::io::{self, Read};
use std::time::Instant;

use crate::client::reconnect::ReconnectingClient;
use crate::client::reconnect::sender::ReconnectingSender;
use crate::client::reconnect::shared::{Link, is_over, may_wait};
use crate::config::SlowConsumer;
use crate::config::stream_options::StreamOptions;
use crate::protocol::Last;
use crate::transport::message_writer::{Carrier, MessageWriter, refused};
use crate::worker::handle::peer::Peer;
use crate::worker::handle::writer::{PeerMessage, no_room_in_time};

impl ReconnectingSender {
    /// Begins a message that is written in parts, so that it may have any size.
    ///
    /// The message does not go into the outbox. Its first part waits until there is a connection, and what waited in the outbox
    /// is sent. From there on the message belongs to that connection: if it is lost before [`finish`](MessageWriter::finish), the
    /// next write fails, and nothing of the message is sent again. Otherwise as [`Peer::writer`].
    ///
    /// ```
    /// use std::io::Write;
    /// use threadbare::{ReconnectingSender, StreamOptions};
    ///
    /// /// Sends a table, from its beginning if the connection was lost.
    /// fn send_table(sender: &ReconnectingSender, rows: &[String]) -> std::io::Result<()> {
    ///     loop {
    ///         let mut writer = sender.writer(StreamOptions::text());
    ///         let written = rows.iter().try_for_each(|row| writeln!(writer, "{row}"));
    ///         match written.and_then(|()| writer.finish()) {
    ///             Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
    ///             sent => return sent,
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// There is none here. A write fails with
    /// * [`ConnectionReset`](io::ErrorKind::ConnectionReset) if the connection was lost or closed inside the message, which can
    ///   begin anew on the next one;
    /// * [`BrokenPipe`](io::ErrorKind::BrokenPipe) if the client is closed;
    /// * [`TimedOut`](io::ErrorKind::TimedOut) if there is no connection, or no room, until the deadline that
    ///   [`set_deadline`](MessageWriter::set_deadline) sets;
    /// * [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no connection, no deadline, and the policy of
    ///   [`SlowConsumer`](crate::SlowConsumer) is not [`Block`](crate::SlowConsumer::Block); on a worker's thread, and in a hook
    ///   of [`Reconnect`](crate::Reconnect), where [`Session`](crate::Session) has the connection.
    ///
    /// After the last two nothing is lost, and the write can be repeated.
    #[must_use = "a message is sent by `finish`"]
    pub fn writer(&self, options: StreamOptions) -> MessageWriter<ReconnectingSender> {
        let message = ReconnectingMessage { connection: None, deadline: None };
        MessageWriter::new(self.clone(), message, options, self.shared.fragment_size)
    }

    /// Sends a message that consists of what `source` has, in parts, and returns its size in bytes. The source is read once: if
    /// the connection is lost inside the message, the application can send it again from a new source.
    ///
    /// ```
    /// use std::fs::File;
    /// use threadbare::{ReconnectingSender, StreamOptions};
    ///
    /// fn send_file(sender: &ReconnectingSender, path: &str) -> std::io::Result<u64> {
    ///     sender.send_stream(File::open(path)?, StreamOptions::binary())
    /// }
    /// ```
    ///
    /// # Errors
    /// As for a write of [`writer`](ReconnectingSender::writer), and that of the source. If a part was sent before, the message
    /// can not be completed: the connection is failed with 1011, and the client connects again.
    pub fn send_stream(&self, source: impl Read, options: StreamOptions) -> io::Result<u64> {
        self.writer(options).copy_from(source)
    }

    /// Waits for a connection that messages flow to.
    fn connection(&self, deadline: Option<Instant>) -> io::Result<Peer> {
        let mut inner = self.shared.lock();
        loop {
            match &inner.link {
                Link::Flowing(peer) => return Ok(peer.clone()),
                Link::Closed => return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client is closed")),
                Link::Down => {}
            }
            if !may_wait() || (deadline.is_none() && self.shared.slow_consumer != SlowConsumer::Block) {
                return Err(refused("there is no connection, and this call does not wait for one"));
            }
            if is_over(deadline) {
                return Err(no_room_in_time());
            }
            inner = self.shared.wait_room(inner, deadline);
        }
    }
}

impl ReconnectingClient {
    /// Begins a message that is written in parts, so that it may have any size; see
    /// [`ReconnectingSender::writer`](crate::ReconnectingSender::writer).
    ///
    /// ```
    /// use std::io::Write;
    /// use threadbare::StreamOptions;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}", server.local_addr());
    /// # let client = threadbare::Client::builder().reconnect(&url, threadbare::Reconnect::new())?;
    /// let mut writer = client.writer(StreamOptions::text());
    /// for line in 1..=10_000 {
    ///     writeln!(writer, "line {line}")?; // on one connection, or an error
    /// }
    /// writer.finish()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// There is none here; those of a write are as for [`ReconnectingSender::writer`](crate::ReconnectingSender::writer).
    #[must_use = "a message is sent by `finish`"]
    pub fn writer(&self, options: StreamOptions) -> MessageWriter<ReconnectingSender> {
        self.sender.writer(options)
    }

    /// Sends a message that consists of what `source` has, in parts, and returns its size in bytes; see
    /// [`ReconnectingSender::send_stream`](crate::ReconnectingSender::send_stream).
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}", server.local_addr());
    /// # let client = threadbare::Client::builder().reconnect(&url, threadbare::Reconnect::new())?;
    /// let size = client.send_stream(&b"or a file"[..], threadbare::StreamOptions::binary())?;
    /// assert_eq!(size, 9);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`ReconnectingSender::send_stream`](crate::ReconnectingSender::send_stream).
    pub fn send_stream(&self, source: impl Read, options: StreamOptions) -> io::Result<u64> {
        self.sender.send_stream(source, options)
    }
}

/// What a writer keeps of its message.
#[derive(Debug)]
pub struct ReconnectingMessage {
    /// The connection that the message belongs to, from its first part on.
    connection: Option<(Peer, PeerMessage)>,
    deadline: Option<Instant>,
}

impl MessageWriter<ReconnectingSender> {
    /// Until when a write waits for a connection, and for room at it. Default: `None`, without an end.
    ///
    /// ```
    /// use std::io::Write;
    /// use std::time::{Duration, Instant};
    /// use threadbare::{ReconnectingSender, StreamOptions};
    ///
    /// fn send_picture(sender: &ReconnectingSender, picture: &[u8]) -> std::io::Result<()> {
    ///     let mut writer = sender.writer(StreamOptions::binary());
    ///     writer.set_deadline(Instant::now() + Duration::from_secs(20)); // for all of it
    ///     writer.write_all(picture)?;
    ///     writer.finish()
    /// }
    /// ```
    pub fn set_deadline(&mut self, deadline: impl Into<Option<Instant>>) {
        self.message_mut().deadline = deadline.into();
    }
}

impl Carrier for ReconnectingSender {
    type Message = ReconnectingMessage;

    fn send_part(
        &mut self,
        message: &mut ReconnectingMessage,
        payload: &mut Vec<u8>,
        last: Last,
        options: &StreamOptions,
    ) -> io::Result<()> {
        let ReconnectingMessage { connection, deadline } = message;
        loop {
            let (peer, part) = match connection {
                Some(begun) => begun,
                None => {
                    let peer = self.connection(*deadline)?;
                    let part = PeerMessage::new(&peer, options);
                    connection.insert((peer, part))
                }
            };
            part.deadline = *deadline;
            match peer.send_part(part, payload, last, options) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    if part.has_begun() {
                        return Err(lost());
                    }
                    // Nothing was sent, and the message waits for the next connection.
                    self.shared.lock().link.leave(peer);
                    *connection = None;
                }
                sent => return sent,
            }
        }
    }

    fn flush_parts(&mut self, message: &mut ReconnectingMessage) -> io::Result<()> {
        match &mut message.connection {
            Some((peer, part)) => peer.flush_parts(part).map_err(|_| lost()),
            None => Ok(()),
        }
    }

    fn fail_message(&mut self, message: &mut ReconnectingMessage) {
        if let Some((peer, part)) = &mut message.connection {
            peer.fail_message(part);
        }
    }
}

fn lost() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionReset,
        "the connection was lost inside the message, which has to begin anew on the next one",
    )
}
