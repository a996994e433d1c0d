//! Seeing inside: what a server does and holds, for an operator and for monitors.
//!
//! # Counts and times
//!
//! [`ServerHandle::stats`](crate::ServerHandle::stats) says at any time, from any thread, what the server has done and holds:
//! connections, handshakes by outcome, messages and bytes, close codes, what slow readers lost, and how long callbacks,
//! iterations of the event loops, round trips and waits in the output queue take. One line serves it to a monitor:
//!
//! ```no_run
//! use threadbare::{Response, Server};
//!
//! let server = Server::builder()
//!     .http_with_server(|request, server| match request.path() {
//!         "/metrics" => server.stats().response(), // for Prometheus and others that read OpenMetrics
//!         _ => Response::new(404),
//!     })
//!     .bind("127.0.0.1:8080")?;
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! # What to look at first
//!
//! * `connections_closed` with 1006: connections that were lost; 1008: readers that were too slow; 1011: callbacks that panicked.
//! * `iteration_seconds`: what one connection waits for the others of its worker. A handler's callback that takes more than
//!   [`slow_callback`](crate::Config::slow_callback) is also logged with the address of its connection.
//! * `queue_seconds` and `queued_bytes`: clients that read more slowly than they are sent to.
//!
//! # Topics
//!
//! Each topic has its subscribers, what was published and delivered, what slow subscribers have skipped, and how much its ring
//! holds: [`Topic::stats`](crate::Topic::stats), and in the text as `threadbare_server_topic_skipped_total{topic="prices"}` and so
//! on.
//!
//! * Names are the application's, or those that peers have chosen, so only the 100 topics with most subscribers are in the text
//!   ([`ServerStats::largest_topics`](crate::ServerStats::largest_topics)). `threadbare_server_topics_skipped_total` and its like are of
//!   all topics, with those that have ended. What the others have is the difference.
//! * `held_bytes` near [`TopicConfig::buffer`](crate::TopicConfig::buffer) says that some subscriber is slow, and is about to skip.
//! * A [bridge](crate::ServerBuilder::bridge) has names that begin with `threadbare_bridge`: what it `sent`, `received` and `missed`,
//!   and how long messages wait for it, `threadbare_bridge_lag_seconds`.
//!
//! # Connections
//!
//! A page for the operator lists the connections with [`ServerHandle::peers`](crate::ServerHandle::peers). Each
//! connection has counts of its own, [`Stats`](crate::Stats). Clients have the times and close codes too:
//! [`ClientPool::stats`](crate::ClientPool::stats), [`Client::traffic`](crate::Client::traffic) and
//! [`ReconnectingClient::traffic`](crate::ReconnectingClient::traffic).
//!
//! # The log
//!
//! The library logs through the crate `log`. Its targets begin with `threadbare::server` (listening, handshakes, plain HTTP),
//! `threadbare::worker` (established connections), `threadbare::client` and `threadbare::transport`; what follows may change. What
//! a peer does wrong is logged at `debug`. At `warn`, and at most once a second, is what an operator may want to change: refused
//! origins and hosts, slow callbacks, a lack of memory. `error` says that a callback panicked or the system refused something.
