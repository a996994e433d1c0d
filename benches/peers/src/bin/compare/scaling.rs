//! Compares two threads with one, of the floor and of this library: whether a message costs the same CPU time.

use std::fmt::Write;

use peers::median_of_some;
use serde::Serialize;

use crate::results::Results;
use crate::servers::TWO_TO_ONE;
use crate::table;

/// The ratio of the CPU time for a message with two threads to that with one.
#[derive(Serialize)]
pub(crate) struct Ratio {
    /// The server with one thread.
    pub(crate) server: String,
    pub(crate) scenario: String,
    /// The median over the rounds; absent if no round has both.
    pub(crate) median: Option<f64>,
    pub(crate) rounds: Vec<f64>,
}

pub(crate) fn ratios(results: &Results) -> Vec<Ratio> {
    let ratio = |two: &str, one: &str, scenario: &str| {
        let rounds = results.ratios(two, one, scenario);
        let median = median_of_some(&rounds);
        Ratio { server: one.to_owned(), scenario: scenario.to_owned(), median, rounds }
    };
    let of = |(two, one)| results.scenarios.iter().map(move |scenario| ratio(two, one, scenario));
    TWO_TO_ONE.into_iter().flat_map(of).collect()
}

pub(crate) fn tables(results: &Results) -> String {
    let mut text = table::heading(results);
    text += "CPU time of all threads of the server for each message, and its ratio to the floor. The server and the load generators\n";
    text +=
        "(in a closed loop, one on each core) share the cores, so these are costs and say nothing about throughput.\n";
    text += "`~`: the rounds are more than 25 % apart; `!n`: n rounds failed.\n\n";
    text += &table::table(results, &results.scenarios, |server, scenario| table::cost(results, server, scenario));

    text += "\nThe ratio of two threads to one in the same round: the median, the least and the greatest.\n\n";
    text += "| server | scenario | two to one |\n|---|---|---|\n";
    for Ratio { server, scenario, median, rounds } in ratios(results) {
        let _ = match median {
            None => writeln!(text, "| {server} | {scenario} | NOT MEASURED |"),
            Some(median) => {
                let (least, most) = rounds.iter().fold((f64::MAX, f64::MIN), |(a, b), r| (a.min(*r), b.max(*r)));
                writeln!(text, "| {server} | {scenario} | {median:.3} ({least:.3} to {most:.3}) |")
            }
        };
    }
    text += "\nHow many cores the server used. The generators never sleep.\n\n";
    text += &table::table(results, &results.scenarios, |server, scenario| {
        Some(format!("{:.2}", results.load(server, scenario, |load| load.server_cores)?))
    });
    text += "\nHow often a thread of the server went to sleep, for each 1,000 messages.\n\n";
    text += &table::table(results, &results.scenarios, |server, scenario| {
        let sleeps = results.load(server, scenario, |load| load.sleeps_per_message.unwrap_or(f64::NAN))?;
        sleeps.is_finite().then(|| format!("{:.2}", sleeps * 1e3))
    });
    text + &table::titles(results)
}
