//! The frames that an engine receives, and those that it must write.

use threadbare::protocol::frame::{self, Opcode};

/// Masked text frames, as a client sends them.
#[derive(Clone, Debug)]
pub struct Block {
    /// The frames as bytes.
    pub frames: Vec<u8>,
    /// The number of frames.
    pub messages: usize,
    /// What a server that echoes them writes.
    pub reply: Vec<u8>,
}

impl Block {
    /// Whole frames with `payload` bytes each, at least 64 KiB together.
    #[must_use]
    pub fn of_64_kib(payload: usize) -> Block {
        let mut block = Block { frames: Vec::new(), messages: 0, reply: Vec::new() };
        while block.frames.len() < 64 << 10 {
            block.push(payload);
        }
        block
    }

    /// `messages` whole frames with `payload` bytes each.
    #[must_use]
    pub fn of_messages(messages: usize, payload: usize) -> Block {
        let mut block = Block { frames: Vec::new(), messages: 0, reply: Vec::new() };
        for _ in 0..messages {
            block.push(payload);
        }
        block
    }

    fn push(&mut self, payload: usize) {
        let seed = (self.messages as u32).wrapping_mul(0x9E37_79B9);
        let text: Vec<u8> = (0..payload).map(|n| b' ' + ((n as u32 ^ seed) % 95) as u8).collect();
        let key = (seed | 0x0101_0101).to_be_bytes();
        frame::encode(&mut self.frames, Opcode::Text, &text, Some(key));
        frame::encode(&mut self.reply, Opcode::Text, &text, None);
        self.messages += 1;
    }
}
