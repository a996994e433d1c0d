//! Peers by rustls' other API, which send what a test says.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ConnectionCommon, ServerConfig, ServerConnection, SideData, StreamOwned};
use threadbare::protocol::frame::{FrameHeader, Opcode};
use threadbare::protocol::handshake::accept_key;
use threadbare::protocol::mask;

use crate::DEADLINE;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame, with its payload unmasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub opcode: Opcode,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a close frame.
    #[must_use]
    pub fn close_code(&self) -> u16 {
        assert_eq!(self.opcode, Opcode::Close, "{self:?}");
        self.payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))
    }
}

/// The bytes of a client's frame.
#[must_use]
pub fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    FrameHeader::new(opcode, payload.len() as u64, Some(KEY)).encode(&mut bytes);
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    mask::apply(&mut bytes[start..], KEY);
    bytes
}

/// The bytes of a server's frame.
#[must_use]
pub fn unmasked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    FrameHeader::new(opcode, payload.len() as u64, None).encode(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

/// The request of an opening handshake.
#[must_use]
pub fn request(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    )
}

/// How the other end ended the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By `close_notify`.
    CloseNotify,
    /// By FIN, without `close_notify`.
    Fin,
    /// By RST.
    Reset,
    /// By an alert, of this text.
    Alert(String),
}

/// One end of a connection with TLS.
pub struct Side<C: Deref<Target = ConnectionCommon<D>> + DerefMut, D: SideData> {
    /// The session and its socket.
    pub tls: StreamOwned<C, TcpStream>,
    buffer: Vec<u8>,
}

/// A client.
pub type RawClient = Side<ClientConnection, rustls::client::ClientConnectionData>;

/// A server's end.
pub type RawServer = Side<ServerConnection, rustls::server::ServerConnectionData>;

fn prepared(stream: TcpStream) -> TcpStream {
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    stream.set_write_timeout(Some(DEADLINE)).expect("a socket");
    stream
}

impl RawClient {
    /// A client on a connected socket, before the handshake of TLS.
    #[must_use]
    pub fn on(stream: TcpStream, name: &str, config: impl Into<Arc<ClientConfig>>) -> RawClient {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut session = ClientConnection::new(config.into(), name).expect("a session");
        session.set_buffer_limit(None);
        Side { tls: StreamOwned::new(session, prepared(stream)), buffer: Vec::new() }
    }

    /// Connects, and completes the handshake of TLS.
    #[must_use]
    pub fn connect(addr: SocketAddr, config: impl Into<Arc<ClientConfig>>) -> RawClient {
        let mut client = RawClient::on(TcpStream::connect(addr).expect("connects"), "localhost", config);
        client.handshake().expect("a handshake");
        client
    }

    /// Connects, and completes the opening handshake.
    #[must_use]
    pub fn open(addr: SocketAddr, config: impl Into<Arc<ClientConfig>>) -> RawClient {
        let mut client = RawClient::connect(addr, config);
        client.open_websocket();
        client
    }

    /// As [`open`](RawClient::open), with a small receive buffer: the kernel accepts little that the test does not read.
    #[must_use]
    pub fn open_with_small_buffer(addr: SocketAddr, config: impl Into<Arc<ClientConfig>>) -> RawClient {
        let socket =
            socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(128 << 10).expect("a socket");
        socket.connect(&addr.into()).expect("connects");
        let mut client = RawClient::on(socket.into(), "localhost", config);
        client.handshake().expect("a handshake");
        client.open_websocket();
        client
    }

    /// Does the opening handshake.
    pub fn open_websocket(&mut self) {
        self.send(request("/", "").as_bytes());
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    }

    /// Sends a message of text.
    pub fn send_text(&mut self, text: &str) {
        self.send(&masked(Opcode::Text, text.as_bytes()));
    }

    /// Sends a text, and receives it back.
    pub fn echo(&mut self, text: &str) {
        self.send_text(text);
        assert_eq!(self.frame(), Some(Frame { opcode: Opcode::Text, payload: text.into() }));
    }
}

