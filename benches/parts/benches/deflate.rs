//! permessage-deflate: JSON messages of a chat, compressed by one endpoint and inflated by the other.

use divan::counter::BytesCount;
use divan::{Bencher, bench, black_box};
use threadbare::protocol::deflate::{Codec, Compression};
use threadbare::protocol::frame::{self, Opcode};
use threadbare::protocol::http::Request;
use threadbare::protocol::{Connection, Received, Role};
use threadbare::{DeflateConfig, DeflateParams};

const MESSAGES: usize = 64;

#[derive(Clone, Copy, Debug)]
enum Takeover {
    With,
    Without,
}

/// The level, whether there is context takeover, and the size of a message in bytes.
const CASES: [(u8, Takeover, usize); 8] = [
    (1, Takeover::Without, 128),
    (1, Takeover::Without, 4096),
    (1, Takeover::With, 128),
    (1, Takeover::With, 4096),
    (6, Takeover::Without, 128),
    (6, Takeover::Without, 4096),
    (6, Takeover::With, 128),
    (6, Takeover::With, 4096),
];

fn main() {
    for (level, takeover, size) in CASES {
        let messages = messages(size);
        let (mut server, mut client) = pair(level, takeover);
        let (mut codec, mut frames) = (Codec::new(), Vec::new());
        compress(&mut server, &mut codec, &messages, &mut frames);
        let sum: usize = messages.iter().map(Vec::len).sum();
        assert!(frames.len() < sum, "level {level}, {takeover:?}: {} bytes of {sum}", frames.len());
        assert_eq!(inflate(&mut client, &mut codec, &mut frames), messages, "level {level}, {takeover:?}");
        eprintln!("level {level}, {takeover:?} takeover, messages of {size}: {} bytes of {sum}", frames.len());
    }
    divan::main();
}

/// JSON objects that differ in some values.
fn messages(size: usize) -> Vec<Vec<u8>> {
    let message = |serial: usize| {
        let mut text = String::new();
        for line in serial.. {
            let (user, number) = (line % 17, line.wrapping_mul(0x9E37_79B9) % 100_000);
            text += &format!(
                r#"{{"type":"message","room":"lobby","user":"user{user}","id":{number},"text":"hello {number}"}},"#
            );
            if text.len() >= size {
                break;
            }
        }
        text.truncate(size);
        text.into_bytes()
    };
    (0..MESSAGES).map(message).collect()
}

fn params(level: u8, takeover: Takeover) -> DeflateParams {
    let without = matches!(takeover, Takeover::Without);
    let config = DeflateConfig::default()
        .level(level)
        .threshold(0)
        .server_no_context_takeover(without)
        .client_no_context_takeover(without);
    let head = format!("GET / HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Extensions: {}\r\n\r\n", config.offer());
    let request = Request::parse(head.as_bytes(), ([127, 0, 0, 1], 9).into()).expect("a request");
    config.accept(request.extensions()).expect("its own offer").0
}

/// Both ends of a connection. Both directions have the same parameters, so both ends do.
fn pair(level: u8, takeover: Takeover) -> (Connection, Connection) {
    let end = |role| Connection::new(role, 1 << 20).with_deflate(params(level, takeover));
    (end(Role::Server), end(Role::Client))
}

fn compress(server: &mut Connection, codec: &mut Codec, messages: &[Vec<u8>], frames: &mut Vec<u8>) {
    frames.clear();
    for message in messages {
        let deflated = server.compress(message, Compression::Auto, codec).expect("compression pays");
        frame::encode_compressed(frames, Opcode::Text, deflated, None);
    }
}

fn inflate(client: &mut Connection, codec: &mut Codec, frames: &mut [u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut rest = frames;
    while !rest.is_empty() {
        let (size, received) = client.receive_with(rest, codec).expect("valid");
        if let Received::Assembled(message) = received {
            messages.push(message.as_message().as_bytes().to_vec());
        }
        rest = &mut rest[size..];
    }
    messages
}

/// Compresses 64 messages.
#[bench(args = CASES)]
fn compress_64(bencher: Bencher<'_, '_>, (level, takeover, size): (u8, Takeover, usize)) {
    let messages = messages(size);
    let (mut server, _) = pair(level, takeover);
    let (mut codec, mut frames) = (Codec::new(), Vec::new());
    bencher.counter(BytesCount::new(MESSAGES * size)).bench_local(|| {
        compress(&mut server, &mut codec, black_box(&messages), &mut frames);
    });
}

/// Inflates the same 64 messages. With context takeover that needs a new client each time, whose creation is not measured.
#[bench(args = CASES)]
fn inflate_64(bencher: Bencher<'_, '_>, (level, takeover, size): (u8, Takeover, usize)) {
    let messages = messages(size);
    let (mut server, _) = pair(level, takeover);
    let (mut codec, mut frames) = (Codec::new(), Vec::new());
    compress(&mut server, &mut codec, &messages, &mut frames);
    bencher
        .counter(BytesCount::new(MESSAGES * size))
        .with_inputs(|| (pair(level, takeover).1, frames.clone()))
        .bench_local_values(|(mut client, mut frames)| inflate(&mut client, &mut codec, &mut frames));
}
