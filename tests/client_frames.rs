//! What each kind of client puts on the wire: the masking of its frames (RFC 6455 5.3), prepared messages among them.

use crate::common;

use std::collections::HashSet;
use std::net::TcpStream;
use std::thread;

use common::DEADLINE;
use common::server_end::{CLOSE, Masked, ServerEnd, listen};
use threadbare::protocol::frame::Opcode;
use threadbare::{
    Client, ClientLoop, ClientPool, CloseCode, CloseFrame, Config, ConnectionState, Message, Prepared, Reconnect,
    SendError, WebSocket,
};

/// What the application of a client can call, whatever its kind.
trait Sends {
    fn send(&mut self, message: Message);
    /// `None` if this kind of client has no such method.
    fn send_prepared(&mut self, prepared: &Prepared) -> Option<Result<(), SendError<()>>>;
    /// Does what is needed for what was sent to be written.
    fn write(&mut self) {}
}

macro_rules! sends {
    ($($kind:ty),*) => {$(
        impl Sends for $kind {
            fn send(&mut self, message: Message) {
                <$kind>::send(self, message).expect("sent");
            }

            fn send_prepared(&mut self, prepared: &Prepared) -> Option<Result<(), SendError<()>>> {
                Some(<$kind>::send_prepared(self, prepared))
            }
        }
    )*};
}

sends!(Client, threadbare::ReconnectingClient);

