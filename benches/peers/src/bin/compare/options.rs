//! The command line.

use std::error::Error;
use std::path::PathBuf;

use lexopt::prelude::*;
use peers::process;
use peers::scenario::{self, Scenario};

use crate::servers;

pub(crate) const USAGE: &str = "\
Compares WebSocket servers with each other and with the floor, a bare epoll loop.

Usage: compare [OPTIONS]

  --short                 a few servers and scenarios in under three minutes
  --scaling               the floor and threadbare with one thread and with two, all on cores 0 and 1, in some echoes
                          and open-loop-1000: compares the cost of a message, not the throughput
  --neighbours            threadbare with a handler, with events and inline, without and with three clients that
                          misbehave, in echo-1KiB and open-loop-1000: compares the latency of the others
  --tls                   the scenarios over TLS, with the floor, threadbare and tokio-tungstenite
  --only a,b              these scenarios only, such as echo-32B,echo-32B-pipelined. --list prints their names
  --servers a,b           these servers only, and the floor. --list prints their names
  --command 'NAME=CMD'    add a server for all scenarios except those of the next three options, such as
                          'mine=./echo {addr}'. {addr}, {host} and {port} are replaced. CMD is split at blanks and run
                          without a shell
  --tls-command 'NAME=CMD'
                          the same for the scenarios over TLS. {cert} and {key} are replaced as well
  --broadcast-command 'NAME=CMD'
                          the same for the fan-outs
  --deflate-command 'NAME=CMD'
                          the same for the compressed echoes
  --rounds N              how often everything is measured (default 5; 3 with --short)
  --attempts N            how often a round of a scenario is measured at most, until no other program disturbs it
                          (default 3; 1 with --short)
  --seconds S             how long each server is measured in a round (default 1; 0.8 with --short)
  --slices N              the number of slices of that time, which alternate with those of the other servers (default
                          5; 4 with --short); always one for messages of 1 MiB and more
  --warm-up S             how long to send before the first slice (default 0.3); before the others at most 0.2
  --examples-dir DIR      where the library's examples are, built with --release (default: build them)
  --deflate-examples-dir DIR
                          the same, built with --features deflate
  --tls-examples-dir DIR  the same, built with --features rustls-tls
  --server-core N,...     the cores of the servers (default 0; 0,1 with --scaling)
  --generator-core N,...  the cores of the load generators (default 1; 0,1 with --scaling)
  --out DIR               where to write the results (default benches/results)
  --name NAME             the name of the results (default peers, or the preset: short, scaling, neighbours or tls)
  --update                keep other scenarios from an earlier run on this machine, whose NAME.json is in DIR
  --list                  print the names of servers and scenarios
  --help                  print this text
";

pub(crate) struct Options {
    pub(crate) preset: Option<Preset>,
    pub(crate) scenarios: Vec<Scenario>,
    /// The servers known by name.
    pub(crate) servers: Vec<String>,
    /// The servers given as command lines.
    pub(crate) commands: Vec<CustomServer>,
    pub(crate) rounds: usize,
    /// How often a round of a scenario is measured at most, until the machine is quiet.
    pub(crate) attempts: usize,
    pub(crate) seconds: f64,
    pub(crate) slices: usize,
    pub(crate) warm_up: f64,
    pub(crate) examples_dir: Option<PathBuf>,
    pub(crate) deflate_examples_dir: Option<PathBuf>,
    pub(crate) tls_examples_dir: Option<PathBuf>,
    pub(crate) server_core: Vec<usize>,
    pub(crate) generator_core: Vec<usize>,
    pub(crate) out: PathBuf,
    pub(crate) name: String,
    /// Whether to keep other scenarios of an earlier run.
    pub(crate) update: bool,
}

/// What is measured, unless other options say something else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preset {
    Short,
    /// Two workers are compared with one.
    Scaling,
    /// Each server is measured without and with clients that misbehave.
    Neighbours,
    /// Everything goes over TLS.
    Tls,
}

