//! What a seed decides about a round.

use std::time::Duration;

use threadbare::{Config, SlowConsumer};

use crate::random::Random;
use crate::security::SCHEME;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerKind {
    /// A handler for each connection, on the worker's thread.
    Handler,
    /// Events through channels, to threads of the application.
    Events,
    /// An event loop that a thread of the application runs.
    Inline,
    /// A `WebSocket` with a thread for each connection.
    Blocking,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientKind {
    /// A `Client` on one thread.
    Client,
    /// A `Client` with one thread that sends and one that receives.
    Duplex,
    /// Clients of a `ClientPool`.
    Pool,
    Reconnecting,
    /// A `WebSocket`.
    Blocking,
    /// A `ClientLoop` with several connections.
    Inline,
    /// A socket that breaks off handshakes and messages.
    Rude,
}

/// Who decides about handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    None,
    Immediate,
    Deferred,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) server: ServerKind,
    pub(crate) workers: usize,
    pub(crate) channels: usize,
    pub(crate) hook: Hook,
    pub(crate) config: Config,
    /// The policy drops messages, or a client's does.
    pub(crate) lossy: bool,
    /// Callbacks panic.
    pub(crate) panics: bool,
    /// The application drops its receiver of events after so many of them.
    pub(crate) receives_at_most: Option<u64>,
    /// A callback shuts the server down.
    pub(crate) ends_in_callback: bool,
    /// The server ends while the clients go on.
    pub(crate) ends_early: bool,
    /// Another server follows on the same port.
    pub(crate) restarts: bool,
    pub(crate) clients: Vec<ClientKind>,
}

impl Plan {
    pub(crate) fn new(random: &mut Random) -> Plan {
        use {ClientKind as C, ServerKind as S};
        let is_tls = SCHEME == "wss";
        let server = random.pick(&[S::Handler, S::Handler, S::Handler, S::Events, S::Events, S::Inline, S::Blocking]);
        // Blocking sockets have no TLS here.
        let server = if is_tls && server == S::Blocking { S::Handler } else { server };
        let ends_early = random.percent(35);
        let policy = random.pick(&[
            None,
            None,
            Some(SlowConsumer::Refuse),
            Some(SlowConsumer::Block),
            Some(SlowConsumer::Drop),
            Some(SlowConsumer::Disconnect),
        ]);
        let blocking = if is_tls { C::Duplex } else { C::Blocking };
        let kinds = [C::Client, C::Client, C::Duplex, C::Pool, C::Reconnecting, blocking, C::Inline, C::Rude];
        Plan {
            server,
            // An event loop has one.
            workers: if server == S::Inline { 1 } else { random.pick(&[1, 1, 2, 3]) },
            channels: random.pick(&[1, 1, 2, 3]),
            hook: random.pick(&[Hook::None, Hook::Immediate, Hook::Deferred]),
            config: config(random, policy),
            lossy: policy == Some(SlowConsumer::Drop),
            panics: random.percent(40),
            receives_at_most: (server == S::Events && random.percent(10)).then(|| random.below(200)),
            ends_in_callback: random.percent(7),
            ends_early,
            restarts: ends_early && random.percent(60),
            clients: (0..5 + random.below(6)).map(|_| random.pick(&kinds)).collect(),
        }
    }
}

/// The configuration of one end.
pub(crate) fn config(random: &mut Random, policy: Option<SlowConsumer>) -> Config {
    let milliseconds = Duration::from_millis;
    let mut config = Config::default()
        .max_write_buffer_size(random.pick(&[16 << 10, 256 << 10, 1 << 20]))
        .max_event_buffer_size(random.pick(&[16 << 10, 256 << 10, 4 << 20]))
        .write_timeout(milliseconds(random.pick(&[300, 1_000, 2_000])))
        .close_timeout(milliseconds(random.pick(&[300, 1_000, 2_000])))
        .drop_timeout(milliseconds(random.pick(&[0, 300, 1_000])))
        .ping_interval(random.pick(&[None, Some(milliseconds(20)), Some(milliseconds(500))]))
        .pong_timeout(milliseconds(5_000))
        .max_lifetime(random.percent(5).then(|| milliseconds(150)));
    if let Some(policy) = policy {
        config = config.slow_consumer(policy);
    }
    #[cfg(feature = "deflate")]
    if random.percent(60) {
        let deflate = threadbare::DeflateConfig::default()
            .server_no_context_takeover(random.percent(50))
            .client_no_context_takeover(random.percent(50));
        config = config.deflate(deflate);
    }
    config
}
