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

/// The warm-up of every turn but the first, whose connections are new.
const WARM_UP_AGAIN: Duration = Duration::from_millis(200);

pub(crate) struct Meter {
    server: Process,
    warm_up: Duration,
    measured: Duration,
    phase: Phase,
    last_message: Instant,
    /// Of this turn, and of all that were measured to their end.
    latencies: Histogram<u64>,
    all_latencies: Histogram<u64>,
    sum: Sum,
}

/// Of a turn.
enum Phase {
    WarmUp { until: Instant },
    Measured { since: Instant, until: Instant, before: Cost, sleeps_before: Option<u64>, messages: u64 },
    Over,
}

/// What all turns found.
#[derive(Default)]
struct Sum {
    p99_by_turn: Vec<u64>,
    seconds: f64,
    cpu: Duration,
    user_ticks: u64,
    system_ticks: u64,
    messages: u64,
    /// Unknown if it was in one of them.
    sleeps: Option<u64>,
}

impl Meter {
    pub(crate) fn new(run: &Run) -> Result<Meter, Box<dyn Error>> {
        Ok(Meter {
            server: run.server,
            warm_up: run.warm_up,
            measured: run.measured,
            phase: Phase::Over,
            last_message: Instant::now(),
            latencies: Histogram::new_with_max(LONGEST, 3)?,
            all_latencies: Histogram::new_with_max(LONGEST, 3)?,
            sum: Sum { sleeps: Some(0), ..Sum::default() },
        })
    }

    /// The warm-up of a turn begins now.
    pub(crate) fn begin(&mut self) {
        let now = Instant::now();
        self.phase = Phase::WarmUp { until: now + self.warm_up };
        self.warm_up = self.warm_up.min(WARM_UP_AGAIN);
        self.last_message = now;
    }

    /// To be asked all the time: whether messages are to be sent on. If not, those under way are still to be received.
    pub(crate) fn goes_on(&mut self, now: Instant) -> io::Result<bool> {
        if now.saturating_duration_since(self.last_message) > PATIENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer for {PATIENCE:?}")));
        }
        match self.phase {
            Phase::WarmUp { until } if now >= until => {
                let sleeps_before = self.server.sleeps().unwrap_or(None);
                let before = self.server.cost()?;
                let until = now + self.measured;
                self.phase = Phase::Measured { since: now, until, before, sleeps_before, messages: 0 };
            }
            // Something must have come in the time that is measured, however long a message takes.
            Phase::Measured { since, until, before, sleeps_before, messages: messages @ 1.. } if now >= until => {
                self.add(since, before, sleeps_before, messages)?;
                self.phase = Phase::Over;
            }
            _ => {}
        }
        Ok(!matches!(self.phase, Phase::Over))
    }

    fn add(&mut self, since: Instant, before: Cost, sleeps_before: Option<u64>, messages: u64) -> io::Result<()> {
        let now = self.server.cost()?;
        let sum = &mut self.sum;
        self.all_latencies.add(&self.latencies).map_err(io::Error::other)?;
        sum.p99_by_turn.push(self.latencies.value_at_quantile(0.99));
        self.latencies.reset();
        sum.seconds += since.elapsed().as_secs_f64();
        sum.cpu += now.cpu.saturating_sub(before.cpu);
        sum.user_ticks += now.user_ticks - before.user_ticks;
        sum.system_ticks += now.system_ticks - before.system_ticks;
        sum.messages += messages;
        // A thread that ends while it is asked makes it unknown, and nothing else.
        let sleeps = self.server.sleeps().unwrap_or(None).zip(sleeps_before);
        sum.sleeps = sum.sleeps.zip(sleeps).map(|(sum, (now, before))| sum + now.saturating_sub(before));
        Ok(())
    }

    /// `count` messages came at `now` that were sent at `sent`.
    pub(crate) fn record(&mut self, sent: Instant, now: Instant, count: usize) {
        self.last_message = now;
        if let Phase::Measured { messages, .. } = &mut self.phase {
            *messages += count as u64;
            let nanos = now.saturating_duration_since(sent).as_nanos();
            self.latencies.saturating_record_n(u64::try_from(nanos).unwrap_or(LONGEST), count as u64);
        }
    }

    /// What the turns found that were measured to their end.
    pub(crate) fn finish(self) -> io::Result<Load> {
        let latencies = self.all_latencies;
        let Sum { p99_by_turn, seconds, cpu, user_ticks, system_ticks, messages, sleeps } = self.sum;
        if messages == 0 {
            return Err(io::Error::other("it ended before it was warm"));
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
            p99_by_turn_us: p99_by_turn.into_iter().map(micros).collect(),
            cpu_ns_per_message: cpu * 1e9 / messages as f64,
            user_share: if ticks > 0.0 { user / ticks } else { 0.0 },
            server_cores: cpu / seconds,
            resident: memory.resident,
            threads: memory.threads,
            sleeps_per_message: sleeps.map(|sleeps| sleeps as f64 / messages as f64),
            answer_bytes: None,
        })
    }
}
