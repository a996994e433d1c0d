//! Accepts connections, does the opening handshakes, and assigns established connections to the workers. With one
//! worker it runs as that worker's poll task, otherwise on a thread of its own.

mod acceptor;
mod admission;
pub(super) mod client_addr;
pub(super) mod command;
mod deadline;
mod drain;
mod exchange;
#[cfg(all(target_os = "linux", feature = "handover"))]
mod hand_over;
#[cfg(not(all(target_os = "linux", feature = "handover")))]
#[path = "hand_over_disabled.rs"]
mod hand_over;
#[cfg(all(target_os = "linux", feature = "handover"))]
pub(super) mod hand_over_command;
pub(super) mod handshake;
pub(super) mod metrics;
mod panics;
pub(super) mod pending;
pub(super) mod pending_response;
mod plain;
mod proxy_header;
pub(super) mod refusal_log;
mod stop;
pub(super) mod thread;
mod tls;
pub(super) mod worker_link;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crossbeam_channel::Receiver;
use mio::event::Event;
use mio::{Registry, Token};

use crate::config::Config;
use crate::protocol::contain::contained;
use crate::protocol::handshake::Accept;
use crate::protocol::http::{Request, Response};
use crate::server::control::ServerHandle;
use crate::server::listener::open::OpenListener;
use crate::server::reactor::acceptor::{Acceptor, Incoming};
use crate::server::reactor::command::{ReactorCommand, ReactorHandle, ReactorWaker};
use crate::server::reactor::handshake::{Decide, Established, Handshake, READ_SIZE, Rules, State, overloaded};
use crate::server::reactor::pending::Pending;
use crate::server::reactor::worker_link::{WorkerLink, least_loaded};
use crate::transport::budget::MemoryBudget;
use crate::transport::stream::byte_stream::ByteStream;
use crate::worker::event_loop::new_connection::NewConnection;
use crate::worker::event_loop::poll_task::PollTask;
use crate::worker::handle::draining::DrainOrder;
use crate::worker::slab::{Key, KeyMap, Keys, Slab};
use crate::worker::timer_wheel::TimerWheel;

/// The token of the first listener. Those of the others are below it. They are reserved tokens, which no handshake has.
const FIRST_LISTENER: Token = Token(usize::MAX - 2);

/// At most 1024 connections over the limit are answered 503 at the same time; further ones are dropped. Larger uses
/// more descriptors under attack; smaller drops more clients without an answer.
#[cfg(not(test))]
const MAX_TURNED_AWAY: usize = 1024;
#[cfg(test)]
const MAX_TURNED_AWAY: usize = 8;

/// Makes the application's part of a connection; `None` if nobody receives its events.
pub(in crate::server) type Admit<C> = Box<dyn Fn(Request) -> Option<C> + Send>;

/// Accepts connections and does their opening handshakes, on its own thread or on a worker's.
pub(in crate::server) struct Reactor<C> {
    /// The registry of the poll of this thread.
    registry: Registry,
    /// Whether the poll is that of the only worker.
    shares_poll: bool,
    /// One for each listener, in the order of their tokens.
    acceptors: Vec<Acceptor>,
    accepted: Vec<Incoming>,
    handshakes: Slab<Handshake<C>>,
    /// Allocates the keys under which sockets are registered. In a worker's poll these are the worker's keys, and a
    /// socket keeps its key when the worker takes it over.
    keys: Keys,
    /// The handshakes whose sockets the poll reports on.
    watched: KeyMap<Token, Key>,
    timers: TimerWheel,
    expired: Vec<u32>,
    rules: Rules,
    config: Arc<Config>,
    admit: Admit<C>,
    budget: Arc<MemoryBudget>,
    workers: Vec<WorkerLink<C>>,
    commands: Receiver<ReactorCommand>,
    handle: ReactorHandle,
    /// The handle of the server, for the hook that answers plain requests.
    server: Arc<OnceLock<ServerHandle>>,
    /// Connections that have more requests than were answered in this iteration of the event loop.
    unread: Vec<Key>,
    scratch: Box<[u8; READ_SIZE]>,
    turned_away: usize,
    /// The connections whose handshake of TLS has a step to take.
    tls_due: VecDeque<Key>,
    draining: Option<Arc<DrainOrder>>,
    stopping: Option<Instant>,
    /// Nothing is accepted, because another process is about to serve, or this one is not yet.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pause: Option<hand_over_command::Pause>,
}

