//! The results as Markdown.

use std::fmt::Write;

use peers::median;
use peers::report::{Memory, Outcome};
use peers::scenario::{Kind, Scenario};

use crate::results::Results;
use crate::round::{DISTURBED, is_disturbed};
use crate::servers::{FLOOR, ONE_WORKER};

/// The whole report.
pub(crate) fn all(results: &Results) -> String {
    let mut text = heading(results);
    text += "Server CPU time for each message (`idle-memory`: anonymous memory for each connection, after one echo), and its ratio to the floor.\n";
    text += "`~`: the rounds are more than 25 % apart; `!n`: n rounds failed; `-`: the server does not support it.\n\n";
    text += &table(results, &results.scenarios, |server, scenario| cost(results, server, scenario));

    let loaded = scenarios(results, |kind| !matches!(kind, Kind::OpenLoop { .. } | Kind::Idle));
    if !loaded.is_empty() {
        text += "\nMessages a second (`connect`: connections), and in parentheses how much of its core the server used.\n\n";
        text += &table(results, &loaded, |server, scenario| {
            let rate = results.load(server, scenario, |load| load.messages_per_second)?;
            let cores = results.load(server, scenario, |load| load.server_cores)?;
            Some(format!("{} ({:.0} %)", count(rate), cores * 100.0))
        });
    }
    let deflate = scenarios(results, |kind| matches!(kind, Kind::Deflate { .. }));
    if !deflate.is_empty() {
        text +=
            "\nThe length of a compressed reply in bytes. The floor replies with what the generator compressed.\n\n";
        text += &table(results, &deflate, |server, scenario| {
            let bytes = results.load(server, scenario, |load| load.reply_bytes.unwrap_or(f64::NAN))?;
            Some(format!("{bytes:.0}"))
        });
    }
    let idle: Vec<_> = scenarios(results, |kind| kind == Kind::Idle)
        .into_iter()
        .filter(|name| Scenario::named(name).is_ok_and(|scenario| scenario.tls))
        .collect();
    if !idle.is_empty() {
        text += "\nAnonymous memory in bytes for each idle connection over TLS: after the opening handshake, after one echo of 32 B, and after one of 16,000 B.\n\n";
        text += &table(results, &idle, |server, scenario| {
            let size = |field: fn(&Memory) -> Option<f64>| results.memory(server, scenario, field);
            let fresh = size(|memory| Some(memory.fresh.anonymous))?;
            let echo = size(|memory| Some(memory.after_echo.anonymous))?;
            let large = size(|memory| Some(memory.after_large.as_ref()?.anonymous))?;
            Some(format!("{fresh:.0} / {echo:.0} / {large:.0}"))
        });
    }
    text += &targets(results);
    let open = scenarios(results, |kind| matches!(kind, Kind::OpenLoop { .. }));
    if !open.is_empty() {
        text += "\nLatency from when a message was due, in microseconds: p50 / p99 / p99.9, medians of the rounds; in parentheses the median of the p99 of each slice.\n\n";
        text += &table(results, &open, |server, scenario| {
            let p50 = results.load(server, scenario, |load| load.latency_us.p50)?;
            let p99 = results.load(server, scenario, |load| load.latency_us.p99)?;
            let p999 = results.load(server, scenario, |load| load.latency_us.p999)?;
            let by_slice = results.slice_p99(server, scenario).map_or_else(String::new, |p99| format!(" ({p99:.0})"));
            Some(format!("{p50:.0} / {p99:.0} / {p999:.0}{by_slice}"))
        });
    }
    text + &titles(results)
}

/// What the library may cost over TLS at most, as a ratio to the floor.
const TLS_TARGETS: [(&str, f64); 6] = [
    ("echo-tls-32B", 1.10),
    ("echo-tls-32B-pipelined", 1.10),
    ("echo-tls-32B-records", 1.10),
    ("echo-tls-1KiB", 1.15),
    ("echo-tls-64KiB", 1.35),
    ("connect-tls", 1.25),
];

/// The most memory of an idle connection over TLS, in bytes.
const TLS_MEMORY: f64 = 4096.0;

