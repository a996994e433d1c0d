//! An application that is the same in both modes: with a handler per connection, and with events through a channel.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use threadbare::{
    CloseCause, CloseCode, CloseReason, ControlError, Event, Handler, Message, MessageRef, Peer, PeerId, Server,
    ServerBuilder, ServerHandle, Socket,
};

use super::DEADLINE;
use super::servers::{Mode, worker_count};

/// The tick of the workers' timer wheels. A timeout may end this much too early.
pub const TICK: Duration = Duration::from_millis(32);

/// What a [`Socket`] and a [`Peer`] have in common.
pub trait Connection {
    fn send(&mut self, message: MessageRef<'_>) -> bool;
    fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), ControlError>;
    fn ping(&mut self, payload: &[u8]) -> Result<(), ControlError>;
    fn abort(&mut self);
    fn peer(&mut self) -> Peer;
}

impl Connection for Socket<'_> {
    fn send(&mut self, message: MessageRef<'_>) -> bool {
        Socket::send(self, message)
    }

    fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), ControlError> {
        Socket::close(self, code, reason)
    }

    fn ping(&mut self, payload: &[u8]) -> Result<(), ControlError> {
        Socket::ping(self, payload)
    }

    fn abort(&mut self) {
        Socket::abort(self);
    }

    fn peer(&mut self) -> Peer {
        Socket::peer(self)
    }
}

impl Connection for Peer {
    fn send(&mut self, message: MessageRef<'_>) -> bool {
        Peer::send(self, message).is_ok()
    }

    fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), ControlError> {
        Peer::close(self, code, reason)
    }

    fn ping(&mut self, payload: &[u8]) -> Result<(), ControlError> {
        Peer::ping(self, payload)
    }

    fn abort(&mut self) {
        Peer::abort(self);
    }

    fn peer(&mut self) -> Peer {
        self.clone()
    }
}

/// Sends the message back.
pub fn echo(connection: &mut dyn Connection, message: MessageRef<'_>) {
    connection.send(message);
}

/// An event, as the application received it.
#[derive(Clone, Debug)]
pub enum AppEvent {
    Open(Peer),
    Message(PeerId, Message),
    Close(PeerId, CloseReason),
}

