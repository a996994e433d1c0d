//! Sending a message in parts from any thread but a worker's.

use std::io::{self, Read};
use std::time::Instant;

use crate::config::SlowConsumer;
use crate::config::stream_options::StreamOptions;
use crate::error::ControlError;
use crate::protocol::Last;
use crate::transport::message_writer::{Carrier, MessageWriter, refused};
use crate::worker::handle::outgoing_message::OutgoingMessage;
use crate::worker::handle::peer::Peer;
use crate::worker::handle::source_task::SourceTask;
use crate::worker::handle::stream_outcome::{OnEnd, StreamOutcome};

impl Peer {
    /// Begins a message that is written in parts, so that it may have any size. From its first part to its last, what others
    /// send waits behind it, and counts as queued: beyond
    /// [`Config::max_write_buffer_size`](crate::Config::max_write_buffer_size) the policy of
    /// [`SlowConsumer`] decides, as behind a peer that reads slowly.
    ///
    /// A write that fills a part waits until the connection has room for it, whatever the policy. A peer that takes
    /// too little is disconnected after [`Config::write_timeout`](crate::Config::write_timeout), which ends the wait;
    /// [`set_deadline`](MessageWriter::set_deadline) ends it earlier. If another message is sent in parts, the first part
    /// waits for its end with the policy [`Block`](SlowConsumer::Block) or a deadline, and is refused otherwise.
    ///
    /// A thread that has begun a message should finish it before it sends anything else, which would wait for itself if the
    /// queue is full.
    ///
    /// ```
    /// use std::io::Write;
    /// use threadbare::{Peer, StreamOptions};
    ///
    /// fn send_rows(peer: &Peer, rows: impl Iterator<Item = String>) -> std::io::Result<()> {
    ///     let mut writer = peer.writer(StreamOptions::text());
    ///     for row in rows {
    ///         writeln!(writer, "{row}")?;
    ///     }
    ///     writer.finish()
    /// }
    /// ```
    ///
    /// # Errors
    /// There is none here. A write fails with
    /// * [`BrokenPipe`](io::ErrorKind::BrokenPipe) if the connection is closed or closing, or is lost;
    /// * [`TimedOut`](io::ErrorKind::TimedOut) if there is no room until the deadline;
    /// * [`WouldBlock`](io::ErrorKind::WouldBlock) if another message is sent in parts and the policy does not wait, or if
    ///   the calling thread is a worker's, which must never wait: there are [`Socket::send_stream`](crate::Socket::send_stream)
    ///   and [`start_stream`](Peer::start_stream) for it.
    ///
    /// After the last two nothing is lost, and the write can be repeated.
    ///
    /// The message belongs to this connection. Behind a client that reconnects,
    /// [`ReconnectingSender::writer`](crate::ReconnectingSender::writer) chooses the connection.
    ///
    /// A close of the application that comes meanwhile waits for the end of the message, as long as the peer takes
    /// [`min_write_progress`](crate::Config::min_write_progress) bytes of it in each `write_timeout`.
    #[must_use = "a message is sent by `finish`"]
    pub fn writer(&self, options: StreamOptions) -> MessageWriter<Peer> {
        let message = PeerMessage::new(self, &options);
        MessageWriter::new(self.clone(), message, options, self.shared.worker.config.fragment_size)
    }

    /// Sends a message that consists of what `source` has, in parts, and returns its size in bytes. The source is read on the
    /// calling thread, as the peer takes the message, and is never in memory as a whole.
    ///
    /// ```
    /// use std::fs::File;
    /// use threadbare::{Peer, StreamOptions};
    ///
    /// fn send_file(peer: &Peer, path: &str) -> std::io::Result<u64> {
    ///     peer.send_stream(File::open(path)?, StreamOptions::binary())
    /// }
    /// ```
    ///
    /// # Errors
    /// As for a write of [`writer`](Peer::writer), and that of the source. If a part was sent before, the message can not be
    /// completed, and the connection is failed with 1011.
    pub fn send_stream(&self, source: impl Read, options: StreamOptions) -> io::Result<u64> {
        self.writer(options).copy_from(source)
    }
}

impl Peer {
    /// Has a message sent that consists of what `source` has, in parts, and returns at once, on a worker's thread too. A
    /// thread of the library reads the source, a part at a time, when the connection has room for one. There are up to two
    /// such threads for a server, or for the clients of a pool, however many messages are under way: a source that waits for
    /// something else than a disk holds up the others, and is better read by a thread of its own with
    /// [`send_stream`](Peer::send_stream).
    ///
    /// What is sent afterwards follows the message. If the source fails, the connection is failed with 1011, and the error is
    /// logged at the level `debug`. When the connection ends, the source is dropped, if it is not being read just then.
    /// [`start_stream_then`](Peer::start_stream_then) tells the application how it ended.
    ///
    /// ```
    /// use std::fs::File;
    /// use threadbare::{Event, Peer, StreamOptions};
    ///
    /// fn on_event(event: Event) -> Result<(), Box<dyn std::error::Error>> {
    ///     if let Event::Message(peer, name) = event {
    ///         let file = File::open(format!("films/{}", name.as_text().unwrap_or("none")))?;
    ///         peer.start_stream(file, StreamOptions::binary())?;
    ///         peer.send("that was it")?; // behind the file
    ///     }
    ///     Ok(())
    /// }
    /// # let _ = on_event;
    /// ```
    ///
    /// # Errors
    /// The connection is closed or closing.
    pub fn start_stream(&self, source: impl Read + Send + 'static, options: StreamOptions) -> Result<(), ControlError> {
        self.start(Box::new(source), &options, None)
    }

