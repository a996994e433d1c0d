//! Delivery through channels: what one iteration received becomes one batch per channel.

pub(crate) mod batch;
pub(crate) mod block;
pub(crate) mod delivery;
pub(crate) mod event;
pub(crate) mod received_fragment;
pub(crate) mod sender;
pub(crate) mod state;
pub(crate) mod waiters;
mod window;
