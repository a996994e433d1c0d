//! Who goes first on a core.

use std::fs;
use std::io;

use rustix::process::{Signal, getpriority_process, set_parent_process_death_signal, setpriority_process, setsid};

/// The weight of one session against the others on a core, where the kernel looks at that (`CONFIG_SCHED_AUTOGROUP`).
const SESSION: &str = "/proc/self/autogroup";

/// The first of those that take turns.
const FIRST: i32 = -20;

/// This process, and what it starts, goes before all others that take turns on their cores. A machine's own daemons have a
/// core for 10 ms at a time now and then, and a server waits for that long.
///
/// # Errors
///
/// This takes root, or `CAP_SYS_NICE`.
pub fn go_ahead() -> io::Result<()> {
    setpriority_process(None, FIRST)?;
    // Who leads a group of processes can not leave its session, whose weight is not this process's alone to set.
    if fs::exists(SESSION)? && setsid().is_ok() {
        fs::write(SESSION, FIRST.to_string())?;
    }
    Ok(())
}

/// Whether this process may.
#[must_use]
pub fn may_go_ahead() -> bool {
    let as_before = getpriority_process(None).unwrap_or(0);
    setpriority_process(None, as_before - 1).and_then(|()| setpriority_process(None, as_before)).is_ok()
}

/// With a session of its own this process hears nothing of an interrupt from a terminal, and would stay.
///
/// # Errors
///
/// The system refuses.
pub fn end_with_the_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}
