//! The results as Markdown.

use std::fmt::Write;

use peers::median;
use serde::Serialize;

use crate::measure::Figures;
use crate::route::Way;
use crate::{Placement, Results, Run};

/// A way in a placement, over all rounds.
#[derive(Serialize)]
pub(crate) struct Cell {
    pub(crate) placement: Placement,
    pub(crate) way: Way,
    /// Medians over the rounds; absent if all of them failed.
    pub(crate) figures: Option<Figures>,
    /// Relative to a wake-up and a write in the same round.
    pub(crate) p50_ratio: Option<Ratio>,
    pub(crate) p99_ratio: Option<Ratio>,
    /// Rounds that failed.
    pub(crate) failed: usize,
}

#[derive(Serialize)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

pub(crate) fn cells(results: &Results) -> Vec<Cell> {
    let cells = |placement| Way::ALL.map(|way| cell(results, placement, way));
    Placement::ALL.into_iter().flat_map(cells).collect()
}

fn cell(results: &Results, placement: Placement, way: Way) -> Cell {
    let of = |way| results.runs.iter().filter(move |run: &&Run| run.placement == placement && run.way == way);
    let good: Vec<&Figures> = of(way).filter_map(|run| run.figures.as_ref().ok()).collect();
    let middle = |field: fn(&Figures) -> f64| median(&good.iter().map(|figures| field(figures)).collect::<Vec<_>>());
    let ratio = |field: fn(&Figures) -> f64| {
        let one = |run: &Run| {
            let floor = of(Way::WakeAndWrite).find(|floor| floor.round == run.round)?;
            Some(field(run.figures.as_ref().ok()?) / field(floor.figures.as_ref().ok()?))
        };
        let ratios: Vec<f64> = of(way).filter_map(one).collect();
        let (least, most) = (ratios.iter().copied().reduce(f64::min)?, ratios.iter().copied().reduce(f64::max)?);
        Some(Ratio { median: median(&ratios), least, most })
    };
    Cell {
        placement,
        way,
        figures: (!good.is_empty()).then(|| Figures {
            p50_us: middle(|figures| figures.p50_us),
            p99_us: middle(|figures| figures.p99_us),
            sender_us: middle(|figures| figures.sender_us),
            client_sleeps: middle(|figures| figures.client_sleeps),
            writer_sleeps: middle(|figures| figures.writer_sleeps),
        }),
        p50_ratio: ratio(|figures| figures.p50_us),
        p99_ratio: ratio(|figures| figures.p99_us),
        failed: of(way).filter(|run| run.figures.is_err()).count(),
    }
}

pub(crate) fn all(results: &Results) -> String {
    let mut text = results.machine.heading(&results.commands);
    let _ = writeln!(
        text,
        "Another thread sends {} B of text to an idle connection: from just before the call until the client's blocking \
         read returns. {} rounds of {} sends, one at a time, {} us of sleep between. Medians over the rounds; the ratio \
         is to wake-up + write in the same round, with the least and the most.",
        results.size,
        results.rounds,
        results.sends,
        results.pause.as_micros()
    );
    let cells = cells(results);
    for placement in Placement::ALL {
        let _ = writeln!(
            text,
            "\n{}:\n\n| way | median, us | ratio | p99, us | ratio | sender's CPU time, us |\n|---|---|---|---|---|---|",
            placement.title()
        );
        for cell in cells.iter().filter(|cell| cell.placement == placement) {
            let failed = if cell.failed > 0 { format!(" !{}", cell.failed) } else { String::new() };
            let _ = match &cell.figures {
                None => writeln!(text, "| {} | NOT MEASURED | | | | |", cell.way.name()),
                Some(figures) => writeln!(
                    text,
                    "| {}{failed} | {:.1} | {} | {:.1} | {} | {:.2} |",
                    cell.way.name(),
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
