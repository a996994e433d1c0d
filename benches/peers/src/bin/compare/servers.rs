//! The servers by name: what to build for each, and how to start it.

use std::collections::BTreeSet;
use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use peers::cargo::{self, Built};
use peers::scenario::{Kind, Scenario};

use crate::neighbours;
use crate::options::{Options, Preset, Purpose};

/// A program and its arguments, in which `{addr}` and the like are to be replaced.
pub(crate) type CommandLine = Vec<String>;

/// A server that can be started.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) neighbours: Neighbours,
    echo: Option<CommandLine>,
    broadcast: Option<CommandLine>,
    deflate: Option<CommandLine>,
    tls: Option<CommandLine>,
}

impl Server {
    /// `None` if the server does not support the scenario.
    pub(crate) fn command(&self, scenario: &Scenario) -> Option<&CommandLine> {
        match scenario.kind {
            _ if scenario.tls => self.tls.as_ref(),
            Kind::FanOut { .. } => self.broadcast.as_ref(),
            Kind::Deflate { .. } => self.deflate.as_ref(),
            _ => self.echo.as_ref(),
        }
    }
}

/// Whether clients that misbehave are connected to a server as well.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Neighbours {
    None,
    Misbehaving,
}

/// A server that this program can build.
struct KnownServer {
    name: &'static str,
    origin: Origin,
    echo: &'static str,
    broadcast: &'static str,
    deflate: &'static str,
    tls: &'static str,
}

/// Where a server's program comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// This package.
    Here,
    /// The library's examples.
    Example,
    /// Another package of this workspace.
    Peer,
    /// A program for Node.
    Node,
}

pub(crate) const FLOOR: &str = "floor";

/// The floor with its buffers placed like this library's. That makes a difference for large messages only.
const PLACED_FLOOR: &str = "floor-placed";

const TWO_FLOORS: &str = "floor-2";

pub(crate) const ONE_WORKER: &str = "threadbare";
/// Measured when asked for: the others have TCP.
const UNIX_SOCKET: &str = "threadbare-unix";
const TWO_WORKERS: &str = "threadbare-2";

/// Servers with two threads, which need two cores, and the same servers with one.
pub(crate) const TWO_TO_ONE: [(&str, &str); 2] = [(TWO_FLOORS, FLOOR), (TWO_WORKERS, ONE_WORKER)];

const EXAMPLES: [&str; 3] = ["echo", "broadcast", "thread_per_connection"];

/// `echo`, built with permessage-deflate.
const DEFLATE_EXAMPLE: &str = "echo-deflate";

/// `echo`, built with TLS.
const TLS_EXAMPLE: &str = "echo-tls";

/// The program for Node.
const NODE_WS: &str = "node-ws/echo.mjs";
const NODE_WS_DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/servers/node-ws");

/// A server that supports nothing: an empty command line stands for that.
const NOTHING: KnownServer =
    KnownServer { name: "", origin: Origin::Peer, echo: "", broadcast: "", deflate: "", tls: "" };

