//! Decides when to measure, and adds up what was measured.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use peers::process::{Cost, Process};
use peers::report::{Latency, Load};

use crate::{Run, TIMEOUT};

/// Latencies above this are recorded as this, in nanoseconds.
const MAX_LATENCY: u64 = 60_000_000_000;

/// The longest warm-up of a slice, except the first, whose connections are new.
const LATER_WARM_UP: Duration = Duration::from_millis(200);

pub(crate) struct Meter {
    server: Process,
    warm_up: Duration,
    measured: Duration,
    phase: Phase,
    last_reply: Instant,
    /// Of this slice.
    latencies: Histogram<u64>,
    /// Of all complete slices.
    all_latencies: Histogram<u64>,
    totals: Totals,
}

/// The phase of a slice.
enum Phase {
    WarmUp { until: Instant },
    Measured { since: Instant, until: Instant, before: Cost, sleeps_before: Option<u64>, messages: u64 },
    Over,
}

/// The sums over all complete slices.
#[derive(Default)]
struct Totals {
    p99_by_slice: Vec<u64>,
    seconds: f64,
    cpu: Duration,
    user_ticks: u64,
    system_ticks: u64,
    messages: u64,
    /// `None` if it is unknown for one of them.
    sleeps: Option<u64>,
}

impl Meter {
    pub(crate) fn new(run: &Run) -> Result<Meter, Box<dyn Error>> {
        Ok(Meter {
            server: run.server,
            warm_up: run.warm_up,
            measured: run.measured,
            phase: Phase::Over,
            last_reply: Instant::now(),
            latencies: Histogram::new_with_max(MAX_LATENCY, 3)?,
            all_latencies: Histogram::new_with_max(MAX_LATENCY, 3)?,
            totals: Totals { sleeps: Some(0), ..Totals::default() },
        })
    }

    /// Starts the warm-up of a slice.
    pub(crate) fn start_slice(&mut self) {
        let now = Instant::now();
        self.phase = Phase::WarmUp { until: now + self.warm_up };
        self.warm_up = self.warm_up.min(LATER_WARM_UP);
        self.last_reply = now;
    }

    /// Returns whether the slice goes on. It is to be called for every poll. Once it returns false, nothing more is sent, and
    /// the outstanding replies are still to be received.
    pub(crate) fn is_running(&mut self, now: Instant) -> io::Result<bool> {
        if now.saturating_duration_since(self.last_reply) > TIMEOUT {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no reply for {TIMEOUT:?}")));
        }
        match self.phase {
            Phase::WarmUp { until } if now >= until => {
                let sleeps_before = self.server.sleeps().unwrap_or(None);
                let before = self.server.cost()?;
                let until = now + self.measured;
                self.phase = Phase::Measured { since: now, until, before, sleeps_before, messages: 0 };
            }
            // A slice is extended until it has a reply, however long a message takes.
            Phase::Measured { since, until, before, sleeps_before, messages: messages @ 1.. } if now >= until => {
                self.end_slice(since, before, sleeps_before, messages)?;
                self.phase = Phase::Over;
            }
            _ => {}
        }
        Ok(!matches!(self.phase, Phase::Over))
    }

    fn end_slice(&mut self, since: Instant, before: Cost, sleeps_before: Option<u64>, messages: u64) -> io::Result<()> {
        let now = self.server.cost()?;
        let totals = &mut self.totals;
        self.all_latencies.add(&self.latencies).map_err(io::Error::other)?;
        totals.p99_by_slice.push(self.latencies.value_at_quantile(0.99));
        self.latencies.reset();
        totals.seconds += since.elapsed().as_secs_f64();
        totals.cpu += now.cpu.saturating_sub(before.cpu);
        totals.user_ticks += now.user_ticks - before.user_ticks;
        totals.system_ticks += now.system_ticks - before.system_ticks;
        totals.messages += messages;
        // If a thread ends meanwhile, only this number is unknown.
        let sleeps = self.server.sleeps().unwrap_or(None).zip(sleeps_before);
        totals.sleeps = totals.sleeps.zip(sleeps).map(|(totals, (now, before))| totals + now.saturating_sub(before));
        Ok(())
    }

    /// Records `count` replies, received at `now`, to messages that were sent at `sent`.
    pub(crate) fn record(&mut self, sent: Instant, now: Instant, count: usize) {
        self.last_reply = now;
        if let Phase::Measured { messages, .. } = &mut self.phase {
            *messages += count as u64;
            let nanos = now.saturating_duration_since(sent).as_nanos();
            self.latencies.saturating_record_n(u64::try_from(nanos).unwrap_or(MAX_LATENCY), count as u64);
        }
    }

    /// Returns the measurement of all complete slices.
    pub(crate) fn finish(self) -> io::Result<Load> {
        let latencies = self.all_latencies;
        let Totals { p99_by_slice, seconds, cpu, user_ticks, system_ticks, messages, sleeps } = self.totals;
        if messages == 0 {
            return Err(io::Error::other("the input ended before a slice was measured"));
        }
        let memory = self.server.memory()?;
        let cpu = cpu.as_secs_f64();
        let (user, ticks) = (user_ticks as f64, (user_ticks + system_ticks) as f64);
        let micros = |nanos: u64| nanos as f64 / 1e3;
        Ok(Load {
            seconds,
            messages,
            messages_per_second: messages as f64 / seconds,
            latency_us: Latency {
                p50: micros(latencies.value_at_quantile(0.5)),
                p99: micros(latencies.value_at_quantile(0.99)),
                p999: micros(latencies.value_at_quantile(0.999)),
                max: micros(latencies.max()),
            },
            p99_by_slice_us: p99_by_slice.into_iter().map(micros).collect(),
            cpu_ns_per_message: cpu * 1e9 / messages as f64,
            user_share: if ticks > 0.0 { user / ticks } else { 0.0 },
            server_cores: cpu / seconds,
            resident: memory.resident,
            threads: memory.threads,
            sleeps_per_message: sleeps.map(|sleeps| sleeps as f64 / messages as f64),
            reply_bytes: None,
            neighbours_answered: None,
        })
    }
}
