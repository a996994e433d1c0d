//! The server of a round: each way to serve, and each way to end.

use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use threadbare::{
    Accept, CloseCause, CloseCode, CloseReason, Event, EventRef, Events, Handler, Message, MessageRef, Peer, PeerId,
    Pending, Prepared, Request, Response, Server, ServerBuilder, ServerHandle, Socket, SocketError, WebSocket,
};

use crate::board::{Actor, fail, lock, spawn};
use crate::common::app::panic_quietly;
use crate::message::{Stream, message, size};
use crate::plan::{Hook, ServerKind};
use crate::random::Random;
use crate::round::Round;
use crate::security;
use crate::talk::{Out, Talk, Then};

pub(crate) struct Running {
    server: Option<Server>,
    handle: Option<ServerHandle>,
    threads: Vec<JoinHandle<()>>,
    /// Asks a thread of the application to end.
    stop: Arc<AtomicBool>,
}

pub(crate) fn start(round: &Arc<Round>) -> Running {
    let mut running = Running { server: None, handle: None, threads: Vec::new(), stop: Arc::default() };
    let builder = builder(round, &mut running.threads);
    match round.plan.server {
        ServerKind::Handler => {
            let shared = round.clone();
            let server = builder.serve(round.addr, move |request| Connection::new(&shared, request));
            running.server = Some(server.expect("a server"));
        }
        ServerKind::Events => {
            let mut server = builder.channels(round.plan.channels).bind(round.addr).expect("a server");
            for (index, events) in server.take_events().into_iter().enumerate() {
                let round = round.clone();
                let receive = move |actor: &Arc<Actor>| receive(&round, actor, &events);
                running.threads.push(spawn(format!("events {index}"), receive));
            }
            running.server = Some(server);
        }
        ServerKind::Inline => {
            let event_loop = builder.bind_inline(round.addr).expect("a server");
            running.handle = Some(event_loop.handle());
            let (round, stop) = (round.clone(), running.stop.clone());
            running.threads.push(spawn("event loop".into(), move |actor| poll(&round, actor, event_loop, &stop)));
        }
        ServerKind::Blocking => {
            let listener = TcpListener::bind(round.addr).expect("a server");
            let (round, stop) = (round.clone(), running.stop.clone());
            running.threads.push(spawn("listener".into(), move |actor| accept(&round, actor, &listener, &stop)));
        }
    }
    if let Some(server) = &running.server {
        running.handle = Some(server.handle());
    }
    lock(&round.handle).clone_from(&running.handle);
    running
}

impl Running {
    pub(crate) fn broadcast(&self, number: u64, random: &mut Random) {
        let Some(handle) = &self.handle else { return };
        let message = message(Stream::Broadcast, number, size(random, false), random.percent(50));
        if random.percent(50) {
            handle.broadcast(message);
        } else {
            handle.broadcast_prepared(&Prepared::new(message));
        }
    }

    /// Ends the server in one of several ways, and waits for its threads.
    pub(crate) fn end(mut self, round: &Round, actor: &Actor, random: &mut Random) {
        let timeout = Duration::from_millis(random.pick(&[0, 50, 500, 2_000]));
        let how = random.below(4);
        actor.does("ends the server", how, timeout.as_millis() as u64);
        lock(&round.handle).take();
        match (&self.server, &self.handle) {
            (Some(server), Some(handle)) => match how {
                0 => report(server.shutdown(timeout)),
                1 => drop(self.server.take()),
                2 => {
                    let other = handle.clone();
                    let thread = std::thread::spawn(move || report(other.shutdown(timeout)));
                    report(handle.shutdown(timeout / 2));
                    thread.join().expect("no panic");
                }
                _ => {
                    let other = handle.clone();
                    let thread = std::thread::spawn(move || report(other.shutdown(timeout)));
                    drop(self.server.take());
                    thread.join().expect("no panic");
                }
            },
            (None, Some(handle)) if how < 3 => report(handle.shutdown(timeout)),
            _ => {}
        }
        self.stop.store(true, Ordering::SeqCst);
        if self.handle.is_none() {
            // The listener waits for a connection.
            drop(TcpStream::connect(round.addr));
        }
        actor.does("joins the server", how, timeout.as_millis() as u64);
        if let Some(handle) = &self.handle {
            handle.join();
            if handle.failed_threads() > 0 {
                fail("a thread of the server failed");
            }
        }
        drop(self.server);
        actor.does("joins the server's application", how, 0);
        for thread in self.threads {
            thread.join().expect("a panic ends the process");
        }
        if let Some(handle) = self.handle
            && handle.connections() > 0
        {
            fail(&format!("{} connections are left of a server that has ended", handle.connections()));
        }
    }
}

