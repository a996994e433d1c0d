//! Messages that inflate to more than is allowed, over real sockets: at a server, a client and a blocking socket.
#![cfg(target_os = "linux")] // reads /proc

mod common;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use common::child::Child;
use common::memory::Memory;
use common::servers::echo;
use common::{Client as Raw, DEADLINE, Frame, masked};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use threadbare::protocol::frame::{FrameHeader, Opcode, RSV1};
use threadbare::protocol::handshake::accept_key;
use threadbare::protocol::mask;
use threadbare::{
    Accept, Client, ClientRequest, CloseCause, Config, DeflateConfig, Message, ReceiveError, Role, Server,
    ServerBuilder, SocketError, Url, WebSocket,
};

const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

const MIB: u64 = 1 << 20;

/// Without this the allocator may keep for itself what it is given back, and what is measured depend on what was before.
const ALLOCATOR: &str = "export MALLOC_MMAP_THRESHOLD_=16384 MALLOC_TRIM_THRESHOLD_=16384";

fn config(limit: u64) -> Config {
    Config::default().max_message_size(limit as usize).deflate(DeflateConfig::default())
}

fn builder(limit: u64) -> ServerBuilder {
    Server::builder().config(config(limit))
}

/// Memory is measured for a whole process, so that one test at a time may use it.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The end of a flush, which a message leaves out (RFC 7692 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// The payload of a compressed message.
fn deflated(payload: &[u8]) -> Vec<u8> {
    compressed(Compression::fast(), [payload].into_iter())
}

/// The payload of a compressed message that comes in pieces.
fn compressed<'p>(level: Compression, pieces: impl Iterator<Item = &'p [u8]>) -> Vec<u8> {
    let mut compress = Compress::new(level, false);
    let mut out = Vec::new();
    let mut feed = |mut piece: &[u8], flush| {
        loop {
            out.reserve(64 << 10);
            let before = compress.total_in();
            compress.compress_vec(piece, &mut out, flush).expect("compressed");
            piece = &piece[(compress.total_in() - before) as usize..];
            if piece.is_empty() && out.len() < out.capacity() {
                break;
            }
        }
    };
    pieces.for_each(|piece| feed(piece, FlushCompress::None));
    feed(&[], FlushCompress::Sync);
    assert!(out.ends_with(&TAIL));
    out.truncate(out.len() - TAIL.len());
    out
}

/// A gigabyte of zeros in a megabyte.
fn bomb() -> &'static [u8] {
    static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
    BOMB.get_or_init(|| {
        let megabyte = vec![0; 1 << 20];
        let bomb = compressed(Compression::best(), std::iter::repeat_n(&megabyte[..], 1024));
        assert!(bomb.len() < 1_200_000 && stands_for(&bomb) == 1 << 30, "{} bytes", bomb.len());
        bomb
    })
}

/// How many bytes a piece of the bomb inflates to.
fn stands_for(mut bytes: &[u8]) -> u64 {
    let mut decompress = Decompress::new(false);
    let mut out = vec![0; 1 << 20];
    loop {
        let (read, made) = (decompress.total_in(), decompress.total_out());
        decompress.decompress(bytes, &mut out, FlushDecompress::None).expect("a deflate stream");
        bytes = &bytes[(decompress.total_in() - read) as usize..];
        if bytes.is_empty() && decompress.total_out() - made < out.len() as u64 {
            return decompress.total_out();
        }
    }
}

/// A frame as `role` sends it.
fn frame(role: Role, fin: bool, rsv: u8, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    match role {
        Role::Client => masked(fin, rsv, opcode, payload),
        Role::Server => {
            let mut out = Vec::new();
            FrameHeader { fin, rsv, opcode, mask: None, payload_len: payload.len() as u64 }.encode(&mut out);
            out.extend_from_slice(payload);
            out
        }
    }
}

/// The bomb in one frame.
fn flat(role: Role) -> Vec<u8> {
    frame(role, true, RSV1, Opcode::Binary, bomb())
}

/// The bomb in 1,000 frames.
fn fragmented(role: Role) -> Vec<u8> {
    let size = bomb().len().div_ceil(1000);
    let last = bomb().len().div_ceil(size) - 1;
    assert!((990..1000).contains(&last), "{last}");
    let piece = |(index, piece): (usize, &[u8])| match index {
        0 => frame(role, false, RSV1, Opcode::Binary, piece),
        _ => frame(role, index == last, 0, Opcode::Continuation, piece),
    };
    bomb().chunks(size).enumerate().flat_map(piece).collect()
}

/// The most that `act` adds to the memory in use.
fn rise(memory: &Memory, act: impl FnOnce()) -> u64 {
    let before = memory.resident();
    memory.reset_peak();
    act();
    memory.peak().saturating_sub(before)
}

