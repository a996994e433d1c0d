//! Clients, and clients that connect again when a connection is lost.
//!
//! # A client
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
//! Several clients may connect to one address at the same time. RFC 6455 4.1 has a client wait until its other connection
//! to the address is open or has failed, so that web pages can not flood a server; that is left to browsers.
//!
//! A [`Url`](crate::Url) is taken as users write it: blanks and what is not ASCII in path and query are percent-encoded, an
//! IPv6 address may have the zone that the local link needs (`ws://[fe80::1%25eth0]/`), and the feature `idn` allows hosts in
//! any script. A header `Host` replaces the one that is made from the URL.
//!
//! A client follows the environment's `http_proxy`, `all_proxy` and `no_proxy`, unless
//! [`no_proxy`](crate::ClientBuilder::no_proxy) or [`proxy`](crate::ClientBuilder::proxy) says otherwise. It follows
//! redirects only with [`max_redirects`](crate::ClientBuilder::max_redirects). A `wss://` URL
//! needs a feature of TLS, such as `rustls-tls-webpki-roots`.
//!
//! # A client that reconnects
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
//! * [`Outage::is_transient`] lists what is tried again. [`retry_if`](crate::Reconnect::retry_if) changes that. Of a close by the
//!   server, 1008 is not: it may be a ban. A server of this library also says it to a client that reads too slowly, of which
//!   `retry_if(|outage| outage.is_transient() || matches!(outage, Outage::Closed(reason) if reason.code.0 == 1008))` comes back.
//!   How the client ended is in its [`state`](crate::ReconnectingClient::state).
//! * A file is sent and received in parts, in little memory: see [`large_messages`](super::large_messages#a-client-that-reconnects).
//! * [`finish`](crate::ReconnectingClient::finish) receives and throws away what still comes, also from another thread that
//!   receives. Where those messages matter, have the server acknowledge, and finish when all is.
//! * Receive the messages, even if only to throw them away: a client that does not receive stops reading, and then it
//!   does not notice that the connection has ended.
//!
//! [`Client::connect`]: crate::Client::connect
//! [`Outage::is_transient`]: crate::Outage::is_transient
//! [`ReconnectingClient`]: crate::ReconnectingClient
