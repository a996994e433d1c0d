//! The results as Markdown.

use std::fmt::Write;

use peers::median;

use crate::options::reference;
use crate::server::Scenario;
use crate::{Figures, Results, Run};

pub(crate) fn all(results: &Results) -> String {
    let mut text = results.machine.heading(&results.commands);
    let _ = writeln!(
        text,
        "Each client is a process on one core, and its server, which knows in advance what it sends, is on another. A \
         feed has as many messages as the client takes; an echo has one message or several on their way. The figure is \
         the CPU time of the client's process for each message. There are {} rounds, in which short slices of the \
         clients alternate. Figures are medians over the rounds. A ratio is to the first client of the table in the same \
         round, with the least and the greatest.\n\n\
         In `feed-deflate` the messages are 1 KiB of JSON, with permessage-deflate and without context takeover. No \
         other client in Rust here has it: the first one is a bare loop that reads, and decompresses each message with \
         flate2 over zlib-rs; it does not check UTF-8. tokio-tungstenite receives the same texts without compression. \
         Over TLS everything is TLS 1.3 with AES-128-GCM and X25519, and the clients in Rust have rustls with ring; \
         Python has OpenSSL.",
        results.rounds,
    );
    for scenario in &results.scenarios {
        let background = results.runs.iter().filter(|run| run.scenario == *scenario).map(|run| run.background);
        let _ = writeln!(
            text,
            "\n## {scenario}\n\nOther programs used at most {:.1} % of a core.\n\n| client | CPU, ns a message | ratio | messages a second |\n|---|---|---|---|",
            background.fold(0.0, f64::max) * 100.0
        );
        let scenario = Scenario::named(scenario).unwrap_or(Scenario::ALL[0]);
        for client in &results.clients {
            text += &row(results, &scenario, client);
        }
    }
    text += "\n`!n`: n rounds failed.\n";
    text
}

fn row(results: &Results, scenario: &Scenario, client: &str) -> String {
    let of = |name: &str| -> Vec<&Run> {
        results.runs.iter().filter(|run| run.scenario == scenario.name && run.client == name).collect()
    };
    let (runs, reference) = (of(client), of(reference(scenario)));
    let good: Vec<&Figures> = runs.iter().filter_map(|run| run.figures.as_ref().ok()).collect();
    if runs.is_empty() {
        // It takes no part in this scenario.
        return String::new();
    }
    let failed = runs.len() - good.len();
    let mark = if failed > 0 { format!(" !{failed}") } else { String::new() };
    if good.is_empty() {
        return format!("| {client}{mark} | NOT MEASURED | | |\n");
    }
    let ratio = |run: &&Run| {
        let other = reference.iter().find(|other| other.round == run.round)?.figures.as_ref().ok()?;
        Some(run.figures.as_ref().ok()?.nanos_per_message() / other.nanos_per_message())
    };
    let ratios: Vec<f64> = runs.iter().filter_map(ratio).collect();
    let shown = match (ratios.iter().copied().reduce(f64::min), ratios.iter().copied().reduce(f64::max)) {
        (Some(least), Some(most)) => format!("{:.2} ({least:.2} to {most:.2})", median(&ratios)),
        _ => "-".to_owned(),
    };
    let median_of =
        |figure: fn(&Figures) -> f64| median(&good.iter().map(|figures| figure(figures)).collect::<Vec<_>>());
    format!(
        "| {client}{mark} | {:.1} | {shown} | {:.0} |\n",
        median_of(Figures::nanos_per_message),
        median_of(Figures::messages_per_second)
    )
}
