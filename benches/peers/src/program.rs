//! What all programs here share: the command line, and errors.

use std::env;
use std::error::Error;
use std::fmt::Display;
use std::process::ExitCode;

/// Parses the command line and runs `work`; see [`peer_common::run`].
pub fn run<O, E: Display>(
    usage: &str,
    parse: impl FnOnce(lexopt::Parser) -> Result<Option<O>, E>,
    work: impl FnOnce(&O) -> Result<(), Box<dyn Error>>,
) -> ExitCode {
    peer_common::run(usage, parse, |options| work(&options))
}

/// The command that starts `binary` with the arguments of this process, for a report to name.
#[must_use]
pub fn command_line(binary: &str) -> String {
    let mut line = format!("cargo run --release --manifest-path benches/peers/Cargo.toml --bin {binary}");
    for (index, argument) in env::args_os().skip(1).enumerate() {
        let argument = argument.to_string_lossy();
        line += if index == 0 { " -- " } else { " " };
        line += &if argument.contains([' ', '{']) { format!("'{argument}'") } else { argument.into_owned() };
    }
    line
}
