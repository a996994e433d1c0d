//! The frames of an established connection: however they are cut, the application sees the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use threadbare::protocol::close::CloseFrame;
use threadbare::protocol::deflate::{Codec, DeflateParams};
use threadbare::protocol::http::Request;
use threadbare::protocol::{Connection, Received, Role};
use threadbare::{DeflateConfig, MessageRef, PeerAddr};

/// No message is larger. Small, so that inputs reach it.
const LIMIT: u64 = 2000;

/// What an application sees.
#[derive(Debug, PartialEq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<CloseFrame>),
    Failed,
}

/// How a connection is set up.
#[derive(Clone, Copy)]
struct Setup {
    role: Role,
    deflate: Option<DeflateParams>,
    fragments: bool,
}

/// What a server or a client has agreed on.
fn negotiated(options: u8) -> DeflateParams {
    let without = options & 8 == 0;
    let config = DeflateConfig::default()
        .server_no_context_takeover(without)
        .client_no_context_takeover(without)
        .server_max_window_bits(9 + (options >> 5) % 7);
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    let request = Request::parse(head, PeerAddr::Unknown).expect("a request");
    let (params, answer) = config.accept(request.extensions()).expect("an offer");
    if options & 1 == 0 { params } else { config.confirm([answer.as_bytes()]).expect("an answer").expect("deflate") }
}

impl Setup {
    fn of(options: u8) -> Setup {
        Setup {
            role: if options & 1 == 0 { Role::Server } else { Role::Client },
            deflate: (options & 2 != 0).then(|| negotiated(options)),
            fragments: options & 4 != 0,
        }
    }

    /// What is seen of these pieces.
    fn seen<'a>(self, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Seen> {
        let mut connection = Connection::new(self.role, LIMIT);
        if let Some(params) = self.deflate {
            connection = connection.with_deflate(params);
        }
        if self.fragments {
            connection.deliver_fragments(Some(LIMIT));
        }
        let (mut codec, mut seen, mut message) = (Codec::new(), Vec::new(), Vec::new());
        for piece in pieces {
            let mut piece = piece.to_vec();
            let mut rest = &mut piece[..];
            while !rest.is_empty() {
                let Ok((taken, received)) = connection.receive_with(rest, &mut codec) else {
                    seen.push(Seen::Failed);
                    return seen;
                };
                assert!(taken > 0, "each step takes something");
                see(received, &mut message, &mut seen);
                rest = &mut rest[taken..];
            }
        }
        seen
    }
}

fn see(received: Received<'_>, message: &mut Vec<u8>, seen: &mut Vec<Seen>) {
    match received {
        Received::Nothing => {}
        Received::Message(whole) => seen.push(whole_message(whole)),
        Received::Assembled(parts) => seen.push(whole_message(parts.as_message())),
        Received::Fragment(fragment) => {
            part(fragment.is_text(), fragment.as_bytes(), fragment.is_last(), message, seen)
        }
        Received::OwnFragment(fragment) => {
            part(fragment.is_text(), fragment.as_bytes(), fragment.is_last(), message, seen);
        }
        Received::Ping(payload) => seen.push(Seen::Ping(payload.into_owned())),
        Received::Pong(payload) => seen.push(Seen::Pong(payload.into_owned())),
        Received::Close(frame) => seen.push(Seen::Close(frame)),
    }
}

fn whole_message(message: MessageRef<'_>) -> Seen {
    assert!(message.as_bytes().len() as u64 <= LIMIT, "the limit holds");
    match message {
        MessageRef::Text(text) => Seen::Text(text.to_owned()),
        other => Seen::Binary(other.as_bytes().to_owned()),
    }
}

fn part(is_text: bool, bytes: &[u8], is_last: bool, message: &mut Vec<u8>, seen: &mut Vec<Seen>) {
    // Text is never cut inside a character.
    assert!(!is_text || std::str::from_utf8(bytes).is_ok());
    message.extend_from_slice(bytes);
    assert!(message.len() as u64 <= LIMIT, "the limit holds");
    if is_last {
        let message = std::mem::take(message);
        seen.push(if is_text { Seen::Text(String::from_utf8(message).unwrap()) } else { Seen::Binary(message) });
    }
}

fuzz_target!(|data: &[u8]| {
    let [options, cuts, bytes @ ..] = data else { return };
    let setup = Setup::of(*options);
    let whole = setup.seen([bytes].into_iter());
    assert_eq!(setup.seen(bytes.chunks(usize::from(*cuts).max(1))), whole);
    assert_eq!(Setup { fragments: !setup.fragments, ..setup }.seen([bytes].into_iter()), whole);
});