/// Sends what the server need not take to its end.
fn offer(client: &mut Raw, bytes: &[u8]) {
    let _ = client.stream.write_all(bytes);
}

/// A few connections that each inflate a little, so that every worker has what it keeps for all of them.
fn warm_up(addr: SocketAddr) {
    let mut clients: Vec<Raw> = (0..8).map(|_| Raw::open_with(addr, "/", OFFER)).collect();
    let hello = deflated(b"Hello");
    for client in &mut clients {
        client.send(&masked(true, RSV1, Opcode::Text, &hello));
        assert_eq!(client.expect_frame(), Frame::text("Hello"));
    }
}

#[test]
fn a_15_a_17_bombs_end_with_1009_at_a_server_in_bounded_memory() {
    let name = "a_15_a_17_bombs_end_with_1009_at_a_server_in_bounded_memory";
    let limit = MIB;
    let Some(child) = Child::start(name, ALLOCATOR, builder(limit)) else { return };
    let _alone = alone();
    warm_up(child.addr);
    for (dress, bytes) in [("flat", flat(Role::Client)), ("in 1,000 fragments", fragmented(Role::Client))] {
        for _ in 0..3 {
            let mut client = Raw::open_with(child.addr, "/", OFFER);
            let rise = rise(&child.memory(), || {
                offer(&mut client, &bytes);
                // a second message behind the bomb does not change the code, which is told once.
                offer(&mut client, &bytes);
                client.expect_close(1009);
            });
            println!("a bomb, {dress}, with a limit of {limit}: {rise} bytes more");
            assert!(rise < limit + MIB, "a bomb, {dress}: {rise} bytes more");
        }
    }
    warm_up(child.addr);
}

#[test]
fn a_15_a_hundred_bombs_at_once_take_no_more_than_a_hundred_messages() {
    let name = "a_15_a_hundred_bombs_at_once_take_no_more_than_a_hundred_messages";
    let limit = MIB;
    let Some(child) = Child::start(name, ALLOCATOR, builder(limit)) else { return };
    let _alone = alone();
    // All but ignited: what each has sent stays below the limit, and is inflated.
    let (fuse, charge) = bomb().split_at(900);
    let held = stands_for(fuse);
    assert!((limit / 2..limit).contains(&held), "{held}");
    warm_up(child.addr);
    let mut clients: Vec<Raw> = (0..100).map(|_| Raw::open_with(child.addr, "/", OFFER)).collect();
    let rise = rise(&child.memory(), || {
        for client in &mut clients {
            client.send(&masked(false, RSV1, Opcode::Binary, fuse));
            client.send(&common::ping(b"all of it?"));
        }
        for client in &mut clients {
            assert_eq!(client.expect_frame(), Frame::pong(b"all of it?"));
        }
        let charge = masked(true, 0, Opcode::Continuation, charge);
        clients.iter_mut().for_each(|client| offer(client, &charge));
        clients.iter_mut().for_each(|client| client.expect_close(1009));
    });
    println!("100 bombs with a limit of {limit}: {rise} bytes more");
    assert!(rise > 100 * (limit / 2), "they were not there at once: {rise}");
    assert!(rise < 100 * (limit + MIB), "{rise} bytes more");
    warm_up(child.addr);
}

/// The other end of a connection: says `bytes` after its handshake, and hears what code it is closed with.
fn peer(role: Role, stream: TcpStream, bytes: Vec<u8>) -> JoinHandle<u16> {
    thread::spawn(move || {
        let mut peer = Raw::over(stream);
        match role {
            Role::Client => {
                peer.send(common::request("/", OFFER).as_bytes());
                assert!(peer.head().starts_with("HTTP/1.1 101 "));
            }
            Role::Server => {
                let head = peer.head();
                let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
                peer.send(
                    format!(
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Accept: {}\r\n{OFFER}\r\n",
                        accept_key(key)
                    )
                    .as_bytes(),
                );
            }
        }
        offer(&mut peer, &bytes);
        closed_with(&mut peer)
    })
}

/// The code of the close frame, which comes first.
fn closed_with(peer: &mut Raw) -> u16 {
    let mut received = Vec::new();
    loop {
        if let Some((header, size)) = FrameHeader::parse(&received).expect("a valid frame") {
            let end = size + header.payload_len as usize;
            if received.len() >= end {
                assert_eq!(header.opcode, Opcode::Close);
                let payload = &mut received[size..end];
                if let Some(key) = header.mask {
                    mask::apply(payload, key);
                }
                return u16::from_be_bytes([payload[0], payload[1]]);
            }
        }
        let mut chunk = [0; 256];
        let size = peer.stream.read(&mut chunk).expect("no reset, and within the deadline");
        assert!(size > 0, "no close frame");
        received.extend_from_slice(&chunk[..size]);
    }
}

