//! The engines of this library.

use threadbare::bench_harness::{ChannelEngine, HandlerEngine};
use threadbare::{Config, Event, Events, MessageRef, Role, Socket, WebSocket};

use crate::memory::SharedStream;
use crate::{Block, Echo};

/// A handler on a worker's thread: the code of `Server::serve`.
pub struct Handler(HandlerEngine<EchoHandler>);

struct EchoHandler;

impl threadbare::Handler for EchoHandler {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.send(message);
    }
}

impl Echo for Handler {
    fn new(block: &Block) -> Handler {
        Handler(HandlerEngine::new(&block.frames, EchoHandler).expect("a poll"))
    }

    fn echo(&mut self) {
        self.0.serve();
    }

    fn written(&mut self) -> Vec<u8> {
        self.0.written().to_vec()
    }
}

/// A blocking socket, `WebSocket<S>`, whose messages are owned.
pub struct Blocking {
    socket: WebSocket<SharedStream>,
    messages: usize,
}

impl Echo for Blocking {
    fn new(block: &Block) -> Blocking {
        let stream = SharedStream::new(&block.frames);
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

/// Delivery through a channel: a worker that receives, and the events that the application takes. Nothing is echoed.
pub struct Channel {
    engine: ChannelEngine,
    events: Events,
}

impl Channel {
    /// A connection that receives `block`.
    #[must_use]
    pub fn new(block: &Block) -> Channel {
        let (engine, events) = ChannelEngine::new(&block.frames).expect("a poll");
        let mut channel = Channel { engine, events };
        let Ok(Event::Open(..)) = channel.events.try_recv() else { panic!("the first event is not Event::Open") };
        for _ in 0..3 {
            assert_eq!(channel.deliver(), block.messages, "every message is delivered");
        }
        channel
    }

    /// The application's end of the channel, to be used from another thread.
    #[must_use]
    pub fn events(&self) -> Events {
        self.events.clone()
    }

    /// Receives the block and delivers its messages to the channel.
    pub fn serve(&mut self) {
        self.engine.serve();
    }

    /// Receives the block, and takes every message from the channel. Returns their number.
    pub fn deliver(&mut self) -> usize {
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