fn report(report: threadbare::ShutdownReport) {
    if report.failed > 0 {
        fail(&format!("{report}"));
    }
}

fn builder(round: &Arc<Round>, threads: &mut Vec<JoinHandle<()>>) -> ServerBuilder {
    let builder = Server::builder().workers(round.plan.workers).config(round.plan.config.clone());
    let builder = security::server(builder);
    match round.plan.hook {
        Hook::None => builder,
        Hook::Immediate => builder.on_request(decide),
        Hook::Deferred => {
            let (ask, asked) = crossbeam_channel::unbounded();
            threads.push(spawn("decisions".into(), move |actor| decide_later(actor, &asked)));
            builder.on_request_deferred(move |request, pending| {
                if request.path().starts_with("/panic/") {
                    panic_quietly();
                }
                ask.send((request, pending)).expect("the thread waits for the hook's end");
            })
        }
    }
}

fn decide(request: &Request) -> Result<Accept, Response> {
    match request.path().split('/').nth(1) {
        Some("panic") => panic_quietly(),
        Some("refuse") => Err(Response::new(403)),
        _ => Ok(Accept::new()),
    }
}

fn decide_later(actor: &Actor, asked: &Receiver<(Request, Pending)>) {
    for (count, (request, pending)) in asked.iter().enumerate() {
        actor.does("decides about a handshake", count as u64, 0);
        match (request.path().split('/').nth(1), decide(&request)) {
            (Some("forget"), _) => drop(pending),
            (_, Ok(accept)) => pending.accept(accept),
            (_, Err(response)) => pending.reject(response),
        }
    }
}

/// The handler of a connection.
struct Connection {
    round: Arc<Round>,
    path: String,
    talk: Option<Talk>,
}

impl Connection {
    fn new(round: &Arc<Round>, request: &Request) -> Connection {
        if round.plan.panics && request.path().starts_with("/make/") {
            panic_quietly();
        }
        Connection { round: round.clone(), path: request.path().to_owned(), talk: None }
    }

    fn after(&mut self, then: Then) {
        if then == Then::Panic {
            if let Some(talk) = &self.talk {
                talk.ends_by_panic();
            }
            panic_quietly();
        }
    }
}

impl Handler for Connection {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        let peer = socket.peer();
        self.talk = Some(Talk::open(&self.round, &self.path, socket, Some(peer)));
    }

    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        let Some(talk) = &mut self.talk else { fail("a message before the connection opens") };
        let then = talk.message(socket, message);
        self.after(then);
    }

    fn on_close(&mut self, _: &mut Socket<'_>, reason: &CloseReason) {
        let Some(talk) = &mut self.talk else { fail("an end before the connection opens") };
        let then = talk.closed(reason);
        self.after(then);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let panics = self.talk.as_ref().is_some_and(|talk| talk.instance.received.load(Ordering::SeqCst) % 50 == 49);
        if self.round.plan.panics && panics && !std::thread::panicking() {
            panic_quietly();
        }
    }
}

/// The connections whose events one thread receives.
type Talks = HashMap<PeerId, Talk>;

