//! One thread that owns many connections. Read `event_loop/run.rs` first.

#[cfg(threadbare_bench)]
pub mod bench_harness;
pub(crate) mod channel;
pub(crate) mod connection;
pub(crate) mod connection_limit;
pub(crate) mod delivery;
pub(crate) mod event_loop;
pub(crate) mod handle;
pub(crate) mod receiver;
pub(crate) mod slab;
pub(crate) mod thread;
pub(crate) mod timer_wheel;
pub(crate) mod topics;
