//! The machine that measures.

use std::fmt;
use std::fs;

use serde::{Deserialize, Serialize};

use crate::priority;

/// A load average above this means that other programs use the cores.
const BUSY: f64 = 1.0;

#[derive(Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    /// The load average of the minute before the first round.
    pub load_average: f64,
    /// Whether servers and load generators ran with raised priority.
    pub priority_raised: bool,
}

impl Machine {
    /// Reads the properties of this machine. Warns if other programs use its cores.
    #[must_use]
    pub fn look() -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let machine = Machine {
            cpu: model.map_or("unknown", |(_, name)| name).trim().to_owned(),
            cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            kernel: kernel.trim().to_owned(),
            load_average: load.split_whitespace().next().and_then(|minute| minute.parse().ok()).unwrap_or(f64::NAN),
            priority_raised: priority::may_raise(),
        };
        if machine.is_busy() {
            eprintln!("OTHER PROGRAMS ARE RUNNING: the load average is {}; expect noise", machine.load_average);
        }
        machine
    }

    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.load_average > BUSY
    }

    /// The first lines of a report. `commands` are those that measure it again.
    #[must_use]
    pub fn heading(&self, commands: &[String]) -> String {
        let mut text = format!("{self}\n\nTo measure again:\n\n```sh\n{}\n```\n\n", commands.join("\n"));
        if self.is_busy() {
            text += &format!("**Other programs were running (load average {}): noisy.**\n\n", self.load_average);
        }
        text
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} cores, Linux {}", self.cpu, self.cores, self.kernel)
    }
}