/// What receives.
#[derive(Clone, Copy, Debug)]
enum End {
    Server,
    Client,
    Socket(Role),
}

const ENDS: [End; 4] = [End::Server, End::Client, End::Socket(Role::Server), End::Socket(Role::Client)];

impl End {
    /// The role of the end that sends.
    fn peer(self) -> Role {
        match self {
            End::Server | End::Socket(Role::Server) => Role::Client,
            End::Client | End::Socket(Role::Client) => Role::Server,
        }
    }
}

/// What an end with this limit makes of what its peer says: the message, or none; and the code that the peer hears.
fn receive(end: End, limit: u64, bytes: Vec<u8>) -> (Option<Vec<u8>>, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let url = format!("ws://{addr}/");
    match end {
        End::Server => {
            let server = echo(builder(limit));
            let mut client = Raw::open_with(server.addr, "/", OFFER);
            offer(&mut client, &bytes);
            let frame = client.expect_frame();
            if frame.opcode == Opcode::Close {
                return (None, frame.close_code());
            }
            client.send(&common::close(1000));
            let payload = if frame.rsv == RSV1 { inflated(&frame.payload) } else { frame.payload };
            (Some(payload), client.expect_frame().close_code())
        }
        End::Client => {
            let server = thread::spawn(move || peer(Role::Server, listener.accept().expect("a client").0, bytes));
            let client = Client::builder().config(config(limit)).connect(&url).expect("connected");
            let message = match client.recv_timeout(DEADLINE) {
                Ok(message) => Some(message.into_bytes()),
                Err(ReceiveError::Closed(reason)) => {
                    assert_eq!((reason.code.0, reason.cause), (1009, CloseCause::Failed), "{reason}");
                    None
                }
                Err(error) => panic!("{error}"),
            };
            drop(client);
            (message, server.join().expect("it accepts").join().expect("the peer"))
        }
        End::Socket(role) => {
            let (connect, accept) =
                (TcpStream::connect(addr).expect("connected"), listener.accept().expect("a client").0);
            let (ours, theirs) = if role == Role::Server { (accept, connect) } else { (connect, accept) };
            let peer = peer(end.peer(), theirs, bytes);
            let mut socket = match role {
                Role::Server => WebSocket::accept_with(ours, &config(limit), |_| Ok(Accept::new())),
                Role::Client => {
                    WebSocket::connect_with(ClientRequest::new(Url::parse(&url).expect("a URL")), ours, &config(limit))
                }
            }
            .expect("open");
            let message = match socket.recv() {
                Ok(message) => message.map(Message::into_bytes),
                Err(SocketError::Protocol(error)) => {
                    assert_eq!(error.close_code().0, 1009);
                    None
                }
                Err(error) => panic!("{error}"),
            };
            if message.is_some() {
                socket.close(threadbare::CloseCode::NORMAL_CLOSURE, "").expect("sent");
            }
            // What is in flight is read out, for the peer to hear the end rather than a reset.
            io::copy(&mut socket.into_inner(), &mut io::sink()).expect("the peer hangs up");
            (message, peer.join().expect("the peer"))
        }
    }
}

/// What a compressed message stands for.
fn inflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    // It is no whole stream, for a message's last block is not marked as the last.
    let bytes = [payload, &TAIL, b"\x01\x00\x00\xFF\xFF"].concat();
    flate2::read::DeflateDecoder::new(&bytes[..]).read_to_end(&mut out).expect("a deflate stream");
    out
}

