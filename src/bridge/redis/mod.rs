//! The bridge over Redis or Valkey.
//!
//! Two threads have a connection each. The publisher's (`publisher.rs`) sends what is in the queue (`queue.rs`), one pipeline at
//! a time. The subscriber's (`subscriber.rs`, or `streams.rs`) asks for the topics (`topics.rs`) that have subscribers here, and
//! delivers (`feeds.rs`).

mod feeds;
#[cfg(all(target_os = "linux", feature = "handover"))]
mod handing_over;
mod link;
mod publisher;
mod queue;
#[cfg(all(target_os = "linux", feature = "handover"))]
mod relay;
mod resp;
mod retry;
mod shared;
mod streams;
mod subscriber;
mod topics;
mod url;

#[cfg(fuzzing)]
pub(crate) mod fuzz;

use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::bridge::envelope::{NodeId, OVERHEAD};
use crate::bridge::redis::feeds::Feeds;
use crate::bridge::redis::link::{Dialler, Waits};
use crate::bridge::redis::queue::{Form, Queue};
use crate::bridge::redis::shared::{Lane, Shared};
use crate::bridge::redis::topics::Topics;
use crate::bridge::redis::url::Target;
use crate::bridge::stats::{Counts, add};
use crate::bridge::{Accepted, Bridge, BridgeError, BridgeMessage, BridgeStats, LocalTopics};
#[cfg(feature = "rustls-tls")]
use crate::transport::tls::client_config::ClientTls;

/// 4 MiB of commands: 20,000 messages of 128 bytes, which is as much as Redis takes in 40 ms. More keeps more over an outage;
/// less takes less memory.
const DEFAULT_QUEUE: usize = 4 << 20;

/// As for a connection: larger messages let one node take the memory of all.
const DEFAULT_MAX_MESSAGE: usize = 1 << 20;

/// What is queued when the bridge is stopped has 500 ms to leave. Longer delays the end of the server while Redis is gone, beyond
/// what a shutdown waits for its threads; shorter loses more.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// A bridge over Redis or Valkey, for the topics of several machines.
///
/// By default, messages travel by `PUBLISH` and `SUBSCRIBE`: at most once. None comes twice, and each that is lost is counted on
/// the node that misses it, and told to the subscribers there, as soon as the next message of the same node and topic arrives.
/// [`streams`](Redis::streams) keeps messages in Redis, so that none is lost over an outage.
///
/// Each node subscribes to the topics that have subscribers on it, and to no others. Two threads, `ws-bridge-pub` and
/// `ws-bridge-sub`, have a connection each. After an outage they connect again after a random time of up to 50 ms, later 3 s, and then every topic is told
/// that messages may have been lost.
///
/// ```
/// use threadbare::Redis;
///
/// let bridge = Redis::new("redis://:secret@127.0.0.1:6379")?.prefix("app:").queue(8 << 20);
/// # Ok::<(), threadbare::BridgeError>(())
/// ```
pub struct Redis {
    dialler: Dialler,
    prefix: String,
    queue: usize,
    max_message: usize,
    keep: Option<u64>,
    topics: Arc<Topics>,
    counts: Arc<Counts>,
    running: OnceLock<Running>,
}

