//! The servers by name: what must be built for each, and how it is started.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use peers::scenario::{Kind, Scenario};
use serde::Deserialize;

use crate::options::{Options, Purpose};

/// How a server is started: a program and its arguments, in which `{addr}` and the like are to be replaced.
pub(crate) type CommandLine = Vec<String>;

/// One that can be started.
pub(crate) struct Server {
    pub(crate) name: String,
    echo: Option<CommandLine>,
    broadcast: Option<CommandLine>,
}

impl Server {
    /// `None` where it does not do what the scenario asks for.
    pub(crate) fn command(&self, scenario: &Scenario) -> Option<&CommandLine> {
        match scenario.kind {
            Kind::FanOut { .. } => self.broadcast.as_ref(),
            _ => self.echo.as_ref(),
        }
    }
}

/// What is built by this command.
struct Known {
    name: &'static str,
    origin: Origin,
    echo: &'static str,
    broadcast: &'static str,
}

/// Where the programs come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// This package.
    Here,
    /// The library's examples.
    Example,
    /// The packages of this workspace.
    Peer,
}

pub(crate) const FLOOR: &str = "floor";

const EXAMPLES: [&str; 3] = ["echo", "broadcast", "thread_per_connection"];

/// One worker each; the first word is the program. An empty line: the server does not do that.
const KNOWN: [Known; 12] = [
    Known {
        name: FLOOR,
        origin: Origin::Here,
        echo: "floor {addr} --scenario {scenario}",
        broadcast: "floor {addr} --scenario {scenario}",
    },
    Known {
        name: "threadbare",
        origin: Origin::Example,
        echo: "echo {addr} --workers 1 --max-message 16777216",
        broadcast: "broadcast {addr} --workers 1",
    },
    Known {
        name: "threadbare-channel",
        origin: Origin::Example,
        echo: "echo {addr} --workers 1 --max-message 16777216 --channel",
        broadcast: "broadcast {addr} --workers 1 --channel",
    },
    Known { name: "threadbare-threads", origin: Origin::Example, echo: "thread_per_connection {addr}", broadcast: "" },
    Known {
        name: "tokio-tungstenite",
        origin: Origin::Peer,
        echo: "peer-tokio-tungstenite {addr}",
        broadcast: "peer-tokio-tungstenite {addr} --mode broadcast",
    },
    Known {
        name: "tokio-tungstenite-forward",
        origin: Origin::Peer,
        echo: "peer-tokio-tungstenite {addr} --mode forward",
        broadcast: "",
    },
    Known { name: "fastwebsockets", origin: Origin::Peer, echo: "peer-fastwebsockets {addr}", broadcast: "" },
    Known { name: "wtx", origin: Origin::Peer, echo: "peer-wtx {addr}", broadcast: "" },
    Known {
        name: "axum",
        origin: Origin::Peer,
        echo: "peer-axum {addr}",
        broadcast: "peer-axum {addr} --mode broadcast",
    },
    Known { name: "tungstenite-threads", origin: Origin::Peer, echo: "peer-tungstenite {addr}", broadcast: "" },
    Known {
        name: "simple-websockets",
        origin: Origin::Peer,
        echo: "peer-simple-websockets {addr}",
        broadcast: "peer-simple-websockets {addr} --mode broadcast",
    },
    Known {
        name: "ws-rs",
        origin: Origin::Peer,
        echo: "peer-ws-rs {addr}",
        broadcast: "peer-ws-rs {addr} --mode broadcast",
    },
];

pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|known| known.name)
}

/// What is measured with, and what is measured.
pub(crate) struct Programs {
    pub(crate) loadgen: PathBuf,
    pub(crate) servers: Vec<Server>,
}

/// Builds what is asked for and answers what could be built; says loudly what could not.
pub(crate) fn build(options: &Options) -> Result<Programs, Box<dyn Error>> {
    if let Some(name) = options.servers.iter().find(|name| !names().any(|known| known == *name)) {
        let known: Vec<_> = names().collect();
        return Err(format!("there is no server {name:?}; there are {}", known.join(", ")).into());
    }
    let wanted = |known: &&Known| known.name == FLOOR || options.servers.iter().any(|name| name == known.name);
    let wanted: Vec<&Known> = KNOWN.iter().filter(wanted).collect();

    // All peers or none: what is built for one would be built again, with other features, for another.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let peers = wanted.iter().any(|known| known.origin == Origin::Peer);
    let own = if peers { ["--workspace", "--keep-going"] } else { ["--package", "peers"] };
    let mut programs = cargo_build(here, &own)?;
    if wanted.iter().any(|known| known.origin == Origin::Example) {
        match &options.examples_dir {
            Some(dir) => programs.extend(EXAMPLES.map(|name| (name.to_owned(), dir.join(name)))),
            None => {
                let names: Vec<_> = EXAMPLES.iter().flat_map(|name| ["--example", name]).collect();
                programs.extend(cargo_build(&here.join("../.."), &names)?);
            }
        }
    }

    let mut servers = Vec::new();
    for known in wanted {
        let line = |words: &str| command_line(&programs, words);
        match (line(known.echo), line(known.broadcast)) {
            (Ok(echo), Ok(broadcast)) => servers.push(Server { name: known.name.to_owned(), echo, broadcast }),
            (Err(error), _) | (_, Err(error)) => eprintln!("NOT MEASURED: {}: {error}", known.name),
        }
    }
    for given in &options.commands {
        let at = servers.iter().position(|server| server.name == given.name).unwrap_or_else(|| {
            servers.push(Server { name: given.name.clone(), echo: None, broadcast: None });
            servers.len() - 1
        });
        match given.purpose {
            Purpose::Echo => servers[at].echo = Some(given.command.clone()),
            Purpose::Broadcast => servers[at].broadcast = Some(given.command.clone()),
        }
    }
    let loadgen = programs.remove("loadgen").ok_or("the load generator could not be built")?;
    Ok(Programs { loadgen, servers })
}

/// The programs by their names.
type Built = HashMap<String, PathBuf>;

/// `None` for a server that does not do it; an error if its program is missing.
fn command_line(programs: &Built, words: &str) -> Result<Option<CommandLine>, String> {
    let mut line: CommandLine = words.split_whitespace().map(str::to_owned).collect();
    let Some(program) = line.first_mut() else { return Ok(None) };
    match programs.get(program).filter(|path| path.exists()) {
        Some(path) => *program = path.display().to_string(),
        None => return Err(format!("its program {program} is missing")),
    }
    Ok(Some(line))
}

/// Answers the programs that could be built, which are not all of them if cargo says that it failed.
fn cargo_build(package: &Path, what: &[&str]) -> Result<Built, Box<dyn Error>> {
    eprintln!("building {} in {}", what.join(" "), package.display());
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(["build", "--release", "--quiet", "--message-format=json-render-diagnostics", "--manifest-path"]);
    let output = command.arg(package.join("Cargo.toml")).args(what).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        eprintln!("NOT ALL COULD BE BUILT: cargo build {}: {}", what.join(" "), output.status);
    }
    let mut built = Built::new();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let artifact: Artifact = serde_json::from_slice(line)?;
        if let (Some(target), Some(executable)) = (artifact.target, artifact.executable) {
            built.insert(target.name, executable);
        }
    }
    Ok(built)
}

/// Of cargo's messages, what is of interest here.
#[derive(Deserialize)]
struct Artifact {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}
