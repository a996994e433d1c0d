//! The memory of a process, as the kernel counts it.

use std::fs;

/// The memory of one process.
pub struct ProcessMemory {
    process: String,
}

impl ProcessMemory {
    /// The memory of this process.
    pub fn own() -> ProcessMemory {
        ProcessMemory { process: "self".to_owned() }
    }

    /// The memory of the process with this id.
    pub fn of(pid: u32) -> ProcessMemory {
        ProcessMemory { process: pid.to_string() }
    }

    /// The resident memory, in bytes.
    pub fn resident(&self) -> u64 {
        self.field("VmRSS:")
    }

    /// The part of the resident memory that is not mapped from a file.
    pub fn anonymous(&self) -> u64 {
        self.field("RssAnon:")
    }

    /// Resets the peak to what is resident now.
    pub fn reset_peak(&self) {
        // proc_pid_clear_refs(5): 5 resets the peak resident set size to the current one.
        fs::write(format!("/proc/{}/clear_refs", self.process), "5").expect("the peak can be reset");
    }

    /// The most memory that was resident since the last [`reset_peak`](ProcessMemory::reset_peak).
    pub fn peak(&self) -> u64 {
        self.field("VmHWM:")
    }

    fn field(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process)).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field of that name");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib << 10
    }
}
