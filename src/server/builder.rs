//! How a server is made.

use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{Config, ConfigError};
use crate::error::BuildError;
use crate::protocol::Role;
use crate::protocol::handshake::server::upgrade_required;
use crate::protocol::handshake::{Accept, HostPolicy, OriginPolicy};
use crate::protocol::http::{HeadLimits, Reject, Request, Response};
use crate::server::Server;
use crate::server::alone::Alone;
use crate::server::ask::{ReactorHandle, Wake};
use crate::server::control::{Control, Progress, ServerHandle};
use crate::server::handshake::{Decide, Rules};
use crate::server::pending::Pending;
use crate::server::reactor::{Admit, Outlet, Parts, Reactor};
use crate::worker::admission::Admission;
use crate::worker::channel::{self, Channelled, ToChannels};
use crate::worker::delivery::{Delivery, Handler, ToHandler};
use crate::worker::events::Events;
use crate::worker::shard::Shard;
use crate::worker::{Ended, Newcomer, Seat, Worker};

/// Connections that the kernel keeps for the reactor; as many as Linux allows by default.
const BACKLOG: i32 = 4096;

/// The most workers, and the most channels.
const MAX_THREADS: usize = 1024;

/// Makes a [`Server`]; see [`Server::builder`].
pub struct ServerBuilder {
    workers: Option<usize>,
    channels: usize,
    config: Config,
    subprotocols: Vec<Arc<String>>,
    origins: OriginPolicy,
    hosts: HostPolicy,
    decide: Decide,
    http: Box<dyn Fn(&Request) -> Response + Send>,
}

impl ServerBuilder {
    pub(super) fn new() -> ServerBuilder {
        ServerBuilder {
            workers: None,
            channels: 1,
            config: Config::default(),
            subprotocols: Vec::new(),
            origins: OriginPolicy::SameHost,
            hosts: HostPolicy::Any,
            decide: Decide::Now(Box::new(|_| Ok(Accept::new()))),
            http: Box::new(|_| upgrade_required()),
        }
    }

    /// How many worker threads there are. Default: one for each core.
    ///
    /// Beside two or more there is one thread that accepts connections and does the opening handshakes. A lone worker
    /// does both itself, and the server has no other thread: what that saves is a switch between threads for each
    /// connection, and its price is that a callback that takes long delays handshakes too.
    #[must_use]
    pub fn workers(mut self, count: impl Into<Option<usize>>) -> ServerBuilder {
        self.workers = count.into();
        self
    }

    /// Over how many [`Events`] receivers the connections are spread, a connection always on the same; take them with
    /// [`Server::take_events`]. Default: 1.
    #[must_use]
    pub fn channels(mut self, count: usize) -> ServerBuilder {
        self.channels = count;
        self
    }

    /// Limits and timeouts.
    #[must_use]
    pub fn config(mut self, config: Config) -> ServerBuilder {
        self.config = config;
        self
    }

    /// The subprotocols that the server speaks. The first of the client's that is among them is chosen, unless
    /// [`on_request`](ServerBuilder::on_request) chooses (RFC 6455 4.2.2).
    #[must_use]
    pub fn subprotocols<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> ServerBuilder {
        self.subprotocols = names.into_iter().map(|name| Arc::new(name.into())).collect();
        self
    }

    /// Which web pages may connect. Default: those from the host that they connect to, so that a page elsewhere can not
    /// use a visitor's cookies (RFC 6455 10.2). Programs send no `Origin` and pass.
    #[must_use]
    pub fn origins(mut self, policy: OriginPolicy) -> ServerBuilder {
        self.origins = policy;
        self
    }

    /// The hosts that requests may be for, as a protection against DNS rebinding; others are answered 421. Default: any.
    #[must_use]
    pub fn hosts<S: Into<String>>(mut self, hosts: impl IntoIterator<Item = S>) -> ServerBuilder {
        self.hosts = HostPolicy::List(hosts.into_iter().map(Into::into).collect());
        self
    }

    /// Decides about each opening handshake, on the thread that accepts, which must not be blocked. A panic is answered
    /// 500.
    ///
    /// ```no_run
    /// use threadbare::{Accept, Reject, Server};
    ///
    /// let server = Server::builder()
    ///     .on_request(|request| match request.path() {
    ///         "/chat" => Ok(Accept::new().subprotocol("chat")),
    ///         _ => Err(Reject::new(404)),
    ///     })
    ///     .bind("127.0.0.1:0")?;
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn on_request(mut self, hook: impl Fn(&Request) -> Result<Accept, Reject> + Send + 'static) -> ServerBuilder {
        self.decide = Decide::Now(Box::new(hook));
        self
    }