impl RawServer {
    /// Accepts a client, and completes the handshake of TLS.
    ///
    /// # Errors
    /// The handshake failed.
    pub fn accept(listener: &TcpListener, config: impl Into<Arc<ServerConfig>>) -> io::Result<RawServer> {
        let (stream, _) = listener.accept().expect("a client");
        let mut session = ServerConnection::new(config.into()).expect("a session");
        session.set_buffer_limit(None);
        let mut server = Side { tls: StreamOwned::new(session, prepared(stream)), buffer: Vec::new() };
        server.handshake()?;
        Ok(server)
    }

    /// Accepts a client, and completes the opening handshake.
    #[must_use]
    pub fn open(listener: &TcpListener, config: impl Into<Arc<ServerConfig>>) -> RawServer {
        let mut server = RawServer::accept(listener, config).expect("a handshake");
        server.answer("");
        server
    }

    /// Answers the request of an opening handshake, with further header lines.
    pub fn answer(&mut self, headers: &str) {
        let head = self.head();
        let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n{headers}\r\n",
            accept_key(key)
        );
        self.send(answer.as_bytes());
    }
}

impl<C: Deref<Target = ConnectionCommon<D>> + DerefMut, D: SideData> Side<C, D> {
    /// Completes the handshake of TLS.
    ///
    /// # Errors
    /// It failed.
    pub fn handshake(&mut self) -> io::Result<()> {
        while self.tls.conn.is_handshaking() {
            self.tls.conn.complete_io(&mut self.tls.sock)?;
        }
        self.tls.flush()
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.tls.write_all(bytes).and_then(|()| self.tls.flush()).expect("the other end reads it");
    }

    /// The records of these bytes, which are not sent.
    pub fn seal(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.tls.conn.writer().write_all(bytes).expect("sealed");
        let mut sealed = Vec::new();
        while self.tls.conn.wants_write() {
            self.tls.conn.write_tls(&mut sealed).expect("to memory");
        }
        sealed
    }

    /// Sends bytes beside TLS.
    pub fn send_in_the_clear(&mut self, bytes: &[u8]) {
        self.tls.sock.write_all(bytes).expect("the other end reads it");
    }

    /// Reads once; 0 at `close_notify`.
    ///
    /// # Errors
    /// The connection ended in another way, or the deadline has passed.
    pub fn read(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16384];
        let size = self.tls.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..size]);
        Ok(size)
    }

    /// Receives a head of HTTP, with its empty line.
    pub fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                return String::from_utf8(self.buffer.drain(..end + 4).collect()).expect("a head in ASCII");
            }
            assert!(self.read().expect("more of a head") > 0, "the connection ended inside a head");
        }
    }

    /// Receives a frame; `None` at `close_notify`.
    pub fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((header, size)) = FrameHeader::parse(&self.buffer).expect("a valid frame") {
                let end = size + header.payload_len as usize;
                if self.buffer.len() >= end {
                    let mut payload = self.buffer[size..end].to_vec();
                    if let Some(key) = header.mask {
                        mask::apply(&mut payload, key);
                    }
                    self.buffer.drain(..end);
                    return Some(Frame { opcode: header.opcode, payload });
                }
            }
            if self.read().expect("no reset, and within the deadline") == 0 {
                assert!(self.buffer.is_empty(), "the connection ended inside a frame");
                return None;
            }
        }
    }

    /// Receives a frame; panics at the end.
    pub fn expect_frame(&mut self) -> Frame {
        self.frame().expect("a frame")
    }

    /// Receives up to the end, and returns how that came, with what was received.
    pub fn end(&mut self) -> (End, Vec<u8>) {
        loop {
            let end = match self.read() {
                Ok(0) => End::CloseNotify,
                Ok(_) => continue,
                Err(error) => match error.kind() {
                    io::ErrorKind::UnexpectedEof => End::Fin,
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => End::Reset,
                    io::ErrorKind::InvalidData => End::Alert(error.to_string()),
                    _ => panic!("{error}"),
                },
            };
            return (end, std::mem::take(&mut self.buffer));
        }
    }
}

impl<C: Deref<Target = ConnectionCommon<D>> + DerefMut, D: SideData> std::fmt::Debug for Side<C, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Side").finish_non_exhaustive()
    }
}
