//! How a server starts: its workers, its reactor, and what connects them.

use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
#[cfg(all(target_os = "linux", feature = "handover"))]
use std::sync::{Mutex, PoisonError};

use crate::config::Config;
use crate::error::BuildError;
use crate::protocol::Role;
use crate::protocol::http::Request;
use crate::server::Server;
use crate::server::bridge;
use crate::server::builder::ServerBuilder;
use crate::server::control::{Control, ServerHandle};
use crate::server::hand_over::Succession;
#[cfg(all(target_os = "linux", feature = "handover"))]
use crate::server::hand_over::clock_reach;
use crate::server::inline::EventLoop;
use crate::server::listener::Listeners;
use crate::server::listener::bind::open_all;
use crate::server::listener::open::OpenListener;
use crate::server::reactor::client_addr::ClientRules;
use crate::server::reactor::command::{ReactorHandle, ReactorWaker};
use crate::server::reactor::handshake::Rules;
use crate::server::reactor::metrics::HandshakeMetrics;
use crate::server::reactor::refusal_log::RefusalLog;
use crate::server::reactor::thread::ReactorThread;
use crate::server::reactor::worker_link::WorkerLink;
use crate::server::reactor::{Admit, Reactor, ReactorParts};
use crate::server::threads::ThreadSet;
use crate::transport::budget::MemoryBudget;
use crate::worker::channel::delivery::{ChannelDelivery, ChannelSlot};
use crate::worker::channel::sender::EventSender;
use crate::worker::channel::state::ChannelState;
use crate::worker::connection_limit::ConnectionLimit;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::delivery::handler::{Handler, HandlerDelivery};
use crate::worker::event_loop::worker::{NewApp, Worker, WorkerParts};
use crate::worker::handle::publisher::Publisher;
use crate::worker::handle::topic_events::TopicObserver;
use crate::worker::handle::topics::Topics;
use crate::worker::receiver::events::Events;
use crate::worker::receiver::inline::{InlineDelivery, InlineSlot, InlineWorker};

impl ServerBuilder {
    /// Starts a server whose events go to the application's threads, through channels. It listens on an address such as
    /// `"127.0.0.1:8080"`, on a Unix socket such as `"unix:/run/app.sock"`, or on whatever else converts into a
    /// [`Listener`](crate::Listener), or on several of them.
    ///
    /// ```
    /// use threadbare::Server;
    ///
    /// let server = Server::builder().workers(2).channels(2).bind("127.0.0.1:0")?;
    /// println!("listening on {}", server.local_addr());
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// A setting is invalid, or a listener can not be opened.
    pub fn bind(self, listeners: impl Into<Listeners>) -> Result<Server, BuildError> {
        let count = self.check()?;
        let budget = self.budget();
        let state = || Arc::new(ChannelState::new(self.config.max_event_buffer_size, budget.clone()));
        let states: Vec<Arc<ChannelState>> = (0..self.channels).map(|_| state()).collect();
        let (senders, receivers): (Vec<_>, Vec<_>) = states.iter().map(|_| crossbeam_channel::unbounded()).unzip();
        let events = receivers.into_iter().zip(&states).map(|(end, state)| Events::new(end, state.clone())).collect();
        let next = AtomicUsize::new(0);
        let channels = states.clone();
        let admit: Admit<NewApp<ChannelDelivery>> = Box::new(move |request| {
            // Round robin, without the channels whose last receiver was dropped.
            let start = next.fetch_add(1, Ordering::Relaxed);
            let mut order = (0..channels.len()).map(|step| (start + step) % channels.len());
            let state = order.find(|state| !channels[*state].receiver_dropped.load(Ordering::SeqCst))?;
            Some((ChannelSlot::new(state as u16), request))
        });
        let ends: Vec<_> = senders.into_iter().zip(states.iter().cloned()).collect();
        let delivery = move || {
            let sender =
                |(sender, state): &(_, Arc<ChannelState>)| EventSender::new(Clone::clone(sender), state.clone());
            ChannelDelivery::new(ends.iter().map(sender).collect())
        };
        let server = self.start(count, listeners, events, admit, delivery, budget)?;
        for state in states {
            // Set once, here.
            let _ = state.workers.set(server.handle.control.publisher.inboxes());
        }
        Ok(server)
    }

