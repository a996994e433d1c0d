//! Runs a program in its own place, ahead of whatever else runs on its cores.

use std::error::Error;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use peers::{priority, program};

const USAGE: &str = "\
Runs a program ahead of what else runs on the same cores; without the right to, as everybody else.

Usage: ahead PROGRAM [ARGUMENT...]
";

fn main() -> ExitCode {
    program::run(USAGE, parse, |words| {
        let [name, arguments @ ..] = words.as_slice() else { return Err("which program?".into()) };
        priority::end_with_the_parent()?;
        match priority::go_ahead() {
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error.into()),
            _ => {}
        }
        Err(format!("{name}: {}", Command::new(name).args(arguments).exec()).into())
    })
}

/// All words are the program's but `--help` before them.
fn parse(mut parser: lexopt::Parser) -> Result<Option<Vec<String>>, Box<dyn Error>> {
    let words: Vec<String> = parser
        .raw_args()?
        .map(|word| word.into_string())
        .collect::<Result<_, _>>()
        .map_err(|word| format!("{word:?} is not UTF-8"))?;
    Ok((words.first().map(String::as_str) != Some("--help")).then_some(words))
}
