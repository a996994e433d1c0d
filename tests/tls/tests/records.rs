//! Records on established connections: cut, forged, empty, too many, and the end of TLS.

#[path = "../../common/mod.rs"]
mod common;
mod each;

use std::net::{Shutdown, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use common::app::{App, echo};
use common::servers::Mode;
use common::{eventually, logged};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use threadbare::protocol::frame::Opcode;
use threadbare::{Client, ClientError, CloseCause, CloseCode, Config, Message, Server};
use threadbare_tls_tests::{
    Authority, Crafted, DEADLINE, End, Frame, HANDSHAKE, RawClient, RawServer, TLS12, TLS13, masked, unmasked,
};

fn with_each(authority: &Authority, run: impl Fn(&App)) {
    each::with_each(authority, &Config::default(), run);
}

fn open(app: &App, authority: &Authority) -> RawClient {
    let config = extractable_client(authority, &[TLS13[0], TLS12[0]]);
    let client = RawClient::open(app.addr, config);
    app.opened();
    client
}

fn text(text: &str) -> Vec<u8> {
    masked(Opcode::Text, text.as_bytes())
}

fn is_lost(app: &App) {
    app.expect_closed(1006, CloseCause::Lost);
}

/// A connection that does what the test says, beside one that must not notice.
fn beside_another(authority: &Authority, run: impl Fn(&App, RawClient)) {
    with_each(authority, |app| {
        let mut other = open(app, authority);
        other.echo("before");
        run(app, open(app, authority));
        is_lost(app);
        other.echo("after");
        other.send(&masked(Opcode::Close, &1000_u16.to_be_bytes()));
        assert_eq!(other.expect_frame().close_code(), 1000);
        assert_eq!(other.end(), (End::CloseNotify, Vec::new()));
        app.expect_closed(1000, CloseCause::Peer);
    });
}

#[test]
fn r_18_the_end_of_tls_or_of_tcp_before_a_close_frame_is_1006() {
    let authority = Authority::new();
    beside_another(&authority, |_, client| {
        client.tls.sock.shutdown(Shutdown::Write).expect("a socket");
    });
    beside_another(&authority, |_, mut client| {
        client.tls.conn.send_close_notify();
        client.send(b"");
        assert_eq!(client.end().1, b"");
    });
    beside_another(&authority, |_, client| {
        socket2::SockRef::from(&client.tls.sock).set_linger(Some(Duration::ZERO)).expect("a socket");
    });
    // Both at once, behind a message that is answered or not.
    beside_another(&authority, |_, mut client| {
        client.send_text("last");
        client.tls.conn.send_close_notify();
        client.send(b"");
    });
}

#[test]
fn r_18_a_record_that_is_cut_off_is_1006_and_not_delivered() {
    let authority = Authority::new();
    for left in [1, 5, 20] {
        beside_another(&authority, |_, mut client| {
            let sealed = client.seal(&text("a message that is cut off"));
            client.send_in_the_clear(&sealed[..left]);
            client.tls.sock.shutdown(Shutdown::Write).expect("a socket");
            let (_, received) = client.end();
            assert_eq!(received, b"", "nothing is echoed");
        });
    }
}

#[test]
fn r_18_a_missing_close_notify_behind_the_close_frame_is_harmless() {
    let authority = Authority::new();
    with_each(&authority, |app| {
        for says_end in [false, true] {
            // The client begins.
            let mut client = open(app, &authority);
            client.send(&masked(Opcode::Close, &1000_u16.to_be_bytes()));
            assert_eq!(client.expect_frame().close_code(), 1000);
            if says_end {
                client.tls.conn.send_close_notify();
                let _ = client.tls.conn.complete_io(&mut client.tls.sock); // the server may have ended TCP
            }
            assert_eq!(client.end(), (End::CloseNotify, Vec::new()));
            app.expect_closed(1000, CloseCause::Peer);
            // The server begins.
            let config = extractable_client(&authority, TLS13);
            let mut client = RawClient::open(app.addr, config);
            app.opened().close(CloseCode(4000), "enough").expect("open");
            assert_eq!(client.expect_frame().close_code(), 4000);
            let mut answer = client.seal(&masked(Opcode::Close, &4000_u16.to_be_bytes()));
            if says_end {
                client.tls.conn.send_close_notify();
                answer.extend(client.seal(b""));
            }
            client.send_in_the_clear(&answer);
            client.tls.sock.shutdown(Shutdown::Write).expect("a socket");
            assert_eq!(client.end(), (End::CloseNotify, Vec::new()));
            app.expect_closed(4000, CloseCause::Local);
        }
    });
}

#[test]
fn r_18_records_of_one_byte_are_put_together() {
    let authority = Authority::new();
    for versions in [TLS12, TLS13] {
        with_each(&authority, |app| {
            let mut client = RawClient::open(app.addr, authority.rustls_client(versions));
            let mut sealed = Vec::new();
            for byte in text(&"x".repeat(1000)).iter().chain(&text("second")) {
                sealed.extend(client.seal(&[*byte]));
            }
            client.send_in_the_clear(&sealed[..1000]);
            for byte in &sealed[1000..] {
                client.send_in_the_clear(&[*byte]);
            }
            assert_eq!(client.expect_frame().payload, "x".repeat(1000).into_bytes());
            assert_eq!(client.expect_frame().payload, b"second");
        });
    }
}

#[test]
fn r_18_a_forged_record_ends_its_connection_with_an_alert() {
    let authority = Authority::new();
    beside_another(&authority, |_, mut client| {
        client.send_in_the_clear(&[&[23, 3, 3, 0, 40][..], &[7; 40]].concat());
        let (end, _) = client.end();
        assert!(matches!(&end, End::Alert(text) if text.contains("BadRecordMac")), "{end:?}");
    });
    beside_another(&authority, |_, mut client| {
        // One bit of a record, behind a whole one.
        let mut sealed = client.seal(&text("whole"));
        let whole = sealed.len();
        sealed.extend(client.seal(&text("forged")));
        sealed[whole + 10] ^= 1;
        client.send_in_the_clear(&sealed);
        let (end, _) = client.end();
        assert!(matches!(&end, End::Alert(text) if text.contains("BadRecordMac")), "{end:?}");
    });
    // The same record twice.
    beside_another(&authority, |_, mut client| {
        let sealed = client.seal(&text("again"));
        client.send_in_the_clear(&sealed.repeat(2));
        let (end, _) = client.end();
        assert!(matches!(&end, End::Alert(text) if text.contains("BadRecordMac")), "{end:?}");
    });
    // No record at all.
    beside_another(&authority, |_, mut client| {
        client.send_in_the_clear(b"GET / HTTP/1.1\r\n\r\n");
        let (end, _) = client.end();
        assert!(
            matches!(&end, End::Alert(text) if text.contains("DecodeError") || text.contains("ProtocolVersion")),
            "{end:?}"
        );
    });
}

#[test]
fn r_18_a_record_that_is_too_large_is_refused() {
    const RECORD_OVERFLOW: u8 = 22;
    let authority = Authority::new();
    // The header of one with 18 KiB and a byte: nothing waits for the rest.
    beside_another(&authority, |_, mut client| {
        client.send_in_the_clear(&[23, 3, 3, 0x48, 1, 0]);
        let (end, _) = client.end();
        assert!(matches!(&end, End::Alert(_)), "{end:?}");
    });
    // A byte of data too much, and 257.
    for more in [1, 257] {
        beside_another(&authority, |_, client| {
            let mut client = Crafted::of_client(client);
            client.send_data(&vec![0; (16 << 10) + more]).expect("sent");
            assert_eq!(client.last_alert(), Some([2, RECORD_OVERFLOW]));
        });
    }
}

#[test]
fn r_18_a_flood_of_empty_records_is_refused() {
    const UNEXPECTED: u8 = 10;
    let authority = Authority::new();
    beside_another(&authority, |_, client| {
        let mut client = Crafted::of_client(client);
        // A few are allowed.
        for _ in 0..3 {
            for _ in 0..30 {
                client.send_data(b"").expect("sent");
            }
            client.send_data(&text("hello")).expect("sent");
            assert_eq!(client.receive(), Some((23, b"\x81\x05hello".to_vec())));
        }
        for _ in 0..10_000 {
            if client.send_data(b"").is_err() {
                break;
            }
        }
        // The rest of the flood may make the kernel discard the alert.
        assert!(matches!(client.last_alert(), None | Some([2, UNEXPECTED])));
    });
}

#[test]
fn r_18_warnings_are_refused_when_there_are_many() {
    let authority = Authority::new();
    for versions in [TLS13, TLS12] {
        with_each(&authority, |app| {
            let config = extractable_client(&authority, versions);
            let mut client = Crafted::of_client(RawClient::open(app.addr, config));
            app.opened();
            for _ in 0..3 {
                client.send(21, &[1, 90]).expect("sent"); // user_canceled
            }
            client.send_data(&text("hello")).expect("sent");
            assert_eq!(client.receive(), Some((23, b"\x81\x05hello".to_vec())));
            for _ in 0..10_000 {
                if client.send(21, &[1, 90]).is_err() {
                    break;
                }
            }
            is_lost(app);
        });
    }
}

#[test]
fn r_18_key_updates_are_answered_and_a_flood_of_them_is_refused() {
    let authority = Authority::new();
    beside_another(&authority, |_, mut client| {
        for round in 0..1000 {
            client.tls.conn.refresh_traffic_keys().expect("TLS 1.3");
            client.echo(&format!("round {round}"));
        }
        // Several before an answer.
        for _ in 0..20 {
            client.tls.conn.refresh_traffic_keys().expect("TLS 1.3");
        }
        client.echo("after them");
        let mut sent = 0;
        while client.tls.conn.refresh_traffic_keys().is_ok() && sent < 100_000 {
            sent += 1;
            if std::io::Write::flush(&mut client.tls).is_err() {
                break;
            }
        }
        assert!(sent < 100_000, "a flood is refused");
    });
}

/// A peer that never reads, and has its keys updated all the time, must not make the server keep an answer for each.
#[test]
fn r_18_answers_to_key_updates_do_not_pile_up_for_a_peer_that_does_not_read() {
    let authority = Authority::new();
    let config = Config::default().max_write_buffer_size(16 << 20).write_timeout(DEADLINE);
    each::with_each(&authority, &config, |app| {
        let config = extractable_client(&authority, TLS13);
        let mut client = RawClient::open_with_small_buffer(app.addr, config);
        let peer = app.opened();
        let mut pings = 0;
        while peer.queued_bytes() == 0 {
            assert!(pings < 1 << 20, "the kernel takes it all");
            client.send(&masked(Opcode::Ping, &[7; 125]).repeat(100));
            pings += 100;
        }
        client.send_text("ready");
        eventually("the pings were received", || peer.stats().messages_received == 1);
        let before = peer.queued_bytes();
        for _ in 0..20_000 {
            client.tls.conn.refresh_traffic_keys().expect("TLS 1.3");
            let sealed = client.seal(&masked(Opcode::Pong, b""));
            client.send_in_the_clear(&sealed);
        }
        client.send_text("done");
        eventually("it was received", || peer.stats().messages_received == 2);
        let grown = peer.queued_bytes().saturating_sub(before);
        assert!(grown < 300 << 10, "{grown} bytes more are queued");
        peer.abort();
    });
}

/// rustls refers to bytes that it has not consumed, and both ends may send meanwhile.
#[test]
fn r_18_a_server_sends_in_the_middle_of_a_message_of_the_handshake() {
    let authority = Authority::new();
    for beginning in [&[24][..], &[24, 0, 0], &[4, 0, 0, 100, 1, 2, 3]] {
        with_each(&authority, |app| {
            let config = extractable_client(&authority, TLS13);
            let client = RawClient::open(app.addr, config);
            let peer = app.opened();
            let mut client = Crafted::of_client(client);
            client.send_data(&text("before")).expect("sent");
            assert_eq!(client.receive(), Some((23, b"\x81\x06before".to_vec())));
            client.send(HANDSHAKE, beginning).expect("sent");
            // What follows is not sent, so that the end of it is not known. The worker has it when it is counted.
            let handle = app.handle();
            eventually("it is kept", || handle.memory() > 0);
            peer.send("meanwhile").expect("open");
            assert_eq!(client.receive(), Some((23, b"\x81\x09meanwhile".to_vec())));
            // RFC 8446 5.1: nothing may come between.
            client.send_data(&text("after")).expect("sent");
            is_lost(app);
        });
        with_each(&authority, |app| {
            let config = extractable_client(&authority, TLS13);
            let client = RawClient::open(app.addr, config);
            let peer = app.opened();
            let mut client = Crafted::of_client(client);
            client.send(HANDSHAKE, beginning).expect("sent");
            let handle = app.handle();
            eventually("it is kept", || handle.memory() > 0);
            peer.close(CloseCode(4000), "").expect("open");
            assert_eq!(client.receive(), Some((23, b"\x88\x02\x0f\xa0".to_vec())));
        });
    }
}

#[test]
fn r_18_a_client_sends_in_the_middle_of_a_message_of_the_handshake() {
    logged::install();
    let authority = Authority::new();
    for beginning in [&[24][..], &[24, 0, 0], &[4, 0, 0, 100, 1, 2, 3]] {
        let (listener, builder, url) = listen(&authority);
        thread::scope(|scope| {
            let client = scope.spawn(|| builder.connect(&url).expect("connected"));
            let server = RawServer::open(&listener, extractable_server(&authority, TLS13));
            let client = client.join().expect("the client");
            let mut server = Crafted::of_server(server);
            server.send(HANDSHAKE, beginning).expect("sent");
            server.stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
            assert_eq!(server.receive(), None, "the client has it, and says nothing");
            server.stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
            client.send("meanwhile").expect("open");
            assert!(server.receive().is_some_and(|(kind, content)| kind == 23 && content.len() == 6 + 9));
            server.send_data(&unmasked(Opcode::Text, b"after")).expect("sent");
            let Err(ClientError::Failed(reason)) = client.recv_timeout(DEADLINE) else { panic!("it goes on") };
            assert_eq!((reason.code.0, reason.cause), (1006, CloseCause::Lost));
        });
    }
}

fn listen(authority: &Authority) -> (TcpListener, threadbare::ClientBuilder, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("wss://localhost:{}/", listener.local_addr().expect("an address").port());
    (listener, Client::builder().no_proxy().tls(authority.client()), url)
}

/// A client's settings, of which the test can take the keys.
fn extractable_client(authority: &Authority, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut config = authority.rustls_client(versions);
    config.enable_secret_extraction = true;
    config
}

/// The same for a server.
fn extractable_server(authority: &Authority, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
    let mut config = authority.rustls_server(versions);
    config.enable_secret_extraction = true;
    config
}

/// A client and the server's end of its connection, which the test plays.
fn pair(authority: &Authority, versions: &[&'static rustls::SupportedProtocolVersion]) -> (Client, RawServer) {
    logged::install();
    let (listener, builder, url) = listen(authority);
    let config = extractable_server(authority, versions);
    thread::scope(|scope| {
        let client = scope.spawn(|| builder.connect(&url).expect("connected"));
        let server = RawServer::open(&listener, config);
        (client.join().expect("the client"), server)
    })
}

#[test]
fn r_18_a_client_tells_a_lost_connection_from_a_closed_one() {
    let authority = Authority::new();
    for versions in [TLS12, TLS13] {
        let lost = |end: &dyn Fn(&mut RawServer)| {
            let (client, mut server) = pair(&authority, versions);
            end(&mut server);
            let Err(ClientError::Failed(reason)) = client.recv_timeout(DEADLINE) else { panic!("it goes on") };
            assert_eq!((reason.code.0, reason.cause), (1006, CloseCause::Lost));
        };
        lost(&|server| server.tls.sock.shutdown(Shutdown::Write).expect("a socket"));
        lost(&|server| {
            server.tls.conn.send_close_notify();
            server.send(b"");
        });
        lost(&|server| {
            let sealed = server.seal(&unmasked(Opcode::Text, b"cut off"));
            server.send_in_the_clear(&sealed[..sealed.len() - 1]);
            server.tls.sock.shutdown(Shutdown::Write).expect("a socket");
        });
        lost(&|server| {
            server.send_in_the_clear(&[&[23, 3, 3, 0, 40][..], &[7; 40]].concat());
            let (end, _) = server.end();
            assert!(matches!(&end, End::Alert(text) if text.contains("BadRecordMac")), "{end:?}");
        });
        for says_end in [false, true] {
            let (client, mut server) = pair(&authority, versions);
            server.send(&unmasked(Opcode::Close, &1000_u16.to_be_bytes()));
            assert_eq!(server.expect_frame().close_code(), 1000);
            if says_end {
                server.tls.conn.send_close_notify();
                server.send(b"");
            }
            server.tls.sock.shutdown(Shutdown::Write).expect("a socket");
            assert_eq!(client.recv_timeout(DEADLINE), Ok(None), "a clean end");
            assert_eq!(server.end(), (End::CloseNotify, Vec::new()), "the client says the end of TLS");
        }
    }
}

#[test]
fn r_18_a_client_answers_key_updates_and_refuses_floods() {
    let authority = Authority::new();
    let (client, mut server) = pair(&authority, TLS13);
    for round in 0..1000 {
        server.tls.conn.refresh_traffic_keys().expect("TLS 1.3");
        let text = format!("round {round}");
        server.send(&unmasked(Opcode::Text, text.as_bytes()));
        assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(Message::Text(text.clone()))));
        client.send(text.clone()).expect("open");
        assert_eq!(server.expect_frame(), Frame { opcode: Opcode::Text, payload: text.into() });
    }
    for _ in 0..100 {
        server.tls.conn.refresh_traffic_keys().expect("TLS 1.3");
        let sealed = server.seal(b"");
        // The client may have ended it.
        let _ = std::io::Write::write_all(&mut server.tls.sock, &sealed);
    }
    assert!(matches!(client.recv_timeout(DEADLINE), Err(ClientError::Failed(_))));

    let (client, server) = pair(&authority, TLS13);
    let mut server = Crafted::of_server(server);
    for _ in 0..10_000 {
        if server.send_data(b"").is_err() {
            break;
        }
    }
    assert!(matches!(client.recv_timeout(DEADLINE), Err(ClientError::Failed(_))));
}

