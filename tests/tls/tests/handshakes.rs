//! Handshakes of TLS that do not complete, or in a strange way.

#[path = "../../common/mod.rs"]
mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::app::TICK;
use common::memory::ProcessMemory;
use common::servers::Echo;
use common::{eventually, logged, serialize_test};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use threadbare::protocol::frame::Opcode;
use threadbare::{Config, Server, ServerHandle};
use threadbare_tls_tests::{Authority, DEADLINE, End, RawClient, TLS12, TLS13, masked};

/// Runs with a server of each kind: a handler with one worker and with two, and an inline event loop. No other test runs
/// meanwhile.
fn with_each(authority: &Authority, config: &Config, run: impl Fn(SocketAddr, ServerHandle)) {
    let _alone = serialize_test();
    logged::install();
    let tls = authority.server();
    let builder = || Server::builder().tls(tls.clone()).config(config.clone());
    for workers in [1, 2] {
        let server = builder().workers(workers).serve("127.0.0.1:0", |_| Echo).expect("a server");
        run(server.local_addr(), server.handle());
    }
    let mut event_loop = builder().bind_inline("127.0.0.1:0").expect("a server");
    let (addr, handle) = (event_loop.local_addr(), event_loop.handle());
    thread::scope(|scope| {
        let named = thread::Builder::new().name("ws-inline".to_owned());
        let run_loop = move || {
            event_loop.run(|event| {
                if let threadbare::EventRef::Message(peer, message) = event {
                    let _ = peer.send(message); // it may be gone
                }
            })
        };
        named.spawn_scoped(scope, run_loop).expect("a thread");
        run(addr, handle.clone());
        handle.shutdown(Duration::from_millis(100));
    });
}

/// A client's first record.
fn client_hello(authority: &Authority) -> Vec<u8> {
    let config = authority.rustls_client(TLS13).into();
    let mut client =
        ClientConnection::new(config, ServerName::try_from("localhost").expect("a name")).expect("a session");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("to memory");
    hello
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("connects");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    stream
}

/// Reads until the server ends the connection.
fn wait_for_end(mut stream: &TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => received,
    }
}

#[test]
fn t_02_one_deadline_covers_tls_and_http() {
    const EACH: usize = 200;
    let timeout = Duration::from_millis(1500);
    let authority = Authority::new();
    let hello = client_hello(&authority);
    with_each(&authority, &Config::default().handshake_timeout(timeout), |addr, handle| {
        let start = Instant::now();
        let mut clients = Vec::new();
        for _ in 0..EACH {
            // Silent; in the middle of the ClientHello; behind it.
            for sent in [&b""[..], &hello[..hello.len() / 2], &hello] {
                let mut stream = connect(addr);
                stream.write_all(sent).expect("written");
                clients.push(stream);
            }
        }
        // A fourth kind has TLS, and half a request.
        let mut with_tls: Vec<_> = (0..20).map(|_| RawClient::connect(addr, authority.rustls_client(TLS13))).collect();
        with_tls.iter_mut().for_each(|client| client.send(b"GET / HTTP/1.1\r\n"));
        let begun = start.elapsed();
        eventually("their memory is counted", || handle.memory() > 0);
        if begun < timeout {
            // Others are not held up meanwhile.
            RawClient::open(addr, authority.rustls_client(TLS13)).echo("hello");
        }
        for client in &clients {
            wait_for_end(client);
        }
        assert!(start.elapsed() >= timeout - TICK, "{:?}", start.elapsed());
        for client in &mut with_tls {
            let head = client.head();
            assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
            assert_eq!(client.end().0, End::CloseNotify);
        }
        let late = start.elapsed() - begun;
        assert!(late < timeout + Duration::from_secs(5), "{late:?}");
        drop(with_tls);
        eventually("nothing is counted any more", || handle.connections() == 0 && handle.memory() == 0);
    });
}

#[test]
fn t_02_bytes_that_trickle_do_not_postpone_the_deadline_of_tls() {
    let timeout = Duration::from_millis(500);
    let authority = Authority::new();
    let hello = client_hello(&authority);
    with_each(&authority, &Config::default().handshake_timeout(timeout), |addr, handle| {
        let start = Instant::now();
        let mut stream = connect(addr);
        for byte in hello.iter().cycle() {
            if stream.write_all(&[*byte]).is_err() {
                break;
            }
            assert!(start.elapsed() < DEADLINE, "it is never ended");
            if stream.peek(&mut [0]).is_ok_and(|size| size == 0) {
                break;
            }
            stream.set_read_timeout(Some(Duration::from_millis(5))).expect("a socket");
        }
        eventually("nothing is counted any more", || handle.connections() == 0 && handle.memory() == 0);
    });
}

