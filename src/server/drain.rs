//! Ending a server so that its clients hardly notice: its connections are closed one after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::protocol::close::{CloseCode, CloseFrame, InvalidClose};
use crate::server::Server;
use crate::server::control::ServerHandle;
use crate::server::reactor::command::ReactorCommand;
use crate::transport::clock::deadline_after;
use crate::worker::handle::draining::{DrainOrder, DrainReport};
use crate::worker::handle::inbox::Command;

/// How a server is drained, for [`ServerHandle::drain`]: for how long, and what the connections are closed with. A [`Duration`]
/// converts into it.
///
/// ```
/// use std::time::Duration;
/// use threadbare::{CloseCode, Drain, Server};
///
/// let server = Server::bind("127.0.0.1:0")?;
/// server.drain(Drain::within(Duration::from_secs(30)).close(CloseCode(4001), "the game moves to another server")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    timeout: Duration,
    frame: CloseFrame,
}

impl Drain {
    /// A drain that takes this long at most. Connections are closed with 1012, the code of a service that restarts.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Drain;
    ///
    /// assert_eq!(Drain::within(Duration::from_secs(30)), Drain::from(Duration::from_secs(30)));
    /// ```
    #[must_use]
    pub fn within(timeout: Duration) -> Drain {
        Drain { timeout, frame: CloseFrame { code: CloseCode::SERVICE_RESTART, reason: String::new() } }
    }

    /// Sets the code and the reason that the connections are closed with. Default: 1012, without a reason. A
    /// [`ReconnectingClient`](crate::ReconnectingClient) comes back after 1001, 1005 and 1011 to 1014, and after a code of the
    /// application's own but 3000 and 3003.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::{CloseCode, Drain, InvalidClose};
    ///
    /// let goodbye = Drain::within(Duration::from_secs(30)).close(CloseCode::GOING_AWAY, "this service ends")?;
    /// # Ok::<(), InvalidClose>(())
    /// ```
    ///
    /// # Errors
    /// The code must not be sent in a frame, or the reason has more than 123 bytes.
    pub fn close(self, code: CloseCode, reason: impl Into<String>) -> Result<Drain, InvalidClose> {
        Ok(Drain { frame: CloseFrame::new(code, reason)?, ..self })
    }
}

impl From<Duration> for Drain {
    fn from(timeout: Duration) -> Drain {
        Drain::within(timeout)
    }
}

impl ServerHandle {
    /// Ends the server before a deadline so that its clients do not all come back at once: instead of closing all connections
    /// at the same moment, as [`shutdown`](ServerHandle::shutdown) does, it closes one after the other, with 1012.
    ///
    /// * The listeners are closed, as by [`stop_accepting`](ServerHandle::stop_accepting): a successor that has them too, or a
    ///   load balancer, takes over. Opening handshakes that are under way are completed.
    /// * The application is told, for each connection: by [`Handler::on_drain`](crate::Handler::on_drain), or by
    ///   [`Event::Drain`](crate::Event::Drain). The connections go on as before.
    /// * Each connection has a turn, at a random time in its part of what is left until the deadline, less a quarter of the time or
    ///   [`close_timeout`](crate::Config::close_timeout), whichever is less: peers need some time to answer. Those that are
    ///   idle are first, and of these the one that has been silent for longest.
    /// * At its turn a connection is closed behind the output that is queued. If it is busy, it gets a later turn: while a message is
    ///   half received or half sent, while output waits, while the application has not come to its events or is
    ///   handling them. At the last turn it is closed all the same.
    /// * The server ends when all connections have, or at the deadline, when those that are left are reset.
    ///
    /// It waits for that, and at most a second longer than the deadline, and returns how the connections ended. A server with
    /// events needs another thread that receives them meanwhile. In a callback of the server, and on the thread that runs an
    /// [`EventLoop`](crate::EventLoop), it does not wait, and the report is empty; then
    /// [`ShutdownReport::drained`](crate::ShutdownReport::drained) has it, at the end. Calling it again waits for the same end, or
    /// for an earlier one if the deadline is earlier. A shutdown closes what is left at once.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::{Client, CloseCode, MessageRef, Server, Socket};
    ///
    /// let server = Server::builder().serve("127.0.0.1:0", |_request| {
    ///     |socket: &mut Socket<'_>, message: MessageRef<'_>| drop(socket.send(message)) // `false` if it is closing
    /// })?;
    /// let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// let drain = std::thread::spawn(move || server.drain(Duration::from_secs(2)));
    /// assert_eq!(client.recv()?, None);
    /// assert!(client.close_reason().is_some_and(|reason| reason.code == CloseCode::SERVICE_RESTART));
    /// assert_eq!(drain.join().unwrap().idle, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn drain(&self, drain: impl Into<Drain>) -> DrainReport {
        let Drain { timeout, frame } = drain.into();
        let begun = Instant::now();
        let deadline = deadline_after(begun, timeout);
        let last_turn = deadline - self.control.close_timeout.min(timeout / 4);
        let order = Arc::new(DrainOrder { frame, begun, last_turn, deadline });
        if !self.control.reactor.send(ReactorCommand::Drain(order.clone())) {
            // The listeners are closed. This deadline may be earlier.
            for inbox in &*self.control.publisher.inboxes() {
                inbox.send(Command::Drain(order.clone()));
            }
        }
        let report = self.wait_for_end(deadline);
        DrainReport { failed: report.failed, ..report.drained.unwrap_or_default() }
    }
}

impl Server {
    /// Ends the server, one connection after the other; see [`ServerHandle::drain`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::{MessageRef, Server, Socket};
    ///
    /// let server = Server::builder().serve("127.0.0.1:0", |_request| {
    ///     |socket: &mut Socket<'_>, message: MessageRef<'_>| drop(socket.send(message)) // `false` if it is closing
    /// })?;
    /// println!("{}", server.drain(Duration::from_secs(30)));
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    pub fn drain(&self, drain: impl Into<Drain>) -> DrainReport {
        self.handle.drain(drain)
    }
}
