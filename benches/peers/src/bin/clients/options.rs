//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::programs::PYTHON;
use crate::server::{Scenario, Transport};

pub(crate) const USAGE: &str = "\
Compares clients by the CPU time of their process for each message.

Usage: clients [OPTIONS]

  --short           one round of few slices, in less than a minute
  --rounds N        how often everything is measured (default 5)
  --slices N        how many slices of each client a round has (default 5)
  --seconds S       how long a slice measures (default 0.2)
  --warm-up S       how long a slice warms up (default 0.1)
  --only NAMES      only these scenarios, with commas in between
  --clients NAMES   only these clients
  --python PATH     a Python that has websockets (default .cache/interop/venv/bin/python, where CI installs it)
  --core N          the core of the clients (default 0)
  --other-core N    the core of the server (default 1)
  --out DIR         where to write the results (default benches/results)
  --name NAME       the name of the results (default clients)
  --list            print the names of scenarios and clients
  --help            print this text
";

const TUNGSTENITE: &str = "tungstenite";
const TOKIO_TUNGSTENITE: &str = "tokio-tungstenite";

/// Measured with compression alone, which the other clients in Rust do not have.
const BARE_INFLATE: &str = "bare-inflate";

const CLIENTS: [&str; 10] = [
    TUNGSTENITE,
    BARE_INFLATE,
    "threadbare-socket-lent",
    "threadbare-socket",
    "threadbare-inline",
    "threadbare-client-lent",
    "threadbare-client",
    TOKIO_TUNGSTENITE,
    "fastwebsockets",
    PYTHON,
];

/// What a ratio is relative to.
pub(crate) fn reference(scenario: &Scenario) -> &'static str {
    if scenario.transport == Transport::Deflate { BARE_INFLATE } else { TUNGSTENITE }
}

/// Whether a client takes part in a scenario. tokio-tungstenite has no compression, and receives the same texts without.
fn takes_part(client: &str, scenario: &Scenario) -> bool {
    match scenario.transport {
        Transport::Plain => client != BARE_INFLATE && client != PYTHON,
        Transport::Tls => client != BARE_INFLATE,
        Transport::Deflate => {
            client.starts_with("threadbare") || [BARE_INFLATE, TOKIO_TUNGSTENITE, PYTHON].contains(&client)
        }
    }
}

pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) slices: usize,
    pub(crate) measured: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) clients: Vec<String>,
    pub(crate) python: PathBuf,
    pub(crate) core: usize,
    pub(crate) other_core: usize,
    pub(crate) out: PathBuf,
    pub(crate) name: String,
}

impl Options {
    /// `None` for `--help` and `--list`, which was printed.
    pub(crate) fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
        let mut options = Options {
            rounds: 5,
            slices: 5,
            measured: Duration::from_millis(200),
            warm_up: Duration::from_millis(100),
            scenarios: Scenario::ALL.to_vec(),
            clients: CLIENTS.map(str::to_owned).to_vec(),
            python: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.cache/interop/venv/bin/python")),
            core: 0,
            other_core: 1,
            out: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../results")),
            name: "clients".to_owned(),
        };
        while let Some(arg) = parser.next()? {
            match arg {
                Long("short") => {
                    (options.rounds, options.slices) = (1, 3);
                    options.measured = Duration::from_millis(100);
                    options.name = "short-clients".to_owned();
                }
                Long("rounds") => options.rounds = parser.value()?.parse()?,
                Long("slices") => options.slices = parser.value()?.parse()?,
                Long("seconds") => options.measured = Duration::from_secs_f64(parser.value()?.parse()?),
                Long("warm-up") => options.warm_up = Duration::from_secs_f64(parser.value()?.parse()?),
                Long("only") => {
                    let names = parser.value()?.string()?;
                    options.scenarios = names.split(',').map(Scenario::named).collect::<Result<_, _>>()?;
                }
                Long("clients") => {
                    options.clients = parser.value()?.string()?.split(',').map(str::to_owned).collect();
                }
                Long("python") => options.python = PathBuf::from(parser.value()?),
                Long("core") => options.core = parser.value()?.parse()?,
                Long("other-core") => options.other_core = parser.value()?.parse()?,
                Long("out") => options.out = PathBuf::from(parser.value()?),
                Long("name") => options.name = parser.value()?.string()?,
                Long("list") => {
                    println!("scenarios: {}", Scenario::ALL.map(|scenario| scenario.name).join(", "));
                    println!("clients: {}", CLIENTS.join(", "));
                    return Ok(None);
                }
                Short('h') | Long("help") => return Ok(None),
                _ => return Err(arg.unexpected()),
            }
        }
        if options.rounds == 0 || options.slices == 0 || options.measured.is_zero() {
            return Err("--rounds, --slices and --seconds: more than 0".into());
        }
        if let Some(name) = options.clients.iter().find(|name| !CLIENTS.contains(&name.as_str())) {
            return Err(format!("--clients: {name} is none of {}", CLIENTS.join(", ")).into());
        }
        Ok(Some(options))
    }
    /// The clients that take part in a scenario.
    pub(crate) fn clients_of<'a>(&'a self, scenario: &Scenario) -> impl Iterator<Item = &'a str> {
        self.clients.iter().map(String::as_str).filter(|client| takes_part(client, scenario))
    }
}