/// A client, and its handle.
struct Handle(#[expect(dead_code, reason = "kept open")] Client, threadbare::Peer);

impl Sends for Handle {
    fn send(&mut self, message: Message) {
        self.1.send(message).expect("sent");
    }

    fn send_prepared(&mut self, prepared: &Prepared) -> Option<Result<(), SendError<()>>> {
        Some(self.1.send_prepared(prepared))
    }
}

/// A reconnecting client, and its handle.
struct SenderOf(
    #[expect(dead_code, reason = "kept open")] threadbare::ReconnectingClient,
    threadbare::ReconnectingSender,
);

impl Sends for SenderOf {
    fn send(&mut self, message: Message) {
        self.1.send(message).expect("sent");
    }

    fn send_prepared(&mut self, prepared: &Prepared) -> Option<Result<(), SendError<()>>> {
        Some(self.1.send_prepared(prepared))
    }
}

/// A client that the test's thread runs.
struct Inline(ClientLoop, threadbare::Peer);

impl Sends for Inline {
    fn send(&mut self, message: Message) {
        // The thread that runs the loop does not wait for room.
        while self.1.queued_bytes() > 1_000 {
            self.0.poll(DEADLINE, |_| {}).expect("a poll");
        }
        self.1.send(message).expect("sent");
    }

    fn send_prepared(&mut self, prepared: &Prepared) -> Option<Result<(), SendError<()>>> {
        while self.1.queued_bytes() > 1_000 {
            self.0.poll(DEADLINE, |_| {}).expect("a poll");
        }
        Some(self.1.send_prepared(prepared))
    }

    fn write(&mut self) {
        while self.1.queued_bytes() > 0 {
            self.0.poll(DEADLINE, |_| {}).expect("a poll");
        }
        self.0.poll(std::time::Duration::ZERO, |_| {}).expect("a poll");
    }
}

impl Sends for WebSocket<TcpStream> {
    fn send(&mut self, message: Message) {
        WebSocket::send(self, message).expect("sent");
    }

    fn send_prepared(&mut self, _: &Prepared) -> Option<Result<(), SendError<()>>> {
        None
    }
}

const KINDS: [&str; 7] = ["client", "handle", "pool", "reconnecting", "sender", "inline", "blocking"];

fn connect(kind: &str, url: &str) -> Box<dyn Sends> {
    let builder = || Client::builder().no_proxy();
    let reconnecting = || {
        let client = builder().reconnect(url, Reconnect::new()).expect("a client");
        client.wait_state(DEADLINE, ConnectionState::is_connected).expect("connected");
        client
    };
    match kind {
        "client" => Box::new(builder().connect(url).expect("connected")),
        "handle" => {
            let client = builder().connect(url).expect("connected");
            let peer = client.peer();
            Box::new(Handle(client, peer))
        }
        "pool" => {
            let pool = ClientPool::new(2, Config::default()).expect("a pool");
            Box::new(builder().pool(&pool).connect(url).expect("connected"))
        }
        "reconnecting" => Box::new(reconnecting()),
        "sender" => {
            let client = reconnecting();
            let sender = client.sender();
            Box::new(SenderOf(client, sender))
        }
        "inline" => {
            let mut client_loop = ClientLoop::new(Config::default()).expect("a loop");
            let peer = builder().connect_inline(url, &mut client_loop).expect("connected");
            Box::new(Inline(client_loop, peer))
        }
        _ => {
            let addr = url.trim_start_matches("ws://").trim_end_matches('/');
            let stream = TcpStream::connect(addr).expect("connected");
            Box::new(WebSocket::connect(url, stream).expect("connected"))
        }
    }
}

/// Connects a client of this kind, has it send, and returns the frames up to its close frame.
fn frames_of(kind: &str, send: impl FnOnce(&mut dyn Sends)) -> Vec<Masked> {
    let (listener, url) = listen();
    let server = thread::spawn(move || {
        let mut server = ServerEnd::accept(&listener);
        let frames = server.frames();
        server.send(CLOSE); // the client waits for the answer
        frames
    });
    let mut client = connect(kind, &url);
    send(&mut *client);
    client.write();
    // A client that is dropped waits for the server's answer.
    drop(client);
    server.join().expect("the frames")
}

/// RFC 6455 5.3: "The masking key needs to be unpredictable; thus, the masking key MUST be derived from a strong source of
/// entropy"; a fresh one for each frame.
#[test]
fn every_frame_of_every_kind_of_client_has_a_fresh_masking_key() {
    for kind in KINDS {
        // More than the keys that are drawn at once; short, large, empty ones and pings, and prepared ones again and again.
        let prepared =
            [Prepared::new("tick"), Prepared::new(vec![7; 1_000]), Prepared::new(Message::Ping(b"p".to_vec()))];
        let (mut sent, mut of_prepared) = (0, 0);
        let frames = frames_of(kind, |client| {
            for number in 0..200 {
                let size = if number % 50 == 0 { 70_000 } else { [0, 1, 100, 1_000][number % 4] };
                client.send(Message::Text("x".repeat(size)));
                client.send(Message::Ping(vec![7; number % 126]));
                sent += 2;
                if let Some(result) = client.send_prepared(&prepared[number % 3]) {
                    result.expect("sent");
                    of_prepared += 1;
                }
            }
            client.send(Message::Close(Some(CloseFrame::new(CloseCode::NORMAL_CLOSURE, "").expect("valid"))));
        });
        assert_eq!(frames.len(), sent + of_prepared + 1, "{kind}");
        let keys: HashSet<_> = frames.iter().map(|frame| frame.key).collect();
        // Two of 600 random keys are equal once in 24,000 runs.
        assert!(keys.len() >= frames.len() - 1, "{kind}: {} keys for {} frames", keys.len(), frames.len());
        assert!(!keys.contains(&[0; 4]), "{kind}: a key of zeros masks nothing");
    }
}

#[test]
fn every_kind_of_client_sends_prepared_control_frames() {
    for kind in KINDS.into_iter().filter(|kind| *kind != "blocking") {
        let frames = frames_of(kind, |client| {
            let mut send = |message| client.send_prepared(&Prepared::new(message)).expect("there is such a method");
            assert_eq!(send(Message::Ping(vec![7; 126])), Err(SendError::Invalid(())), "{kind}");
            assert_eq!(send(Message::Pong(vec![7; 126])), Err(SendError::Invalid(())), "{kind}");
            let no_code = CloseFrame { code: CloseCode::NO_STATUS_RECEIVED, reason: String::new() };
            assert_eq!(send(Message::Close(Some(no_code))), Err(SendError::Invalid(())), "{kind}");
            send(Message::Ping(b"still there?".to_vec())).expect("sent");
            send(Message::Pong(b"here".to_vec())).expect("sent");
            send(Message::from("text")).expect("sent");
            send(Message::Close(Some(CloseFrame::new(CloseCode(4000), "enough").expect("valid")))).expect("sent");
            for message in [Message::Ping(Vec::new()), Message::from("text"), Message::Close(None)] {
                assert_eq!(send(message), Err(SendError::Disconnected(())), "{kind}: behind the close");
            }
        });
        let frames: Vec<_> = frames.iter().map(|frame| (frame.opcode, &frame.payload[..])).collect();
        assert_eq!(
            frames,
            [
                (Opcode::Ping, &b"still there?"[..]),
                (Opcode::Pong, b"here"),
                (Opcode::Text, b"text"),
                (Opcode::Close, b"\x0f\xa0enough"),
            ],
            "{kind}"
        );
    }
}
