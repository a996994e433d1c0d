//! The old process: waits for a new one, and gives it everything.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::server::control::ServerHandle;
use crate::server::hand_over::channel::Channel;
use crate::server::hand_over::message::{
    MAX_SMALL, check_hello, export_addition, export_connection, export_listeners, kind,
};
use crate::server::hand_over::{GREETING_TIMEOUT, HANDSHAKE_TIMEOUT, MAX_LISTENERS, READY_TIMEOUT, TRANSFER_TIMEOUT};
use crate::server::listener::unix::PublishedSocket;
use crate::server::reactor::command::ReactorCommand;
use crate::server::reactor::hand_over_command::{HandOverCommand, SharedListener};
use crate::worker::handle::hand_over::{Change, Departure, HandOverSeat, Order, Told};
use crate::worker::handle::inbox::Command;

const LISTENER: Token = Token(0);
const WAKE: Token = Token(1);

/// At most 32 connections are on their way from the workers to the socket. More takes more memory; fewer has the workers
/// wait.
const MAX_DEPARTURES: usize = 32;

/// Waits for a process that takes the server over, on a thread of its own.
pub(in crate::server) struct Giver {
    poll: Poll,
    ended: Arc<AtomicBool>,
}

/// Ends the thread of a [`Giver`] as it is dropped.
pub(in crate::server) struct GiverEnd {
    waker: Waker,
    /// Set before the wake-up, and looked at after it.
    ended: Arc<AtomicBool>,
}

impl Drop for GiverEnd {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        if let Err(error) = self.waker.wake() {
            log::error!("the thread that hands over can not be woken: {error}");
        }
    }
}

/// Why nothing was handed over.
#[derive(Debug)]
enum Failure {
    /// The other process is refused, which is told it.
    Refused(String),
    Io(&'static str, io::Error),
    Late(&'static str),
    /// A worker has not told all of its connections.
    Restless,
    /// It has said something else than was its turn to say.
    Unexpected(&'static str, u8),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(why) => f.write_str(why),
            Failure::Io(when, error) => write!(f, "{when}: {error}"),
            Failure::Late(what) => write!(f, "{what} took too long"),
            Failure::Restless => {
                f.write_str("a worker does not stand still: the server shuts down, or its events are not handled")
            }
            Failure::Unexpected(when, kind) => write!(f, "{when}: a message of kind {kind}"),
        }
    }
}

fn during(when: &'static str) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::Io(when, error)
}

impl Giver {
    /// Makes a giver, and what ends its thread.
    pub(super) fn new() -> io::Result<(Giver, GiverEnd)> {
        let poll = Poll::new()?;
        let (waker, ended) = (Waker::new(poll.registry(), WAKE)?, Arc::new(AtomicBool::new(false)));
        Ok((Giver { poll, ended: ended.clone() }, GiverEnd { waker, ended }))
    }

