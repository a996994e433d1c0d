//! ws-rs, with a limit of 20,000 connections, and without splitting the echoed messages into fragments.
#![expect(clippy::result_large_err, reason = "ws::Error is as large as it is")]

use std::error::Error;
use std::process::ExitCode;

use peer_common::Options;
use ws::{Builder, Message, Sender, Settings};

fn main() -> ExitCode {
    peer_common::main(serve)
}

fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let settings = Settings {
        max_connections: 20_000,
        fragment_size: 64 << 20,
        tcp_nodelay: true,
        panic_on_internal: false,
        ..Settings::default()
    };
    let mut builder = Builder::new();
    builder.with_settings(settings);
    match options.mode.as_str() {
        "echo" => {
            builder.build(|out: Sender| move |message: Message| out.send(message))?.listen(&options.addr)?;
        }
        "broadcast" => {
            builder.build(|out: Sender| move |message: Message| out.broadcast(message))?.listen(&options.addr)?;
        }
        _ => return Err(options.no_such_mode("echo and broadcast")),
    }
    Ok(())
}
