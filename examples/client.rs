//! An interactive client: lines from stdin go out, messages come to stdout.

use std::error::Error;
use std::io::{BufRead, Write, stdin, stdout};
use std::process::ExitCode;

use common::Chain;
use common::tls::Trust;
use threadbare::{Client, ClientError, CloseCause, CloseCode, Config, Message, Peer};

const USAGE: &str = "\
Sends each line of its input as a message and prints what comes back.

Usage: client URL [OPTIONS]

  URL                     such as ws://127.0.0.1:8080/chat or wss://example.com/chat
  --header 'NAME: VALUE'  adds a header to the request; may be repeated
  --subprotocol NAME      offers a subprotocol; may be repeated
  --deflate               offers permessage-deflate (built with --features deflate)
  --ca FILE               trusts the issuers in this file too, for wss://
  --insecure              accepts any certificate, for tests
                          (wss://, --ca and --insecure: built with --features rustls-tls-webpki-roots)
  --help                  this text
";

struct Options {
    url: String,
    headers: Vec<(String, String)>,
    subprotocols: Vec<String>,
    config: Config,
    trust: Trust,
}

fn main() -> ExitCode {
    env_logger::init();
    match parse(lexopt::Parser::from_env()) {
        Ok(Some(options)) => match run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {}", Chain(&*error));
                ExitCode::FAILURE
            }
        },
        Ok(None) => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut args: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    use lexopt::Arg::{Long, Short, Value};

    let mut options = Options {
        url: String::new(),
        headers: Vec::new(),
        subprotocols: Vec::new(),
        config: Config::default(),
        trust: Trust::default(),
    };
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(None),
            Long("header") => {
                let header = args.value()?.into_string()?;
                let (name, value) = header.split_once(':').ok_or("--header wants 'NAME: VALUE'")?;
                options.headers.push((name.to_owned(), value.trim().to_owned()));
            }
            Long("subprotocol") => options.subprotocols.push(args.value()?.into_string()?),
            #[cfg(feature = "deflate")]
            Long("deflate") => options.config = options.config.deflate(threadbare::DeflateConfig::default()),
            #[cfg(not(feature = "deflate"))]
            Long("deflate") => return Err("--deflate: build with --features deflate".into()),
            Long("ca") => options.trust.set_ca(args.value()?),
            Long("insecure") => options.trust.set_insecure(),
            Value(url) if options.url.is_empty() => options.url = url.into_string()?,
            _ => return Err(arg.unexpected()),
        }
    }
    if options.url.is_empty() {
        return Err("a URL is missing".into());
    }
    options.trust.check(&options.url)?;
    Ok(Some(options))
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let builder = Client::builder().config(options.config.clone()).subprotocols(&options.subprotocols);
    let mut builder = options.trust.apply(builder)?;
    for (name, value) in &options.headers {
        builder = builder.header(name, value);
    }
    let client = builder.connect(&options.url)?;
    let peer = client.peer();
    // Not joined: it may wait for a line when the server has closed the connection, and then nobody waits for it.
    std::thread::spawn(move || {
        if let Err(error) = send_lines(&peer) {
            eprintln!("the input can not be read: {error}");
        }
        // The answers on their way are still received. An error means that the connection is closed already.
        let _ = peer.close(CloseCode::NORMAL_CLOSURE, "");
    });
    for message in &client {
        match message {
            Ok(message) => print(&message)?,
            Err(ClientError::Failed(reason)) => return Err(format!("the connection ended: {reason}").into()),
            Err(error) => return Err(error.into()),
        }
    }
    match client.close_reason() {
        Some(reason) if reason.cause == CloseCause::Peer && reason.code != CloseCode::NORMAL_CLOSURE => {
            Err(format!("the server closed the connection: {reason}").into())
        }
        _ => Ok(()),
    }
}

/// Sends each line of the input, up to its end or that of the connection. A line that is not UTF-8 is reported and left
/// out: a text message has to be UTF-8 (RFC 6455 5.6).
fn send_lines(peer: &Peer) -> std::io::Result<()> {
    let mut input = stdin().lock();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        match std::str::from_utf8(text.strip_suffix(b"\r").unwrap_or(text)) {
            Ok(text) => {
                if peer.send(text).is_err() {
                    break;
                }
            }
            Err(_) => eprintln!("line {number} is not UTF-8, and was not sent"),
        }
    }
    Ok(())
}

fn print(message: &Message) -> std::io::Result<()> {
    let mut out = stdout().lock();
    match message {
        Message::Text(text) => writeln!(out, "{text}"),
        other => writeln!(out, "{:?}", other.as_bytes()),
    }?;
    out.flush()
}
