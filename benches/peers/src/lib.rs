//! threadbare measured against other WebSocket servers: what the load generator, the raw floor and the comparison share.

pub mod cargo;
pub mod deflated;
pub mod frames;
pub mod handshake;
pub mod machine;
mod middle;
pub mod others;
pub mod priority;
pub mod process;
pub mod program;
pub mod report;
pub mod scenario;

pub use middle::{median, median_of_some};