/// RFC 5246 7.2.2: the warning `no_renegotiation`, with which the connection goes on as it was.
const NO_RENEGOTIATION: [u8; 2] = [1, 100];

#[test]
fn r_18_a_server_does_not_renegotiate() {
    let authority = Authority::new();
    with_each(&authority, |app| {
        let config = extractable_client(&authority, TLS12);
        let client = RawClient::open(app.addr, config.clone());
        app.opened();
        let mut client = Crafted::of_client(client);
        let mut hello = Vec::new();
        let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
        let mut session = rustls::ClientConnection::new(config.into(), name).expect("a session");
        session.write_tls(&mut hello).expect("to memory");
        client.send(HANDSHAKE, &hello[5..]).expect("sent");
        assert_eq!(client.receive(), Some((21, NO_RENEGOTIATION.to_vec())));
        client.send_data(&text("hello")).expect("sent");
        assert_eq!(client.receive(), Some((23, b"\x81\x05hello".to_vec())));
        for _ in 0..100 {
            if client.send(HANDSHAKE, &hello[5..]).is_err() {
                break;
            }
        }
        is_lost(app);
    });
}

#[test]
fn r_18_a_client_does_not_renegotiate() {
    const HELLO_REQUEST: &[u8] = &[0, 0, 0, 0];
    let authority = Authority::new();
    let (client, server) = pair(&authority, TLS12);
    let mut server = Crafted::of_server(server);
    server.send(HANDSHAKE, HELLO_REQUEST).expect("sent");
    assert_eq!(server.receive(), Some((21, NO_RENEGOTIATION.to_vec())));
    server.send_data(&unmasked(Opcode::Text, b"hello")).expect("sent");
    assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(Message::from("hello"))));
    for _ in 0..100 {
        if server.send(HANDSHAKE, HELLO_REQUEST).is_err() {
            break;
        }
    }
    assert!(matches!(client.recv_timeout(DEADLINE), Err(ClientError::Failed(_))));
}

/// One that floods with the smallest records does not hold up another on the same worker.
#[test]
fn r_18_a_flood_of_small_records_does_not_starve_others() {
    let authority = Authority::new();
    let app = App::start(Mode::Handler, Server::builder().workers(1).tls(authority.server()), echo);
    let mut victim = open(&app, &authority);
    let mut flooder = open(&app, &authority);
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut sealed = Vec::new();
            for _ in 0..2000 {
                sealed.clear();
                for byte in masked(Opcode::Pong, b"a few bytes") {
                    sealed.extend(flooder.seal(&[byte]));
                }
                flooder.send_in_the_clear(&sealed);
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let mut slowest = Duration::ZERO;
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            let start = Instant::now();
            victim.echo("hello");
            slowest = slowest.max(start.elapsed());
        }
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    });
    drop((victim, flooder));
    app.finish();
}