type OnMessage = dyn Fn(&mut dyn Connection, MessageRef<'_>) + Send + Sync;

/// A server whose application records the events that it receives.
pub struct App {
    pub addr: SocketAddr,
    server: Server,
    events: Receiver<AppEvent>,
    history: RefCell<Vec<AppEvent>>,
    thread: Option<JoinHandle<()>>,
}

impl App {
    /// An application that sends every message back.
    pub fn echo(mode: Mode) -> App {
        App::start(mode, Server::builder().workers(worker_count()), echo)
    }

    /// An application that calls `on_message` for every message.
    pub fn start(
        mode: Mode,
        builder: ServerBuilder,
        on_message: impl Fn(&mut dyn Connection, MessageRef<'_>) + Send + Sync + 'static,
    ) -> App {
        super::logged::install();
        let on_message: Arc<OnMessage> = Arc::new(on_message);
        let (log, recorded) = crossbeam_channel::unbounded();
        let (server, thread) = match mode {
            Mode::Handler => {
                let make = move |_: &_| Recorder { log: log.clone(), on_message: on_message.clone() };
                (builder.serve("127.0.0.1:0", make).expect("a server"), None)
            }
            Mode::Channel => {
                let mut server = builder.bind("127.0.0.1:0").expect("a server");
                let events = server.take_events().remove(0);
                let thread = std::thread::spawn(move || {
                    for event in &events {
                        record(event, &log, &*on_message);
                    }
                });
                (server, Some(thread))
            }
        };
        App { addr: server.local_addr(), server, events: recorded, history: RefCell::default(), thread }
    }

    pub fn handle(&self) -> ServerHandle {
        self.server.handle()
    }

    /// Waits for the application's next event.
    pub fn next(&self) -> AppEvent {
        let event = self.events.recv_timeout(DEADLINE).expect("an event");
        self.history.borrow_mut().push(event.clone());
        event
    }

    /// Waits until the application was told of an open connection.
    pub fn opened(&self) -> Peer {
        loop {
            if let AppEvent::Open(peer) = self.next() {
                return peer;
            }
        }
    }

    /// Waits until the application was told of a closed connection.
    pub fn closed(&self) -> CloseReason {
        loop {
            if let AppEvent::Close(_, reason) = self.next() {
                return reason;
            }
        }
    }

    /// Asserts how the next connection was closed.
    pub fn expect_closed(&self, code: u16, cause: CloseCause) {
        let reason = self.closed();
        assert_eq!((reason.code.0, reason.cause), (code, cause), "{reason}");
    }

    /// Shuts down and returns all events. Asserts that the first event of each connection is `Open` and the last one
    /// `Close`, and that neither comes twice.
    pub fn finish(mut self) -> Vec<AppEvent> {
        self.server.shutdown(Duration::from_millis(100));
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the application does not panic");
        }
        let mut history = self.history.take();
        history.extend(self.events.iter());
        let mut closed = HashMap::new();
        for event in &history {
            match event {
                AppEvent::Open(peer) => assert_eq!(closed.insert(peer.id(), false), None, "opened twice"),
                AppEvent::Message(id, message) => assert_eq!(closed.get(id), Some(&false), "{message:?} out of order"),
                AppEvent::Close(id, reason) => {
                    assert_eq!(closed.insert(*id, true), Some(false), "{reason} out of order");
                }
            }
        }
        assert!(closed.values().all(|closed| *closed), "a connection was not closed: {closed:?}");
        history
    }
}

/// The texts of the messages among the events.
pub fn texts(history: &[AppEvent]) -> Vec<&str> {
    history
        .iter()
        .filter_map(|event| if let AppEvent::Message(_, message) = event { message.as_text() } else { None })
        .collect()
}

fn record(event: Event, log: &Sender<AppEvent>, on_message: &OnMessage) {
    // The test may have dropped the receiver.
    let log = |event| drop(log.send(event));
    match event {
        Event::Open(peer, _) => log(AppEvent::Open(peer)),
        Event::Message(mut peer, message) => {
            on_message(&mut peer, MessageRef::from(&message));
            log(AppEvent::Message(peer.id(), message));
        }
        Event::Close(peer, reason) => log(AppEvent::Close(peer.id(), reason)),
        _ => {}
    }
}

struct Recorder {
    log: Sender<AppEvent>,
    on_message: Arc<OnMessage>,
}

impl Handler for Recorder {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        drop(self.log.send(AppEvent::Open(socket.peer())));
    }

    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        (self.on_message)(socket, message);
        drop(self.log.send(AppEvent::Message(socket.id(), message.into_owned())));
    }

    fn on_close(&mut self, socket: &mut Socket<'_>, reason: &CloseReason) {
        drop(self.log.send(AppEvent::Close(socket.id(), reason.clone())));
    }
}

/// Panics without a message on standard error.
pub fn panic_quietly() -> ! {
    std::panic::resume_unwind(Box::new("on purpose"))
}

/// Sends messages of `size` bytes to a client that does not read, until the queue stays full, and returns how many were
/// queued. The server must have one worker; `other` is another connection of that worker, with its client.
pub fn fill_send_queue(peer: &Peer, size: usize, other: (&Peer, &mut super::Client)) -> usize {
    let (other, client) = other;
    let mut count = 0;
    let mut refused = 0;
    while refused < 2 {
        match peer.try_send(vec![count as u8; size]) {
            Ok(()) => {
                count += 1;
                refused = 0;
            }
            Err(threadbare::TrySendError::Full(message)) => {
                assert_eq!(message, Message::Binary(vec![count as u8; size]), "the same message is returned");
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
        // When this message arrives, the worker has written what it could of the messages before it.
        other.send("written").expect("the connection is open");
        assert_eq!(client.expect_frame(), super::Frame::text("written"));
    }
    count
}
