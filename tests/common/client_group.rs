//! Many raw TCP clients on one thread.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use super::DEADLINE;

/// How the server ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
}

/// One connection of a [`ClientGroup`].
pub struct GroupClient {
    stream: Option<mio::net::TcpStream>,
    /// When the client began to connect.
    pub started: Instant,
    pub received: Vec<u8>,
    /// When the first byte was received.
    pub answered: Option<Instant>,
    pub end: Option<End>,
}

impl GroupClient {
    /// The status of the response; `None` until its head is complete.
    pub fn status(&self) -> Option<u16> {
        let complete = self.received.windows(4).any(|window| window == b"\r\n\r\n");
        complete.then(|| std::str::from_utf8(&self.received[9..12]).ok()?.parse().ok())?
    }

    /// Whether the client closed its socket itself.
    pub fn is_disconnected(&self) -> bool {
        self.stream.is_none()
    }
}

/// Clients that all send the same bytes and store what they receive.
pub struct ClientGroup {
    poll: Poll,
    events: Events,
    pub clients: Vec<GroupClient>,
}

impl ClientGroup {
    pub fn new() -> ClientGroup {
        ClientGroup { poll: Poll::new().expect("a poll"), events: Events::with_capacity(1024), clients: Vec::new() }
    }

    /// Connects `count` more clients.
    pub fn connect(&mut self, addr: SocketAddr, count: usize) {
        for _ in 0..count {
            let started = Instant::now();
            let stream = std::net::TcpStream::connect_timeout(&addr, DEADLINE).expect("connects");
            stream.set_nodelay(true).expect("a socket");
            stream.set_nonblocking(true).expect("a socket");
            let mut stream = mio::net::TcpStream::from_std(stream);
            let token = Token(self.clients.len());
            self.poll.registry().register(&mut stream, token, Interest::READABLE).expect("registers");
            let (received, answered, end) = (Vec::new(), None, None);
            self.clients.push(GroupClient { stream: Some(stream), started, received, answered, end });
        }
    }

    /// Sends a few bytes on every open socket, also after the server's FIN. After a reset the write fails, which is
    /// ignored.
    pub fn send(&mut self, bytes: &[u8]) {
        for client in &mut self.clients {
            if let Some(stream) = &mut client.stream {
                match stream.write(bytes) {
                    Ok(size) => assert_eq!(size, bytes.len(), "the socket buffer has room for a few bytes"),
                    Err(error) => assert_ne!(error.kind(), ErrorKind::WouldBlock, "the socket buffer has room"),
                }
            }
        }
    }

    /// Closes the sockets of the clients that `which` selects, and returns how many those are.
    pub fn disconnect(&mut self, mut which: impl FnMut(&GroupClient) -> bool) -> usize {
        let selected = self.clients.iter_mut().filter(|client| !client.is_disconnected() && which(client));
        selected.map(|client| client.stream = None).count()
    }

    pub fn count(&self, which: impl Fn(&GroupClient) -> bool) -> usize {
        self.clients.iter().filter(|client| which(client)).count()
    }

    /// Waits at most `timeout` for something to arrive, and receives it.
    pub fn poll(&mut self, timeout: Duration) {
        if let Err(error) = self.poll.poll(&mut self.events, Some(timeout)) {
            assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
        }
        for event in &self.events {
            let client = &mut self.clients[event.token().0];
            let Some(stream) = &mut client.stream else { continue };
            let mut chunk = [0; 4096];
            while client.end.is_none() {
                match stream.read(&mut chunk) {
                    Ok(0) => client.end = Some(End::Fin),
                    Ok(size) => {
                        client.answered.get_or_insert_with(Instant::now);
                        client.received.extend_from_slice(&chunk[..size]);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => client.end = Some(End::Reset),
                }
            }
        }
    }

    /// Receives until `which` selects at least `count` clients. `what` says in the panic message what was waited for.
    pub fn wait_for(&mut self, what: &str, count: usize, which: impl Fn(&GroupClient) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while self.count(&which) < count {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: only {} of {count}", self.count(&which));
            self.poll(left);
        }
    }
}

/// `clients`, or fewer if this process may not open enough files for that many: the server's ends of the connections and
/// other tests of this process need files as well.
pub fn within_file_limit(clients: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok());
    clients.min(files.unwrap_or(256_usize) / 16)
}
