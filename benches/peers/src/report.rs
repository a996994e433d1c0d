//! The measurement of one run of a scenario: one line of JSON.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub scenario: String,
    pub connections: usize,
    #[serde(flatten)]
    pub outcome: Outcome,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Load(Load),
    Memory(Memory),
}

/// The measurement of a run that sent messages. In `connect`, an opened connection counts as a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    /// How long it measured.
    pub seconds: f64,
    /// Complete replies that were received in that time.
    pub messages: u64,
    pub messages_per_second: f64,
    /// From when a message was sent, or in an open loop was due, until its reply had arrived.
    pub latency_us: Latency,
    /// The 99th percentile of each slice. An interruption of the server affects one of them only.
    pub p99_by_slice_us: Vec<f64>,
    /// CPU time of the server process for each message.
    pub cpu_ns_per_message: f64,
    /// The share of it in user space, from 0 to 1; counted in ticks of 10 ms.
    pub user_share: f64,
    /// How many cores the server used. Near 1, the server limits the throughput.
    pub server_cores: f64,
    /// `VmRSS` of the server at the end, in bytes.
    pub resident: u64,
    pub threads: u64,
    /// How often a thread of the server went to sleep, for each message; unknown if it has very many threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleeps_per_message: Option<f64>,
    /// In an echo, the payload bytes of a reply on the wire, the mean over the connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_bytes: Option<f64>,
    /// How many messages of clients that misbehave were answered, in the warm-up as well, if there were such clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbours_answered: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Load {
    /// Combines what several generators measured of one server at the same time: each saw the server's whole CPU time, but
    /// only its own messages. `None` if there are none.
    #[must_use]
    pub fn of_all(loads: &[Load]) -> Option<Load> {
        let first = loads.first()?;
        let mean = |field: fn(&Load) -> f64| loads.iter().map(field).sum::<f64>() / loads.len() as f64;
        let most = |field: fn(&Load) -> f64| loads.iter().map(field).fold(0.0, f64::max);
        let messages: u64 = loads.iter().map(|load| load.messages).sum();
        let messages_per_second: f64 = loads.iter().map(|load| load.messages_per_second).sum();
        let server_cores = mean(|load| load.server_cores);
        let sleeps: Option<f64> =
            loads.iter().map(|load| load.sleeps_per_message.map(|sleeps| sleeps * load.messages as f64)).sum();
        Some(Load {
            seconds: mean(|load| load.seconds),
            messages,
            messages_per_second,
            // Those of the generator that was served worst.
            latency_us: Latency {
                p50: most(|load| load.latency_us.p50),
                p99: most(|load| load.latency_us.p99),
                p999: most(|load| load.latency_us.p999),
                max: most(|load| load.latency_us.max),
            },
            p99_by_slice_us: loads.iter().flat_map(|load| load.p99_by_slice_us.iter().copied()).collect(),
            cpu_ns_per_message: server_cores / messages_per_second * 1e9,
            user_share: mean(|load| load.user_share),
            server_cores,
            resident: loads.iter().map(|load| load.resident).max()?,
            threads: loads.iter().map(|load| load.threads).max()?,
            sleeps_per_message: sleeps.map(|sleeps| sleeps / loads.len() as f64 / messages as f64),
            reply_bytes: first.reply_bytes,
            neighbours_answered: first.neighbours_answered,
        })
    }
}

/// The memory of idle connections: the growth of the server, divided by their number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Memory {
    /// After the opening handshake.
    pub fresh: PerConnection,
    /// After one echo.
    pub after_echo: PerConnection,
    /// With TLS, after one echo of 16,000 B more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_large: Option<PerConnection>,
    pub threads: u64,
}

/// Bytes for each connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PerConnection {
    pub anonymous: f64,
    pub resident: f64,
}

#[cfg(test)]
mod tests {
    use super::{Latency, Load};

    fn load(messages: u64, sleeps: f64, p99: f64) -> Load {
        Load {
            seconds: 2.0,
            messages,
            messages_per_second: messages as f64 / 2.0,
            latency_us: Latency { p50: 1.0, p99, p999: p99, max: p99 },
            p99_by_slice_us: vec![p99],
            cpu_ns_per_message: 1e9 / messages as f64,
            user_share: 0.5,
            server_cores: 0.5,
            resident: 1,
            threads: 2,
            sleeps_per_message: Some(sleeps / messages as f64),
            reply_bytes: None,
            neighbours_answered: None,
        }
    }

    #[test]
    fn combined_loads_divide_the_cpu_time_among_all_messages() {
        // A second of CPU time and 120 sleeps, for 1,000 messages and 3,000.
        let all = Load::of_all(&[load(1000, 120.0, 7.0), load(3000, 120.0, 5.0)]).unwrap();
        assert_eq!((all.messages, all.messages_per_second), (4000, 2000.0));
        assert!((all.cpu_ns_per_message - 250_000.0).abs() < 1e-6, "{all:?}");
        assert!((all.sleeps_per_message.unwrap() - 0.03).abs() < 1e-9, "{all:?}");
        assert_eq!((all.latency_us.p99, all.p99_by_slice_us), (7.0, vec![7.0, 5.0]));
        assert!(Load::of_all(&[]).is_none());
    }
}
