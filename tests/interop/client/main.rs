//! Checks the client against a server of another library. `tests/interop/servers/README.md` describes these servers.

use std::process::ExitCode;
use std::time::Duration;

use common::tls::Trust;
use threadbare::Client;

use crate::report::Report;
use crate::target::{Deflate, Target};

mod closing;
mod compression;
mod control;
mod duplex;
mod echo;
mod handshake;
mod numbered;
mod payload;
mod report;
mod target;

const USAGE: &str = "\
Checks the client against a server of another library.

usage: interop_client URL NAME --deflate off|alone|takeover [OPTIONS]

  URL                    the URL of the server: ws://127.0.0.1:9001, or wss://localhost:9001
  NAME                   the first part of the names of the checks
  --deflate KIND         the server's setting of permessage-deflate
  --without-fragments    the server cannot send fragments
  --streaming            the server sends fragments back as they arrive
  --duplex SIZE:SECONDS  sends and receives messages of SIZE bytes at once for SECONDS; may be repeated
  --ca FILE              trusts the issuers in this file, for wss://
";

struct Options {
    target: Target,
    name: String,
    fragments: bool,
    streaming: bool,
    duplex: Vec<(usize, Duration)>,
}

fn main() -> ExitCode {
    env_logger::init();
    let options = match parse(lexopt::Parser::from_env()) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("error: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut report = Report::new(options.name);
    handshake::check(&mut report, &options.target);
    compression::check(&mut report, &options.target);
    echo::check(&mut report, &options.target);
    control::pings(&mut report, &options.target);
    if options.fragments {
        control::fragments(&mut report, &options.target);
        control::parts(&mut report, &options.target);
    }
    if options.streaming {
        control::streams(&mut report, &options.target);
    }
    closing::check(&mut report, &options.target);
    for (size, duration) in options.duplex {
        duplex::check(&mut report, &options.target, size, duration);
    }
    report.exit_code()
}

fn parse(mut parser: lexopt::Parser) -> Result<Options, lexopt::Error> {
    use lexopt::ValueExt as _;
    use lexopt::prelude::{Long, Value};

    let (mut words, mut deflate, mut fragments, mut streaming) = (Vec::new(), None, true, false);
    let mut duplex = Vec::new();
    let mut trust = Trust::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("deflate") => deflate = Some(parser.value()?.parse_with(Deflate::parse)?),
            Long("without-fragments") => fragments = false,
            Long("streaming") => streaming = true,
            Long("duplex") => duplex.push(parser.value()?.parse_with(size_and_seconds)?),
            Long("ca") => trust.set_ca(parser.value()?),
            Value(word) => words.push(word.string()?),
            other => return Err(other.unexpected()),
        }
    }
    let (Ok([url, name]), Some(deflate)) = (<[String; 2]>::try_from(words), deflate) else {
        return Err("URL, NAME and --deflate are needed".into());
    };
    trust.check(&url)?;
    let builder = trust.apply(Client::builder().no_proxy()).map_err(|error| error.to_string())?;
    Ok(Options { target: Target { url, deflate, builder }, name, fragments, streaming, duplex })
}

fn size_and_seconds(text: &str) -> Result<(usize, Duration), &'static str> {
    let parts = text.split_once(':').and_then(|(size, seconds)| Some((size.parse().ok()?, seconds.parse().ok()?)));
    match parts {
        Some((size, seconds)) if size >= numbered::HEAD => Ok((size, Duration::from_secs(seconds))),
        _ => Err("expected SIZE:SECONDS, with a SIZE of at least 10"),
    }
}