    /// Starts a server with a [`Handler`] for each connection, on its worker's thread. `make` is called for each
    /// established connection with the request that opened it. It listens as for [`bind`](ServerBuilder::bind).
    ///
    /// # Errors
    /// A setting is invalid, or a listener can not be opened.
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
        listeners: impl Into<Listeners>,
        make: impl Fn(&Request) -> H + Send + 'static,
    ) -> Result<Server, BuildError> {
        let count = self.check_handler()?;
        let admit: Admit<NewApp<HandlerDelivery<H>>> = Box::new(move |request| Some((make(&request), ())));
        let budget = self.budget();
        self.start(count, listeners, Vec::new(), admit, || HandlerDelivery(std::marker::PhantomData), budget)
    }

    /// Makes a server that the calling thread runs, by polling it: the library starts no thread. [`EventLoop::poll`]
    /// and [`EventLoop::run`] call a closure with its events.
    ///
    /// The hooks run on the same thread. There is one worker, and there are no channels. It listens as for
    /// [`bind`](ServerBuilder::bind).
    ///
    /// # Errors
    /// A setting is invalid, such as [`workers(2)`](ServerBuilder::workers), or a listener can not be opened.
    ///
    /// ```no_run
    /// use threadbare::{EventRef, Server};
    ///
    /// let mut event_loop = Server::builder().bind_inline("127.0.0.1:8080")?;
    /// event_loop.run(|event| {
    ///     if let EventRef::Message(peer, message) = event {
    ///         let _ = peer.send(message); // the peer may be gone
    ///     }
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bind_inline(self, listeners: impl Into<Listeners>) -> Result<EventLoop, BuildError> {
        self.check_inline()?;
        let listeners = open_all(listeners.into())?;
        self.inline(listeners)
    }

    fn inline(self, listeners: Vec<OpenListener>) -> Result<EventLoop, BuildError> {
        let admit: Admit<NewApp<InlineDelivery<true>>> = Box::new(|request| Some((InlineSlot::default(), request)));
        let budget = self.budget();
        let Built { workers, handle, .. } = self.build(1, listeners, admit, InlineDelivery::new, budget)?;
        let worker = workers.into_iter().next().expect("as many workers as asked for");
        Ok(EventLoop::new(InlineWorker::new(worker), handle))
    }

    fn budget(&self) -> Arc<MemoryBudget> {
        Arc::new(MemoryBudget::new(self.config.memory_limit()))
    }

    /// Starts a server with `count` workers, whose settings were checked.
    fn start<D: Delivery>(
        self,
        count: usize,
        listeners: impl Into<Listeners>,
        events: Vec<Events>,
        admit: Admit<NewApp<D>>,
        delivery: impl Fn() -> D,
        budget: Arc<MemoryBudget>,
    ) -> Result<Server, BuildError> {
        let mut succession = Succession::begin(&self)?;
        let listeners = match &mut succession {
            Some(succession) => succession.listeners(listeners.into())?,
            None => open_all(listeners.into())?,
        };
        let takes_over = succession.as_ref().is_some_and(Succession::has_predecessor);
        let this = ServerBuilder { takes_over, ..self };
        let config = this.config.clone();
        let Built { mut workers, reactor_thread, handle } =
            this.build(count, listeners, admit, |_| delivery(), budget)?;
        if let Some(end) = succession.as_mut().and_then(Succession::take_end) {
            workers.iter_mut().for_each(|worker| worker.hold_until_end(end.clone()));
        }
        let threads = handle.control.threads.clone();
        let server = Server { events, handle };
        // From here on, a failure drops the server, which stops the threads that were started.
        for (index, worker) in workers.into_iter().enumerate() {
            let control = server.handle.control.clone();
            let run = move || {
                let ended = worker.run();
                if ended.failed > 0 {
                    control.worker_failed();
                }
                ended
            };
            threads.spawn(config.thread(format!("ws-worker-{index}")), run).map_err(BuildError::io("no thread"))?;
        }
        if let Some(reactor_thread) = reactor_thread {
            let thread = config.thread("ws-reactor".into());
            threads.spawn(thread, || reactor_thread.run()).map_err(BuildError::io("no thread"))?;
        }
        if let Some(succession) = succession {
            succession.complete(&server.handle, &config)?;
        }
        Ok(server)
    }

    /// Makes `count` workers and a reactor for the listeners, none of which runs yet.
    fn build<D: Delivery>(
        self,
        count: usize,
        listeners: Vec<OpenListener>,
        admit: Admit<NewApp<D>>,
        delivery: impl Fn(&Config) -> D,
        budget: Arc<MemoryBudget>,
    ) -> Result<Built<D>, BuildError> {
        let addrs = listeners.iter().map(|listener| listener.addr.clone()).collect();
        let config = Arc::new(self.config);
        let connection_limit =
            Arc::new(ConnectionLimit::new(config.max_connections, config.max_connections_per_address));
        let parts: Vec<WorkerParts> = (0..count)
            .map(|_| WorkerParts::new(Role::Server, budget.clone()))
            .collect::<Result<_, _>>()
            .map_err(BuildError::io("no poll"))?;
        let inboxes: Arc<[_]> = parts.iter().map(|part| part.inbox.clone()).collect();
        let mut links = Vec::new();
        let mut workers = Vec::new();
        for (index, part) in parts.into_iter().enumerate() {
            let (sender, new_connections) = crossbeam_channel::unbounded();
            links.push(WorkerLink::new(part.inbox.clone(), sender));
            let (siblings, delivery) = (inboxes.clone(), delivery(&config));
            workers.push(Worker::new(
                part,
                index as u16,
                siblings,
                config.clone(),
                delivery,
                new_connections,
                connection_limit.clone(),
            ));
        }
        let topics = Topics::new(self.topics, inboxes.clone(), budget.clone(), &config);
        #[cfg(all(target_os = "linux", feature = "handover"))]
        if self.takes_over {
            topics.stand_by();
        }
        let topics = Arc::new(TopicObserver::new(Arc::new(topics), self.on_topic));
        workers.iter_mut().for_each(|worker| worker.set_topics(&topics));
        if let Some(bridge) = &self.bridge {
            let stops_bridge: Arc<dyn Any + Send + Sync> =
                Arc::new(bridge::start(bridge, &topics.topics, self.takes_over)?);
            workers.iter_mut().for_each(|worker| worker.hold_until_end(stops_bridge.clone()));
        }
        let (drop_timeout, close_timeout) = (config.drop_timeout, config.close_timeout);
        let max_waiting = config.max_write_buffer_size;
        let handshakes = Arc::new(HandshakeMetrics::default());
        let rules = Rules {
            limits: config.head_limits(),
            subprotocols: self.subprotocols,
            deflate: config.deflate.clone(),
            origins: self.origins,
            hosts: self.hosts,
            clients: ClientRules {
                proxy_protocol: self.proxy_protocol,
                forwarded: self.forwarded,
                connection_limit: connection_limit.clone(),
                #[cfg(all(target_os = "linux", feature = "handover"))]
                keeps_heads: self.hand_over.is_some(),
            },
            refusal_log: RefusalLog::default(),
            decide: self.decide,
            http: self.http,
            max_body_size: config.max_body_size,
            keeps_alive: true,
            layer: self.layer,
            metrics: handshakes.clone(),
        };
        #[cfg(all(target_os = "linux", feature = "handover"))]
        if self.hand_over.is_some() {
            let reach = clock_reach(&config);
            workers.iter_mut().for_each(|worker| worker.prepare_hand_over(reach));
        }
        #[cfg(all(target_os = "linux", feature = "handover"))]
        let admit = if self.takes_over { share_maker(admit, &mut workers) } else { admit };
        let server = Arc::new(OnceLock::new());
        let reactor_parts = ReactorParts {
            listeners,
            rules,
            config,
            admit,
            budget: budget.clone(),
            workers: links,
            server: server.clone(),
            is_paused: self.takes_over,
        };
        let (reactor, reactor_thread) =
            place_reactor(reactor_parts, &mut workers).map_err(BuildError::io("no poll"))?;
        let threads = Arc::new(ThreadSet::default());
        let control = Control {
            addrs,
            reactor,
            publisher: Publisher::new(inboxes, max_waiting),
            topics,
            bridge: self.bridge,
            connection_limit,
            budget,
            handshakes,
            drop_timeout,
            close_timeout,
            threads,
            inline: OnceLock::new(),
        };
        let handle = ServerHandle { control: Arc::new(control) };
        // Set once, here.
        let _ = server.set(handle.clone());
        Ok(Built { workers, reactor_thread, handle })
    }
}

