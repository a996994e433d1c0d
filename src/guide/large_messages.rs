//! Messages that are larger than the memory for them: receiving, and sending.
//!
//! A message is delivered whole by default: [`Config::max_message_size`] is its limit, and while it arrives, it takes memory
//! for what has arrived. An application that can do something with the beginning of a message, such as writing it to a file,
//! needs neither the limit nor the memory. It receives _fragments_: each part of a message as soon as it has arrived. Then a
//! message of 2 GiB takes the memory of a few reads.
//!
//! # Servers
//!
//! [`Config::receive`] has a server deliver fragments, with a limit on the sum of each message or with none:
//!
//! ```no_run
//! use std::fs::File;
//! use std::io::Write;
//! use threadbare::{CloseCode, Config, FragmentRef, Handler, MessageRef, Receive, Server, Socket};
//!
//! struct Upload(Option<File>);
//!
//! impl Handler for Upload {
//!     fn on_message(&mut self, _socket: &mut Socket<'_>, _message: MessageRef<'_>) {} // is not called
//!
//!     fn on_fragment(&mut self, socket: &mut Socket<'_>, fragment: FragmentRef<'_>) {
//!         if fragment.is_first() {
//!             self.0 = File::create(format!("upload-{}", socket.id())).ok();
//!         }
//!         let written = self.0.as_mut().is_some_and(|file| file.write_all(fragment.as_bytes()).is_ok());
//!         if !written {
//!             let _ = socket.close(CloseCode::INTERNAL_ERROR, "the disk is full"); // it may be closing
//!         } else if fragment.is_last() {
//!             socket.send("received");
//!         }
//!     }
//! }
//!
//! let config = Config::default().receive(Receive::Fragments { max_size: Some(2 << 30) });
//! Server::builder().config(config).serve("127.0.0.1:8080", |_request| Upload(None))?.join();
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! With events, in a channel or in an [`EventLoop`](crate::EventLoop), the same comes as
//! [`Event::Fragment`](crate::Event::Fragment). Fragments count towards [`Config::max_event_buffer_size`] as messages do: a
//! connection is not read while the application has not taken its fragments, and the peer's sends wait. A disk that is slow
//! is better served so: writing in a handler holds up the other connections of its worker. The example `upload` does it, with
//! a few threads for the disk.
//!
//! What an application can rely on:
//!
//! * The fragments of a message, joined, are its payload. [`offset`](crate::FragmentRef::offset) says how much came before,
//!   [`is_first`](crate::FragmentRef::is_first) and [`is_last`](crate::FragmentRef::is_last) where the message begins and
//!   ends. A message that came whole is one fragment that is both.
//! * A fragment is what arrived, and not a frame of the peer. One peer's message of two frames may be one fragment or a
//!   hundred. Only the last may be empty.
//! * A fragment of a text is UTF-8, and never ends inside a character.
//! * A compressed message is decompressed about 64 KiB at a time, and the limit is on the decompressed size.
//! * A message may turn out to be too large, not UTF-8, or broken when some of it was delivered. Then the connection is closed
//!   with 1009, 1007 or 1002, as it is if messages are delivered whole.
//! * If the connection ends inside a message, [`on_close`](crate::Handler::on_close) or [`Event::Close`](crate::Event::Close)
//!   comes, and no last fragment. What was received is then a part of a message, which an application that stores messages
//!   has to remove.
//!
//! [`Config::max_message_size`] has no effect on such a server. A server that takes large messages on some connections only
//! chooses in the hook for the opening handshake, with [`Accept::receive`](crate::Accept::receive).
//!
//! # Clients
//!
//! [`Client::recv_reader`] returns a reader of the next message, which implements [`Read`](std::io::Read) and
//! [`BufRead`](std::io::BufRead):
//!
//! ```no_run
//! use std::fs::File;
//! use std::io;
//! use threadbare::{Client, Config, Receive};
//!
//! let config = Config::default().receive(Receive::Fragments { max_size: None });
//! let client = Client::builder().config(config).connect("ws://127.0.0.1:8080/download")?;
//! if let Some(mut reader) = client.recv_reader()? {
//!     io::copy(&mut reader, &mut File::create("download")?)?;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Such a client's [`recv`](crate::Client::recv) still returns whole messages, of up to [`Config::max_message_size`] bytes; a larger one
//! closes the connection with 1009. So does that of a [`ReconnectingClient`](crate::ReconnectingClient). Its
//! [`events`](crate::Client::events) are fragments. A reader that is dropped before the end of its message discards the rest.
//!
//! A [`ReconnectingClient`](crate::ReconnectingClient) has readers and writers as well: see
//! [A client that reconnects](#a-client-that-reconnects).
//!
//! [`WebSocket::recv_reader`] does the same over any stream. It needs no setting: the call itself has the next message
//! delivered in fragments, and [`recv`](crate::WebSocket::recv) returns whole messages before and after it.
//!
//! # Sending
//!
//! A message is sent in parts as well, as [RFC 6455 5.4](https://www.rfc-editor.org/rfc/rfc6455#section-5.4) has it: pings are
//! answered between the parts, and what others send to the same connection follows the message.
//!
//! | from | what there is | with |
//! | --- | --- | --- |
//! | any thread but a worker | something that implements [`Read`](std::io::Read) | `send_stream` of [`Peer`](crate::Peer::send_stream), [`Client`](crate::Client::send_stream), [`ReconnectingClient`](crate::ReconnectingClient::send_stream), [`WebSocket`](crate::WebSocket::send_stream): waits until it is sent, and returns its size or an error |
//! | the same | what the program makes step by step | `writer` of the same, a [`MessageWriter`](crate::MessageWriter) that implements [`Write`](std::io::Write) |
//! | a handler | something that implements `Read` | [`Socket::send_stream`](crate::Socket::send_stream), which returns at once |
//! | a handler | a fragment | [`Socket::send_fragment`](crate::Socket::send_fragment), as `echo --stream` does |
//! | a loop over events | something that implements `Read` | [`Peer::start_stream`](crate::Peer::start_stream), which returns at once |
//!
//! A method that returns at once can not say whether the message was sent. Its form with `_then`
//! ([`Socket::send_stream_then`](crate::Socket::send_stream_then), [`Peer::start_stream_then`](crate::Peer::start_stream_then)) takes
//! a closure, which the library calls once with the [`StreamOutcome`](crate::StreamOutcome) of the message:
//!
//! ```
//! use std::fs::File;
//! use threadbare::{Socket, StreamOptions, StreamOutcome};
//!
//! fn send_film(socket: &mut Socket<'_>, film: File) {
//!     socket.send_stream_then(film, StreamOptions::binary(), |outcome| match outcome {
//!         StreamOutcome::Sent(size) => println!("all {size} bytes are sent"), // not: have arrived
//!         StreamOutcome::SourceFailed(error) => println!("the film can not be read: {error}"),
//!         StreamOutcome::TooSlow => println!("the client takes too little"),
//!         StreamOutcome::Disconnected => println!("the client has left"),
//!         _ => {}
//!     });
//! }
//! ```
//!
//! There is no such form for clients: their `send_stream` waits, so its result is the outcome.
//!
//! # A client that reconnects
//!
//! A message belongs to one connection. If the connection is lost inside the message, `send_stream`, or the read, returns an
//! error, and the client connects again. Nothing of the message is sent again by itself: the application begins anew,
//! with a source at its beginning. Here it uploads a file, and receives one message at the same time:
//!
//! ```no_run
//! use std::fs::File;
//! use std::io;
//! use std::time::Duration;
//! use threadbare::{Client, Config, Receive, Reconnect, ReconnectingClient, StreamOptions};
//!
//! fn upload(client: &ReconnectingClient) -> io::Result<u64> {
//!     loop {
//!         // Waits for a connection if there is none.
//!         match client.send_stream(File::open("film")?, StreamOptions::binary()) {
//!             Err(error) if error.kind() == io::ErrorKind::ConnectionReset => println!("again: {error}"),
//!             result => return result, // the size; or the file can not be read, or the client has given up
//!         }
//!     }
//! }
//!
//! fn download(client: &ReconnectingClient) -> Result<(), Box<dyn std::error::Error>> {
//!     while let Some(mut reader) = client.recv_reader()? {
//!         match io::copy(&mut reader, &mut File::create("download")?) {
//!             Ok(size) => return Ok(println!("{size} bytes have arrived")),
//!             Err(error) => println!("a part is missing: {error}"), // the server has to send the message again
//!         }
//!     }
//!     Err("the server has closed the connection".into())
//! }
//!
//! let config = Config::default().receive(Receive::Fragments { max_size: None });
//! let client = Client::builder().config(config).reconnect("ws://127.0.0.1:8080/", Reconnect::new())?;
//! std::thread::scope(|scope| {
//!     scope.spawn(|| match upload(&client) {
//!         Ok(size) => println!("all {size} bytes are sent"),
//!         Err(error) => println!("the upload has failed: {error}"),
//!     });
//!     download(&client)
//! })?;
//! client.finish(Duration::from_secs(5))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! That all is sent does not mean that the server has stored it: have the server answer, as the example `upload` does. Another
//! thread sends through a [`ReconnectingSender`](crate::ReconnectingSender), which has the same methods:
//! [`client.sender()`](crate::ReconnectingClient::sender).
//!
//! The recipe ["Sending a file"](crate::guide::recipes#sending-a-file) has the code.
//!
//! [`Client::recv_reader`]: crate::Client::recv_reader
//! [`Config::max_event_buffer_size`]: crate::Config::max_event_buffer_size
//! [`Config::max_message_size`]: crate::Config::max_message_size
//! [`Config::receive`]: crate::Config::receive
//! [`WebSocket::recv_reader`]: crate::WebSocket::recv_reader
