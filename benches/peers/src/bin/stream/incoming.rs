//! Messages that arrive: their frames parsed, unmasked in place, and decompressed.

use std::io;

use flate2::{Decompress, FlushDecompress};
use peers::deflated;
use threadbare::protocol::frame::{FrameHeader, MAX_HEADER_SIZE, RSV1};
use threadbare::protocol::mask;

/// So much is decompressed at once.
const INFLATED: usize = 64 << 10;

/// The messages of one connection. Control frames are not expected.
#[derive(Default)]
pub(crate) struct Incoming {
    /// The beginning of a header.
    header: Vec<u8>,
    /// The frame whose payload arrives, and how much of that is still to come.
    frame: Option<(FrameHeader, u64)>,
    /// If the message is compressed.
    inflater: Option<Inflater>,
}

impl Incoming {
    /// Passes on the payload of what was read. Returns whether a message ended; what follows its end is an error.
    pub(crate) fn receive(
        &mut self,
        mut bytes: &mut [u8],
        mut take: impl FnMut(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        while !bytes.is_empty() {
            match &mut self.frame {
                None => bytes = self.receive_header(bytes)?,
                Some((header, left)) => {
                    let size = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    let (payload, rest) = bytes.split_at_mut(size);
                    bytes = rest;
                    if let Some(key) = header.mask {
                        mask::apply(payload, mask::rotated(key, header.payload_len - *left));
                    }
                    *left -= size as u64;
                    match &mut self.inflater {
                        Some(inflater) => inflater.inflate(payload, &mut take)?,
                        None => take(payload)?,
                    }
                }
            }
            if self.ends_message(&mut take)? {
                return if bytes.is_empty() { Ok(true) } else { Err(io::Error::other("more than a message")) };
            }
        }
        Ok(false)
    }

    fn receive_header<'a>(&mut self, bytes: &'a mut [u8]) -> io::Result<&'a mut [u8]> {
        let before = self.header.len();
        let most = bytes.len().min(MAX_HEADER_SIZE - before);
        self.header.extend_from_slice(&bytes[..most]);
        let Some((header, size)) = FrameHeader::parse(&self.header).map_err(io::Error::other)? else {
            return Ok(&mut bytes[most..]);
        };
        if header.opcode.is_control() {
            return Err(io::Error::other(format!("a frame of control: {header:?}")));
        }
        self.header.clear();
        if header.rsv == RSV1 {
            self.inflater = Some(Inflater::new());
        }
        self.frame = Some((header, header.payload_len));
        Ok(&mut bytes[size - before..])
    }

    /// Ends the frame if all of it has come. Returns whether the message ended with it.
    fn ends_message(&mut self, take: &mut impl FnMut(&mut [u8]) -> io::Result<()>) -> io::Result<bool> {
        let Some((header, _)) = self.frame.take_if(|(_, left)| *left == 0) else { return Ok(false) };
        if header.fin
            && let Some(mut inflater) = self.inflater.take()
        {
            inflater.inflate(&deflated::TAIL, take)?;
        }
        Ok(header.fin)
    }
}

struct Inflater {
    state: Decompress,
    inflated: Vec<u8>,
}

impl Inflater {
    fn new() -> Inflater {
        Inflater { state: Decompress::new(false), inflated: vec![0; INFLATED] }
    }

    fn inflate(&mut self, mut payload: &[u8], take: &mut impl FnMut(&mut [u8]) -> io::Result<()>) -> io::Result<()> {
        loop {
            let (read, written) = (self.state.total_in(), self.state.total_out());
            self.state.decompress(payload, &mut self.inflated, FlushDecompress::Sync).map_err(io::Error::other)?;
            payload = &payload[(self.state.total_in() - read) as usize..];
            let written = (self.state.total_out() - written) as usize;
            take(&mut self.inflated[..written])?;
            if payload.is_empty() && written < self.inflated.len() {
                return Ok(());
            }
        }
    }
}
