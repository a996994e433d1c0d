//! One application for both ways in: a handler per connection, and events through a channel.

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

/// Deadlines are kept to a tick of the workers' wheels, so that one may be this much early.
pub const TICK: Duration = Duration::from_millis(32);

/// How a server reaches its application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Handler,
    Channel,
}

pub const BOTH_WAYS: [Way; 2] = [Way::Handler, Way::Channel];

/// What a [`Socket`] and a [`Peer`] can both do.
pub trait Link {
    fn send(&mut self, message: MessageRef<'_>) -> bool;
    fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), ControlError>;
    fn ping(&mut self, payload: &[u8]) -> Result<(), ControlError>;
    fn abort(&mut self);
    fn peer(&mut self) -> Peer;
}

impl Link for Socket<'_> {
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

impl Link for Peer {
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

/// Sends back what came.
pub fn echo(link: &mut dyn Link, message: MessageRef<'_>) {
    link.send(message);
}

/// What the application was told.
#[derive(Clone, Debug)]
pub enum Seen {
    Open(Peer),
    Message(PeerId, Message),
    Close(PeerId, CloseReason),
}

type Respond = dyn Fn(&mut dyn Link, MessageRef<'_>) + Send + Sync;

/// A server whose application notes what it is told.
pub struct App {
    pub addr: SocketAddr,
    pub way: Way,
    server: Server,
    seen: Receiver<Seen>,
    history: RefCell<Vec<Seen>>,
    thread: Option<JoinHandle<()>>,
}

impl App {
    /// An application that sends back what it receives.
    pub fn echo(way: Way) -> App {
        App::start(way, Server::builder().workers(super::servers::workers()), echo)
    }

    /// An application that does with messages what `respond` does.
    pub fn start(
        way: Way,
        builder: ServerBuilder,
        respond: impl Fn(&mut dyn Link, MessageRef<'_>) + Send + Sync + 'static,
    ) -> App {
        let respond: Arc<Respond> = Arc::new(respond);
        let (log, seen) = crossbeam_channel::unbounded();
        let (server, thread) = match way {
            Way::Handler => {
                let make = move |_: &_| Noting { log: log.clone(), respond: respond.clone() };
                (builder.serve("127.0.0.1:0", make).expect("a server"), None)
            }
            Way::Channel => {
                let mut server = builder.bind("127.0.0.1:0").expect("a server");
                let events = server.take_events().remove(0);
                let thread = std::thread::spawn(move || {
                    for event in &events {
                        note(event, &log, &*respond);
                    }
                });
                (server, Some(thread))
            }
        };
        App { addr: server.local_addr(), way, server, seen, history: RefCell::default(), thread }
    }

    pub fn handle(&self) -> ServerHandle {
        self.server.handle()
    }

    /// What the application is told next.
    pub fn next(&self) -> Seen {
        let seen = self.seen.recv_timeout(DEADLINE).expect("the application is told something");
        self.history.borrow_mut().push(seen.clone());
        seen
    }

    /// The connection that opens next.
    pub fn opened(&self) -> Peer {
        loop {
            if let Seen::Open(peer) = self.next() {
                return peer;
            }
        }
    }

    /// Why the next connection ends.
    pub fn closed(&self) -> CloseReason {
        loop {
            if let Seen::Close(_, reason) = self.next() {
                return reason;
            }
        }
    }

    /// Asserts that the next connection ends so.
    pub fn expect_end(&self, code: u16, cause: CloseCause) {
        let reason = self.closed();
        assert_eq!((reason.code.0, reason.cause), (code, cause), "{reason}");
    }

    /// Shuts down; asserts that each connection opened first and ended last, once; everything that was told.
    pub fn finish(mut self) -> Vec<Seen> {
        self.server.shutdown(Duration::from_millis(100));
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the application");
        }
        let mut history = self.history.take();
        history.extend(self.seen.iter());
        let mut ended = HashMap::new();
        for seen in &history {
            match seen {
                Seen::Open(peer) => assert_eq!(ended.insert(peer.id(), false), None, "opened twice"),
                Seen::Message(id, message) => assert_eq!(ended.get(id), Some(&false), "{message:?} out of place"),
                Seen::Close(id, reason) => assert_eq!(ended.insert(*id, true), Some(false), "{reason} out of place"),
            }
        }
        assert!(ended.values().all(|ended| *ended), "{}: a connection never ended", ended.len());
        history
    }
}

/// The texts of the messages that were told.
pub fn texts(history: &[Seen]) -> Vec<&str> {
    history
        .iter()
        .filter_map(|seen| if let Seen::Message(_, message) = seen { message.as_text() } else { None })
        .collect()
}

fn note(event: Event, log: &Sender<Seen>, respond: &Respond) {
    // A test that has seen enough hangs up.
    let tell = |seen| drop(log.send(seen));
    match event {
        Event::Open(peer, _) => tell(Seen::Open(peer)),
        Event::Message(mut peer, message) => {
            respond(&mut peer, MessageRef::from(&message));
            tell(Seen::Message(peer.id(), message));
        }
        Event::Close(peer, reason) => tell(Seen::Close(peer.id(), reason)),
        _ => {}
    }
}

struct Noting {
    log: Sender<Seen>,
    respond: Arc<Respond>,
}

impl Handler for Noting {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        drop(self.log.send(Seen::Open(socket.peer())));
    }

    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        (self.respond)(socket, message);
        drop(self.log.send(Seen::Message(socket.id(), message.into_owned())));
    }

    fn on_close(&mut self, socket: &mut Socket<'_>, reason: &CloseReason) {
        drop(self.log.send(Seen::Close(socket.id(), reason.clone())));
    }
}

/// A panic without a word on standard error, where it would only disturb.
pub fn panic_quietly() -> ! {
    std::panic::resume_unwind(Box::new("on purpose"))
}

/// Sends to a peer that does not read until its queue stays full; how many messages of `size` bytes were taken. The
/// server must have one worker, and `other` be another connection of it.
pub fn fill(peer: &Peer, size: usize, other: (&Peer, &mut super::Client)) -> usize {
    let (witness, client) = other;
    let mut count = 0;
    let mut full = 0;
    while full < 2 {
        match peer.try_send(vec![count as u8; size]) {
            Ok(()) => {
                count += 1;
                full = 0;
            }
            Err(threadbare::TrySendError::Full(message)) => {
                assert_eq!(message, Message::Binary(vec![count as u8; size]), "handed back as it was");
                full += 1;
            }
            Err(error) => panic!("{error}"),
        }
        // The worker has seen what was sent before when this arrives.
        witness.send("seen").expect("it is open");
        assert_eq!(client.expect_frame(), super::Frame::text("seen"));
    }
    count
}
