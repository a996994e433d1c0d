//! Compares servers with each other and with the floor.

mod neighbours;
mod options;
mod plot;
mod results;
mod round;
mod scaling;
mod servers;
mod table;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use options::{Options, Preset};
use peers::machine::Machine;
use peers::{process, program};
use results::{Results, Run};
use round::{Attempt, Round};
use servers::Programs;

fn main() -> ExitCode {
    program::run(options::USAGE, Options::parse, compare)
}

fn compare(options: &Options) -> Result<(), Box<dyn Error>> {
    if cfg!(debug_assertions) {
        return Err("only a release build measures: cargo run --release".into());
    }
    process::raise_descriptor_limit()?;
    let path = |extension: &str| options.out.join(format!("{}.{extension}", options.name));
    let earlier = if options.update { Some(read(&path("json"))?) } else { None };
    let programs = servers::build(options)?;
    let mut results = measure(options, &programs)?;
    if let Some(earlier) = earlier {
        results.merge_earlier(earlier)?;
    }

    let tables = match options.preset {
        Some(Preset::Scaling) => scaling::tables(&results),
        Some(Preset::Neighbours) => neighbours::tables(&results),
        _ => table::all(&results),
    };
    println!("{tables}");
    fs::create_dir_all(&options.out)?;
    let json = if options.preset == Some(Preset::Scaling) {
        serde_json::json!({ "two_to_one": scaling::ratios(&results), "cells": results.cells(), "rounds": results })
    } else {
        serde_json::json!({ "cells": results.cells(), "rounds": results })
    };
    fs::write(path("json"), serde_json::to_string_pretty(&json)?)?;
    fs::write(path("md"), tables)?;
    if !matches!(options.preset, Some(Preset::Scaling | Preset::Neighbours)) {
        plot::cost(&results, &path("svg"))?;
        plot::sweep(&results, &options.out.join(format!("{}-latency.svg", options.name)))?;
    }
    println!("written to {}", options.out.display());
    results.check_complete().map_err(Into::into)
}

/// Reads the JSON that an earlier run wrote on this machine. The repository has none.
fn read(path: &Path) -> Result<Results, Box<dyn Error>> {
    let read = || -> Result<Results, Box<dyn Error>> {
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(path)?)?;
        Ok(serde_json::from_value(json["rounds"].take())?)
    };
    read().map_err(|error| format!("--update needs the JSON of an earlier run: {}: {error}", path.display()).into())
}

/// Measures every server once for each scenario and round. The server that starts changes from round to round.
fn measure(options: &Options, programs: &Programs) -> Result<Results, Box<dyn Error>> {
    let machine = Machine::look();
    let mut runs: Vec<Run> = Vec::new();
    for number in 1..=options.rounds {
        for scenario in &options.scenarios {
            eprintln!("round {number}/{}  {}", options.rounds, scenario.name);
            let supporting = programs.servers.iter().filter_map(|server| Some((server, server.command(scenario)?)));
            let (servers, commands): (Vec<_>, Vec<_>) =
                supporting.map(|(server, command)| (server, (command, server.neighbours))).unzip();
            // On a machine that is never quiet, at most half of the runs are repeated.
            let repeated: usize = runs.iter().map(|run| run.attempts - 1).sum();
            let attempts_allowed = if repeated > runs.len() / 2 { 1 } else { options.attempts };
            let round = Round {
                options,
                loadgen: &programs.loadgen,
                raise_priority: &programs.raise_priority,
                certificate: &programs.certificate,
                scenario,
                first: number,
            };
            let (attempts, Attempt { reports, background }) =
                round::quietest(attempts_allowed, || round.run(&commands))?;
            for (server, report) in servers.into_iter().zip(reports) {
                match &report {
                    Ok(report) => eprintln!("    {:26} {}", server.name, table::summary(&report.outcome)),
                    Err(error) => eprintln!("    {:26} FAILED: {error}", server.name),
                }
                let (server, scenario) = (server.name.clone(), scenario.name.to_owned());
                runs.push(Run { round: number, server, scenario, attempts, background, report });
            }
        }
    }
    let servers = programs.servers.iter().map(|server| server.name.clone()).collect();
    let scenarios = options.scenarios.iter().map(|scenario| scenario.name.to_owned()).collect();
    let commands = vec![program::command_line("compare")];
    Ok(Results { machine, commands, servers, missing: programs.missing.clone(), scenarios, runs })
}
