//! Measures in one slice of time, or in as many as the caller asks for, so that slices of several servers can alternate.

use std::error::Error;
use std::io::{self, BufRead, Write};

use peers::report::Load;

use crate::Run;
use crate::meter::Meter;

/// The traffic of a scenario.
pub(crate) trait Traffic {
    /// Sends until the meter says that the slice is over, and receives the outstanding replies.
    fn run_slice(&mut self, meter: &mut Meter) -> Result<(), Box<dyn Error>>;

    /// The payload length of a reply in bytes, if the server determines it.
    fn reply_bytes(&self) -> Option<f64> {
        None
    }

    /// How many messages of the clients that misbehave have been answered, if there are such clients.
    fn neighbours_answered(&self) -> Option<u64> {
        None
    }
}

/// Measures one slice. With `--slices`, prints an empty line once the connections are open; then, for each line on standard
/// input, measures a slice and prints an empty line.
pub(crate) fn run(run: &Run, mut traffic: impl Traffic) -> Result<Load, Box<dyn Error>> {
    let mut meter = Meter::new(run)?;
    if run.slices {
        signal()?;
        for line in io::stdin().lock().lines() {
            line?;
            traffic.run_slice(&mut meter)?;
            signal()?;
        }
    } else {
        traffic.run_slice(&mut meter)?;
    }
    let (reply_bytes, neighbours_answered) = (traffic.reply_bytes(), traffic.neighbours_answered());
    Ok(Load { reply_bytes, neighbours_answered, ..meter.finish()? })
}

fn signal() -> io::Result<()> {
    println!();
    io::stdout().flush()
}
