//! Compressed messages that inflate to more than `max_message_size`, at a server, a client and a blocking socket.
#![cfg(target_os = "linux")] // reads /proc

mod common;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::thread::{self, JoinHandle};

use common::memory::ProcessMemory;
use common::server_process::ServerProcess;
use common::servers::echo_server;
use common::{Client as Raw, DEADLINE, Frame, masked, serialize_test};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use threadbare::protocol::frame::{FrameHeader, Opcode, RSV1};
use threadbare::protocol::handshake::accept_key;
use threadbare::protocol::mask;
use threadbare::{
    Accept, Client, ClientError, ClientRequest, CloseCause, Config, DeflateConfig, Message, Role, Server,
    ServerBuilder, SocketError, Url, WebSocket,
};

const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

const MIB: u64 = 1 << 20;

/// Makes the allocator return freed memory to the kernel, so that a measurement does not depend on what ran before.
const ALLOCATOR_SETTINGS: &str = "export MALLOC_MMAP_THRESHOLD_=16384 MALLOC_TRIM_THRESHOLD_=16384";

fn config(max_message_size: u64) -> Config {
    Config::default().max_message_size(max_message_size as usize).deflate(DeflateConfig::default())
}

fn builder(limit: u64) -> ServerBuilder {
    Server::builder().config(config(limit))
}

/// The end of a flush, which is removed from a message (RFC 7692 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// The payload of a compressed message.
fn deflated(payload: &[u8]) -> Vec<u8> {
    compressed(Compression::fast(), [payload].into_iter())
}

/// The payload of a compressed message whose content comes in pieces.
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

/// The payload of a compressed message: a gibibyte of zeros in about a megabyte.
fn bomb() -> &'static [u8] {
    static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
    BOMB.get_or_init(|| {
        let megabyte = vec![0; 1 << 20];
        let bomb = compressed(Compression::best(), std::iter::repeat_n(&megabyte[..], 1024));
        assert!(bomb.len() < 1_200_000 && inflated_size(&bomb) == 1 << 30, "{} bytes", bomb.len());
        bomb
    })
}