struct Running {
    #[cfg(all(target_os = "linux", feature = "handover"))]
    local: LocalTopics,
    shared: Arc<Shared>,
    publisher: Arc<Lane>,
    subscriber: Arc<Lane>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Redis {
    /// Makes a bridge for the Redis at `redis://user:password@host:port/database`, of which all but the host may be left out,
    /// or `unix:///path` for a Unix socket. User and password are percent-encoded. Nothing is connected yet.
    ///
    /// `rediss://` is the same over TLS. It needs the feature `rustls-tls-native-roots` or `rustls-tls-webpki-roots`, or
    /// `tls`.
    ///
    /// ```
    /// use threadbare::{BridgeError, Redis};
    ///
    /// assert!(Redis::new("redis://127.0.0.1").is_ok());
    /// let error = Redis::new("redis://127.0.0.1:x").err().expect("no port");
    /// assert_eq!(error.to_string(), "the URL redis://127.0.0.1:x does not work: the port is no number of 1 to 65535");
    /// ```
    ///
    /// # Errors
    /// The URL is wrong, or asks for TLS where the library was built without.
    pub fn new(url: &str) -> Result<Redis, BridgeError> {
        let target = Target::parse(url)?;
        if target.tls && !cfg!(feature = "rustls-tls") {
            return Err(BridgeError::NoTls { url: target.to_string() });
        }
        Ok(Redis {
            dialler: Dialler {
                target,
                #[cfg(feature = "rustls-tls")]
                tls: None,
                max_bulk: 0,
            },
            prefix: String::new(),
            queue: DEFAULT_QUEUE,
            max_message: DEFAULT_MAX_MESSAGE,
            keep: None,
            topics: Arc::default(),
            counts: Arc::default(),
            running: OnceLock::new(),
        })
    }

    /// Puts this before the name of every topic, so that several applications can use one Redis. Default: nothing.
    ///
    /// ```
    /// use threadbare::Redis;
    ///
    /// let bridge = Redis::new("redis://127.0.0.1")?.prefix("shop:");
    /// # Ok::<(), threadbare::BridgeError>(())
    /// ```
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Redis {
        self.prefix = prefix.to_owned();
        self
    }

    /// Limits how many bytes wait to be sent, with the 100 bytes or so around each message. What does not fit is refused and
    /// counted. Default: 4 MiB, about 20,000 messages of 128 bytes. More bridges longer outages, and takes more memory in them.
    ///
    /// ```
    /// use threadbare::Redis;
    ///
    /// let bridge = Redis::new("redis://127.0.0.1")?.queue(64 << 20); // for outages of a minute
    /// # Ok::<(), threadbare::BridgeError>(())
    /// ```
    #[must_use]
    pub fn queue(mut self, bytes: usize) -> Redis {
        self.queue = bytes;
        self
    }

    /// Limits the size of a message in bytes. Larger ones are refused. Default: 1 MiB, as the default of
    /// [`Config::max_message_size`](crate::Config::max_message_size).
    ///
    /// A node that finds a larger one closes its connection, so this is to be the same on every node.
    ///
    /// ```
    /// use threadbare::Redis;
    ///
    /// let bridge = Redis::new("redis://127.0.0.1")?.max_message_size(64 << 10);
    /// # Ok::<(), threadbare::BridgeError>(())
    /// ```
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Redis {
        self.max_message = bytes;
        self
    }

    /// Has Redis keep about the last `keep` messages of each topic in a stream (`XADD` with `MAXLEN ~ keep`).
    ///
    /// After an outage a node reads on where it stood, so that nothing is lost as long as the outage fits the streams and the
    /// publishers' queues. What was sent twice is dropped. Each message has a [`position`](BridgeMessage::position) that is the
    /// same on every node.
    ///
    /// It costs more than the default: Redis works almost three times as long for each message, each stream takes memory while the topic
    /// is unused too, and each read names every topic. It is made for up to a thousand topics on a node.
    ///
    /// ```
    /// use threadbare::Redis;
    ///
    /// let bridge = Redis::new("redis://127.0.0.1")?.streams(1_000);
    /// # Ok::<(), threadbare::BridgeError>(())
    /// ```
    #[must_use]
    pub fn streams(mut self, keep: u64) -> Redis {
        self.keep = Some(keep);
        self
    }

    /// Sets what is demanded of Redis' certificate. Default: [`ClientTls::with_default_roots`]. Used for `rediss://` only.
    ///
    /// ```no_run
    /// use threadbare::{ClientTls, Redis};
    ///
    /// let tls = ClientTls::builder().root_file("own-ca.pem").build()?;
    /// let bridge = Redis::new("rediss://redis.internal")?.tls(tls);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "rustls-tls")]
    #[must_use]
    pub fn tls(mut self, tls: ClientTls) -> Redis {
        self.dialler.tls = Some(tls);
        self
    }

    fn check(&self) -> Result<(), BridgeError> {
        let wrong = |setting, problem| Err(BridgeError::Setting { setting, problem });
        let least = self.max_message.saturating_add(OVERHEAD);
        if self.queue <= least {
            return wrong(
                "queue",
                format!("it has {} bytes, and max_message_size is {}", self.queue, self.max_message),
            );
        }
        if self.keep == Some(0) {
            return wrong("streams", "0 messages are kept, but must be at least 1".to_owned());
        }
        Ok(())
    }

    /// The settings of each connection.
    fn dialler(&self) -> Result<Dialler, BridgeError> {
        let mut dialler = self.dialler.clone();
        dialler.max_bulk = (self.max_message.saturating_add(OVERHEAD) as u64).max(MAX_NAME);
        #[cfg(feature = "rustls-tls")]
        match (dialler.target.tls, &dialler.tls) {
            (true, None) => {
                let tls = ClientTls::with_default_roots();
                dialler.tls =
                    Some(tls.map_err(|error| BridgeError::Setting { setting: "tls", problem: error.to_string() })?);
            }
            (true, Some(_)) => {}
            (false, _) => dialler.tls = None,
        }
        Ok(dialler)
    }

    fn run(&self, local: LocalTopics, stands_by: bool) -> Result<Running, BridgeError> {
        self.check()?;
        let io = |operation| move |source| BridgeError::Io { operation, source };
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| io("random number")(io::Error::other(error.to_string())))?;
        let node = NodeId::new(u64::from_ne_bytes(random));
        let form = self.keep.map_or(Form::Publish, |keep| Form::Append { keep });
        let feeds = self.feeds(node, stands_by);
        let shared = Arc::new(Shared {
            dialler: self.dialler()?,
            prefix: self.prefix.clone(),
            queue: Queue::new(node, form, self.prefix.clone(), self.queue, self.max_message),
            topics: self.topics.clone(),
            counts: self.counts.clone(),
            feeds: Mutex::new(feeds),
            #[cfg(all(target_os = "linux", feature = "handover"))]
            catches_up: relay::CatchesUp::default(),
            resends: self.keep.is_some(),
        });
        let (publisher_waits, waker) = Waits::new().map_err(io("poll"))?;
        let publisher = Arc::new(Lane::new(waker));
        let (subscriber_waits, waker) = Waits::new().map_err(io("poll"))?;
        let subscriber = Arc::new(Lane::new(waker));
        let running = Running {
            #[cfg(all(target_os = "linux", feature = "handover"))]
            local: local.clone(),
            shared: shared.clone(),
            publisher,
            subscriber,
            threads: Mutex::new(Vec::new()),
        };
        let lane = running.publisher.clone();
        running.spawn("ws-bridge-pub", move || publisher::run(&shared, &lane, publisher_waits))?;
        let (shared, lane, is_stream) = (running.shared.clone(), running.subscriber.clone(), self.keep.is_some());
        running.spawn("ws-bridge-sub", move || match is_stream {
            true => streams::run(&shared, &local, &lane, subscriber_waits),
            false => subscriber::run(&shared, &local, &lane, subscriber_waits),
        })?;
        Ok(running)
    }

