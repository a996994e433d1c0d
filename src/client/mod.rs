//! Clients whose socket lives on a worker, as a server's does.

mod builder;
mod client;
mod connect;
mod delivery;
mod error;
mod pool;
mod reconnect;

pub use builder::ClientBuilder;
pub use client::Client;
pub use error::{ConnectError, Phase, ReceiveError};
pub use pool::ClientPool;
pub use reconnect::{
    ConnectionState, Ended, Jitter, Outage, Reconnect, ReconnectingClient, ReconnectingSender, Session, StateChanges,
};
