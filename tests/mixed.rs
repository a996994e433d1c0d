//! Whole messages, lent ones, parts and readers in any order on one connection: nothing is lost, doubled or cut.

use crate::common;

use std::io::{self, BufRead, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use common::{DEADLINE, eventually};
use threadbare::protocol::frame::{FrameHeader, Opcode};
use threadbare::protocol::mask;
use threadbare::{
    Client, ClientRequest, Compression, Config, Event, Message, Peer, Prepared, Receive, Role, SendOptions, Server,
    SlowConsumer, SocketError, StreamOptions, WebSocket,
};

/// Numbers that look random and are the same in each run.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

/// A stream in memory whose reads bring any number of bytes, or nothing for now.
struct Halting {
    input: io::Cursor<Vec<u8>>,
    dice: Dice,
    most: usize,
}

impl Read for Halting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.dice.roll(4) == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let size = buffer.len().min(1 + self.dice.roll(self.most));
        self.input.read(&mut buffer[..size])
    }
}

impl Write for Halting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn message(dice: &mut Dice, number: usize) -> Message {
    let size = [0, 1, 5, 125, 126, 1_000, 20_000, 70_000][dice.roll(8)];
    match dice.roll(2) {
        0 => Message::Text(format!("{number} größer 🦀").chars().cycle().take(size).collect()),
        _ => Message::Binary((0..size).map(|at| (at * 7 + number) as u8).collect()),
    }
}

fn push_frame(bytes: &mut Vec<u8>, to: Role, fin: bool, opcode: Opcode, payload: &[u8]) {
    let key = (to == Role::Server).then_some([1, 2, 3, 4]);
    FrameHeader { fin, rsv: 0, opcode, mask: key, payload_len: payload.len() as u64 }.encode(bytes);
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    if let Some(key) = key {
        mask::apply(&mut bytes[start..], key);
    }
}

/// The frames of a message: any number of them, empty ones too, with control frames between them.
fn push_message(bytes: &mut Vec<u8>, to: Role, message: &Message, dice: &mut Dice) {
    let (mut rest, mut opcode) = (message.as_bytes(), if message.is_text() { Opcode::Text } else { Opcode::Binary });
    while dice.roll(3) > 0 {
        let (part, behind) = rest.split_at(dice.roll(rest.len() + 1));
        push_frame(bytes, to, false, opcode, part);
        (rest, opcode) = (behind, Opcode::Continuation);
        match dice.roll(6) {
            0 => push_frame(bytes, to, true, Opcode::Ping, b"between"),
            1 => push_frame(bytes, to, true, Opcode::Pong, b""),
            _ => {}
        }
    }
    push_frame(bytes, to, true, opcode, rest);
}

/// Receives in any way until the end. Returns the messages, or what was read of those whose reader was dropped.
fn receive<S: Read + Write>(socket: &mut WebSocket<S>, dice: &mut Dice, expected: &[Message]) {
    let mut next = 0;
    loop {
        let received = match dice.roll(3) {
            0 => socket.recv(),
            1 => socket.recv_ref().map(|message| message.map(|message| message.into_owned())),
            _ => match socket.recv_reader() {
                Ok(Some(mut reader)) => {
                    let whole = &expected[next];
                    assert_eq!(reader.is_text(), whole.is_text(), "message {next}");
                    read(&mut reader, dice, whole.as_bytes());
                    next += 1;
                    continue;
                }
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            },
        };
        match received {
            Ok(Some(message)) => {
                assert!(message == expected[next], "message {next}: {} bytes", message.len());
                next += 1;
            }
            Ok(None) => break,
            Err(SocketError::Timeout) => {}
            Err(error) => panic!("message {next}: {error}"),
        }
    }
    assert_eq!(next, expected.len());
    assert_eq!(socket.stats().messages_received, next as u64);
}

/// Reads a message, or the beginning of it.
fn read(reader: &mut impl BufRead, dice: &mut Dice, whole: &[u8]) {
    let mut at = 0;
    while dice.roll(20) > 0 {
        match reader.fill_buf() {
            Ok([]) => return assert_eq!(at, whole.len()),
            Ok(piece) => {
                let size = 1 + dice.roll(piece.len());
                assert!(whole[at..].starts_with(piece), "from {at} on");
                at += size;
                reader.consume(size);
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}"),
        }
    }
}

