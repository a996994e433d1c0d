//! What else ran on the machine during a measurement.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::{SysconfVar, sysconf};

/// The kernel's threads of this name are part of the measurement: they receive the packets between the load generator and
/// the server.
const SOFTIRQ: &str = "ksoftirqd/";

/// The CPU time so far of every thread, except those of the measured processes, and the steal time of a virtual machine.
pub struct Background {
    measured: Vec<u32>,
    sampled: Instant,
    threads: HashMap<u32, Duration>,
    steal: Duration,
}

impl Background {
    /// Samples all threads except those of the `measured` processes.
    ///
    /// # Errors
    ///
    /// The kernel does not report how long a thread has run (it is built without `CONFIG_SCHED_INFO`).
    pub fn sample(measured: &[u32]) -> io::Result<Background> {
        let sampled = Instant::now();
        cpu_time(Path::new("/proc/thread-self"))
            .map_err(|error| io::Error::other(format!("this kernel does not report what else runs: {error}")))?;
        let mut threads = HashMap::new();
        for process in numbered(Path::new("/proc"))? {
            if measured.contains(&process) {
                continue;
            }
            let tasks = format!("/proc/{process}/task");
            // A process that ends meanwhile is left out.
            for thread in numbered(Path::new(&tasks)).unwrap_or_default() {
                let task = format!("{tasks}/{thread}");
                if fs::read_to_string(format!("{task}/comm")).is_ok_and(|name| !name.starts_with(SOFTIRQ))
                    && let Ok(cpu_time) = cpu_time(Path::new(&task))
                {
                    threads.insert(thread, cpu_time);
                }
            }
        }
        Ok(Background { measured: measured.to_vec(), sampled, threads, steal: steal()? })
    }

    /// Returns the CPU time used since the sample, relative to the elapsed time: 1 is one core all the time.
    ///
    /// # Errors
    ///
    /// The errors of [`Background::sample`].
    pub fn share_since(&self) -> io::Result<f64> {
        let now = Background::sample(&self.measured)?;
        let before = |thread| self.threads.get(thread).copied().unwrap_or_default();
        let cpu_time: Duration =
            now.threads.iter().map(|(thread, cpu_time)| cpu_time.saturating_sub(before(thread))).sum();
        let used = cpu_time + now.steal.saturating_sub(self.steal);
        Ok(used.as_secs_f64() / (now.sampled - self.sampled).as_secs_f64())
    }
}

/// The steal time of all cores: how long they have waited for the host. It is zero where the machine is not virtual.
fn steal() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let ticks = steal_ticks(&text).ok_or_else(|| io::Error::other("/proc/stat has no steal time"))?;
    let second = sysconf(SysconfVar::CLK_TCK)?.ok_or_else(|| io::Error::other("the length of a tick is unknown"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / second as f64))
}

/// The eighth number of the line for all cores.
fn steal_ticks(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("cpu "))?.split_whitespace().nth(7)?.parse().ok()
}

/// The time that a thread has been on a core.
fn cpu_time(task: &Path) -> io::Result<Duration> {
    let path = task.join("schedstat");
    let named = |what: String| io::Error::other(format!("{}: {what}", path.display()));
    let text = fs::read_to_string(&path).map_err(|error| named(error.to_string()))?;
    let nanos = text.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| named(format!("no time in {text:?}")))
}

/// The entries of a directory in /proc whose names are numbers.
fn numbered(directory: &Path) -> io::Result<Vec<u32>> {
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    Ok(fs::read_dir(directory)?.filter_map(|entry| number(entry.ok()?)).collect())
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::{Background, steal, steal_ticks};

    #[test]
    fn steal_time_is_read() {
        let stat = "cpu  1038210 492 611940 3186015 11103 0 267868 4529 0 0\ncpu0 506925 279 287261 1 2 0 3 2573 0 0\n";
        assert_eq!(steal_ticks(stat), Some(4529));
        assert_eq!(steal_ticks("cpu0 1 2 3 4 5 6 7 8\n"), None);
        steal().expect("/proc/stat has it");
    }

    #[test]
    fn threads_are_sampled_unless_their_process_is_measured() {
        let this = process::id();
        let all = Background::sample(&[]).unwrap();
        assert!(all.threads.contains_key(&this));
        assert!(!Background::sample(&[this]).unwrap().threads.contains_key(&this));
        // This thread runs as long as it samples.
        while all.share_since().unwrap() == 0.0 {}
    }
}
