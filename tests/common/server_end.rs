//! The server's end of a connection, which the test plays itself.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use threadbare::protocol::frame::{FrameHeader, Opcode};
use threadbare::protocol::mask;

use super::{DEADLINE, accept};

/// A close frame with 1000.
pub const CLOSE: &[u8] = b"\x88\x02\x03\xe8";

/// A frame of a client, with its payload unmasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masked {
    pub fin: bool,
    pub opcode: Opcode,
    pub key: [u8; 4],
    pub payload: Vec<u8>,
}

/// A port of this host, and the URL of a server there.
pub fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}/", listener.local_addr().expect("an address"));
    (listener, url)
}

/// A connection to a client.
pub struct ServerEnd {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl ServerEnd {
    /// Accepts a client, and completes its opening handshake.
    pub fn accept(listener: &TcpListener) -> ServerEnd {
        let stream = accept(listener, &[]);
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        ServerEnd { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the client reads it");
    }

    /// Receives a frame; `None` at the end of the stream.
    pub fn frame(&mut self) -> Option<Masked> {
        loop {
            if let Some((header, size)) = FrameHeader::parse(&self.buffer).expect("a valid frame") {
                let end = size + header.payload_len as usize;
                if self.buffer.len() >= end {
                    let key = header.mask.expect("RFC 6455 5.1: a client masks all its frames");
                    let mut payload = self.buffer[size..end].to_vec();
                    mask::apply(&mut payload, key);
                    self.buffer.drain(..end);
                    return Some(Masked { fin: header.fin, opcode: header.opcode, key, payload });
                }
            }
            let mut chunk = [0; 65536];
            match self.stream.read(&mut chunk).expect("no reset, and within the deadline") {
                0 => {
                    assert!(self.buffer.is_empty(), "the connection ended inside a frame");
                    return None;
                }
                size => self.buffer.extend_from_slice(&chunk[..size]),
            }
        }
    }

    /// Receives a frame; panics at the end of the stream.
    pub fn expect_frame(&mut self) -> Masked {
        self.frame().expect("a frame")
    }

    /// Receives frames up to the close frame, which is the last.
    pub fn frames(&mut self) -> Vec<Masked> {
        let mut frames = Vec::new();
        while frames.last().is_none_or(|last: &Masked| last.opcode != Opcode::Close) {
            frames.push(self.expect_frame());
        }
        frames
    }
}
