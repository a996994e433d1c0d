//! The resources of a process: its CPU time, its memory and its threads.

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

/// The CPU time that a process has used so far.
#[derive(Clone, Copy)]
pub struct Cost {
    /// CPU time of all its threads, including those that have ended, in nanoseconds.
    pub cpu: Duration,
    /// CPU time in user space, in ticks.
    pub user_ticks: u64,
    /// CPU time in the kernel, in ticks.
    pub system_ticks: u64,
}

/// The sleeps of a process with more threads than this are not counted: reading takes some microseconds a thread.
const MAX_THREADS_READ: usize = 64;

/// The memory and the threads of a process.
#[derive(Clone, Copy)]
pub struct Memory {
    /// `RssAnon` in bytes: heap and stacks, without mapped files.
    pub anonymous: u64,
    /// `VmRSS` in bytes.
    pub resident: u64,
    /// `VmHWM` in bytes: the most that was resident since the start, or [`Process::reset_peak`].
    pub peak: u64,
    pub threads: u64,
}

impl Process {
    /// # Errors
    ///
    /// There is no such process, or it belongs to another user.
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

    /// How often its threads have gone to sleep so far; `None` if it has too many threads.
    ///
    /// # Errors
    ///
    /// The process is gone, or one of its threads ended meanwhile.
    pub fn sleeps(&self) -> io::Result<Option<u64>> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid))?.collect::<io::Result<Vec<_>>>()?;
        if tasks.len() > MAX_THREADS_READ {
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
        Ok(Memory {
            anonymous: field("RssAnon")? * 1024,
            resident: field("VmRSS")? * 1024,
            peak: field("VmHWM")? * 1024,
            threads: field("Threads")?,
        })
    }

    /// Has [`Memory::peak`] begin with what is resident now.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn reset_peak(&self) -> io::Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.pid), "5")
    }
}

/// How often a thread has gone to sleep; `task` is its directory in `/proc`.
///
/// # Errors
///
/// The thread is gone, or the kernel does not count that.
pub fn sleeps_of(task: &Path) -> io::Result<u64> {
    let status = fs::read_to_string(task.join("status"))?;
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    let count = count.and_then(|count| count.trim().parse().ok());
    count.ok_or_else(|| io::Error::other("the status of a thread has no voluntary_ctxt_switches"))
}

/// Pins this thread, and what it starts from now on, to these cores.
///
/// # Errors
///
/// There is no such core, or this process may not use it.
pub fn pin(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)?;
    // The kernel ignores a core that does not exist, as long as another one does.
    let kept = sched_getaffinity(Pid::from_raw(0))?;
    match cores.iter().find(|core| !kept.is_set(**core).unwrap_or(false)) {
        Some(core) => Err(io::Error::other(format!("core {core} does not exist, or this process may not use it"))),
        None => Ok(()),
    }
}

/// Parses a list of cores, such as `0` or `0,1`.
///
/// # Errors
///
/// It is not a list of numbers.
pub fn cores(text: &str) -> Result<Vec<usize>, ParseIntError> {
    text.split(',').map(str::parse).collect()
}

/// Raises the limit of open descriptors, for this process and what it starts, to the hard limit. Returns that limit.
///
/// # Errors
///
/// A system call fails.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}
