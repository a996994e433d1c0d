//! Sending a message in parts from a handler.

use std::io::Read;

use crate::config::stream_options::StreamOptions;
use crate::worker::connection::parts::PartOutcome;
use crate::worker::delivery::socket::Socket;
use crate::worker::handle::outgoing_message::OutgoingMessage;
use crate::worker::handle::source_task::SourceTask;

impl Socket<'_> {
    /// Has a message sent that consists of what `source` has, in parts, and returns at once; `false` if the connection is
    /// closed or closing. What is sent afterwards follows the message. The source is read by a thread of the library, as
    /// by [`Peer::start_stream`](crate::Peer::start_stream), which says what happens if it fails.
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
        if self.active.handle_is_closed() || !self.active.conn.takes_messages() {
            return false;
        }
        let mut message = OutgoingMessage::new(self.peer(), &options);
        // The message begins here, so that what the handler sends next follows it.
        let part = message.begin();
        if self.active.send_part(part) == PartOutcome::Failed {
            return false;
        }
        self.active.context.handle.streams.submit(SourceTask::new(message, Box::new(source), &options));
        true
    }
}
