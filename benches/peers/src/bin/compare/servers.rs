//! The servers by name: what must be built for each, and how it is started.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use peers::cargo::{self, Built};
use peers::scenario::{Kind, Scenario};

use crate::options::{Options, Purpose};

/// How a server is started: a program and its arguments, in which `{addr}` and the like are to be replaced.
pub(crate) type CommandLine = Vec<String>;

/// One that can be started.
pub(crate) struct Server {
    pub(crate) name: String,
    echo: Option<CommandLine>,
    broadcast: Option<CommandLine>,
    deflate: Option<CommandLine>,
}

impl Server {
    /// `None` where it does not do what the scenario asks for.
    pub(crate) fn command(&self, scenario: &Scenario) -> Option<&CommandLine> {
        match scenario.kind {
            Kind::FanOut { .. } => self.broadcast.as_ref(),
            Kind::Deflate { .. } => self.deflate.as_ref(),
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
    deflate: &'static str,
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
    /// A program for Node.
    Node,
}

pub(crate) const FLOOR: &str = "floor";

/// The floor with its buffers where this library's is, which matters to large messages alone.
const PLACED_FLOOR: &str = "floor-placed";

const TWO_FLOORS: &str = "floor-2";

const ONE_WORKER: &str = "threadbare";
const TWO_WORKERS: &str = "threadbare-2";

/// Servers with two threads, which need as many cores, and the same with one.
pub(crate) const TWO_TO_ONE: [(&str, &str); 2] = [(TWO_FLOORS, FLOOR), (TWO_WORKERS, ONE_WORKER)];

const EXAMPLES: [&str; 3] = ["echo", "broadcast", "thread_per_connection"];

/// `echo` once more, built with permessage-deflate.
const DEFLATE_EXAMPLE: &str = "echo-deflate";

/// The program for Node, and where it is.
const NODE_WS: &str = "node-ws/echo.mjs";
const NODE_WS_DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/servers/node-ws");

/// What a server does not do has no line.
const NOTHING: Known = Known { name: "", origin: Origin::Peer, echo: "", broadcast: "", deflate: "" };

/// One worker each but for those of [`TWO_TO_ONE`]; the first word is the program. The load generator understands no pings,
/// and whose turn it is not may be silent for long: nobody sends them.
const KNOWN: [Known; 17] = [
    Known {
        name: FLOOR,
        origin: Origin::Here,
        echo: "floor {addr} --scenario {scenario}",
        broadcast: "floor {addr} --scenario {scenario}",
        deflate: "floor {addr} --scenario {scenario}",
    },
    Known { name: TWO_FLOORS, origin: Origin::Here, echo: "floor {addr} --scenario {scenario} --threads 2", ..NOTHING },
    Known {
        name: PLACED_FLOOR,
        origin: Origin::Here,
        echo: "floor {addr} --scenario {scenario} --placed",
        broadcast: "floor {addr} --scenario {scenario} --placed",
        ..NOTHING
    },
    Known {
        name: ONE_WORKER,
        origin: Origin::Example,
        echo: "echo {addr} --workers 1 --max-message 16777216 --idle-timeout 600",
        broadcast: "broadcast {addr} --workers 1 --idle-timeout 600",
        deflate: "echo-deflate {addr} --workers 1 --deflate",
    },
    Known {
        name: "threadbare-channel",
        origin: Origin::Example,
        echo: "echo {addr} --workers 1 --max-message 16777216 --idle-timeout 600 --channel",
        broadcast: "broadcast {addr} --workers 1 --idle-timeout 600 --channel",
        deflate: "echo-deflate {addr} --workers 1 --deflate --channel",
    },
    Known {
        name: TWO_WORKERS,
        origin: Origin::Example,
        echo: "echo {addr} --workers 2 --max-message 16777216 --idle-timeout 600",
        ..NOTHING
    },
    Known { name: "threadbare-threads", origin: Origin::Example, echo: "thread_per_connection {addr}", ..NOTHING },
    Known {
        name: "tokio-tungstenite",
        echo: "peer-tokio-tungstenite {addr}",
        broadcast: "peer-tokio-tungstenite {addr} --mode broadcast",
        ..NOTHING
    },
    Known { name: "tokio-tungstenite-forward", echo: "peer-tokio-tungstenite {addr} --mode forward", ..NOTHING },
    Known {
        name: "fastwebsockets",
        echo: "peer-fastwebsockets {addr}",
        broadcast: "peer-fastwebsockets {addr} --mode broadcast",
        ..NOTHING
    },
    Known { name: "wtx", echo: "peer-wtx {addr}", broadcast: "peer-wtx {addr} --mode broadcast", ..NOTHING },
    Known { name: "axum", echo: "peer-axum {addr}", broadcast: "peer-axum {addr} --mode broadcast", ..NOTHING },
    Known {
        name: "tungstenite-threads",
        echo: "peer-tungstenite {addr}",
        broadcast: "peer-tungstenite {addr} --mode broadcast",
        ..NOTHING
    },
    Known {
        name: "simple-websockets",
        echo: "peer-simple-websockets {addr}",
        broadcast: "peer-simple-websockets {addr} --mode broadcast",
        ..NOTHING
    },
    Known { name: "ws-rs", echo: "peer-ws-rs {addr}", broadcast: "peer-ws-rs {addr} --mode broadcast", ..NOTHING },
    Known {
        name: "node-ws",
        origin: Origin::Node,
        echo: "node node-ws/echo.mjs {addr}",
        broadcast: "node node-ws/echo.mjs {addr} --broadcast",
        deflate: "node node-ws/echo.mjs {addr} --deflate",
    },
    // As hard as threadbare does unless told otherwise.
    Known {
        name: "node-ws-level-1",
        origin: Origin::Node,
        deflate: "node node-ws/echo.mjs {addr} --deflate --level 1",
        ..NOTHING
    },
];

pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|known| known.name)
}

