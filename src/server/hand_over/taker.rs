//! The new process: takes everything from the old one, and serves it once it has it.

use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rustix::process::{Resource, getrlimit};

use crate::error::BuildError;
use crate::protocol::state::StateError;
use crate::server::control::ServerHandle;
use crate::server::hand_over::channel::{Channel, MAX_BODY};
use crate::server::hand_over::giver::check_user;
use crate::server::hand_over::message::{MAX_SMALL, hello, import_additions, import_listeners, kind};
use crate::server::hand_over::topics::{BRIDGE_TIMEOUT, LATE_BRIDGE_TIMEOUT, TopicsIn};
use crate::server::hand_over::{GREETING_TIMEOUT, HANDSHAKE_TIMEOUT, MORE_DESCRIPTORS, REST_TIMEOUT, TRANSFER_TIMEOUT};
use crate::server::reactor::hand_over_command::SharedListener;
use crate::worker::event_loop::arriving::Arriving;
use crate::worker::handle::hand_over::{Addition, Arrivals, Change, Changes, Preparation};
use crate::worker::handle::inbox::{Command, Inbox};

/// A new process that the old one knows of.
#[derive(Debug)]
pub(in crate::server) struct Taker {
    channel: Channel,
}

/// At most 32 messages are being prepared by each worker. More takes more memory; fewer has a worker wait.
const MAX_OUTSTANDING: usize = 32;

/// A process that has fewer than 32 descriptors left, and one for each listener, can not accept connections, or be taken over
/// itself. More refuses a hand-over that would work; fewer has the next one fail.
const SPARE_DESCRIPTORS: usize = 32;

/// How often is looked, while handlers are made, whether the old process has ended the conversation.
const END_CHECK: Duration = Duration::from_millis(50);

fn failed(error: io::Error) -> BuildError {
    BuildError::io("the running server was not taken over, which changes nothing for it")(error)
}

fn invalid(error: StateError) -> BuildError {
    failed(io::Error::new(io::ErrorKind::InvalidData, error))
}

fn refused(why: &[u8]) -> BuildError {
    failed(io::Error::other(format!("it refuses: {}", String::from_utf8_lossy(why))))
}

fn unexpected(kind: u8) -> BuildError {
    failed(io::Error::new(io::ErrorKind::InvalidData, format!("it has sent a message of kind {kind}")))
}