    /// Hands the server over to the first process that asks for it properly. Returns then, or when the server has ended.
    pub(super) fn run(mut self, socket: PublishedSocket, server: &ServerHandle, drop_timeout: Duration) {
        let (mut listener, file) = socket.into_parts();
        let mut events = Events::with_capacity(4);
        if let Err(error) = self.poll.registry().register(&mut listener, LISTENER, Interest::READABLE) {
            return log::error!("the server can not be handed over: {error}");
        }
        while !self.ended.load(Ordering::SeqCst) {
            if let Err(error) = self.poll.poll(&mut events, None) {
                log::debug!("the wait for a new process: {error}");
            }
            // An error says that nobody waits any more.
            while let Ok((stream, _)) = listener.accept() {
                if self.ended.load(Ordering::SeqCst) {
                    return;
                }
                match hand_over(OwnedFd::from(stream).into(), server) {
                    Ok(Given { connections, stood_still }) => {
                        // The new process is about to put its own in the place.
                        file.leave();
                        log::info!(
                            "another process has taken over {connections} connections, which stood still for {} ms",
                            stood_still.as_millis()
                        );
                        return leave(server, drop_timeout);
                    }
                    Err(failure) => log::warn!("the server was not handed over, and serves on: {failure}"),
                }
            }
        }
    }
}

/// Drains what has stayed, with 1012, and ends the server.
fn leave(server: &ServerHandle, drop_timeout: Duration) {
    ask_reactor(server, HandOverCommand::ReleaseListeners);
    let report = server.drain(drop_timeout);
    log::info!("of the connections that stayed: {report}");
}

/// Asks the reactor, which may have ended.
fn ask_reactor(server: &ServerHandle, command: HandOverCommand) {
    server.control.reactor.send(ReactorCommand::HandOver(command));
}

/// What was handed over.
struct Given {
    connections: usize,
    stood_still: Duration,
}

/// Hands everything over.
fn hand_over(stream: UnixStream, server: &ServerHandle) -> Result<Given, Failure> {
    stream.set_nonblocking(false).map_err(during("the socket"))?;
    let mut channel = Channel::new(stream, Instant::now() + GREETING_TIMEOUT);
    let listeners = greet(&mut channel).and_then(|()| listeners(server)).inspect_err(|failure| {
        if let Failure::Refused(why) = failure {
            // It may be gone.
            let _ = channel.send(kind::REFUSED, why.as_bytes(), &[]);
        }
    })?;
    let sockets: Vec<_> = listeners.iter().map(|listener| listener.socket.as_fd()).collect();
    let sent = channel.send(kind::LISTENERS, &export_listeners(&listeners), &sockets);
    sent.map_err(during("the listeners"))?;
    drop(listeners);
    channel.set_deadline(Instant::now() + READY_TIMEOUT);
    expect(&mut channel, kind::READY, "until the new process was ready")?;
    pause_reactor(server);
    channel.set_deadline(Instant::now() + TRANSFER_TIMEOUT);
    let given = transfer(&mut channel, server);
    if given.is_err() {
        ask_reactor(server, HandOverCommand::Unpause);
    }
    given
}

/// Checks who has connected.
fn greet(channel: &mut Channel) -> Result<(), Failure> {
    check_user(channel.stream()).map_err(Failure::Refused)?;
    let hello = channel.receive(MAX_SMALL).map_err(during("the greeting"))?;
    if hello.kind != kind::HELLO {
        return Err(Failure::Refused("what has connected is no server of this library".into()));
    }
    check_hello(&hello.body).map_err(Failure::Refused)
}

/// Checks that the other process is of the same user as this one.
pub(super) fn check_user(stream: &UnixStream) -> Result<(), String> {
    let own = rustix::process::geteuid();
    match rustix::net::sockopt::socket_peercred(stream) {
        Ok(other) if other.uid == own => Ok(()),
        Ok(other) => {
            Err(format!("the other process is of user {}, and this one of {}", other.uid.as_raw(), own.as_raw()))
        }
        Err(error) => Err(format!("the user of the other process is not known: {error}")),
    }
}

fn listeners(server: &ServerHandle) -> Result<Vec<SharedListener>, Failure> {
    let (sender, shared) = crossbeam_channel::bounded(1);
    ask_reactor(server, HandOverCommand::ShareListeners(sender));
    let listeners = shared.recv_timeout(GREETING_TIMEOUT).map_err(|_| Failure::Late("a hook, or a callback,"))?;
    let listeners = listeners.map_err(during("the listeners"))?;
    match listeners.len() {
        0 => Err(Failure::Refused("the server accepts no more connections".into())),
        1..=MAX_LISTENERS => Ok(listeners),
        count => Err(Failure::Refused(format!("{count} listeners, where {MAX_LISTENERS} are the most"))),
    }
}

/// Has the reactor accept nothing, and waits until no opening handshake is under way, for a while.
fn pause_reactor(server: &ServerHandle) {
    let (sender, quiet) = crossbeam_channel::bounded::<()>(0);
    ask_reactor(server, HandOverCommand::Pause(sender, Instant::now() + HANDSHAKE_TIMEOUT));
    // Nothing is sent: the end of the channel says that it is done.
    let _ = quiet.recv_timeout(HANDSHAKE_TIMEOUT * 2);
}

fn expect(channel: &mut Channel, expected: u8, when: &'static str) -> Result<Vec<u8>, Failure> {
    let received = channel.receive(MAX_SMALL).map_err(during(when))?;
    if received.kind == expected { Ok(received.body) } else { Err(Failure::Unexpected(when, received.kind)) }
}

/// Gives the connections. On an error the orders end, and the workers go on.
fn transfer(channel: &mut Channel, server: &ServerHandle) -> Result<Given, Failure> {
    let begun = Instant::now();
    let deadline = begun + TRANSFER_TIMEOUT;
    let (orders, departures) = seat_workers(server);
    let (mut given, mut done) = (0, 0);
    while done < orders.len() {
        match departures.recv_deadline(deadline) {
            Ok(Told::All) => done += 1,
            Ok(Told::One(Departure { id, socket, state })) => {
                let body = export_connection(id, &state);
                let sent = channel.send(kind::CONNECTION, &body, &[socket.as_fd()]);
                sent.map_err(during("the connections"))?;
                given += 1;
            }
            Err(RecvTimeoutError::Disconnected) => return Err(Failure::Restless),
            Err(RecvTimeoutError::Timeout) => return Err(Failure::Late("a callback")),
        }
    }
    channel.send(kind::ALL_SENT, &(given as u64).to_be_bytes(), &[]).map_err(during("the connections"))?;
    expect(channel, kind::HELD, "until the new process had the connections")?;
    let stayed = finish(channel, &orders, deadline)?;
    channel.send(kind::COMMIT, &[], &[]).map_err(during("the end"))?;
    commit(channel)?;
    for order in &orders {
        // A worker waits for it.
        let _ = order.send(Order::LetGo);
    }
    Ok(Given { connections: given - stayed, stood_still: begun.elapsed() })
}

/// Has the workers stop and tell of their connections. Returns the ends for their orders.
fn seat_workers(server: &ServerHandle) -> (Vec<Sender<Order>>, Receiver<Told<Departure>>) {
    let (departures, departed) = crossbeam_channel::bounded(MAX_DEPARTURES);
    let mut senders = Vec::new();
    for (worker, inbox) in (0..).zip(&*server.control.publisher.inboxes()) {
        let (sender, orders) = crossbeam_channel::bounded(1);
        let seat = HandOverSeat { worker, departures: departures.clone(), orders };
        // One that has failed has no connections.
        if inbox.send(Command::HandOver(Box::new(seat))) {
            senders.push(sender);
        }
    }
    (senders, departed)
}

/// Sends what has come for the connections since they were told. Returns how many stay after all.
fn finish(channel: &mut Channel, orders: &[Sender<Order>], deadline: Instant) -> Result<usize, Failure> {
    let (sender, additions) = crossbeam_channel::unbounded();
    for order in orders {
        let ordered = order.send(Order::Finish(sender.clone()));
        ordered.map_err(|_| Failure::Restless)?;
    }
    drop(sender);
    let (mut stayed, mut done) = (0, 0);
    while done < orders.len() {
        match additions.recv_deadline(deadline) {
            Ok(Told::All) => done += 1,
            Ok(Told::One(addition)) => {
                stayed += usize::from(matches!(addition.change, Change::Stays));
                let sent = channel.send(kind::ADDITION, &export_addition(&addition), &[]);
                sent.map_err(during("what came late"))?;
            }
            Err(RecvTimeoutError::Disconnected) => return Err(Failure::Restless),
            Err(RecvTimeoutError::Timeout) => return Err(Failure::Late("a worker")),
        }
    }
    Ok(stayed)
}

/// Waits until the new process has said that it serves, or can not say it any more.
fn commit(channel: &mut Channel) -> Result<(), Failure> {
    let failure = match expect(channel, kind::COMMITTED, "until the new process served") {
        Ok(_) => return Ok(()),
        Err(failure) => failure,
    };
    let last = channel.close_and_receive(MAX_SMALL);
    if last.is_some_and(|last| last.kind == kind::COMMITTED) { Ok(()) } else { Err(failure) }
}
