//! How to choose a way in, what to expect of the library, and recipes whose code compiles.
//!
//! The first part explains one subject a section. The module [`recipes`] has recipes for whole tasks,
//! [`topics`] is about publish and subscribe, [`small`] about machines with little memory, [`deploying`] about replacing a server
//! that has connections, `hand_over` about a new process that goes on with them (feature `handover`), and `tls`, if there is a
//! feature for it, about servers and clients of `wss://` and their certificates.
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
//! The reactor accepts connections, reads requests, calls the application's hooks, and answers plain HTTP (below). It gives
//! each established connection to the worker that has the fewest. From then on only this worker reads and writes the
//! socket, so nothing that a message passes through is locked.
//!
//! Up to two threads more read the sources that handlers send with
//! [`Socket::send_stream`](crate::Socket::send_stream), from the first of these on, however many are under way.
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
//! # Where a server listens
//!
//! A server takes an address, a Unix socket, a listener of the standard library, or several of these. What is particular to
//! one of them is set on its [`Listener`](crate::Listener):
//!
//! ```no_run
//! use std::time::Duration;
//! use socket2::{SockRef, TcpKeepalive};
//! use threadbare::{Listener, Server};
//!
//! let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60));
//! let server = Server::bind([
//!     Listener::from("0.0.0.0:8080").socket_hook(move |socket| SockRef::from(socket).set_tcp_keepalive(&keepalive)),
//!     Listener::from(("::", 8080)).only_v6(),
//!     # #[cfg(unix)]
//!     Listener::from("unix:/run/app.sock").mode(0o660), // for the group of a proxy on the same machine
//! ])?;
//! for addr in server.local_addrs() {
//!     println!("listening on {addr}");
//! }
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! * A socket in the file system takes the place of the one before without a moment between, and is removed at the end. A
//!   name such as `unix:@app` is in Linux's abstract namespace. Clients connect to `ws+unix:/run/app.sock:/path` and
//!   `ws+unix:@app:/path`. For short messages it takes the server half the time of TCP on the local host.
//! * `ServerBuilder::tls` is for all listeners, Unix sockets too, to which this library's clients do
//!   not speak TLS. TLS outside and none inside is `Listener::tls` at the address alone.
//! * The peer of a Unix socket has no IP address, so that
//!   [`max_connections_per_address`](crate::Config::max_connections_per_address) does not limit it. Its connections have
//!   no resets: where TCP has one, the other end of a Unix socket finds the end of the stream.
//! * A [`socket_hook`](crate::Listener::socket_hook) sets the options of each accepted socket, and a
//!   [`listener_hook`](crate::Listener::listener_hook) those of the listening one before it is bound, such as
//!   `SO_REUSEPORT`. A client has a [`socket_hook`](crate::ClientBuilder::socket_hook) as well.
//!
//! With systemd, the service manager opens the sockets and the server takes them: see the
//! [recipe](recipes#a-restart-without-a-gap).
//!
//! # Order and answers
//!
//! * The messages of a connection are delivered in the order of their arrival.
//! * If a peer breaks the protocol, the messages that were complete before are delivered first.
//! * Messages that one thread sends through a [`Peer`] arrive in order.
//! * What a handler sends for one readiness of the socket leaves in one write. The answers to events that came together
//!   mostly leave together too.
//! * The close frame that answers the peer's is sent after the answers to earlier messages. With a handler it is sent at
//!   once. With events it is sent when the application comes to the connection's [`Event::Close`], or after 500 ms.
//!
//! A handler may therefore send several messages, and close after them:
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
//! | `send_with` | as `send`, with [`SendOptions`]: compression, a policy, a key of which only the latest counts |
//! | `send_prepared` and its variants | as those without `prepared` |
//!
//! An error gives the message back with `into_inner`. A server's `send` does not wait by default, and a client's does.
//! An answer to an event always has room. A worker's thread never waits, because its connections would wait too: there
//! `send` returns [`SendError::Full`] where it would wait elsewhere. A handler that sends through the [`Peer`] of
//! another connection has to expect that, and so has the thread that runs an [`EventLoop`].
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
//! A client that does not read, an application that does not take its events, a handler that blocks, a silent peer: what
//! the library does then, and what an application chooses, is in [`slow`].
//!
//! # Closing and ends
//!
//! [`close`](crate::Peer::close) starts the closing handshake after what was sent before.
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
//! the close frame. A peer has [`close_timeout`](crate::Config::close_timeout) to answer and to close. A client still
//! receives what arrives before the answer, and a server discards it;
//! [`after_close`](crate::Config::after_close) changes that.
//!
//! A program may send and end: dropping a [`Client`], a [`ReconnectingClient`], a [`ClientPool`](crate::ClientPool) or a
//! [`Server`](crate::Server) writes what was sent and does the closing handshake, for up to
//! [`drop_timeout`](crate::Config::drop_timeout), 5 s by default. On a thread that the drop would wait for, such as a
//! callback of that server, it does not wait. `finish` of the clients and [`Server::shutdown`](crate::Server::shutdown) do the same and report how
//! it ended. [`std::process::exit`] drops nothing: call them before it.
//!
//! An application may give the codes 4000 to 4999 a meaning of its own; those from 3000 on are registered with IANA.
//! [`CloseCode`] has constants for the codes of RFC 6455.
//!
//! # Clients and reconnecting
//!
//! The page [`clients`] is about connecting, and about clients that connect again.
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
//! # Plain HTTP beside it
//!
//! A server answers plain requests on the same port, for pages, health checks and metrics. There is no router:
//!
//! ```no_run
//! use threadbare::{OriginPolicy, Response, Server};
//!
//! let server = Server::builder()
//!     .http_with_server(|request, server| match (request.method(), request.path()) {
//!         ("GET" | "HEAD", "/") => Response::new(200).html("<h1>Chat</h1>"),
//!         ("GET" | "HEAD", "/health") => Response::new(200).text("up\n"),
//!         ("GET" | "HEAD", "/metrics") => server.stats().response(),
//!         ("GET" | "HEAD", "/connections") => Response::new(200).json(server.connections().to_string()),
//!         ("POST", "/news") if OriginPolicy::SameHost.check(request).is_ok() => {
//!             server.broadcast(request.body());
//!             Response::new(204)
//!         }
//!         _ => Response::new(404),
//!     })
//!     .bind("127.0.0.1:8080")?;
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! * The hook runs where handshakes are done and must not block; [`http`](crate::ServerBuilder::http) is its form without the
//!   server's handle. With [`http_deferred`](crate::ServerBuilder::http_deferred) any thread answers, through a
//!   [`PendingResponse`](crate::PendingResponse).
//! * A connection stays open for 1,000 requests, each within [`handshake_timeout`](crate::Config::handshake_timeout) of the
//!   answer before. Requests that come together are answered in order, and an opening handshake may follow. A connection
//!   counts towards the limits for as long as it is open, and takes no buffer while it is idle.
//! * Content is received whole, up to [`max_body_size`](crate::Config::max_body_size) of 64 KiB, then 413. It is sent with a
//!   length or in chunks, whose trailers are thrown away. `Expect: 100-continue` is answered.
//! * The policy for origins does not hold for plain requests: a hook that changes something asks it, as above.
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
//!     .max_connections_per_address(50) // behind a proxy, see `guide::proxies`
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
//! * Of a connection that shares the receiver of its events, at most 256 KiB of them wait, or one event. An event counts 1 KiB
//!   more than its payload. So a client that floods does not have the others wait behind what it sent.
//! * Above `max_event_buffer_size` of waiting events a connection of their receiver is read only while it has less than its
//!   share of them.
//!
//! # Large messages
//!
//! How a message of 2 GiB is received, with the memory of a few reads, is in [`large_messages`].
//!
//! # Seeing inside
//!
//! What a server does and holds, for an operator and for monitors, is in [`monitoring`].
//!
//! # Errors
//!
//! An error displays what failed, and not why: that is its [`source`](std::error::Error::source), which may have one as well. Print
//! all of them, as crates such as `anyhow` do with `{error:#}`:
//!
//! ```
//! use std::error::Error;
//! use threadbare::Client;
//!
//! fn with_causes(error: &dyn Error) -> String {
//!     match error.source() {
//!         Some(cause) => format!("{error}: {}", with_causes(cause)),
//!         None => error.to_string(),
//!     }
//! }
//!
//! # let error = Client::builder().no_proxy().connect("ws://127.0.0.1:1/feed").expect_err("nobody listens");
//! # assert!(with_causes(&error).len() > error.to_string().len());
//! if let Err(error) = Client::connect("ws://127.0.0.1:9/feed") {
//!     eprintln!("{}", with_causes(&error)); // connecting to ...: Connection refused (os error 111)
//! }
//! # Ok::<(), Box<dyn Error>>(())
//! ```
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
//! [`Client`]: crate::Client
//! [`ClientLoop`]: crate::ClientLoop
//! [`ClientPool`]: crate::ClientPool
//! [`CloseCause`]: crate::CloseCause
//! [`CloseCode`]: crate::CloseCode
//! [`CloseReason`]: crate::CloseReason
//! [`Compression::Never`]: crate::Compression::Never
//! [`Config`]: crate::Config
//! [`CowMessage`]: crate::CowMessage
//! [`Event`]: crate::Event
//! [`Event::Close`]: crate::Event::Close
//! [`EventLoop`]: crate::EventLoop
//! [`Handler`]: crate::Handler
//! [`Handler::on_close`]: crate::Handler::on_close
//! [`Message`]: crate::Message
//! [`MessageRef`]: crate::MessageRef
//! [`Peer`]: crate::Peer
//! [`Prepared`]: crate::Prepared
//! [`ReconnectingClient`]: crate::ReconnectingClient
//! [`SendError::Full`]: crate::SendError::Full
//! [`ServerHandle::broadcast`]: crate::ServerHandle::broadcast
//! [`SlowConsumer`]: crate::SlowConsumer
//! [`SendOptions`]: crate::SendOptions
//! [`Socket::send`]: crate::Socket::send
//! [`Stats::deflate`]: crate::Stats::deflate

pub mod clients;
pub mod deploying;
#[cfg(all(target_os = "linux", feature = "handover"))]
pub mod hand_over;
pub mod large_messages;
pub mod monitoring;
#[doc = include_str!("../docs/proxies.md")]
pub mod proxies {}
pub mod recipes;
pub mod slow;
pub mod small;
#[cfg(feature = "rustls-tls")]
pub mod tls;
pub mod topics;