/// The parts that a reactor is made of.
pub(in crate::server) struct ReactorParts<C> {
    pub(in crate::server) listeners: Vec<OpenListener>,
    pub(in crate::server) rules: Rules,
    pub(in crate::server) config: Arc<Config>,
    pub(in crate::server) admit: Admit<C>,
    pub(in crate::server) budget: Arc<MemoryBudget>,
    pub(in crate::server) workers: Vec<WorkerLink<C>>,
    /// It is set before the reactor runs.
    pub(in crate::server) server: Arc<OnceLock<ServerHandle>>,
    /// Whether nothing is accepted until connections of another process are taken over.
    #[cfg_attr(not(all(target_os = "linux", feature = "handover")), expect(dead_code, reason = "it never is"))]
    pub(in crate::server) is_paused: bool,
}

impl<C: Send + 'static> Reactor<C> {
    /// Makes a reactor for the thread whose poll has this registry. `wake` wakes that thread for commands.
    pub(in crate::server) fn new(
        parts: ReactorParts<C>,
        registry: Registry,
        wake: ReactorWaker,
    ) -> io::Result<Reactor<C>> {
        let ReactorParts { listeners, rules, config, admit, budget, workers, server, .. } = parts;
        let tokens = (0..).map(|index| Token(FIRST_LISTENER.0 - index));
        let acceptors: io::Result<_> = listeners
            .into_iter()
            .zip(tokens)
            .map(|(listener, token)| Acceptor::new(listener, &registry, token))
            .collect();
        let (sender, commands) = crossbeam_channel::unbounded();
        Ok(Reactor {
            registry,
            shares_poll: matches!(wake, ReactorWaker::Worker(_)),
            acceptors: acceptors?,
            accepted: Vec::new(),
            handshakes: Slab::new(),
            keys: Keys::default(),
            watched: KeyMap::default(),
            timers: TimerWheel::new(Instant::now()),
            expired: Vec::new(),
            rules,
            config,
            admit,
            budget,
            workers,
            commands,
            handle: ReactorHandle::new(sender, wake),
            server,
            unread: Vec::new(),
            scratch: Box::new([0; READ_SIZE]),
            turned_away: 0,
            tls_due: VecDeque::new(),
            draining: None,
            stopping: None,
            #[cfg(all(target_os = "linux", feature = "handover"))]
            pause: parts.is_paused.then(hand_over_command::Pause::default),
        })
    }

    pub(in crate::server) fn handle(&self) -> ReactorHandle {
        self.handle.clone()
    }

    /// Handles an event of the poll for a handshake's socket.
    fn serve(&mut self, key: Key, event: &Event, now: Instant) {
        let Some(handshake) = self.handshakes.get_mut(key) else { return };
        if event.is_error() || (event.is_read_closed() && matches!(handshake.state, State::Deciding(_))) {
            // The client does not wait for the decision any more.
            return self.remove(key);
        }
        handshake.readable |= event.is_readable() || event.is_read_closed();
        handshake.end_reported |= event.is_read_closed();
        if handshake.stream.is_handshaking() {
            // Once, however often it has something to read before its turn.
            if !std::mem::replace(&mut handshake.step_due, true) {
                self.tls_due.push_back(key);
            }
            return;
        }
        if event.is_writable() {
            handshake.flush();
            handshake.write();
            handshake.write_interim();
        }
        self.read(key, now);
    }

    fn decide(&mut self, key: Key, request: Request) {
        let decide = &self.rules.decide;
        match decide {
            Decide::Now(hook) => match contained(|| hook(&request)) {
                Ok(decision) => self.answer(key, request, decision),
                Err(panic) => self.hook_panicked(key, &panic),
            },
            Decide::Later(hook) => {
                if let Some(handshake) = self.handshakes.get_mut(key) {
                    handshake.state = State::Deciding(Box::new(request.clone()));
                }
                let pending = Pending::new(key, self.handle.clone());
                if let Err(panic) = contained(|| hook(request, pending)) {
                    self.hook_panicked(key, &panic);
                }
            }
        }
    }

    /// Answers a handshake that the application decided about from another thread.
    fn decided(&mut self, key: Key, decision: Result<Accept, Response>) {
        let Some(handshake) = self.handshakes.get_mut(key) else { return };
        match std::mem::replace(&mut handshake.state, State::Reading) {
            State::Deciding(request) => self.answer(key, *request, decision),
            other => handshake.state = other,
        }
    }

    /// Answers a handshake as decided. The application's part is made before the 101 is written, while the handshake
    /// can still be refused.
    fn answer(&mut self, key: Key, mut request: Request, decision: Result<Accept, Response>) {
        let Some(handshake) = self.handshakes.get_mut(key) else { return };
        let (rules, admit) = (&self.rules, &self.admit);
        // The application's values may panic as they are dropped, too.
        let made = contained(|| {
            let accepted = rules.agree(&request, decision)?;
            request.set_data(accepted.outcome.data.clone());
            Ok::<_, Box<Response>>(admit(request).map(|app| (accepted, app)))
        });
        match made {
            Ok(Ok(Some((accepted, app)))) => handshake.accept(accepted, app),
            Ok(Ok(None)) => handshake.refuse(&overloaded()),
            Ok(Err(refusal)) => handshake.refuse(&refusal),
            Err(panic) => return self.hook_panicked(key, &panic),
        }
        self.after(key);
    }

    /// Takes the next step that the state of a handshake requires.
    fn after(&mut self, key: Key) {
        let Some(handshake) = self.handshakes.get_mut(key) else { return };
        handshake.charge.set(handshake.memory());
        if matches!(handshake.state, State::Receiving(_)) && self.budget.is_exceeded() {
            handshake.refuse(&overloaded());
            handshake.charge.set(handshake.memory());
        }
        self.renew_deadline(key);
        let Some(handshake) = self.handshakes.get_mut(key) else { return };
        match &handshake.state {
            State::Gone => self.remove(key),
            State::Ready(_) => self.assign_to_worker(key),
            State::Draining { .. } if !handshake.ending => {
                // Set once, so that a client that keeps sending does not stay.
                handshake.ending = true;
                self.schedule(key, self.config.close_timeout);
            }
            State::Writing { .. } | State::Receiving(_) => self.await_room(key),
            State::Reading if handshake.stream.pending_bytes() > 0 => self.await_room(key),
            State::Reading | State::Deciding(_) | State::Answering { .. } | State::Draining { .. } => {}
        }
    }

    /// Has the poll report when there is room for the rest of a response, if the socket is registered by now.
    fn await_room(&mut self, key: Key) {
        let Some(handshake) = self.handshakes.get_mut(key) else { return };
        let interests = handshake.interests();
        let Some((poll_key, _)) = handshake.watched.filter(|(_, before)| *before != interests) else { return };
        handshake.watched = Some((poll_key, interests));
        if let Err(error) = self.registry.reregister(&mut handshake.stream, poll_key.token(), interests) {
            log::error!("a connection could not be registered for writing: {error}");
            self.remove(key);
        }
    }

    /// Assigns an established connection to the worker with the fewest connections.
    fn assign_to_worker(&mut self, key: Key) {
        let Some(handshake) = self.handshakes.get_mut(key) else { return };
        let State::Ready(established) = std::mem::replace(&mut handshake.state, State::Gone) else { return };
        self.timers.cancel(key.index);
        let Some(mut handshake) = self.handshakes.remove(key) else { return };
        let mut freed = Ok(());
        if let Some((poll_key, _)) = handshake.watched {
            self.watched.remove(&poll_key.token());
            // In the worker's own poll the socket stays registered.
            if !self.shares_poll {
                self.keys.release_key(poll_key);
                handshake.watched = None;
                freed = self.registry.deregister(&mut handshake.stream);
            }
        }
        let (Some(worker), Ok(())) = (least_loaded(&mut self.workers), freed) else {
            self.rules.clients.release(&handshake.client);
            return;
        };
        let leftover = handshake.take_leftover();
        let Handshake { stream, client, watched, readable, end_reported, charge, .. } = handshake;
        let Established { outcome, agreement, receive, app, .. } = *established;
        let new_connection = NewConnection {
            stream,
            watched,
            readable,
            end_reported,
            addr: client.into_addr(),
            #[cfg(all(target_os = "linux", feature = "handover"))]
            arriving: None,
            outcome,
            agreement,
            receive,
            leftover,
            app: Some(app),
            charge: Some(charge),
        };
        self.rules.metrics.upgraded.add(1);
        worker.assign(new_connection, &self.rules.clients.connection_limit);
    }

    /// Executes commands, accepts connections, and ends the handshakes whose deadline has passed.
    fn work(&mut self, now: Instant) {
        if self.has_commands() {
            self.handle.acknowledge();
            while let Ok(command) = self.commands.try_recv() {
                match command {
                    ReactorCommand::Decide(key, decision) => {
                        self.contain(key, |reactor| reactor.decided(key, *decision))
                    }
                    ReactorCommand::Respond(key, response) => {
                        self.contain(key, |reactor| reactor.responded(key, &response, now))
                    }
                    ReactorCommand::CloseListeners(_done) => {
                        self.close_listeners(now);
                        self.end_exchanges();
                    }
                    ReactorCommand::Drain(order) => self.drain(order, now),
                    ReactorCommand::Stop(deadline) => self.stop(deadline, now),
                    #[cfg(all(target_os = "linux", feature = "handover"))]
                    ReactorCommand::HandOver(command) => self.execute_hand_over(command),
                }
            }
        }
        self.read_more(now);
        self.accept(now);
        self.step_tls(now);
        // Without handshakes there are no deadlines.
        if self.handshakes.len() > 0 {
            let mut expired = std::mem::take(&mut self.expired);
            self.timers.expire_until(self.timers.tick(now), &mut expired);
            for index in expired.drain(..) {
                if let Some(key) = self.handshakes.key_at(index) {
                    self.contain(key, |reactor| reactor.expire(key));
                }
            }
            self.expired = expired;
        }
        self.finish_drain(now);
        self.tell_quiet(now);
    }

    /// Notifies each worker that connections were assigned to in this iteration of the event loop, once.
    fn notify_workers(&mut self) {
        for worker in &mut self.workers {
            if std::mem::take(&mut worker.notify_due) {
                worker.inbox.notify();
            }
        }
    }

    fn remove(&mut self, key: Key) {
        self.timers.cancel(key.index);
        if let Some(mut handshake) = self.handshakes.remove(key) {
            if !handshake.answered {
                self.rules.metrics.unanswered.add(1);
            }
            if handshake.is_idle() {
                // With TLS this says that nothing was cut off. A socket that is broken has ended anyway.
                let _ = handshake.stream.shutdown_write();
            }
            if let Some((poll_key, _)) = handshake.watched {
                self.watched.remove(&poll_key.token());
                self.keys.release_key(poll_key);
            }
            if handshake.admitted {
                self.rules.clients.release(&handshake.client);
            } else {
                self.turned_away -= 1;
            }
        }
    }
}

