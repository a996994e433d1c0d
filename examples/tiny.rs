//! An echo server for a machine with little memory: one worker, small buffers, and a program of a few hundred kilobytes.
//!
//! ```sh
//! cargo run --profile size --example tiny -- 127.0.0.1:8080
//! ```
//!
//! The profile `size` is at the end of the library's `Cargo.toml`. The guide has a section on small machines, and
//! `benches/results/tiny.md` what this program takes.

use std::error::Error;

use threadbare::{Config, MessageRef, OriginPolicy, Server, Socket};

fn main() -> Result<(), Box<dyn Error>> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    // Any page may connect: an echo server has no data that another site's page could misuse.
    let builder = Server::builder().config(Config::small()).origins(OriginPolicy::Any);
    // A single worker accepts the connections as well. The handler has no state, so it takes no memory.
    let server = builder.workers(1).serve(&*addr, |_request| {
        |socket: &mut Socket<'_>, message: MessageRef<'_>| {
            socket.send(message);
        }
    })?;
    println!("listening on ws://{}", server.local_addr());
    server.join();
    Ok(())
}
