//! Relays between two sockets.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

/// Where a [`Relay`] cuts what it passes on.
#[derive(Clone, Copy, Debug)]
pub enum Cuts {
    /// Behind every so many bytes.
    Every(usize),
    /// At random, by this seed: most pieces are small, some are large.
    Random(u64),
}

impl Cuts {
    fn next(&mut self) -> usize {
        match self {
            Cuts::Every(size) => *size,
            Cuts::Random(state) => {
                // xorshift64.
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                let size = 1 << (*state % 15);
                size + (*state >> 32) as usize % size
            }
        }
    }
}

/// A port that passes everything on to a server, cut anywhere.
#[derive(Debug)]
pub struct Relay {
    /// The port.
    pub addr: SocketAddr,
}

impl Relay {
    /// Begins to relay connections to `server`, until the process ends.
    #[must_use]
    pub fn to(server: SocketAddr, cuts: Cuts) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(server) else { continue };
                join(client, server, cuts);
            }
        });
        Relay { addr }
    }
}

/// Passes on everything between two sockets, in both directions.
fn join(one: TcpStream, other: TcpStream, cuts: Cuts) {
    for (from, to) in [(&one, &other), (&other, &one)] {
        let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
        to.set_nodelay(true).expect("a socket");
        thread::spawn(move || {
            // The end of one side is the end of the other.
            let _ = pass_on(&from, &to, cuts);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}

fn pass_on(mut from: &TcpStream, mut to: &TcpStream, mut cuts: Cuts) -> io::Result<()> {
    let mut chunk = [0; 32 << 10];
    loop {
        let size = cuts.next().min(chunk.len());
        match from.read(&mut chunk[..size])? {
            0 => return Ok(()),
            size => to.write_all(&chunk[..size])?,
        }
    }
}

/// How a [`tunnel`] is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// By HTTP's CONNECT.
    Connect,
    /// By SOCKS5.
    Socks5,
}

/// Starts a proxy for one connection. It passes on to whatever server it is asked for.
#[must_use]
pub fn tunnel(kind: Tunnel) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let port = match kind {
            Tunnel::Connect => connect(&mut client),
            Tunnel::Socks5 => socks(&mut client),
        };
        let server = TcpStream::connect(("127.0.0.1", port)).expect("the server");
        join(client, server, Cuts::Every(32 << 10));
    });
    addr
}

fn connect(client: &mut TcpStream) -> u16 {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("a request");
        head.push(byte[0]);
    }
    client.write_all(b"HTTP/1.1 200 Go ahead\r\n\r\n").expect("written");
    let head = String::from_utf8(head).expect("ASCII");
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).expect("a target");
    target.rsplit(':').next().expect("a port").parse().expect("a number")
}

fn socks(client: &mut TcpStream) -> u16 {
    let mut greeting = [0; 2];
    client.read_exact(&mut greeting).expect("a greeting");
    let mut methods = vec![0; usize::from(greeting[1])];
    client.read_exact(&mut methods).expect("methods");
    client.write_all(&[5, 0]).expect("written");
    let mut request = [0; 4];
    client.read_exact(&mut request).expect("a request");
    let size = match request[3] {
        1 => 4,
        4 => 16,
        _ => {
            let mut size = [0];
            client.read_exact(&mut size).expect("the size of a name");
            usize::from(size[0])
        }
    };
    let mut rest = vec![0; size + 2];
    client.read_exact(&mut rest).expect("an address and a port");
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).expect("written");
    u16::from_be_bytes([rest[size], rest[size + 1]])
}
