//! How to choose a way in, what to expect of the library, and recipes whose code compiles.
//!
//! The first part explains one subject a section. The [second part](#recipes) has recipes for whole tasks.
//!
//! # Which way in to choose
//!
//! | | runs the connection | the application | choose it for |
//! | --- | --- | --- | --- |
//! | [`Handler`], or a closure | a worker thread | is called on the worker, and must not block | answers that need only their own connection's state |
//! | [`Event`]s | a worker thread | receives on threads of its own, and may block | state that connections share, on one thread without a lock |
//! | [`EventLoop`], [`ClientLoop`] | the thread that polls it | is called on the same thread | games and programs with a loop of their own |
//! | [`Client`] | a worker thread | sends and receives on any thread | one connection to a server |
//! | [`ReconnectingClient`] | a worker thread, and one that connects | the same, through reconnects | a service that is always connected |
//! | [`WebSocket<S>`](crate::WebSocket) | the thread that calls it | the same thread | other streams (TLS, Unix sockets), tests, a thread for each connection |
//!
//! A closure is the shortest handler. The library calls the outer closure for each connection, and what the inner one
//! owns is the state of that connection:
//!
//! ```no_run
//! use threadbare::{MessageRef, Server, Socket};
//!
//! let server = Server::builder().serve("127.0.0.1:8080", |request| {
//!     let path = request.path().to_owned();
//!     let mut count = 0;
//!     move |socket: &mut Socket<'_>, message: MessageRef<'_>| {
//!         count += 1;
//!         socket.send(format!("{path}: message {count} has {} bytes", message.len()));
//!     }
//! })?;
//! server.join();
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! A type that implements [`Handler`] is also told of the beginning, of pings and of the end. The message is borrowed
//! from the receive buffer, so a handler copies and allocates nothing.
//!
//! Events come to a thread of the application. [`next_ref`](crate::Iter::next_ref) lends each of them. It copies no
//! short message, so prefer it where the application is done with an event before it asks for the next:
//!
//! ```no_run
//! use threadbare::{EventRef, Server};
//!
//! let server = Server::bind("127.0.0.1:8080")?;
//! let mut events = server.iter();
//! while let Some(event) = events.next_ref() {
//!     match event {
//!         EventRef::Open(peer, request) => println!("{} opened {}", peer.addr(), request.path()),
//!         EventRef::Message(peer, message) => drop(peer.send(message)), // an error says that the peer has left
//!         EventRef::Close(peer, reason) => println!("{} left: {reason}", peer.addr()),
//!         _ => {}
//!     }
//! }
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! Under load, events cost little more than a handler. They cost more where messages come one at a time and a thread
//! must be woken for each. [`channels(n)`](crate::ServerBuilder::channels) spreads connections over n receivers, and
//! [`take_events`](crate::Server::take_events) hands them out to as many threads. All events of a connection come
//! through the same receiver. [`as_channel`](crate::Events::as_channel) puts the events into a crossbeam `Select`
//! beside channels of your own.
//!
//! An [`EventLoop`] starts no thread. Between two polls the thread does its own work:
//!
//! ```no_run
//! use std::time::{Duration, Instant};
//! use threadbare::{EventRef, Server};
//!
//! let mut event_loop = Server::builder().bind_inline("127.0.0.1:8080")?;
//! let mut next_step = Instant::now();
//! while !event_loop.is_finished() {
//!     let left = next_step.saturating_duration_since(Instant::now());
//!     event_loop.poll(left, |event| {
//!         if let EventRef::Message(peer, message) = event {
//!             let _ = peer.send(message); // the peer may be gone
//!         }
//!     })?;
//!     if Instant::now() >= next_step {
//!         // A step of the game goes here.
//!         next_step += Duration::from_millis(16);
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! On Unix an event loop has a descriptor, so it can also be nested in another poll: see the example `own_loop`.
//!
//! # Threads
//!
//! A server has [`workers(n)`](crate::ServerBuilder::workers) worker threads, by default one for each core. Beside two
//! or more workers there is one reactor thread. The number of threads does not depend on the number of connections.
//!
//! The reactor accepts connections, reads requests, calls the application's hooks, and answers plain HTTP. It gives
//! each established connection to the worker that has the fewest. From then on only this worker reads and writes the
//! socket, so nothing that a message passes through is locked.
//!
//! A single worker does the reactor's work too. This saves a switch between threads for each connection. It also means
//! that a callback which takes long delays handshakes, and that a hook which takes long delays messages.
//!
//! ```no_run
//! use threadbare::{MessageRef, Server, Socket};
//!
//! let server = Server::builder()
//!     .workers(2) // and a reactor: a callback that takes long does not delay handshakes
//!     .serve("127.0.0.1:8080", |_request| |socket: &mut Socket<'_>, message: MessageRef<'_>| {
//!         socket.send(message);
//!     })?;
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! A [`Client`] has a worker thread of its own. Clients that are made with the same [`ClientPool`] share its threads.
//!
//! # Order and answers
//!
//! * The messages of a connection are delivered in the order of their arrival.
//! * If a peer breaks the protocol, the messages that were complete before are delivered first.
//! * Messages that one thread sends through a [`Peer`] arrive in order.
//! * What a handler sends for one readiness of the socket leaves in one write. The answers to events that came together
//!   mostly leave together too.
//! * The close frame that answers the peer's leaves behind the answers to earlier messages. With a handler it leaves at
//!   once. With events it leaves when the application comes to the connection's [`Event::Close`], or after 500 ms.
//!
//! A handler may therefore send several messages, and close behind them:
//!
//! ```
//! use threadbare::{CloseCode, Handler, MessageRef, Socket};
//!
//! struct Countdown;
//!
//! impl Handler for Countdown {
//!     fn on_message(&mut self, socket: &mut Socket<'_>, _message: MessageRef<'_>) {
//!         for number in (1..=3).rev() {
//!             socket.send(number.to_string());
//!         }
//!         let _ = socket.close(CloseCode::NORMAL_CLOSURE, ""); // an error says that it closes already
//!     }
//! }
//! ```
//!
//! # Sending
//!
//! Every `send` takes what converts into a [`CowMessage`]: `&str` and `String` as text; `&[u8]`, `Vec<u8>` and arrays
//! of bytes as binary; `Cow`, `Arc<str>`, `Arc<[u8]>`, [`Message`] and [`MessageRef`]. A short message is copied, so
//! lend it. A large payload that is owned or shared is not copied.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use threadbare::{Message, Peer};
//!
//! fn send_each_kind(peer: &Peer, picture: &Arc<[u8]>) -> Result<(), Box<dyn std::error::Error>> {
//!     peer.send("text")?;
//!     peer.send([1, 2, 3])?; // binary
//!     peer.send(vec![0; 1 << 20])?; // moved, not copied
//!     peer.send(picture)?; // shared with other peers, not copied
//!     peer.send(Message::Ping(Vec::new()))?;
//!     peer.try_send("only if there is room now")?;
//!     peer.send_timeout("if there is room within a second", Duration::from_secs(1))?;
//!     Ok(())
//! }
//! ```
//!
//! [`Peer`], [`Client`] and [`ReconnectingClient`] have the same methods:
//!
//! | method | when the connection's queue is full |
//! | --- | --- |
//! | `send` | the policy decides, see [`SlowConsumer`] |
//! | `try_send` | returns the message |
//! | `send_timeout`, `send_deadline` | waits so long, then returns the message |
//! | `send_with` | as `send`; says whether the message may be compressed |
//! | `send_prepared` and its variants | as those without `prepared` |
//!
//! An error gives the message back with `into_inner`. A worker's thread never waits, because its connections would wait
//! too: there `send` returns [`SendError::Full`] where it would wait elsewhere. A handler that sends through the
//! [`Peer`] of another connection has to expect that, and so has the thread that runs an [`EventLoop`].
//!
//! [`Socket::send`] in a handler needs no policy. There is always room for an answer, because the worker stops reading
//! from a connection whose queue is full. It returns `false` only if the connection is closing or a control frame is
//! invalid.
//!
//! A [`Prepared`] message is encoded once and sent to many. [`ServerHandle::broadcast`] sends to every connection of a
//! server and never waits:
//!
//! ```
//! use threadbare::{Peer, Prepared, ServerHandle};
//!
//! fn announce(handle: &ServerHandle, moderators: &[Peer]) {
//!     handle.broadcast("the meeting begins");
//!     let note = Prepared::new("a note for the moderators");
//!     for peer in moderators {
//!         let _ = peer.send_prepared(&note); // an error says that the peer has left or has no room
//!     }
//! }
//! ```
//!
//! `Ok` means that the library has taken the message. Whether it has arrived, only an answer of the peer's application
//! tells.
//!
//! # When somebody is slow
//!
//! **A client that does not read.** Its messages are queued up to
//! [`max_write_buffer_size`](crate::Config::max_write_buffer_size). This is a high-water mark: a message is taken while
//! less is queued, whatever its own size. What happens above the mark depends on where the message comes from:
//!
//! * A handler's answer is taken, and the worker reads no more from this connection until the queue is below the mark.
//! * For a message from another thread and for a broadcast, the policy decides:
//!
//! | [`SlowConsumer`] | `send` from another thread | a broadcast |
//! | --- | --- | --- |
//! | `Block`, the default | waits for room | leaves the connection out, and counts it |
//! | `Refuse` | returns [`SendError::Full`] | leaves the connection out, and counts it |
//! | `Drop` | drops this message, and counts it in [`Stats::dropped`] | the same |
//! | `Disconnect` | closes the connection with 1008 | the same |
//!
//! A client that takes nothing for [`write_timeout`](crate::Config::write_timeout) while its queue is above the mark is
//! closed with 1008, whatever the policy. Control frames always have room.
//!
//! One thread that serves all connections should not wait for one of them. Choose another policy than `Block` there, or
//! use `try_send`:
//!
//! ```no_run
//! use threadbare::{Config, Event, Server, SlowConsumer};
//!
//! let config = Config::default().max_write_buffer_size(256 << 10).slow_consumer(SlowConsumer::Disconnect);
//! let server = Server::builder().config(config).bind("127.0.0.1:8080")?;
//! let everyone = server.handle();
//! for event in &server {
//!     if let Event::Message(_, message) = event {
//!         everyone.broadcast(message);
//!     }
//! }
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! **An application that does not take its events.** Above
//! [`max_event_buffer_size`](crate::Config::max_event_buffer_size) the workers stop reading from the connections behind
//! that receiver, and TCP makes the clients wait. Nothing is lost and nothing is reordered. Connections behind other
//! receivers go on. Writing and deadlines go on too. A connection that is not read is not pinged.
//!
//! **A handler that blocks.** The worker's other connections wait. With a single worker, handshakes wait too. Use
//! events, or give the work to another thread and answer through a [`Peer`]:
//!
//! ```
//! use std::sync::mpsc::SyncSender;
//! use threadbare::{CloseCode, Handler, Message, MessageRef, Peer, Socket};
//!
//! /// Gives each message to a thread that may block.
//! struct Queries {
//!     jobs: SyncSender<(Peer, Message)>,
//! }
//!
//! impl Handler for Queries {
//!     fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
//!         if self.jobs.try_send((socket.peer(), message.into())).is_err() {
//!             // The thread has more to do than the channel holds, and the worker must not wait for it.
//!             let _ = socket.close(CloseCode::TRY_AGAIN_LATER, "busy"); // it may be closing already
//!         }
//!     }
//! }
//! ```
//!
//! **A silent peer.** The worker pings a peer after [`ping_interval`](crate::Config::ping_interval) of silence. If it
//! hears nothing for [`pong_timeout`](crate::Config::pong_timeout) more, the connection ends with code 1006. A
//! [`WebSocket`] has no worker and is not pinged: set the timeouts of its stream.
//!
//! # Closing and ends
//!
//! [`close`](crate::Peer::close) starts the closing handshake behind what was sent before.
//! [`abort`](crate::Peer::abort) drops the TCP connection. However a connection ends, the application is told exactly
//! once, by [`Handler::on_close`] or [`Event::Close`], with a [`CloseReason`]:
//!
//! | what happened | [`CloseCause`] | code |
//! | --- | --- | --- |
//! | the peer closed | `Peer` | the peer's; 1005 if it gave none |
//! | this side closed, and the peer answered | `Local` | that of the answer, mostly the one that was sent |
//! | the peer broke the protocol or a limit | `Failed` | such as 1002, 1007, 1008, 1009 |
//! | a callback panicked | `Panicked` | 1011 |
//! | the TCP connection ended or was reset | `Lost` | 1006 |
//! | the peer was silent, or did not answer a close | `TimedOut` | 1006 |
//! | this side called `abort` | `Aborted` | 1006 |
//!
//! ```
//! use threadbare::{CloseCause, CloseCode, CloseReason};
//!
//! fn describe(reason: &CloseReason) -> String {
//!     match (reason.cause, reason.code) {
//!         (_, CloseCode::NORMAL_CLOSURE | CloseCode::GOING_AWAY) => "finished".into(),
//!         (CloseCause::Failed, code) => format!("refused with {code}: {}", reason.reason),
//!         (CloseCause::Lost | CloseCause::TimedOut, _) => "gone without a word".into(),
//!         _ => reason.to_string(),
//!     }
//! }
//! ```
//!
//! The library completes the closing handshake by itself. It answers the peer's close frame, tells a peer that breaks
//! the protocol why, sends FIN, and reads what is in flight, so that the kernel does not reset the connection and lose
//! the close frame. A peer has [`close_timeout`](crate::Config::close_timeout) to answer and to close.
//!
//! An application may give the codes 4000 to 4999 a meaning of its own; those from 3000 on are registered with IANA.
//! [`CloseCode`] has constants for the codes of RFC 6455.
//!
//! # Clients and reconnecting
//!
//! [`Client::connect`] does the handshake on the calling thread, with a deadline for each phase. Then the worker
//! answers pings, keeps the timeouts and completes closes, whatever the application does. One thread may send while
//! another receives:
//!
//! ```no_run
//! use threadbare::Client;
//!
//! let client = Client::builder()
//!     .header("Authorization", "Bearer secret")
//!     .subprotocols(["chat.v2", "chat.v1"])
//!     .connect("ws://127.0.0.1:8080/chat")?;
//! std::thread::scope(|scope| {
//!     scope.spawn(|| {
//!         for message in &client {
//!             match message {
//!                 Ok(message) => println!("{message}"),
//!                 Err(error) => println!("ended: {error}"),
//!             }
//!         }
//!     });
//!     for line in std::io::stdin().lines().map_while(Result::ok) {
//!         if client.send(line).is_err() {
//!             break;
//!         }
//!     }
//!     let _ = client.close(threadbare::CloseCode::NORMAL_CLOSURE, ""); // an error says that it is closed already
//! });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A client follows the environment's `http_proxy`, `all_proxy` and `no_proxy`, unless
//! [`no_proxy`](crate::ClientBuilder::no_proxy) or [`proxy`](crate::ClientBuilder::proxy) says otherwise. It follows
//! redirects only with [`max_redirects`](crate::ClientBuilder::max_redirects). There is no TLS yet: a `wss://` URL is
//! an error.
//!
//! A [`ReconnectingClient`] connects by itself, and again whenever the connection is lost:
//!
//! ```no_run
//! use std::time::Duration;
//! use threadbare::{Client, ConnectionState, Reconnect};
//!
//! # fn fresh_token() -> String { "secret".into() }
//! let reconnect = Reconnect::new()
//!     .initial_delay(Duration::from_millis(500))
//!     .before_attempt(|builder, _attempt| builder.header("Authorization", &fresh_token()))
//!     .on_connect(|session| drop(session.send("subscribe: prices"))); // after an error the hook is called again
//! let client = Client::builder().reconnect("ws://127.0.0.1:8080/feed", reconnect)?;
//! if client.wait_state(Duration::from_secs(5), ConnectionState::is_connected).is_err() {
//!     println!("not yet: {}", client.state()); // it goes on trying
//! }
//! for message in &client {
//!     println!("{}", message?);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! * Each connection begins with [`on_connect`](crate::Reconnect::on_connect). Then the messages that waited in the
//!   outbox go out, in order.
//! * The outbox is bounded in bytes, as a connection's queue is. A sender that meets it full waits in the same ways.
//! * A message is delivered at most once. A message that was handed to a connection which then breaks may be lost, and
//!   is not sent again. Number the messages that must not be lost.
//! * The delays grow from 5 s to a minute by default, and chance shortens each, so that the clients of a server that
//!   restarts do not come back at the same moment. Only a connection that held for 10 s makes the delays short again.
//! * [`Outage::is_transient`] lists what is tried again. [`retry_if`](crate::Reconnect::retry_if) changes that.
//! * Receive the messages, even if only to throw them away: a client that does not receive stops reading, and then it
//!   does not notice that the connection has ended.
//!
//! # Compression
//!
//! The feature `deflate` adds permessage-deflate (RFC 7692), which is negotiated only if the [`Config`] asks for it:
//!
//! ```no_run
//! # #[cfg(feature = "deflate")] {
//! use threadbare::{Config, DeflateConfig, Server};
//!
//! let config = Config::default().deflate(DeflateConfig::default().threshold(1024));
//! let server = Server::builder().config(config).bind("127.0.0.1:8080")?;
//! # }
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! By default each message is compressed by itself, and the connections of a worker share one compressor and one
//! decompressor: 418 KiB while they are in use. With context takeover, small messages that resemble each other shrink
//! much further, and each connection has its own memory: a compressor of up to 371 KiB, given back when nothing was
//! sent for about a second, and a decompressor of 47 KiB. `DeflateConfig` has the settings.
//!
//! [`max_message_size`](crate::Config::max_message_size) holds for what a message inflates to. Inflating stops a byte
//! beyond it, and the connection ends with 1009, so that a small bomb does not become a large one.
//!
//! A broadcast or a [`Prepared`] message is compressed once for all connections that agreed on the same window, and for
//! each connection that has context takeover by itself.
//!
//! **Secrets.** The size of a compressed message tells something about its contents. Where a message holds a secret (a
//! token, a session's key) beside text that somebody else has chosen, that person can guess the secret byte by byte, by
//! watching which guess makes the message shorter. The attacks CRIME and BREACH do this. Under context takeover the
//! secret and the text need not even be in the same message. Send such messages, and data that is compressed already,
//! with [`Compression::Never`]:
//!
//! ```
//! use threadbare::{Compression, Peer, Prepared};
//!
//! fn log_in(peer: &Peer, session_token: &str) -> Result<(), Box<dyn std::error::Error>> {
//!     peer.send_with(session_token, Compression::Never)?;
//!     let picture = Prepared::with(&[0xFF, 0xD8], Compression::Never); // a JPEG does not shrink
//!     peer.send_prepared(&picture)?;
//!     Ok(())
//! }
//! ```
//!
//! Such messages leave as they are, and later messages do not refer to them. [`Stats::deflate`] tells what compression
//! saved.
//!
//! # Memory and limits
//!
//! Every limit is a setting of [`Config`], has a default, and is documented there with its reason. A setting that could
//! not work is an error when the server is built:
//!
//! ```no_run
//! use std::time::Duration;
//! use threadbare::{Config, Server};
//!
//! let config = Config::default()
//!     .max_message_size(64 << 10) // a larger message ends the connection with 1009
//!     .max_connections(10_000) // further ones are answered 503
//!     .max_connections_per_address(50) // not behind a proxy, which is one address
//!     .handshake_timeout(Duration::from_secs(5)) // then 408
//!     .max_lifetime(Duration::from_secs(24 * 60 * 60)); // then 1001
//! let server = Server::builder().config(config).bind("127.0.0.1:8080")?;
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! The memory of a connection:
//!
//! * An idle connection has no buffer. It takes some 165 bytes with a handler and 250 with events. A [`Peer`] of a
//!   connection is allocated when it is first asked for; with events that is at once.
//! * All connections of a worker share one receive buffer of 256 KiB. An incomplete message moves to a buffer of its
//!   own, which grows with what has arrived, never with what a header announces, up to `max_message_size`.
//! * Above `max_write_buffer_size` of queued output a connection takes no message of another thread or of a broadcast.
//!   What a handler sends in one callback is always taken, so its own code is the bound on that.
//! * Above `max_event_buffer_size` of waiting events nothing more is read for their receiver.
//!
//! # Panics
//!
//! A panic in a callback closes its connection with 1011, or answers its handshake with 500. Other connections go on.
//! The handler is not called again, so its [`Drop`] is the place to undo what it did:
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicUsize, Ordering};
//!
//! /// Counts a user as present while the handler that owns it lives, even if that panics.
//! struct Presence(Arc<AtomicUsize>);
//!
//! impl Presence {
//!     fn new(count: &Arc<AtomicUsize>) -> Presence {
//!         count.fetch_add(1, Ordering::Relaxed);
//!         Presence(count.clone())
//!     }
//! }
//!
//! impl Drop for Presence {
//!     fn drop(&mut self) {
//!         self.0.fetch_sub(1, Ordering::Relaxed);
//!     }
//! }
//! # let count = Arc::default();
//! # drop(Presence::new(&count));
//! # assert_eq!(count.load(Ordering::Relaxed), 0);
//! ```
//!
//! This needs unwinding: with `panic = "abort"` a panic ends the process. A panic on a thread of the application's own,
//! such as one that receives events, is that thread's: the library does not see it. One in the closure of an
//! [`EventLoop`] passes through [`poll`](crate::EventLoop::poll) to the caller, and the loop stays usable.
//!
//! # Recipes
//!
//! ## Authentication before the upgrade
//!
//! [`on_request_deferred`](crate::ServerBuilder::on_request_deferred) decides about a handshake on another thread,
//! which may block. The library has checked `Host` and `Origin` before. A rejected client gets a complete HTTP
//! response, and no connection is made. [`Accept::data`] keeps what was found out, for the life of the connection:
//!
//! ```no_run
//! use std::sync::mpsc;
//! use threadbare::{Accept, Event, Pending, Request, Response, Server};
//!
//! struct User(String);
//!
//! /// Asks a database, and may take its time.
//! fn look_up(token: &str) -> Option<User> {
//!     (token == "secret").then(|| User("anna".into()))
//! }
//!
//! fn decide(request: &Request, pending: Pending) {
//!     let token = request.header("Authorization").and_then(|value| value.strip_prefix("Bearer "));
//!     match token.or_else(|| request.cookie("session")).and_then(look_up) {
//!         Some(user) => pending.accept(Accept::new().data(user)),
//!         None => pending.reject(Response::new(401).header("WWW-Authenticate", "Bearer").text("log in first\n")),
//!     }
//! }
//!
//! let (to_decide, handshakes) = mpsc::sync_channel::<(Request, Pending)>(256);
//! std::thread::spawn(move || {
//!     for (request, pending) in handshakes {
//!         decide(&request, pending);
//!     }
//! });
//!
//! let server = Server::builder()
//!     .on_request_deferred(move |request, pending| {
//!         // The hook must not wait. A handshake that is dropped is answered 500.
//!         let _ = to_decide.try_send((request, pending));
//!     })
//!     .bind("127.0.0.1:8080")?;
//!
//! for event in &server {
//!     if let Event::Message(peer, message) = event
//!         && let Some(User(name)) = peer.data()
//!     {
//!         println!("{name}: {message}");
//!     }
//! }
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! * The decision must come within [`handshake_timeout`](crate::Config::handshake_timeout) of the accept.
//! * A handler finds the user in the request that it is made with, by [`Request::data`], and in [`Socket::data`].
//! * A script in a browser can not set `Authorization` on a WebSocket. Use a cookie there. The default
//!   [`OriginPolicy::SameHost`] keeps other sites' pages from using it.
//! * A decision that does not block is simpler with [`on_request`](crate::ServerBuilder::on_request).
//!
//! ## Rooms
//!
//! The rooms belong to the thread that receives the events, so they need no lock. A message is encoded once for all
//! members:
//!
//! ```no_run
//! use std::collections::{HashMap, HashSet};
//! use threadbare::{Config, Event, Peer, Prepared, Server, SlowConsumer};
//!
//! /// The room that a peer is in; kept at the peer.
//! struct Room(String);
//!
//! let config = Config::default().slow_consumer(SlowConsumer::Disconnect); // no member holds up a room
//! let server = Server::builder().config(config).bind("127.0.0.1:8080")?;
//! let mut rooms: HashMap<String, HashSet<Peer>> = HashMap::new();
//! for event in &server {
//!     match event {
//!         Event::Open(peer, request) => {
//!             let name = request.path().to_owned();
//!             let _ = peer.set_data(Room(name.clone())); // an error says that there is data already
//!             rooms.entry(name).or_default().insert(peer);
//!         }
//!         Event::Message(peer, message) => {
//!             let members = peer.data().and_then(|Room(name)| rooms.get(name));
//!             let message = Prepared::new(message);
//!             for member in members.into_iter().flatten() {
//!                 let _ = member.send_prepared(&message); // its close event is on the way
//!             }
//!         }
//!         Event::Close(peer, _) => {
//!             if let Some(Room(name)) = peer.data()
//!                 && let Some(members) = rooms.get_mut(name)
//!             {
//!                 members.remove(&peer);
//!                 if members.is_empty() {
//!                     rooms.remove(name); // else clients could let the map grow without an end
//!                 }
//!             }
//!         }
//!         _ => {}
//!     }
//! }
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! The example `chat` has this with names, history, and a page.
//!
//! ## Keep the latest
//!
//! Some messages are out of date as soon as the next one exists: prices, positions, progress. Do not queue them behind
//! each other. [`SlowConsumer::Drop`] is not the answer, because it drops the newest message and lets the old ones
//! through. Keep the newest state in the application, and send it to each peer whose queue is empty:
//!
//! ```no_run
//! use std::collections::HashSet;
//! use std::time::{Duration, Instant};
//! use threadbare::{Event, Peer, Prepared, RecvTimeoutError, Server};
//!
//! const STEP: Duration = Duration::from_millis(50);
//!
//! let server = Server::bind("127.0.0.1:8080")?;
//! let mut peers: HashSet<Peer> = HashSet::new();
//! let mut state = 0_u64;
//! let mut next_step = Instant::now() + STEP;
//! loop {
//!     match server.recv_deadline(next_step) {
//!         Ok(Event::Open(peer, _)) => drop(peers.insert(peer)),
//!         Ok(Event::Close(peer, _)) => drop(peers.remove(&peer)),
//!         Ok(_) => state += 1,
//!         Err(RecvTimeoutError::Disconnected) => break, // the server has shut down
//!         Err(RecvTimeoutError::Timeout) => {}
//!     }
//!     if Instant::now() >= next_step {
//!         let newest = Prepared::new(state.to_string());
//!         for peer in peers.iter().filter(|peer| peer.queued_bytes() == 0) {
//!             let _ = peer.try_send_prepared(&newest); // who has no room gets a newer one
//!         }
//!         next_step = Instant::now() + STEP;
//!     }
//! }
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! [`queued_bytes`](crate::Peer::queued_bytes) counts what waits in the library. The kernel and the network hold more.
//! Where that matters, let clients acknowledge what they have drawn, and send no further ahead than you like: the
//! example `game_loop` does both.
//!
//! ## A clean end
//!
//! [`Client::finish`] waits until what was sent is out, the closing handshake is complete, and TCP is closed. A program
//! that only drops its client and exits may end before its last messages have left:
//!
//! ```no_run
//! use std::time::Duration;
//! use threadbare::Client;
//!
//! let client = Client::connect("ws://127.0.0.1:8080/upload")?;
//! for part in ["one", "two", "three"] {
//!     client.send(part)?;
//! }
//! let reason = client.finish(Duration::from_secs(5))?;
//! if !reason.is_clean() {
//!     eprintln!("the server may not have everything: {reason}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `finish` throws away what still arrives, and so does everything behind [`close`](crate::Client::close): receive the
//! answers that you expect first. [`ReconnectingClient::finish`] also waits for the outbox,
//! and [`take_queued`](crate::ReconnectingClient::take_queued) gives back what could not be sent. On a server's side,
//! `peer.send(..)` followed by [`peer.close(..)`](crate::Peer::close) is in order.
//!
//! ## A graceful restart
//!
//! [`ServerHandle::shutdown`] stops accepting first. Then it closes every connection with 1001, and waits for their
//! closing handshakes up to a deadline. It may be called from any thread, such as the one that a crate like `ctrlc` or
//! `signal-hook` runs on a signal:
//!
//! ```no_run
//! use std::io;
//! use std::time::{Duration, Instant};
//! use threadbare::{BuildError, Event, Server, ServerHandle};
//!
//! /// To be called on SIGTERM.
//! fn stop(handle: &ServerHandle) {
//!     let report = handle.shutdown(Duration::from_secs(5));
//!     println!("{report}");
//! }
//!
//! /// Binds as soon as the process before has let go of the port.
//! fn bind(addr: &str, patience: Duration) -> Result<Server, BuildError> {
//!     let deadline = Instant::now() + patience;
//!     loop {
//!         match Server::bind(addr) {
//!             Err(BuildError::Io { source, .. })
//!                 if source.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline =>
//!             {
//!                 std::thread::sleep(Duration::from_millis(50));
//!             }
//!             result => return result,
//!         }
//!     }
//! }
//!
//! let server = bind("127.0.0.1:8080", Duration::from_secs(10))?;
//! let handle = server.handle();
//! # fn on_signal(_: impl FnOnce() + Send + 'static) {}
//! on_signal(move || stop(&handle));
//! for event in &server {
//!     if let Event::Message(peer, message) = event {
//!         let _ = peer.send(message); // the peer may be gone
//!     }
//! }
//! // The loop ends once the server has shut down and every event was received.
//! # Ok::<(), BuildError>(())
//! ```
//!
//! This is what exists today:
//!
//! * Connections do not survive the restart. Each is closed with 1001, and its client has to connect again. A
//!   [`ReconnectingClient`] does so by itself, and so should the script of a page.
//! * A listening socket can not be handed over, and two processes can not listen on one port. Between the end of the
//!   old listener and the new `bind`, connections are refused. On Unix the new process can bind although old
//!   connections are still in TIME_WAIT.
//! * To refuse nobody, start the new process on another port, let a proxy send new connections there, and then shut the
//!   old process down.
//!
//! ## Behind nginx and HAProxy
//!
//! The library has no TLS yet, so a proxy in front ends it. nginx must be told to pass the upgrade on:
//!
//! ```nginx
//! map $http_upgrade $connection_upgrade {
//!     default upgrade;
//!     ''      close;
//! }
//!
//! server {
//!     listen 443 ssl;
//!     server_name example.com;
//!     ssl_certificate     /etc/ssl/example.com.pem;
//!     ssl_certificate_key /etc/ssl/example.com.key;
//!
//!     location / {
//!         proxy_pass http://127.0.0.1:8080;
//!         proxy_http_version 1.1;
//!         proxy_set_header Upgrade $http_upgrade;
//!         proxy_set_header Connection $connection_upgrade;
//!         proxy_set_header Host $http_host;
//!         proxy_set_header X-Forwarded-For $remote_addr;
//!         proxy_read_timeout 60s;
//!     }
//! }
//! ```
//!
//! HAProxy passes the upgrade and `Host` on by itself:
//!
//! ```haproxy
//! frontend web
//!     mode http
//!     bind :443 ssl crt /etc/haproxy/example.com.pem
//!     timeout client 60s
//!     http-request set-header X-Forwarded-For %[src]
//!     default_backend app
//!
//! backend app
//!     mode http
//!     timeout connect 5s
//!     timeout server 60s
//!     timeout tunnel 60s
//!     server app1 127.0.0.1:8080
//! ```
//!
//! * **`Host` and `Origin`.** By default the server compares the two. So the proxy must pass `Host` on as the browser
//!   sent it, with its port. Otherwise list the origins with [`OriginPolicy::List`], such as `https://example.com`.
//! * **Timeouts.** A proxy ends a connection that is silent for too long. The default
//!   [`ping_interval`](crate::Config::ping_interval) of 30 s is below the 60 s of both configurations.
//! * **Addresses.** [`Peer::addr`] is the proxy's address, and
//!   [`max_connections_per_address`](crate::Config::max_connections_per_address) would count all clients as one.
//!   `X-Forwarded-For` is only a header: anybody can send it. Believe it only from your proxy, and let the proxy
//!   replace what clients send, as both configurations do. The PROXY protocol (`send-proxy`) is not understood.
//! * Let the server listen on an address that only the proxy can reach.
//!
//! ```no_run
//! use std::net::IpAddr;
//! use threadbare::{Accept, Event, Response, Server};
//!
//! /// The address that the proxy saw.
//! struct ClientAddr(IpAddr);
//!
//! let server = Server::builder()
//!     .on_request(|request| {
//!         let is_from_proxy = request.addr().ip().is_some_and(|ip| ip.is_loopback());
//!         let forwarded = request.header_values("X-Forwarded-For").last().and_then(|value| value.parse().ok());
//!         match forwarded {
//!             Some(addr) if is_from_proxy => Ok(Accept::new().data(ClientAddr(addr))),
//!             _ => Err(Response::new(403)),
//!         }
//!     })
//!     .bind("127.0.0.1:8080")?;
//! for event in &server {
//!     if let Event::Open(peer, _) = event
//!         && let Some(ClientAddr(addr)) = peer.data()
//!     {
//!         println!("{addr} connected");
//!     }
//! }
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! ## Testing an application
//!
//! Write what talks over a connection for any stream. A pair of Unix sockets tests it without a port or a server. Give
//! a test a timeout, so that a message which is missing fails it:
//!
//! ```
//! # #[cfg(unix)] {
//! use std::io::{Read, Write};
//! use std::os::unix::net::UnixStream;
//! use std::time::Duration;
//! use threadbare::{Config, Message, Role, SocketError, WebSocket};
//!
//! /// The code under test: it runs over TCP, TLS, or a pair of sockets.
//! fn greet<S: Read + Write>(socket: &mut WebSocket<S>) -> Result<(), SocketError> {
//!     if let Some(name) = socket.recv()? {
//!         socket.send(format!("hello {name}"))?;
//!     }
//!     Ok(())
//! }
//!
//! let (server, client) = UnixStream::pair()?;
//! let mut server = WebSocket::from_established(server, Role::Server, Vec::new(), &Config::default());
//! let mut client = WebSocket::from_established(client, Role::Client, Vec::new(), &Config::default());
//! client.send("anna")?;
//! greet(&mut server)?;
//! assert_eq!(client.recv_timeout(Duration::from_secs(5))?, Some(Message::from("hello anna")));
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`WebSocket::accept`] and [`WebSocket::connect`] over such a pair test the opening handshake too, each on a thread
//! of its own. The library has no pipe in memory of its own: whatever implements [`Read`](std::io::Read) and
//! [`Write`](std::io::Write) will do.
//!
//! A server is tested on port 0. The system chooses a free port, so tests can run at the same time:
//!
//! ```
//! use std::time::Duration;
//! use threadbare::{Client, Message, MessageRef, Server, Socket};
//!
//! let server = Server::builder().workers(1).serve("127.0.0.1:0", |_request| {
//!     |socket: &mut Socket<'_>, message: MessageRef<'_>| {
//!         socket.send(message);
//!     }
//! })?;
//! let client = Client::builder().no_proxy().connect(&format!("ws://{}/", server.local_addr()))?;
//! client.send("hello")?;
//! assert_eq!(client.recv_timeout(Duration::from_secs(5))?, Some(Message::from("hello")));
//! client.finish(Duration::from_secs(5))?;
//! server.shutdown(Duration::from_secs(5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Wait for events with a deadline (`recv_timeout`, [`wait_state`](crate::ReconnectingClient::wait_state)) rather than
//! sleep.
//!
//! ## Moving from tungstenite
//!
//! [`WebSocket<S>`](crate::WebSocket) is the nearest type. It blocks, and one thread owns it.
//!
//! | tungstenite | threadbare |
//! | --- | --- |
//! | `accept(stream)` | [`WebSocket::accept`] |
//! | `accept_hdr`, `accept_with_config` | [`WebSocket::accept_with`] |
//! | `connect(url)` | [`Client::connect`]; over TCP of your own, [`WebSocket::connect`] |
//! | `client(request, stream)` | [`WebSocket::connect`], [`WebSocket::connect_with`] |
//! | `IntoClientRequest`, a request with headers | [`ClientRequest`], [`ClientBuilder::header`] |
//! | `WebSocket::from_raw_socket`, `from_partially_read` | [`WebSocket::from_established`] |
//! | `read()` | [`recv()`](crate::WebSocket::recv), which returns data messages only |
//! | `send(message)` | [`send(message)`](crate::WebSocket::send) |
//! | `write(message)`, `flush()` | `send`, which gathers while received messages wait; [`flush()`](crate::WebSocket::flush) |
//! | `close(Some(CloseFrame { code, reason }))`, then `read()` to the end | [`close(code, reason)`](crate::WebSocket::close), then `recv()`, which returns `None`; messages that arrive in between are thrown away |
//! | `Error::ConnectionClosed` from `read()` | `Ok(None)` from `recv()` |
//! | `Error::AlreadyClosed` | [`SocketError::Closed`] |
//! | `Error::Io` with `WouldBlock` | [`SocketError::Timeout`]; call again |
//! | `Error::Protocol`, `Error::Capacity` | [`SocketError::Protocol`] |
//! | `Message::Text(Utf8Bytes)`, `Message::Binary(Bytes)` | [`Message::Text`] with a `String`, [`Message::Binary`] with a `Vec<u8>` |
//! | `Message::Ping` and `Message::Pong` that were read | answered inside `recv()`; [`Handler::on_ping`], [`Handler::on_pong`] |
//! | `Message::Frame` | none: fragments are put together |
//! | `CloseCode::Normal`, `CloseCode::Away` | [`CloseCode::NORMAL_CLOSURE`], [`CloseCode::GOING_AWAY`] |
//! | `WebSocketConfig` | [`Config`]; its `max_message_size` is 1 MiB by default, and there is no limit for a frame alone |
//! | `get_ref()`, `get_mut()`, `into_inner()` | the same |
//!
//! ```no_run
//! use std::net::TcpListener;
//! use threadbare::{Accept, Config, OriginPolicy, Response, SocketError, WebSocket};
//!
//! for stream in TcpListener::bind("127.0.0.1:8080")?.incoming() {
//!     let stream = stream?;
//!     std::thread::spawn(move || -> Result<(), SocketError> {
//!         let config = Config::default().max_message_size(16 << 20);
//!         let mut socket = WebSocket::accept_with(stream, &config, |request| {
//!             OriginPolicy::SameHost.check(request).map_err(|refusal| *refusal)?; // a `Server` does this by itself
//!             if request.path() == "/echo" { Ok(Accept::new()) } else { Err(Response::new(404)) }
//!         })?;
//!         while let Some(message) = socket.recv()? {
//!             socket.send(message)?;
//!         }
//!         Ok(()) // the closing handshake is complete
//!     });
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! A server of many connections needs no thread for each: move what follows `recv` into a [`Handler`], or take
//! [`Event`]s.
//!
//! [`Accept::data`]: crate::Accept::data
//! [`Client`]: crate::Client
//! [`Client::connect`]: crate::Client::connect
//! [`Client::finish`]: crate::Client::finish
//! [`ClientBuilder::header`]: crate::ClientBuilder::header
//! [`ClientLoop`]: crate::ClientLoop
//! [`ClientPool`]: crate::ClientPool
//! [`ClientRequest`]: crate::ClientRequest
//! [`CloseCause`]: crate::CloseCause
//! [`CloseCode`]: crate::CloseCode
//! [`CloseCode::GOING_AWAY`]: crate::CloseCode::GOING_AWAY
//! [`CloseCode::NORMAL_CLOSURE`]: crate::CloseCode::NORMAL_CLOSURE
//! [`CloseReason`]: crate::CloseReason
//! [`Compression::Never`]: crate::Compression::Never
//! [`Config`]: crate::Config
//! [`CowMessage`]: crate::CowMessage
//! [`Event`]: crate::Event
//! [`Event::Close`]: crate::Event::Close
//! [`EventLoop`]: crate::EventLoop
//! [`Handler`]: crate::Handler
//! [`Handler::on_close`]: crate::Handler::on_close
//! [`Handler::on_ping`]: crate::Handler::on_ping
//! [`Handler::on_pong`]: crate::Handler::on_pong
//! [`Message`]: crate::Message
//! [`Message::Binary`]: crate::Message::Binary
//! [`Message::Text`]: crate::Message::Text
//! [`MessageRef`]: crate::MessageRef
//! [`OriginPolicy::List`]: crate::OriginPolicy::List
//! [`OriginPolicy::SameHost`]: crate::OriginPolicy::SameHost
//! [`Outage::is_transient`]: crate::Outage::is_transient
//! [`Peer`]: crate::Peer
//! [`Peer::addr`]: crate::Peer::addr
//! [`Prepared`]: crate::Prepared
//! [`ReconnectingClient`]: crate::ReconnectingClient
//! [`ReconnectingClient::finish`]: crate::ReconnectingClient::finish
//! [`Request::data`]: crate::Request::data
//! [`SendError::Full`]: crate::SendError::Full
//! [`ServerHandle::broadcast`]: crate::ServerHandle::broadcast
//! [`ServerHandle::shutdown`]: crate::ServerHandle::shutdown
//! [`SlowConsumer`]: crate::SlowConsumer
//! [`SlowConsumer::Drop`]: crate::SlowConsumer::Drop
//! [`Socket::data`]: crate::Socket::data
//! [`Socket::send`]: crate::Socket::send
//! [`SocketError::Closed`]: crate::SocketError::Closed
//! [`SocketError::Protocol`]: crate::SocketError::Protocol
//! [`SocketError::Timeout`]: crate::SocketError::Timeout
//! [`Stats::deflate`]: crate::Stats::deflate
//! [`Stats::dropped`]: crate::Stats::dropped
//! [`WebSocket`]: crate::WebSocket
//! [`WebSocket::accept`]: crate::WebSocket::accept
//! [`WebSocket::accept_with`]: crate::WebSocket::accept_with
//! [`WebSocket::connect`]: crate::WebSocket::connect
//! [`WebSocket::connect_with`]: crate::WebSocket::connect_with
//! [`WebSocket::from_established`]: crate::WebSocket::from_established
