//! Runs all cases of an Autobahn fuzzing server, with the default API: a client that echoes.

use std::error::Error;
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

use common::Chain;
use threadbare::{Client, ClientRequest, Config, Message, Url, WebSocket};

const USAGE: &str = "\
Runs all cases of an Autobahn fuzzing server.

usage: autobahn_client URL AGENT [--blocking-socket]

  URL                the server's, such as ws://127.0.0.1:9001
  AGENT              the name in the report
  --blocking-socket  use WebSocket<TcpStream> rather than Client
";

/// How long the suite may take to close a connection.
const GRACE: Duration = Duration::from_secs(10);

/// The largest messages of the suite.
const MAX_MESSAGE: usize = 16 << 20;

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let blocking = args.iter().position(|arg| arg == "--blocking-socket").map(|index| args.remove(index)).is_some();
    let [url, agent] = &args[..] else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    let run = if blocking { with_socket } else { with_client };
    match all_cases(url, agent, run) {
        Ok(count) => {
            println!("{count} cases");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {}", Chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Runs the cases one after the other, each until the server ends it, and has the server write its report.
fn all_cases(url: &str, agent: &str, run: fn(&str) -> Result<(), Box<dyn Error>>) -> Result<u32, Box<dyn Error>> {
    let url = url.trim_end_matches('/');
    let count: u32 = match Client::connect(&format!("{url}/getCaseCount"))?.recv()? {
        Some(Message::Text(count)) => count.parse()?,
        other => return Err(format!("a count was expected, and came {other:?}").into()),
    };
    for case in 1..=count {
        // The server judges how a case ends. Many cases break the protocol on purpose.
        if let Err(error) = run(&format!("{url}/runCase?case={case}&agent={agent}")) {
            println!("case {case}: {}", Chain(&*error));
        }
    }
    let report = Client::connect(&format!("{url}/updateReports?agent={agent}"))?;
    while let Ok(Some(_)) = report.recv() {}
    Ok(count)
}

fn config() -> Config {
    let config = Config::default().max_message_size(MAX_MESSAGE);
    #[cfg(feature = "deflate")]
    let config = config.deflate(threadbare::DeflateConfig::default());
    config
}

fn with_client(url: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::builder().config(config()).connect(url)?;
    while let Ok(Some(message)) = client.recv() {
        client.send(message)?;
    }
    // The server records the result of a case when its TCP connection ends, so the report must not be requested
    // earlier.
    client.finish(GRACE)?;
    Ok(())
}

fn with_socket(url: &str) -> Result<(), Box<dyn Error>> {
    let url = Url::parse(url)?;
    let stream = TcpStream::connect((url.host(), url.port()))?;
    stream.set_nodelay(true)?;
    let mut socket = WebSocket::connect_with(ClientRequest::new(url), stream, &config())?;
    while let Some(message) = socket.recv()? {
        socket.send(&message)?;
    }
    Ok(())
}
