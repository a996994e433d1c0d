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
//! let handle = server.handle();
//! # mod ctrlc { pub fn set_handler(_: impl FnMut() + Send + 'static) -> Result<(), std::convert::Infallible> { Ok(()) } }
//! // With the feature `termination` of the crate `ctrlc` it is called on SIGTERM too.
//! ctrlc::set_handler(move || println!("{}", handle.drain(Duration::from_secs(30)))).expect("no other handler");
//! server.join();
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! * The listeners are closed at once, so that new clients come to the successor: by a listener that both processes have
//!   ([A restart without a gap](super::recipes#a-restart-without-a-gap)), or by a load balancer. Handshakes that are under way are
//!   completed.
//! * Each connection has its turn at a random time. Of those that are idle the one that has been silent for longest is first; a
//!   connection with a message under way, or with output that waits, is looked at again later.
//! * A connection is closed behind what was sent to it. What its client sends in the moment of the close is not answered: a client
//!   sends again what had no answer.
//! * The application is told when the drain begins, by `on_drain` or [`Event::Drain`](crate::Event::Drain), with the time of the
//!   connection's turn. It may close the connection itself, at a better moment. With events, a thread must
//!   receive them while another one waits in `drain`.
//! * At the deadline what is left is reset. The [report](crate::DrainReport) says how each connection ended, and how many bytes were
//!   not sent.
//!
//! **How long?** The clients come back over the time of the drain, less a quarter of it or
//! [`close_timeout`](crate::Config::close_timeout). Ten thousand connections in 30 s are 400 handshakes a second for
//! those that take them over. The service manager must wait longer than the deadline: `TimeoutStopSec` of systemd and
//! `terminationGracePeriodSeconds` of Kubernetes are 90 s and 30 s by default. There, have the balancer stop sending new clients
//! before the drain closes the listeners, as with a `preStop` hook that waits for some seconds.
//!
//! # Clients
//!
//! A [`ReconnectingClient`](crate::ReconnectingClient) comes back after 1012, as after 1001, with its usual delay, which is random.
//! The script of a page does the same: after a close it waits for a random time, at most a second at first, and connects
//! again. [`guide::topics`](super::topics#history) shows how a client says where it was, so that it
//! misses nothing that was published meanwhile.
//!
//! # The example
//!
//! The example `restart` replaces itself on SIGHUP: the new process has the same listener, and the old one stops accepting, gives its
//! clients some time to leave (`--drain SECS`), and then closes those that are left, one after the other (`--spread SECS`).