impl Taker {
    /// Asks the server at `path` for everything; `None` if none runs there. Returns its listeners as well.
    pub(super) fn connect(path: &Path) -> Result<Option<(Taker, Vec<SharedListener>)>, BuildError> {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => {
                let why = match error.kind() {
                    io::ErrorKind::PermissionDenied => {
                        ": its process is of another user, or its directory is closed to this one"
                    }
                    _ => "",
                };
                return Err(BuildError::io(format!("the server at {} can not be asked{why}", path.display()))(error));
            }
        };
        check_user(&stream).map_err(|why| failed(io::Error::new(io::ErrorKind::PermissionDenied, why)))?;
        log::debug!("hand-over: connected");
        // The old process may be busy with another that asks.
        let mut channel = Channel::new(stream, Instant::now() + GREETING_TIMEOUT * 3);
        // One that refuses at once may not wait for what this one says.
        let asked = channel.send(kind::HELLO, &hello(), &[]);
        log::debug!("hand-over: asked for the server");
        let answer = channel.receive(MAX_SMALL).map_err(|error| failed(asked.err().unwrap_or(error)))?;
        match answer.kind {
            kind::LISTENERS => {
                let listeners = import_listeners(&answer.body, answer.descriptors).map_err(invalid)?;
                log::debug!("hand-over: the listeners have come");
                Ok(Some((Taker { channel }, listeners)))
            }
            kind::REFUSED => Err(refused(&answer.body)),
            other => Err(unexpected(other)),
        }
    }

    /// Has the workers take the connections, and serve them once they are this process's. Returns how many these are, and what
    /// the old process waits for to be dropped before it ends.
    pub(super) fn take(mut self, server: &ServerHandle) -> Result<(usize, Arc<dyn Any + Send + Sync>), BuildError> {
        let inboxes = &*server.control.publisher.inboxes();
        let mut topics = TopicsIn::new(server);
        self.channel.set_deadline(Instant::now() + HANDSHAKE_TIMEOUT * 3 + TRANSFER_TIMEOUT * 3);
        self.channel.send(kind::READY, &[], &[]).map_err(failed)?;
        log::debug!("hand-over: said that this process is ready");
        let (mut held, mut changes) = (Holding::new(inboxes), HashMap::new());
        let mut are_held = false;
        loop {
            let received = self.channel.receive(MAX_BODY).map_err(failed)?;
            match received.kind {
                kind::CONNECTIONS if !are_held => {
                    held.assign(received.body, received.descriptors, &self.channel)?;
                    log::debug!("hand-over: {} connections have come", held.connections);
                }
                kind::ALL_SENT if !are_held => {
                    held.await_all(&self.channel)?;
                    are_held = true;
                    if received.body != (held.connections as u64).to_be_bytes() {
                        return Err(invalid(StateError::Invalid("the number of connections")));
                    }
                    self.check_descriptors(server)?;
                    log::debug!("hand-over: all connections are held");
                    self.channel.send(kind::HELD, &received.body, &[]).map_err(failed)?;
                    log::debug!("hand-over: said that all are held");
                }
                kind::ADDITIONS if are_held => {
                    let take = |addition: Addition| drop(changes.insert(addition.id, addition.change));
                    import_additions(&received.body, take).map_err(invalid)?;
                    log::debug!("hand-over: the rest of {} connections has come", changes.len());
                }
                kind::TOPICS => topics.take(&received.body).map_err(invalid)?,
                kind::TOPICS_SENT => {
                    topics.await_bridge(BRIDGE_TIMEOUT);
                    self.channel.send(kind::TOPICS_HELD, &[], &[]).map_err(failed)?;
                }
                kind::COMMIT if are_held => {
                    log::debug!("hand-over: this process may serve");
                    let stayed = changes.values().filter(|change| matches!(change, Change::Stays)).count();
                    held.prepare(changes, &self.channel)?;
                    log::debug!("hand-over: the handlers are made");
                    topics.await_bridge(LATE_BRIDGE_TIMEOUT);
                    held.check_workers()?;
                    // Once this is sent, the old process lets go of them. If it can not be sent, they are the old one's.
                    self.channel.send(kind::COMMITTED, &[], &[]).map_err(failed)?;
                    self.take_last(&mut topics);
                    // The topics keep everything until the connections are subscribed. The end of the conversation says that they
                    // are served.
                    let awaited = topics.go_on();
                    let until_served: Arc<dyn Any + Send + Sync> = Arc::new((self.channel, awaited));
                    for inbox in inboxes {
                        inbox.send(Command::Serve(until_served.clone()));
                    }
                    return Ok((held.connections.saturating_sub(stayed), until_served));
                }
                kind::REFUSED => return Err(refused(&received.body)),
                other => return Err(unexpected(other)),
            }
        }
    }

    /// Checks that this process may open more files than it has been given.
    fn check_descriptors(&self, server: &ServerHandle) -> Result<(), BuildError> {
        let needed = (SPARE_DESCRIPTORS + server.control.addrs.len()) as u64;
        let Some(limit) = getrlimit(Resource::Nofile).current else { return Ok(()) };
        // The system gives the lowest number that is free. To open as many as are needed would take milliseconds.
        let lowest = self.channel.stream().as_fd().try_clone_to_owned().map(|spare| spare.as_raw_fd() as u64);
        if lowest.is_ok_and(|lowest| lowest + needed <= limit) {
            return Ok(());
        }
        let error = format!("fewer than {needed} of {limit} descriptors are left: {MORE_DESCRIPTORS}");
        Err(failed(io::Error::new(io::ErrorKind::QuotaExceeded, error)))
    }

    /// Takes what was published in the old process until it has let go.
    fn take_last(&mut self, topics: &mut TopicsIn<'_>) {
        self.channel.set_deadline(Instant::now() + REST_TIMEOUT);
        loop {
            let taken = match self.channel.receive(MAX_BODY) {
                Ok(received) if received.kind == kind::TOPICS => {
                    topics.take(&received.body).map_err(|error| error.to_string())
                }
                Ok(received) if received.kind == kind::BRIDGE => {
                    topics.take_bridge(received.body);
                    Ok(())
                }
                Ok(received) if received.kind == kind::TOPICS_SENT => return,
                Ok(received) => Err(format!("it has sent a message of kind {}", received.kind)),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = taken {
                return log::error!("what the old process has published last is lost: {error}");
            }
        }
    }
}

