//! A WebSocket client that sends exactly the bytes of the test, and receives with a deadline; and what several tests need.
#![allow(dead_code, unreachable_pub, missing_docs)] // each test uses a part of it

pub mod app;
pub mod bridge;
pub mod client_group;
pub mod http;
pub mod large;
pub mod logged;
#[cfg(target_os = "linux")]
pub mod memory;
pub mod server_end;
#[cfg(target_os = "linux")]
pub mod server_process;
pub mod servers;
#[cfg(unix)]
pub mod sockets;
pub mod stalled;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use threadbare::protocol::frame::{FrameHeader, Opcode};
use threadbare::protocol::handshake::accept_key;
use threadbare::protocol::mask;
use threadbare::{Event, Peer, Server};

/// The timeout of every wait. A passing test never waits this long, not even on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The masking key of all frames.
pub const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// An error and its causes, as `error: cause: cause of that`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = error.source().map(|source| format!(": {}", chain(source)));
    format!("{error}{}", causes.unwrap_or_default())
}

/// An unmasked frame, as a server sends it.
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

    /// The status code of a close frame; 1005 if it has none.
    pub fn close_code(&self) -> u16 {
        assert_eq!(self.opcode, Opcode::Close, "{self:?}");
        self.payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))
    }
}

/// The request of an opening handshake.
pub fn request(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    )
}

/// Reads a request up to the end of its head, and nothing behind it.
pub fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a request");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("ASCII")
}

/// Accepts a connection and reads its request, for a server that the test plays itself. Returns the request's key.
pub fn accept_request(listener: &TcpListener) -> (TcpStream, String) {
    logged::install();
    let (mut stream, _) = listener.accept().expect("a client");
    let request = read_head(&mut stream);
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
    (stream, key.to_owned())
}

/// Accepts a connection and completes its opening handshake, for a server that the test plays itself. `frames` is sent in
/// the same write as the response.
pub fn accept(listener: &TcpListener, frames: &[u8]) -> TcpStream {
    let (mut stream, key) = accept_request(listener);
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        accept_key(&key)
    );
    stream.write_all(&[head.as_bytes(), frames].concat()).expect("written");
    stream
}

/// The bytes of a masked frame, as a client sends it.
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

