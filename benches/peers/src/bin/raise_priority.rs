//! Replaces itself by a program that has the highest priority on its cores.

use std::error::Error;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use peers::{priority, program};

const USAGE: &str = "\
Runs a program with raised priority; with the usual one if raising it is not permitted.

Usage: raise_priority PROGRAM [ARGUMENT...]
";

fn main() -> ExitCode {
    program::run(USAGE, parse, |words| {
        let [name, arguments @ ..] = words.as_slice() else { return Err("PROGRAM is missing".into()) };
        priority::end_with_parent()?;
        match priority::raise() {
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error.into()),
            _ => {}
        }
        Err(format!("{name}: {}", Command::new(name).args(arguments).exec()).into())
    })
}

/// All arguments belong to the program, except a `--help` before it.
fn parse(mut parser: lexopt::Parser) -> Result<Option<Vec<String>>, Box<dyn Error>> {
    let words: Vec<String> = parser
        .raw_args()?
        .map(|word| word.into_string())
        .collect::<Result<_, _>>()
        .map_err(|word| format!("{word:?} is not UTF-8"))?;
    Ok((words.first().map(String::as_str) != Some("--help")).then_some(words))
}
