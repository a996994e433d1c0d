//! `send_json` against `serde_json::to_writer` into a `Vec` and a send, over a socket without a peer.
//!
//!     cargo bench --manifest-path benches/parts/Cargo.toml --features serde_json --bench json
//!
//! `direct` is `send_json`; `vec` is what an application without it does best: a `Vec` that serves again, and a send of what is
//! borrowed. `fresh` makes a `String` for each message. What all of them send is compared before they are timed.

use std::io::{self, Read, Write};

use divan::Bencher;
use divan::counter::BytesCount;
use serde_json::{Value, json};
use threadbare::{Config, MessageRef, Role, WebSocket};

/// The number of orders in a value.
const SIZES: [usize; 3] = [1, 16, 400];

fn main() {
    for size in SIZES {
        for role in [Role::Server, Role::Client] {
            let sent = [direct, vec, fresh].map(|send| {
                let (mut socket, value, mut buffer) = (socket(role, true), value(size), Vec::new());
                for _ in 0..2 {
                    send(&mut socket, &value, &mut buffer);
                }
                unmasked(role, socket.get_ref().written.as_deref().expect("it is kept"))
            });
            assert!(sent[0] == sent[1] && sent[0] == sent[2], "{size} orders, {role:?}");
            assert_eq!(sent[0].len(), 2);
            assert_eq!(serde_json::from_slice::<Value>(&sent[0][1]).expect("JSON"), value(size));
        }
    }
    divan::main();
}

/// A stream that takes everything, and brings nothing.
struct Sink {
    written: Option<Vec<u8>>,
}

impl Read for Sink {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.written {
            Some(written) => written.extend_from_slice(bytes),
            None => drop(divan::black_box(bytes)),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn socket(role: Role, keeps: bool) -> WebSocket<Sink> {
    WebSocket::from_established(Sink { written: keeps.then(Vec::new) }, role, Vec::new(), &Config::default())
}

fn value(orders: usize) -> Value {
    let order =
        |number: usize| json!({ "id": number, "symbol": "EURUSD", "price": 1.0625, "is_open": true, "note": null });
    json!({ "type": "orders", "orders": (0..orders).map(order).collect::<Vec<_>>() })
}

/// The payloads of the frames.
fn unmasked(role: Role, mut frames: &[u8]) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while !frames.is_empty() {
        let (header, size) = threadbare::protocol::frame::FrameHeader::parse(frames).expect("valid").expect("complete");
        let end = size + header.payload_len as usize;
        let mut payload = frames[size..end].to_vec();
        assert_eq!(header.mask.is_some(), role == Role::Client);
        if let Some(key) = header.mask {
            threadbare::protocol::mask::apply(&mut payload, key);
        }
        payloads.push(payload);
        frames = &frames[end..];
    }
    payloads
}

fn direct(socket: &mut WebSocket<Sink>, value: &Value, _: &mut Vec<u8>) {
    socket.send_json(value).expect("sent");
}

fn vec(socket: &mut WebSocket<Sink>, value: &Value, buffer: &mut Vec<u8>) {
    buffer.clear();
    serde_json::to_writer(&mut *buffer, value).expect("JSON");
    // As text, it would be checked to be UTF-8 first.
    socket.send(MessageRef::Binary(buffer)).expect("sent");
}

fn fresh(socket: &mut WebSocket<Sink>, value: &Value, _: &mut Vec<u8>) {
    socket.send(serde_json::to_string(value).expect("JSON")).expect("sent");
}

type SendValue = fn(&mut WebSocket<Sink>, &Value, &mut Vec<u8>);

fn measure(bencher: Bencher<'_, '_>, role: Role, size: usize, send: SendValue) {
    let (mut socket, value, mut buffer) = (socket(role, false), value(size), Vec::new());
    let bytes = serde_json::to_vec(&value).expect("JSON").len();
    bencher.counter(BytesCount::new(bytes)).bench_local(|| send(&mut socket, divan::black_box(&value), &mut buffer));
}

macro_rules! benches {
    ($($module:ident: $role:expr),*) => {
        $(mod $module {
            use super::*;

            #[divan::bench(args = SIZES)]
            fn direct(bencher: Bencher<'_, '_>, size: usize) {
                measure(bencher, $role, size, super::direct);
            }

            #[divan::bench(args = SIZES)]
            fn vec(bencher: Bencher<'_, '_>, size: usize) {
                measure(bencher, $role, size, super::vec);
            }

            #[divan::bench(args = SIZES)]
            fn fresh(bencher: Bencher<'_, '_>, size: usize) {
                measure(bencher, $role, size, super::fresh);
            }
        })*
    };
}

benches!(server: Role::Server, client: Role::Client);
