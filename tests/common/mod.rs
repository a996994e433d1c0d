//! A WebSocket client that says exactly what it is told, and waits with a deadline for what it expects.
#![allow(dead_code, unreachable_pub, missing_docs)] // each test uses its part

pub mod app;
#[cfg(target_os = "linux")]
pub mod child;
pub mod crowd;
pub mod http;
#[cfg(target_os = "linux")]
pub mod memory;
pub mod servers;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use threadbare::protocol::frame::{FrameHeader, Opcode};
use threadbare::protocol::handshake::accept_key;
use threadbare::protocol::mask;

/// Long enough for a busy machine; nothing waits this long when all is well.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame as a server sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    pub rsv: u8,
    pub opcode: Opcode,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn text(text: &str) -> Frame {
        Frame { fin: true, rsv: 0, opcode: Opcode::Text, payload: text.into() }
    }

    pub fn binary(bytes: &[u8]) -> Frame {
        Frame { fin: true, rsv: 0, opcode: Opcode::Binary, payload: bytes.to_vec() }
    }

    pub fn pong(bytes: &[u8]) -> Frame {
        Frame { fin: true, rsv: 0, opcode: Opcode::Pong, payload: bytes.to_vec() }
    }

    /// The code of a close frame; 1005 if it has none.
    pub fn close_code(&self) -> u16 {
        assert_eq!(self.opcode, Opcode::Close, "{self:?}");
        self.payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))
    }
}

/// The request that opens a connection.
pub fn request(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    )
}

/// Takes a client's connection and completes its handshake, as a server that then does nothing; `behind` goes out with the
/// answer.
pub fn accept(listener: &TcpListener, behind: &[u8]) -> TcpStream {
    let (mut stream, _) = listener.accept().expect("a client");
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a request");
        request.push(byte[0]);
    }
    let request = String::from_utf8(request).expect("ASCII");
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        accept_key(key)
    );
    stream.write_all(&[head.as_bytes(), behind].concat()).expect("written");
    stream
}

/// A masked frame, as a client sends it.
pub fn masked(fin: bool, rsv: u8, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    FrameHeader { fin, rsv, opcode, mask: Some(KEY), payload_len: payload.len() as u64 }.encode(&mut out);
    let start = out.len();
    out.extend_from_slice(payload);
    mask::apply(&mut out[start..], KEY);
    out
}

pub fn text(text: &str) -> Vec<u8> {
    masked(true, 0, Opcode::Text, text.as_bytes())
}

pub fn binary(bytes: &[u8]) -> Vec<u8> {
    masked(true, 0, Opcode::Binary, bytes)
}

pub fn ping(payload: &[u8]) -> Vec<u8> {
    masked(true, 0, Opcode::Ping, payload)
}

pub fn close(code: u16) -> Vec<u8> {
    masked(true, 0, Opcode::Close, &code.to_be_bytes())
}

/// A TCP connection to a server under test.
pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects without a handshake.
    pub fn tcp(addr: SocketAddr) -> Client {
        Client::over(TcpStream::connect(addr).expect("connects"))
    }

    /// A client on a socket that is connected already.
    pub fn over(stream: TcpStream) -> Client {
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        stream.set_write_timeout(Some(DEADLINE)).expect("a socket");
        Client { stream, buffer: Vec::new() }
    }

    /// Connects and completes the opening handshake.
    pub fn open(addr: SocketAddr) -> Client {
        Client::open_with(addr, "/", "")
    }

    /// Connects with a path and further header lines, each ending in CRLF.
    pub fn open_with(addr: SocketAddr, path: &str, headers: &str) -> Client {
        let mut client = Client::tcp(addr);
        client.shake_hands(path, headers);
        client
    }

    /// Opens a connection whose kernel takes little that is not read.
    pub fn narrow(addr: SocketAddr) -> Client {
        let socket =
            socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(128 << 10).expect("a socket");
        socket.connect(&addr.into()).expect("connects");
        let mut client = Client::over(socket.into());
        client.shake_hands("/", "");
        client
    }

    fn shake_hands(&mut self, path: &str, headers: &str) {
        self.send(request(path, headers).as_bytes());
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server takes it");
    }

    /// The next response head, with its empty line.
    pub fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = self.buffer.drain(..end + 4).collect();
                return String::from_utf8(head).expect("a head in ASCII");
            }
            assert!(self.fill() > 0, "the connection ended inside a head: {:?}", String::from_utf8_lossy(&self.buffer));
        }
    }

    /// The status of the next response, whose body is read to its end.
    pub fn status(&mut self) -> u16 {
        let head = self.head();
        self.rest();
        head[9..12].parse().expect("a status")
    }

    /// The next frame; `None` at the end of the stream.
    pub fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((header, size)) = FrameHeader::parse(&self.buffer).expect("a valid frame") {
                assert_eq!(header.mask, None, "a server does not mask");
                let end = size + header.payload_len as usize;
                if self.buffer.len() >= end {
                    let payload = self.buffer[size..end].to_vec();
                    self.buffer.drain(..end);
                    return Some(Frame { fin: header.fin, rsv: header.rsv, opcode: header.opcode, payload });
                }
            }
            if self.fill() == 0 {
                assert!(self.buffer.is_empty(), "the connection ended inside a frame");
                return None;
            }
        }
    }

    /// The next frame, which there must be.
    pub fn expect_frame(&mut self) -> Frame {
        self.frame().expect("a frame")
    }

    /// Asserts that a close frame with this code comes next, and then the end of the stream.
    pub fn expect_close(&mut self, code: u16) {
        assert_eq!(self.expect_frame().close_code(), code);
        assert_eq!(self.frame(), None, "nothing follows a close frame");
    }

    /// Everything up to the end of the stream.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() > 0 {}
        std::mem::take(&mut self.buffer)
    }

    /// Reads once; 0 at the end. Panics at the deadline and on a reset.
    pub fn fill(&mut self) -> usize {
        self.try_fill().expect("no reset, and within the deadline")
    }

    /// Reads once; 0 at the end.
    pub fn try_fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16384];
        let size = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..size]);
        Ok(size)
    }

    /// Sends RST instead of FIN when dropped.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    }

    /// Waits until the server ends the connection, with FIN or RST.
    pub fn wait_for_end(&mut self) {
        while self.try_fill().is_ok_and(|size| size > 0) {}
    }
}

/// Polls until `condition` holds; for what no event tells, such as a count in another thread.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "{what} did not come to hold");
        std::thread::yield_now();
    }
}
