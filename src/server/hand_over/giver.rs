//! The old process: waits for a new one, and gives it everything.

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use mio::net::UnixListener;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::event::PollFlags;

use crate::server::control::ServerHandle;
use crate::server::hand_over::channel::{Channel, await_any};
use crate::server::hand_over::message::{MAX_SMALL, additions, check_hello, export_addition, export_listeners, kind};
use crate::server::hand_over::topics::TopicsOut;
use crate::server::hand_over::{
    GREETING_TIMEOUT, HANDSHAKE_TIMEOUT, LET_GO_TIMEOUT, MAX_LISTENERS, NOTICE_TIME, READY_TIMEOUT, REFUSAL_TIMEOUT,
    REST_TIMEOUT, SERVICE_TIMEOUT, TRANSFER_TIMEOUT,
};
use crate::server::listener::socket_file::SocketFile;
use crate::server::reactor::command::ReactorCommand;
use crate::server::reactor::hand_over_command::{HandOverCommand, SharedListener};
use crate::worker::handle::hand_over::{BATCH_SIZE, Change, Departures, HandOverTask, Order, Told};
use crate::worker::handle::inbox::Command;

const LISTENER: Token = Token(0);
const WAKE: Token = Token(1);

/// Waits for a process that takes the server over, on a thread of its own.
pub(in crate::server) struct Giver {
    poll: Poll,
    shared: Arc<GiverState>,
}

/// What the thread shares with what ends it.
#[derive(Default)]
pub(super) struct GiverState {
    ended: AtomicBool,
    /// The file of the socket, while it is this process's.
    file: Mutex<Option<SocketFile>>,
}

impl GiverState {
    /// Notes the file of the socket that the thread gets. The end of the server removes it.
    pub(super) fn set_file(&self, file: SocketFile) {
        *self.file() = Some(file);
    }

    fn file(&self) -> MutexGuard<'_, Option<SocketFile>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

/// Ends the thread of a [`Giver`] as it is dropped, and removes the file of its socket.
pub(in crate::server) struct GiverEnd {
    waker: Waker,
    shared: Arc<GiverState>,
}

impl Drop for GiverEnd {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Here, and not on the thread, for which nobody waits.
        drop(self.shared.file().take());
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
        let (waker, shared) = (Waker::new(poll.registry(), WAKE)?, Arc::<GiverState>::default());
        Ok((Giver { poll, shared: shared.clone() }, GiverEnd { waker, shared }))
    }

    /// What the thread shares.
    pub(super) fn state(&self) -> Arc<GiverState> {
        self.shared.clone()
    }

    /// Hands the server over to the first process that asks for it properly. Returns then, or when the server has ended.
    pub(super) fn run(mut self, mut listener: UnixListener, server: &ServerHandle, drop_timeout: Duration) {
        let mut events = Events::with_capacity(4);
        if let Err(error) = self.poll.registry().register(&mut listener, LISTENER, Interest::READABLE) {
            return log::error!("the server can not be handed over: {error}");
        }
        while !self.shared.has_ended() {
            if let Err(error) = self.poll.poll(&mut events, None) {
                log::debug!("the wait for a new process: {error}");
            }
            // An error says that nobody waits any more.
            while let Ok((stream, _)) = listener.accept() {
                if self.shared.has_ended() {
                    return;
                }
                match hand_over(OwnedFd::from(stream).into(), &listener, server) {
                    Ok(conversation) => {
                        // The new process is about to put its own in the place.
                        self.shared.file().take().into_iter().for_each(SocketFile::leave);
                        self.await_successor(&conversation, &listener, &mut events);
                        return leave(server, drop_timeout);
                    }
                    Err(failure) => {
                        // It may have been killed.
                        self.shared.file().iter().for_each(SocketFile::remove_successor);
                        log::warn!("the server was not handed over, which changes nothing for it: {failure}");
                    }
                }
            }
        }
    }

    /// Waits until the new process serves, and has had time to say so to whatever supervises it.
    fn await_successor(&mut self, conversation: &SharedChannel, others: &UnixListener, events: &mut Events) {
        const TAKEN: &str = "another process has just taken it over: start once more";
        refuse_all(others, TAKEN);
        conversation.lock().await_end(SERVICE_TIMEOUT);
        let deadline = Instant::now() + NOTICE_TIME;
        while let left = deadline.saturating_duration_since(Instant::now())
            && !left.is_zero()
            && !self.shared.has_ended()
        {
            // One that asked before the socket was replaced.
            refuse_all(others, TAKEN);
            if let Err(error) = self.poll.poll(events, Some(left)) {
                log::debug!("the wait for the new process: {error}");
            }
        }
    }
}

