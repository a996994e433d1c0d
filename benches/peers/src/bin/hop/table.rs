//! The results as Markdown.

use std::fmt::Write;

use peers::median;
use serde::Serialize;

use crate::measure::Figures;
use crate::route::Method;
use crate::{Placement, Results, Run};

/// The figures of a method in a placement, over all rounds.
#[derive(Serialize)]
pub(crate) struct Cell {
    pub(crate) placement: Placement,
    pub(crate) method: Method,
    /// The medians over the rounds; absent if all of them failed.
    pub(crate) figures: Option<Figures>,
    /// Relative to the bare thread in the same round.
    pub(crate) p50_ratio: Option<Ratio>,
    pub(crate) p99_ratio: Option<Ratio>,
    /// The number of rounds that failed.
    pub(crate) failed: usize,
}

#[derive(Serialize)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

pub(crate) fn cells(results: &Results) -> Vec<Cell> {
    let cells = |placement| Method::ALL.map(|method| cell(results, placement, method));
    Placement::ALL.into_iter().flat_map(cells).collect()
}

fn cell(results: &Results, placement: Placement, method: Method) -> Cell {
    let of = |method| results.runs.iter().filter(move |run: &&Run| run.placement == placement && run.method == method);
    let good: Vec<&Figures> = of(method).filter_map(|run| run.figures.as_ref().ok()).collect();
    let median_of = |field: fn(&Figures) -> f64| median(&good.iter().map(|figures| field(figures)).collect::<Vec<_>>());
    let ratio = |field: fn(&Figures) -> f64| {
        let one = |run: &Run| {
            let floor = of(Method::WakeAndWrite).find(|floor| floor.round == run.round)?;
            Some(field(run.figures.as_ref().ok()?) / field(floor.figures.as_ref().ok()?))
        };
        let ratios: Vec<f64> = of(method).filter_map(one).collect();
        let (least, most) = (ratios.iter().copied().reduce(f64::min)?, ratios.iter().copied().reduce(f64::max)?);
        Some(Ratio { median: median(&ratios), least, most })
    };
    Cell {
        placement,
        method,
        figures: (!good.is_empty()).then(|| Figures {
            p50_us: median_of(|figures| figures.p50_us),
            p99_us: median_of(|figures| figures.p99_us),
            sender_us: median_of(|figures| figures.sender_us),
            client_sleeps: median_of(|figures| figures.client_sleeps),
            writer_sleeps: median_of(|figures| figures.writer_sleeps),
        }),
        p50_ratio: ratio(|figures| figures.p50_us),
        p99_ratio: ratio(|figures| figures.p99_us),
        failed: of(method).filter(|run| run.figures.is_err()).count(),
    }
}

pub(crate) fn all(results: &Results) -> String {
    let mut text = results.machine.heading(&results.commands);
    let _ = writeln!(
        text,
        "Another thread sends {} B of text to an idle connection. The time is from just before the call until the \
         client's blocking read returns. There are {} rounds of {} sends, one at a time, with {} us of sleep between two. \
         Figures are medians over the rounds. A ratio is to wake-up + write in the same round, with the least and the \
         greatest.",
        results.size,
        results.rounds,
        results.sends,
        results.pause.as_micros()
    );
    let cells = cells(results);
    for placement in Placement::ALL {
        let _ = writeln!(
            text,
            "\n{}:\n\n| method | median, us | ratio | p99, us | ratio | sender's CPU time, us |\n|---|---|---|---|---|---|",
            placement.title()
        );
        for cell in cells.iter().filter(|cell| cell.placement == placement) {
            let failed = if cell.failed > 0 { format!(" !{}", cell.failed) } else { String::new() };
            let _ = match &cell.figures {
                None => writeln!(text, "| {} | NOT MEASURED | | | | |", cell.method.name()),
                Some(figures) => writeln!(
                    text,
                    "| {}{failed} | {:.1} | {} | {:.1} | {} | {:.2} |",
                    cell.method.name(),
                    figures.p50_us,
                    ratio(cell.p50_ratio.as_ref()),
                    figures.p99_us,
                    ratio(cell.p99_ratio.as_ref()),
                    figures.sender_us
                ),
            };
        }
    }
    text += "\n`!n`: n rounds failed.\n";
    text
}

fn ratio(ratio: Option<&Ratio>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |r| format!("{:.2} ({:.2} to {:.2})", r.median, r.least, r.most))
}