fn handle(round: &Arc<Round>, talks: &mut Talks, event: EventRef<'_>) -> Then {
    let unknown = || -> ! { fail("an event of a connection that is not open") };
    match event {
        EventRef::Open(peer, request) => {
            let talk = Talk::open(round, request.path(), &mut &*peer, Some(peer.clone()));
            if talks.insert(peer.id(), talk).is_some() {
                fail("a connection opened twice");
            }
            Then::Return
        }
        EventRef::Message(peer, message) => {
            let talk = talks.get_mut(&peer.id()).unwrap_or_else(|| unknown());
            talk.message(&mut &*peer, message.as_message())
        }
        EventRef::Close(peer, reason) => talks.remove(&peer.id()).unwrap_or_else(|| unknown()).closed(reason),
        _ => Then::Return,
    }
}

/// Receives the events of one channel in one of several ways, until they end or the plan says so. No panic.
fn receive(round: &Arc<Round>, actor: &Actor, events: &Events) {
    let (mut talks, mut count) = (Talks::default(), 0);
    let mut next = |event: EventRef<'_>| {
        actor.does("handles an event", count, 0);
        count += 1;
        handle(round, &mut talks, event);
        actor.does("waits for an event", count, 0);
        round.plan.receives_at_most.is_none_or(|most| count < most)
    };
    match round.seed % 4 {
        0 => {
            let mut iter = events.iter();
            while let Some(event) = iter.next_ref() {
                if !next(event) {
                    return;
                }
            }
        }
        1 => {
            for mut batch in events.as_channel() {
                while let Some(event) = batch.next_ref() {
                    if !next(event) {
                        return;
                    }
                }
            }
        }
        2 => {
            while let Ok(event) = events.recv() {
                if !next(borrow(&event)) {
                    return;
                }
            }
        }
        _ => loop {
            match events.recv_timeout(Duration::from_millis(5)) {
                Ok(event) if next(borrow(&event)) => {}
                Err(threadbare::RecvTimeoutError::Timeout) => {}
                _ => return,
            }
        },
    }
}

fn borrow(event: &Event) -> EventRef<'_> {
    match event {
        Event::Open(peer, request) => EventRef::Open(peer, request),
        Event::Message(peer, message) => EventRef::Message(peer, MessageRef::from(message).into()),
        Event::Close(peer, reason) => EventRef::Close(peer, reason),
        _ => fail("another event"),
    }
}

/// Runs an event loop until its server has shut down, or until it is to be dropped.
fn poll(round: &Arc<Round>, actor: &Actor, mut event_loop: threadbare::EventLoop, stop: &AtomicBool) {
    let mut talks = Talks::default();
    let mut count = 0;
    while !event_loop.is_finished() && !stop.load(Ordering::SeqCst) {
        actor.does("polls", count, 0);
        count += 1;
        let polled = catch_unwind(AssertUnwindSafe(|| {
            event_loop.poll(Duration::from_millis(20), |event| {
                if handle(round, &mut talks, event) == Then::Panic {
                    panic_quietly();
                }
            })
        }));
        if let Ok(Err(error)) = polled {
            fail(&format!("the poll failed: {error}"));
        }
    }
    // A loop that is dropped tells nobody what ends then.
    for talk in talks.values() {
        talk.ends_by_panic();
    }
    actor.does("drops the loop", 0, 0);
}

/// Serves every connection on a thread of its own.
fn accept(round: &Arc<Round>, actor: &Actor, listener: &TcpListener, stop: &Arc<AtomicBool>) {
    let mut threads = Vec::new();
    loop {
        actor.does("accepts", threads.len() as u64, 0);
        let (stream, _) = listener.accept().expect("a connection");
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let (round, stop) = (round.clone(), stop.clone());
        threads.push(spawn(format!("server {}", threads.len()), move |actor| {
            // An error says that the client was rude, or was refused.
            let _ = serve(&round, actor, stream, &stop);
        }));
    }
    for thread in threads {
        thread.join().expect("a panic ends the process");
    }
}

impl Out for WebSocket<TcpStream> {
    fn send(&mut self, message: Message) -> bool {
        matches!(WebSocket::send(self, message), Ok(()) | Err(SocketError::Queued))
    }

