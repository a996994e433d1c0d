//! What a server counted since it began.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bridge::BridgeStats;
use crate::protocol::http::Response;
use crate::server::Server;
use crate::server::control::ServerHandle;
use crate::server::reactor::metrics::HandshakeStats;
use crate::stats::openmetrics::{Exposition, MEDIA_TYPE, Unit};
use crate::transport::clock::deadline_after;
use crate::worker::handle::inbox::Command;
use crate::worker::handle::metrics::WorkerMetrics;
use crate::worker::handle::summary::PeerSummary;
use crate::worker::handle::traffic::TrafficStats;
use crate::worker::topics::stats::TopicStats;

/// How many topics have metrics of their own. More make a text that is longer, eight lines for each, and series in the monitor;
/// fewer leave more topics to the totals.
const MAX_NAMED_TOPICS: usize = 100;

/// What a server counted since it began, and what it holds now. Counting is always on: it costs a few nanoseconds for each
/// message.
///
/// ```
/// use threadbare::{CloseCode, Server};
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let stats = server.stats();
/// println!("{} connections, {} bytes of memory", stats.connections, stats.memory);
/// println!("{} handshakes, {} refused for their origin", stats.handshakes.upgraded, stats.handshakes.responses(403));
/// println!("{} connections were lost", stats.traffic.closed(CloseCode::ABNORMAL_CLOSURE));
/// # Ok::<(), threadbare::BuildError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Connections that are open now, opening handshakes included.
    pub connections: usize,
    /// The bytes of memory that [`ServerHandle::memory`](crate::ServerHandle::memory) returns.
    pub memory: usize,
    /// How opening handshakes, and plain requests of HTTP, ended.
    pub handshakes: HandshakeStats,
    /// What the established connections did.
    pub traffic: TrafficStats,
    /// Topics that there are: that have subscribers or a history, or that the application holds.
    pub topics: usize,
    /// The counts of all topics together, with what those counted that have ended.
    pub topic_totals: TopicStats,
    /// The topics with most subscribers, and of these first those with most messages: their names and counts. There are 100
    /// at most, because peers may choose the names, and a monitor keeps each that it ever sees.
    pub largest_topics: Vec<(Arc<str>, TopicStats)>,
    /// What the bridge has carried and lost; `None` without one.
    pub bridge: Option<BridgeStats>,
}

impl ServerStats {
    /// The text in which monitors such as Prometheus read it: OpenMetrics 1.0. All names begin with `threadbare_server`, or, for a
    /// bridge, with `threadbare_bridge`. Each of the [`largest_topics`](ServerStats::largest_topics) has the label `topic`.
    ///
    /// ```
    /// let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// let text = server.stats().openmetrics();
    /// assert!(text.contains("\nthreadbare_server_connections 0\n"));
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn openmetrics(&self) -> String {
        let mut text = Exposition::default();
        text.gauge("threadbare_server_connections", Unit::None, "Connections that are open.", self.connections);
        text.gauge(
            "threadbare_server_memory_bytes",
            Unit::Bytes,
            "Memory beyond that of idle connections.",
            self.memory,
        );
        let HandshakeStats { accepted, upgraded, unanswered, tls_failed, .. } = self.handshakes;
        let counters = [
            ("threadbare_server_accepted", "Connections that were accepted.", accepted),
            ("threadbare_server_upgraded", "Opening handshakes that were completed.", upgraded),
            ("threadbare_server_unanswered", "Connections that ended before a response.", unanswered),
            ("threadbare_server_tls_failed", "Handshakes of TLS that failed.", tls_failed),
        ];
        for (name, help, value) in counters {
            text.counter(name, Unit::None, help, value);
        }
        let help = "Responses other than 101, by status.";
        text.counters("threadbare_server_responses", Unit::None, "status", help, self.handshakes.statuses());
        self.traffic.expose("threadbare_server", &mut text);
        expose_topics(self, &mut text);
        if let Some(bridge) = &self.bridge {
            expose_bridge(bridge, &mut text);
        }
        text.into_text()
    }

    /// A response with [`openmetrics`](ServerStats::openmetrics), for `/metrics`.
    ///
    /// ```
    /// use threadbare::{Response, Server};
    ///
    /// let server = Server::builder()
    ///     .http_with_server(|request, server| match request.path() {
    ///         "/metrics" => server.stats().response(),
    ///         _ => Response::new(404),
    ///     })
    ///     .bind("127.0.0.1:0")?;
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    pub fn response(&self) -> Response {
        Response::new(200).header("Content-Type", MEDIA_TYPE).body(self.openmetrics())
    }
}

impl ServerHandle {
    /// What connections there are, for a page of the operator. It asks every worker, and waits for the answers for up to
    /// `timeout`: those of a worker that does not answer in time, because a callback blocks it, are missing.
    ///
    /// It can not wait in a callback or a hook of the server, nor on the thread that runs an event loop, and returns nothing
    /// there. The hook for plain requests can have another thread answer; see
    /// [`ServerBuilder::http_deferred`](crate::ServerBuilder::http_deferred).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// for peer in server.handle().peers(Duration::from_secs(1)) {
    ///     println!("{} {} since {:?}, {} bytes to be written", peer.id, peer.addr, peer.age, peer.stats.queued_bytes);
    /// }
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn peers(&self, timeout: Duration) -> Vec<PeerSummary> {
        if !self.control.may_wait() {
            return Vec::new();
        }
        let deadline = deadline_after(Instant::now(), timeout);
        let (sender, answers) = crossbeam_channel::unbounded();
        let inboxes = self.control.publisher.inboxes();
        let asked = inboxes.iter().filter(|inbox| inbox.send(Command::List(sender.clone()))).count();
        // A worker that ends meanwhile drops its command.
        drop(sender);
        let mut peers = Vec::new();
        for _ in 0..asked {
            match answers.recv_deadline(deadline) {
                Ok(of_worker) => peers.extend(of_worker),
                Err(_) => break,
            }
        }
        peers
    }

