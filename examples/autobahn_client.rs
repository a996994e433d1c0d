//! Runs all cases of an Autobahn fuzzing server, with the default API: a client that echoes.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

use common::Chain;
use common::tls::Trust;
use lexopt::prelude::*;
use threadbare::{Client, ClientBuilder, ClientRequest, Config, Message, Url, WebSocket};

const USAGE: &str = "\
Runs all cases of an Autobahn fuzzing server.

usage: autobahn_client URL AGENT [OPTIONS]

  URL                the server's, such as ws://127.0.0.1:9001 or wss://localhost:9001
  AGENT              the name in the report
  --blocking-socket  use WebSocket<S> rather than Client
  --ca FILE          trusts the issuers in this file, for wss:// (built with --features rustls-tls-webpki-roots)
";

/// How long the suite may take to close a connection.
const GRACE: Duration = Duration::from_secs(10);

/// How long an opening handshake may take. Over TLS the suite seals 65,536 frames before its answer leaves (case 9.3.1),
/// which takes it seconds, and more than ten where other programs run.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// The largest messages of the suite.
const MAX_MESSAGE: usize = 16 << 20;

struct Options {
    url: String,
    agent: String,
    blocking: bool,
    trust: Trust,
}

fn main() -> ExitCode {
    common::main(USAGE, parse, |options| {
        println!("{} cases", all_cases(&options)?);
        Ok(())
    })
}

fn parse(mut args: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let (mut words, mut blocking, mut trust) = (Vec::new(), false, Trust::default());
    while let Some(arg) = args.next()? {
        match arg {
            Long("blocking-socket") => blocking = true,
            Long("ca") => trust.set_ca(args.value()?),
            Short('h') | Long("help") => return Ok(None),
            Value(word) => words.push(word.string()?),
            _ => return Err(arg.unexpected()),
        }
    }
    let [url, agent] = <[String; 2]>::try_from(words).map_err(|_| "URL and AGENT are needed")?;
    trust.check(&url)?;
    Ok(Some(Options { url: url.trim_end_matches('/').to_owned(), agent, blocking, trust }))
}

/// Runs the cases one after the other, each until the server ends it, and has the server write its report.
fn all_cases(options: &Options) -> Result<u32, Box<dyn Error>> {
    let Options { url, agent, .. } = options;
    let builder = options.trust.apply(Client::builder().config(config()).timeout(HANDSHAKE_TIMEOUT))?;
    let count: u32 = match builder.connect(&format!("{url}/getCaseCount"))?.recv()? {
        Some(Message::Text(count)) => count.parse()?,
        other => return Err(format!("a count was expected, and came {other:?}").into()),
    };
    for case in 1..=count {
        let url = format!("{url}/runCase?case={case}&agent={agent}");
        let result = if options.blocking { with_socket(options, &url) } else { with_client(&builder, &url) };
        // The server judges how a case ends. Many cases break the protocol on purpose.
        if let Err(error) = result {
            println!("case {case}: {}", Chain(&*error));
        }
    }
    let report = builder.connect(&format!("{url}/updateReports?agent={agent}"))?;
    while let Ok(Some(_)) = report.recv() {}
    Ok(count)
}

fn config() -> Config {
    let config = Config::default().max_message_size(MAX_MESSAGE).handshake_timeout(HANDSHAKE_TIMEOUT);
    #[cfg(feature = "deflate")]
    let config = config.deflate(threadbare::DeflateConfig::default());
    config
}

fn with_client(builder: &ClientBuilder, url: &str) -> Result<(), Box<dyn Error>> {
    let client = builder.connect(url)?;
    while let Ok(Some(message)) = client.recv() {
        client.send(message)?;
    }
    // The server records the result of a case when its TCP connection ends, so the report must not be requested
    // earlier.
    client.finish(GRACE)?;
    Ok(())
}

fn with_socket(options: &Options, url: &str) -> Result<(), Box<dyn Error>> {
    let request = ClientRequest::new(Url::parse(url)?);
    let stream = TcpStream::connect((request.url().host(), request.url().port()))?;
    stream.set_nodelay(true)?;
    #[cfg(feature = "rustls-tls")]
    if let Some(tls) = options.trust.tls()? {
        return echo(WebSocket::connect_tls_with(request, stream, &config(), &tls)?);
    }
    #[cfg(not(feature = "rustls-tls"))]
    let _ = options;
    echo(WebSocket::connect_with(request, stream, &config())?)
}

fn echo<S: Read + Write + 'static>(mut socket: WebSocket<S>) -> Result<(), Box<dyn Error>> {
    while let Some(message) = socket.recv()? {
        socket.send(&message)?;
    }
    Ok(())
}