#[test]
fn a_socket_receives_the_same_however_it_is_asked() {
    common::logged::install();
    for seed in 0..25 {
        let mut dice = Dice(seed);
        for role in [Role::Server, Role::Client] {
            let messages: Vec<_> = (0..30).map(|number| message(&mut dice, number)).collect();
            let mut bytes = Vec::new();
            for message in &messages {
                push_message(&mut bytes, role, message, &mut dice);
            }
            push_frame(&mut bytes, role, true, Opcode::Close, b"\x03\xe8");
            let most = [1, 3, 200, 20_000, 300_000][dice.roll(if bytes.len() > 400_000 { 3 } else { 5 })].max(3);
            let most = if bytes.len() > 100_000 { most.max(2_000) } else { most };
            let stream = Halting { input: io::Cursor::new(bytes), dice: dice.clone(), most };
            let mut socket = WebSocket::from_established(stream, role, Vec::new(), &Config::default());
            receive(&mut socket, &mut dice, &messages);
        }
    }
}

/// A message of a sender: who it is, which of its messages this is, and how it goes on.
fn numbered(sender: usize, number: usize) -> String {
    let size = Dice((sender * 1_000 + number) as u64).roll([3, 300, 200_000][number % 3]);
    format!("{sender} {number} ").chars().chain("größer 🦀 ".chars().cycle().take(size)).collect()
}

/// Sends the messages of one sender, each in another way.
fn send(peer: &Peer, sender: usize, count: usize) {
    let mut dice = Dice(sender as u64);
    for number in 0..count {
        let text = numbered(sender, number);
        let compression = [Compression::Auto, Compression::Never][dice.roll(2)];
        let options = StreamOptions::text().compression(compression).fragment_size(1 + dice.roll(20_000));
        match dice.roll(6) {
            0 => peer.send(text).expect("open"),
            1 => peer.send(text.as_str()).expect("open"),
            2 => peer.send_prepared(&Prepared::new(text)).expect("open"),
            3 => peer.send_with(text, SendOptions::new().compression(compression)).expect("open"),
            4 => peer.start_stream(io::Cursor::new(text), options).expect("open"),
            _ => {
                let mut writer = peer.writer(options);
                writer.set_deadline(Instant::now() + DEADLINE);
                let mut rest = text.as_bytes();
                while !rest.is_empty() {
                    let (part, behind) = rest.split_at(1 + dice.roll(rest.len()));
                    writer.write_all(part).expect("open");
                    if dice.roll(3) == 0 {
                        writer.flush().expect("open");
                    }
                    rest = behind;
                }
                writer.finish().expect("open");
            }
        }
    }
}

const SENDERS: usize = 3;
const COUNT: usize = 16;

/// Notes a message of a sender, which must be its next.
fn note(next: &mut [usize; SENDERS], text: &str) {
    let sender: usize = text.split(' ').next().and_then(|sender| sender.parse().ok()).expect("a sender");
    assert!(text == numbered(sender, next[sender]), "{sender} {}: {:.30}", next[sender], text);
    next[sender] += 1;
}

fn exchange(config: Config, receive: Receive) {
    let config = config.max_message_size(4 << 20).slow_consumer(SlowConsumer::Block);
    let server = Server::builder().workers(2).config(config.clone()).bind("127.0.0.1:0").expect("a server");
    let handle = server.handle();
    let url = format!("ws://{}", server.local_addr());
    let client = Client::builder().config(config.receive(receive)).connect(&url).expect("connected");
    let Ok(Event::Open(peer, _)) = server.recv_timeout(DEADLINE) else { panic!("the first event") };
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (to_client, to_server) = (peer.clone(), client.peer());
            scope.spawn(move || send(&to_client, sender, COUNT));
            scope.spawn(move || send(&to_server, sender, COUNT));
        }
        scope.spawn(|| {
            let mut next = [0; SENDERS];
            while next != [COUNT; SENDERS] {
                match server.recv_timeout(DEADLINE) {
                    Ok(Event::Message(_, message)) => note(&mut next, message.as_text().expect("text")),
                    other => panic!("{next:?}: {other:?}"),
                }
            }
        });
        let (mut next, mut dice) = ([0; SENDERS], Dice(7));
        while next != [COUNT; SENDERS] {
            match dice.roll(3) {
                0 => match client.recv_timeout(DEADLINE) {
                    Ok(Some(message)) => note(&mut next, message.as_text().expect("text")),
                    other => panic!("{next:?}: {other:?}"),
                },
                1 => {
                    let mut lent = client.iter();
                    let message = lent.next_ref().expect("not ended").expect("open");
                    note(&mut next, message.as_text().expect("text"));
                }
                _ => {
                    let mut text = String::new();
                    let mut reader = client.recv_reader_timeout(DEADLINE).expect("open").expect("not ended");
                    reader.read_to_string(&mut text).expect("a text");
                    note(&mut next, &text);
                }
            }
        }
    });
    eventually("all is counted", || peer.stats().messages_sent == (SENDERS * COUNT) as u64);
    eventually("all is counted", || client.stats().messages_sent == (SENDERS * COUNT) as u64);
    client.finish(Duration::from_secs(10)).expect("closed");
    drop((client, peer));
    while handle.connections() > 0 {
        let _ = server.recv_timeout(Duration::from_millis(10));
    }
    drop(server);
    eventually("no memory is taken", || handle.memory() == 0);
}