/// Drains what has stayed, with 1012, and ends the server.
fn leave(server: &ServerHandle, drop_timeout: Duration) {
    let stayed = server.connections();
    let report = server.drain(drop_timeout);
    if stayed > 0 {
        log::info!("of the {stayed} connections that stayed: {report}");
    }
}

/// Asks the reactor, which may have ended.
fn ask_reactor(server: &ServerHandle, command: HandOverCommand) {
    server.control.reactor.send(ReactorCommand::HandOver(command));
}

/// Hands everything over. Returns the conversation, which the new process ends when it serves.
fn hand_over(stream: UnixStream, others: &UnixListener, server: &ServerHandle) -> Result<Arc<SharedChannel>, Failure> {
    stream.set_nonblocking(false).map_err(during("the socket"))?;
    let mut channel = Channel::new(stream, Instant::now() + GREETING_TIMEOUT);
    // While this process serves, so that there is less to do while it does not.
    let topics = prepare(&mut channel, others, server).inspect_err(|failure| refuse(&mut channel, failure))?;
    let stream = channel.stream().try_clone().map_err(during("the socket"))?;
    pause_reactor(server);
    channel.set_deadline(Instant::now() + TRANSFER_TIMEOUT);
    let shared = Arc::new(SharedChannel(Mutex::new(channel)));
    if let Err(failure) = transfer(&shared, server, topics) {
        // A worker that has the lock waits for the other process to read.
        if let Ok(mut channel) = shared.0.try_lock() {
            refuse(&mut channel, &failure);
        }
        // Ends the sends of workers that wait for the new process. It may have closed its end.
        let _ = stream.shutdown(Shutdown::Both);
        ask_reactor(server, HandOverCommand::Unpause);
        return Err(failure);
    }
    Ok(shared)
}

/// Gives the listeners, waits until the new process is ready, and gives the topics.
fn prepare<'s>(
    channel: &mut Channel,
    others: &UnixListener,
    server: &'s ServerHandle,
) -> Result<TopicsOut<'s>, Failure> {
    greet(channel)?;
    let listeners = listeners(server)?;
    let sockets: Vec<_> = listeners.iter().map(|listener| listener.socket.as_fd()).collect();
    let sent = channel.send(kind::LISTENERS, &export_listeners(&listeners), &sockets);
    sent.map_err(during("the listeners"))?;
    drop(listeners);
    await_ready(channel, others)?;
    channel.set_deadline(Instant::now() + TRANSFER_TIMEOUT);
    send_topics(channel, server)
}

/// Tells the new process why it gets nothing.
fn refuse(channel: &mut Channel, failure: &Failure) {
    channel.set_deadline(Instant::now() + REFUSAL_TIMEOUT);
    // It may be gone, or not read.
    let _ = channel.send(kind::REFUSED, failure.to_string().as_bytes(), &[]);
}

/// Waits until the new process is ready, and refuses others meanwhile.
fn await_ready(channel: &mut Channel, others: &UnixListener) -> Result<(), Failure> {
    let deadline = Instant::now() + READY_TIMEOUT;
    channel.set_deadline(deadline);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let [has_spoken, is_asked] = await_any([channel.stream().as_fd(), others.as_fd()], PollFlags::IN, left);
        // Another that asks once this one has ended is not refused: its end is seen before.
        if is_asked && !has_spoken && !await_any([channel.stream().as_fd()], PollFlags::IN, Duration::ZERO)[0] {
            refuse_all(others, "another process is taking it over");
        } else if has_spoken || is_asked || left.is_zero() {
            return expect(channel, kind::READY, "until the new process was ready").map(drop);
        }
    }
}

/// Refuses the processes that ask.
fn refuse_all(listener: &UnixListener, why: &str) {
    while let Ok((stream, _)) = listener.accept() {
        log::warn!("a process that asks for the server is refused: {why}");
        let stream = UnixStream::from(OwnedFd::from(stream));
        // It is short enough for a socket that does not block. The other end may be gone.
        let _ = Channel::new(stream, Instant::now() + GREETING_TIMEOUT).send(kind::REFUSED, why.as_bytes(), &[]);
    }
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
    let listeners = shared.recv_timeout(GREETING_TIMEOUT).map_err(|error| match error {
        RecvTimeoutError::Timeout => Failure::Late("a hook, or a callback,"),
        RecvTimeoutError::Disconnected => Failure::Refused("the server shuts down".into()),
    })?;
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

/// Gives the topics, as they are now.
fn send_topics<'s>(channel: &mut Channel, server: &'s ServerHandle) -> Result<TopicsOut<'s>, Failure> {
    let mut topics = TopicsOut::new(server);
    topics.send(channel).map_err(during("the topics"))?;
    channel.send(kind::TOPICS_SENT, &[], &[]).map_err(during("the topics"))?;
    expect(channel, kind::TOPICS_HELD, "until the new process had the topics")?;
    topics.catch_up();
    Ok(topics)
}