    /// As [`on_request`](ServerBuilder::on_request), for decisions that block, such as a look-up in a database: the
    /// [`Pending`] handshake goes to another thread and is decided from there.
    #[must_use]
    pub fn on_request_deferred(mut self, hook: impl Fn(Request, Pending) + Send + 'static) -> ServerBuilder {
        self.decide = Decide::Later(Box::new(hook));
        self
    }

    /// Answers plain HTTP requests on the same port: a page, a health check. It runs on the thread that accepts, which
    /// must not be blocked. Default: 426 (Upgrade Required).
    #[must_use]
    pub fn http(mut self, hook: impl Fn(&Request) -> Response + Send + 'static) -> ServerBuilder {
        self.http = Box::new(hook);
        self
    }

    /// Starts a server whose events go to the application's threads, through channels.
    ///
    /// # Errors
    /// A setting that could not work, or an address that can not be bound.
    pub fn bind(self, addr: impl ToSocketAddrs) -> Result<Server, BuildError> {
        let limit = self.config.max_event_buffer_size;
        let shards: Vec<Arc<Shard>> = (0..self.channels).map(|_| Arc::new(Shard::new(limit))).collect();
        let (senders, receivers): (Vec<_>, Vec<_>) = shards.iter().map(|_| crossbeam_channel::unbounded()).unzip();
        let events = receivers.into_iter().zip(&shards).map(|(end, shard)| Events::new(end, shard.clone())).collect();
        let next = AtomicUsize::new(0);
        let places = shards.clone();
        let admit: Admit<Newcomer<ToChannels>> = Box::new(move |request| {
            // Round about, past the channels that nobody receives from.
            let start = next.fetch_add(1, Ordering::Relaxed);
            let mut order = (0..places.len()).map(|step| (start + step) % places.len());
            let shard = order.find(|shard| !places[*shard].orphaned.load(Ordering::SeqCst))?;
            Some((Channelled::new(shard as u16), request))
        });
        let ends: Vec<_> = senders.into_iter().zip(shards.iter().cloned()).collect();
        let delivery = move || {
            let outlet = |(sender, shard): &(_, Arc<Shard>)| channel::Outlet::new(Clone::clone(sender), shard.clone());
            ToChannels::new(ends.iter().map(outlet).collect())
        };
        let server = self.start(addr, events, admit, delivery)?;
        for shard in shards {
            // Set once, here.
            let _ = shard.workers.set(server.handle.control.inboxes.clone());
        }
        Ok(server)
    }

    /// Starts a server with a [`Handler`] for each connection, on its worker's thread. `make` is called for each
    /// established connection with the request that opened it.
    ///
    /// # Errors
    /// A setting that could not work, or an address that can not be bound.
    ///
    /// ```no_run
    /// use threadbare::{Handler, MessageRef, Server, Socket};
    ///
    /// struct Echo;
    ///
    /// impl Handler for Echo {
    ///     fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
    ///         socket.send(message);
    ///     }
    /// }
    ///
    /// Server::builder().workers(2).serve("127.0.0.1:8080", |_request| Echo)?.join();
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    pub fn serve<H: Handler>(
        self,
        addr: impl ToSocketAddrs,
        make: impl Fn(&Request) -> H + Send + 'static,
    ) -> Result<Server, BuildError> {
        let admit: Admit<Newcomer<ToHandler<H>>> = Box::new(move |request| Some((make(&request), ())));
        self.start(addr, Vec::new(), admit, || ToHandler(std::marker::PhantomData))
    }

