//! One task for every engine: receive a block of masked text frames, and echo every message.
//!
//! ```sh
//! RUSTFLAGS="--cfg threadbare_bench" cargo bench --manifest-path benches/engines/Cargo.toml
//! ```
//!
//! The bytes come from memory and go to memory, so only the engines' own work is measured. Each engine is used as its
//! documentation shows, with its defaults, and each receives the whole block at once, as from one large read.
//!
//! Bias: many small messages at once are what threadbare is best at. For a server that receives one message at a time, the
//! kernel's time is much larger than the engine's. tungstenite is measured as its documentation echoes (`send`), and as it is
//! fastest (`write`, and one `flush` at the end).

#[cfg(not(threadbare_bench))]
compile_error!(
    "the library's bench harness is missing: RUSTFLAGS=\"--cfg threadbare_bench\" cargo bench --manifest-path benches/engines/Cargo.toml"
);

mod block;
mod library;
mod masks;
mod memory;
mod peers;

pub use block::Block;
pub use library::{Blocking, Channel, Handler};
pub use masks::{fastwebsockets as mask_fastwebsockets, naive as mask_naive, tungstenite as mask_tungstenite};
pub use peers::{Fastwebsockets, Tungstenite, TungsteniteSend};

/// An engine with one connection.
pub trait Echo {
    /// A connection that receives `block`.
    fn new(block: &Block) -> Self;

    /// Receives the block and echoes every message.
    fn echo(&mut self);

    /// Returns what was written for the last block.
    fn written(&mut self) -> Vec<u8>;
}

/// Returns an engine that has echoed the block some times, so that its buffers have the size that they need.
///
/// # Panics
/// The engine does not echo the block.
pub fn warmed_up<E: Echo>(block: &Block) -> E {
    let mut engine = E::new(block);
    for _ in 0..3 {
        engine.echo();
        assert!(engine.written() == block.reply, "{} writes a wrong reply", std::any::type_name::<E>());
    }
    engine
}