/// Has the workers make the application's part of connections of another process. The reactor makes that of new ones.
#[cfg(all(target_os = "linux", feature = "handover"))]
fn share_maker<D: Delivery>(admit: Admit<NewApp<D>>, workers: &mut [Worker<D>]) -> Admit<NewApp<D>> {
    let shared = Arc::new(Mutex::new(admit));
    workers.iter_mut().for_each(|worker| worker.set_maker(shared.clone()));
    Box::new(move |request| shared.lock().unwrap_or_else(PoisonError::into_inner)(request))
}

/// A server that does not run yet.
struct Built<D: Delivery> {
    workers: Vec<Worker<D>>,
    /// `None` if the reactor is the poll task of the only worker.
    reactor_thread: Option<ReactorThread<NewApp<D>>>,
    handle: ServerHandle,
}

/// Gives the reactor a thread of its own, or makes it the poll task of the only worker, and returns its handle. With
/// one worker, a second thread would only add wake-ups, one or two for each connection.
fn place_reactor<D: Delivery>(
    parts: ReactorParts<NewApp<D>>,
    workers: &mut [Worker<D>],
) -> std::io::Result<(ReactorHandle, Option<ReactorThread<NewApp<D>>>)> {
    if let [worker] = workers {
        let reactor = Reactor::new(parts, worker.registry()?, ReactorWaker::Worker(worker.inbox()))?;
        let handle = reactor.handle();
        worker.set_poll_task(Box::new(reactor));
        Ok((handle, None))
    } else {
        let reactor_thread = ReactorThread::new(parts)?;
        Ok((reactor_thread.handle(), Some(reactor_thread)))
    }
}
