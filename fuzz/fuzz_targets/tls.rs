//! TLS with a peer that is genuine up to some byte, and then sends anything: bytes are changed, cut, repeated, or made up.
#![no_main]

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use threadbare::{ClientTls, Tls, TlsStream};

/// One direction between two ends on the same thread.
#[derive(Default)]
struct Way {
    bytes: Vec<u8>,
    /// So many were put in before.
    passed: usize,
    ended: bool,
}

/// An end of a connection that does not block.
struct End {
    incoming: Rc<RefCell<Way>>,
    outgoing: Rc<RefCell<Way>>,
    /// At most so many bytes are read at once.
    piece: usize,
}

impl Read for End {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut way = self.incoming.borrow_mut();
        if way.bytes.is_empty() {
            return if way.ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let size = self.piece.min(buffer.len()).min(way.bytes.len());
        buffer[..size].copy_from_slice(&way.bytes[..size]);
        way.bytes.drain(..size);
        Ok(size)
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut way = self.outgoing.borrow_mut();
        way.bytes.extend_from_slice(bytes);
        way.passed += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

static SETTINGS: LazyLock<(Tls, ClientTls)> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let server = Tls::from_pem(made.cert.pem(), made.signing_key.serialize_pem()).expect("settings");
    let client = ClientTls::builder().no_default_roots().root_pem(made.cert.pem()).build().expect("settings");
    (server, client)
});

/// What is done to the bytes that the attacked end receives, from some byte on.
struct Attack<'a> {
    from: usize,
    kind: u8,
    bytes: &'a [u8],
}

impl Attack<'_> {
    /// Changes what is on its way. Returns whether the attack has begun.
    fn apply(&self, way: &mut Way) -> bool {
        let start = way.passed - way.bytes.len();
        if way.passed <= self.from {
            return false;
        }
        let at = self.from.saturating_sub(start).min(way.bytes.len());
        let rest = way.bytes.split_off(at);
        match self.kind % 4 {
            0 => way.bytes.extend_from_slice(self.bytes),
            1 => way.bytes.extend(rest.iter().zip(self.bytes.iter().chain(std::iter::repeat(&0))).map(|(a, b)| a ^ b)),
            2 => way.bytes.extend(rest.iter().skip(self.bytes.len())),
            _ => {
                way.bytes.extend_from_slice(self.bytes);
                way.bytes.extend(rest);
            }
        }
        way.ended = true;
        true
    }
}

/// Sends a little, and reads all there is. Returns whether it can go on.
fn turn(stream: &mut TlsStream<End>, says: bool, read: &mut usize) -> bool {
    let mut buffer = [0; 700];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(size) => *read += size,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(_) => return false,
        }
    }
    let sent = if says { stream.write(b"some words").map(|_| ()) } else { Ok(()) };
    let flushed = sent.and_then(|()| stream.flush());
    flushed.is_ok() || flushed.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

fuzz_target!(|data: &[u8]| {
    let [options, from_0, from_1, piece, bytes @ ..] = data else { return };
    let (to_server, to_client) = (Rc::new(RefCell::new(Way::default())), Rc::new(RefCell::new(Way::default())));
    let (server_tls, client_tls) = &*SETTINGS;
    let piece = usize::from(*piece).max(1);
    let server_end = End { incoming: to_server.clone(), outgoing: to_client.clone(), piece };
    let client_end = End { incoming: to_client.clone(), outgoing: to_server.clone(), piece };
    let server = server_tls.accept(server_end).expect("a session");
    let client = client_tls.connect("localhost", client_end).expect("a session");
    let attacks_server = options & 1 == 0;
    let attacked = if attacks_server { &to_server } else { &to_client };
    let from = u16::from_le_bytes([*from_0, *from_1]) % 4096;
    let attack = Attack { from: from.into(), kind: options >> 1, bytes };
    let (mut attacked_end, mut other_end) = if attacks_server { (server, client) } else { (client, server) };
    let (mut read, mut has_begun) = (0, false);
    for round in 0..12 {
        let says = round > 4;
        let _ = turn(&mut other_end, says, &mut 0);
        if !has_begun {
            has_begun = attack.apply(&mut attacked.borrow_mut());
        }
        if !turn(&mut attacked_end, says, &mut read) && has_begun {
            break;
        }
    }
    // Each record that comes out was sealed by the peer, and is whole.
    assert!(read % 10 == 0, "{read} bytes");
});
