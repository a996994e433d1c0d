//! What a process costs, seen from outside: its CPU clock, its memory, its threads.

use std::fs;
use std::io;
use std::num::ParseIntError;
use std::path::Path;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

/// A process by its id.
#[derive(Clone, Copy)]
pub struct Process {
    pid: i32,
    clock: ClockId,
}

/// What a process has cost so far.
#[derive(Clone, Copy)]
pub struct Cost {
    /// CPU time of all its threads, those that have ended included, by the clock with nanoseconds.
    pub cpu: Duration,
    /// The part of it in user space and the part in the kernel, in the scheduler's ticks.
    pub user_ticks: u64,
    pub system_ticks: u64,
}

/// A process with more threads than this is not asked how often they slept: it takes some microseconds for each.
const MOST_ASKED: usize = 64;

/// What a process holds.
#[derive(Clone, Copy)]
pub struct Memory {
    /// `RssAnon`, in bytes: heap and stacks, without what files are mapped.
    pub anonymous: u64,
    /// `VmRSS`, in bytes.
    pub resident: u64,
    pub threads: u64,
}

impl Process {
    /// # Errors
    ///
    /// There is no such process, or it is another user's.
    pub fn new(pid: u32) -> io::Result<Process> {
        let pid = i32::try_from(pid).map_err(io::Error::other)?;
        Ok(Process { pid, clock: clock_getcpuclockid(Pid::from_raw(pid))? })
    }

    /// # Errors
    ///
    /// The process is gone.
    pub fn cost(&self) -> io::Result<Cost> {
        let cpu = Duration::from(self.clock.now()?);
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // The command's name is in parentheses and may contain anything; utime and stime are fields 14 and 15.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let mut ticks = fields.split_whitespace().skip(11).map_while(|field| field.parse().ok());
        match (ticks.next(), ticks.next()) {
            (Some(user_ticks), Some(system_ticks)) => Ok(Cost { cpu, user_ticks, system_ticks }),
            _ => Err(io::Error::other(format!("/proc/{}/stat: no utime and stime in {stat:?}", self.pid))),
        }
    }

    /// How often its threads have gone to sleep so far; `None` if they are too many to ask.
    ///
    /// # Errors
    ///
    /// The process is gone, or one of its threads just now.
    pub fn sleeps(&self) -> io::Result<Option<u64>> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid))?.collect::<io::Result<Vec<_>>>()?;
        if tasks.len() > MOST_ASKED {
            return Ok(None);
        }
        let mut sleeps = 0;
        for task in tasks {
            sleeps += sleeps_of(&task.path())?;
        }
        Ok(Some(sleeps))
    }

    /// # Errors
    ///
    /// The process is gone.
    pub fn memory(&self) -> io::Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let value = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            value.ok_or_else(|| io::Error::other(format!("/proc/{}/status has no {name}", self.pid)))
        };
        Ok(Memory { anonymous: field("RssAnon")? * 1024, resident: field("VmRSS")? * 1024, threads: field("Threads")? })
    }
}

/// How often a thread went to sleep; `task` is its directory in `/proc`.
///
/// # Errors
///
/// The thread is gone, or the kernel does not tell.
pub fn sleeps_of(task: &Path) -> io::Result<u64> {
    let status = fs::read_to_string(task.join("status"))?;
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    let count = count.and_then(|count| count.trim().parse().ok());
    count.ok_or_else(|| io::Error::other("a thread does not tell how often it slept"))
}

/// Keeps this thread, and what it starts from now on, on these cores.
///
/// # Errors
///
/// There is no such core, or it is not this process's to use.
pub fn pin(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)?;
    // The kernel leaves out in silence what is not there, as long as one of them is.
    let kept = sched_getaffinity(Pid::from_raw(0))?;
    match cores.iter().find(|core| !kept.is_set(**core).unwrap_or(false)) {
        Some(core) => Err(io::Error::other(format!("core {core} is not there, or not ours to use"))),
        None => Ok(()),
    }
}

/// A command line's list of cores, such as `0` or `0,1`.
///
/// # Errors
///
/// It is no list of numbers.
pub fn cores(text: &str) -> Result<Vec<usize>, ParseIntError> {
    text.split(',').map(str::parse).collect()
}

/// Lets this process, and what it starts, open as many descriptors as it is allowed to; answers how many that is.
///
/// # Errors
///
/// The system refuses.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}
