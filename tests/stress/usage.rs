//! What the process has: file descriptors, threads, memory.

use std::time::Duration;

use crate::common::memory::ProcessMemory;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
    /// Resident, in bytes.
    pub(crate) memory: u64,
}

impl Usage {
    pub(crate) fn now() -> Usage {
        let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).expect("Linux").count();
        // The directory that is read is a descriptor too, each time.
        Usage { descriptors: count("fd"), threads: count("task"), memory: ProcessMemory::own().resident() }
    }

    /// Waits until descriptors and threads are as few as `start`; returns what is too much after the time.
    pub(crate) fn back_to(start: Usage, within: Duration) -> Result<Usage, Usage> {
        let began = std::time::Instant::now();
        loop {
            let now = Usage::now();
            if now.descriptors <= start.descriptors && now.threads <= start.threads {
                return Ok(now);
            }
            if began.elapsed() > within {
                return Err(now);
            }
            std::thread::yield_now();
        }
    }
}

/// The descriptors, and what each is.
pub(crate) fn descriptors() -> String {
    let entries = std::fs::read_dir("/proc/self/fd").expect("Linux").flatten();
    let links =
        entries.filter_map(|entry| Some(format!("{:?} {:?}", entry.file_name(), entry.path().read_link().ok()?)));
    links.collect::<Vec<_>>().join("\n")
}