    /// Has a message sent as [`start_stream`](Peer::start_stream) does, and calls `on_end` once it has ended, with how: exactly
    /// once, unless this returns an error.
    ///
    /// `on_end` is called when the source has been dropped, on the thread of the library that reads sources, and while it runs
    /// other sources wait. Where there is no such thread, at the end of the server or where the system starts none, it is
    /// called on a worker's thread, or before this returns. So it should not wait: a [`try_send`](Peer::try_send) or a
    /// message to another thread fits.
    ///
    /// ```
    /// use std::fs::File;
    /// use threadbare::{Peer, StreamOptions, StreamOutcome};
    ///
    /// fn send_report(peer: &Peer, path: String) -> Result<(), Box<dyn std::error::Error>> {
    ///     let file = File::open(&path)?;
    ///     peer.start_stream_then(file, StreamOptions::binary(), move |outcome| match outcome {
    ///         StreamOutcome::Sent(_) => drop(std::fs::remove_file(path)), // it is not needed any more
    ///         outcome => eprintln!("{path} was not sent: {outcome:?}"),
    ///     })?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// The connection is closed or closing.
    pub fn start_stream_then(
        &self,
        source: impl Read + Send + 'static,
        options: StreamOptions,
        on_end: impl FnOnce(StreamOutcome) + Send + 'static,
    ) -> Result<(), ControlError> {
        self.start(Box::new(source), &options, Some(Box::new(on_end)))
    }

    fn start(
        &self,
        source: Box<dyn Read + Send>,
        options: &StreamOptions,
        on_end: Option<OnEnd>,
    ) -> Result<(), ControlError> {
        let mut message = OutgoingMessage::new(self.clone(), options);
        message.enter(true);
        if !message.post(&mut Vec::new(), Last::No) {
            return Err(ControlError::Disconnected);
        }
        self.shared.worker.streams.submit(SourceTask::new(message, source, options, on_end));
        Ok(())
    }
}

/// What a writer keeps of its message.
#[derive(Debug)]
pub struct PeerMessage {
    outgoing: OutgoingMessage,
    pub(crate) deadline: Option<Instant>,
}

impl PeerMessage {
    pub(crate) fn new(peer: &Peer, options: &StreamOptions) -> PeerMessage {
        PeerMessage { outgoing: OutgoingMessage::new(peer.clone(), options), deadline: None }
    }

    /// Whether a part was posted.
    pub(crate) fn has_begun(&self) -> bool {
        self.outgoing.has_begun()
    }
}

impl MessageWriter<Peer> {
    /// Until when a write waits for room at the connection. Default: `None`, as long as the peer takes enough.
    ///
    /// ```
    /// use std::io::Write;
    /// use std::time::{Duration, Instant};
    /// use threadbare::{Peer, StreamOptions};
    ///
    /// fn send_picture(peer: &Peer, picture: &[u8]) -> std::io::Result<()> {
    ///     let mut writer = peer.writer(StreamOptions::binary());
    ///     writer.set_deadline(Instant::now() + Duration::from_secs(20)); // for all of it
    ///     writer.write_all(picture)?;
    ///     writer.finish()
    /// }
    /// ```
    pub fn set_deadline(&mut self, deadline: impl Into<Option<Instant>>) {
        self.message_mut().deadline = deadline.into();
    }
}

impl Carrier for Peer {
    type Message = PeerMessage;

    fn send_part(
        &mut self,
        message: &mut PeerMessage,
        payload: &mut Vec<u8>,
        last: Last,
        _: &StreamOptions,
    ) -> io::Result<()> {
        let PeerMessage { outgoing, deadline } = message;
        if !self.shared.worker.may_block() {
            return Err(refused("a worker does not wait: use Socket::send_stream or Peer::start_stream"));
        }
        let waits = deadline.is_some() || self.shared.policy() == SlowConsumer::Block;
        if !outgoing.enter(waits) {
            return Err(refused("another message is sent in parts"));
        }
        if !self.shared.wait_until(*deadline, || outgoing.is_ready() || outgoing.is_over()) {
            return Err(no_room_in_time());
        }
        if !outgoing.post(payload, last) {
            return Err(closed());
        }
        *payload = outgoing.take_buffer();
        Ok(())
    }

    fn flush_parts(&mut self, message: &mut PeerMessage) -> io::Result<()> {
        if message.outgoing.is_lost() { Err(closed()) } else { Ok(()) }
    }

    fn fail_message(&mut self, message: &mut PeerMessage) {
        message.outgoing.give_up();
    }
}

pub(crate) fn no_room_in_time() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no room for the message until the deadline")
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the connection is closed or closing")
}
