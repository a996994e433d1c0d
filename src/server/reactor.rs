//! The thread that accepts connections, does the opening handshakes, and hands established sockets to the workers.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::config::Config;
use crate::protocol::handshake::Accept;
use crate::protocol::http::{Request, Response};
use crate::server::handshake::{Decide, Established, Handshake, Next, READ_SIZE, Rules, State};
use crate::server::pending::Pending;
use crate::transport::stream::Stream;
use crate::worker::admission::Admission;
use crate::worker::deadlines::Deadlines;
use crate::worker::inbox::{Command, Inbox};
use crate::worker::slots::{Key, Slots};
use crate::worker::{Adoption, panic_text};

const WAKE: Token = Token(usize::MAX);
const LISTENER: Token = Token(usize::MAX - 1);
const EVENTS: usize = 1024;

/// The most connections accepted before those that are there have their turn.
const MAX_ACCEPTS: usize = 64;

/// The most connections over the limit that are being told so; further ones are dropped.
const MAX_TURNED_AWAY: usize = 1024;

/// After a failed accept the listener is tried again, since no event will tell that it can go on.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How often a lack of file descriptors is logged, and a waiting connection dropped in its course.
const SHED_INTERVAL: Duration = Duration::from_secs(1);

/// How long handshakes that are refused at shutdown have to read the refusal.
const SHUTDOWN_LINGER: Duration = Duration::from_secs(1);

/// What other threads ask of the reactor.
pub(super) enum Ask {
    /// The application decided about a handshake.
    Decide(Key, Box<Result<Accept, Response>>),
    /// Stop accepting, refuse what is under way, and let the workers close until the deadline.
    Stop(Instant),
}

/// Reaches the reactor from any thread.
#[derive(Clone)]
pub(super) struct ReactorHandle {
    asks: Sender<Ask>,
    waker: Arc<Waker>,
}

impl ReactorHandle {
    pub(super) fn send(&self, ask: Ask) {
        // A reactor that has ended has nothing left to decide or stop.
        if self.asks.send(ask).is_ok()
            && let Err(error) = self.waker.wake()
        {
            log::error!("the reactor could not be woken: {error}");
        }
    }
}

/// Makes the application's part of a connection; `None` if nobody would serve it.
pub(super) type Admit<C> = Box<dyn Fn(Request) -> Option<C> + Send>;

/// Where established connections go.
pub(super) struct Outlet<C> {
    pub(super) inbox: Arc<Inbox>,
    pub(super) adoptions: Sender<Adoption<C>>,
    /// It was given connections in this turn.
    to_wake: bool,
}

impl<C> Outlet<C> {
    pub(super) fn new(inbox: Arc<Inbox>, adoptions: Sender<Adoption<C>>) -> Outlet<C> {
        Outlet { inbox, adoptions, to_wake: false }
    }
}

/// The reactor's work, before its thread is started.
pub(super) struct Reactor<C> {
    poll: Poll,
    listener: Option<TcpListener>,
    handshakes: Slots<Handshake<C>>,
    deadlines: Deadlines,
    rules: Rules,
    config: Arc<Config>,
    admit: Admit<C>,
    admission: Arc<Admission>,
    outlets: Vec<Outlet<C>>,
    asks: Receiver<Ask>,
    handle: ReactorHandle,
    scratch: Box<[u8; READ_SIZE]>,
    /// A descriptor kept for the day there is none, so that a waiting connection can be accepted and dropped.
    spare: Option<File>,
    /// The listener may have more connections than were accepted.
    accept_more: bool,
    accept_at: Option<Instant>,
    shed_at: Option<Instant>,
    turned_away: usize,
    stopping: Option<Instant>,
}

/// What a reactor is made of.
pub(super) struct Parts<C> {
    pub(super) listener: TcpListener,
    pub(super) rules: Rules,
    pub(super) config: Arc<Config>,
    pub(super) admit: Admit<C>,
    pub(super) admission: Arc<Admission>,
    pub(super) outlets: Vec<Outlet<C>>,
}

