//! Clients, whose connections a worker serves as it does for a server.

mod builder;
mod client;
mod connect;
mod delivery;
mod ending;
mod error;
mod gather;
mod inline;
#[cfg(feature = "serde_json")]
mod json;
mod message_reader;
mod pool;
mod receive;
mod reconnect;
mod send;

pub use builder::ClientBuilder;
pub use client::Client;
pub use error::{ClientError, ConnectError, Phase};
pub use inline::ClientLoop;
pub use message_reader::ClientMessageReader;
pub use pool::ClientPool;
pub use receive::ClientIter;
pub use reconnect::{
    ConnectionState, Ended, Outage, Reconnect, ReconnectingClient, ReconnectingClientIter, ReconnectingSender, Session,
    StateChanges,
};
