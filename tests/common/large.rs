//! A message that is larger than any buffer, sent frame by frame.

use std::io::{self, Write};
use std::net::TcpStream;
use std::thread::JoinHandle;

use threadbare::protocol::frame::{FrameHeader, Opcode};

/// 64 MiB, more than all buffers on its way have together.
pub const LARGE: usize = 64 << 20;

/// The size of each frame of the message.
const FRAME: usize = 1 << 20;

/// The bytes of the message repeat after so many, a number that no buffer is a multiple of.
const PERIOD: usize = 251;

/// The bytes of the message from `offset` on.
pub fn bytes_at(offset: usize, size: usize) -> Vec<u8> {
    (0..size).map(|n| ((offset + n) % PERIOD) as u8).collect()
}

/// Checks that the bytes of a message come in order, as fast as memory is compared.
pub struct Checked {
    pattern: Vec<u8>,
    pub received: usize,
}

impl Checked {
    pub fn new() -> Checked {
        Checked { pattern: bytes_at(0, (1 << 20) + PERIOD), received: 0 }
    }

    pub fn add(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(1 << 20) {
            let start = self.received % PERIOD;
            assert!(self.pattern[start..start + piece.len()] == *piece, "other bytes at {}", self.received);
            self.received += piece.len();
        }
    }
}

/// Sends a binary message of `size` bytes from another thread, in frames of 1 MiB. With `key`, its frames are masked, as a
/// client's are; the key changes nothing, so that a debug build masks fast.
pub fn send_large(stream: &TcpStream, size: usize, masked: bool) -> JoinHandle<io::Result<()>> {
    let mut stream = stream.try_clone().expect("a socket");
    std::thread::spawn(move || {
        let pattern = bytes_at(0, FRAME + PERIOD);
        for start in (0..size).step_by(FRAME) {
            stream.write_all(&frame(&pattern, start, size, masked))?;
        }
        Ok(())
    })
}

/// The frame of the message of `size` bytes that begins at `start`.
fn frame(pattern: &[u8], start: usize, size: usize, masked: bool) -> Vec<u8> {
    let payload = &pattern[start % PERIOD..][..FRAME.min(size - start)];
    let opcode = if start == 0 { Opcode::Binary } else { Opcode::Continuation };
    let key = masked.then_some([0; 4]);
    let header = FrameHeader::new(opcode, payload.len() as u64, key);
    let mut frame = Vec::new();
    FrameHeader { fin: start + payload.len() == size, ..header }.encode(&mut frame);
    frame.extend_from_slice(payload);
    frame
}
