//! The servers by name: what must be built for each, and how it is started.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use peers::scenario::{Kind, Scenario};

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
    Examples,
    /// A package of this workspace.
    Peer(&'static str),
}

pub(crate) const FLOOR: &str = "floor";

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
        origin: Origin::Examples,
        echo: "echo {addr} --workers 1 --max-message 16777216",
        broadcast: "broadcast {addr} --workers 1",
    },
    Known {
        name: "threadbare-channel",
        origin: Origin::Examples,
        echo: "echo {addr} --workers 1 --max-message 16777216 --channel",
        broadcast: "broadcast {addr} --workers 1 --channel",
    },
    Known { name: "threadbare-threads", origin: Origin::Examples, echo: "thread_per_connection {addr}", broadcast: "" },
    Known {
        name: "tokio-tungstenite",
        origin: Origin::Peer("peer-tokio-tungstenite"),
        echo: "peer-tokio-tungstenite {addr}",
        broadcast: "peer-tokio-tungstenite {addr} --mode broadcast",
    },
    Known {
        name: "tokio-tungstenite-forward",
        origin: Origin::Peer("peer-tokio-tungstenite"),
        echo: "peer-tokio-tungstenite {addr} --mode forward",
        broadcast: "",
    },
    Known {
        name: "fastwebsockets",
        origin: Origin::Peer("peer-fastwebsockets"),
        echo: "peer-fastwebsockets {addr}",
        broadcast: "",
    },
    Known { name: "wtx", origin: Origin::Peer("peer-wtx"), echo: "peer-wtx {addr}", broadcast: "" },
    Known {
        name: "axum",
        origin: Origin::Peer("peer-axum"),
        echo: "peer-axum {addr}",
        broadcast: "peer-axum {addr} --mode broadcast",
    },
    Known {
        name: "tungstenite-threads",
        origin: Origin::Peer("peer-tungstenite"),
        echo: "peer-tungstenite {addr}",
        broadcast: "",
    },
    Known {
        name: "simple-websockets",
        origin: Origin::Peer("peer-simple-websockets"),
        echo: "peer-simple-websockets {addr}",
        broadcast: "peer-simple-websockets {addr} --mode broadcast",
    },
    Known {
        name: "ws-rs",
        origin: Origin::Peer("peer-ws-rs"),
        echo: "peer-ws-rs {addr}",
        broadcast: "peer-ws-rs {addr} --mode broadcast",
    },
];

pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|known| known.name)
}

/// Builds what is asked for and answers what could be built; says loudly what could not.
pub(crate) fn build(options: &Options) -> Result<Vec<Server>, Box<dyn Error>> {
    if let Some(name) = options.servers.iter().find(|name| !names().any(|known| known == *name)) {
        let known: Vec<_> = names().collect();
        return Err(format!("there is no server {name:?}; there are {}", known.join(", ")).into());
    }
    let wanted = |known: &&Known| known.name == FLOOR || options.servers.iter().any(|name| name == known.name);
    let wanted: Vec<&Known> = KNOWN.iter().filter(wanted).collect();

    let release = release_dir()?;
    let target = release.parent().ok_or("the target directory has no name")?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    cargo(here, target, &["--package", "peers", "--bin", "loadgen", "--bin", "floor"])?;
    let examples = options.examples_dir.clone().unwrap_or_else(|| release.join("examples"));
    if options.examples_dir.is_none() && wanted.iter().any(|known| known.origin == Origin::Examples) {
        let names = ["--example", "echo", "--example", "broadcast", "--example", "thread_per_connection"];
        cargo(&here.join("../.."), target, &names)?;
    }

    let mut servers = Vec::new();
    for known in wanted {
        let dir = match known.origin {
            Origin::Here => &release,
            Origin::Examples => &examples,
            Origin::Peer(package) => match cargo(here, target, &["--package", package]) {
                Ok(()) => &release,
                Err(error) => {
                    eprintln!("NOT MEASURED: {}: {error}", known.name);
                    continue;
                }
            },
        };
        let echo = command_line(dir, known.echo);
        let broadcast = command_line(dir, known.broadcast);
        for program in [&echo, &broadcast].into_iter().flatten().filter_map(|line| line.first()) {
            if !Path::new(program).exists() {
                return Err(format!("{}: there is no {program}", known.name).into());
            }
        }
        servers.push(Server { name: known.name.to_owned(), echo, broadcast });
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
    Ok(servers)
}

fn command_line(dir: &Path, words: &str) -> Option<CommandLine> {
    let mut line: CommandLine = words.split_whitespace().map(str::to_owned).collect();
    let program = line.first_mut()?;
    *program = dir.join(&*program).display().to_string();
    Some(line)
}

/// Where this program lies, and the others with it.
pub(crate) fn release_dir() -> Result<PathBuf, Box<dyn Error>> {
    let own = env::current_exe()?;
    let dir = own.parent().ok_or("this program is in no directory")?;
    if !dir.ends_with("release") {
        return Err("only a release build measures: cargo run --release".into());
    }
    Ok(dir.to_owned())
}

fn cargo(package: &Path, target: &Path, what: &[&str]) -> Result<(), String> {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(["build", "--release", "--quiet", "--manifest-path"]).arg(package.join("Cargo.toml"));
    let status = command.arg("--target-dir").arg(target).args(what).status();
    let words = what.join(" ");
    eprintln!("built {words}");
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cargo build {words}: {status}")),
        Err(error) => Err(format!("cargo build {words}: {error}")),
    }
}
