//! Small machines: what a program takes, and how to have it take less.
//!
//! # Limits
//!
//! [`Config::small`] has limits for a machine with little memory: messages and queues of 64 KiB, 4 MiB for all
//! connections together, a receive buffer of 16 KiB for each worker, and stacks of 256 KiB. What an idle connection takes
//! does not depend on them: some 170 bytes with a handler, and 250 with events, beside what the kernel takes for its socket.
//!
//! One worker is enough on one core: [`workers(1)`](crate::ServerBuilder::workers). It accepts connections as well, so it is
//! the library's only thread. An [`EventLoop`](crate::EventLoop) runs on the application's thread, and the library has none:
//!
//! ```no_run
//! use threadbare::{Config, EventRef, Server};
//!
//! let mut event_loop = Server::builder().config(Config::small()).bind_inline("0.0.0.0:8080")?;
//! event_loop.run(|event| {
//!     if let EventRef::Message(peer, message) = event {
//!         let _ = peer.send(message); // the peer may be gone
//!     }
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The size of the program
//!
//! These lines in the `Cargo.toml` of an application have the compiler prefer a small program to a fast one:
//!
//! ```toml
//! [profile.size]
//! inherits = "release"
//! opt-level = "z"
//! lto = "fat"
//! codegen-units = 1
//! strip = true
//! ```
//!
//! The example `tiny`, an echo server, is built so: `cargo build --profile size --example tiny`. The directory
//! `benches/results` of the repository has its size, the time of its start and its memory, beside those of other servers.
//! `panic = "abort"` makes a program smaller still. Do not use it if a fault in a handler is to end only its own
//! connection: the library contains a panic by unwinding.
//!
//! Much of what is left is the standard library, which has code to print stacks, and which was compiled for speed. With a
//! nightly compiler it can be compiled for size with the program. Where a panic aborts, the tables that say how to unwind are
//! not needed either. Then `tiny` has 417 kB on x86-64 Linux:
//!
//! ```sh
//! rustup +nightly component add rust-src
//! RUSTFLAGS='-C force-unwind-tables=no' cargo +nightly build --profile size --example tiny --config 'profile.size.panic="abort"' \
//!     -Z build-std=std,panic_abort -Z build-std-features=optimize_for_size --target x86_64-unknown-linux-gnu
//! ```
//!
//! Each feature of the library makes the program larger: TLS most of all, then compression.
//!
//! [`Config::small`]: crate::Config::small
