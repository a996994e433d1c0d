//! The bare loops: they know in advance what they receive, and read, unmask and write.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use peer_common::large::Large;
use peers::deflated;
use peers::handshake::Request;
use peers::tls::{self, Stream};
use peers::wire::{self, Mode};
use threadbare::protocol::frame::{FrameHeader, Opcode, RSV1};
use threadbare::protocol::mask;

use crate::case::{Case, Direction, Transport};
use crate::incoming::Incoming;
use crate::message::{KEY, PIECE, frame, text_frame};

/// So much is compressed into a frame: the library's `Config::fragment_size`, by default.
const COMPRESSED: usize = 32 << 10;

/// The library's level, by default.
const LEVEL: u32 = 1;

pub(crate) struct Bare {
    pub(crate) case: Case,
    pub(crate) addr: String,
    pub(crate) message: Large,
    /// Where the certificate is.
    pub(crate) certificate: PathBuf,
}

impl Bare {
    /// Serves one connection, or is the client of one.
    pub(crate) fn run(&self) -> io::Result<()> {
        let tls = self.case.transport == Transport::Tls;
        let (socket, stream) = if self.case.way.is_server() {
            let file = |name: &str| self.certificate.join(name);
            let config = tls.then(|| tls::server_config(&file("chain.pem"), &file("key.pem"))).transpose()?;
            let (socket, _) = TcpListener::bind(&self.addr)?.accept()?;
            (socket.try_clone()?, wire::accept(socket, config.as_ref(), Mode::Blocking)?.0)
        } else {
            let config = tls.then(tls::client_config).transpose()?;
            let request = match self.case.transport {
                Transport::Deflate => Request::with_deflate(&self.addr),
                Transport::Plain | Transport::Tls => Request::new(&self.addr),
            };
            let socket = TcpStream::connect(&self.addr)?;
            (socket.try_clone()?, wire::connect(socket, config.as_ref(), &request, Mode::Blocking)?)
        };
        let mut connection = Connection {
            bare: self,
            socket,
            stream,
            key: (!self.case.way.is_server()).then_some(KEY),
            incoming: Incoming::default(),
            buffer: vec![0; PIECE],
            scratch: Vec::new(),
        };
        match self.case.direction {
            Direction::In => connection.receive()?,
            Direction::Out => connection.send()?,
            Direction::Echo => connection.echo()?,
        }
        // Until the other end has looked at this process, and closes the connection.
        let _ = connection.read(|_| Ok(()));
        Ok(())
    }
}

struct Connection<'a> {
    bare: &'a Bare,
    /// The socket of the stream. What is not encrypted is written to it while the stream reads.
    socket: TcpStream,
    stream: Stream,
    key: Option<[u8; 4]>,
    incoming: Incoming,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
}

impl Connection<'_> {
    /// Reads once. Returns whether a message ended.
    fn read(&mut self, mut take: impl FnMut(&mut [u8]) -> io::Result<()>) -> io::Result<bool> {
        let Connection { stream, incoming, buffer, .. } = self;
        let mut is_over = false;
        wire::read(stream, buffer, |bytes| {
            is_over |= incoming.receive(bytes, &mut take)?;
            Ok(())
        })?;
        Ok(is_over)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        wire::write_all(&mut self.stream, bytes, &mut self.scratch)
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut hasher = crc32fast::Hasher::new();
        while !self.read(|payload| {
            hasher.update(payload);
            Ok(())
        })? {}
        let checksum = format!("{:08x}", hasher.finalize());
        self.write(&text_frame(&checksum, self.key))
    }

    fn send(&mut self) -> io::Result<()> {
        while !self.read(|_| Ok(()))? {}
        let (mut source, key) = (self.bare.message.source(), self.key.unwrap_or_default());
        if self.bare.case.transport == Transport::Deflate {
            let (mut deflater, mut part, mut frames) =
                (Deflater::new(&self.bare.message, self.key), vec![0; COMPRESSED], Vec::new());
            while let size @ 1.. = source.read(&mut part)? {
                frames.clear();
                deflater.push(&part[..size], &mut frames)?;
                self.write(&frames)?;
            }
            return Ok(());
        }
        self.write(&self.header())?;
        let (mut part, mut sent) = (vec![0; PIECE], 0);
        while let size @ 1.. = source.read(&mut part)? {
            if self.key.is_some() {
                mask::apply(&mut part[..size], mask::rotated(key, sent));
            }
            self.write(&part[..size])?;
            sent += size as u64;
        }
        Ok(())
    }

    fn echo(&mut self) -> io::Result<()> {
        let mut is_over = false;
        let mut out = Vec::new();
        if self.bare.case.transport == Transport::Deflate {
            let mut deflater = Deflater::new(&self.bare.message, self.key);
            while !is_over {
                is_over = self.read(|payload| deflater.push(payload, &mut out))?;
                self.write(&out)?;
                out.clear();
            }
            return Ok(());
        }
        // The header leaves with the first bytes: what follows the opening handshake at once would be taken for a part of it.
        let (mut socket, key, header) = (self.socket.try_clone()?, self.key, self.header());
        let (mut sent, is_plain) = (0, self.bare.case.transport == Transport::Plain);
        while !is_over {
            is_over = self.read(|payload| {
                let header = if sent == 0 { &header[..] } else { &[] };
                if let Some(key) = key {
                    mask::apply(payload, mask::rotated(key, sent));
                }
                sent += payload.len() as u64;
                if is_plain {
                    socket.write_all(header)?;
                    return socket.write_all(payload);
                }
                out.extend_from_slice(header);
                out.extend_from_slice(payload);
                Ok(())
            })?;
            self.write(&out)?;
            out.clear();
        }
        Ok(())
    }

    /// The header of a frame with the whole message.
    fn header(&self) -> Vec<u8> {
        let mut header = Vec::new();
        FrameHeader::new(Opcode::Binary, self.bare.message.size, self.key).encode(&mut header);
        header
    }
}

/// Compresses what comes of the message into a frame.
struct Deflater {
    encoder: DeflateEncoder<Vec<u8>>,
    key: Option<[u8; 4]>,
    pushed: u64,
    size: u64,
}

impl Deflater {
    fn new(message: &Large, key: Option<[u8; 4]>) -> Deflater {
        let encoder = DeflateEncoder::new(Vec::new(), Compression::new(LEVEL));
        Deflater { encoder, key, pushed: 0, size: message.size }
    }

    fn push(&mut self, part: &[u8], frames: &mut Vec<u8>) -> io::Result<()> {
        if part.is_empty() {
            return Ok(());
        }
        self.encoder.write_all(part)?;
        self.encoder.flush()?;
        let is_first = self.pushed == 0;
        self.pushed += part.len() as u64;
        let fin = self.pushed == self.size;
        let compressed = self.encoder.get_mut();
        let payload = match compressed.strip_suffix(&deflated::TAIL) {
            Some(payload) if fin => payload,
            _ => compressed,
        };
        let (opcode, rsv) = if is_first { (Opcode::Binary, RSV1) } else { (Opcode::Continuation, 0) };
        let header = FrameHeader { fin, rsv, ..FrameHeader::new(opcode, payload.len() as u64, self.key) };
        frames.extend(frame(header, payload));
        compressed.clear();
        Ok(())
    }
}
