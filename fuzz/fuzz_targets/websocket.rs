//! A blocking server over a stream that sends anything: it ends with an error or a close, and takes no more memory than it may.
#![no_main]

use std::io::{self, Cursor, Read, Write};

use libfuzzer_sys::fuzz_target;
use threadbare::{Accept, Config, DeflateConfig, WebSocket};

/// Brings bytes in pieces, and takes what is written.
struct Pieces {
    bytes: Cursor<Vec<u8>>,
    size: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.size.min(buffer.len());
        self.bytes.read(&mut buffer[..size])
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const HEAD: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

fuzz_target!(|data: &[u8]| {
    let [size, options, data @ ..] = data else { return };
    // With the head of a client, or whatever else.
    let bytes = if options & 1 == 0 { [HEAD, data].concat() } else { data.to_vec() };
    let stream = Pieces { bytes: Cursor::new(bytes), size: usize::from(*size).max(1) };
    let config = Config::default().max_message_size(4096).deflate(DeflateConfig::default());
    let Ok(mut socket) = WebSocket::accept_with(stream, &config, |_| Ok(Accept::new())) else { return };
    loop {
        let received = match options & 6 {
            0 => socket.recv_ref().map(|message| message.map(|message| message.as_bytes().len())),
            2 => socket.recv().map(|message| message.map(|message| message.as_bytes().len())),
            _ => read(&mut socket),
        };
        match received {
            Ok(Some(size)) => assert!(options & 4 != 0 || size <= 4096, "the limit holds"),
            Ok(None) | Err(_) => return,
        }
    }
});

/// Reads a message as a stream.
fn read(socket: &mut WebSocket<Pieces>) -> Result<Option<usize>, threadbare::SocketError> {
    let Some(mut reader) = socket.recv_reader()? else { return Ok(None) };
    match io::copy(&mut reader, &mut io::sink()) {
        Ok(size) => Ok(Some(size as usize)),
        Err(_) => Ok(None),
    }
}
