//! Measures what a message of 2 GiB takes that is received, sent, or sent back as it arrives: CPU time, memory, and the
//! patience of other connections.

mod bare;
mod beside;
mod case;
mod incoming;
mod measured;
mod message;
mod options;
mod table;
mod transfer;

use std::error::Error;
use std::fs;
use std::process::ExitCode;

use peers::machine::Machine;
use peers::program;

use beside::{Figures, LOADS, Load};
use case::Case;
use measured::{Cost, Programs};
use options::{Options, Task};

fn main() -> ExitCode {
    program::run(options::USAGE, Task::parse, |task| match task {
        Task::Serve(bare) => Ok(bare.run()?),
        Task::Measure(options) => measure(options),
    })
}

/// The measurements of all rounds.
struct Results {
    size: u64,
    /// With the number of the round.
    costs: Vec<(Case, usize, Result<Cost, String>)>,
    beside: Vec<(Case, Load, Result<Figures, String>)>,
}

fn measure(options: &Options) -> Result<(), Box<dyn Error>> {
    if cfg!(debug_assertions) {
        return Err("only a release build measures: cargo run --release".into());
    }
    let programs = Programs::build()?;
    let machine = Machine::look();
    let mut results = Results { size: options.size, costs: Vec::new(), beside: Vec::new() };
    for round in 1..=options.rounds {
        for case in &options.cases {
            let cost = measured::measure(&programs, *case, options).map_err(|error| error.to_string());
            match &cost {
                Ok(cost) => {
                    let (nanos, memory) = (cost.nanos_per_byte, cost.memory / 1000);
                    eprintln!("round {round}/{}  {case:30} {nanos:.3} ns/B  {memory} kB", options.rounds);
                }
                Err(error) => eprintln!("round {round}/{}  {case:30} FAILED: {error}", options.rounds),
            }
            results.costs.push((*case, round, cost));
        }
        for case in beside::cases().into_iter().filter(|case| options.beside && options.cases.contains(case)) {
            for load in LOADS {
                let figures = beside::measure(&programs, case, load, options).map_err(|error| error.to_string());
                match &figures {
                    Ok(figures) => eprintln!("beside {case:30} {load:?}: x {:.2}", figures.ratio()),
                    Err(error) => eprintln!("beside {case:30} {load:?}: FAILED: {error}"),
                }
                results.beside.push((case, load, figures));
            }
        }
    }
    let tables = table::all(&machine, options, &results);
    println!("{tables}");
    fs::create_dir_all(&options.out)?;
    fs::write(options.out.join(format!("{}.md", options.name)), tables)?;
    println!("written to {}", options.out.display());
    let costs = results.costs.iter().filter(|(_, _, cost)| cost.is_err()).count();
    match costs + results.beside.iter().filter(|(_, _, figures)| figures.is_err()).count() {
        0 => Ok(()),
        failed => Err(format!("{failed} runs FAILED").into()),
    }
}
