//! Deploying without disconnecting anyone: a new process takes over the connections of the old one.
//!
//! With the feature `handover`, on Linux, a server can be replaced by a new process while its clients stay connected. They see a
//! pause, and nothing else: half of the clients one of 30 ms or less where there are 1,000, and of 200 ms where there are 10,000, on
//! a machine of two cores that runs the clients as well, and other programs.
//!
//! [`ServerBuilder::hand_over`](crate::ServerBuilder::hand_over) names a Unix socket. The first process finds nobody there,
//! and starts as usual. Each later one takes over from the one before it, which then ends:
//!
//! ```no_run
//! use std::sync::mpsc;
//! use std::thread;
//! use std::time::Duration;
//! use threadbare::{Handler, MessageRef, Request, Server, Socket};
//!
//! /// A client of a game, and its score.
//! struct Player {
//!     name: String,
//!     score: u64,
//! }
//!
//! impl Player {
//!     fn new(request: &Request) -> Player {
//!         let name = request.query().unwrap_or("nobody").to_owned(); // the client's own request, as it was
//!         let score = match request.handed_over() {
//!             Some([1, score @ ..]) => score.try_into().map_or(0, u64::from_be_bytes), // from the process before
//!             Some(_) => 0, // a version that this program does not know
//!             None => 0,    // a new client
//!         };
//!         Player { name, score }
//!     }
//! }
//!
//! impl Handler for Player {
//!     fn on_open(&mut self, socket: &mut Socket<'_>) {
//!         socket.send(format!("welcome, {}", self.name)); // a new client only
//!     }
//!
//!     fn on_taken_over(&mut self, socket: &mut Socket<'_>) {
//!         log::debug!("{} plays on at {}", self.name, socket.addr()); // in place of `on_open`
//!     }
//!
//!     fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
//!         self.score += message.len() as u64;
//!         socket.send(self.score.to_string());
//!     }
//!
//!     fn hand_over(&mut self) -> Option<Vec<u8>> {
//!         Some([&[1][..], &self.score.to_be_bytes()].concat()) // version 1, and the score
//!     }
//! }
//!
//! # mod ctrlc { pub fn set_handler(_: impl FnMut() + Send + 'static) -> Result<(), std::convert::Infallible> { Ok(()) } }
//! // What the library logs says how a hand-over went: install a logger, such as `env_logger`.
//! let server = Server::builder().hand_over("/run/game/hand-over.sock").serve("0.0.0.0:8080", Player::new)?;
//!
//! let (end, ended) = mpsc::channel();
//! let (signal, handle) = (end.clone(), server.handle());
//! // With the feature `termination` of the crate `ctrlc`, the closure is called on SIGTERM too.
//! ctrlc::set_handler(move || signal.send(()).unwrap_or_default()).expect("no other handler"); // an error: it ends already
//! thread::spawn(move || {
//!     handle.join(); // the next process has taken over, and the connections that stayed are closed
//!     end.send(())
//! });
//! let _ = ended.recv();
//! println!("{}", server.drain(Duration::from_secs(30))); // behind a hand-over there is nothing left to close
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! To deploy, install the new program and start it beside the old one. If it can not take over,
//! [`serve`](crate::ServerBuilder::serve) returns an error in the new process, and the old process goes on with every connection.
//! The error's [`source`](std::error::Error::source) has the reason, which its text alone has not. The old process also goes on if
//! the new one is killed while it takes over. A second new process that is started meanwhile is refused.
//!
//! # What the system has to have
//!
//! * **The directory of the socket exists**, and both processes run as the same user. No other user may connect to the socket. A
//!   socket that a killed process has left there does no harm. If the file is removed, nobody can take over: the new process then
//!   finds that another has its address.
//! * **The old process calls `hand_over` too, with the same path.** The first deployment of this feature is therefore an ordinary
//!   restart: a program without it keeps the address.
//! * **Both processes have the same listeners**, in the same order, and at most 64. The new process goes on with those of the old
//!   one: if it asks for another address, a line in the log says that this was ignored.
//! * **The new process may open as many files as the old one**, before it calls `serve`: one for each connection, and some more
//!   (`ulimit -n`, or `LimitNOFILE` of systemd). It takes nothing over if fewer than 32 are left then.
//! * **The programs come from versions of the library that hand over to each other**, and are built with the same features: a
//!   program without `deflate` can not go on with compressed connections. If they do not, `serve` returns an error, and an ordinary
//!   restart is left: see [`deploying`](super::deploying).
//!
//! The service still has to end when it is stopped, as in the program above. A stop that comes while the connections are handed
//! over is of those that stay: the others are the new process's. One that comes before, while the new process starts, ends the old
//! one, and `serve` returns an error in the new one. So let a new process serve before anything stops the old one.
//!
//! # What the application has to do
//!
//! * **Give the state of each connection.** [`Handler::hand_over`](crate::Handler::hand_over) returns it as bytes, of a format of the
//!   application's own. The next version of the program has to read what this one writes: begin with a version. If a handler
//!   returns `None`, its connection stays in the old process, which closes it with 1012 (Service Restart). A handler that does not
//!   implement `hand_over` returns `None`. A handler without a state returns `Some(Vec::new())`. If it panics, the connection is
//!   closed with 1011. Where events are received,
//!   [`Peer::on_hand_over`](crate::Peer::on_hand_over) sets what returns the state, and [`Event::Open`](crate::Event::Open) has it
//!   in its request. All events are handled before, up to 2 s.
//! * **Do not change the state in `hand_over`.** If the hand-over fails behind it, the connection goes on here, and the next one asks
//!   again.
//! * **Be quick.** Clients wait while `hand_over` is called for each connection, and while the new process makes the handlers, one after
//!   the other. If both take more than 10 s, nothing is handed over, and the call under way is the last.
//! * **Only make the handler where it is made.** The handlers are made before the old process lets go of the connections. If the
//!   hand-over fails then, they are dropped without a callback. What others are to see of a connection belongs
//!   into [`on_taken_over`](crate::Handler::on_taken_over). If the closure that makes them panics for a connection, that is closed
//!   with 1011.
//! * **Do not greet twice.** [`on_open`](crate::Handler::on_open) is called for new connections only,
//!   [`on_taken_over`](crate::Handler::on_taken_over) for those of the process before.
//! * **Move what connections share.** From the moment when `hand_over` is called for a connection, its [`Peer`](crate::Peer) hands each
//!   message back as if the queue were full ([`SendError::Full`](crate::SendError::Full)), for some milliseconds: if the hand-over
//!   fails, it takes messages again, and if not, it says that the connection is gone. What other threads have sent before arrives. So a
//!   thread that counts what it sends, under a lock that `hand_over` takes too, gives a count that agrees with what the client gets.
//!   A `close` or `abort` in these milliseconds is carried out if the connection stays here, and lost if it goes: it is the new
//!   process's then. A ping or a subscription is refused. If the application keeps a list of its connections, the new process fills it
//!   in `on_taken_over`. State that belongs to no connection is lost with the process, if it is not in a database. Neither does
//!   [`broadcast`](crate::ServerHandle::broadcast) reach connections that are being handed over: a topic does.
//! * **Put into the bytes what the handshake has found out**, such as the user. [`Accept::data`](crate::Accept::data) does not travel.
//! * **Topics need little.** Connections stay subscribed, and miss nothing. Histories and positions go on: a client that comes back with
//!   a position that the old process gave out gets what it missed. Take a [`Topic`](crate::Topic) that you hold again within a minute: until
//!   then it does not end. From the hand-over on, what is published in the old process is refused
//!   ([`Published::position`](crate::Published::position) is `None`): publish it in the new one.
//! * **A bridge needs nothing.** That of the new process is connected before the old one lets go, or the new one goes on without it after
//!   3 s, and what is missing is told as after an outage.
//!
//! # What does not travel
//!
//! Connections over TLS stay behind, and are closed with 1012: let a proxy do TLS if they are to stay. So do those that send a
//! message in parts at that moment. [Event loops](crate::EventLoop) can not be handed over: `bind_inline` returns an error.
//!
//! [`Accept::data`](crate::Accept::data) and the counts of [`stats`](crate::Server::stats) do not travel either. The counts begin at 0.
//!
//! The page `docs/handover.md` of the repository says what each process does, step by step, and why.
//!
//! # With systemd
//!
//! The old process ends half a second after the new one serves. systemd must know by then that the new one is the main process. The
//! new process tells it as soon as `serve` has returned (`sd_notify` with `MAINPID`), as the example `restart` does:
//!
//! ```ini
//! [Service]
//! Type=notify
//! NotifyAccess=all
//! RuntimeDirectory=game
//! ExecStart=/usr/local/bin/restart 0.0.0.0:8080 --hand-over /run/game/hand-over.sock
//! ExecReload=/bin/kill -HUP $MAINPID
//! Restart=on-failure
//! ```
//!
//! `systemctl reload game` sends SIGHUP to the running process. On SIGHUP the example starts the program that is installed now,
//! which takes over. A program of your own needs such a handler for SIGHUP too.