/// Each has one worker, except those of [`TWO_TO_ONE`]. The first word is the program. No server may send pings: the load
/// generator does not answer them, and a connection may be silent for a long time between two slices.
const KNOWN: [KnownServer; 19] = [
    KnownServer {
        name: FLOOR,
        origin: Origin::Here,
        echo: "floor {addr} --scenario {scenario}",
        broadcast: "floor {addr} --scenario {scenario}",
        deflate: "floor {addr} --scenario {scenario}",
        tls: "floor {addr} --scenario {scenario} --cert {cert} --key {key}",
    },
    KnownServer {
        name: TWO_FLOORS,
        origin: Origin::Here,
        echo: "floor {addr} --scenario {scenario} --threads 2",
        ..NOTHING
    },
    KnownServer {
        name: PLACED_FLOOR,
        origin: Origin::Here,
        echo: "floor {addr} --scenario {scenario} --placed",
        broadcast: "floor {addr} --scenario {scenario} --placed",
        ..NOTHING
    },
    KnownServer {
        name: ONE_WORKER,
        origin: Origin::Example,
        echo: "echo {addr} --workers 1 --max-message 16777216 --idle-timeout 600",
        broadcast: "broadcast {addr} --workers 1 --idle-timeout 600",
        deflate: "echo-deflate {addr} --workers 1 --deflate",
        tls: "echo-tls {addr} --workers 1 --max-message 16777216 --idle-timeout 600 --cert {cert} --key {key}",
    },
    KnownServer {
        name: UNIX_SOCKET,
        origin: Origin::Example,
        echo: "echo unix:{socket} --workers 1 --max-message 16777216 --idle-timeout 600",
        broadcast: "broadcast unix:{socket} --workers 1 --idle-timeout 600",
        ..NOTHING
    },
    KnownServer {
        name: "threadbare-channel",
        origin: Origin::Example,
        echo: "echo {addr} --workers 1 --max-message 16777216 --idle-timeout 600 --channel",
        broadcast: "broadcast {addr} --workers 1 --idle-timeout 600 --channel",
        deflate: "echo-deflate {addr} --workers 1 --deflate --channel",
        tls: "echo-tls {addr} --workers 1 --max-message 16777216 --idle-timeout 600 --cert {cert} --key {key} --channel",
    },
    KnownServer {
        name: "threadbare-inline",
        origin: Origin::Example,
        echo: "echo {addr} --max-message 16777216 --idle-timeout 600 --inline",
        deflate: "echo-deflate {addr} --deflate --inline",
        ..NOTHING
    },
    KnownServer {
        name: TWO_WORKERS,
        origin: Origin::Example,
        echo: "echo {addr} --workers 2 --max-message 16777216 --idle-timeout 600",
        ..NOTHING
    },
    KnownServer {
        name: "threadbare-threads",
        origin: Origin::Example,
        echo: "thread_per_connection {addr}",
        ..NOTHING
    },
    KnownServer {
        name: "tokio-tungstenite",
        echo: "peer-tokio-tungstenite {addr}",
        broadcast: "peer-tokio-tungstenite {addr} --mode broadcast",
        tls: "peer-tokio-tungstenite {addr} --cert {cert} --key {key}",
        ..NOTHING
    },
    KnownServer { name: "tokio-tungstenite-forward", echo: "peer-tokio-tungstenite {addr} --mode forward", ..NOTHING },
    KnownServer {
        name: "fastwebsockets",
        echo: "peer-fastwebsockets {addr}",
        broadcast: "peer-fastwebsockets {addr} --mode broadcast",
        ..NOTHING
    },
    KnownServer { name: "wtx", echo: "peer-wtx {addr}", broadcast: "peer-wtx {addr} --mode broadcast", ..NOTHING },
    KnownServer { name: "axum", echo: "peer-axum {addr}", broadcast: "peer-axum {addr} --mode broadcast", ..NOTHING },
    KnownServer {
        name: "tungstenite-threads",
        echo: "peer-tungstenite {addr}",
        broadcast: "peer-tungstenite {addr} --mode broadcast",
        ..NOTHING
    },
    KnownServer {
        name: "simple-websockets",
        echo: "peer-simple-websockets {addr}",
        broadcast: "peer-simple-websockets {addr} --mode broadcast",
        ..NOTHING
    },
    KnownServer {
        name: "ws-rs",
        echo: "peer-ws-rs {addr}",
        broadcast: "peer-ws-rs {addr} --mode broadcast",
        ..NOTHING
    },
    KnownServer {
        name: "node-ws",
        origin: Origin::Node,
        echo: "node node-ws/echo.mjs {addr}",
        broadcast: "node node-ws/echo.mjs {addr} --broadcast",
        deflate: "node node-ws/echo.mjs {addr} --deflate",
        ..NOTHING
    },
    // With threadbare's default level.
    KnownServer {
        name: "node-ws-level-1",
        origin: Origin::Node,
        deflate: "node node-ws/echo.mjs {addr} --deflate --level 1",
        ..NOTHING
    },
];

pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|known| known.name)
}

/// The servers that are measured by default. One core is enough for each.
pub(crate) fn names_by_default() -> impl Iterator<Item = &'static str> {
    names().filter(|name| ![PLACED_FLOOR, UNIX_SOCKET].contains(name) && TWO_TO_ONE.iter().all(|(two, _)| two != name))
}

/// The programs that were built.
pub(crate) struct Programs {
    pub(crate) loadgen: PathBuf,
    /// Starts the others with raised priority.
    pub(crate) raise_priority: PathBuf,
    /// Where the certificate and its key are, if a scenario needs them.
    pub(crate) certificate: PathBuf,
    pub(crate) servers: Vec<Server>,
    /// The names of servers that cannot be started.
    pub(crate) missing: Vec<String>,
}