    /// What the server counted since it began, from any thread, and without a wait. It looks at each topic: with 100,000 of
    /// them it takes some milliseconds.
    ///
    /// ```
    /// let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// assert_eq!(server.handle().stats().traffic.messages_received, 0);
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        let inboxes = self.control.publisher.inboxes();
        let topics = self.control.topics.topics.registry.stats(MAX_NAMED_TOPICS);
        ServerStats {
            connections: self.connections(),
            memory: self.memory(),
            handshakes: self.control.handshakes.snapshot(),
            traffic: WorkerMetrics::sum(inboxes.iter().map(|inbox| &inbox.metrics)),
            topics: topics.count,
            topic_totals: topics.total,
            largest_topics: topics.largest,
            bridge: self.bridge_stats(),
        }
    }
}

impl Server {
    /// As [`ServerHandle::stats`].
    ///
    /// ```
    /// let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// assert_eq!(server.stats().connections, 0);
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.handle.stats()
    }
}

/// What is shown of topics. `threadbare_server_topics_` and the name is that of all together, `threadbare_server_topic_` that of
/// one.
type OfTopic = (&'static str, Kind, Unit, &'static str, fn(&TopicStats) -> u64);

enum Kind {
    Counter,
    Gauge,
}

const OF_TOPIC: [OfTopic; 8] = [
    ("subscribers", Kind::Gauge, Unit::None, "Subscriptions", |stats| stats.subscribers as u64),
    ("published", Kind::Counter, Unit::None, "Messages published", |stats| stats.published),
    ("published_bytes", Kind::Counter, Unit::Bytes, "Bytes of frames published", |stats| stats.published_bytes),
    ("delivered", Kind::Counter, Unit::None, "Messages sent to subscribers", |stats| stats.delivered),
    ("skipped", Kind::Counter, Unit::None, "Messages that slow subscribers missed", |stats| stats.skipped),
    ("disconnected", Kind::Counter, Unit::None, "Subscribers closed for being slow", |stats| stats.disconnected),
    ("held_messages", Kind::Gauge, Unit::None, "Messages that some subscriber lacks, and history", |stats| {
        stats.messages as u64
    }),
    ("held_bytes", Kind::Gauge, Unit::Bytes, "Bytes of frames that some subscriber lacks, and of history", |stats| {
        stats.bytes as u64
    }),
];

fn expose_topics(stats: &ServerStats, text: &mut Exposition) {
    let help = "Topics that have subscribers or a history, or that the application holds.";
    text.gauge("threadbare_server_topics", Unit::None, help, stats.topics);
    for (name, kind, unit, what, of) in OF_TOPIC {
        let total = of(&stats.topic_totals);
        let each = stats.largest_topics.iter().map(|(topic, stats)| (topic, of(stats)));
        let (all, one) = (format!("threadbare_server_topics_{name}"), format!("threadbare_server_topic_{name}"));
        let (help, help_of_one) = (format!("{what}, of all topics."), format!("{what}, of the largest topics."));
        match kind {
            Kind::Counter => {
                text.counter(&all, unit, &help, total);
                text.counters(&one, unit, "topic", &help_of_one, each);
            }
            Kind::Gauge => {
                text.gauge(&all, unit, &help, total);
                text.gauges(&one, unit, "topic", &help_of_one, each);
            }
        }
    }
}

fn expose_bridge(bridge: &BridgeStats, text: &mut Exposition) {
    let counters = [
        ("queued", "Messages for other servers that the bridge has taken.", bridge.queued),
        ("refused", "Messages for other servers for which there was no room.", bridge.refused),
        ("sent", "Messages that the engine has confirmed.", bridge.sent),
        ("rejected", "Messages that the engine did not take.", bridge.rejected),
        (
            "unacknowledged",
            "Messages that may be lost: the connection broke before they were confirmed.",
            bridge.unacknowledged,
        ),
        ("received", "Messages of other servers that were delivered here.", bridge.received),
        ("missed", "Messages of other servers that did not come.", bridge.missed),
        ("duplicates", "Messages of other servers that came twice, and were dropped.", bridge.duplicates),
        ("own", "Messages of this server that came back, and were dropped.", bridge.own),
        ("garbage", "What came and is no message.", bridge.garbage),
        ("reconnects", "How often a connection to the engine was made again.", bridge.reconnects),
    ];
    for (name, help, value) in counters {
        text.counter(&format!("threadbare_bridge_{name}"), Unit::None, help, value);
    }
    let (connected, bytes) = (u8::from(bridge.connected), bridge.queued_bytes);
    text.gauge("threadbare_bridge_connected", Unit::None, "1 while the engine can be reached.", connected);
    text.gauge("threadbare_bridge_queued_bytes", Unit::Bytes, "Bytes that wait for the engine.", bytes);
    text.gauge("threadbare_bridge_topics", Unit::None, "Topics that this server asks for.", bridge.topics);
    let (help, lag) = ("How long the oldest message that waits has waited.", bridge.lag.as_secs_f64());
    text.gauge("threadbare_bridge_lag_seconds", Unit::Seconds, help, lag);
}
