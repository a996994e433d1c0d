//! WebSocket servers and clients on bare threads: full duplex, fast, and no async runtime.
//!
//! ```no_run
//! use threadbare::{Handler, MessageRef, Server, Socket};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
//!         socket.send(message);
//!     }
//! }
//!
//! Server::builder().serve("127.0.0.1:8080", |_request| Echo)?.join();
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! A reactor thread accepts connections and does the opening handshakes. Established connections go to a pool of worker
//! threads, which decode frames in place. With one worker there is no reactor thread: the worker does both. The number
//! of threads does not depend on the number of connections.
//!
//! # Interfaces
//!
//! * A [`Handler`] per connection, called on the worker's thread, as above: no copy, no allocation, no lock.
//! * Events through a channel, to the application's own threads:
//!
//! ```no_run
//! use threadbare::{Event, Server};
//!
//! let server = Server::bind("127.0.0.1:8080")?;
//! for event in &server {
//!     match event {
//!         Event::Open(peer, request) => println!("{} joined {}", peer.addr(), request.path()),
//!         Event::Message(peer, message) => drop(peer.send(message)), // an error says that the peer has left
//!         Event::Close(peer, reason) => println!("{} left: {reason}", peer.addr()),
//!         _ => {}
//!     }
//! }
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! * A [`Client`], which a worker thread serves too, so that one thread can send while another receives:
//!
//! ```no_run
//! use std::time::Duration;
//! use threadbare::Client;
//!
//! let client = Client::connect("ws://127.0.0.1:8080/chat")?;
//! client.send("hello")?;
//! let reply = client.recv_timeout(Duration::from_secs(5))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! * A [`ReconnectingClient`], which connects again when its connection is lost, after a delay that grows and is
//!   random.
//! * A [`WebSocket`] on the caller's own thread, over any stream that implements `Read` and `Write`.
//!
//! A [`Peer`] is a handle to a connection that any thread can keep and send through. The [`guide`] says which interface
//! to choose, and what happens if a peer or the application is too slow.
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | adds |
//! | --- | --- |
//! | `deflate` | permessage-deflate (RFC 7692) |
//! | `redis` | topics of several machines, over Redis |
//! | `handover` | a new process takes over a server's connections (Linux) |
//! | `idn` | hosts of URLs in other scripts than ASCII |
//! | `serde_json` | values as JSON: `send_json`, `recv_json`, `json` of a [`Message`] |
//! | `rustls-tls-native-roots` | `wss://` for servers and clients; clients trust whom the system trusts |
//! | `rustls-tls-webpki-roots` | `wss://` for servers and clients; clients trust whom Mozilla trusts |
//! | `rustls-tls` | what these two have in common: clients trust whom the application names |
//! | `aws-lc-rs` | beside those: other cryptography than ring's, with quicker handshakes and post-quantum keys |
//!
//! # Safe by default
//!
//! Web pages from another host are refused. The sizes of messages and queues are limited. Connections to silent and
//! slow peers are closed. A panic in a callback ends one connection. [`Config`] has every limit and its reason.

mod bridge;
mod client;
mod config;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod guide;
pub mod protocol;
mod server;
mod socket;
mod stats;
mod transport;
mod worker;

#[cfg(feature = "redis")]
pub use bridge::redis::Redis;
pub use bridge::{Accepted, Bridge, BridgeError, BridgeMessage, BridgeStats, LocalBatch, LocalEvent, LocalTopics};
pub use client::{
    Client, ClientBuilder, ClientError, ClientIter, ClientLoop, ClientMessageReader, ClientPool, ConnectError,
    ConnectionState, Ended, Outage, Phase, Reconnect, ReconnectingClient, ReconnectingClientIter, ReconnectingSender,
    Session, StateChanges,
};
pub use config::backoff::Jitter;
pub use config::send_options::SendOptions;
pub use config::stream_options::StreamOptions;
pub use config::topic_config::{Slow, TopicConfig};
pub use config::{AfterClose, Config, ConfigError, SlowConsumer};
pub use error::{
    BuildError, ControlError, InvalidTopicName, RecvError, RecvTimeoutError, SendError, SendTimeoutError,
    SubscribeError, TryRecvError, TrySendError,
};
pub use protocol::close::{CloseCause, CloseCode, CloseFrame, CloseReason, InvalidClose};
pub use protocol::codec::Codec;
pub use protocol::deflate::{Compression, DeflateStats};
#[cfg(feature = "deflate")]
pub use protocol::deflate::{DeflateConfig, DeflateParams};
pub use protocol::fragment::{Fragment, FragmentRef};
pub use protocol::handshake::client::{ClientRequest, HandshakeError, RedirectError, Refusal, Url, UrlError};
pub use protocol::handshake::{Accept, HostPolicy, OriginPolicy};
pub use protocol::http::{ExtensionOffer, ForwardedHeader, HeaderError, Request, Response, ResponseHead};
#[cfg(feature = "serde_json")]
pub use protocol::json::{Json, JsonError, JsonTransferError};
pub use protocol::message::{CowMessage, Message, MessageRef};
pub use protocol::receive::Receive;
pub use protocol::{PeerAddr, ProtocolError, Role, TlsInfo, Trusted};
pub use server::{
    Drain, EventLoop, HandshakeStats, Listener, Listeners, Pending, PendingResponse, Server, ServerBuilder,
    ServerHandle, ServerStats, ShutdownReport,
};
pub use socket::client_handshake::ClientHandshake;
pub use socket::message_reader::MessageReader;
pub use socket::open_error::OpenError;
pub use socket::server_handshake::ServerHandshake;
pub use socket::{SocketError, WebSocket, WebSocketIter};
pub use stats::histogram::Histogram;
pub use transport::message_writer::{Carrier, MessageWriter};
#[cfg(feature = "rustls-tls")]
pub use transport::tls::client_config::{ClientTls, ClientTlsBuilder};
pub use transport::tls::error::TlsError;
#[cfg(feature = "rustls-tls")]
pub use transport::tls::server_config::{Tls, TlsBuilder};
#[cfg(feature = "rustls-tls")]
pub use transport::tls::stream::TlsStream;
#[cfg(threadbare_bench)]
#[doc(hidden)]
pub use worker::bench_harness;
pub use worker::channel::batch::Batch;
pub use worker::channel::event::{Event, EventRef};
pub use worker::delivery::handler::Handler;
pub use worker::delivery::socket::Socket;
pub use worker::handle::draining::{DrainReport, Draining};
pub use worker::handle::peer::Peer;
pub use worker::handle::peer_id::PeerId;
pub use worker::handle::prepared::Prepared;
pub use worker::handle::stats::Stats;
pub use worker::handle::stream_outcome::StreamOutcome;
pub use worker::handle::summary::PeerSummary;
pub use worker::handle::topic::Topic;
pub use worker::handle::topic_events::TopicEvent;
pub use worker::handle::traffic::TrafficStats;
pub use worker::receiver::events::{Events, Iter};
pub use worker::topics::position::{InvalidPosition, Position, Published, Since, Subscription};
pub use worker::topics::stats::TopicStats;