impl Preset {
    fn name(self) -> &'static str {
        match self {
            Preset::Short => "short",
            Preset::Scaling => "scaling",
            Preset::Neighbours => "neighbours",
            Preset::Tls => "tls",
        }
    }

    fn scenarios(self) -> &'static str {
        match self {
            Preset::Short => SHORT_SCENARIOS,
            Preset::Scaling => SCALING_SCENARIOS,
            Preset::Neighbours => NEIGHBOURS_SCENARIOS,
            Preset::Tls => TLS_SCENARIOS,
        }
    }

    fn servers(self) -> &'static str {
        match self {
            Preset::Short => SHORT_SERVERS,
            Preset::Scaling => SCALING_SERVERS,
            Preset::Neighbours => NEIGHBOURS_SERVERS,
            Preset::Tls => TLS_SERVERS,
        }
    }
}

/// A server given as a command line.
pub(crate) struct CustomServer {
    pub(crate) name: String,
    pub(crate) purpose: Purpose,
    pub(crate) command: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Echo,
    Broadcast,
    Deflate,
    Tls,
}

const SHORT_SCENARIOS: &str =
    "echo-32B,echo-32B-pipelined,echo-128B-pipelined,fan-out-1000-pipelined,open-loop-1000,connect";
const SHORT_SERVERS: &str = "threadbare,threadbare-channel,tokio-tungstenite";

const SCALING_SCENARIOS: &str = "echo-32B,echo-32B-pipelined,echo-1KiB,echo-64KiB,echo-128B-pipelined,open-loop-1000";
const SCALING_SERVERS: &str = "floor-2,threadbare,threadbare-2";

const NEIGHBOURS_SCENARIOS: &str = "echo-1KiB,open-loop-1000";
const NEIGHBOURS_SERVERS: &str = "threadbare,threadbare-channel,threadbare-inline";

const TLS_SCENARIOS: &str =
    "echo-tls-32B,echo-tls-32B-pipelined,echo-tls-32B-records,echo-tls-1KiB,echo-tls-64KiB,connect-tls,idle-memory-tls";
const TLS_SERVERS: &str = "threadbare,threadbare-channel,tokio-tungstenite";