/// A client, which is no more than a TCP connection and a buffer of received bytes.
pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects without an opening handshake.
    pub fn tcp(addr: SocketAddr) -> Client {
        Client::from_stream(TcpStream::connect(addr).expect("connects"))
    }

    /// A client on a connected socket.
    pub fn from_stream(stream: TcpStream) -> Client {
        logged::install();
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        stream.set_write_timeout(Some(DEADLINE)).expect("a socket");
        Client { stream, buffer: Vec::new() }
    }

    /// Connects and completes the opening handshake.
    pub fn open(addr: SocketAddr) -> Client {
        Client::open_with(addr, "/", "")
    }

    /// As [`open`](Client::open), with a path and further header lines, each of which ends in CRLF.
    pub fn open_with(addr: SocketAddr, path: &str, headers: &str) -> Client {
        let mut client = Client::tcp(addr);
        client.opening_handshake(path, headers);
        client
    }

    /// As [`open`](Client::open), with a small receive buffer: the kernel accepts little that the test does not read.
    pub fn open_with_small_buffer(addr: SocketAddr) -> Client {
        let socket =
            socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(128 << 10).expect("a socket");
        socket.connect(&addr.into()).expect("connects");
        let mut client = Client::from_stream(socket.into());
        client.opening_handshake("/", "");
        client
    }

    fn opening_handshake(&mut self, path: &str, headers: &str) {
        self.send(request(path, headers).as_bytes());
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads it");
    }

    /// Receives a response head, with its empty line.
    pub fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = self.buffer.drain(..end + 4).collect();
                return String::from_utf8(head).expect("a head in ASCII");
            }
            assert!(self.read() > 0, "the connection ended inside a head: {:?}", String::from_utf8_lossy(&self.buffer));
        }
    }

    /// Receives a response and the end of the stream, and returns the status.
    pub fn status(&mut self) -> u16 {
        let head = self.head();
        self.read_to_end();
        head[9..12].parse().expect("a status")
    }

    /// Receives a frame; `None` at the end of the stream.
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
            if self.read() == 0 {
                assert!(self.buffer.is_empty(), "the connection ended inside a frame");
                return None;
            }
        }
    }

    /// Receives a frame; panics at the end of the stream.
    pub fn expect_frame(&mut self) -> Frame {
        self.frame().expect("a frame")
    }

    /// Asserts that a close frame with this code is received, and then the end of the stream.
    pub fn expect_close(&mut self, code: u16) {
        assert_eq!(self.expect_frame().close_code(), code);
        assert_eq!(self.frame(), None, "nothing follows a close frame");
    }

    /// Receives a close frame with this code, answers it, and receives FIN.
    pub fn answer_close(&mut self, code: u16) {
        assert_eq!(self.expect_frame().close_code(), code);
        self.send(&close(code));
        assert_eq!(self.frame(), None, "the server sends FIN first");
    }

    /// Receives everything up to the end of the stream.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.read() > 0 {}
        std::mem::take(&mut self.buffer)
    }

    /// Reads once into the buffer; 0 at the end of the stream. Panics at the deadline and on a reset.
    pub fn read(&mut self) -> usize {
        self.try_read().expect("no reset, and within the deadline")
    }

    /// Reads once into the buffer; 0 at the end of the stream.
    pub fn try_read(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16384];
        let size = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..size]);
        Ok(size)
    }

    /// Closes the socket with RST instead of FIN.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    }

    /// Waits until the server closes the connection, with FIN or RST.
    pub fn wait_for_end(&mut self) {
        while self.try_read().is_ok_and(|size| size > 0) {}
    }
}

/// Starts a thread that writes messages of 10,000 bytes on the client's socket, `bytes` in all.
pub fn flood(client: &Client, bytes: usize) -> JoinHandle<io::Result<()>> {
    let mut stream = client.stream.try_clone().expect("a socket");
    std::thread::spawn(move || {
        let message = binary(&[7; 10_000]);
        (0..bytes / message.len()).try_for_each(|_| stream.write_all(&message))
    })
}

/// The status of the response to an opening handshake; `None` if the connection is refused.
pub fn handshake_status(addr: SocketAddr) -> Option<u16> {
    let mut client = Client::from_stream(TcpStream::connect(addr).ok()?);
    client.send(request("/", "").as_bytes());
    Some(client.status())
}

/// Polls until `condition` holds: for what no event reports, such as a count that another thread updates.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    logged::install();
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "timed out: {what}");
        std::thread::yield_now();
    }
}

/// Opens a connection to a server whose events the test receives itself.
pub fn open_with_peer(server: &Server) -> (Client, Peer) {
    let client = Client::open(server.local_addr());
    match server.recv_timeout(DEADLINE) {
        Ok(Event::Open(peer, _)) => (client, peer),
        other => panic!("{other:?}"),
    }
}

/// Serializes the tests that hold the guard: those that count what the whole process has, such as threads, file
/// descriptors or memory.
pub fn serialize_test() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    logged::install();
    // A test that failed does not keep the others from running.
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The names of the library's threads in this process, sorted; none where the system does not list threads. A thread has
/// its name once it runs.
pub fn server_threads() -> Vec<String> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    let mut names: Vec<_> = names.map(|name| name.trim().to_owned()).filter(|name| name.starts_with("ws-")).collect();
    names.sort();
    names
}

/// Waits until the library has no thread in this process. The system may list a thread that was joined for a moment.
pub fn wait_for_end_of_threads(of: &str) {
    eventually(&format!("the threads of {of} end"), || server_threads().is_empty());
}