    fn count_workers(&self) -> usize {
        self.workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get))
    }

    fn check(&self) -> Result<usize, ConfigError> {
        self.config.check()?;
        let workers = self.count_workers();
        for (name, count) in [("workers", workers), ("channels", self.channels)] {
            if !(1..=MAX_THREADS).contains(&count) {
                return Err(ConfigError::new(name, count, "1 to 1024"));
            }
        }
        if let Some(entry) = self.origins.invalid_entry() {
            return Err(ConfigError::new("origins", entry, "scheme://host or scheme://host:port, or null"));
        }
        if let Some(entry) = self.hosts.invalid_entry() {
            return Err(ConfigError::new("hosts", entry, "host or host:port"));
        }
        Ok(workers)
    }

    fn start<D: Delivery>(
        self,
        addr: impl ToSocketAddrs,
        events: Vec<Events>,
        admit: Admit<Newcomer<D>>,
        delivery: impl Fn() -> D,
    ) -> Result<Server, BuildError> {
        let workers = self.check()?;
        let listener = listen(addr)?;
        let addr = listener.local_addr().map_err(BuildError::io("the address can not be told"))?;
        let config = Arc::new(self.config);
        let admission = Arc::new(Admission::new(config.max_connections, config.max_connections_per_address));
        let seats: Vec<Seat> = (0..workers)
            .map(|_| Seat::new(Role::Server))
            .collect::<Result<_, _>>()
            .map_err(BuildError::io("no poll"))?;
        let inboxes: Arc<[_]> = seats.iter().map(|seat| seat.inbox.clone()).collect();
        let mut outlets = Vec::new();
        let mut threads = Vec::new();
        for (index, seat) in seats.into_iter().enumerate() {
            let (sender, adoptions) = crossbeam_channel::unbounded();
            outlets.push(Outlet::new(seat.inbox.clone(), sender));
            let (siblings, config) = (inboxes.clone(), config.clone());
            threads.push(Worker::new(seat, index as u16, siblings, config, delivery(), adoptions, admission.clone()));
        }
        let rules = Rules {
            limits: HeadLimits {
                max_head_size: config.max_head_size,
                max_headers: config.max_headers,
                ..HeadLimits::default()
            },
            subprotocols: self.subprotocols,
            deflate: config.deflate.clone(),
            origins: self.origins,
            hosts: self.hosts,
            decide: self.decide,
            http: self.http,
        };
        let parts = Parts { listener, rules, config, admit, admission: admission.clone(), outlets };
        let (reactor, alone) = seat(parts, &mut threads).map_err(BuildError::io("no poll"))?;
        let progress = Arc::new(Progress::default());
        let control = Control { addr, reactor, inboxes, admission, progress: progress.clone() };
        let server = Server { events, handle: ServerHandle { control: Arc::new(control) } };
        // From here on a failure drops the server, which stops the threads that were started.
        for (index, worker) in threads.into_iter().enumerate() {
            progress.spawn(format!("ws-worker-{index}"), move || worker.run()).map_err(BuildError::io("no thread"))?;
        }
        if let Some(alone) = alone {
            let run = || {
                alone.run();
                Ended::default()
            };
            progress.spawn("ws-reactor".into(), run).map_err(BuildError::io("no thread"))?;
        }
        Ok(server)
    }
}

impl std::fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Gives the reactor a thread of its own, or makes it the guest of the only worker, and tells how it is reached. Beside
/// one worker a second thread would buy nothing but wake-ups, one or two for each connection.
fn seat<D: Delivery>(
    parts: Parts<Newcomer<D>>,
    workers: &mut [Worker<D>],
) -> std::io::Result<(ReactorHandle, Option<Alone<Newcomer<D>>>)> {
    if let [worker] = workers {
        let reactor = Reactor::new(parts, worker.registry()?, Wake::Worker(worker.inbox()))?;
        let handle = reactor.handle();
        worker.host(Box::new(reactor));
        Ok((handle, None))
    } else {
        let alone = Alone::new(parts)?;
        Ok((alone.handle(), Some(alone)))
    }
}

/// Listens on the first of the addresses that can be bound.
fn listen(addr: impl ToSocketAddrs) -> Result<mio::net::TcpListener, BuildError> {
    let addrs = addr.to_socket_addrs().map_err(BuildError::io("the address can not be resolved"))?;
    let mut failure = BuildError::Io {
        operation: "the address can not be resolved",
        source: std::io::Error::new(std::io::ErrorKind::NotFound, "no such host"),
    };
    for addr in addrs {
        match listen_on(addr) {
            Ok(listener) => return Ok(mio::net::TcpListener::from_std(listener)),
            Err(source) => failure = BuildError::Io { operation: "the address can not be bound", source },
        }
    }
    Err(failure)
}

fn listen_on(addr: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A restart binds at once although connections of the one before are in TIME_WAIT. On Windows the option means
    // something else.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
