//! The tests of several files in one program: it is built, linked and loaded once. A test belongs here if it neither expects
//! an error in the log nor counts what the process has, such as threads, descriptors or memory: those do not mind the others.
//!
//! `cargo test --test together closing::` runs the tests of one file. A file that is not here is a program of its own, and in
//! `Cargo.toml`.

mod common;

mod after_close;
mod broadcast;
mod client;
mod client_fragments;
mod client_frames;
mod closing;
mod connect;
mod delivery;
mod drain;
mod duplex;
mod errors;
mod event_loop;
mod fragments;
#[cfg(feature = "serde_json")]
mod json;
mod keepalive;
mod latest;
#[cfg(unix)]
mod lending;
mod message_reader;
mod mixed;
mod peer;
mod policies;
mod prepared;
mod protocol;
mod ready;
mod reconnecting_in_parts;
mod secrets;
mod sending;
mod sending_in_parts;
mod slow_consumer;
mod socket;
mod socket_end;
mod socket_open;
mod stats;
mod topic_gaps;
mod topics;
mod traits;
mod unix_sockets;
