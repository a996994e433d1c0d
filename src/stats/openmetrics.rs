//! The text in which monitors read counts: OpenMetrics 1.0, which Prometheus and others understand.

use std::fmt::{self, Write};

use crate::stats::histogram::Histogram;

/// The media type of the text.
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The families of metrics, as far as they are written.
#[derive(Debug, Default)]
pub(crate) struct Exposition(String);

impl Exposition {
    /// A value that rises and falls.
    pub(crate) fn gauge(&mut self, name: &str, unit: Unit, help: &str, value: impl fmt::Display) {
        self.family(name, "gauge", unit, help);
        self.line(format_args!("{name} {value}"));
    }

    /// A value that only rises.
    pub(crate) fn counter(&mut self, name: &str, unit: Unit, help: &str, value: u64) {
        self.family(name, "counter", unit, help);
        self.line(format_args!("{name}_total {value}"));
    }

    /// Values that only rise, one for each value of a label.
    pub(crate) fn counters<L: fmt::Display>(
        &mut self,
        name: &str,
        unit: Unit,
        label: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) {
        self.family(name, "counter", unit, help);
        for (of, value) in values {
            self.line(format_args!("{name}_total{{{label}=\"{}\"}} {value}", Escaped(of)));
        }
    }

    /// Values that rise and fall, one for each value of a label.
    pub(crate) fn gauges<L: fmt::Display>(
        &mut self,
        name: &str,
        unit: Unit,
        label: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) {
        self.family(name, "gauge", unit, help);
        for (of, value) in values {
            self.line(format_args!("{name}{{{label}=\"{}\"}} {value}", Escaped(of)));
        }
    }

    /// Lengths of time.
    pub(crate) fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", Unit::Seconds, help);
        for (bound, count) in histogram.buckets() {
            self.line(format_args!("{name}_bucket{{le=\"{}\"}} {count}", bound.as_secs_f64()));
        }
        let count = histogram.count();
        self.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {count}"));
        self.line(format_args!("{name}_count {count}"));
        self.line(format_args!("{name}_sum {}", histogram.sum().as_secs_f64()));
    }

    /// Ends the text.
    pub(crate) fn into_text(mut self) -> String {
        self.line(format_args!("# EOF"));
        self.0
    }

    fn family(&mut self, name: &str, kind: &str, unit: Unit, help: &str) {
        self.line(format_args!("# TYPE {name} {kind}"));
        match unit {
            Unit::None => {}
            Unit::Bytes => self.line(format_args!("# UNIT {name} bytes")),
            Unit::Seconds => self.line(format_args!("# UNIT {name} seconds")),
        }
        self.line(format_args!("# HELP {name} {}", Escaped(help)));
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // A `String` takes everything.
        let _ = self.0.write_fmt(line);
        self.0.push('\n');
    }
}

/// The unit of a metric, which its name ends in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    None,
    Bytes,
    Seconds,
}

/// Text inside quotes or behind `HELP`.
struct Escaped<T>(T);

impl<T: fmt::Display> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.to_string().chars() {
            match char {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::stats::histogram::SharedHistogram;

    #[test]
    fn families_are_written_as_the_format_says() {
        let mut text = Exposition::default();
        text.gauge("a_bytes", Unit::Bytes, "What\nis \"used\".", 7);
        text.counter("b", Unit::None, "Calls.", 3);
        text.counters("c", Unit::None, "code", "Ends.", [("1000", 2), ("a\"b\\", 1)]);
        text.gauges("d_bytes", Unit::Bytes, "topic", "Held.", [("a\n{b}=\r", 5)]);
        let expected = "# TYPE a_bytes gauge\n# UNIT a_bytes bytes\n# HELP a_bytes What\\nis \\\"used\\\".\na_bytes 7\n\
            # TYPE b counter\n# HELP b Calls.\nb_total 3\n\
            # TYPE c counter\n# HELP c Ends.\nc_total{code=\"1000\"} 2\nc_total{code=\"a\\\"b\\\\\"} 1\n\
            # TYPE d_bytes gauge\n# UNIT d_bytes bytes\n# HELP d_bytes Held.\nd_bytes{topic=\"a\\n{b}=\r\"} 5\n# EOF\n";
        assert_eq!(text.into_text(), expected);
    }

    #[test]
    fn a_histogram_has_its_bounds_in_seconds() {
        let histogram = SharedHistogram::default();
        histogram.record(Duration::from_micros(3));
        histogram.record(Duration::from_secs(20));
        let mut text = Exposition::default();
        text.histogram("time_seconds", "Times.", &histogram.snapshot());
        let text = text.into_text();
        for line in [
            "time_seconds_bucket{le=\"0.000002\"} 0\n",
            "time_seconds_bucket{le=\"0.000003\"} 1\n",
            "time_seconds_bucket{le=\"12.582912\"} 1\n",
            "time_seconds_bucket{le=\"+Inf\"} 2\n",
            "time_seconds_count 2\n",
            "time_seconds_sum 20.000003\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
