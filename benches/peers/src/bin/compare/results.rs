//! The measurements of all rounds, and the figures that are derived from them.

use peers::machine::Machine;
use peers::report::{Load, Memory, Outcome, Report};
use peers::scenario;
use peers::{median, median_of_some};
use serde::{Deserialize, Serialize};

use crate::servers::FLOOR;

/// A cell is marked if its rounds differ by more than this, relative to their median.
const NOISY: f64 = 0.25;

#[derive(Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    /// The commands that measured this, the earlier ones of an update first.
    pub(crate) commands: Vec<String>,
    pub(crate) servers: Vec<String>,
    /// Servers that were asked for and could not be started.
    pub(crate) missing: Vec<String>,
    pub(crate) scenarios: Vec<String>,
    pub(crate) runs: Vec<Run>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) round: usize,
    pub(crate) server: String,
    pub(crate) scenario: String,
    /// How often its round was measured until the machine was quiet; this is the quietest attempt.
    pub(crate) attempts: usize,
    /// The share of a core that other programs used meanwhile.
    pub(crate) background: f64,
    pub(crate) report: Result<Report, String>,
}

/// The figure of a server in a scenario, over all rounds.
#[derive(Serialize)]
pub(crate) struct Cell {
    pub(crate) server: String,
    pub(crate) scenario: String,
    /// The median over the rounds: nanoseconds of CPU time for a message, or bytes for a connection.
    pub(crate) median: f64,
    /// The median over the rounds of the ratio to the floor in the same round.
    pub(crate) ratio: Option<f64>,
    pub(crate) noisy: bool,
    /// The number of rounds that failed.
    pub(crate) failed: usize,
    pub(crate) rounds: usize,
}

impl Results {
    /// Adds scenarios from earlier results on the same kind of machine, unless they were measured again.
    pub(crate) fn merge_earlier(&mut self, earlier: Results) -> Result<(), String> {
        let (here, there) = (&self.machine, &earlier.machine);
        if (&here.cpu, here.cores, &here.kernel) != (&there.cpu, there.cores, &there.kernel) {
            return Err(format!("the earlier results are of another machine: {there}; this one is {here}"));
        }
        let is_new = |scenario: &String| self.scenarios.contains(scenario);
        let runs: Vec<Run> = earlier.runs.into_iter().filter(|run| !is_new(&run.scenario)).collect();
        // In the order of the report.
        let known = scenario::ALL.iter().map(|scenario| scenario.name.to_owned());
        let scenarios = known.filter(|name| is_new(name) || earlier.scenarios.contains(name)).collect();
        self.runs.extend(runs);
        self.scenarios = scenarios;
        let latest = std::mem::replace(&mut self.commands, earlier.commands);
        add(&mut self.commands, latest);
        add(&mut self.servers, earlier.servers);
        add(&mut self.missing, earlier.missing);
        Ok(())
    }

    /// `None` if the server was not measured. The `median` is NaN if all rounds failed.
    pub(crate) fn cell(&self, server: &str, scenario: &str) -> Option<Cell> {
        let runs: Vec<&Run> = self.of(server, scenario).collect();
        if runs.is_empty() {
            return None;
        }
        let values: Vec<f64> = runs.iter().filter_map(|run| figure(run)).collect();
        let ratios = self.ratios(server, FLOOR, scenario);
        let spread = |values: &[f64]| {
            let most = values.iter().copied().fold(f64::MIN, f64::max);
            let least = values.iter().copied().fold(f64::MAX, f64::min);
            (most - least) / median(values)
        };
        Some(Cell {
            server: server.to_owned(),
            scenario: scenario.to_owned(),
            median: median(&values),
            ratio: median_of_some(&ratios),
            noisy: !values.is_empty() && spread(&values) > NOISY,
            failed: runs.len() - values.len(),
            rounds: runs.len(),
        })
    }

    /// The ratio to another server, in each round that has both.
    pub(crate) fn ratios(&self, server: &str, to: &str, scenario: &str) -> Vec<f64> {
        let ratio = |run: &Run| {
            let other = self.of(to, scenario).find(|other| other.round == run.round)?;
            Some(figure(run)? / figure(other)?)
        };
        self.of(server, scenario).filter_map(ratio).filter(|ratio| ratio.is_finite()).collect()
    }

    /// Returns an error that says what could not be measured.
    pub(crate) fn check_complete(&self) -> Result<(), String> {
        let failed = self.runs.iter().filter(|run| run.report.is_err()).count();
        match (self.missing.is_empty(), failed) {
            (true, 0) => Ok(()),
            (true, failed) => Err(format!("{failed} of {} runs FAILED", self.runs.len())),
            (false, failed) => Err(format!("NOT MEASURED: {}; and {failed} runs FAILED", self.missing.join(", "))),
        }
    }