impl<C: Send + 'static> Reactor<C> {
    pub(super) fn new(parts: Parts<C>) -> io::Result<Reactor<C>> {
        let Parts { mut listener, rules, config, admit, admission, outlets } = parts;
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let (sender, asks) = crossbeam_channel::unbounded();
        Ok(Reactor {
            poll,
            listener: Some(listener),
            handshakes: Slots::new(),
            deadlines: Deadlines::new(Instant::now()),
            rules,
            config,
            admit,
            admission,
            outlets,
            asks,
            handle: ReactorHandle { asks: sender, waker },
            scratch: Box::new([0; READ_SIZE]),
            spare: spare_descriptor(),
            accept_more: false,
            accept_at: None,
            shed_at: None,
            turned_away: 0,
            stopping: None,
        })
    }

    pub(super) fn handle(&self) -> ReactorHandle {
        self.handle.clone()
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        crate::worker::peer::ON_WORKER.set(true);
        let mut events = Events::with_capacity(EVENTS);
        let mut expired = Vec::new();
        loop {
            let timeout = self.timeout(Instant::now());
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                log::error!("the reactor's poll failed: {error}");
            }
            let now = Instant::now();
            for event in &events {
                match event.token() {
                    WAKE => {}
                    LISTENER => self.accept_more = true,
                    token => {
                        if let Some(key) = self.handshakes.key_of(token) {
                            self.serve(key, event, now);
                        }
                    }
                }
            }
            while let Ok(ask) = self.asks.try_recv() {
                match ask {
                    Ask::Decide(key, decision) => self.decided(key, *decision, now),
                    Ask::Stop(deadline) => self.stop(deadline, now),
                }
            }
            if self.accept_at.is_some_and(|at| now >= at) {
                self.accept_at = None;
                self.accept_more = true;
            }
            self.accept(now);
            self.deadlines.expire(now, &mut expired);
            for index in expired.drain(..) {
                if let Some(key) = self.handshakes.key_at(index) {
                    self.expire(key, now);
                }
            }
            self.wake_workers();
            if self.stopping.is_some_and(|deadline| self.handshakes.len() == 0 || now >= deadline) {
                return;
            }
        }
    }

    fn timeout(&self, now: Instant) -> Option<Duration> {
        if self.accept_more {
            return Some(Duration::ZERO);
        }
        let until = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(now));
        [self.deadlines.sleep(now), until(self.accept_at), until(self.stopping)].into_iter().flatten().min()
    }

    /// Accepts what waits, a bounded number at a time.
    fn accept(&mut self, now: Instant) {
        if !self.accept_more {
            return;
        }
        for _ in 0..MAX_ACCEPTS {
            let Some(listener) = &self.listener else { break };
            match listener.accept() {
                Ok((stream, addr)) => self.accepted(stream, addr, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.accept_more = false;
                    return;
                }
                // That one connection is gone, or a signal came: the next.
                Err(error) if is_transient(&error) => {}
                Err(error) => {
                    self.accept_more = false;
                    self.accept_at = Some(now + ACCEPT_RETRY);
                    return self.shed(&error, now);
                }
            }
        }
        self.accept_more = self.listener.is_some();
    }

    /// There is no descriptor, or no memory, for a connection that waits: one is dropped now and then, so that its
    /// client need not wait for a timeout, and the listener is tried again.
    fn shed(&mut self, error: &io::Error, now: Instant) {
        if self.shed_at.is_some_and(|at| now < at) {
            return;
        }
        self.shed_at = Some(now + SHED_INTERVAL);
        log::error!("connections wait that can not be accepted: {error}");
        if self.spare.take().is_some()
            && let Some(listener) = &self.listener
        {
            drop(listener.accept());
        }
        // Another thread may have taken the one that was given up; then this is tried again next time.
        self.spare = spare_descriptor();
    }

    fn accepted(&mut self, stream: TcpStream, addr: SocketAddr, now: Instant) {
        // Small messages would wait for each other's acknowledgements otherwise. An error shows in the first write.
        let _ = stream.set_nodelay(true);
        let stream = Stream::Tcp(stream);
        if self.stopping.is_none() && self.admission.admit(addr.ip()) {
            let handshake = Handshake::new(stream, addr, &self.rules.limits, true);
            let key = self.handshakes.insert_with(|_| handshake);
            // A request often arrives with the connection: it is answered without the poll being told of it and told
            // again to forget it, a quarter of a handshake's system calls.
            self.read(key, now);
            self.watch(key, self.config.handshake_timeout, now);
        } else if self.turned_away < MAX_TURNED_AWAY {
            self.turned_away += 1;
            let mut handshake = Handshake::new(stream, addr, &self.rules.limits, false);
            handshake.refuse(&overloaded());
            let key = self.handshakes.insert_with(|_| handshake);
            self.watch(key, self.config.close_timeout, now);
        }
    }

    /// Lets the poll report on a handshake that is not done yet, and sets its deadline.
    fn watch(&mut self, key: Key, timeout: Duration, now: Instant) {
        let Some(handshake) = self.handshakes.get_mut(key) else { return };
        let interests = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut handshake.stream, key.token(), interests) {
            log::error!("a connection could not be registered: {error}");
            return self.remove(key);
        }
        handshake.watched = true;
        // A refusal has set its own.
        if !handshake.ending {
            let at = self.deadlines.tick(now) + Deadlines::ticks(timeout);
            self.deadlines.schedule(key.index, at);
        }
    }

    /// The socket of a handshake is ready.
    fn serve(&mut self, key: Key, event: &Event, now: Instant) {
        let Some(handshake) = self.handshakes.get_mut(key) else { return };
        if event.is_error() || (event.is_read_closed() && matches!(handshake.state, State::Deciding(_))) {
            // Nobody waits for the decision any more.
            return self.remove(key);
        }
        handshake.end_reported |= event.is_read_closed();
        if event.is_writable() {
            handshake.write();
        }
        self.read(key, now);
    }

    /// Reads what has arrived of a request, and does what it asks for.
    fn read(&mut self, key: Key, now: Instant) {
        let Some(handshake) = self.handshakes.get_mut(key) else { return };
        let rules = &self.rules;
        let scratch = &mut self.scratch;
        // A hook of the application may panic.
        let next = catch_unwind(AssertUnwindSafe(|| handshake.read(rules, scratch)));
        match next {
            Ok(Next::Wait) => self.after(key, now),
            Ok(Next::Decide(request)) => self.decide(key, request, now),
            Err(panic) => self.hook_panicked(key, &*panic, now),
        }
    }

    fn decide(&mut self, key: Key, request: Request, now: Instant) {
        let decide = &self.rules.decide;
        match decide {
            Decide::Now(hook) => match catch_unwind(AssertUnwindSafe(|| hook(&request))) {
                Ok(decision) => self.settle(key, request, decision, now),
                Err(panic) => self.hook_panicked(key, &*panic, now),
            },
            Decide::Later(hook) => {
                if let Some(handshake) = self.handshakes.get_mut(key) {
                    handshake.state = State::Deciding(Box::new(request.clone()));
                }
                let pending = Pending::new(key, self.handle.clone());
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| hook(request, pending))) {
                    self.hook_panicked(key, &*panic, now);
                }
            }
        }
    }

    /// The application decided, from wherever.
    fn decided(&mut self, key: Key, decision: Result<Accept, Response>, now: Instant) {
        let Some(handshake) = self.handshakes.get_mut(key) else { return };
        match std::mem::replace(&mut handshake.state, State::Reading) {
            State::Deciding(request) => self.settle(key, *request, decision, now),
            other => handshake.state = other,
        }
    }

    /// Answers a handshake as decided. The application's part is made before the 101 is out, while a refusal can still
    /// be told.
    fn settle(&mut self, key: Key, request: Request, decision: Result<Accept, Response>, now: Instant) {
        let Some(handshake) = self.handshakes.get_mut(key) else { return };
        match self.rules.agree(&request, decision) {
            Ok(agreed) => {
                let admit = &self.admit;
                match catch_unwind(AssertUnwindSafe(|| admit(request))) {
                    Ok(Some(app)) => handshake.accept(agreed, app),
                    Ok(None) => handshake.refuse(&overloaded()),
                    Err(panic) => return self.hook_panicked(key, &*panic, now),
                }
            }
            Err(refusal) => handshake.refuse(&refusal),
        }
        self.after(key, now);
    }

    fn hook_panicked(&mut self, key: Key, panic: &(dyn std::any::Any + Send), now: Instant) {
        log::error!("a handshake hook panicked: {}", panic_text(panic));
        if let Some(handshake) = self.handshakes.get_mut(key) {
            handshake.refuse(&Response::new(500));
            self.after(key, now);
        }
    }

    /// Does what the state of a handshake asks for.
    fn after(&mut self, key: Key, now: Instant) {
        let Some(handshake) = self.handshakes.get_mut(key) else { return };
        match &handshake.state {
            State::Gone => self.remove(key),
            State::Ready(_) => self.hand_over(key),
            State::Draining { .. } if !handshake.ending => {
                // Set once: whoever sends a byte now and then does not stay.
                handshake.ending = true;
                let at = self.deadlines.tick(now) + Deadlines::ticks(self.config.close_timeout);
                self.deadlines.schedule(key.index, at);
            }
            State::Reading | State::Deciding(_) | State::Writing { .. } | State::Draining { .. } => {}
        }
    }

    /// Gives an established connection to the worker with the fewest.
    fn hand_over(&mut self, key: Key) {
        let Some(handshake) = self.handshakes.get_mut(key) else { return };
        let State::Ready(established) = std::mem::replace(&mut handshake.state, State::Gone) else { return };
        self.deadlines.cancel(key.index);
        let Some(mut handshake) = self.handshakes.remove(key) else { return };
        let registry = self.poll.registry();
        let freed = if handshake.watched { registry.deregister(&mut handshake.stream) } else { Ok(()) };
        let outlet = self.outlets.iter_mut().min_by_key(|outlet| outlet.inbox.load.load(Ordering::Relaxed));
        let (Some(outlet), Ok(())) = (outlet, freed) else {
            self.admission.release(handshake.addr.ip());
            return;
        };
        let leftover = handshake.take_leftover();
        let Handshake { stream, addr, .. } = handshake;
        let Established { subprotocol, agreement, app } = *established;
        let adoption = Adoption { stream, addr, subprotocol, agreement, leftover, app };
        outlet.inbox.load.fetch_add(1, Ordering::Relaxed);
        match outlet.adoptions.send(adoption) {
            Ok(()) => outlet.to_wake = true,
            Err(_) => self.admission.release(addr.ip()),
        }
    }

    /// Wakes the workers that were given connections in this turn, once each.
    fn wake_workers(&mut self) {
        for outlet in &mut self.outlets {
            if std::mem::take(&mut outlet.to_wake) {
                outlet.inbox.wake();
            }
        }
    }

    /// The time of a handshake is over.
    fn expire(&mut self, key: Key, now: Instant) {
        let Some(handshake) = self.handshakes.get_mut(key) else { return };
        match handshake.state {
            // RFC 9110 15.5.9.
            State::Reading => handshake.refuse(&Response::new(408)),
            State::Deciding(_) => handshake.refuse(&overloaded()),
            _ => return self.remove(key),
        }
        // Its deadline is over; the refusal has its own.
        handshake.ending = true;
        let at = self.deadlines.tick(now) + Deadlines::ticks(self.config.close_timeout);
        self.deadlines.schedule(key.index, at);
        self.after(key, now);
    }

    fn remove(&mut self, key: Key) {
        self.deadlines.cancel(key.index);
        if let Some(handshake) = self.handshakes.remove(key) {
            if handshake.admitted {
                self.admission.release(handshake.addr.ip());
            } else {
                self.turned_away -= 1;
            }
        }
    }

    /// No more connections: those that wait to be accepted, or for their handshake, are told 503.
    fn stop(&mut self, deadline: Instant, now: Instant) {
        let first = self.stopping.is_none();
        self.stopping = Some(deadline.min(now + SHUTDOWN_LINGER));
        if first {
            self.accept_more = true;
            while self.accept_more {
                self.accept(now);
            }
            self.accept_at = None;
            if let Some(mut listener) = self.listener.take() {
                // Closing it does as much; an error changes nothing.
                let _ = self.poll.registry().deregister(&mut listener);
            }
            for index in 0..self.handshakes.places() {
                if let Some(key) = self.handshakes.key_at(index)
                    && let Some(handshake) = self.handshakes.get_mut(key)
                    && matches!(handshake.state, State::Reading | State::Deciding(_))
                {
                    handshake.refuse(&overloaded());
                    self.after(key, now);
                }
            }
        }
        for outlet in &self.outlets {
            outlet.inbox.send(Command::Shutdown(deadline));
        }
    }
}

/// RFC 9110 15.6.4, with a word on when to come back.
fn overloaded() -> Response {
    Response::new(503).with("Retry-After", "5")
}

/// Errors of `accept` that concern one connection, or nothing at all.
fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, PermissionDenied, TimedOut};
    /// EPROTO on Linux, which `ErrorKind` does not name.
    const EPROTO: i32 = 71;
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | PermissionDenied | TimedOut)
        || (cfg!(target_os = "linux") && error.raw_os_error() == Some(EPROTO))
}

fn spare_descriptor() -> Option<File> {
    File::open("/dev/null").ok()
}
