//! When to measure, and what has been measured.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use peers::process::{Cost, Process};
use peers::report::{Latency, Load};

use crate::{PATIENCE, Run};

/// The longest latency that is told apart, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

pub(crate) struct Meter {
    server: Process,
    measured: Duration,
    begin: Instant,
    end: Instant,
    /// What the server had cost when measuring began; before that there is none.
    at_begin: Option<Cost>,
    sleeps_at_begin: Option<u64>,
    messages: u64,
    latencies: Histogram<u64>,
    last_message: Instant,
}

impl Meter {
    /// The warm-up begins now.
    pub(crate) fn new(run: &Run) -> Result<Meter, Box<dyn Error>> {
        let now = Instant::now();
        let begin = now + run.warm_up;
        Ok(Meter {
            server: run.server,
            measured: run.measured,
            begin,
            end: begin + run.measured,
            at_begin: None,
            sleeps_at_begin: None,
            messages: 0,
            latencies: Histogram::new_with_max(LONGEST, 3)?,
            last_message: now,
        })
    }

    /// To be asked once a turn: whether to go on.
    pub(crate) fn goes_on(&mut self, now: Instant) -> io::Result<bool> {
        if self.at_begin.is_none() && now >= self.begin {
            self.sleeps_at_begin = self.server.sleeps().unwrap_or(None);
            self.at_begin = Some(self.server.cost()?);
            self.begin = now;
            self.end = now + self.measured;
        }
        // Something must have come in the time that is measured, however long a message takes.
        let enough = self.messages > 0 && self.at_begin.is_some();
        if now.saturating_duration_since(self.last_message) > PATIENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer for {PATIENCE:?}")));
        }
        Ok(now < self.end || !enough)
    }

    /// `count` messages came at `now` that were sent at `sent`.
    pub(crate) fn record(&mut self, sent: Instant, now: Instant, count: usize) {
        self.last_message = now;
        if self.at_begin.is_some() {
            self.messages += count as u64;
            let nanos = now.saturating_duration_since(sent).as_nanos();
            self.latencies.saturating_record_n(u64::try_from(nanos).unwrap_or(LONGEST), count as u64);
        }
    }

    pub(crate) fn finish(self) -> io::Result<Load> {
        let cost = self.server.cost()?;
        let seconds = self.begin.elapsed().as_secs_f64();
        // A thread that ends while it is asked makes it unknown, and nothing else.
        let sleeps = self.server.sleeps().unwrap_or(None).zip(self.sleeps_at_begin);
        let memory = self.server.memory()?;
        let Some(before) = self.at_begin else { return Err(io::Error::other("it ended before it was warm")) };
        let cpu = (cost.cpu - before.cpu).as_secs_f64();
        let user = (cost.user_ticks - before.user_ticks) as f64;
        let ticks = user + (cost.system_ticks - before.system_ticks) as f64;
        let micros = |nanos: u64| nanos as f64 / 1e3;
        Ok(Load {
            seconds,
            messages: self.messages,
            messages_per_second: self.messages as f64 / seconds,
            latency_us: Latency {
                p50: micros(self.latencies.value_at_quantile(0.5)),
                p99: micros(self.latencies.value_at_quantile(0.99)),
                p999: micros(self.latencies.value_at_quantile(0.999)),
                max: micros(self.latencies.max()),
            },
            cpu_ns_per_message: cpu * 1e9 / self.messages as f64,
            user_share: if ticks > 0.0 { user / ticks } else { 0.0 },
            server_cores: cpu / seconds,
            resident: memory.resident,
            threads: memory.threads,
            sleeps_per_message: sleeps.map(|(now, before)| now.saturating_sub(before) as f64 / self.messages as f64),
            answer_bytes: None,
        })
    }
}