impl Options {
    /// `None` for `--help`, and for `--list`, which it prints.
    pub(crate) fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, Box<dyn Error>> {
        let out = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../results"));
        let (mut presets, mut update) = (Vec::new(), false);
        let (mut only, mut servers, mut commands) = (None, None, Vec::new());
        let (mut rounds, mut attempts, mut seconds, mut slices, mut warm_up) = (None, None, None, None, None);
        let mut name = None;
        let (mut examples_dir, mut deflate_examples_dir, mut tls_examples_dir) = (None, None, None);
        let (mut server_core, mut generator_core, mut out) = (None, None, out);
        while let Some(arg) = parser.next()? {
            match arg {
                Long("short") => presets.push(Preset::Short),
                Long("scaling") => presets.push(Preset::Scaling),
                Long("neighbours") => presets.push(Preset::Neighbours),
                Long("tls") => presets.push(Preset::Tls),
                Long("update") => update = true,
                Long("only") => only = Some(parser.value()?.string()?),
                Long("servers") => servers = Some(parser.value()?.string()?),
                Long("command") => commands.push(given(&parser.value()?.string()?, Purpose::Echo)?),
                Long("broadcast-command") => commands.push(given(&parser.value()?.string()?, Purpose::Broadcast)?),
                Long("deflate-command") => commands.push(given(&parser.value()?.string()?, Purpose::Deflate)?),
                Long("tls-command") => commands.push(given(&parser.value()?.string()?, Purpose::Tls)?),
                Long("rounds") => rounds = Some(parser.value()?.parse()?),
                Long("attempts") => attempts = Some(parser.value()?.parse()?),
                Long("seconds") => seconds = Some(parser.value()?.parse()?),
                Long("slices") => slices = Some(parser.value()?.parse()?),
                Long("warm-up") => warm_up = Some(parser.value()?.parse()?),
                Long("examples-dir") => examples_dir = Some(PathBuf::from(parser.value()?)),
                Long("deflate-examples-dir") => deflate_examples_dir = Some(PathBuf::from(parser.value()?)),
                Long("tls-examples-dir") => tls_examples_dir = Some(PathBuf::from(parser.value()?)),
                Long("server-core") => server_core = Some(parser.value()?.parse_with(process::cores)?),
                Long("generator-core") => generator_core = Some(parser.value()?.parse_with(process::cores)?),
                Long("out") => out = PathBuf::from(parser.value()?),
                Long("name") => name = Some(parser.value()?.string()?),
                Long("list") => {
                    list();
                    return Ok(None);
                }
                Short('h') | Long("help") => return Ok(None),
                _ => return Err(arg.unexpected().into()),
            }
        }
        let preset = match presets.as_slice() {
            [] => None,
            [preset] => Some(*preset),
            _ => return Err("--short, --scaling, --neighbours and --tls: only one of them".into()),
        };
        let (short, scaling) = (preset == Some(Preset::Short), preset == Some(Preset::Scaling));
        let of_preset = |text: fn(Preset) -> &'static str| preset.map(|preset| text(preset).to_owned());
        let only = only.or_else(|| of_preset(Preset::scenarios));
        let scenarios = match only {
            Some(names) => names.split(',').map(Scenario::named).collect::<Result<_, _>>()?,
            None => scenario::ALL.into_iter().filter(|scenario| !scenario.tls).collect(),
        };
        let servers = servers.or_else(|| of_preset(Preset::servers));
        let servers = match servers {
            Some(names) => names.split(',').map(str::to_owned).collect(),
            // On one core, a second worker could only slow a server down.
            None => servers::names_by_default().map(str::to_owned).collect(),
        };
        let rounds = rounds.unwrap_or(if short { 3 } else { 5 });
        let attempts = attempts.unwrap_or(if short { 1 } else { 3 });
        let slices = slices.unwrap_or(if short { 4 } else { 5 });
        if rounds == 0 || attempts == 0 || slices == 0 {
            return Err("--rounds, --attempts and --slices: at least 1".into());
        }
        let both = || vec![0, 1];
        Ok(Some(Options {
            preset,
            scenarios,
            servers,
            commands,
            rounds,
            attempts,
            seconds: seconds.unwrap_or(if short { 0.8 } else { 1.0 }),
            slices,
            warm_up: warm_up.unwrap_or(0.3),
            examples_dir,
            deflate_examples_dir,
            tls_examples_dir,
            server_core: server_core.unwrap_or_else(|| if scaling { both() } else { vec![0] }),
            generator_core: generator_core.unwrap_or_else(|| if scaling { both() } else { vec![1] }),
            out,
            name: name.or_else(|| of_preset(Preset::name)).unwrap_or_else(|| "peers".to_owned()),
            update,
        }))
    }
}

fn given(text: &str, purpose: Purpose) -> Result<CustomServer, String> {
    let (name, command) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=COMMAND"))?;
    let command: Vec<_> = command.split_whitespace().map(str::to_owned).collect();
    if name.is_empty() || !command.iter().any(|word| word.contains("{addr}") || word.contains("{port}")) {
        return Err(format!("{text:?} is not NAME=COMMAND with {{addr}} or {{port}} in the command"));
    }
    Ok(CustomServer { name: name.to_owned(), purpose, command })
}

fn list() {
    for name in servers::names() {
        println!("{name}");
    }
    for scenario in scenario::ALL {
        println!("{:24} {}", scenario.name, scenario.title());
    }
}

#[cfg(test)]
mod tests {
    use super::{Preset, Scenario, servers};

    #[test]
    fn presets_name_known_scenarios_and_servers() {
        for preset in [Preset::Short, Preset::Scaling, Preset::Neighbours, Preset::Tls] {
            for name in preset.scenarios().split(',') {
                assert!(Scenario::named(name).is_ok(), "{name}");
            }
            for name in preset.servers().split(',') {
                assert!(servers::names().any(|known| known == name), "{name}");
            }
        }
    }
}
