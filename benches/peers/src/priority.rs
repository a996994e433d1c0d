//! The priority of processes.

use std::fs;
use std::io;

use rustix::process::{Signal, getpriority_process, set_parent_process_death_signal, setpriority_process, setsid};

/// The weight of this session against others, if the kernel schedules by session (`CONFIG_SCHED_AUTOGROUP`).
const SESSION: &str = "/proc/self/autogroup";

/// The highest priority of the default scheduling class.
const HIGHEST: i32 = -20;

/// Gives this process, and those that it starts, the highest priority. Otherwise a daemon may take the core for 10 ms, and
/// the server waits that long.
///
/// # Errors
///
/// The process is not root and has no `CAP_SYS_NICE`.
pub fn raise() -> io::Result<()> {
    setpriority_process(None, HIGHEST)?;
    // The leader of a process group cannot start a session, and the weight of its present one is shared with other processes.
    if fs::exists(SESSION)? && setsid().is_ok() {
        fs::write(SESSION, HIGHEST.to_string())?;
    }
    Ok(())
}

/// Whether this process may raise its priority.
#[must_use]
pub fn may_raise() -> bool {
    let before = getpriority_process(None).unwrap_or(0);
    setpriority_process(None, before - 1).and_then(|()| setpriority_process(None, before)).is_ok()
}

/// Kills this process when its parent ends. In a session of its own, it does not receive an interrupt from the terminal.
///
/// # Errors
///
/// The system call fails.
pub fn end_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}
