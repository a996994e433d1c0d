//! Compares threadbare with other WebSocket servers: what the load generator, the floor and the comparison share.

pub mod background;
pub mod cargo;
pub mod deflated;
pub mod frames;
pub mod handshake;
pub mod machine;
mod median;
pub mod priority;
pub mod process;
pub mod program;
pub mod report;
pub mod scenario;
pub mod started;
pub mod target;
pub mod tls;
pub mod wire;

pub use median::{median, median_of_some};
