//! What the library logs. An error, and a panic of a thread of the library, end the process of the tests, unless a test
//! expects them. The tests of a file run at the same time and in one process, so that neither can be tied to a test: the
//! process ends at once, with the text and the stack.

use std::backtrace::Backtrace;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

/// What a test expects the library to log, until this is dropped. That fails if nothing of it was logged.
#[must_use = "it is expected until the value is dropped"]
pub struct Expected {
    id: u64,
    must_come: bool,
}

struct Entry {
    id: u64,
    part: &'static str,
    then: fn(),
    seen: Vec<String>,
}

static ENTRIES: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

static CONTEXT: Mutex<String> = Mutex::new(String::new());

/// Sets what is printed as well when the process ends, such as how to repeat what it did.
pub fn set_context(context: String) {
    *CONTEXT.lock().unwrap_or_else(PoisonError::into_inner) = context;
}

/// Expects errors and warnings with `part` in their texts, and such panics of threads of the library. Make this before the
/// server or client whose threads log it.
pub fn expect_error(part: &'static str) -> Expected {
    expect_error_and(part, || {})
}

/// As [`expect_error`], and calls `then` on the thread that logs it.
pub fn expect_error_and(part: &'static str, then: fn()) -> Expected {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    install();
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    entries().push(Entry { id, part, then, seen: Vec::new() });
    Expected { id, must_come: true }
}

impl Expected {
    /// Nothing of it need be logged: a race decides, or another process logs it.
    pub fn or_nothing(mut self) -> Expected {
        self.must_come = false;
        self
    }

    /// What was logged of it so far.
    pub fn seen(&self) -> Vec<String> {
        entries().iter().find(|entry| entry.id == self.id).expect("it is removed by drop").seen.clone()
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let mut entries = entries();
        let index = entries.iter().position(|entry| entry.id == self.id).expect("it is removed here alone");
        let entry = entries.remove(index);
        drop(entries);
        let missing = self.must_come && entry.seen.is_empty();
        assert!(!missing || std::thread::panicking(), "nothing with {:?} was logged", entry.part);
    }
}

/// Begins to watch what the library logs. Everything in this directory that serves or connects calls it.
pub fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        log::set_logger(&Logger).expect("the first logger");
        log::set_max_level(log::LevelFilter::Warn);
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            print(panic);
            if is_of_library(panic) && !note(&panic.to_string()) {
                end_process(&panic.to_string());
            }
        }));
    });
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("threadbare") && metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) && !note(&record.args().to_string()) && record.level() == log::Level::Error {
            end_process(&record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Whether a panic is one of a thread of the library, or of its code on another thread. `resume_unwind` comes here with
/// neither: it calls no hook.
fn is_of_library(panic: &PanicHookInfo<'_>) -> bool {
    std::thread::current().name().is_some_and(|name| name.starts_with("ws-"))
        || panic.location().is_some_and(|location| location.file().starts_with("src/"))
}

/// Whether a test expects `text`.
fn note(text: &str) -> bool {
    let mut entries = entries();
    let matching: Vec<_> = entries.iter_mut().filter(|entry| text.contains(entry.part)).collect();
    let is_expected = !matching.is_empty();
    let then: Vec<_> = matching
        .into_iter()
        .map(|entry| {
            entry.seen.push(text.to_owned());
            entry.then
        })
        .collect();
    drop(entries);
    then.into_iter().for_each(|then| then());
    is_expected
}

fn end_process(text: &str) -> ! {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let stack = Backtrace::force_capture();
    // The test harness would capture what `eprintln!` prints, and lose it.
    let context = CONTEXT.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let text = format!(
        "\nNO TEST EXPECTS THIS of thread {thread}: {text}\n{context}If one should: logged::expect_error\n{stack}"
    );
    let _ = std::io::stderr().write_all(text.as_bytes());
    std::process::abort()
}

fn entries() -> MutexGuard<'static, Vec<Entry>> {
    ENTRIES.lock().unwrap_or_else(PoisonError::into_inner)
}
