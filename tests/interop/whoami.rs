//! A server that tells each client its address and that of its proxy, and then echoes.
//!
//! ```sh
//! cargo run --release --example interop_whoami -- 127.0.0.1:0 --proxy-protocol 127.0.0.1
//! ```

use std::error::Error;
use std::process::ExitCode;

use lexopt::prelude::*;
use threadbare::{
    Config, ForwardedHeader, Handler, MessageRef, OriginPolicy, Request, Response, Server, Socket, Trusted,
};

const USAGE: &str = "\
Sends `CLIENT PROXY` to each client, and then every message back. A plain request is answered with the same line.

Usage: interop_whoami [ADDR] [OPTIONS]

  ADDR                       where to listen (default 127.0.0.1:8080; port 0 picks a free port)
  --proxy-protocol NETWORKS  proxies that begin connections with a PROXY header, separated by commas
  --x-forwarded-for NETWORKS proxies whose X-Forwarded-For is believed
  --per-address N            connections at a time from one address
  --idle-timeout SECS        ping a connection that has been silent for so long
  --help                     this text
";

struct WhoAmI(String);

impl Handler for WhoAmI {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        let line = format!("{} {}", socket.addr(), self.0);
        socket.send(line.as_str());
    }

    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.send(message);
    }
}

#[derive(Default)]
struct Options {
    addr: Option<String>,
    proxy_protocol: Trusted,
    forwarded_for: Trusted,
    config: Config,
}

fn main() -> ExitCode {
    common::main(USAGE, parse, serve)
}

fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let server = Server::builder()
        .origins(OriginPolicy::Any)
        .config(options.config)
        .proxy_protocol(options.proxy_protocol)
        .trusted_proxies(ForwardedHeader::XForwardedFor, options.forwarded_for)
        .http(|request| Response::new(200).text(&format!("{} {}", request.client_addr(), request.socket_addr())))
        .serve(options.addr.as_deref().unwrap_or("127.0.0.1:8080"), |request: &Request| {
            WhoAmI(request.socket_addr().to_string())
        })?;
    common::announce(&server)?;
    server.join();
    Ok(())
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("proxy-protocol") => options.proxy_protocol = parser.value()?.parse_with(common::networks)?,
            Long("x-forwarded-for") => options.forwarded_for = parser.value()?.parse_with(common::networks)?,
            Long("per-address") => {
                options.config = options.config.max_connections_per_address(parser.value()?.parse()?);
            }
            Long("idle-timeout") => {
                options.config = common::ping_idle(options.config, parser.value()?.parse_with(common::seconds)?);
            }
            Short('h') | Long("help") => return Ok(None),
            Value(value) if options.addr.is_none() => options.addr = Some(value.string()?),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Some(options))
}