    fn ping(&mut self) {
        let _ = WebSocket::send(self, Message::Ping(b"server".to_vec()));
    }

    fn close(&mut self, code: CloseCode) {
        let _ = WebSocket::close(self, code, "by the application");
    }

    fn abort(&mut self) {
        let _ = self.get_ref().shutdown(std::net::Shutdown::Both);
    }
}

fn serve(round: &Arc<Round>, actor: &Actor, stream: TcpStream, stop: &AtomicBool) -> Result<(), SocketError> {
    actor.does("does a handshake", 0, 0);
    let wait = Duration::from_millis(20);
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.set_write_timeout(Some(Duration::from_secs(2)))?;
    let mut path = String::new();
    let mut socket = WebSocket::accept_with(stream, &round.plan.config, |request| {
        request.path().clone_into(&mut path);
        if path.starts_with("/refuse/") { Err(Response::new(403)) } else { Ok(Accept::new()) }
    })?;
    socket.get_ref().set_read_timeout(Some(wait))?;
    socket.get_ref().set_write_timeout(Some(wait))?;
    let mut talk = Talk::open(round, &path, &mut socket, None);
    let mut deadline = None;
    let error = loop {
        actor.does("receives", talk.instance.received.load(Ordering::SeqCst), 0);
        match socket.recv() {
            Ok(Some(message)) => {
                talk.message(&mut socket, MessageRef::from(&message));
            }
            Ok(None) => break None,
            Err(SocketError::Timeout) if deadline.is_none() && stop.load(Ordering::SeqCst) => {
                let _ = WebSocket::close(&mut socket, CloseCode::GOING_AWAY, "");
                deadline = Some(Instant::now() + Duration::from_secs(1));
            }
            Err(SocketError::Timeout) if deadline.is_none_or(|deadline| Instant::now() < deadline) => {}
            Err(error) => break Some(error),
        }
    };
    let lost = CloseReason::abnormal(format!("{error:?}"), CloseCause::Lost);
    talk.closed(socket.close_reason().unwrap_or(&lost));
    Ok(())
}

/// Sends messages to random connections from a thread of the application until the round is over.
pub(crate) fn push(
    round: &Round,
    actor: &Actor,
    peers: &Receiver<(Peer, Arc<crate::ledger::Instance>, u64)>,
    mut random: Random,
) {
    let mut known: Vec<(Peer, Arc<crate::ledger::Instance>, u64)> = Vec::new();
    let mut count = 0;
    loop {
        known.extend(peers.try_iter());
        if known.is_empty() || count > 40 + round.steps() / 4 {
            actor.does("waits for connections", known.len() as u64, count);
            if !round.pause(Duration::from_millis(2)) {
                return;
            }
            continue;
        }
        count += 1;
        let index = random.below(known.len() as u64) as usize;
        let (peer, instance, number) = &known[index];
        actor.does("sends through a peer", index as u64, count);
        let size = size(&mut random, false);
        let message = crate::talk::message_of(Stream::Pushed, &instance.pushed, *number, size, random.percent(50));
        // `false` is a message that was refused, or a connection that has ended.
        let sent = match random.below(100) {
            0..40 => peer.send(message).is_ok(),
            40..65 => peer.try_send(message).is_ok(),
            65..80 => peer.send_timeout(message, Duration::from_millis(random.below(20))).is_ok(),
            80..90 => peer.send_prepared(&Prepared::new(message)).is_ok(),
            90..96 => peer.try_send_prepared(&Prepared::new(message)).is_ok(),
            96..98 => {
                let _ = peer.ping(b"pushed");
                false
            }
            98 => {
                let _ = peer.close(CloseCode(4_100), "by another thread");
                false
            }
            _ => {
                // Before the abort, after which messages that have arrived are not delivered any more.
                instance.aborted.store(true, Ordering::SeqCst);
                peer.abort();
                false
            }
        };
        if sent {
            instance.pushed.fetch_add(1, Ordering::SeqCst);
        } else if !peer.is_open() {
            known.swap_remove(index);
        }
    }
}
