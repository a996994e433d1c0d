//! What three clients that misbehave cost the others: one that reads nothing, one that reads a trickle, and one that floods.

use std::fmt::Write;

use peers::median_of_some;

use crate::results::Results;
use crate::table;

/// What the name of a server ends with whose load generator has such clients as well.
const SUFFIX: &str = "+3";

/// The name of a server beside which such clients are.
pub(crate) fn name(server: &str) -> String {
    format!("{server}{SUFFIX}")
}

pub(crate) fn tables(results: &Results) -> String {
    let mut text = table::heading(results);
    let _ = writeln!(
        text,
        "The 99th percentile of the latency of the scenario's own connections, in microseconds, without and with three more\n\
         clients: one reads nothing, one reads 3 kB/s, and one floods with messages of 16 bytes and reads the answers. All\n\
         three send whenever their socket has room. The figures are the medians of the slices. The ratio is that of the\n\
         slices' medians in the same round: the median, the least and the greatest of the rounds. Each run fails unless\n\
         every message of the others is answered.\n\n\
         | server | scenario | p99 without | with | ratio | messages a second without | with | of the three |\n\
         |---|---|---|---|---|---|---|---|"
    );
    for server in &results.servers {
        let beside = name(server);
        for scenario in results.scenarios.iter().filter(|_| results.servers.contains(&beside)) {
            let p99 = |server: &str| number(results.slice_p99(server, scenario));
            let rate = |server: &str| number(results.load(server, scenario, |load| load.messages_per_second));
            let three = results.load(&beside, scenario, |load| {
                load.neighbours_answered.map_or(f64::NAN, |count| count as f64 / load.seconds)
            });
            let rounds = results.p99_ratios(&beside, server, scenario);
            let ratio = median_of_some(&rounds).map_or_else(
                || "NOT MEASURED".to_owned(),
                |median| {
                    let (least, most) = rounds.iter().fold((f64::MAX, f64::MIN), |(a, b), r| (a.min(*r), b.max(*r)));
                    format!("{median:.2} ({least:.2} to {most:.2})")
                },
            );
            let _ = writeln!(
                text,
                "| {server} | {scenario} | {} | {} | {ratio} | {} | {} | {} |",
                p99(server),
                p99(&beside),
                rate(server),
                rate(&beside),
                number(three)
            );
        }
    }
    text += "\nThe answers to the three are those of the warm-up as well, for each second of the measurement.\n";
    text + &table::titles(results)
}

fn number(figure: Option<f64>) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.0}"))
}
