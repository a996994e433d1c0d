//! The engines of other libraries.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use fastwebsockets::{FragmentCollector, OpCode, WebSocket as FastWebSocket};
use threadbare::bench_harness::MemoryStream;
use tungstenite::WebSocket;
use tungstenite::protocol::Role;

use crate::memory::SharedStream;
use crate::{Block, Echo};

/// tungstenite, with one `flush` at the end.
pub struct Tungstenite {
    socket: WebSocket<MemoryStream>,
    messages: usize,
}

impl Echo for Tungstenite {
    fn new(block: &Block) -> Tungstenite {
        let socket = WebSocket::from_raw_socket(MemoryStream::new(&block.frames), Role::Server, None);
        Tungstenite { socket, messages: block.messages }
    }

    fn echo(&mut self) {
        self.socket.get_mut().rewind();
        for _ in 0..self.messages {
            let message = self.socket.read().expect("a message");
            self.socket.write(message).expect("open");
        }
        self.socket.flush().expect("room");
    }

    fn written(&mut self) -> Vec<u8> {
        self.socket.get_ref().written().to_vec()
    }
}

/// tungstenite as its documentation echoes: with `send`.
pub struct TungsteniteSend(Tungstenite);

impl Echo for TungsteniteSend {
    fn new(block: &Block) -> TungsteniteSend {
        TungsteniteSend(Tungstenite::new(block))
    }

    fn echo(&mut self) {
        let Tungstenite { socket, messages } = &mut self.0;
        socket.get_mut().rewind();
        for _ in 0..*messages {
            let message = socket.read().expect("a message");
            socket.send(message).expect("open");
        }
    }

    fn written(&mut self) -> Vec<u8> {
        self.0.written()
    }
}

/// fastwebsockets as its documentation echoes. Its futures never wait here, so no runtime is involved.
pub struct Fastwebsockets {
    socket: FragmentCollector<SharedStream>,
    stream: SharedStream,
    messages: usize,
}

impl Echo for Fastwebsockets {
    fn new(block: &Block) -> Fastwebsockets {
        let stream = SharedStream::new(&block.frames);
        let socket = FastWebSocket::after_handshake(stream.clone(), fastwebsockets::Role::Server);
        Fastwebsockets { socket: FragmentCollector::new(socket), stream, messages: block.messages }
    }

    fn echo(&mut self) {
        self.stream.rewind();
        let (socket, messages) = (&mut self.socket, self.messages);
        poll_once(async move {
            for _ in 0..messages {
                let frame = socket.read_frame().await.expect("a message");
                assert!(matches!(frame.opcode, OpCode::Text | OpCode::Binary));
                socket.write_frame(frame).await.expect("room");
            }
        });
    }

    fn written(&mut self) -> Vec<u8> {
        self.stream.written()
    }
}

/// Runs a future that never waits.
fn poll_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a stream in memory is always ready"),
    }
}
