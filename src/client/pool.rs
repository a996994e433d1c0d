//! The worker threads of clients.

use std::fmt;
use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::client::delivery::{ClientDelivery, ClientSlot, Notice};
use crate::client::ending::{Alive, Ending, Patience, ending};
use crate::config::Config;
use crate::config::check::check_threads;
use crate::error::BuildError;
use crate::protocol::deflate::NegotiatedExtension;
use crate::protocol::handshake::client::Agreed;
use crate::protocol::http::Request;
use crate::protocol::{PeerAddr, Role};
use crate::transport::budget::MemoryBudget;
use crate::transport::clock::deadline_after;
use crate::transport::stream::Stream;
use crate::transport::stream::byte_stream::ByteStream;
use crate::worker::channel::batch::Batch;
use crate::worker::channel::delivery::OwnChannel;
use crate::worker::channel::sender::EventSender;
use crate::worker::channel::state::ChannelState;
use crate::worker::connection_limit::ConnectionLimit;
use crate::worker::event_loop::new_connection::NewConnection;
use crate::worker::event_loop::worker::{CloseCounts, NewApp, Worker, WorkerParts};
use crate::worker::handle::inbox::{Command, Inbox};
use crate::worker::handle::info::Outcome;
use crate::worker::handle::metrics::WorkerMetrics;
use crate::worker::handle::traffic::TrafficStats;
use crate::worker::receiver::events::Events;
use crate::worker::thread::runs_on_one_of;

/// Worker threads that several clients share; without one, each client has a thread of its own. Cheap to clone. The
/// threads end when the pool and all its clients are dropped.
///
/// Whatever is dropped last, the pool or a client, waits until the connections of all clients are closed, for up to
/// [`drop_timeout`](Config::drop_timeout). The drop of each client waits for its own connection; clients that are dropped
/// one after the other wait for no more than [`drop_timeout`](Config::drop_timeout) together, and their connections are
/// closed all the same.
///
/// ```no_run
/// use threadbare::{Client, ClientPool, Config};
///
/// let pool = ClientPool::new(1, Config::default())?;
/// let clients: Vec<Client> = (0..100)
///     .map(|_| Client::builder().pool(&pool).connect("ws://127.0.0.1:8080"))
///     .collect::<Result<_, _>>()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ClientPool {
    pub(super) pool: Arc<Pool>,
}

impl ClientPool {
    /// Starts `workers` threads, 1 to 1,024. `config` has the limits and timeouts of their clients.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::{ClientPool, Config};
    ///
    /// let pool = ClientPool::new(2, Config::default().ping_interval(Duration::from_secs(10)))?;
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// A setting is invalid, or no thread could be started.
    pub fn new(workers: usize, config: Config) -> Result<ClientPool, BuildError> {
        config.check()?;
        check_threads("workers", workers)?;
        let pool = Pool::start(workers, config).map_err(BuildError::io("no thread"))?;
        Ok(ClientPool { pool: Arc::new(pool) })
    }
}

impl ClientPool {
    /// What the connections of all clients of this pool did since it was made, from any thread, and without a wait.
    ///
    /// ```
    /// use threadbare::{Client, ClientPool, Config, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let pool = ClientPool::new(1, Config::default())?;
    /// let client = Client::builder().pool(&pool).connect(&format!("ws://{}", server.local_addr()))?;
    /// client.send("hello")?;
    /// println!("{} messages sent", pool.stats().messages_sent);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> TrafficStats {
        self.pool.traffic()
    }
}

impl fmt::Debug for ClientPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.fmt(f)
    }
}

/// A connection whose handshake is done.
pub(super) struct Established {
    pub(super) stream: Stream,
    pub(super) addr: PeerAddr,
    /// The address of this end.
    pub(super) local_addr: PeerAddr,
    /// The URL, without user and password.
    pub(super) url: String,
    /// The request as it was sent.
    pub(super) request: Request,
    /// The bytes that arrived after the 101: the first frames.
    pub(super) leftover: Vec<u8>,
    pub(super) agreed: Agreed,
    /// What `agreed` says about compression.
    pub(super) agreement: NegotiatedExtension,
}

impl Established {
    /// Converts it into a connection for a worker, with the application's part of it, and the result of the handshake.
    pub(super) fn into_new_connection<C>(self, app: impl FnOnce(Request) -> C) -> (NewConnection<C>, Agreed) {
        let Established { stream, addr, request, leftover, agreed, agreement, .. } = self;
        let new_connection = NewConnection {
            charge: None,
            // Nothing was offered to a read, so that this is what the stream holds back.
            readable: stream.has_more(0, 1),
            stream,
            watched: None,
            end_reported: false,
            addr,
            #[cfg(all(target_os = "linux", feature = "handover"))]
            arriving: None,
            outcome: Outcome::new(agreed.subprotocol().map(|name| Arc::new(name.to_owned())), None),
            agreement,
            receive: None,
            leftover,
            app: Some(app(request)),
        };
        (new_connection, agreed)
    }
}

pub(super) struct Pool {
    inboxes: Arc<[Arc<Inbox>]>,
    to_workers: Vec<Sender<NewConnection<NewApp<ClientDelivery>>>>,
    pub(super) config: Arc<Config>,
    budget: Arc<MemoryBudget>,
    threads: Vec<JoinHandle<CloseCounts>>,
    /// The end of all threads.
    ending: Ending,
    /// How long the drops of clients may still wait.
    patience: Mutex<Patience>,
}

impl Pool {
    /// What the threads counted.
    pub(super) fn traffic(&self) -> TrafficStats {
        WorkerMetrics::sum(self.inboxes.iter().map(|inbox| &inbox.metrics))
    }

