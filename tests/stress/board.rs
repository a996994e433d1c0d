//! What each thread of the test does, and the watchdog that prints it when a round does not end.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender};

use crate::plan::Plan;

/// How to repeat the round that runs.
static ROUND: Mutex<String> = Mutex::new(String::new());

static ACTORS: Mutex<Vec<Arc<Actor>>> = Mutex::new(Vec::new());

/// A thread of the test.
#[derive(Debug)]
pub(crate) struct Actor {
    name: String,
    last: Mutex<(&'static str, u64, u64, Instant)>,
}

impl Actor {
    fn new(name: String) -> Arc<Actor> {
        let actor = Arc::new(Actor { name, last: Mutex::new(("begins", 0, 0, Instant::now())) });
        lock(&ACTORS).push(actor.clone());
        actor
    }

    /// Notes what the thread does next, with two numbers that say to what.
    pub(crate) fn does(&self, what: &'static str, one: u64, two: u64) {
        *lock(&self.last) = (what, one, two, Instant::now());
    }
}

/// Starts a thread of the test. A panic of it ends the process.
pub(crate) fn spawn(name: String, act: impl FnOnce(&Arc<Actor>) + Send + 'static) -> std::thread::JoinHandle<()> {
    let actor = Actor::new(name);
    std::thread::spawn(move || {
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(&actor))) {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
            fail(&format!("{} panicked: {text}", actor.name));
        }
        actor.does("has ended", 0, 0);
    })
}

/// Notes the round that begins, to print it if that fails.
pub(crate) fn begin(seed: u64, plan: &Plan) {
    let round = format!("STRESS_SEED={seed} repeats the round, of {plan:#?}\n");
    crate::common::logged::set_context(round.clone());
    *lock(&ROUND) = round;
}

/// Forgets the threads of the last round.
pub(crate) fn clear() {
    lock(&ACTORS).clear();
}

/// Prints what went wrong, the seed, and what every thread did last, and ends the process.
pub(crate) fn fail(what: &str) -> ! {
    let mut out = format!("\nFAILED: {what}\n{}", lock(&ROUND));
    for actor in &*lock(&ACTORS) {
        let (what, one, two, since) = *lock(&actor.last);
        let _ = writeln!(out, "  {:<14} {what} ({one}, {two}) {:.3?} ago", actor.name, since.elapsed());
    }
    let _ = std::io::stderr().write_all(out.as_bytes());
    std::process::abort()
}

/// Ends the process when it is not dropped within the time. Prints every thread's stack first, where there is gdb.
pub(crate) fn watchdog(limit: Duration) -> Sender<()> {
    let (alive, ended) = crossbeam_channel::bounded(0);
    std::thread::spawn(move || {
        if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            let pid = std::process::id().to_string();
            let _ = std::process::Command::new("gdb")
                .args(["-p", &pid, "-batch", "-ex", "thread apply all bt 40"])
                .stdin(std::process::Stdio::null())
                .status();
            fail(&format!("the round has not ended after {limit:?}"));
        }
    });
    alive
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