/// Builds the servers that `options` asks for. Prints which ones cannot be built.
pub(crate) fn build(options: &Options) -> Result<Programs, Box<dyn Error>> {
    if let Some(name) = options.servers.iter().find(|name| !names().any(|known| known == *name)) {
        let known: Vec<_> = names().collect();
        return Err(format!("there is no server {name:?}; there are {}", known.join(", ")).into());
    }
    let wanted = |known: &&KnownServer| known.name == FLOOR || options.servers.iter().any(|name| name == known.name);
    let wanted: Vec<&KnownServer> = KNOWN.iter().filter(wanted).collect();

    // Peers are built together: separate builds would build their shared dependencies again, with other features.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let peers = wanted.iter().filter(|known| known.origin == Origin::Peer);
    let packages: BTreeSet<_> = peers.filter_map(|known| known.echo.split_whitespace().next()).collect();
    let packages = packages.into_iter().flat_map(|package| ["--package", package]);
    let own: Vec<_> = ["--keep-going", "--package", "peers"].into_iter().chain(packages).collect();
    let mut programs = cargo::build(here, &own)?;
    let deflate = options.scenarios.iter().any(|scenario| matches!(scenario.kind, Kind::Deflate { .. }));
    let tls = options.scenarios.iter().any(|scenario| scenario.tls);
    if wanted.iter().any(|known| known.origin == Origin::Example) {
        let library = here.join("../..");
        programs.extend(examples(options, &library)?);
        if deflate {
            programs.extend(echo_with(DEFLATE_EXAMPLE, "deflate", options.deflate_examples_dir.as_deref(), &library)?);
        }
        if tls {
            programs.extend(echo_with(TLS_EXAMPLE, "rustls-tls", options.tls_examples_dir.as_deref(), &library)?);
        }
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
        let mut lines = [known.echo, known.broadcast, "", ""];
        // The builds with compression and with TLS exist only if a scenario needs them.
        if deflate {
            lines[2] = known.deflate;
        }
        if tls {
            lines[3] = known.tls;
        }
        let all: Result<Vec<_>, _> = lines.into_iter().map(line).collect();
        match all.map(<[_; 4]>::try_from) {
            Ok(Ok([echo, broadcast, deflate, tls])) => {
                let name = known.name.to_owned();
                if options.preset == Some(Preset::Neighbours) && known.origin == Origin::Example {
                    let (name, neighbours) = (neighbours::name(&name), Neighbours::Misbehaving);
                    let echo = echo.clone();
                    servers.push(Server { name, neighbours, echo, broadcast: None, deflate: None, tls: None });
                }
                servers.push(Server { name, neighbours: Neighbours::None, echo, broadcast, deflate, tls });
            }
            Ok(Err(_)) => return Err("there are four command lines".into()),
            Err(error) => {
                eprintln!("NOT MEASURED: {}: {error}", known.name);
                missing.push(known.name.to_owned());
            }
        }
    }
    for given in &options.commands {
        let at = servers.iter().position(|server| server.name == given.name).unwrap_or_else(|| {
            let (name, neighbours) = (given.name.clone(), Neighbours::None);
            servers.push(Server { name, neighbours, echo: None, broadcast: None, deflate: None, tls: None });
            servers.len() - 1
        });
        match given.purpose {
            Purpose::Echo => servers[at].echo = Some(given.command.clone()),
            Purpose::Broadcast => servers[at].broadcast = Some(given.command.clone()),
            Purpose::Deflate => servers[at].deflate = Some(given.command.clone()),
            Purpose::Tls => servers[at].tls = Some(given.command.clone()),
        }
    }
    let loadgen = programs.remove("loadgen").ok_or("the load generator cannot be built")?;
    let raise_priority = programs.remove("raise_priority").ok_or("raise_priority cannot be built")?;
    let certificate = loadgen.with_file_name("certificate");
    if tls {
        peers::tls::write_certificate(&certificate)?;
    }
    Ok(Programs { loadgen, raise_priority, certificate, servers, missing })
}

/// `None` if the server does not support it; an error if its program, or Node, is missing.
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

/// Builds the library's examples.
fn examples(options: &Options, library: &Path) -> Result<Built, Box<dyn Error>> {
    match &options.examples_dir {
        Some(dir) => Ok(EXAMPLES.map(|name| (name.to_owned(), dir.join(name))).into()),
        None => {
            let names: Vec<_> = EXAMPLES.iter().flat_map(|name| ["--example", name]).collect();
            cargo::build(library, &names)
        }
    }
}

/// Builds `echo` with a feature, in another directory so that neither build replaces the other; `dir` has it already.
fn echo_with(name: &str, feature: &str, dir: Option<&Path>, library: &Path) -> Result<Built, Box<dyn Error>> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| library.join("target"), PathBuf::from);
    let target = target.join(feature).display().to_string();
    let echo = match dir {
        Some(dir) => Some(dir.join("echo")),
        None => cargo::build(library, &["--example", "echo", "--features", feature, "--target-dir", &target])?
            .remove("echo"),
    };
    Ok(echo.map(|path| (name.to_owned(), path)).into_iter().collect())
}

/// Finds Node, and installs the packages that its program needs.
fn node() -> Result<Built, Box<dyn Error>> {
    let path = env::var_os("PATH").unwrap_or_default();
    let find = |name: &str| env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file());
    let node = find("node").ok_or("node is not installed")?;
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