/// The number of bytes that the first part of a compressed message inflates to.
fn inflated_size(mut bytes: &[u8]) -> u64 {
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
fn in_one_frame(role: Role) -> Vec<u8> {
    frame(role, true, RSV1, Opcode::Binary, bomb())
}

/// The bomb in 1,000 frames.
fn in_1000_frames(role: Role) -> Vec<u8> {
    let size = bomb().len().div_ceil(1000);
    let last = bomb().len().div_ceil(size) - 1;
    assert!((990..1000).contains(&last), "{last}");
    let piece = |(index, piece): (usize, &[u8])| match index {
        0 => frame(role, false, RSV1, Opcode::Binary, piece),
        _ => frame(role, index == last, 0, Opcode::Continuation, piece),
    };
    bomb().chunks(size).enumerate().flat_map(piece).collect()
}

/// The most resident memory that `act` adds.
fn peak_growth(memory: &ProcessMemory, act: impl FnOnce()) -> u64 {
    let before = memory.resident();
    memory.reset_peak();
    act();
    memory.peak().saturating_sub(before)
}

/// Sends bytes that the server may not read to their end.
fn try_send(client: &mut Raw, bytes: &[u8]) {
    let _ = client.stream.write_all(bytes);
}

/// Opens connections and inflates a message on each, so that every worker has allocated its shared buffers.
fn warm_up(addr: SocketAddr) {
    let mut clients: Vec<Raw> = (0..8).map(|_| Raw::open_with(addr, "/", OFFER)).collect();
    let hello = deflated(b"Hello");
    for client in &mut clients {
        client.send(&masked(true, RSV1, Opcode::Text, &hello));
        assert_eq!(client.expect_frame(), Frame::text("Hello"));
    }
}

#[test]
fn a_15_a_17_a_server_closes_bombs_with_1009_in_bounded_memory() {
    let name = "a_15_a_17_a_server_closes_bombs_with_1009_in_bounded_memory";
    let limit = MIB;
    let Some(server) = ServerProcess::start(name, ALLOCATOR_SETTINGS, builder(limit)) else { return };
    let _guard = serialize_test();
    warm_up(server.addr);
    for (form, bytes) in [("one frame", in_one_frame(Role::Client)), ("1,000 frames", in_1000_frames(Role::Client))] {
        for _ in 0..3 {
            let mut client = Raw::open_with(server.addr, "/", OFFER);
            let growth = peak_growth(&server.memory(), || {
                try_send(&mut client, &bytes);
                // a second message after the bomb does not change the code, and causes no second close frame.
                try_send(&mut client, &bytes);
                client.expect_close(1009);
            });
            println!("a bomb in {form}, with a limit of {limit}: {growth} bytes more");
            assert!(growth < limit + MIB, "a bomb in {form}: {growth} bytes more");
        }
    }
    warm_up(server.addr);
}

#[test]
fn a_15_a_hundred_bombs_use_at_most_the_memory_of_a_hundred_messages() {
    let name = "a_15_a_hundred_bombs_use_at_most_the_memory_of_a_hundred_messages";
    let limit = MIB;
    let Some(server) = ServerProcess::start(name, ALLOCATOR_SETTINGS, builder(limit)) else { return };
    let _guard = serialize_test();
    // The first part of each bomb inflates to less than the limit, and the server keeps it.
    let (first, rest) = bomb().split_at(900);
    let kept = inflated_size(first);
    assert!((limit / 2..limit).contains(&kept), "{kept}");
    warm_up(server.addr);
    let mut clients: Vec<Raw> = (0..100).map(|_| Raw::open_with(server.addr, "/", OFFER)).collect();
    let growth = peak_growth(&server.memory(), || {
        for client in &mut clients {
            client.send(&masked(false, RSV1, Opcode::Binary, first));
            client.send(&common::ping(b"inflated?"));
        }
        for client in &mut clients {
            assert_eq!(client.expect_frame(), Frame::pong(b"inflated?"));
        }
        let rest = masked(true, 0, Opcode::Continuation, rest);
        clients.iter_mut().for_each(|client| try_send(client, &rest));
        clients.iter_mut().for_each(|client| client.expect_close(1009));
    });
    println!("100 bombs with a limit of {limit}: {growth} bytes more");
    assert!(growth > 100 * (limit / 2), "the server did not keep all at once: {growth} bytes more");
    assert!(growth < 100 * (limit + MIB), "{growth} bytes more");
    warm_up(server.addr);
}

/// Runs the peer of a connection: it sends `bytes` after the opening handshake, and returns the code of the close frame
/// that it receives.
fn spawn_peer(role: Role, stream: TcpStream, bytes: Vec<u8>) -> JoinHandle<u16> {
    thread::spawn(move || {
        let mut peer = Raw::from_stream(stream);
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
        try_send(&mut peer, &bytes);
        received_close_code(&mut peer)
    })
}

/// The code of the close frame, which must be the first frame.
fn received_close_code(peer: &mut Raw) -> u16 {
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

/// The end of a connection that receives, of which the test checks the limit.
#[derive(Clone, Copy, Debug)]
enum End {
    Server,
    Client,
    Socket(Role),
}

const ENDS: [End; 4] = [End::Server, End::Client, End::Socket(Role::Server), End::Socket(Role::Client)];

impl End {
    /// The role of the other end, which sends.
    fn peer(self) -> Role {
        match self {
            End::Server | End::Socket(Role::Server) => Role::Client,
            End::Client | End::Socket(Role::Client) => Role::Server,
        }
    }
}

/// Sends `bytes` to an end with this limit. Returns the message that it received, if any, and the code with which it closed
/// the connection.
fn receive(end: End, limit: u64, bytes: Vec<u8>) -> (Option<Vec<u8>>, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let url = format!("ws://{addr}/");
    match end {
        End::Server => {
            let server = echo_server(builder(limit));
            let mut client = Raw::open_with(server.addr, "/", OFFER);
            try_send(&mut client, &bytes);
            let frame = client.expect_frame();
            if frame.opcode == Opcode::Close {
                return (None, frame.close_code());
            }
            client.send(&common::close(1000));
            let payload = if frame.rsv == RSV1 { inflated(&frame.payload) } else { frame.payload };
            (Some(payload), client.expect_frame().close_code())
        }
        End::Client => {
            let server = thread::spawn(move || spawn_peer(Role::Server, listener.accept().expect("a client").0, bytes));
            let client = Client::builder().config(config(limit)).connect(&url).expect("connected");
            let message = match client.recv_timeout(DEADLINE) {
                Ok(message) => message.map(Message::into_bytes),
                Err(ClientError::Failed(reason)) => {
                    assert_eq!((reason.code.0, reason.cause), (1009, CloseCause::Failed), "{reason}");
                    None
                }
                Err(error) => panic!("{error}"),
            };
            drop(client);
            (message, server.join().expect("a connection").join().expect("the peer"))
        }
        End::Socket(role) => {
            let (connect, accept) =
                (TcpStream::connect(addr).expect("connected"), listener.accept().expect("a client").0);
            let (ours, theirs) = if role == Role::Server { (accept, connect) } else { (connect, accept) };
            let peer = spawn_peer(end.peer(), theirs, bytes);
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
            // The rest is read, so that the socket is closed with FIN instead of RST.
            io::copy(&mut socket.into_inner(), &mut io::sink()).expect("the peer closes its socket");
            (message, peer.join().expect("the peer"))
        }
    }
}

/// The content of a compressed message.
fn inflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    // A message has no block that is marked as the last one: an empty one ends the stream.
    let bytes = [payload, &TAIL, b"\x01\x00\x00\xFF\xFF"].concat();
    flate2::read::DeflateDecoder::new(&bytes[..]).read_to_end(&mut out).expect("a deflate stream");
    out
}

#[test]
fn a_16_max_message_size_is_exact_at_every_end() {
    let _guard = serialize_test();
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
fn a_41_compressed_messages_that_inflate_to_nothing_are_closed_with_1009_at_every_end() {
    let _guard = serialize_test();
    let limit = 100_000;
    let most = limit + limit / 8 + limit / 64 + (64 << 10);
    let empty = b"\x00\x00\x00\xFF\xFF";
    for end in ENDS {
        let (role, mask) = match end.peer() {
            Role::Client => (Role::Client, Some([0; 4])),
            Role::Server => (Role::Server, None),
        };
        let mut announced = Vec::new();
        FrameHeader { fin: true, rsv: RSV1, opcode: Opcode::Binary, mask, payload_len: 1 << 60 }.encode(&mut announced);
        announced.extend(empty.repeat(1000));
        let one = frame(role, true, RSV1, Opcode::Binary, &empty.repeat(most as usize / empty.len() + 1));
        let mut fragments = frame(role, false, RSV1, Opcode::Binary, b"");
        for _ in 0..=most / 10 {
            fragments.extend(frame(role, false, 0, Opcode::Continuation, &empty.repeat(2)));
        }
        for bytes in [announced, one, fragments] {
            assert_eq!(receive(end, limit, bytes), (None, 1009), "{end:?}");
        }
        // As large as permitted. It ends with the header of an empty stored block.
        let payload = [&empty.repeat((most as usize - 1) / empty.len())[..], b"\x00"].concat();
        let bytes = frame(role, true, RSV1, Opcode::Binary, &payload);
        assert_eq!(receive(end, limit, bytes), (Some(Vec::new()), 1000), "{end:?}");
    }
}

#[test]
fn a_15_clients_and_blocking_sockets_close_bombs_with_1009_in_bounded_memory() {
    let _guard = serialize_test();
    let limit = MIB;
    for end in [End::Client, End::Socket(Role::Server), End::Socket(Role::Client)] {
        // Allocates what is allocated once, and the threads' stacks.
        let hello = deflated(b"Hello");
        let warm = receive(end, limit, frame(end.peer(), true, RSV1, Opcode::Text, &hello));
        assert_eq!(warm, (Some(b"Hello".to_vec()), 1000));
        for (form, make) in [("one frame", in_one_frame as fn(Role) -> Vec<u8>), ("1,000 frames", in_1000_frames)] {
            let bytes = make(end.peer());
            let growth = peak_growth(&ProcessMemory::own(), || assert_eq!(receive(end, limit, bytes), (None, 1009)));
            println!("{end:?}, a bomb in {form}, with a limit of {limit}: {growth} bytes more");
            assert!(growth < limit + MIB, "{end:?}, a bomb in {form}: {growth} bytes more");
        }
    }
}

#[test]
fn a_36_an_idle_connection_frees_the_memory_of_its_last_message() {
    let name = "a_36_an_idle_connection_frees_the_memory_of_its_last_message";
    let deflate = DeflateConfig::default().server_no_context_takeover(false).client_no_context_takeover(false);
    let config = config(17 * MIB).deflate(deflate).max_write_buffer_size(20 << 20);
    let Some(server) = ServerProcess::start(name, ALLOCATOR_SETTINGS, Server::builder().config(config)) else { return };
    let _guard = serialize_test();
    warm_up(server.addr);
    let mut clients: Vec<Raw> = (0..4).map(|_| Raw::open_with(server.addr, "/", OFFER)).collect();
    let before = server.memory().anonymous();
    server.memory().reset_peak();
    let resident = server.memory().resident();
    let large: Vec<u8> = (0..16 << 20_u32).map(|n| (n / 256 % 251) as u8 ^ (n % 7) as u8).collect();
    let message = masked(true, RSV1, Opcode::Binary, &deflated(&large));
    for client in &mut clients {
        client.send(&message);
        let echoed = client.expect_frame();
        assert!(echoed.rsv == RSV1 && inflated(&echoed.payload) == large);
    }
    let used = server.memory().peak() - resident;
    // Context takeover: the client's next message may refer to the last 32 KiB, for which the inflater keeps 47 KiB. 4 KiB
    // of what was sent are kept as well. Each of two workers has two buffers of 256 KiB for all its connections.
    let kept = 4 * (56 << 10) + 2 * (512 << 10) + (64 << 10);
    common::eventually("the memory is freed", || server.memory().anonymous() < before + kept);
    println!(
        "4 connections: {used} bytes after a message, {} when idle",
        server.memory().anonymous().saturating_sub(before)
    );
    assert!(used > 16 * MIB, "the messages used memory before: {used} bytes");
    // Messages of both directions can still refer to what was sent before.
    for client in &mut clients {
        client.send(&masked(true, RSV1, Opcode::Text, &deflated(&[b'x'; 1000])));
        let echoed = client.expect_frame();
        assert!(echoed.rsv == RSV1 && echoed.payload.len() < 50, "{echoed:?}");
    }
}

#[test]
fn a_36_idle_blocking_sockets_keep_no_compressor() {
    let _guard = serialize_test();
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
    let before = ProcessMemory::own().anonymous();
    let pairs: Vec<_> = (0..50).map(|_| pair()).collect();
    let more = ProcessMemory::own().anonymous().saturating_sub(before);
    println!("100 sockets: {more} bytes");
    // Each socket has a receive buffer of 16 KiB, and no compressor of its own.
    assert!(more < 100 * (40 << 10), "{more} bytes for {} sockets", 2 * pairs.len());
}
