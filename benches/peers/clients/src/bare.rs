//! A bare loop that receives compressed messages: it reads, and decompresses each with flate2.

use std::io::{Read, Write};

use flate2::{Decompress, FlushDecompress};
use threadbare::protocol::frame::{FrameHeader, RSV1};

use crate::target::Target;
use crate::{Outcome, Received, Reply};

const READ: usize = 256 << 10;

/// RFC 7692 7.2.2: what the receiver appends to a message.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// It does not check that text is UTF-8, and knows that each message has one frame.
pub(crate) fn inflate(target: &Target, mut received: Received) -> Outcome {
    let mut stream = target.connect()?;
    let request = format!(
        "GET /feed HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n\r\n",
        target.addr
    );
    stream.write_all(request.as_bytes())?;
    let (mut buffer, mut filled) = (vec![0; READ], 0);
    let mut inflater = Decompress::new(false);
    let mut inflated = vec![0; received.size + 1];
    let mut has_head = false;
    loop {
        filled += match stream.read(&mut buffer[filled..])? {
            0 => return Ok(()),
            read => read,
        };
        let mut start = 0;
        if !has_head {
            let Some(end) = buffer[..filled].windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
            (has_head, start) = (true, end + 4);
        }
        while let Some((header, size)) = FrameHeader::parse(&buffer[start..filled])? {
            let end = start + size + usize::try_from(header.payload_len)?;
            if end > filled {
                break;
            }
            let payload = &buffer[start + size..end];
            let reply = if header.rsv == RSV1 {
                // Without context takeover a message refers to none before it, so that the state need not be reset.
                let before = inflater.total_out();
                inflater.decompress(payload, &mut inflated, FlushDecompress::None)?;
                let done = (inflater.total_out() - before) as usize;
                inflater.decompress(&TAIL, &mut inflated[done..], FlushDecompress::Sync)?;
                received.take(&inflated[..(inflater.total_out() - before) as usize])?
            } else {
                received.take(payload)?
            };
            if let Reply::Count(count) = reply {
                // Masked with zeros.
                let mut frame = vec![0x81, 0x80 | count.len() as u8, 0, 0, 0, 0];
                frame.extend_from_slice(count.as_bytes());
                stream.write_all(&frame)?;
            }
            start = end;
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
    }
}