/// Which targets the library meets, if they were measured.
fn targets(results: &Results) -> String {
    let verdict = |met: bool| if met { "met" } else { "MISSED" };
    let mut rows = String::new();
    for (scenario, most) in TLS_TARGETS {
        let mut ratios = results.ratios(ONE_WORKER, FLOOR, scenario);
        ratios.sort_by(f64::total_cmp);
        if let ([least, ..], [.., highest]) = (&ratios[..], &ratios[..]) {
            let ratio = median(&ratios);
            let _ = writeln!(
                rows,
                "| {scenario} | {most:.2} of the floor | {ratio:.3} ({least:.2} to {highest:.2}) | {} |",
                verdict(ratio <= most)
            );
        }
    }
    for scenario in scenarios(results, |kind| kind == Kind::Idle) {
        let states: [(&str, fn(&Memory) -> Option<f64>); 3] = [
            ("fresh", |memory| memory.after_large.is_some().then_some(memory.fresh.anonymous)),
            ("after 32 B", |memory| memory.after_large.is_some().then_some(memory.after_echo.anonymous)),
            ("after 16,000 B", |memory| Some(memory.after_large.as_ref()?.anonymous)),
        ];
        for (state, field) in states {
            if let Some(bytes) = results.memory(ONE_WORKER, &scenario, field) {
                let verdict = verdict(bytes <= TLS_MEMORY);
                let _ = writeln!(rows, "| {scenario}, {state} | {TLS_MEMORY:.0} B | {bytes:.0} B | {verdict} |");
            }
        }
    }
    if rows.is_empty() {
        return rows;
    }
    format!(
        "\nWhat `threadbare` may cost over TLS, and what it costs: the median of the rounds, and in parentheses the least and the most.\n\n\
         | | target | measured | |\n|---|---|---|---|\n{rows}"
    )
}

/// A description of each scenario.
pub(crate) fn titles(results: &Results) -> String {
    let mut text = "\n".to_owned();
    for scenario in results.scenarios.iter().filter_map(|name| Scenario::named(name).ok()) {
        let _ = writeln!(text, "* {}: {}", scenario.name, scenario.title());
    }
    text
}

/// The first lines: the machine, and what could not be measured.
pub(crate) fn heading(results: &Results) -> String {
    let mut text = results.machine.heading(&results.commands);
    if !results.missing.is_empty() {
        let _ = writeln!(text, "**NOT MEASURED, because missing: {}.**\n", results.missing.join(", "));
    }
    if !results.machine.priority_raised {
        text += "**Servers and load generators ran with the usual priority: raising it requires root.**\n\n";
    }
    let again = results.runs.iter().filter(|run| run.attempts > 1).count();
    let disturbed = results.runs.iter().filter(|run| is_disturbed(run.background)).count();
    let _ = writeln!(
        text,
        "Of {} runs {again} were repeated because other programs, or the host of this machine, used more than {} % of a core; {disturbed} remained disturbed.\n",
        results.runs.len(),
        DISTURBED * 100.0
    );
    text
}

fn scenarios(results: &Results, wanted: impl Fn(Kind) -> bool) -> Vec<String> {
    let wanted = |name: &&String| Scenario::named(name).is_ok_and(|scenario| wanted(scenario.kind));
    results.scenarios.iter().filter(wanted).cloned().collect()
}

pub(crate) fn table(results: &Results, scenarios: &[String], cell: impl Fn(&str, &str) -> Option<String>) -> String {
    let mut text = format!("| server | {} |\n|---|{}\n", scenarios.join(" | "), "---|".repeat(scenarios.len()));
    for server in &results.servers {
        let cells: Vec<_> = scenarios.iter().map(|name| cell(server, name).unwrap_or_else(|| "-".to_owned())).collect();
        let _ = writeln!(text, "| {server} | {} |", cells.join(" | "));
    }
    text
}

pub(crate) fn cost(results: &Results, server: &str, scenario: &str) -> Option<String> {
    let cell = results.cell(server, scenario)?;
    if cell.failed == cell.rounds {
        return Some("failed".to_owned());
    }
    let value = match Scenario::named(scenario).map(|scenario| scenario.kind) {
        Ok(Kind::Idle) => bytes(cell.median),
        _ => nanos(cell.median),
    };
    let ratio = cell.ratio.map_or_else(String::new, |ratio| format!(" ({ratio:.2})"));
    let noisy = if cell.noisy { "~" } else { "" };
    let failed = if cell.failed > 0 { format!(" !{}", cell.failed) } else { String::new() };
    Some(format!("{noisy}{value}{ratio}{failed}"))
}

/// A run in one line, to show progress.
pub(crate) fn summary(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Load(load) => format!(
            "{:>9} a message, {:>6}/s, p99 {:.0} us",
            nanos(load.cpu_ns_per_message),
            count(load.messages_per_second),
            load.latency_us.p99
        ),
        Outcome::Memory(memory) => format!(
            "{:>9} a connection, {} after an echo, {} threads",
            bytes(memory.fresh.anonymous),
            bytes(memory.after_echo.anonymous),
            memory.threads
        ),
    }
}

fn nanos(nanos: f64) -> String {
    match nanos {
        nanos if nanos < 1e3 => format!("{nanos:.0} ns"),
        nanos if nanos < 1e6 => format!("{:.2} us", nanos / 1e3),
        nanos => format!("{:.2} ms", nanos / 1e6),
    }
}

fn bytes(bytes: f64) -> String {
    if bytes < 10_000.0 { format!("{bytes:.0} B") } else { format!("{:.1} kB", bytes / 1e3) }
}

fn count(count: f64) -> String {
    match count {
        count if count < 1e3 => format!("{count:.0}"),
        count if count < 1e6 => format!("{:.1}k", count / 1e3),
        count => format!("{:.2}M", count / 1e6),
    }
}