#[test]
fn a_16_the_limit_is_exact_at_every_end() {
    let _alone = alone();
    for end in ENDS {
        for limit in [1_000, 65_536, MIB] {
            for size in limit - 2..=limit + 2 {
                let message: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
                let payload = deflated(&message);
                let (head, tail) = payload.split_at(payload.len() / 2);
                let whole = frame(end.peer(), true, RSV1, Opcode::Binary, &payload);
                let parts = [
                    frame(end.peer(), false, RSV1, Opcode::Binary, head),
                    frame(end.peer(), true, 0, Opcode::Continuation, tail),
                ];
                for bytes in [whole, parts.concat()] {
                    let (received, code) = receive(end, limit, bytes);
                    if size <= limit {
                        assert!(
                            received == Some(message.clone()) && code == 1000,
                            "{end:?}: {size} of {limit}: {code}"
                        );
                    } else {
                        assert_eq!((received, code), (None, 1009), "{end:?}: {size} of {limit}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_15_bombs_end_with_1009_at_a_client_and_a_blocking_socket_in_bounded_memory() {
    let _alone = alone();
    let limit = MIB;
    for end in [End::Client, End::Socket(Role::Server), End::Socket(Role::Client)] {
        // What is loaded once, and the threads' stacks.
        let hello = deflated(b"Hello");
        let warm = receive(end, limit, frame(end.peer(), true, RSV1, Opcode::Text, &hello));
        assert_eq!(warm, (Some(b"Hello".to_vec()), 1000));
        for (dress, make) in [("flat", flat as fn(Role) -> Vec<u8>), ("in 1,000 fragments", fragmented)] {
            let bytes = make(end.peer());
            let rise = rise(&Memory::own(), || assert_eq!(receive(end, limit, bytes), (None, 1009)));
            println!("{end:?}, a bomb, {dress}, with a limit of {limit}: {rise} bytes more");
            assert!(rise < limit + MIB, "{end:?}, a bomb, {dress}: {rise} bytes more");
        }
    }
}

#[test]
fn a_36_memory_is_given_back_when_a_connection_is_idle() {
    let name = "a_36_memory_is_given_back_when_a_connection_is_idle";
    let deflate = DeflateConfig::default().server_no_context_takeover(false).client_no_context_takeover(false);
    let config = config(17 * MIB).deflate(deflate).max_write_buffer_size(20 << 20);
    let Some(child) = Child::start(name, ALLOCATOR, Server::builder().config(config)) else { return };
    let _alone = alone();
    warm_up(child.addr);
    let mut clients: Vec<Raw> = (0..4).map(|_| Raw::open_with(child.addr, "/", OFFER)).collect();
    let before = child.memory().anonymous();
    child.memory().reset_peak();
    let resident = child.memory().resident();
    let large: Vec<u8> = (0..16 << 20_u32).map(|n| (n / 256 % 251) as u8 ^ (n % 7) as u8).collect();
    let message = masked(true, RSV1, Opcode::Binary, &deflated(&large));
    for client in &mut clients {
        client.send(&message);
        let echoed = client.expect_frame();
        assert!(echoed.rsv == RSV1 && inflated(&echoed.payload) == large);
    }
    let used = child.memory().peak() - resident;
    // Under context takeover a window of 32 KiB must be kept for what the client's next message may refer to: with what
    // belongs to it 47 KiB. Of what was sent 4 KiB are kept. Each of two workers has two buffers of 256 KiB for all.
    let kept = 4 * (56 << 10) + 2 * (512 << 10) + (64 << 10);
    common::eventually("memory is given back", || child.memory().anonymous() < before + kept);
    println!(
        "4 connections: {used} bytes after a message, {} when idle",
        child.memory().anonymous().saturating_sub(before)
    );
    assert!(used > 16 * MIB, "there was something to give back: {used}");
    // What was said before may still be referred to, either way.
    for client in &mut clients {
        client.send(&masked(true, RSV1, Opcode::Text, &deflated(&[b'x'; 1000])));
        let echoed = client.expect_frame();
        assert!(echoed.rsv == RSV1 && echoed.payload.len() < 50, "{echoed:?}");
    }
}

#[test]
fn a_36_blocking_sockets_that_wait_share_what_they_compress_with() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let text = "the same again, ".repeat(100);
    let pair = || {
        let ours = TcpStream::connect(addr).expect("connected");
        let (theirs, _) = listener.accept().expect("a client");
        let server = thread::spawn(move || {
            let accept = |_: &_| Ok(Accept::new());
            let mut server = WebSocket::accept_with(theirs, &config(MIB), accept).expect("accepted");
            let message = server.recv().expect("received").expect("a message");
            server.send(&message).expect("sent");
            server
        });
        let request = ClientRequest::new(Url::parse("ws://localhost/").expect("a URL"));
        let mut client = WebSocket::connect_with(request, ours, &config(MIB)).expect("accepted");
        client.send(&text).expect("sent");
        assert_eq!(client.recv().expect("received").expect("a message").as_text(), Some(text.as_str()));
        let server = server.join().expect("the server");
        let both = [client.stats(), server.stats()].map(|stats| stats.deflate.expect("negotiated"));
        assert!(both.iter().all(|stats| stats.sent == text.len() as u64 && stats.received == stats.sent));
        (client, server)
    };
    drop(pair());
    let before = Memory::own().anonymous();
    let pairs: Vec<_> = (0..50).map(|_| pair()).collect();
    let more = Memory::own().anonymous().saturating_sub(before);
    println!("100 sockets: {more} bytes");
    // Each has a receive buffer of 16 KiB, and of a compressor nothing.
    assert!(more < 100 * (40 << 10), "{more} bytes for {} sockets", 2 * pairs.len());
}
