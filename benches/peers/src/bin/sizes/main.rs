//! Measures each echo server's size: its program, its crates, and the time of a clean build.

mod tree;

use std::env;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use lexopt::prelude::*;
use peers::cargo;
use peers::machine::Machine;
use peers::program;
use serde::Serialize;

const USAGE: &str = "\
Measures the size of each echo server, counts its crates, and times a clean build.

Usage: sizes [OPTIONS]

  --servers a,b  these servers only, of threadbare tokio-tungstenite fastwebsockets wtx axum
                 tungstenite-threads simple-websockets ws-rs
  --scratch DIR  where to build; it must not exist (default: a new directory for temporary files)
  --out DIR      where to write the results (default benches/results)
  --name NAME    the name of the results (default sizes)
  --help         print this text
";

/// This workspace.
const HERE: &str = env!("CARGO_MANIFEST_DIR");
/// The library with its examples.
const LIBRARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

struct Server {
    name: &'static str,
    /// The package in this workspace; for the first server, that of the library's examples.
    package: &'static str,
    /// The WebSocket crate that it uses.
    crate_name: &'static str,
}

const OURS: &str = "threadbare";

const SERVERS: [Server; 8] = [
    Server { name: OURS, package: "threadbare-examples", crate_name: "threadbare" },
    Server { name: "tokio-tungstenite", package: "peer-tokio-tungstenite", crate_name: "tokio-tungstenite" },
    Server { name: "fastwebsockets", package: "peer-fastwebsockets", crate_name: "fastwebsockets" },
    Server { name: "wtx", package: "peer-wtx", crate_name: "wtx" },
    Server { name: "axum", package: "peer-axum", crate_name: "axum" },
    Server { name: "tungstenite-threads", package: "peer-tungstenite", crate_name: "tungstenite" },
    Server { name: "simple-websockets", package: "peer-simple-websockets", crate_name: "simple-websockets" },
    Server { name: "ws-rs", package: "peer-ws-rs", crate_name: "ws" },
];

struct Options {
    servers: Vec<&'static Server>,
    scratch: PathBuf,
    out: PathBuf,
    name: String,
}

#[derive(Serialize)]
struct Size {
    stripped_bytes: u64,
    /// The crates in its tree of normal dependencies, with itself.
    crates: usize,
    /// Those of them in the tree of the WebSocket library, with the library.
    crates_alone: usize,
    build_seconds: f64,
    /// The time for the library alone, if more is built than is linked.
    seconds_alone: Option<f64>,
}

fn main() -> ExitCode {
    program::run(USAGE, parse, sizes)
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        servers: SERVERS.iter().collect(),
        scratch: env::temp_dir().join(format!("threadbare-sizes-{}", std::process::id())),
        out: PathBuf::from(HERE).join("../results"),
        name: "sizes".to_owned(),
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("servers") => options.servers = parser.value()?.parse_with(named)?,
            Long("scratch") => options.scratch = PathBuf::from(parser.value()?),
            Long("out") => options.out = PathBuf::from(parser.value()?),
            Long("name") => options.name = parser.value()?.string()?,
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Some(options))
}

fn named(names: &str) -> Result<Vec<&'static Server>, String> {
    let find = |name| SERVERS.iter().find(|server| server.name == name).ok_or_else(|| format!("there is no {name:?}"));
    names.split(',').map(find).collect()
}