    /// All cells that were measured.
    pub(crate) fn cells(&self) -> Vec<Cell> {
        let cells = |server| self.scenarios.iter().filter_map(move |scenario| self.cell(server, scenario));
        self.servers.iter().flat_map(|server| cells(server)).collect()
    }

    /// The median over the rounds of a field of their reports.
    pub(crate) fn load(&self, server: &str, scenario: &str, field: impl Fn(&Load) -> f64) -> Option<f64> {
        let values: Vec<f64> = self.loads(server, scenario).map(field).collect();
        median_of_some(&values)
    }

    /// The median of the 99th percentiles of all slices of all rounds, in microseconds.
    pub(crate) fn slice_p99(&self, server: &str, scenario: &str) -> Option<f64> {
        let values: Vec<f64> = self.loads(server, scenario).flat_map(|load| &load.p99_by_slice_us).copied().collect();
        median_of_some(&values)
    }

    /// The ratio of the median of the slices' 99th percentiles to that of another server, in each round that has both.
    pub(crate) fn p99_ratios(&self, server: &str, to: &str, scenario: &str) -> Vec<f64> {
        let p99 = |run: &Run| match &run.report.as_ref().ok()?.outcome {
            Outcome::Load(load) => median_of_some(&load.p99_by_slice_us),
            Outcome::Memory(_) => None,
        };
        let ratio = |run: &Run| {
            let other = self.of(to, scenario).find(|other| other.round == run.round)?;
            Some(p99(run)? / p99(other)?)
        };
        self.of(server, scenario).filter_map(ratio).collect()
    }

    fn loads(&self, server: &str, scenario: &str) -> impl Iterator<Item = &Load> {
        self.of(server, scenario).filter_map(|run| match &run.report.as_ref().ok()?.outcome {
            Outcome::Load(load) => Some(load),
            Outcome::Memory(_) => None,
        })
    }

    /// The median over the rounds of a field of their reports on memory.
    pub(crate) fn memory(&self, server: &str, scenario: &str, field: impl Fn(&Memory) -> Option<f64>) -> Option<f64> {
        let reports = self.of(server, scenario).filter_map(|run| match &run.report.as_ref().ok()?.outcome {
            Outcome::Memory(memory) => field(memory),
            Outcome::Load(_) => None,
        });
        median_of_some(&reports.collect::<Vec<_>>())
    }

    fn of(&self, server: &str, scenario: &str) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.server == server && run.scenario == scenario)
    }
}

/// Adds the names that are not in the list.
fn add(names: &mut Vec<String>, more: Vec<String>) {
    for name in more {
        if !names.contains(&name) {
            names.push(name);
        }
    }
}

fn figure(run: &Run) -> Option<f64> {
    Some(match &run.report.as_ref().ok()?.outcome {
        Outcome::Load(load) => load.cpu_ns_per_message,
        Outcome::Memory(memory) => memory.after_echo.anonymous,
    })
}

#[cfg(test)]
mod tests {
    use peers::machine::Machine;

    use super::{Results, Run};

    fn results(kernel: &str, server: &str, scenarios: &[&str], why: &str) -> Results {
        let machine = Machine {
            cpu: "a processor".to_owned(),
            cores: 2,
            kernel: kernel.to_owned(),
            load_average: 0.0,
            priority_raised: true,
        };
        let run = |scenario: &&str| Run {
            round: 1,
            server: server.to_owned(),
            scenario: (*scenario).to_owned(),
            attempts: 1,
            background: 0.0,
            report: Err(why.to_owned()),
        };
        Results {
            machine,
            commands: vec![why.to_owned()],
            servers: vec![server.to_owned()],
            missing: Vec::new(),
            scenarios: scenarios.iter().map(|name| (*name).to_owned()).collect(),
            runs: scenarios.iter().map(run).collect(),
        }
    }

    #[test]
    fn scenarios_measured_again_replace_earlier_ones() {
        let mut latest = results("6.1", "floor", &["echo-32B-10000"], "late");
        latest
            .merge_earlier(results("6.1", "wtx", &["echo-32B", "echo-32B-10000", "open-loop-1000"], "early"))
            .unwrap();
        assert_eq!(latest.scenarios, ["echo-32B", "echo-32B-10000", "open-loop-1000"]);
        assert_eq!(latest.servers, ["floor", "wtx"]);
        assert_eq!(latest.commands, ["early", "late"]);
        let mut runs: Vec<_> =
            latest.runs.iter().map(|run| (run.scenario.as_str(), run.report.as_ref().unwrap_err().as_str())).collect();
        runs.sort_unstable();
        assert_eq!(runs, [("echo-32B", "early"), ("echo-32B-10000", "late"), ("open-loop-1000", "early")]);
        assert!(latest.merge_earlier(results("6.2", "wtx", &["echo-32B"], "elsewhere")).is_err());
    }
}
