//! The scenarios by name. In a name, a number without a unit is a number of connections.

use crate::frames::Opcode;

/// What is sent, and over how many connections.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub kind: Kind,
    pub connections: usize,
    /// The size of a payload in bytes.
    pub size: usize,
    pub opcode: Opcode,
    /// Over TLS.
    pub tls: bool,
    /// Each message has a record of its own, rather than that those which are sent at once share records.
    pub own_records: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Each connection keeps `in_flight` messages in flight: it sends the next when a reply arrives.
    Echo { in_flight: usize },
    /// The same with JSON text and permessage-deflate, without context takeover.
    Deflate { in_flight: usize },
    /// `rate` messages a second over all connections together, whether or not the server keeps up.
    OpenLoop { rate: u64 },
    /// One connection publishes, with `in_flight` messages in flight; all connections receive.
    FanOut { in_flight: usize },
    /// Connect, opening handshake, drop; as many at a time as there are connections.
    Connect,
    /// Idle connections.
    Idle,
}

const fn echo(name: &'static str, connections: usize, size: usize, opcode: Opcode, in_flight: usize) -> Scenario {
    Scenario { name, kind: Kind::Echo { in_flight }, connections, size, opcode, tls: false, own_records: false }
}

const fn deflate(name: &'static str, in_flight: usize) -> Scenario {
    Scenario {
        name,
        kind: Kind::Deflate { in_flight },
        connections: 100,
        size: 1 << 10,
        opcode: Opcode::Text,
        tls: false,
        own_records: false,
    }
}

const fn open_loop(name: &'static str, connections: usize) -> Scenario {
    Scenario {
        name,
        kind: Kind::OpenLoop { rate: 20_000 },
        connections,
        size: 128,
        opcode: Opcode::Text,
        tls: false,
        own_records: false,
    }
}

const fn fan_out(name: &'static str, connections: usize, in_flight: usize) -> Scenario {
    Scenario {
        name,
        kind: Kind::FanOut { in_flight },
        connections,
        size: 128,
        opcode: Opcode::Text,
        tls: false,
        own_records: false,
    }
}

const fn over_tls(name: &'static str, plain: Scenario) -> Scenario {
    Scenario { name, tls: true, ..plain }
}

const CONNECT: Scenario = Scenario {
    name: "connect",
    kind: Kind::Connect,
    connections: 64,
    size: 0,
    opcode: Opcode::Text,
    tls: false,
    own_records: false,
};

const IDLE: Scenario = Scenario {
    name: "idle-memory",
    kind: Kind::Idle,
    connections: 10_000,
    size: 32,
    opcode: Opcode::Text,
    tls: false,
    own_records: false,
};

pub const ALL: [Scenario; 25] = [
    echo("echo-32B", 100, 32, Opcode::Text, 1),
    echo("echo-32B-pipelined", 100, 32, Opcode::Text, 32),
    echo("echo-1KiB", 1_000, 1 << 10, Opcode::Text, 1),
    echo("echo-32B-10000", 10_000, 32, Opcode::Text, 1),
    echo("echo-64KiB", 16, 64 << 10, Opcode::Binary, 1),
    echo("echo-16MiB", 4, 16 << 20, Opcode::Binary, 1),
    echo("echo-128B-pipelined", 1_000, 128, Opcode::Text, 16),
    deflate("deflate-1KiB", 1),
    deflate("deflate-1KiB-pipelined", 16),
    fan_out("fan-out-1000", 1_000, 1),
    fan_out("fan-out-1000-pipelined", 1_000, 8),
    fan_out("fan-out-10000", 10_000, 1),
    open_loop("open-loop-1000", 1_000),
    open_loop("open-loop-1", 1),
    open_loop("open-loop-10", 10),
    open_loop("open-loop-10000", 10_000),
    CONNECT,
    IDLE,
    over_tls("echo-tls-32B", echo("", 100, 32, Opcode::Text, 1)),
    over_tls("echo-tls-32B-pipelined", echo("", 100, 32, Opcode::Text, 32)),
    Scenario { own_records: true, ..over_tls("echo-tls-32B-records", echo("", 100, 32, Opcode::Text, 32)) },
    over_tls("echo-tls-1KiB", echo("", 100, 1 << 10, Opcode::Text, 1)),
    over_tls("echo-tls-64KiB", echo("", 16, 64 << 10, Opcode::Binary, 1)),
    over_tls("connect-tls", CONNECT),
    over_tls("idle-memory-tls", IDLE),
];

/// The payload of the message that idle connections over TLS echo at last. With the header of a frame it fits into one record.
pub const LARGE: usize = 16_000;

impl Scenario {
    /// Finds a scenario by its name.
    ///
    /// # Errors
    ///
    /// There is none of that name; the text lists all.
    pub fn named(name: &str) -> Result<Scenario, String> {
        ALL.into_iter().find(|scenario| scenario.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let names: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
            format!("there is no scenario {name:?}; there are {}", names.join(", "))
        })
    }

    /// How many messages are usually written at once.
    #[must_use]
    pub fn burst(&self) -> usize {
        match self.kind {
            Kind::Echo { in_flight } | Kind::Deflate { in_flight } | Kind::FanOut { in_flight } => in_flight,
            Kind::OpenLoop { .. } | Kind::Connect | Kind::Idle => 1,
        }
    }

    /// A description for the report.
    #[must_use]
    pub fn title(&self) -> String {
        let connections = match self.connections {
            1 => "1 connection".to_owned(),
            many => format!("{} connections", thousands(many)),
        };
        let kind = match self.opcode {
            Opcode::Text => "text",
            Opcode::Binary => "binary",
        };
        let size = match self.size {
            size if size >= 1 << 20 => format!("{} MiB {kind}", size >> 20),
            size if size >= 1 << 10 => format!("{} KiB {kind}", size >> 10),
            size => format!("{size} B {kind}"),
        };
        let title = match self.kind {
            Kind::Echo { in_flight } => format!("echo, {connections}, {size}, {in_flight} in flight"),
            Kind::Deflate { in_flight } => format!("deflated echo, {connections}, {size}, {in_flight} in flight"),
            Kind::OpenLoop { rate } => {
                format!("echo at {} messages/s, {connections}, {size}", thousands(rate as usize))
            }
            Kind::FanOut { in_flight } => {
                format!("fan-out to {}, {size}, {in_flight} in flight", thousands(self.connections))
            }
            Kind::Connect => format!("connect, open, drop; {} at a time", self.connections),
            Kind::Idle => format!("{} idle connections", thousands(self.connections)),
        };
        match (self.tls, self.own_records) {
            (true, true) => format!("{title}; over TLS 1.3, each message in a record of its own"),
            (true, false) => format!("{title}; over TLS 1.3"),
            _ => title,
        }
    }
}

/// Formats a number below a million.
fn thousands(count: usize) -> String {
    match count {
        count if count < 1_000 => count.to_string(),
        count => format!("{},{:03}", count / 1_000, count % 1_000),
    }
}
