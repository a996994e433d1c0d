//! The results as Markdown.

use std::fmt::Write;

use peers::machine::Machine;
use peers::{median, program};

use crate::Results;
use crate::beside::{Figures, Load, OTHERS, TEXT};
use crate::case::{Case, Direction, Transport, Way};
use crate::measured::Cost;
use crate::options::Options;

pub(crate) fn all(machine: &Machine, options: &Options, results: &Results) -> String {
    let mut text = machine.heading(&[program::command_line("stream")]);
    let _ = writeln!(
        text,
        "A message of {} MiB, which a program on one core receives (in), sends (out) or sends back as it arrives (echo); the\n\
         other end is on another core, never sleeps, and compares each byte that it receives. A program that receives replies\n\
         with the CRC-32 of the message, which is compared as well. The figure is the CPU time of the program's process for\n\
         each byte of the message before compression, and its ratio is to that of the bare loop at the same end (server or\n\
         client) in the same round; medians of {} rounds, with the least and the greatest ratio. The memory is the most that\n\
         was resident above that before the message, in any round.\n\n\
         The bare loop reads up to 256 KiB, unmasks in place, and writes what it has; it knows what it receives, and computes\n\
         the same CRC-32. What it sends comes from a source that is read, as the library's does. Over TLS, ring opens and\n\
         seals records of TLS 1.3 with AES-128-GCM in place, as the floor of the other reports does: no session, no alerts.\n\
         With deflate it decompresses and compresses with flate2 over zlib-rs at level 1, and flushes each 32 KiB, as the\n\
         library does by default. The message is then JSON, and otherwise bytes that no compressor shortens.",
        options.size >> 20,
        options.rounds
    );
    for transport in Transport::ALL {
        for direction in Direction::ALL {
            text += &table(results, transport, direction);
        }
    }
    text + &beside(options, results) + &failures(results)
}

fn table(results: &Results, transport: Transport, direction: Direction) -> String {
    let is_here =
        |case: &&(Case, usize, Result<Cost, String>)| case.0.transport == transport && case.0.direction == direction;
    let rows: Vec<_> =
        Way::ALL.into_iter().filter_map(|way| row(results, Case { way, transport, direction })).collect();
    let background = results.costs.iter().filter(is_here).filter_map(|(_, _, cost)| cost.as_ref().ok());
    let background = background.map(|cost| cost.background).fold(0.0, f64::max) * 100.0;
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "\n## {}, {}\n\nOther programs used at most {background:.1} % of a core.\n\n\
         | program | CPU, ns/B | ratio | MB/s | memory |\n|---|---|---|---|---|\n{}",
        transport.name(),
        direction.name(),
        rows.concat()
    )
}

fn row(results: &Results, case: Case) -> Option<String> {
    let of = |wanted: Case| -> Vec<(usize, &Result<Cost, String>)> {
        let rounds = results.costs.iter().filter(|(case, _, _)| *case == wanted);
        rounds.map(|(_, round, cost)| (*round, cost)).collect()
    };
    let rounds = of(case);
    let good: Vec<(usize, Cost)> =
        rounds.iter().filter_map(|(round, cost)| Some((*round, *cost.as_ref().ok()?))).collect();
    if rounds.is_empty() {
        return None;
    }
    let failed = rounds.len() - good.len();
    let name = format!("{}{}", case.way.name(), if failed > 0 { format!(" !{failed}") } else { String::new() });
    if good.is_empty() {
        return Some(format!("| {name} | NOT MEASURED | | | |\n"));
    }
    let bare = of(case.reference());
    let ratios = good.iter().filter_map(|(round, cost)| {
        let (_, bare) = bare.iter().find(|(other, _)| other == round)?;
        Some(cost.nanos_per_byte / bare.as_ref().ok()?.nanos_per_byte)
    });
    let figure = |figure: fn(&Cost) -> f64| median(&good.iter().map(|(_, cost)| figure(cost)).collect::<Vec<_>>());
    let seconds = figure(|cost| cost.elapsed.as_secs_f64());
    Some(format!(
        "| {name} | {:.3} | {} | {:.0} | {} kB |\n",
        figure(|cost| cost.nanos_per_byte),
        ratio(&ratios.collect::<Vec<_>>()),
        results.size as f64 / 1e6 / seconds,
        good.iter().map(|(_, cost)| cost.memory).max().unwrap_or_default() / 1000
    ))
}

/// The median, the least and the greatest.
fn ratio(ratios: &[f64]) -> String {
    match (ratios.iter().copied().reduce(f64::min), ratios.iter().copied().reduce(f64::max)) {
        (Some(least), Some(most)) => format!("{:.2} ({least:.2} to {most:.2})", median(ratios)),
        _ => "-".to_owned(),
    }
}

fn beside(options: &Options, results: &Results) -> String {
    if results.beside.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n## Other connections of the worker\n\n\
         {OTHERS} other connections of the only worker send {} B of text, which the server echoes; the 99th percentile of\n\
         their latency in microseconds, without and with a message of {} MiB that is received (in), sent (out) or sent back\n\
         (echo) on one more connection as quickly as both ends can. *Closed*: each sends the next message when the last one\n\
         has come back, so that the worker is busy without the message too. *Open*: so many messages a second over all, due\n\
         whether or not the server keeps up. Slices without and with the message alternate; the figures are medians of the\n\
         slices and of the rounds, and the ratio that of the slices' medians in the same round. The other end of all\n\
         connections is one thread, which writes and reads about 16 KiB of the message at a time: its own work is a part of\n\
         the difference. Each echo is compared, and so is the message.\n\n\
         | server | load | p99 without | with | ratio | message, MB/s | background |\n|---|---|---|---|---|---|---|\n",
        TEXT.len(),
        options.beside_size >> 20
    );
    let mut seen: Vec<(Case, Load)> = Vec::new();
    for (case, load, _) in &results.beside {
        if seen.contains(&(*case, *load)) {
            continue;
        }
        seen.push((*case, *load));
        let good: Vec<&Figures> = results
            .beside
            .iter()
            .filter(|(other, other_load, _)| (other, other_load) == (case, load))
            .filter_map(|(_, _, figures)| figures.as_ref().ok())
            .collect();
        let of = |figure: fn(&Figures) -> f64| good.iter().map(|figures| figure(figures)).collect::<Vec<f64>>();
        let load = match load {
            Load::Closed => "closed".to_owned(),
            Load::Open { rate } => format!("open, {rate}/s"),
        };
        if good.is_empty() {
            let _ = writeln!(text, "| {case} | {load} | NOT MEASURED | | | | |");
            continue;
        }
        let _ = writeln!(
            text,
            "| {case} | {load} | {:.0} | {:.0} | {} | {:.0} | {:.1} % |",
            median(&of(|figures| median(&figures.without))),
            median(&of(|figures| median(&figures.with))),
            ratio(&of(Figures::ratio)),
            median(&of(|figures| figures.rate)),
            of(|figures| figures.background).into_iter().fold(0.0, f64::max) * 100.0
        );
    }
    text
}

fn failures(results: &Results) -> String {
    let costs = results.costs.iter().filter_map(|(case, _, cost)| Some((case, cost.as_ref().err()?)));
    let beside = results.beside.iter().filter_map(|(case, _, figures)| Some((case, figures.as_ref().err()?)));
    let lines: Vec<String> = costs.chain(beside).map(|(case, error)| format!("* {case}: {error}\n")).collect();
    if lines.is_empty() { String::new() } else { format!("\n## FAILED\n\n{}", lines.concat()) }
}