#[test]
fn t_02_a_server_that_shuts_down_ends_the_handshakes() {
    let authority = Authority::new();
    let hello = client_hello(&authority);
    with_each(&authority, &Config::default(), |addr, handle| {
        let mut clients: Vec<_> = (0..60).map(|_| connect(addr)).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.write_all(&hello[..hello.len() * (number % 3) / 2]).expect("written");
        }
        let mut with_tls = RawClient::connect(addr, authority.rustls_client(TLS13));
        with_tls.send(b"GET / HTTP/1.1\r\n");
        let mut open = RawClient::open(addr, authority.rustls_client(TLS13));
        open.echo("hello");
        eventually("all have come", || handle.connections() == 62);
        let start = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| handle.shutdown(DEADLINE));
            assert_eq!(open.expect_frame().close_code(), 1001);
            open.send(&masked(Opcode::Close, &1001_u16.to_be_bytes()));
            assert_eq!(open.end(), (End::CloseNotify, Vec::new()));
            let head = with_tls.head();
            assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
            clients.iter().for_each(|client| drop(wait_for_end(client)));
        });
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    });
}

/// The CPU time of the server's threads.
fn cpu_time() -> Duration {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task").expect("threads") {
        let path = task.expect("a thread").path();
        // A thread may have ended meanwhile.
        let read = |file| std::fs::read_to_string(path.join(file)).unwrap_or_default();
        if read("comm").starts_with("ws-") {
            nanos += read("schedstat").split(' ').next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Duration::from_nanos(nanos)
}

/// Splits a record into records with one byte each.
fn in_records_of_one_byte(record: &[u8]) -> Vec<u8> {
    record[5..].iter().flat_map(|byte| [record[0], record[1], record[2], 0, 1, *byte]).collect()
}

/// A ClientHello of that size, with an extension that nobody knows.
fn large_hello(hello: &[u8], size: usize) -> Vec<u8> {
    // The record's header, the message's header, version, random, session id, suites, compression: then the extensions.
    let mut at = 5 + 4 + 2 + 32;
    at += 1 + usize::from(hello[at]);
    at += 2 + usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
    at += 1 + usize::from(hello[at]);
    let extensions = &hello[at + 2..];
    let filler = size - extensions.len() - 4;
    let mut body = hello[9..at].to_vec();
    body.extend_from_slice(&u16::try_from(size).expect("a size").to_be_bytes());
    body.extend_from_slice(&[0xfa, 0xfa]);
    body.extend_from_slice(&u16::try_from(filler).expect("a size").to_be_bytes());
    body.resize(body.len() + filler, 0);
    body.extend_from_slice(extensions);
    let mut message = vec![1];
    message.extend_from_slice(&u32::try_from(body.len()).expect("a size").to_be_bytes()[1..]);
    message.extend_from_slice(&body);
    message
}

#[test]
fn a_31_a_client_hello_in_records_of_one_byte_is_understood() {
    let authority = Authority::new();
    let hello = client_hello(&authority);
    with_each(&authority, &Config::default(), |addr, _| {
        let pieces = in_records_of_one_byte(&hello);
        for piece in [1, 6, 100, pieces.len()] {
            let mut stream = connect(addr);
            for bytes in pieces.chunks(piece) {
                stream.write_all(bytes).expect("written");
            }
            let mut record = [0; 5];
            stream.read_exact(&mut record).expect("an answer");
            assert_eq!(record[..3], [22, 3, 3], "the ServerHello");
        }
    });
}

#[test]
fn a_31_a_client_hello_in_pieces_costs_no_more_than_in_proportion() {
    let authority = Authority::new();
    let hello = client_hello(&authority);
    with_each(&authority, &Config::default(), |addr, handle| {
        let time = |size: usize| {
            let message = large_hello(&hello, size);
            let record = [&[22, 3, 1, 0, 0][..], &message].concat();
            let pieces = in_records_of_one_byte(&record);
            let start = cpu_time();
            let mut stream = connect(addr);
            stream.write_all(&pieces).expect("written");
            // Either it is understood, or it is too much.
            let mut first = [0];
            let _ = stream.read(&mut first).expect("an answer");
            drop(stream);
            eventually("it has ended", || handle.connections() == 0);
            cpu_time().saturating_sub(start)
        };
        let small: Duration = (0..8).map(|_| time(1_000)).sum();
        let large = time(8_000);
        assert!(large < 4 * small + Duration::from_millis(50), "{large:?} for as much as 8 times {:?}", small / 8);
        // The largest that there may be.
        let most = time(60_000);
        assert!(most < Duration::from_millis(500), "{most:?}");
    });
}

#[test]
fn a_31_a_handshake_that_never_ends_is_refused_and_its_memory_is_bounded() {
    let authority = Authority::new();
    with_each(&authority, &Config::default(), |addr, handle| {
        let memory = ProcessMemory::own().resident();
        // 16 MiB of a message whose header promises 60,000 bytes, or 16 MiB, in small records and in large ones.
        for promised in [[0, 0xea, 0x60], [0xff, 0, 0]] {
            for size in [1_usize, 100, 16_384] {
                let mut stream = connect(addr);
                let mut record = vec![22, 3, 1];
                record.extend_from_slice(&u16::try_from(size).expect("a size").to_be_bytes());
                record.resize(5 + size, 0);
                let begin = [&[22, 3, 1, 0, 4, 1][..], &promised].concat();
                let mut result = stream.write_all(&begin);
                let mut sent = 0;
                while result.is_ok() && sent < 16 << 20 {
                    result = stream.write_all(&record);
                    sent += record.len();
                }
                wait_for_end(&stream);
                drop(stream);
                eventually("it has ended", || handle.connections() == 0 && handle.memory() == 0);
            }
        }
        let grown = ProcessMemory::own().resident().saturating_sub(memory);
        assert!(grown < 8 << 20, "{grown} bytes");
    });
}

#[test]
fn a_31_a_close_notify_in_the_middle_of_the_handshake_ends_the_connection() {
    let authority = Authority::new();
    let hello = client_hello(&authority);
    with_each(&authority, &Config::default().handshake_timeout(Duration::from_millis(200)), |addr, handle| {
        // Nobody has authenticated it, so that it may also be without effect. Then the deadline ends the connection.
        const CLOSE_NOTIFY: &[u8] = &[21, 3, 3, 0, 2, 1, 0];
        let half = &in_records_of_one_byte(&hello)[..600];
        for before in [&b""[..], half, &hello] {
            for then in [CLOSE_NOTIFY, &CLOSE_NOTIFY.repeat(100), &[CLOSE_NOTIFY, &hello].concat()] {
                let mut stream = connect(addr);
                stream.write_all(&[before, then].concat()).expect("written");
                let start = cpu_time();
                wait_for_end(&stream);
                drop(stream);
                eventually("it has ended", || handle.connections() == 0);
                let spent = cpu_time().saturating_sub(start);
                assert!(spent < Duration::from_secs(1), "{spent:?} of CPU time");
            }
        }
        RawClient::open(addr, authority.rustls_client(TLS13)).echo("hello");
    });
}

#[test]
fn a_31_nothing_that_comes_in_a_handshake_panics() {
    let authority = Authority::new();
    let hello = client_hello(&authority);
    let half = in_records_of_one_byte(&hello)[..60].to_vec();
    let alert: &[u8] = &[21, 3, 3, 0, 2, 2, 40];
    let warning: &[u8] = &[21, 3, 3, 0, 2, 1, 90];
    let change: &[u8] = &[20, 3, 3, 0, 1, 1];
    let data: &[u8] = &[23, 3, 3, 0, 5, b'h', b'e', b'l', b'l', b'o'];
    let empty: &[u8] = &[22, 3, 3, 0, 0];
    let long: &[u8] = &[&[22, 3, 3, 0xff, 0xff][..], &[0; 1000]].concat();
    with_each(&authority, &Config::default(), |addr, handle| {
        for first in [&b""[..], &half, &hello] {
            for then in [
                alert,
                warning,
                &warning.repeat(1000),
                change,
                &change.repeat(1000),
                data,
                empty,
                &empty.repeat(1000),
                long,
                &hello,
                &[99, 3, 3, 0, 1, 0],
                &[22, 9, 9, 0, 1, 0],
            ] {
                let mut stream = connect(addr);
                // The server may have ended it before all is written.
                let _ = stream.write_all(&[first, then].concat());
                let _ = stream.shutdown(std::net::Shutdown::Write);
                wait_for_end(&stream);
            }
        }
        eventually("all have ended", || handle.connections() == 0 && handle.memory() == 0);
        RawClient::open(addr, authority.rustls_client(TLS13)).echo("hello");
    });
}

/// However often a handshake has a few bytes more, it takes one turn of those that are left.
#[test]
fn t_02_many_that_trickle_do_not_hold_up_one_that_does_not() {
    let authority = Authority::new();
    let hello = client_hello(&authority);
    with_each(&authority, &Config::default(), |addr, handle| {
        let mut clients: Vec<_> = (0..300).map(|_| connect(addr)).collect();
        for byte in &hello[..60] {
            for client in &mut clients {
                client.write_all(&[*byte]).expect("written");
            }
        }
        // All the bytes above are at the server.
        let start = Instant::now();
        RawClient::open(addr, authority.rustls_client(TLS13)).echo("hello");
        let waited = start.elapsed();
        assert!(waited < DEADLINE / 3, "{waited:?}");
        drop(clients);
        eventually("all have ended", || handle.connections() == 0 && handle.memory() == 0);
    });
}

#[test]
fn a_reset_in_the_middle_of_a_handshake_is_no_error() {
    let authority = Authority::new();
    let hello = client_hello(&authority);
    with_each(&authority, &Config::default(), |addr, handle| {
        for size in [0, 1, 5, hello.len() / 2, hello.len()] {
            let mut stream = connect(addr);
            stream.write_all(&hello[..size]).expect("written");
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket");
        }
        eventually("all have ended", || handle.connections() == 0 && handle.memory() == 0);
        for versions in [TLS12, TLS13] {
            RawClient::open(addr, authority.rustls_client(versions)).echo("hello");
        }
    });
}
