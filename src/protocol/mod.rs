//! The WebSocket protocol (RFC 6455) and permessage-deflate (RFC 7692) without I/O: the application passes in bytes and
//! gets back events and bytes to send. The module uses no sockets, threads, clocks or random numbers.
//!
//! [`Connection`] is the state machine of an established connection, and [`handshake`] establishes one. Byte slices are
//! all that either needs, so that tests, fuzzers and programs with a transport of their own can drive them.
//!
//! ```
//! use threadbare::protocol::frame::Opcode;
//! use threadbare::protocol::{Connection, Received, Role};
//!
//! let (mut client, mut server) = (Connection::new(Role::Client, 1 << 20), Connection::new(Role::Server, 1 << 20));
//! let mut on_the_way = Vec::new();
//! client.send(Opcode::Text, b"hello", Some([1, 2, 3, 4]), &mut on_the_way); // a random key for each frame
//! let (_size, received) = server.receive(&mut on_the_way)?;
//! assert!(matches!(received, Received::Message(message) if message.as_text() == Some("hello")));
//! # Ok::<(), threadbare::ProtocolError>(())
//! ```
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod assembly;
pub mod close;
mod close_code;
pub(crate) mod codec;
pub mod connection;
pub(crate) mod contain;
pub mod deflate;
mod error;
pub(crate) mod escaped;
pub(crate) mod fragment;
pub mod frame;
#[cfg(feature = "serde_json")]
pub(crate) mod frame_in_place;
pub(crate) mod gathered;
pub mod handshake;
pub mod http;
#[cfg(feature = "serde_json")]
pub(crate) mod json;
pub mod mask;
pub mod message;
mod message_conversions;
mod opcode;
mod outgoing;
mod outgoing_fragment;
pub(crate) mod peer_addr;
pub mod proxy_header;
pub(crate) mod receive;
#[cfg(all(target_os = "linux", feature = "handover"))]
pub(crate) mod state;
pub(crate) mod tls_info;
pub(crate) mod trusted;
pub mod utf8;

pub use connection::{Connection, Received, Role, State};
pub use error::ProtocolError;
pub use outgoing::Last;
pub use outgoing_fragment::OutgoingFragment;
pub use peer_addr::PeerAddr;
pub use tls_info::TlsInfo;
pub use trusted::Trusted;
