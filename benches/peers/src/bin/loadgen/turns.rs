//! One turn, or as many as are asked for, so that servers that are measured against each other can take turns.

use std::error::Error;
use std::io::{self, BufRead, Write};

use peers::report::Load;

use crate::Run;
use crate::meter::Meter;

/// What a scenario does with its connections.
pub(crate) trait Traffic {
    /// Sends until the meter has enough, and receives until nothing is under way.
    fn turn(&mut self, meter: &mut Meter) -> Result<(), Box<dyn Error>>;

    /// How long an answer is, in bytes, where that is the server's to choose.
    fn answer_bytes(&self) -> Option<f64> {
        None
    }
}

/// One turn; with `--turns` an empty line to say that the connections are open, and for each line on standard input a turn
/// and an empty line when it is over.
pub(crate) fn take(run: &Run, mut traffic: impl Traffic) -> Result<Load, Box<dyn Error>> {
    let mut meter = Meter::new(run)?;
    if run.turns {
        tell()?;
        for line in io::stdin().lock().lines() {
            line?;
            traffic.turn(&mut meter)?;
            tell()?;
        }
    } else {
        traffic.turn(&mut meter)?;
    }
    Ok(Load { answer_bytes: traffic.answer_bytes(), ..meter.finish()? })
}

fn tell() -> io::Result<()> {
    println!();
    io::stdout().flush()
}