/// Connections that the workers prepare.
struct Holding<'i> {
    inboxes: &'i [Arc<Inbox>],
    /// The worker that is next.
    next: usize,
    connections: usize,
    outstanding: usize,
    telling: Sender<Result<(), StateError>>,
    told: Receiver<Result<(), StateError>>,
}

impl<'i> Holding<'i> {
    fn new(inboxes: &'i [Arc<Inbox>]) -> Holding<'i> {
        let (telling, told) = crossbeam_channel::unbounded();
        Holding { inboxes, next: 0, connections: 0, outstanding: 0, telling, told }
    }

    /// Divides the connections of a message among the workers.
    fn assign(&mut self, states: Vec<u8>, sockets: Vec<OwnedFd>, channel: &Channel) -> Result<(), BuildError> {
        let places = Arriving::places(&states).map_err(invalid)?;
        if places.len() != sockets.len() {
            return Err(invalid(StateError::Invalid("the number of sockets")));
        }
        self.connections += places.len();
        let (states, share) = (Arc::new(states), places.len().div_ceil(self.inboxes.len()).max(1));
        let mut connections = places.into_iter().zip(sockets).peekable();
        while connections.peek().is_some() {
            let connections = connections.by_ref().take(share).collect();
            let arrivals = Arrivals { states: states.clone(), connections, held: self.telling.clone() };
            if !self.inboxes[self.next].send(Command::Hold(Box::new(arrivals))) {
                return Err(ended());
            }
            self.next = (self.next + 1) % self.inboxes.len();
            self.outstanding += 1;
        }
        self.await_until(MAX_OUTSTANDING * self.inboxes.len(), channel)
    }

    /// Waits until the workers have all connections.
    fn await_all(&mut self, channel: &Channel) -> Result<(), BuildError> {
        self.await_until(0, channel)
    }

    /// Has the workers make the application's part of the connections, and waits for it.
    fn prepare(&mut self, changes: HashMap<u64, Change>, channel: &Channel) -> Result<(), BuildError> {
        let changes = Arc::new(Changes::new(changes));
        for inbox in self.inboxes {
            let preparation = Preparation { changes: changes.clone(), prepared: self.telling.clone() };
            if !inbox.send(Command::Prepare(Box::new(preparation))) {
                return Err(ended());
            }
            self.outstanding += 1;
        }
        self.await_all(channel).inspect_err(|_| changes.give_up())
    }

    /// Checks that no worker has failed, with what it held.
    fn check_workers(&self) -> Result<(), BuildError> {
        if self.inboxes.iter().any(|inbox| inbox.is_retired()) { Err(ended()) } else { Ok(()) }
    }

    /// Waits until the workers prepare no more messages than this, and fails if they can not prepare one, or if the old process
    /// ends the conversation.
    fn await_until(&mut self, most: usize, channel: &Channel) -> Result<(), BuildError> {
        let deadline = Instant::now() + TRANSFER_TIMEOUT;
        loop {
            let held = match self.told.try_recv() {
                Ok(held) => held,
                Err(_) if self.outstanding <= most => return Ok(()),
                Err(_) => match self.told.recv_timeout(END_CHECK) {
                    Ok(held) => held,
                    Err(_) if channel.has_ended() || Instant::now() >= deadline => return Err(failed(too_late())),
                    Err(_) => continue,
                },
            };
            held.map_err(invalid)?;
            self.outstanding -= 1;
        }
    }
}

fn ended() -> BuildError {
    failed(io::Error::other("a worker has ended"))
}

fn too_late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "to make the handlers takes too long")
}
