//! When to measure, and what has been measured.

use std::collections::BTreeSet;
use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use peers::process::{Cost, Process};
use peers::report::{Latency, Load, Steady};
use peers::scenario::Kind;

use crate::watch::{LATE, Watch};
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
    /// The server's cores, which are watched in a turn where a stop decides what is found.
    watched: BTreeSet<usize>,
    watch: Option<Watch>,
    /// The generator's own core needs no other thread to be watched: it looked at the time then, and does so all the time.
    looked: Instant,
    has_stopped: bool,
    /// Of this turn, of all that were measured to their end, and of those in which no core stopped.
    latencies: Histogram<u64>,
    all_latencies: Histogram<u64>,
    steady_latencies: Histogram<u64>,
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
    seconds: f64,
    cpu: Duration,
    user_ticks: u64,
    system_ticks: u64,
    messages: u64,
    turns: usize,
    /// Unknown if the cores were not watched in one of them.
    steady_turns: Option<usize>,
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
            watched: match run.scenario.kind {
                Kind::OpenLoop { .. } => run.server.cores()?,
                _ => BTreeSet::new(),
            },
            watch: None,
            looked: Instant::now(),
            has_stopped: false,
            latencies: Histogram::new_with_max(LONGEST, 3)?,
            all_latencies: Histogram::new_with_max(LONGEST, 3)?,
            steady_latencies: Histogram::new_with_max(LONGEST, 3)?,
            sum: Sum { sleeps: Some(0), steady_turns: Some(0), ..Sum::default() },
        })
    }

    /// The warm-up of a turn begins now.
    pub(crate) fn begin(&mut self) {
        if !self.watched.is_empty() {
            // Whoever may not watch measures without; the report says so.
            self.watch = Watch::over(self.watched.iter().copied()).ok();
        }
        let now = Instant::now();
        self.phase = Phase::WarmUp { until: now + self.warm_up };
        self.warm_up = self.warm_up.min(WARM_UP_AGAIN);
        self.last_message = now;
    }

    /// To be asked all the time: whether messages are to be sent on. If not, those under way are still to be received.
    pub(crate) fn goes_on(&mut self, now: Instant) -> io::Result<bool> {
        self.look(now);
        if now.saturating_duration_since(self.last_message) > PATIENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer for {PATIENCE:?}")));
        }
        match self.phase {
            Phase::WarmUp { until } if now >= until => {
                let sleeps_before = self.server.sleeps().unwrap_or(None);
                let before = self.server.cost()?;
                let until = now + self.measured;
                self.has_stopped = false;
                if let Some(watch) = &self.watch {
                    watch.begin();
                }
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

    /// Between two calls is one message's work at most.
    fn look(&mut self, now: Instant) {
        self.has_stopped |= now.saturating_duration_since(self.looked) > LATE;
        self.looked = now;
    }

    fn add(&mut self, since: Instant, before: Cost, sleeps_before: Option<u64>, messages: u64) -> io::Result<()> {
        let now = self.server.cost()?;
        let sum = &mut self.sum;
        sum.seconds += since.elapsed().as_secs_f64();
        let stopped = self.watch.take().map(|watch| self.has_stopped || watch.has_seen_a_stop());
        sum.turns += 1;
        sum.steady_turns = sum.steady_turns.zip(stopped).map(|(turns, stopped)| turns + usize::from(!stopped));
        if stopped == Some(false) {
            self.steady_latencies.add(&self.latencies).map_err(io::Error::other)?;
        }
        self.all_latencies.add(&self.latencies).map_err(io::Error::other)?;
        self.latencies.reset();
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
        self.look(now);
        self.last_message = now;
        if let Phase::Measured { messages, .. } = &mut self.phase {
            *messages += count as u64;
            let nanos = now.saturating_duration_since(sent).as_nanos();
            self.latencies.saturating_record_n(u64::try_from(nanos).unwrap_or(LONGEST), count as u64);
        }
    }

    /// What the turns found that were measured to their end.
    pub(crate) fn finish(self) -> io::Result<Load> {
        let Sum { turns: of, steady_turns, seconds, cpu, user_ticks, system_ticks, messages, sleeps } = self.sum;
        if messages == 0 {
            return Err(io::Error::other("it ended before it was warm"));
        }
        let memory = self.server.memory()?;
        let cpu = cpu.as_secs_f64();
        let (user, ticks) = (user_ticks as f64, (user_ticks + system_ticks) as f64);
        Ok(Load {
            seconds,
            messages,
            messages_per_second: messages as f64 / seconds,
            latency_us: latency(&self.all_latencies),
            steady: steady_turns.map(|turns| Steady {
                turns,
                of,
                latency_us: (turns > 0).then(|| latency(&self.steady_latencies)),
            }),
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

fn latency(nanos: &Histogram<u64>) -> Latency {
    let micros = |nanos: u64| nanos as f64 / 1e3;
    let quantile = |quantile| micros(nanos.value_at_quantile(quantile));
    Latency { p50: quantile(0.5), p99: quantile(0.99), p999: quantile(0.999), max: micros(nanos.max()) }
}