    /// What the subscriber's thread begins with.
    #[cfg_attr(
        not(all(target_os = "linux", feature = "handover")),
        expect(unused_mut, unused_variables, reason = "the other form needs it")
    )]
    fn feeds(&self, node: NodeId, stands_by: bool) -> Feeds {
        let mut feeds = Feeds::new(node, self.counts.clone());
        #[cfg(all(target_os = "linux", feature = "handover"))]
        if stands_by {
            feeds.stand_by();
        }
        feeds
    }

    fn start_with(&self, local: LocalTopics, stands_by: bool) -> Result<(), BridgeError> {
        if self.running.get().is_some() {
            return Err(BridgeError::AlreadyStarted);
        }
        let running = self.run(local, stands_by)?;
        self.running.set(running).map_err(|second| {
            second.stop();
            BridgeError::AlreadyStarted
        })
    }

    fn wake_subscriber(&self) {
        if let Some(running) = self.running.get() {
            running.subscriber.wake();
        }
    }
}

/// The name of a topic may have 64 KiB, however small messages are.
const MAX_NAME: u64 = 64 << 10;

impl Running {
    fn spawn(&self, name: &'static str, body: impl FnOnce() + Send + 'static) -> Result<(), BridgeError> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(body);
        match thread {
            Ok(thread) => {
                self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
                Ok(())
            }
            Err(source) => {
                self.stop();
                Err(BridgeError::Io { operation: "thread", source })
            }
        }
    }

    fn stop(&self) {
        self.shared.queue.close();
        let deadline = Instant::now() + STOP_TIMEOUT;
        self.publisher.stop(deadline);
        self.subscriber.stop(deadline);
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for handle in threads {
            // One that stops the bridge, from inside a delivery, ends by itself.
            if handle.thread().id() != thread::current().id() && handle.join().is_err() {
                log::error!("a thread of the bridge has panicked");
            }
        }
    }
}

