//! Measures a send from another thread: how long a message to an idle connection takes, compared with a bare thread.

mod measure;
mod options;
mod route;
mod table;

use std::error::Error;
use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use peers::machine::Machine;
use peers::{process, program};
use serde::Serialize;

use measure::{Clock, Figures};
use options::Options;
use route::{Method, Route};

fn main() -> ExitCode {
    program::run(options::USAGE, Options::parse, hop)
}

/// The cores of the worker and the client. The sender always runs on the first core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Placement {
    Single,
    Either,
    Other,
}

impl Placement {
    pub(crate) const ALL: [Placement; 3] = [Placement::Single, Placement::Either, Placement::Other];

    fn name(self) -> &'static str {
        match self {
            Placement::Single => "one core",
            Placement::Either => "either core",
            Placement::Other => "the other core",
        }
    }

    /// A description for the report.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Placement::Single => "One core for sender, worker and client",
            Placement::Either => {
                "The sender on one core, worker and client on whichever of two cores the scheduler chooses"
            }
            Placement::Other => "The sender on one core, worker and client on the other",
        }
    }

    /// The cores of all threads except the sender.
    fn cores(self, options: &Options) -> Vec<usize> {
        match self {
            Placement::Single => vec![options.core],
            Placement::Either => vec![options.core, options.other_core],
            Placement::Other => vec![options.other_core],
        }
    }
}

/// The measurements of all rounds.
#[derive(Serialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) commands: Vec<String>,
    pub(crate) rounds: usize,
    /// The number of sends in each round by each method.
    pub(crate) sends: usize,
    pub(crate) size: usize,
    pub(crate) pause: Duration,
    /// The CPU time of reading the sender's CPU clock, which was subtracted.
    pub(crate) clock_ns: f64,
    pub(crate) runs: Vec<Run>,
}

#[derive(Serialize)]
pub(crate) struct Run {
    pub(crate) round: usize,
    pub(crate) placement: Placement,
    pub(crate) method: Method,
    pub(crate) figures: Result<Figures, String>,
}

fn hop(options: &Options) -> Result<(), Box<dyn Error>> {
    if cfg!(debug_assertions) {
        return Err("only a release build measures: cargo run --release".into());
    }
    let results = measure_all(options)?;
    let tables = table::all(&results);
    println!("{tables}");
    fs::create_dir_all(&options.out)?;
    let path = |extension: &str| options.out.join(format!("{}.{extension}", options.name));
    let json = serde_json::json!({ "cells": table::cells(&results), "rounds": results });
    fs::write(path("json"), serde_json::to_string_pretty(&json)?)?;
    fs::write(path("md"), tables)?;
    println!("written to {}", options.out.display());
    match results.runs.iter().filter(|run| run.figures.is_err()).count() {
        0 => Ok(()),
        failed => Err(format!("{failed} of {} runs FAILED", results.runs.len()).into()),
    }
}

/// Measures all placements in the same rounds. Threads that are not measured sleep.
fn measure_all(options: &Options) -> Result<Results, Box<dyn Error>> {
    let machine = Machine::look();
    // A thread inherits the cores of the one that starts it, so the sender moves to its own core last.
    let routes = Placement::ALL
        .map(|placement| Method::ALL.map(|method| start(method, &placement.cores(options), options.size)));
    process::pin(&[options.core])?;
    let clock = Clock::new()?;

    let mut runs = Vec::new();
    for round in 1..=options.rounds {
        for (placement, routes) in Placement::ALL.into_iter().zip(&routes) {
            for place in 0..Method::ALL.len() {
                let index = (place + round) % Method::ALL.len();
                let method = Method::ALL[index];
                eprint!("round {round}/{}  {:16}  {:24}", options.rounds, placement.name(), method.name());
                let route = routes[index].as_ref().map_err(|error| format!("it cannot be set up: {error}"));
                let figures = route.and_then(|route| measure::run(route, options, &clock));
                match &figures {
                    Ok(figures) => eprintln!("{:6.1} us, p99 {:.1} us", figures.p50_us, figures.p99_us),
                    Err(error) => eprintln!("FAILED: {error}"),
                }
                runs.push(Run { round, placement, method, figures });
            }
        }
    }
    Ok(Results {
        machine,
        commands: vec![program::command_line("hop")],
        rounds: options.rounds,
        sends: options.sends,
        size: options.size,
        pause: options.pause,
        clock_ns: clock.own_ns,
        runs,
    })
}

fn start(method: Method, cores: &[usize], size: usize) -> Result<Route, String> {
    process::pin(cores).map_err(|error| error.to_string())?;
    Route::start(method, size).map_err(|error| error.to_string())
}
