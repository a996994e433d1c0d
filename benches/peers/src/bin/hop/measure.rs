//! Measures one method in one round.

use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nix::time::ClockId;
use peers::process;
use serde::Serialize;

use crate::options::Options;
use crate::route::{CLIENT, Route, TIMEOUT};

/// The number of sends before the measurement.
const WARM_UP: usize = 50;

/// After this many sends whose latency is measured, the sender's CPU time is measured in another one. Reading the CPU clock
/// takes so long that it would change the latency on one core.
const SENDS_PER_COST: usize = 4;

/// At least this share of the sends must have found the threads asleep that they wake.
const ASLEEP: f64 = 0.95;

#[derive(Clone, Serialize)]
pub(crate) struct Figures {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// The median CPU time of the sending thread in one send.
    pub(crate) sender_us: f64,
    /// How often the client went to sleep, for each send.
    pub(crate) client_sleeps: f64,
    /// How often the thread that writes went to sleep, for each send.
    pub(crate) writer_sleeps: f64,
}

/// The calling thread's CPU time.
pub(crate) struct Clock {
    /// The CPU time of reading it.
    pub(crate) own_ns: f64,
}

impl Clock {
    pub(crate) fn new() -> io::Result<Clock> {
        let mut own = Vec::with_capacity(10_000);
        for _ in 0..own.capacity() {
            let start = Clock::now()?;
            own.push(Clock::now()? - start);
        }
        own.sort_unstable();
        Ok(Clock { own_ns: own[own.len() / 2].as_nanos() as f64 })
    }

    fn now() -> io::Result<Duration> {
        Ok(ClockId::CLOCK_THREAD_CPUTIME_ID.now()?.into())
    }
}

pub(crate) fn run(route: &Route, options: &Options, clock: &Clock) -> Result<Figures, String> {
    let to_text = |error: io::Error| error.to_string();
    for _ in 0..WARM_UP {
        send(route, options.pause)?;
    }
    let before = Sleeps::so_far().map_err(to_text)?;
    let (mut latencies, mut costs) = (Vec::with_capacity(options.sends), Vec::new());
    while latencies.len() < options.sends {
        latencies.push(send(route, options.pause)?);
        if latencies.len() % SENDS_PER_COST == 0 {
            costs.push(cost(route, options.pause)?);
        }
    }
    if costs.is_empty() {
        costs.push(cost(route, options.pause)?);
    }
    let after = Sleeps::so_far().map_err(to_text)?;
    let sends = (latencies.len() + costs.len()) as f64;
    let figures = Figures {
        p50_us: quantile(&mut latencies, 0.5).as_nanos() as f64 / 1e3,
        p99_us: quantile(&mut latencies, 0.99).as_nanos() as f64 / 1e3,
        sender_us: (quantile(&mut costs, 0.5).as_nanos() as f64 - clock.own_ns) / 1e3,
        client_sleeps: (after.clients - before.clients) as f64 / sends,
        writer_sleeps: (after.writers - before.writers) as f64 / sends,
    };
    if figures.client_sleeps < ASLEEP {
        return Err(format!("the client slept only {:.2} times a send", figures.client_sleeps));
    }
    if route.method.uses_another_thread() && figures.writer_sleeps < ASLEEP {
        return Err(format!("the thread that writes slept only {:.2} times a send", figures.writer_sleeps));
    }
    Ok(figures)
}

/// Sends one message to sleeping threads, and waits until it has arrived and all threads sleep again. Returns its latency.
fn send(route: &Route, pause: Duration) -> Result<Duration, String> {
    let ready = route.ready();
    let start = Instant::now();
    ready.send()?;
    Ok(arrival(route, pause)?.saturating_duration_since(start))
}

/// Sends likewise. Returns the sender's CPU time, with that of reading the clock.
fn cost(route: &Route, pause: Duration) -> Result<Duration, String> {
    let to_text = |error: io::Error| error.to_string();
    let ready = route.ready();
    let start = Clock::now().map_err(to_text)?;
    ready.send()?;
    let end = Clock::now().map_err(to_text)?;
    arrival(route, pause)?;
    Ok(end - start)
}

/// Returns when the message arrived. It sleeps before it asks, so that the client need not wake the sender.
fn arrival(route: &Route, pause: Duration) -> Result<Instant, String> {
    thread::sleep(pause);
    if let Some(at) = route.arrival(Duration::ZERO)? {
        return Ok(at);
    }
    let late = route.arrival(TIMEOUT)?.ok_or_else(|| format!("nothing arrived within {TIMEOUT:?}"))?;
    thread::sleep(pause);
    Ok(late)
}

/// How often the threads of this process, except the sender, have gone to sleep.
struct Sleeps {
    clients: u64,
    writers: u64,
}

impl Sleeps {
    fn so_far() -> io::Result<Sleeps> {
        let mut sleeps = Sleeps { clients: 0, writers: 0 };
        let own = std::process::id().to_string();
        for task in fs::read_dir("/proc/self/task")? {
            let task = task?;
            if task.file_name().to_str() == Some(&own) {
                continue;
            }
            let count = process::sleeps_of(&task.path())?;
            match fs::read_to_string(task.path().join("comm"))?.trim() {
                CLIENT => sleeps.clients += count,
                _ => sleeps.writers += count,
            }
        }
        Ok(sleeps)
    }
}

fn quantile(values: &mut [Duration], which: f64) -> Duration {
    values.sort_unstable();
    values[((values.len() as f64 * which) as usize).min(values.len() - 1)]
}
