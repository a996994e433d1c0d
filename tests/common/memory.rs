//! What memory a process has in use, as the kernel counts it.

use std::fs;

/// A process.
pub struct Memory {
    process: String,
}

impl Memory {
    /// This process.
    pub fn own() -> Memory {
        Memory { process: "self".to_owned() }
    }

    /// The process of this number.
    pub fn of(process: u32) -> Memory {
        Memory { process: process.to_string() }
    }

    /// What is resident now, in bytes.
    pub fn resident(&self) -> u64 {
        self.field("VmRSS:")
    }

    /// The part of it that no file is behind.
    pub fn anonymous(&self) -> u64 {
        self.field("RssAnon:")
    }

    /// Forgets the peak so far.
    pub fn reset_peak(&self) {
        // proc_pid_clear_refs(5): 5 resets the peak resident set size to what it is now.
        fs::write(format!("/proc/{}/clear_refs", self.process), "5").expect("the peak can be reset");
    }

    /// The most that was resident since.
    pub fn peak(&self) -> u64 {
        self.field("VmHWM:")
    }

    fn field(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process)).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib << 10
    }
}
