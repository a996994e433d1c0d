//! Handing a server over to another process: its listeners, and every connection that can go.
//!
//! The old process listens on a Unix socket, the new one connects to it. Until the new one has said `Committed`, the old one
//! has everything and can go on; it says so only once it holds everything. So nothing is served by two, and what ends
//! before that leaves the old process as it was. docs/handover.md has the reasons.

#[cfg(any(test, fuzzing))]
mod any_message;
mod channel;
mod giver;
mod message;
mod succession;
mod taker;
#[cfg(test)]
mod tests;
mod topics;

use std::path::Path;
use std::time::Duration;

#[cfg(fuzzing)]
pub(crate) use any_message::parse;
pub(super) use succession::{Succession, clock_reach};

use crate::server::builder::ServerBuilder;

/// The version of what the two processes say to each other. Another one is refused.
const PROTOCOL_VERSION: u16 = 3;

/// What the new process says first, so that whatever else connects is refused.
const MAGIC: &[u8; 8] = b"tb-hand\n";

/// The other process says who it is within 5 s. Longer lets a process that does nothing keep the next one waiting.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);

/// The new process is ready within 60 s: it may have to load something, and a bridge has to connect. Meanwhile the old one
/// serves.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Opening handshakes that are under way have 2 s to end before those connections stay with the old process. Longer delays
/// the hand-over for a client that is slow; shorter leaves more of them.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// The connections are handed over within 10 s, or the old process goes on: meanwhile they stand still. Longer keeps clients
/// waiting for a process that is stuck; shorter may give up with very many connections.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(10);

/// The old process lets go of the connections once the new one serves them all, or after 200 ms: both would need the processors at
/// the same time, and clients wait for the new one. Longer has those that stay stand still for longer.
const LET_GO_TIMEOUT: Duration = Duration::from_millis(200);

/// The old process does not end before the new one serves, or 10 s have passed. Longer keeps a process that does nothing; shorter ends
/// it where the new one is held up, and a service manager may take that for the end of the service.
const SERVICE_TIMEOUT: Duration = Duration::from_secs(10);

/// The old process stays for 500 ms once the new one serves, which then has told a service manager which process is the main one. Longer
/// keeps two processes for longer; shorter may end the service.
const NOTICE_TIME: Duration = Duration::from_millis(500);

/// The old process has 100 ms to say why it hands nothing over. Longer has connections stand still if the new process does not read.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(100);

/// What was published last in the old process arrives within 2 s after it has let go, or the new one serves without it. Longer has
/// clients wait for a process that is stuck; shorter loses messages on a busy machine.
const REST_TIMEOUT: Duration = Duration::from_secs(2);

/// A server with more listeners can not be handed over: their descriptors are sent in one message.
const MAX_LISTENERS: usize = 64;

/// What to do for a process that can not take all descriptors.
const MORE_DESCRIPTORS: &str = "raise the limit of open files (ulimit -n, or LimitNOFILE)";

impl ServerBuilder {
    /// Has the server take over from the one that runs at `path`, if there is one, and hand itself over to the next that asks
    /// there: its listeners, and every established connection, without a client noticing. `path` is a Unix socket, which only
    /// processes of the same user may connect to (mode 0600, and checked). For servers with threads of their own, on Linux.
    ///
    /// What a connection was in the middle of goes on: half a frame, a message in fragments, output that waits for a slow
    /// reader, subscriptions to topics. Its handler says what it needs to go on with ([`Handler::hand_over`](crate::Handler::hand_over));
    /// the maker of the handlers finds it in [`Request::handed_over`](crate::Request::handed_over). Where events are received,
    /// [`Peer::on_hand_over`](crate::Peer::on_hand_over) says it, and the other process receives an
    /// [`Event::Open`](crate::Event::Open) with it.
    ///
    /// Connections over TLS, those for which nothing is given, and those that send a message in parts stay behind. The old server
    /// [drains](crate::ServerHandle::drain) them with 1012 (Service Restart) once the new one serves, for up to
    /// [`drop_timeout`](crate::Config::drop_timeout), and ends: [`Server::join`](crate::Server::join) returns.
    ///
    /// Of the listeners that are given to `serve` or `bind`, the settings are used; the sockets are those of the old server, in the
    /// same order.
    ///
    /// ```no_run
    /// use threadbare::{Handler, MessageRef, Server, Socket};
    ///
    /// struct Echo;
    ///
    /// impl Handler for Echo {
    ///     fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
    ///         socket.send(message);
    ///     }
    ///
    ///     fn hand_over(&mut self) -> Option<Vec<u8>> {
    ///         Some(Vec::new()) // it has no state
    ///     }
    /// }
    ///
    /// // The first process listens. The next one takes over, and this one ends.
    /// let server = Server::builder().hand_over("/run/app/hand-over.sock").serve("0.0.0.0:8080", |_request| Echo)?;
    /// server.join();
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// [`serve`](ServerBuilder::serve) and [`bind`](ServerBuilder::bind) return one if the hand-over fails. The old server then
    /// goes on with everything. With [`bind_inline`](ServerBuilder::bind_inline) it is a setting that could not work.
    #[must_use]
    pub fn hand_over(mut self, path: impl AsRef<Path>) -> ServerBuilder {
        self.hand_over = Some(path.as_ref().to_owned());
        self
    }
}
