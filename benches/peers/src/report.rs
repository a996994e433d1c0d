//! What one run of one scenario found; one line of JSON.

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

/// Of a run that sent messages, or opened connections: those are the messages then.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    /// How long was measured.
    pub seconds: f64,
    /// Complete messages that came back in that time.
    pub messages: u64,
    pub messages_per_second: f64,
    /// From when a message was sent, or was to be sent, until its answer was there.
    pub latency_us: Latency,
    /// The 99th percentile of each turn by itself: what stopped the server in one of them is in that one alone.
    #[serde(default)]
    pub p99_by_turn_us: Vec<f64>,
    /// CPU time of the server's whole process for each message.
    pub cpu_ns_per_message: f64,
    /// The part of it spent in user space, from 0 to 1; from ticks of 10 ms.
    pub user_share: f64,
    /// How much of one core the server used; near 1 it was what limits the throughput.
    pub server_cores: f64,
    /// `VmRSS` of the server at the end, in bytes.
    pub resident: u64,
    pub threads: u64,
    /// How often a thread of the server went to sleep, for each message; unknown with very many threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleeps_per_message: Option<f64>,
    /// Of an echo: payload bytes of an answer on the wire, the mean over the connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_bytes: Option<f64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// Of connections that do nothing: the growth of the server divided by their number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Memory {
    /// After the opening handshake.
    pub fresh: PerConnection,
    /// After one message there and back.
    pub after_echo: PerConnection,
    pub threads: u64,
}

/// Bytes of one connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PerConnection {
    pub anonymous: f64,
    pub resident: f64,
}
