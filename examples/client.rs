//! An interactive client: lines from stdin go out, messages come to stdout.

use std::error::Error;
use std::io::{Write, stdin, stdout};
use std::process::ExitCode;
use std::time::Duration;

use common::Chain;
use threadbare::{Client, Config, Message};

const USAGE: &str = "\
Sends each line of its input as a message and prints what comes back.

usage: client URL [options]

  URL                     such as ws://127.0.0.1:8080/chat
  --header 'NAME: VALUE'  adds a header to the request; may be repeated
  --subprotocol NAME      offers a subprotocol; may be repeated
  --deflate               offers permessage-deflate (built with --features deflate)
";

/// How long the server has to answer the last messages, and then to complete the closing handshake.
const GRACE: Duration = Duration::from_secs(5);

struct Options {
    url: String,
    headers: Vec<(String, String)>,
    subprotocols: Vec<String>,
    config: Config,
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

    let mut options =
        Options { url: String::new(), headers: Vec::new(), subprotocols: Vec::new(), config: Config::default() };
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
            Value(url) if options.url.is_empty() => options.url = url.into_string()?,
            _ => return Err(arg.unexpected()),
        }
    }
    if options.url.is_empty() { Err("a URL is missing".into()) } else { Ok(Some(options)) }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let mut builder = Client::builder().config(options.config.clone()).subprotocols(&options.subprotocols);
    for (name, value) in &options.headers {
        builder = builder.header(name, value);
    }
    let client = builder.connect(&options.url)?;
    std::thread::scope(|scope| {
        // One thread prints messages while the other reads the next line.
        let printer = scope.spawn(|| {
            while let Ok(Some(message)) = client.recv() {
                print(&message)?;
            }
            std::io::Result::Ok(())
        });
        for line in stdin().lines() {
            let Ok(line) = line else { break };
            if client.send(line).is_err() {
                break;
            }
        }
        // After our close frame no message is received any more: an answer that has not arrived by now is lost.
        let _ = client.close(threadbare::CloseCode::NORMAL_CLOSURE, "");
        printer.join().map_err(|_| "the printer panicked")??;
        Ok::<(), Box<dyn Error>>(())
    })?;
    match client.close_reason() {
        Some(reason) if reason.is_clean() => Ok(()),
        Some(reason) => Err(format!("the connection ended: {reason}").into()),
        None => client.finish(GRACE).map(drop).map_err(Into::into),
    }
}

fn print(message: &Message) -> std::io::Result<()> {
    let mut out = stdout().lock();
    match message {
        Message::Text(text) => writeln!(out, "{text}"),
        other => writeln!(out, "{:?}", other.as_bytes()),
    }?;
    out.flush()
}
