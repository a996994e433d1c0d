//! What else ran on the machine while something was measured.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::{SysconfVar, sysconf};

/// Belongs to what is measured: it receives the packets that the load generator and the server send each other.
const PACKETS: &str = "ksoftirqd/";

/// The CPU time so far of every thread but those of the processes that are measured, and what the host kept of a virtual
/// machine's cores.
pub struct Others {
    measured: Vec<u32>,
    looked: Instant,
    threads: HashMap<u32, Duration>,
    stolen: Duration,
}

impl Others {
    /// All but these processes, as they are now.
    ///
    /// # Errors
    ///
    /// The kernel does not tell how long a thread has run (it is built without `CONFIG_SCHED_INFO`).
    pub fn but(measured: &[u32]) -> io::Result<Others> {
        let looked = Instant::now();
        ran(Path::new("/proc/thread-self"))
            .map_err(|error| io::Error::other(format!("this kernel does not tell what else runs: {error}")))?;
        let mut threads = HashMap::new();
        for process in numbered(Path::new("/proc"))? {
            if measured.contains(&process) {
                continue;
            }
            let tasks = format!("/proc/{process}/task");
            // What ends meanwhile has no part in it.
            for thread in numbered(Path::new(&tasks)).unwrap_or_default() {
                let task = format!("{tasks}/{thread}");
                if fs::read_to_string(format!("{task}/comm")).is_ok_and(|name| !name.starts_with(PACKETS))
                    && let Ok(ran) = ran(Path::new(&task))
                {
                    threads.insert(thread, ran);
                }
            }
        }
        Ok(Others { measured: measured.to_vec(), looked, threads, stolen: stolen()? })
    }

    /// CPU time that they had since then, of the time that went by: 1 is one core all the time.
    ///
    /// # Errors
    ///
    /// As [`Others::but`].
    pub fn share_since(&self) -> io::Result<f64> {
        let now = Others::but(&self.measured)?;
        let before = |thread| self.threads.get(thread).copied().unwrap_or_default();
        let ran: Duration = now.threads.iter().map(|(thread, ran)| ran.saturating_sub(before(thread))).sum();
        let theirs = ran + now.stolen.saturating_sub(self.stolen);
        Ok(theirs.as_secs_f64() / (now.looked - self.looked).as_secs_f64())
    }
}

/// How long all cores have waited for the host of this machine so far; nothing where it is no virtual one.
fn stolen() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let ticks = stolen_ticks(&text).ok_or_else(|| io::Error::other("/proc/stat does not tell what the host kept"))?;
    let second =
        sysconf(SysconfVar::CLK_TCK)?.ok_or_else(|| io::Error::other("this system does not tell its ticks"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / second as f64))
}

/// The eighth number of all cores.
fn stolen_ticks(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("cpu "))?.split_whitespace().nth(7)?.parse().ok()
}

/// How long a thread has been on a core.
fn ran(task: &Path) -> io::Result<Duration> {
    let path = task.join("schedstat");
    let named = |what: String| io::Error::other(format!("{}: {what}", path.display()));
    let text = fs::read_to_string(&path).map_err(|error| named(error.to_string()))?;
    let nanos = text.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| named(format!("no time in {text:?}")))
}

/// The entries of a directory of /proc whose names are numbers.
fn numbered(directory: &Path) -> io::Result<Vec<u32>> {
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    Ok(fs::read_dir(directory)?.filter_map(|entry| number(entry.ok()?)).collect())
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::{Others, stolen, stolen_ticks};

    #[test]
    fn what_the_host_keeps_is_seen() {
        let stat = "cpu  1038210 492 611940 3186015 11103 0 267868 4529 0 0\ncpu0 506925 279 287261 1 2 0 3 2573 0 0\n";
        assert_eq!(stolen_ticks(stat), Some(4529));
        assert_eq!(stolen_ticks("cpu0 1 2 3 4 5 6 7 8\n"), None);
        stolen().expect("this system tells");
    }

    #[test]
    fn what_runs_is_seen_unless_it_is_what_is_measured() {
        let this = process::id();
        let all = Others::but(&[]).unwrap();
        assert!(all.threads.contains_key(&this));
        assert!(!Others::but(&[this]).unwrap().threads.contains_key(&this));
        // This thread runs as long as it asks.
        while all.share_since().unwrap() == 0.0 {}
    }
}