    pub(super) fn start(workers: usize, config: Config) -> std::io::Result<Pool> {
        let config = Arc::new(config);
        let budget = Arc::new(MemoryBudget::new(config.memory_limit()));
        let parts: Vec<WorkerParts> =
            (0..workers).map(|_| WorkerParts::new(Role::Client, budget.clone())).collect::<Result<_, _>>()?;
        let inboxes: Arc<[_]> = parts.iter().map(|part| part.inbox.clone()).collect();
        let connection_limit = Arc::new(ConnectionLimit::new(usize::MAX, None));
        // Made before the threads: if one can not be started, dropping the pool ends those before it.
        let (alive, ending) = ending();
        let mut pool = Pool {
            inboxes: inboxes.clone(),
            to_workers: Vec::new(),
            config: config.clone(),
            budget,
            threads: Vec::new(),
            ending,
            patience: Mutex::default(),
        };
        for (index, part) in parts.into_iter().enumerate() {
            let (to_worker, new_connections) = crossbeam_channel::unbounded();
            let (siblings, config, connection_limit) = (inboxes.clone(), config.clone(), connection_limit.clone());
            let worker =
                Worker::new(part, index as u16, siblings, config, ClientDelivery, new_connections, connection_limit);
            let alive = alive.clone();
            let run = move || {
                // Dropped after everything that the worker has.
                let _alive = alive;
                worker.run()
            };
            pool.threads.push(pool.config.thread(format!("ws-client-{index}")).spawn(run)?);
            pool.to_workers.push(to_worker);
        }
        Ok(pool)
    }

    /// Makes a channel for the events of one client of this pool. The workers send, and the client receives.
    pub(super) fn channel(&self) -> (EventRoute, Events, Ending) {
        let state = Arc::new(ChannelState::for_one_connection(self.config.max_event_buffer_size, self.budget.clone()));
        // Set once, here.
        let _ = state.workers.set(self.inboxes.clone());
        let (sender, receiver) = crossbeam_channel::unbounded();
        let (alive, ending) = ending();
        (EventRoute { sender: Some(sender), state: state.clone(), alive }, Events::new(receiver, state), ending)
    }

    /// Assigns an established connection to the worker with the fewest connections. Its events go to `route`, and
    /// notices of its start and end to `watcher`.
    pub(super) fn register(
        &self,
        established: Established,
        route: &EventRoute,
        watcher: Option<Sender<Notice>>,
    ) -> Agreed {
        let slot = ClientSlot::new(route.own_channel(watcher.as_ref()), watcher, route.alive.clone());
        let (new_connection, agreed) = established.into_new_connection(|request| (slot, request));
        let least = (0..self.to_workers.len()).min_by_key(|index| self.inboxes[*index].load.load(Ordering::Relaxed));
        if let Some(index) = least {
            self.inboxes[index].load.fetch_add(1, Ordering::Relaxed);
            // A worker that has ended drops the connection, which ends the channel of events.
            let _ = self.to_workers[index].send(new_connection);
            self.inboxes[index].notify();
        }
        agreed
    }
}

impl Pool {
    /// Waits for the end of a client that is dropped, as long as its drop may wait. Returns whether the end has come.
    pub(super) fn wait_for(&self, ending: &Ending) -> bool {
        if self.runs_here() {
            return ending.has_come();
        }
        let began = Instant::now();
        let patience = self.patience().left(self.config.drop_timeout, began);
        let ended = ending.wait(began.checked_add(patience));
        let now = Instant::now();
        self.patience().spend(now.saturating_duration_since(began), now);
        ended
    }

    fn patience(&self) -> MutexGuard<'_, Patience> {
        self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the calling thread is one of the pool's, which must not wait for itself.
    fn runs_here(&self) -> bool {
        runs_on_one_of(&self.threads)
    }
}

/// Where the events of a client's connections go. The channel does not end before this is dropped.
#[derive(Debug)]
pub(super) struct EventRoute {
    /// `None` once it is dropped.
    sender: Option<Sender<Batch>>,
    state: Arc<ChannelState>,
    alive: Alive,
}

impl EventRoute {
    /// A sender for the events of one connection.
    fn events(&self) -> EventSender {
        // The sender is missing only while the route is dropped.
        let sender = self.sender.clone().unwrap_or_else(|| crossbeam_channel::unbounded().0);
        EventSender::new(sender, self.state.clone())
    }

    /// The channel of one connection. If somebody watches the connection, that one closes it when nobody receives.
    fn own_channel(&self, watcher: Option<&Sender<Notice>>) -> OwnChannel {
        match watcher {
            Some(_) => OwnChannel::watched(self.events()),
            None => OwnChannel::new(self.events()),
        }
    }
}

impl Drop for EventRoute {
    fn drop(&mut self) {
        // The waiting threads see that the channel has ended.
        self.sender = None;
        self.state.waiters.wake();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientPool").field("workers", &self.to_workers.len()).finish_non_exhaustive()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Each client has queued a close frame as it was dropped. The threads end when these are answered.
        let began = Instant::now();
        let bound = self.config.drop_timeout;
        let deadline = deadline_after(began, self.config.close_timeout.max(bound));
        for inbox in &*self.inboxes {
            inbox.send(Command::Shutdown(deadline));
        }
        let patience = self.patience().left_after_last(bound, began);
        if !self.runs_here() && self.ending.wait(began.checked_add(patience)) {
            for thread in mem::take(&mut self.threads) {
                // A panic was reported as it happened.
                let _ = thread.join();
            }
        }
    }
}
