//! Many clients on one thread.

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

/// One of many clients.
pub struct Member {
    stream: Option<mio::net::TcpStream>,
    /// When it began to connect.
    pub started: Instant,
    pub received: Vec<u8>,
    /// When the first byte came.
    pub answered: Option<Instant>,
    pub end: Option<End>,
}

impl Member {
    /// The status of the response, once its head is there.
    pub fn status(&self) -> Option<u16> {
        let whole = self.received.windows(4).any(|window| window == b"\r\n\r\n");
        whole.then(|| std::str::from_utf8(&self.received[9..12]).ok()?.parse().ok())?
    }

    /// It went by itself.
    pub fn has_left(&self) -> bool {
        self.stream.is_none()
    }
}

/// Clients that send what they are told and keep what they receive.
pub struct Crowd {
    poll: Poll,
    events: Events,
    pub members: Vec<Member>,
}

impl Crowd {
    pub fn new() -> Crowd {
        Crowd { poll: Poll::new().expect("a poll"), events: Events::with_capacity(1024), members: Vec::new() }
    }

    /// `count` more clients connect.
    pub fn connect(&mut self, addr: SocketAddr, count: usize) {
        for _ in 0..count {
            let started = Instant::now();
            let stream = std::net::TcpStream::connect_timeout(&addr, DEADLINE).expect("connects");
            stream.set_nodelay(true).expect("a socket");
            stream.set_nonblocking(true).expect("a socket");
            let mut stream = mio::net::TcpStream::from_std(stream);
            let token = Token(self.members.len());
            self.poll.registry().register(&mut stream, token, Interest::READABLE).expect("registers");
            let (received, answered, end) = (Vec::new(), None, None);
            self.members.push(Member { stream: Some(stream), started, received, answered, end });
        }
    }

    /// Every client that is there sends these few bytes, after the server's FIN too. After its RST nobody can.
    pub fn send(&mut self, bytes: &[u8]) {
        for member in &mut self.members {
            if let Some(stream) = &mut member.stream {
                match stream.write(bytes) {
                    Ok(size) => assert_eq!(size, bytes.len(), "there is room for little"),
                    Err(error) => assert_ne!(error.kind(), ErrorKind::WouldBlock, "there is room for little"),
                }
            }
        }
    }

    /// These clients hang up.
    pub fn leave(&mut self, mut which: impl FnMut(&Member) -> bool) -> usize {
        let leaving = self.members.iter_mut().filter(|member| !member.has_left() && which(member));
        leaving.map(|member| member.stream = None).count()
    }

    pub fn count(&self, which: impl Fn(&Member) -> bool) -> usize {
        self.members.iter().filter(|member| which(member)).count()
    }

    /// Receives for this long, unless something comes earlier.
    pub fn turn(&mut self, timeout: Duration) {
        if let Err(error) = self.poll.poll(&mut self.events, Some(timeout)) {
            assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
        }
        for event in &self.events {
            let member = &mut self.members[event.token().0];
            let Some(stream) = &mut member.stream else { continue };
            let mut chunk = [0; 4096];
            while member.end.is_none() {
                match stream.read(&mut chunk) {
                    Ok(0) => member.end = Some(End::Fin),
                    Ok(size) => {
                        member.answered.get_or_insert_with(Instant::now);
                        member.received.extend_from_slice(&chunk[..size]);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => member.end = Some(End::Reset),
                }
            }
        }
    }

    /// Receives until this many are such.
    pub fn until(&mut self, what: &str, count: usize, which: impl Fn(&Member) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while self.count(&which) < count {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: only {} of {count}", self.count(&which));
            self.turn(left);
        }
    }
}

/// So many clients, or as many as this process can have beside other tests, with the server's ends of them.
pub fn up_to(clients: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok());
    clients.min(files.unwrap_or(256_usize) / 16)
}
