//! Sending a message in parts from a handler.

use std::io::Read;
use std::sync::Arc;

use crate::config::stream_options::StreamOptions;
use crate::protocol::Last;
use crate::protocol::deflate::Compression;
use crate::protocol::fragment::FragmentRef;
use crate::protocol::frame::Opcode;
use crate::transport::held::Part;
use crate::transport::parts_state::PartsState;
use crate::worker::connection::parts::PartOutcome;
use crate::worker::delivery::socket::Socket;
use crate::worker::handle::outgoing_message::OutgoingMessage;
use crate::worker::handle::source_task::SourceTask;
use crate::worker::handle::stream_outcome::{OnEnd, StreamOutcome};

impl Socket<'_> {
    /// Has a message sent that consists of what `source` has, in parts, and returns at once; `false` if the connection is
    /// closed or closing. What is sent afterwards follows the message. The source is read by a thread of the library, as
    /// by [`Peer::start_stream`](crate::Peer::start_stream), which says what happens if it fails.
    /// [`send_stream_then`](Socket::send_stream_then) tells the application how the message ended.
    ///
    /// ```no_run
    /// use std::fs::File;
    /// use threadbare::{Handler, MessageRef, Server, Socket, StreamOptions};
    ///
    /// struct Films;
    ///
    /// impl Handler for Films {
    ///     fn on_message(&mut self, socket: &mut Socket<'_>, _: MessageRef<'_>) {
    ///         match File::open("film.mp4") {
    ///             Ok(film) => drop(socket.send_stream(film, StreamOptions::binary())), // false: the client has left
    ///             Err(error) => drop(socket.send(error.to_string())),
    ///         }
    ///     }
    /// }
    ///
    /// Server::builder().serve("127.0.0.1:8080", |_request| Films)?.join();
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    pub fn send_stream(&mut self, source: impl Read + Send + 'static, options: StreamOptions) -> bool {
        self.start_stream(Box::new(source), &options, None)
    }

    /// Has a message sent as [`send_stream`](Socket::send_stream) does, and calls `on_end` once it has ended, with how: exactly
    /// once, unless this returns `false`. [`Peer::start_stream_then`](crate::Peer::start_stream_then) says where it is called.
    ///
    /// ```
    /// use std::fs::File;
    /// use threadbare::{MessageRef, Socket, StreamOptions, StreamOutcome};
    ///
    /// fn on_message(socket: &mut Socket<'_>, _: MessageRef<'_>) {
    ///     let Ok(film) = File::open("film.mp4") else { return };
    ///     let peer = socket.peer();
    ///     socket.send_stream_then(film, StreamOptions::binary(), move |outcome| match outcome {
    ///         StreamOutcome::Sent(size) => println!("{} has {size} bytes", peer.addr()),
    ///         outcome => println!("{} has it not: {outcome:?}", peer.addr()),
    ///     });
    /// }
    /// ```
    pub fn send_stream_then(
        &mut self,
        source: impl Read + Send + 'static,
        options: StreamOptions,
        on_end: impl FnOnce(StreamOutcome) + Send + 'static,
    ) -> bool {
        self.start_stream(Box::new(source), &options, Some(Box::new(on_end)))
    }

    fn start_stream(&mut self, source: Box<dyn Read + Send>, options: &StreamOptions, on_end: Option<OnEnd>) -> bool {
        if self.active.handle_is_closed() || !self.active.conn.takes_messages() {
            return false;
        }
        let mut message = OutgoingMessage::new(self.peer(), options);
        // The message begins here, so that what the handler sends next follows it.
        let part = message.begin();
        if self.active.send_part(part) == PartOutcome::Failed {
            return false;
        }
        self.active.context.handle.streams.submit(SourceTask::new(message, source, options, on_end));
        true
    }

    /// Sends a fragment of a message, without the rest of it; `false` if the connection is closed or closing, or if this is not
    /// the first fragment and none was sent before. A message begins with the fragment that is the first, and ends with the one
    /// that is the last. What is sent in between waits for the end, and so does a close; pings and pongs do not.
    ///
    /// As any answer, it is queued whatever the size of the output. The worker reads no more from the connection while
    /// [`Config::max_write_buffer_size`](crate::Config::max_write_buffer_size) bytes wait, so that a handler which answers
    /// fragments with fragments needs little memory. A large fragment that was received in this callback is not copied:
    ///
    /// ```no_run
    /// use threadbare::{Config, FragmentRef, Handler, MessageRef, Receive, Server, Socket};
    ///
    /// struct Echo;
    ///
    /// impl Handler for Echo {
    ///     fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {} // fragments come instead
    ///
    ///     fn on_fragment(&mut self, socket: &mut Socket<'_>, fragment: FragmentRef<'_>) {
    ///         socket.send_fragment(fragment);
    ///     }
    /// }
    ///
    /// let config = Config::default().receive(Receive::Fragments { max_size: None });
    /// Server::builder().config(config).serve("127.0.0.1:8080", |_request| Echo)?.join();
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    pub fn send_fragment(&mut self, fragment: FragmentRef<'_>) -> bool {
        let begun = self.active.conn.endpoint.message_of_handler().cloned();
        let is_closed = begun.is_none() && (self.active.handle_is_closed() || !self.active.conn.takes_messages());
        if is_closed || begun.is_some() == fragment.is_first() {
            return false;
        }
        let opcode = if fragment.is_text() { Opcode::Text } else { Opcode::Binary };
        let message = begun.unwrap_or_else(|| Arc::new(PartsState::of_handler()));
        let last = if fragment.is_last() { Last::Yes } else { Last::No };
        let part = Part { message, opcode, payload: fragment.payload, last, compression: Compression::Auto };
        self.active.send_part(part) != PartOutcome::Failed
    }
}
