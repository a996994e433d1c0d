//! The command line.

use std::path::PathBuf;

use lexopt::prelude::*;
use peer_common::large::Large;

use crate::bare::Bare;
use crate::case::{Case, Direction, Transport, Way};
use crate::message::PIECE;

pub(crate) const USAGE: &str = "\
Measures a message of 2 GiB that a program receives, sends or sends back in parts, and other connections beside it.

Usage: stream [OPTIONS]

  --short             64 MiB, one round, in less than two minutes
  --size MIB          the size of the message (default 2048), a multiple of 1
  --beside-size MIB   the same beside other connections (default 512)
  --rounds N          how often everything is measured (default 3)
  --only a,b          only the cases whose names contain one of these, and the bare loops they are compared with:
                      tls, handler-plain-in
  --no-beside         without the 100 connections beside the message
  --core N            the core of the measured program (default 0)
  --other-core N      the core of the other end (default 1)
  --out DIR           where to write the results (default benches/results)
  --name NAME         the name of the results (default stream)
  --list              print the names of the cases
  --help              print this text
";

pub(crate) struct Options {
    pub(crate) size: u64,
    pub(crate) beside_size: u64,
    pub(crate) rounds: usize,
    pub(crate) cases: Vec<Case>,
    pub(crate) beside: bool,
    pub(crate) core: usize,
    pub(crate) other_core: usize,
    pub(crate) out: PathBuf,
    pub(crate) name: String,
}

/// What this program is to do.
pub(crate) enum Task {
    Measure(Options),
    /// Be a bare loop.
    Serve(Bare),
}

impl Task {
    /// `None` for `--help`, and for `--list`, which was printed.
    pub(crate) fn parse(mut parser: lexopt::Parser) -> Result<Option<Task>, lexopt::Error> {
        let mut options = Options {
            size: 2 << 30,
            beside_size: 512 << 20,
            rounds: 3,
            cases: Case::all(),
            beside: true,
            core: 0,
            other_core: 1,
            out: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../results")),
            name: "stream".to_owned(),
        };
        while let Some(arg) = parser.next()? {
            match arg {
                Long("short") => {
                    (options.size, options.beside_size, options.rounds) = (64 << 20, 64 << 20, 1);
                    options.name = "short-stream".to_owned();
                }
                Long("size") => options.size = parser.value()?.parse::<u64>()? << 20,
                Long("beside-size") => options.beside_size = parser.value()?.parse::<u64>()? << 20,
                Long("rounds") => options.rounds = parser.value()?.parse()?,
                Long("only") => options.cases = Case::named(&parser.value()?.string()?)?,
                Long("no-beside") => options.beside = false,
                Long("core") => options.core = parser.value()?.parse()?,
                Long("other-core") => options.other_core = parser.value()?.parse()?,
                Long("out") => options.out = parser.value()?.into(),
                Long("name") => options.name = parser.value()?.string()?,
                Long("list") => {
                    Case::all().iter().for_each(|case| println!("{case}"));
                    return Ok(None);
                }
                Long("bare") => return bare(parser).map(|bare| Some(Task::Serve(bare))),
                Short('h') | Long("help") => return Ok(None),
                _ => return Err(arg.unexpected()),
            }
        }
        if options.rounds == 0 || options.size < 2 * PIECE as u64 || options.beside_size < 2 * PIECE as u64 {
            return Err("--rounds, --size and --beside-size: at least 1".into());
        }
        Ok(Some(Task::Measure(options)))
    }
}

/// What follows `--bare` is as for `peer-threadbare`.
fn bare(mut parser: lexopt::Parser) -> Result<Bare, lexopt::Error> {
    let way = match parser.value()?.string()?.as_str() {
        name if name == Way::BareServer.name() => Way::BareServer,
        name if name == Way::BareClient.name() => Way::BareClient,
        _ => return Err("--bare: bare-server or bare-client".into()),
    };
    let (mut addr, mut piece, mut size, mut certificate) = (String::new(), PathBuf::new(), 0, PathBuf::new());
    let (mut direction, mut transport) = (Direction::Echo, Transport::Plain);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("direction") => direction = Direction::named(&parser.value()?.string()?)?,
            Long("transport") => transport = Transport::named(&parser.value()?.string()?)?,
            Long("piece") => piece = parser.value()?.into(),
            Long("size") => size = parser.value()?.parse()?,
            Long("certificate") => certificate = parser.value()?.into(),
            Value(value) => addr = value.string()?,
            _ => return Err(arg.unexpected()),
        }
    }
    let message = Large::from_file(&piece, size).map_err(|error| error.to_string())?;
    Ok(Bare { case: Case { way, transport, direction }, addr, message, certificate })
}