/// A blocking socket receives in any way, with short timeouts, what several threads send it.
fn receive_from_server(config: Config) {
    let config = config.max_message_size(4 << 20).slow_consumer(SlowConsumer::Block);
    let server = Server::builder().workers(1).config(config.clone()).bind("127.0.0.1:0").expect("a server");
    let stream = TcpStream::connect(server.local_addr()).expect("connects");
    let request = ClientRequest::new(format!("ws://{}", server.local_addr()).parse().expect("a URL"));
    let mut socket = WebSocket::connect_with(request, stream, &config).expect("connected");
    socket.get_ref().set_read_timeout(Some(Duration::from_millis(1))).expect("a socket");
    let Ok(Event::Open(peer, _)) = server.recv_timeout(DEADLINE) else { panic!("the first event") };
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            let peer = peer.clone();
            scope.spawn(move || send(&peer, sender, COUNT));
        }
        let (mut next, mut dice) = ([0; SENDERS], Dice(7));
        while next != [COUNT; SENDERS] {
            let received = match dice.roll(4) {
                0 => socket.recv(),
                1 => socket.recv_timeout(Duration::from_millis(dice.roll(3) as u64)),
                2 => socket.recv_ref().map(|message| message.map(|message| message.into_owned())),
                _ => socket.recv_reader().map(|reader| reader.map(|reader| Message::Text(read_text(reader)))),
            };
            match received {
                Ok(Some(message)) => note(&mut next, message.as_text().expect("text")),
                Err(SocketError::Timeout) => {}
                other => panic!("{next:?}: {other:?}"),
            }
        }
    });
    assert_eq!(socket.stats().messages_received, (SENDERS * COUNT) as u64);
    drop(socket);
    while server.handle().connections() > 0 {
        let _ = server.recv_timeout(Duration::from_millis(10));
    }
    drop(peer);
    eventually("no memory is taken", || server.handle().memory() == 0);
}

/// Reads a text to its end, however often its stream times out.
fn read_text(mut reader: impl BufRead) -> String {
    let mut bytes = Vec::new();
    loop {
        match reader.fill_buf() {
            Ok([]) => return String::from_utf8(bytes).expect("UTF-8"),
            Ok(piece) => {
                let size = piece.len();
                bytes.extend_from_slice(piece);
                reader.consume(size);
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}"),
        }
    }
}

#[test]
fn a_socket_receives_what_is_sent_in_any_way() {
    common::logged::install();
    receive_from_server(Config::default());
    #[cfg(feature = "deflate")]
    for takeover in [false, true] {
        let deflate = threadbare::DeflateConfig::default().server_no_context_takeover(!takeover);
        receive_from_server(Config::default().deflate(deflate));
    }
}

#[test]
fn both_ends_send_in_any_way_at_once() {
    common::logged::install();
    for receive in [Receive::Messages, Receive::Fragments { max_size: None }] {
        exchange(Config::default(), receive);
        #[cfg(feature = "deflate")]
        for takeover in [false, true] {
            let deflate = threadbare::DeflateConfig::default()
                .server_no_context_takeover(!takeover)
                .client_no_context_takeover(!takeover);
            exchange(Config::default().deflate(deflate), receive);
        }
    }
}
