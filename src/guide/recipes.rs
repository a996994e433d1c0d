//! Recipes for whole tasks. The code of each compiles.
//!
//! # Authentication before the upgrade
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
//! # Rooms
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
//! # Keep the latest
//!
//! Some messages are out of date as soon as the next one exists: prices, positions, progress. Do not queue them behind
//! each other. [`SlowConsumer::Drop`] is not the answer, because it drops the newest message and lets the old ones
//! through. Give them a key, with [`SendOptions::latest`]: the newest message of each key replaces the one that was not
//! sent yet. Here each client moves a figure, whose id is the key, and everybody sees all of them:
//!
//! ```no_run
//! use std::collections::HashMap;
//! use threadbare::{Event, PeerId, Prepared, SendOptions, Server};
//!
//! let server = Server::bind("127.0.0.1:8080")?;
//! let everyone = server.handle();
//! let mut figures: HashMap<PeerId, u64> = HashMap::new();
//! let mut next_figure = 0;
//! for event in &server {
//!     match event {
//!         Event::Open(peer, _) => {
//!             figures.insert(peer.id(), next_figure);
//!             next_figure += 1;
//!         }
//!         Event::Message(peer, position) => {
//!             if let Some(figure) = figures.get(&peer.id()) {
//!                 let position = format!("{figure} is at {position}");
//!                 everyone.broadcast_prepared(&Prepared::with(position, SendOptions::new().latest(*figure)));
//!             }
//!         }
//!         Event::Close(peer, _) => {
//!             if let Some(figure) = figures.remove(&peer.id()) {
//!                 // With the same key, so that no position arrives afterwards.
//!                 let gone = SendOptions::new().latest(figure);
//!                 everyone.broadcast_prepared(&Prepared::with(format!("{figure} is gone"), gone));
//!             }
//!         }
//!         _ => {}
//!     }
//! }
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! If the state is one for all, it can also be kept in the application, which then sends it in steps of time to each peer
//! whose [`queued_bytes`](crate::Peer::queued_bytes) are 0.
//!
//! [`queued_bytes`](crate::Peer::queued_bytes) counts what waits in the library. The kernel and the network hold more.
//! Where that matters, let clients acknowledge what they have drawn, and send no further ahead than you like: the
//! example `game_loop` does both.
//!
//! # Values as JSON
//!
//! With the feature `serde_json`, whatever serde knows is sent and received as the text of a message. Types of your own derive
//! serde's traits, for which a program needs the crate `serde` with its feature `derive`. The error of a message that does not fit
//! names the field. In a tuple that is the index:
//!
//! ```
//! # #[cfg(feature = "serde_json")] {
//! use threadbare::{Client, Event, Server};
//!
//! let server = Server::bind("127.0.0.1:0")?;
//! let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
//! client.send_json(&("order", 7))?;
//! client.send_json(&("order", "seven"))?;
//! # let mut errors = Vec::new();
//! for event in &server {
//!     let Event::Message(peer, message) = event else { continue };
//!     match message.json::<(String, u32)>() {
//!         Ok((what, count)) => peer.send_json(&format!("{count} times {what}"))?,
//!         Err(error) => {
//!             println!("{}: {error}", peer.addr()); // [1]: invalid type: string "seven", expected u32 ...
//!             # errors.push(error.to_string());
//!             break;
//!         }
//!     }
//! }
//! assert_eq!(client.recv_json::<String>()?, Some("7 times order".into()));
//! # assert!(errors[0].starts_with("[1]: invalid type"));
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The field is a path from the outermost value, such as `order.items[2].price`. If the JSON ends too early, the path ends where the
//! parser was: `order.?`.
//!
//! `recv_json` may fail for other reasons too, so it returns a `JsonTransferError`. Its own text says only that the value does
//! not match. The text with the field is its [`source`](std::error::Error::source): print it with its causes, as
//! [Errors](super#errors) shows. The connection goes on after such a message, and the next one can be received.
//!
//! For another format, implement [`Codec`](crate::Codec) once, as the example `cbor` does.
//!
//! # Sending a file
//!
//! A message may have any size, and need not be in memory. [`Peer::send_stream`](crate::Peer::send_stream) sends what a
//! source has, in parts: it reads the next [`fragment_size`](crate::Config::fragment_size) bytes, 32 KiB by default, once the peer has taken
//! the ones before. [`Peer::writer`](crate::Peer::writer) is for what the application makes itself, line by line. Both wait for
//! the peer, so they are for threads of the application. In a handler, [`Socket::send_stream`](crate::Socket::send_stream) returns at once, and a thread
//! of the library reads the source:
//!
//! ```no_run
//! use std::fs::File;
//! use threadbare::{MessageRef, Server, Socket, StreamOptions};
//!
//! Server::builder()
//!     .serve("127.0.0.1:8080", |_request| |socket: &mut Socket<'_>, name: MessageRef<'_>| {
//!         // Never a path that a client sends as it is.
//!         let Some(name) = name.as_text().filter(|name| name.chars().all(char::is_alphanumeric)) else { return };
//!         match File::open(format!("films/{name}.mp4")) {
//!             Ok(film) => {
//!                 socket.send(name);
//!                 socket.send_stream(film, StreamOptions::binary());
//!                 socket.send("the end"); // behind the film
//!             }
//!             Err(error) => drop(socket.send(error.to_string())),
//!         }
//!     })?
//!     .join();
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! From its first part to its last a message has its direction of the connection for itself (RFC 6455 5.4). What the
//! application sends meanwhile waits behind it, and counts as queued: a chat should not share its connection with downloads.
//! Pings and their answers do not wait. A close waits as long as the peer takes enough of the message. If the source fails, the
//! message can be neither completed nor taken back, so the connection is closed with 1011.
//!
//! The receiver's [`max_message_size`](crate::Config::max_message_size) is a limit on the whole message. The examples `upload` and
//! `download` are the two sides of files of any size, with a checksum.
//!
//! # A clean end
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
//! # Two threads, and nothing lost
//!
//! One thread sends through a [`ReconnectingClient`], and another receives. What was under way when a connection broke is lost, so
//! each message has a number, the server answers with it, and what is not acknowledged is sent again at the beginning of the
//! next connection. The end waits for the last answer:
//!
//! ```
//! use std::collections::VecDeque;
//! use std::sync::{Arc, Condvar, Mutex};
//! use std::time::Duration;
//! use threadbare::{Client, MessageRef, Reconnect, Server, Socket};
//!
//! /// What was sent and is not acknowledged, with the numbers.
//! #[derive(Default)]
//! struct Outstanding {
//!     messages: Mutex<VecDeque<(u64, String)>>,
//!     acknowledged: Condvar,
//! }
//!
//! // The server takes a message if it has the next number, and answers each with the number that it has come to.
//! let stored = Arc::new(Mutex::new(0));
//! let last = stored.clone();
//! # let has_broken = std::sync::atomic::AtomicBool::new(false);
//! # let has_broken = Arc::new(has_broken);
//! let server = Server::builder().serve("127.0.0.1:0", move |_request| {
//!     let last = last.clone();
//!     # let has_broken = has_broken.clone();
//!     move |socket: &mut Socket<'_>, message: MessageRef<'_>| {
//!         let number = message.as_text().and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
//!         let mut last = last.lock().unwrap();
//!         # if *last == 300 && !has_broken.swap(true, std::sync::atomic::Ordering::Relaxed) { return socket.abort(); }
//!         if number == Some(*last + 1) {
//!             *last += 1;
//!         }
//!         socket.send(last.to_string());
//!     }
//! })?;
//!
//! let outstanding = Arc::new(Outstanding::default());
//! let again = outstanding.clone();
//! let reconnect = Reconnect::new().initial_delay(Duration::from_millis(100)).on_connect(move |session| {
//!     let messages = again.messages.lock().unwrap().clone(); // not locked while it sends: the other thread takes the answers
//!     for (number, text) in messages {
//!         if session.send(format!("{number} {text}")).is_err() {
//!             break; // this connection is lost too, and the hook is called for the next
//!         }
//!     }
//! });
//! let client = Client::builder().reconnect(&format!("ws://{}", server.local_addr()), reconnect)?;
//! std::thread::scope(|scope| {
//!     scope.spawn(|| {
//!         for answer in client.iter().map_while(Result::ok) {
//!             let Some(upto) = answer.as_text().and_then(|text| text.parse().ok()) else { continue };
//!             let mut messages = outstanding.messages.lock().unwrap();
//!             while messages.front().is_some_and(|(number, _)| *number <= upto) {
//!                 messages.pop_front();
//!             }
//!             outstanding.acknowledged.notify_all();
//!         }
//!     });
//!     for number in 1..=1_000 {
//!         let text = "a measurement";
//!         outstanding.messages.lock().unwrap().push_back((number, text.to_owned()));
//!         if client.send(format!("{number} {text}")).is_err() {
//!             break; // the client has given up
//!         }
//!     }
//!     let messages = outstanding.messages.lock().unwrap();
//!     let patience = Duration::from_secs(30);
//!     let waited = outstanding.acknowledged.wait_timeout_while(messages, patience, |messages| !messages.is_empty());
//!     let left = waited.unwrap().0.len();
//!     if left > 0 {
//!         eprintln!("{left} messages may be lost");
//!     }
//!     client.finish(Duration::from_secs(5)) // and so the other thread's messages end
//! })?;
//! assert_eq!(*stored.lock().unwrap(), 1_000);
//! # assert!(client.traffic().opened > 1, "the connection was lost meanwhile");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is sent again comes before what waits in the outbox, which is then there twice: the server knows it by the number. A client
//! that may come back as another process says who it is, in a header, and the server keeps a number for each.
//!
//! # A graceful restart
//!
//! [`ServerHandle::shutdown`] stops accepting first. Then it closes every connection with 1001, and waits for their
//! closing handshakes up to a deadline. It may be called from any thread, such as the one that a crate like `ctrlc` or
//! `signal-hook` runs on a signal:
//!
//! ```no_run
//! use std::io;
//! use std::time::{Duration, Instant};
//! use threadbare::{BuildError, Event, Server};
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
//! # mod ctrlc { pub fn set_handler(_: impl FnMut() + Send + 'static) -> Result<(), std::convert::Infallible> { Ok(()) } }
//! // With the feature `termination` of the crate `ctrlc` it is called on SIGTERM too.
//! ctrlc::set_handler(move || drop(handle.shutdown(Duration::from_secs(5)))).expect("no other handler");
//! for event in &server {
//!     if let Event::Message(peer, message) = event {
//!         let _ = peer.send(message); // the peer may be gone
//!     }
//! }
//! // The loop ends once the server has shut down and every event was received. This asks for the report, and waits for no
//! // connection again.
//! println!("{}", server.shutdown(Duration::ZERO));
//! # Ok::<(), BuildError>(())
//! ```
//!
//! Connections do not survive the restart. Each is closed with 1001, and its client has to connect again. A
//! [`ReconnectingClient`] does so by itself, and so should the script of a page. On Unix the new process can bind although
//! old connections are still in TIME_WAIT. [`drain`](crate::ServerHandle::drain) in place of `shutdown` closes one connection after
//! the other, so that the clients do not all come back at once: see [`guide::deploying`](super::deploying).
//!
//! # A restart without a gap
//!
//! Between the end of one process and the `bind` of the next, the system refuses clients. It refuses none if both processes have
//! the same listening socket: connections wait in its queue until one of the processes accepts them. A server takes such a socket
//! as a `TcpListener` or a `UnixListener`. When the server ends, it leaves the connections that wait there to the other process.
//!
//! **systemd** opens the sockets of a `.socket` unit and gives them to the service, again after each restart. The example
//! `systemd` takes them with the crate `listenfd`, which makes listeners of the environment's `LISTEN_FDS`, and tells the
//! manager with `sd-notify` when it is ready and when it stops:
//!
//! ```no_run
//! use std::net::TcpListener;
//! use threadbare::{BuildError, Listener, Server};
//!
//! /// `given` is the result of `ListenFd::from_env().take_tcp_listener(0)`.
//! fn start(given: Option<TcpListener>) -> Result<Server, BuildError> {
//!     let listener = given.map_or_else(|| Listener::from("127.0.0.1:8080"), Listener::from);
//!     Server::bind(listener)
//! }
//! ```
//!
//! **Without a service manager** a process starts its successor and gives it the listener, for example as its standard
//! input. When the successor serves, the process accepts no more, waits for its clients to leave, and ends:
//!
//! ```no_run
//! use std::time::{Duration, Instant};
//! use threadbare::ServerHandle;
//!
//! fn retire(handle: &ServerHandle, patience: Duration) {
//!     handle.stop_accepting();
//!     let deadline = Instant::now() + patience;
//!     while handle.connections() > 0 && Instant::now() < deadline {
//!         std::thread::sleep(Duration::from_millis(50));
//!     }
//!     println!("{}", handle.drain(Duration::from_secs(30))); // 1012 for those that are left, one after the other
//! }
//! ```
//!
//! The example `restart` is a whole program that does so on SIGHUP. Here clients have to connect again; where they must not notice
//! anything, the new process takes over their connections, with the feature `handover` (the page `hand_over`, Linux). A server on `unix:PATH` needs neither: the next one
//! takes the place of its file, and `stop_accepting` lets the old one go on with its clients.
//!
//! # Behind nginx and HAProxy
//!
//! [`guide::proxies`](crate::guide::proxies) has tested configurations of both. The proxy must pass the upgrade and `Host`
//! on, and its timeouts must be longer than [`ping_interval`](crate::Config::ping_interval). Say which proxies are
//! believed, and how they tell who the client is: without that, all clients have the proxy's address. The proxy may end TLS.
//!
//! ```no_run
//! use threadbare::{Config, Event, ForwardedHeader, Server};
//!
//! let server = Server::builder()
//!     .trusted_proxies(ForwardedHeader::XForwardedFor, ["127.0.0.1"]) // or `proxy_protocol(["127.0.0.1"])`
//!     .config(Config::default().max_connections_per_address(20)) // of each client, not of the proxy
//!     .bind("127.0.0.1:8080")?;
//! for event in &server {
//!     if let Event::Open(peer, _) = event {
//!         println!("{} connected", peer.addr()); // the client's address
//!     }
//! }
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! # Testing an application
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
//! # Moving from tungstenite
//!
//! [`WebSocket<S>`](crate::WebSocket) is the nearest type. It blocks, and one thread owns it.
//!
//! | tungstenite | threadbare |
//! | --- | --- |
//! | `accept(stream)` | [`WebSocket::accept`] |
//! | `accept_hdr`, `accept_with_config` | [`WebSocket::accept_with`] |
//! | `connect(url)` | [`Client::connect`]; over TCP of your own, [`WebSocket::connect`] |
//! | `client(request, stream)` | [`WebSocket::connect`], [`WebSocket::connect_with`] |
//! | `HandshakeError::Interrupted(MidHandshake)`, `handshake()` | [`ClientHandshake`], [`ServerHandshake`]; [`OpenError::WouldBlock`], `advance()` |
//! | `IntoClientRequest`, a request with headers | [`ClientRequest`], [`ClientBuilder::header`] |
//! | `WebSocket::from_raw_socket`, `from_partially_read` | [`WebSocket::from_established`] |
//! | `read()` | [`recv()`](crate::WebSocket::recv), which returns data messages only |
//! | `send(message)` | [`send(message)`](crate::WebSocket::send) |
//! | `write(message)`, `flush()` | `send`, which gathers while received messages wait; [`flush()`](crate::WebSocket::flush) |
//! | `close(Some(CloseFrame { code, reason }))`, then `read()` to the end | [`close(code, reason)`](crate::WebSocket::close), then `recv()`, which returns `None`; a client receives the messages that arrive in between, a server throws them away |
//! | `Error::ConnectionClosed` from `read()` | `Ok(None)` from `recv()` |
//! | `Error::AlreadyClosed` | [`SocketError::Closed`] |
//! | `Error::Io` with `WouldBlock` | [`SocketError::Timeout`]; call again. [`SocketError::Queued`]: a send took the message, do not repeat it |
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
//! [`Client::connect`]: crate::Client::connect
//! [`Client::finish`]: crate::Client::finish
//! [`ClientBuilder::header`]: crate::ClientBuilder::header
//! [`ClientHandshake`]: crate::ClientHandshake
//! [`ClientRequest`]: crate::ClientRequest
//! [`CloseCode::GOING_AWAY`]: crate::CloseCode::GOING_AWAY
//! [`CloseCode::NORMAL_CLOSURE`]: crate::CloseCode::NORMAL_CLOSURE
//! [`Config`]: crate::Config
//! [`Event`]: crate::Event
//! [`Handler`]: crate::Handler
//! [`Handler::on_ping`]: crate::Handler::on_ping
//! [`Handler::on_pong`]: crate::Handler::on_pong
//! [`Message::Binary`]: crate::Message::Binary
//! [`Message::Text`]: crate::Message::Text
//! [`OpenError::WouldBlock`]: crate::OpenError::WouldBlock
//! [`OriginPolicy::List`]: crate::OriginPolicy::List
//! [`OriginPolicy::SameHost`]: crate::OriginPolicy::SameHost
//! [`Peer::addr`]: crate::Peer::addr
//! [`ReconnectingClient`]: crate::ReconnectingClient
//! [`ReconnectingClient::finish`]: crate::ReconnectingClient::finish
//! [`Request::data`]: crate::Request::data
//! [`SendOptions::latest`]: crate::SendOptions::latest
//! [`ServerHandle::shutdown`]: crate::ServerHandle::shutdown
//! [`SlowConsumer::Drop`]: crate::SlowConsumer::Drop
//! [`Socket::data`]: crate::Socket::data
//! [`ServerHandshake`]: crate::ServerHandshake
//! [`SocketError::Closed`]: crate::SocketError::Closed
//! [`SocketError::Protocol`]: crate::SocketError::Protocol
//! [`SocketError::Queued`]: crate::SocketError::Queued
//! [`SocketError::Timeout`]: crate::SocketError::Timeout
//! [`WebSocket::accept`]: crate::WebSocket::accept
//! [`WebSocket::accept_with`]: crate::WebSocket::accept_with
//! [`WebSocket::connect`]: crate::WebSocket::connect
//! [`WebSocket::connect_with`]: crate::WebSocket::connect_with
//! [`WebSocket::from_established`]: crate::WebSocket::from_established
