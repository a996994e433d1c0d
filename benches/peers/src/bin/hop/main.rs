//! How long a message takes that another thread sends to an idle connection, beside the least that it could take.

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
use route::{Route, Way};

fn main() -> ExitCode {
    program::run(options::USAGE, Options::parse, hop)
}

/// Which threads run where; the sender is always on the one core.
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

    /// In words, for the table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Placement::Single => "One core for sender, worker and client",
            Placement::Either => "The sender on one core, worker and client on whichever of two the system chooses",
            Placement::Other => "The sender on one core, worker and client on the other",
        }
    }

    /// Of all but the sender.
    fn cores(self, options: &Options) -> Vec<usize> {
        match self {
            Placement::Single => vec![options.core],
            Placement::Either => vec![options.core, options.other_core],
            Placement::Other => vec![options.other_core],
        }
    }
}

/// What all rounds found.
#[derive(Serialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) commands: Vec<String>,
    pub(crate) rounds: usize,
    /// In each round, by each way.
    pub(crate) sends: usize,
    pub(crate) size: usize,
    pub(crate) pause: Duration,
    /// What reading the sender's CPU clock takes, which was subtracted.
    pub(crate) clock_ns: f64,
    pub(crate) runs: Vec<Run>,
}

#[derive(Serialize)]
pub(crate) struct Run {
    pub(crate) round: usize,
    pub(crate) placement: Placement,
    pub(crate) way: Way,
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

/// All placements at once, so that they share their rounds; what is not being measured sleeps.
fn measure_all(options: &Options) -> Result<Results, Box<dyn Error>> {
    let machine = Machine::look();
    // Threads stay where they were started, so the sender moves to its own core last.
    let routes =
        Placement::ALL.map(|placement| Way::ALL.map(|way| start(way, &placement.cores(options), options.size)));
    process::pin(&[options.core])?;
    let clock = Clock::new()?;

    let mut runs = Vec::new();
    for round in 1..=options.rounds {
        for (placement, routes) in Placement::ALL.into_iter().zip(&routes) {
            for place in 0..Way::ALL.len() {
                let index = (place + round) % Way::ALL.len();
                let way = Way::ALL[index];
                eprint!("round {round}/{}  {:16}  {:24}", options.rounds, placement.name(), way.name());
                let route = routes[index].as_ref().map_err(|error| format!("it could not be set up: {error}"));
                let figures = route.and_then(|route| measure::run(route, options, &clock));
                match &figures {
                    Ok(figures) => eprintln!("{:6.1} us, p99 {:.1} us", figures.p50_us, figures.p99_us),
                    Err(error) => eprintln!("FAILED: {error}"),
                }
                runs.push(Run { round, placement, way, figures });
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

fn start(way: Way, cores: &[usize], size: usize) -> Result<Route, String> {
    process::pin(cores).map_err(|error| error.to_string())?;
    Route::start(way, size).map_err(|error| error.to_string())
}
