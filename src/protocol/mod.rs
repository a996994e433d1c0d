//! What RFC 6455 and RFC 7692 say, and nothing of sockets, threads, clocks or randomness: bytes in, events and bytes out.
//!
//! [`Connection`] is the state machine of an established connection; [`handshake`] is how one comes about. A test or a
//! fuzzer drives either with byte slices alone, and so can a program with a transport of its own.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod assembly;
pub mod close;
mod close_code;
pub mod connection;
pub mod deflate;
mod error;
pub mod frame;
pub mod handshake;
pub mod http;
pub mod mask;
pub mod message;
mod opcode;
mod outgoing;
mod peer_addr;
pub mod utf8;

pub use connection::{Connection, Received, Role, State};
pub use error::ProtocolError;
pub use peer_addr::PeerAddr;
