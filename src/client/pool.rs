//! The worker threads of clients.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::client::connect::Opened;
use crate::client::delivery::{Line, Notice, ToClients};
use crate::config::{Config, ConfigError};
use crate::error::BuildError;
use crate::protocol::Role;
use crate::protocol::deflate::Agreement;
use crate::protocol::handshake::client::Agreed;
use crate::transport::stream::Stream;
use crate::worker::admission::Admission;
use crate::worker::adoption::Adoption;
use crate::worker::batch::Batch;
use crate::worker::channel::{Outlet, Owned};
use crate::worker::events::Events;
use crate::worker::inbox::{Command, Inbox};
use crate::worker::shard::Shard;
use crate::worker::{Newcomer, Seat, Worker};

/// Worker threads that several clients share; without one, each client has a thread of its own. Cheap to clone. The
/// threads end when the pool and all its clients are dropped.
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
    /// Starts that many worker threads, with the limits and timeouts that their clients shall have.
    ///
    /// # Errors
    /// A setting that could not work, or no thread to be had.
    pub fn new(workers: usize, config: Config) -> Result<ClientPool, BuildError> {
        config.check()?;
        if workers == 0 {
            return Err(ConfigError::new("workers", 0, "at least 1").into());
        }
        let pool = Pool::start(workers, config).map_err(BuildError::io("no thread"))?;
        Ok(ClientPool { pool: Arc::new(pool) })
    }
}

impl fmt::Debug for ClientPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.fmt(f)
    }
}

pub(super) struct Pool {
    inboxes: Arc<[Arc<Inbox>]>,
    doors: Vec<Sender<Adoption<Newcomer<ToClients>>>>,
    pub(super) config: Arc<Config>,
}

impl Pool {
    pub(super) fn start(workers: usize, config: Config) -> std::io::Result<Pool> {
        let config = Arc::new(config);
        let seats: Vec<Seat> = (0..workers).map(|_| Seat::new(Role::Client)).collect::<Result<_, _>>()?;
        let inboxes: Arc<[_]> = seats.iter().map(|seat| seat.inbox.clone()).collect();
        let admission = Arc::new(Admission::new(usize::MAX, None));
        // Made before the threads, so that its drop ends those that were started if a later one can not be.
        let mut pool = Pool { inboxes: inboxes.clone(), doors: Vec::new(), config: config.clone() };
        for (index, seat) in seats.into_iter().enumerate() {
            let (door, adoptions) = crossbeam_channel::unbounded();
            let (siblings, config, admission) = (inboxes.clone(), config.clone(), admission.clone());
            let worker = Worker::new(seat, index as u16, siblings, config, ToClients::default(), adoptions, admission);
            std::thread::Builder::new().name(format!("ws-client-{index}")).spawn(move || worker.run())?;
            pool.doors.push(door);
        }
        Ok(pool)
    }

    /// A channel for the events of clients of this pool, and its end that the workers fill.
    pub(super) fn channel(&self) -> (Route, Events) {
        let shard = Arc::new(Shard::new(self.config.max_event_buffer_size));
        // Set once, here.
        let _ = shard.workers.set(self.inboxes.clone());
        let (sender, receiver) = crossbeam_channel::unbounded();
        (Route { sender: Some(sender), shard: shard.clone() }, Events::new(receiver, shard))
    }

    /// Gives an established connection to the worker with the fewest. Its events go to `route`, and word of its
    /// beginning and end to `watcher`.
    pub(super) fn adopt(
        &self,
        opened: Opened,
        agreement: Agreement,
        route: &Route,
        watcher: Option<Sender<Notice>>,
    ) -> Agreed {
        let Opened { stream, addr, request, leftover, agreed } = opened;
        let adoption = Adoption {
            stream: Stream::Tcp(stream),
            watched: None,
            readable: false,
            end_reported: false,
            addr,
            subprotocol: agreed.subprotocol().map(|name| Arc::new(name.to_owned())),
            agreement,
            leftover,
            app: (Line::new(Owned::new(route.outlet()), watcher), request),
        };
        let least = (0..self.doors.len()).min_by_key(|index| self.inboxes[*index].load.load(Ordering::Relaxed));
        if let Some(index) = least {
            self.inboxes[index].load.fetch_add(1, Ordering::Relaxed);
            // A worker that has ended drops the connection, and the channel of events says so.
            let _ = self.doors[index].send(adoption);
            self.inboxes[index].announce();
        }
        agreed
    }
}

/// Where the events of a client's connections go. While it is there, the channel does not end.
#[derive(Debug)]
pub(super) struct Route {
    /// `None` once it is dropped.
    sender: Option<Sender<Batch>>,
    shard: Arc<Shard>,
}

impl Route {
    /// The end for one connection.
    fn outlet(&self) -> Outlet {
        // The channel without a sender is that of a route that was dropped.
        let sender = self.sender.clone().unwrap_or_else(|| crossbeam_channel::unbounded().0);
        Outlet::new(sender, self.shard.clone())
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        // Whoever waits sees the channel end.
        self.sender = None;
        self.shard.parked.wake();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientPool").field("workers", &self.doors.len()).finish_non_exhaustive()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // The clients are gone, each with a close frame queued; the threads end when these are answered.
        let deadline = Instant::now() + self.config.close_timeout;
        for inbox in &*self.inboxes {
            inbox.send(Command::Shutdown(deadline));
        }
    }
}
