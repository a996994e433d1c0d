//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

pub(crate) const USAGE: &str = "\
Measures how long a message takes that another thread sends to an idle connection.

Usage: hop [OPTIONS]

  --rounds N      how often everything is measured (default 5)
  --sends N       messages in each round by each method (default 2000)
  --pause US      microseconds of sleep between two messages (default 200)
  --size BYTES    the size of a message, at most 125 (default 32)
  --core N        the core of the sender (default 0)
  --other-core N  the second core of worker and client (default 1)
  --out DIR       where to write the results (default benches/results)
  --name NAME     the name of the results (default hop)
  --help          print this text
";

pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) sends: usize,
    pub(crate) pause: Duration,
    pub(crate) size: usize,
    pub(crate) core: usize,
    pub(crate) other_core: usize,
    pub(crate) out: PathBuf,
    pub(crate) name: String,
}

impl Options {
    /// `None` for `--help`.
    pub(crate) fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
        let mut options = Options {
            rounds: 5,
            sends: 2_000,
            pause: Duration::from_micros(200),
            size: 32,
            core: 0,
            other_core: 1,
            out: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../results")),
            name: "hop".to_owned(),
        };
        while let Some(arg) = parser.next()? {
            match arg {
                Long("rounds") => options.rounds = parser.value()?.parse()?,
                Long("sends") => options.sends = parser.value()?.parse()?,
                Long("pause") => options.pause = Duration::from_micros(parser.value()?.parse()?),
                Long("size") => options.size = parser.value()?.parse()?,
                Long("core") => options.core = parser.value()?.parse()?,
                Long("other-core") => options.other_core = parser.value()?.parse()?,
                Long("out") => options.out = PathBuf::from(parser.value()?),
                Long("name") => options.name = parser.value()?.string()?,
                Short('h') | Long("help") => return Ok(None),
                _ => return Err(arg.unexpected()),
            }
        }
        if options.rounds == 0 || options.sends == 0 || options.size == 0 || options.pause.is_zero() {
            return Err("--rounds, --sends, --pause and --size: at least 1".into());
        }
        if options.size > 125 {
            return Err("--size: at most 125".into());
        }
        Ok(Some(options))
    }
}