impl Bridge for Redis {
    fn start(&self, local: LocalTopics) -> Result<(), BridgeError> {
        self.start_with(local, false)
    }

    #[cfg(all(target_os = "linux", feature = "handover"))]
    fn stand_by(&self, local: LocalTopics) -> Result<(), BridgeError> {
        self.start_with(local, true)
    }

    #[cfg(all(target_os = "linux", feature = "handover"))]
    fn is_ready(&self) -> bool {
        let Some(running) = self.running.get() else { return false };
        let feeds = running.shared.feeds();
        // The subscriber takes changes under this lock.
        self.counts.subscribed.load(Ordering::Relaxed) && feeds.is_confirmed() && !self.topics.has_changes()
    }

    #[cfg(all(target_os = "linux", feature = "handover"))]
    fn catch_up(&self) {
        // Streams are read again from where this bridge stands.
        if let Some(running) = self.running.get().filter(|_| self.keep.is_none()) {
            running.shared.catches_up.run(|| running.subscriber.wake());
        }
    }

    #[cfg(all(target_os = "linux", feature = "handover"))]
    fn leave(&self) -> Vec<u8> {
        let Some(running) = self.running.get() else { return Vec::new() };
        let mut feeds = running.shared.feeds();
        running.shared.queue.with_sequences(|own| feeds.leave(own))
    }

    #[cfg(all(target_os = "linux", feature = "handover"))]
    fn go_on(&self, state: &[u8]) {
        if let Some(running) = self.running.get() {
            running.shared.feeds().go_on(state, &self.topics, &mut running.local.batch());
            running.subscriber.wake();
        }
    }

    fn publish(&self, topic: &str, message: &BridgeMessage<'_>) -> Accepted {
        let Some(running) = self.running.get() else {
            add(&self.counts.refused, 1);
            return Accepted::Stopped;
        };
        let (accepted, wake) = running.shared.queue.push(topic, message);
        let counter = if accepted.is_queued() { &self.counts.queued } else { &self.counts.refused };
        counter.fetch_add(1, Ordering::Relaxed);
        if wake {
            running.publisher.wake();
        }
        accepted
    }

    fn subscribe(&self, topic: &str) {
        if self.topics.want(topic) {
            self.wake_subscriber();
        }
    }

    fn unsubscribe(&self, topic: &str) {
        if self.topics.forget(topic) {
            self.wake_subscriber();
        }
    }

    fn stats(&self) -> BridgeStats {
        let mut stats = self.counts.read();
        stats.topics = self.topics.count();
        if let Some(running) = self.running.get() {
            (stats.queued_bytes, stats.lag) = running.shared.queue.backlog();
        }
        stats
    }

    fn stop(&self) {
        if let Some(running) = self.running.get() {
            running.stop();
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("target", &self.dialler.target)
            .field("prefix", &self.prefix)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(feature = "rustls-tls"))]
    #[test]
    fn a_build_without_tls_says_what_to_use() {
        let error = Redis::new("rediss://me:secret@h").expect_err("no TLS").to_string();
        assert!(error.starts_with("the URL rediss://h:6379 asks for TLS"), "{error}");
        assert!(error.contains("stunnel"), "{error}");
    }

    #[test]
    fn settings_that_could_not_work_are_refused() {
        let bridge = || Redis::new("redis://h").expect("a URL");
        let refused = |bridge: Redis| bridge.check().expect_err("refused").to_string();
        assert_eq!(
            refused(bridge().queue(1 << 20)),
            "queue could not work: it has 1048576 bytes, and max_message_size is 1048576"
        );
        assert_eq!(refused(bridge().streams(0)), "streams could not work: 0 messages are kept, but must be at least 1");
        assert!(bridge().queue(1000).max_message_size(900).check().is_ok());
    }
}