/// Those that are measured unless others are asked for: one core is enough for each, and no two do the same.
pub(crate) fn names_by_default() -> impl Iterator<Item = &'static str> {
    names().filter(|name| *name != PLACED_FLOOR && TWO_TO_ONE.iter().all(|(two, _)| two != name))
}

/// What is measured with, and what is measured.
pub(crate) struct Programs {
    pub(crate) loadgen: PathBuf,
    /// What starts the others.
    pub(crate) ahead: PathBuf,
    pub(crate) servers: Vec<Server>,
    /// Names of those that can not be started.
    pub(crate) missing: Vec<String>,
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
    let mut programs = cargo::build(here, &own)?;
    let deflate = options.scenarios.iter().any(|scenario| matches!(scenario.kind, Kind::Deflate { .. }));
    if wanted.iter().any(|known| known.origin == Origin::Example) {
        programs.extend(examples(options, &here.join("../.."), deflate)?);
    }
    if wanted.iter().any(|known| known.origin == Origin::Node) {
        match node() {
            Ok(built) => programs.extend(built),
            Err(error) => eprintln!("node: {error}"),
        }
    }

    let (mut servers, mut missing) = (Vec::new(), Vec::new());
    for known in wanted {
        let line = |words: &str| command_line(&programs, words);
        // Compression is built only if it is measured.
        let lines = [known.echo, known.broadcast, if deflate { known.deflate } else { "" }];
        match lines.map(line) {
            [Ok(echo), Ok(broadcast), Ok(deflate)] => {
                servers.push(Server { name: known.name.to_owned(), echo, broadcast, deflate });
            }
            [Err(error), ..] | [_, Err(error), _] | [.., Err(error)] => {
                eprintln!("NOT MEASURED: {}: {error}", known.name);
                missing.push(known.name.to_owned());
            }
        }
    }
    for given in &options.commands {
        let at = servers.iter().position(|server| server.name == given.name).unwrap_or_else(|| {
            servers.push(Server { name: given.name.clone(), echo: None, broadcast: None, deflate: None });
            servers.len() - 1
        });
        match given.purpose {
            Purpose::Echo => servers[at].echo = Some(given.command.clone()),
            Purpose::Broadcast => servers[at].broadcast = Some(given.command.clone()),
            Purpose::Deflate => servers[at].deflate = Some(given.command.clone()),
        }
    }
    let loadgen = programs.remove("loadgen").ok_or("the load generator could not be built")?;
    let ahead = programs.remove("ahead").ok_or("what goes ahead could not be built")?;
    Ok(Programs { loadgen, ahead, servers, missing })
}

/// `None` for a server that does not do it; an error if its program, or what runs it, is missing.
fn command_line(programs: &Built, words: &str) -> Result<Option<CommandLine>, String> {
    let mut line: CommandLine = words.split_whitespace().map(str::to_owned).collect();
    let own = usize::from(line.first().is_some_and(|word| word == "node")) + 1;
    for program in line.iter_mut().take(own) {
        match programs.get(program).filter(|path| path.exists()) {
            Some(path) => *program = path.display().to_string(),
            None => return Err(format!("its program {program} is missing")),
        }
    }
    Ok((!line.is_empty()).then_some(line))
}

/// The library's examples; `echo` twice if it is wanted with compression, in another directory so that neither replaces
/// the other.
fn examples(options: &Options, library: &Path, deflate: bool) -> Result<Built, Box<dyn Error>> {
    let mut built = match &options.examples_dir {
        Some(dir) => EXAMPLES.map(|name| (name.to_owned(), dir.join(name))).into(),
        None => {
            let names: Vec<_> = EXAMPLES.iter().flat_map(|name| ["--example", name]).collect();
            cargo::build(library, &names)?
        }
    };
    if deflate {
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| library.join("target"), PathBuf::from);
        let target = target.join("deflate").display().to_string();
        let echo = match &options.deflate_examples_dir {
            Some(dir) => Some(dir.join("echo")),
            None => cargo::build(library, &["--example", "echo", "--features", "deflate", "--target-dir", &target])?
                .remove("echo"),
        };
        built.extend(echo.map(|path| (DEFLATE_EXAMPLE.to_owned(), path)));
    }
    Ok(built)
}

/// Node, and the program with the packages that it needs, which are fetched unless they are there.
fn node() -> Result<Built, Box<dyn Error>> {
    let path = env::var_os("PATH").unwrap_or_default();
    let find = |name: &str| env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file());
    let node = find("node").ok_or("it is not installed")?;
    let dir = Path::new(NODE_WS_DIR);
    let version = |lock: &str| -> Option<String> {
        let lock: serde_json::Value = serde_json::from_slice(&fs::read(dir.join(lock)).ok()?).ok()?;
        Some(lock["packages"]["node_modules/ws"]["version"].as_str()?.to_owned())
    };
    let wanted = version("package-lock.json").ok_or("servers/node-ws/package-lock.json does not name ws")?;
    if version("node_modules/.package-lock.json").as_ref() != Some(&wanted) {
        eprintln!("npm ci in {}", dir.display());
        let npm = find("npm").ok_or("npm is not installed")?;
        let arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
        let status = Command::new(npm).args(arguments).current_dir(dir).stdout(Stdio::null()).status()?;
        if !status.success() {
            return Err(format!("npm ci in {}: {status}", dir.display()).into());
        }
    }
    Ok([("node".to_owned(), node), (NODE_WS.to_owned(), dir.join("echo.mjs"))].into())
}