fn sizes(options: &Options) -> Result<(), Box<dyn Error>> {
    let machine = Machine::look();
    if options.scratch.exists() {
        return Err(format!("{} exists already", options.scratch.display()).into());
    }
    for package in [HERE, LIBRARY] {
        let status = cargo::command("fetch", Path::new(package)).args(["--locked", "--quiet"]).status()?;
        if !status.success() {
            return Err(format!("cargo fetch in {package}: {status}").into());
        }
    }
    let mut rows = Vec::new();
    for server in &options.servers {
        let size = size(server, &options.scratch).map_err(|error| error.to_string());
        // An error means that it does not exist.
        let _ = fs::remove_dir_all(&options.scratch);
        if let Err(error) = &size {
            eprintln!("NOT MEASURED: {}: {error}", server.name);
        }
        rows.push((server.name, size));
    }
    let table = table(&machine, &rows);
    println!("{table}");
    fs::create_dir_all(&options.out)?;
    let path = |extension: &str| options.out.join(format!("{}.{extension}", options.name));
    let json = serde_json::json!({ "machine": machine, "servers": rows });
    fs::write(path("json"), serde_json::to_string_pretty(&json)?)?;
    fs::write(path("md"), table)?;
    println!("written to {}", options.out.display());
    let missing: Vec<_> = rows.iter().filter(|(_, size)| size.is_err()).map(|(name, _)| *name).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("NOT MEASURED: {}", missing.join(", ")).into()) }
}

fn size(server: &Server, scratch: &Path) -> Result<Size, Box<dyn Error>> {
    let ours = server.name == OURS;
    let (workspace, program) = if ours { (LIBRARY, "echo") } else { (HERE, server.package) };
    let target = if ours { ["--example", program] } else { ["--bin", program] };
    let workspace = Path::new(workspace);
    let (seconds, program) =
        clean_build(workspace, &[&["--package", server.package], &target[..]].concat(), program, scratch)?;
    let stripped_bytes = fs::metadata(program.ok_or("it cannot be built")?)?.len();
    let (crates, crates_alone) = if ours {
        let sources = tree::sources_of_example(&scratch.join("release/examples/echo.d"))?;
        tree::of_example(workspace, server.package, server.crate_name, &sources)?
    } else {
        tree::of_package(workspace, server.package, server.crate_name)?
    };
    let mut seconds_alone = None;
    if ours {
        fs::remove_dir_all(scratch)?;
        let (seconds, _) = clean_build(workspace, &["--package", server.crate_name, "--lib"], "", scratch)?;
        if !scratch.join("release/libthreadbare.rlib").exists() {
            return Err("the library cannot be built".into());
        }
        seconds_alone = Some(seconds);
    }
    Ok(Size { stripped_bytes, crates, crates_alone, build_seconds: seconds, seconds_alone })
}

/// Returns the time of a clean build, and the program if it was built.
fn clean_build(
    package: &Path,
    what: &[&str],
    program: &str,
    scratch: &Path,
) -> Result<(f64, Option<PathBuf>), Box<dyn Error>> {
    let target = scratch.display().to_string();
    let mut arguments = what.to_vec();
    arguments.extend(["--locked", "--offline", "--config", "profile.release.strip=true", "--target-dir", &target]);
    let start = Instant::now();
    let mut built = cargo::build(package, &arguments)?;
    Ok((start.elapsed().as_secs_f64(), built.remove(program)))
}

fn table(machine: &Machine, rows: &[(&str, Result<Size, String>)]) -> String {
    let mut text = machine.heading(&[program::command_line("sizes")]);
    text += "The stripped program of each echo server; the crates in its tree, and in the tree of its WebSocket library, each with\n";
    text += "itself; and the time of a clean build, with the sources already downloaded. threadbare's server is its example. Cargo\n";
    text += "builds the dependencies of all examples with it; only the crates that it links are counted.\n\n";
    text += "| server | stripped, bytes | crates | the library's alone | clean build, s |\n|---|---|---|---|---|\n";
    for (name, size) in rows {
        let _ = match size {
            Err(_) => writeln!(text, "| {name} | NOT MEASURED | | | |"),
            Ok(size) => {
                let alone = |seconds: f64| format!(" (the library alone {seconds:.1})");
                let build_alone = size.seconds_alone.map(alone).unwrap_or_default();
                let (bytes, crates, alone) = (size.stripped_bytes, size.crates, size.crates_alone);
                writeln!(text, "| {name} | {bytes} | {crates} | {alone} | {:.1}{build_alone} |", size.build_seconds)
            }
        };
    }
    text
}
