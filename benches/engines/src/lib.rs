//! One job for every engine: a block of masked text frames comes in, every message is echoed.
//!
//! The bytes come from memory and go to memory, so what is measured is the engines' own work. Each is used as its
//! documentation shows, with its defaults, and each is given the same block at once, as one large read would.
//!
//! Bias: the job is threadbare's favourite, many small messages at once; who receives one message at a time measures
//! the kernel and little else. tungstenite is measured both as its documentation echoes (`send`) and as it is fastest
//! (`write`, one `flush` at the end).

#[cfg(not(threadbare_bench))]
compile_error!(
    "the library's bench harness is missing: RUSTFLAGS=\"--cfg threadbare_bench\" cargo bench --manifest-path benches/engines/Cargo.toml"
);

mod block;
mod masks;
mod memory;
mod others;
mod ours;

pub use block::Block;
pub use masks::{fastwebsockets as mask_fastwebsockets, naive as mask_naive, tungstenite as mask_tungstenite};
pub use others::{Fastwebsockets, Tungstenite, TungsteniteSend};
pub use ours::{Blocking, Channel, Handler};

/// An engine with one connection.
pub trait Echo {
    /// A connection on which `block` comes in.
    fn new(block: &Block) -> Self;

    /// Receives the block, and echoes it.
    fn echo(&mut self);

    /// What was written for the last block.
    fn written(&mut self) -> Vec<u8>;
}

/// An engine that has shown that it echoes the block, and whose buffers have grown to what they need.
///
/// # Panics
/// It does not echo it.
pub fn ready<E: Echo>(block: &Block) -> E {
    let mut engine = E::new(block);
    for _ in 0..3 {
        engine.echo();
        assert!(engine.written() == block.answer, "{} gives a wrong answer", std::any::type_name::<E>());
    }
    engine
}
