//! Plots as SVG: a panel of bars for each scenario. The background is transparent, and the colours suit any background.

use std::error::Error;
use std::path::Path;

use peers::scenario::Scenario;
use plotters::prelude::{
    Color, DrawingArea, IntoDrawingArea, IntoFont, IntoTextStyle, RGBColor, Rectangle, SVGBackend, Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::results::Results;

/// The scenarios that are shown if they were measured, in this order.
const COST: [&str; 4] = ["echo-32B", "echo-32B-pipelined", "echo-128B-pipelined", "fan-out-1000-pipelined"];
const SWEEP: [&str; 4] = ["open-loop-1", "open-loop-10", "open-loop-1000", "open-loop-10000"];

const OURS: RGBColor = RGBColor(0x2f, 0x81, 0xf7);
const OTHERS: RGBColor = RGBColor(0x8b, 0x94, 0x9e);
const INK: RGBColor = RGBColor(0x77, 0x7f, 0x88);

/// Sizes in pixels.
const NAMES: i32 = 180;
const PANEL: i32 = 185;
const VALUE: i32 = 48;
const HEAD: i32 = 94;
const TITLE: i32 = 740;
const ROW: i32 = 20;

/// A panel: its heading in three lines, and a value for each server.
struct Panel {
    heading: [String; 3],
    values: Vec<Option<f64>>,
}

/// Plots CPU time for each message, relative to the floor.
pub(crate) fn cost(results: &Results, path: &Path) -> Result<(), Box<dyn Error>> {
    let title = "Server CPU time per message, relative to a bare epoll loop (1.0; logarithmic; shorter is better)";
    let panels = panels(results, &COST, |server, scenario| results.cell(server, scenario)?.ratio);
    draw(path, title, &results.servers, &panels, |ratio| format!("{ratio:.1}"), |_| 1.0)
}

/// Plots latencies at one rate over different numbers of connections.
pub(crate) fn sweep(results: &Results, path: &Path) -> Result<(), Box<dyn Error>> {
    let title = "p99 latency at 20,000 messages/s (logarithmic; shorter is better)";
    let panels = panels(results, &SWEEP, |server, scenario| {
        results.load(server, scenario, |load| load.latency_us.p99).filter(|latency| *latency > 0.0)
    });
    draw(path, title, &results.servers, &panels, latency, |least| least / 2.0)
}

fn latency(micros: f64) -> String {
    if micros < 1e4 { format!("{micros:.0} us") } else { format!("{:.0} ms", micros / 1e3) }
}

fn panels(results: &Results, names: &[&str], value: impl Fn(&str, &str) -> Option<f64>) -> Vec<Panel> {
    let measured = names.iter().filter(|name| results.scenarios.iter().any(|scenario| scenario == *name));
    let panel = |name: &&str| {
        let scenario = Scenario::named(name).ok()?;
        let title = scenario.title();
        let (what, how) = title.split_once(", ").unwrap_or((&title, ""));
        let (connections, message) = how.split_once(", ").unwrap_or((how, ""));
        let values = results.servers.iter().map(|server| value(server, name)).collect();
        let heading = if what.starts_with("echo") { [connections, message] } else { [what, how] };
        let heading = [name, heading[0], heading[1]].map(str::to_owned);
        Some(Panel { heading, values })
    };
    measured.filter_map(panel).collect()
}

/// Draws the panels, if there are any. `base` returns where the bars begin, given the least value.
fn draw(
    path: &Path,
    title: &str,
    servers: &[String],
    panels: &[Panel],
    label: impl Fn(f64) -> String,
    base: impl Fn(f64) -> f64,
) -> Result<(), Box<dyn Error>> {
    let values = || panels.iter().flat_map(|panel| panel.values.iter().flatten().copied());
    let (least, most) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
    if least > most {
        return Ok(());
    }
    let base = base(least);
    let shown: Vec<usize> =
        (0..servers.len()).filter(|&server| panels.iter().any(|panel| panel.values[server].is_some())).collect();
    let width = TITLE.max(NAMES + PANEL * panels.len() as i32);
    let height = HEAD + ROW * shown.len() as i32 + 6;
    let area = SVGBackend::new(path, (width as u32, height as u32)).into_drawing_area();
    write(&area, title, (8, 14), 16, HPos::Left)?;
    for (row, &server) in shown.iter().enumerate() {
        let middle = HEAD + ROW * row as i32 + ROW / 2;
        write(&area, &servers[server], (NAMES - 10, middle), 15, HPos::Right)?;
    }
    for (column, panel) in panels.iter().enumerate() {
        let left = NAMES + PANEL * column as i32;
        for (line, text) in panel.heading.iter().enumerate() {
            write(&area, text, (left, 40 + 18 * line as i32), 14, HPos::Left)?;
        }
        for (row, &server) in shown.iter().enumerate() {
            let Some(value) = panel.values[server] else { continue };
            let top = HEAD + ROW * row as i32;
            let share = ((value / base).ln() / (most / base).ln()).clamp(0.0, 1.0);
            let right = left + 2 + (share * f64::from(PANEL - VALUE)) as i32;
            let colour = if servers[server].starts_with("threadbare") { OURS } else { OTHERS };
            area.draw(&Rectangle::new([(left, top + 3), (right, top + ROW - 3)], colour.filled()))?;
            write(&area, &label(value), (right + 5, top + ROW / 2), 14, HPos::Left)?;
        }
    }
    Ok(area.present()?)
}

fn write(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    text: &str,
    at: (i32, i32),
    size: u32,
    to: HPos,
) -> Result<(), Box<dyn Error>> {
    let style = ("sans-serif", size).into_font().color(&INK).into_text_style(area);
    area.draw(&Text::new(text, at, style.pos(Pos::new(to, VPos::Center))))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{COST, SWEEP, Scenario};

    #[test]
    fn panels_name_known_scenarios() {
        for name in COST.into_iter().chain(SWEEP) {
            assert!(Scenario::named(name).is_ok(), "{name}");
        }
    }
}