/// The channel, through which the workers send their connections.
#[derive(Debug)]
struct SharedChannel(Mutex<Channel>);

impl SharedChannel {
    fn lock(&self) -> MutexGuard<'_, Channel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Departures for SharedChannel {
    fn send(&self, states: &[u8], sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.lock().send(kind::CONNECTIONS, states, sockets)
    }
}

/// Gives the connections. On an error the orders end, and the workers go on.
fn transfer(shared: &Arc<SharedChannel>, server: &ServerHandle, mut topics: TopicsOut<'_>) -> Result<(), Failure> {
    let begun = Instant::now();
    let deadline = begun + TRANSFER_TIMEOUT;
    let (orders, told) = stop_workers(server, shared);
    let mut given = 0;
    for _ in &orders {
        match told.recv_deadline(deadline) {
            Ok(sent) => given += sent.map_err(during("the connections"))?,
            Err(RecvTimeoutError::Disconnected) => return Err(Failure::Restless),
            Err(RecvTimeoutError::Timeout) => return Err(Failure::Late("a callback")),
        }
    }
    let channel = &mut *shared.lock();
    channel.send(kind::ALL_SENT, &(given as u64).to_be_bytes(), &[]).map_err(during("the connections"))?;
    expect(channel, kind::HELD, "until the new process had the connections")?;
    let stayed = finish(channel, &orders, deadline)?;
    topics.send(channel).map_err(during("the topics"))?;
    channel.send(kind::COMMIT, &[], &[]).map_err(during("the end"))?;
    commit(channel)?;
    ask_reactor(server, HandOverCommand::ReleaseListeners);
    channel.set_deadline(Instant::now() + REST_TIMEOUT);
    if let Err(error) = topics.send_last(channel) {
        log::error!("what was published last is lost: {error}");
    }
    // It says nothing more, and ends the conversation when it serves them all.
    let serves = channel.await_end(LET_GO_TIMEOUT);
    let until = if serves { "served again" } else { "let go, and are not served yet" };
    log::info!(
        "another process has taken over {} connections: {until} after {} ms",
        given - stayed,
        begun.elapsed().as_millis()
    );
    for order in &orders {
        // A worker waits for it.
        let _ = order.send(Order::LetGo);
    }
    Ok(())
}

/// Has the workers stop and send their connections. Returns the ends for their orders, and what they tell.
fn stop_workers(
    server: &ServerHandle,
    shared: &Arc<SharedChannel>,
) -> (Vec<Sender<Order>>, Receiver<io::Result<usize>>) {
    let (told, telling) = crossbeam_channel::unbounded();
    let mut senders = Vec::new();
    for (worker, inbox) in (0..).zip(&*server.control.publisher.inboxes()) {
        let (sender, orders) = crossbeam_channel::bounded(1);
        let task = HandOverTask { worker, departures: shared.clone(), told: told.clone(), orders };
        // One that has failed has no connections.
        if inbox.send(Command::HandOver(Box::new(task))) {
            senders.push(sender);
        }
    }
    (senders, telling)
}

/// Sends the rest of the connections. Returns how many stay after all.
fn finish(channel: &mut Channel, orders: &[Sender<Order>], deadline: Instant) -> Result<usize, Failure> {
    let (sender, telling) = crossbeam_channel::unbounded();
    for order in orders {
        let ordered = order.send(Order::Finish(sender.clone()));
        ordered.map_err(|_| Failure::Restless)?;
    }
    drop(sender);
    let (mut stayed, mut done, mut batch) = (0, 0, additions());
    while done < orders.len() {
        match telling.recv_deadline(deadline) {
            Ok(Told::All) => done += 1,
            Ok(Told::One(addition)) => {
                stayed += usize::from(matches!(addition.change, Change::Stays));
                export_addition(&addition, &mut batch);
            }
            Err(RecvTimeoutError::Disconnected) => return Err(Failure::Restless),
            Err(RecvTimeoutError::Timeout) => return Err(Failure::Late("a callback")),
        }
        if batch.len() > BATCH_SIZE || done == orders.len() {
            let sent = channel.send(kind::ADDITIONS, batch.as_bytes(), &[]);
            sent.map_err(during("the rest of the connections"))?;
            batch = additions();
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
