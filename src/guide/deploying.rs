//! Replacing a server that has connections: what clients notice, and how to have them notice little.
//!
//! A WebSocket lives as long as the process that has it. So most deployments close connections, and what counts is that no client
//! is refused, that none loses a message without being told, and that they do not all come back in the same second. Three calls
//! end a server:
//!
//! | | connections | for |
//! | --- | --- | --- |
//! | [`drain`](crate::ServerHandle::drain) | are closed with 1012, one after the other, until a deadline | a server that others replace |
//! | [`stop_accepting`](crate::ServerHandle::stop_accepting) | go on until their clients leave | clients that leave soon by themselves |
//! | [`shutdown`](crate::ServerHandle::shutdown) | are closed with 1001, all at once | the end of the service, and tests |
//!
//! With the feature `handover`, on Linux, a new process can go on with the connections instead, so that no client notices: see the
//! page `hand_over` of this guide.
//!
//! # Drain
//!
//! ```no_run
//! use std::sync::mpsc;
//! use std::time::Duration;
//! use threadbare::{Draining, Handler, MessageRef, Server, Socket};
//!
//! struct Chat;
//!
//! impl Handler for Chat {
//!     fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
//!         socket.send(message);
//!     }
//!
//!     // Optional: what is sent here arrives before the close.
//!     fn on_drain(&mut self, socket: &mut Socket<'_>, _draining: Draining) {
//!         socket.send("the server restarts soon");
//!     }
//! }
//!
//! let server = Server::builder().serve("127.0.0.1:8080", |_request| Chat)?;
//! let (signal, signalled) = mpsc::channel();
//! # mod ctrlc { pub fn set_handler(_: impl FnMut() + Send + 'static) -> Result<(), std::convert::Infallible> { Ok(()) } }
//! // With the feature `termination` of the crate `ctrlc`, the closure is called on SIGTERM too.
//! ctrlc::set_handler(move || signal.send(()).unwrap_or_default()).expect("no other handler"); // an error: it drains already
//! let _ = signalled.recv(); // waits for the signal
//! println!("{}", server.drain(Duration::from_secs(30))); // on the main thread, and then the program ends
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! The main thread calls `drain` here. If the signal's thread called it, and the main thread waited in
//! [`join`](crate::Server::join), the program could end before the report is printed.
//!
//! * The server closes its listeners at once. A client that connects then must reach the new server: by a listener that both
//!   processes have ([A restart without a gap](super::recipes#a-restart-without-a-gap)), or by a load balancer. If there is neither,
//!   the system refuses it. Handshakes that are under way are completed.
//! * Each connection has its turn at a random time. Of those that are idle the one that has been silent for longest is first; a
//!   connection with a message under way, or with output that waits, is looked at again later.
//! * A connection is closed after everything that was sent to it. What its client sends in the moment of the close is not
//!   answered: a client sends again what had no answer.
//! * The application is told when the drain begins, by `on_drain` or [`Event::Drain`](crate::Event::Drain), with the time of the
//!   connection's turn. It may close the connection itself, at a better moment. With events, a thread must
//!   receive them while another one waits in `drain`.
//! * At the deadline the connections that are left are reset.
//!
//! The [report](crate::DrainReport) counts how the connections ended, and the bytes that were not sent. Its text has these words:
//!
//! | | connections |
//! | --- | --- |
//! | had left | that ended before their turn |
//! | were closed idle | that were closed at their turn, with nothing under way |
//! | behind what was under way | that had a message or output under way, and were closed after it |
//! | did not answer | whose client sent no close frame in `close_timeout`, or whose TCP connection was lost |
//! | were cut | that were reset at the deadline |
//!
//! **How long?** The last turn is some time before the deadline, so that this client can answer too: a quarter of the drain,
//! or [`close_timeout`](crate::Config::close_timeout) (5 s) if that is less. The clients come back in the time before the last turn.
//! A drain of 30 s has 25 s of turns: ten thousand connections are then 400 handshakes a second for the new server. The service
//! manager must wait longer than the deadline: `TimeoutStopSec` of systemd and
//! `terminationGracePeriodSeconds` of Kubernetes are 90 s and 30 s by default. There, have the balancer stop sending new clients
//! before the drain closes the listeners, as with a `preStop` hook that waits for some seconds.
//!
//! # Clients
//!
//! A [`ReconnectingClient`](crate::ReconnectingClient) connects again after 1012, as after 1001. Before that it waits for
//! a random time, as after any lost connection ([`clients`](super::clients#a-client-that-reconnects)). Nothing need be set. The
//! script of a page has to do the same: after a close it waits for a random time, at most a second at first, and connects again.
//! [`guide::topics`](super::topics#history) shows how a client says where it was, so that it misses nothing that was published
//! meanwhile.
//!
//! # The example
//!
//! The example `restart` replaces itself on SIGHUP: the new process has the same listener, and the old one stops accepting, gives its
//! clients some time to leave (`--drain SECS`), and then closes those that are left, one after the other (`--spread SECS`). With
//! the feature `handover` and `--hand-over PATH`, the new process takes over the connections instead.
