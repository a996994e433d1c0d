//! threadbare, in its three ways.

use threadbare::bench_harness::{ChannelEngine, HandlerEngine};
use threadbare::{Config, Event, Events, MessageRef, Role, Socket, WebSocket};

use crate::memory::Shared;
use crate::{Block, Echo};

/// A handler on a worker: the path of `Server::serve`.
pub struct Handler(HandlerEngine<Echoes>);

struct Echoes;

impl threadbare::Handler for Echoes {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.send(message);
    }
}

impl Echo for Handler {
    fn new(block: &Block) -> Handler {
        Handler(HandlerEngine::new(&block.frames, Echoes).expect("a poll"))
    }

    fn echo(&mut self) {
        self.0.serve();
    }

    fn written(&mut self) -> Vec<u8> {
        self.0.written().to_vec()
    }
}

/// A blocking socket: the path of `WebSocket<S>`, whose messages are owned.
pub struct Blocking {
    socket: WebSocket<Shared>,
    messages: usize,
}

impl Echo for Blocking {
    fn new(block: &Block) -> Blocking {
        let stream = Shared::new(&block.frames);
        let socket = WebSocket::from_established(stream, Role::Server, Vec::new(), &Config::default());
        Blocking { socket, messages: block.messages }
    }

    fn echo(&mut self) {
        self.socket.get_ref().rewind();
        for _ in 0..self.messages {
            let message = self.socket.recv().expect("valid").expect("a message");
            self.socket.send(&message).expect("open");
        }
        self.socket.flush().expect("room");
    }

    fn written(&mut self) -> Vec<u8> {
        self.socket.get_ref().written()
    }
}

/// The hand-over to an application's thread: a worker that receives, and the events that it hands over. Nothing is
/// echoed, for the answers' way is another one.
pub struct Channel {
    engine: ChannelEngine,
    events: Events,
}

impl Channel {
    /// A connection on which `block` comes in.
    #[must_use]
    pub fn new(block: &Block) -> Channel {
        let (engine, events) = ChannelEngine::new(&block.frames).expect("a poll");
        let mut channel = Channel { engine, events };
        let Ok(Event::Open(..)) = channel.events.try_recv() else { panic!("the connection was not told") };
        for _ in 0..3 {
            assert_eq!(channel.hand_over(), block.messages, "all that came in");
        }
        channel
    }

    /// The application's end, to be used from another thread.
    #[must_use]
    pub fn events(&self) -> Events {
        self.events.clone()
    }

    /// Receives the block and hands it over.
    pub fn serve(&mut self) {
        self.engine.serve();
    }

    /// Receives the block, hands it over, and takes every message of it: how many they were.
    pub fn hand_over(&mut self) -> usize {
        self.serve();
        self.received()
    }

    fn received(&self) -> usize {
        let mut messages = 0;
        while let Ok(Event::Message(_, message)) = self.events.try_recv() {
            drop(message);
            messages += 1;
        }
        messages
    }
}