impl<C: Send + 'static> PollTask for Reactor<C> {
    fn ready(&mut self, event: &Event, now: Instant, keys: &mut Keys) {
        if let Some(acceptor) = self.acceptors.get_mut(FIRST_LISTENER.0.wrapping_sub(event.token().0)) {
            acceptor.ready();
        } else if let Some(key) = self.watched.get(&event.token()).copied() {
            std::mem::swap(&mut self.keys, keys);
            self.contain(key, |reactor| reactor.serve(key, event, now));
            std::mem::swap(&mut self.keys, keys);
        }
    }

    fn run(&mut self, now: Instant, keys: &mut Keys) {
        std::mem::swap(&mut self.keys, keys);
        self.work(now);
        std::mem::swap(&mut self.keys, keys);
        self.notify_workers();
    }

    fn due(&self, now: Instant) -> Option<Instant> {
        let deadline = if self.handshakes.len() > 0 { self.timers.due() } else { None };
        let accept = self.acceptors.iter().filter_map(|acceptor| acceptor.due(now)).min();
        // Once it is done, the worker in whose poll it runs may have connections to close, and is not woken for it.
        let stopping = self.stopping.filter(|_| !self.is_done(now));
        let step = (!self.tls_due.is_empty()).then_some(now);
        let unread = (!self.unread.is_empty()).then_some(now);
        [deadline, accept, step, stopping, self.drain_due(), self.quiet_due(), unread].into_iter().flatten().min()
    }

    fn has_commands(&self) -> bool {
        self.handle.has_commands()
    }

    fn is_done(&self, now: Instant) -> bool {
        self.stopping.is_some_and(|deadline| self.handshakes.len() == 0 || now >= deadline)
    }
}
