//! An echo server for a machine with little memory: one thread, small buffers, and a program of a few hundred kilobytes.
//!
//! ```sh
//! cargo run --profile size --example tiny -- 127.0.0.1:8080
//! ```
//!
//! The profile `size` is at the end of the library's `Cargo.toml`. The guide has a section on small machines, and
//! `benches/results/tiny.md` what this program takes.

use std::error::Error;

use threadbare::{Config, EventRef, OriginPolicy, Server};

fn main() -> Result<(), Box<dyn Error>> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    // Any page may connect: an echo server has no data that another site's page could misuse.
    let builder = Server::builder().config(Config::small()).origins(OriginPolicy::Any);
    // This thread does all the work, so that the program has no other.
    let mut event_loop = builder.bind_inline(&*addr)?;
    println!("listening on ws://{}", event_loop.local_addr());
    event_loop.run(|event| {
        if let EventRef::Message(peer, message) = event {
            let _ = peer.send(message); // the peer may be gone
        }
    })?;
    Ok(())
}
