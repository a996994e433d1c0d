//! permessage-deflate between servers, clients and blocking sockets.

mod common;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use common::app::{App, AppEvent, echo};
use common::servers::Mode;
use common::{Client as Raw, DEADLINE, masked};
use flate2::{Compress, Compression as Level, Decompress, FlushCompress, FlushDecompress};
use threadbare::protocol::frame::{self, Opcode, RSV1};
use threadbare::{
    Accept, Client, ClientRequest, Compression, Config, DeflateConfig, DeflateStats, Handler, Message, MessageRef,
    Peer, Prepared, Reconnect, Server, Socket, Url, WebSocket,
};

fn config(deflate: DeflateConfig) -> Config {
    Config::default().max_message_size(4 << 20).deflate(deflate)
}

/// Every setting of context takeover, and small windows.
fn settings() -> [DeflateConfig; 5] {
    let default = DeflateConfig::default();
    [
        default.clone(),
        default.clone().server_no_context_takeover(false).client_no_context_takeover(false),
        default.clone().server_no_context_takeover(false),
        default.clone().client_no_context_takeover(false),
        default.server_max_window_bits(9).client_max_window_bits(10),
    ]
}

fn messages() -> Vec<Message> {
    let json = r#"{"id":1234,"name":"sensor","values":[1,2,3,4,5,6,7,8]}"#;
    let noise: Vec<u8> = (0..70_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut messages = vec![Message::from(""), Message::from("short"), Message::from(json.repeat(20))];
    messages.extend((0..50).map(|n| Message::from(format!("{n}: {}", json.repeat(1 + n % 7)))));
    messages.extend([Message::from(noise), Message::from(vec![0; 3 << 20]), Message::from("last".repeat(100))]);
    messages
}

#[test]
fn messages_are_echoed_compressed_in_every_mode_and_setting() {
    for mode in Mode::ALL {
        for setting in settings() {
            let app = App::start(mode, Server::builder().workers(1).config(config(setting.clone())), echo);
            let client = Client::builder().config(config(setting)).connect(&format!("ws://{}", app.addr));
            let client = client.expect("connected");
            let extensions = client.response().header("Sec-WebSocket-Extensions").expect("negotiated");
            assert!(extensions.starts_with("permessage-deflate"), "{extensions}");
            for message in messages() {
                client.send(message.clone()).expect("sent");
                assert!(client.recv_timeout(DEADLINE).expect("received") == Some(message));
            }
            // Answers that are written together keep their order, whether they are compressed or too short for that.
            let small = || messages().into_iter().filter(|message| message.len() < 4096);
            for message in small() {
                client.send(message).expect("sent");
            }
            for message in small() {
                assert!(client.recv_timeout(DEADLINE).expect("received") == Some(message));
            }
            let payload: usize = messages().iter().chain(&small().collect::<Vec<_>>()).map(Message::len).sum();
            let stats = client.stats();
            assert!(stats.bytes_sent < payload as u64 / 10 && stats.bytes_received < payload as u64 / 10, "{stats:?}");
            drop(client);
            app.finish();
        }
    }
}

#[test]
fn an_offer_is_accepted_on_a_second_line_as_a_fallback_and_in_quotes() {
    // RFC 6455 9.1: several lines are one list. RFC 7692 5: the first acceptable offer is taken.
    let app = App::start(Mode::Handler, Server::builder().config(config(settings()[1].clone())), echo);
    for (lines, bits) in [
        ("Sec-WebSocket-Extensions: x-one; a=1, x-two\r\nSec-WebSocket-Extensions: permessage-deflate\r\n", None),
        (
            "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12\r\n",
            Some("12"),
        ),
        (
            "Sec-WebSocket-Extensions: permessage-deflate; unknown, permessage-deflate; server_max_window_bits=\"10\"\r\n",
            Some("10"),
        ),
        (
            "Sec-WebSocket-Extensions: x-one; client_max_window_bits=\"10\"\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=\"10\"\r\n",
            None,
        ),
    ] {
        let mut client = Raw::tcp(app.addr);
        client.send(common::request("/", lines).as_bytes());
        let head = client.head();
        let expected = bits.map_or(String::new(), |bits| format!("; server_max_window_bits={bits}"));
        let line = format!("\r\nSec-WebSocket-Extensions: permessage-deflate{expected}\r\n");
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains(&line), "{lines:?}: {head}");
    }
}

/// 40,000 bytes that repeat themselves every 200.
fn periodic() -> Vec<u8> {
    (0..200).map(|n| n ^ 0x55).cycle().take(40_000).collect()
}

#[test]
fn context_takeover_is_negotiated_for_each_side_alone() {
    // RFC 7692 7.1.1: the parameters are about the messages of one side each.
    let app =
        App::start(Mode::Handler, Server::builder().config(config(settings()[1].clone().threshold(0).level(6))), echo);
    // RFC 7692 7.2.3.1 and 7.2.3.2: "Hello", and the same as a reference to the message before.
    let hello = |payload: &[u8]| masked(true, RSV1, Opcode::Text, payload);
    let first = hello(b"\xf2\x48\xcd\xc9\xc9\x07\x00");
    let second = hello(b"\xf2\x00\x11\x00\x00");
    for (offer, server, client) in [
        ("", true, true),
        ("; server_no_context_takeover", false, true),
        ("; client_no_context_takeover", true, false),
        ("; server_no_context_takeover; client_no_context_takeover", false, false),
    ] {
        let mut raw = Raw::tcp(app.addr);
        let headers = format!("Sec-WebSocket-Extensions: permessage-deflate{offer}\r\n");
        raw.send(common::request("/", &headers).as_bytes());
        let head = raw.head();
        assert!(head.contains(&format!("\r\nSec-WebSocket-Extensions: permessage-deflate{offer}\r\n")), "{head}");
        raw.send(&[&first[..], &first].concat());
        let answers = [raw.expect_frame(), raw.expect_frame()];
        // "Hello" does not get smaller, except as a reference.
        let expected: [(u8, &[u8]); 2] = match server {
            true => [(RSV1, b"\xf2\x48\xcd\xc9\xc9\x07\x00"), (RSV1, b"\xf2\x00\x11\x00\x00")],
            false => [(0, b"Hello"), (0, b"Hello")],
        };
        assert_eq!(answers.each_ref().map(|frame| (frame.rsv, &frame.payload[..])), expected, "{offer}");
        raw.send(&second);
        match client {
            true => assert_eq!(raw.expect_frame().opcode, Opcode::Text, "{offer}"),
            false => raw.expect_close(1007),
        }
    }
}

#[test]
fn a_server_may_use_windows_of_8_and_9_bits() {
    // RFC 7692 7.1.2: from 8 to 15. zlib inflates both.
    for bits in [8, 9] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let server = thread::spawn(move || {
            let mut raw = Raw::from_stream(listener.accept().expect("a client").0);
            let head = raw.head();
            let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
            let answer = format!(
                "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\
                 Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits={bits}\r\n\r\n",
                threadbare::protocol::handshake::accept_key(key)
            );
            // RFC 7692 7.2.3.1 and 7.2.3.2: "Hello", and the same in the window.
            let hello = b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00";
            // The third message is full of distances. With 9 bits zlib looks 250 bytes back at most.
            let mut compress = Compress::new_with_window_bits(Level::best(), false, 9);
            let mut third = Vec::with_capacity(1000);
            compress.compress_vec(&periodic(), &mut third, FlushCompress::Sync).expect("compressed");
            third.truncate(third.len() - 4);
            let mut frame = Vec::new();
            frame::encode_compressed(&mut frame, Opcode::Binary, &third, None);
            raw.send(&[answer.as_bytes(), hello, &frame].concat());
            raw
        });
        let client = Client::builder().config(config(DeflateConfig::default())).connect(&format!("ws://{addr}/"));
        let client = client.expect("connected");
        for _ in 0..2 {
            assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(Message::from("Hello"))), "{bits}");
        }
        assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(Message::from(periodic()))), "{bits}");
        drop(server.join().expect("the server answers"));
    }
}

#[test]
fn blocking_sockets_negotiate_compression() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        let accept = |_: &threadbare::Request| Ok(threadbare::Accept::new());
        let mut socket = WebSocket::accept_with(stream, &config(DeflateConfig::default()), accept).expect("accepted");
        while let Some(message) = socket.recv().expect("a message") {
            socket.send(&message).expect("sent");
        }
    });
    let request = threadbare::ClientRequest::new(threadbare::Url::parse(&format!("ws://{addr}/")).expect("a URL"));
    let stream = TcpStream::connect(addr).expect("connected");
    let mut socket = WebSocket::connect_with(request, stream, &config(DeflateConfig::default())).expect("accepted");
    for message in messages() {
        socket.send(&message).expect("sent");
        assert!(socket.recv().expect("received") == Some(message));
    }
    let payload: usize = messages().iter().map(Message::len).sum();
    let stats = socket.stats();
    assert!(stats.bytes_sent < payload as u64 / 10 && stats.bytes_received < payload as u64 / 10, "{stats:?}");
    socket.close(threadbare::CloseCode::NORMAL_CLOSURE, "").expect("sent");
    assert!(socket.recv().expect("an end").is_none());
    server.join().expect("the server");
}

/// A client that inflates messages itself, and reports which of them were compressed.
struct Subscriber {
    raw: Raw,
    /// `None` if compression was not negotiated; otherwise with whether the server keeps its context between messages.
    inflater: Option<(Decompress, bool)>,
}

impl Subscriber {
    /// Opens a connection without an offer of compression, or with these parameters and whether they allow the server to
    /// keep its context.
    fn open(addr: SocketAddr, offer: Option<(&str, bool)>) -> Subscriber {
        let Some((parameters, takeover)) = offer else {
            return Subscriber { raw: Raw::open(addr), inflater: None };
        };
        let headers = format!("Sec-WebSocket-Extensions: permessage-deflate{parameters}\r\n");
        let raw = Raw::open_with(addr, "/", &headers);
        Subscriber { raw, inflater: Some((Decompress::new(false), takeover)) }
    }

    /// Receives a message, and whether it was compressed.
    fn receive(&mut self) -> (String, bool) {
        let frame = self.raw.expect_frame();
        assert!(frame.fin && frame.opcode == Opcode::Text, "{frame:?}");
        if frame.rsv == 0 {
            return (String::from_utf8(frame.payload).expect("UTF-8"), false);
        }
        assert_eq!(frame.rsv, RSV1);
        let (inflater, takeover) = self.inflater.as_mut().expect("negotiated");
        if !*takeover {
            inflater.reset(false);
        }
        let mut out = Vec::with_capacity(100_000);
        let bytes = [&frame.payload[..], &[0x00, 0x00, 0xFF, 0xFF]].concat();
        inflater.decompress_vec(&bytes, &mut out, FlushDecompress::Sync).expect("a deflate stream");
        (String::from_utf8(out).expect("UTF-8"), true)
    }
}

#[test]
fn broadcasts_and_prepared_messages_are_compressed_where_negotiated() {
    let deflate = DeflateConfig::default().server_no_context_takeover(false);
    for mode in Mode::ALL {
        let app =
            App::start(mode, Server::builder().workers(2).config(config(deflate.clone())), |connection, message| {
                connection.send(message);
            });
        let offers = [
            None,
            Some(("; server_no_context_takeover", false)),
            Some(("; server_no_context_takeover; server_max_window_bits=9", false)),
            Some(("; server_no_context_takeover; server_max_window_bits=11", false)),
            Some(("; server_max_window_bits=10", true)),
            Some(("", true)),
        ];
        let mut subscribers: Vec<_> =
            (0..24).map(|n| (offers[n % offers.len()], Subscriber::open(app.addr, offers[n % offers.len()]))).collect();
        let peers: Vec<Peer> = subscribers.iter().map(|_| app.opened()).collect();
        // The text repeats itself within the smallest window.
        let text =
            |n: usize| format!("{n}: {}", (0..600).map(|word| format!("{} ", word * n % 41)).collect::<String>());
        let short = "too short to be compressed";
        let handle = app.handle();
        for n in 1..=5 {
            handle.broadcast(text(n).as_str());
            handle.broadcast(short);
            handle.broadcast_prepared(&Prepared::with(text(n).as_str(), Compression::Never));
            let prepared = Prepared::new(text(n + 1).as_str());
            for peer in &peers {
                peer.send_prepared(&prepared).expect("the connection is open");
            }
        }
        for n in 1..=5 {
            for (offer, subscriber) in &mut subscribers {
                let compressed = offer.is_some();
                let expected =
                    [(text(n), compressed), (short.to_owned(), false), (text(n), false), (text(n + 1), compressed)];
                // The order of broadcasts and other messages is not specified.
                let mut received: Vec<_> = (0..4).map(|_| subscriber.receive()).collect();
                received.sort();
                let mut expected = expected.to_vec();
                expected.sort();
                assert!(received == expected, "{offer:?}, round {n}");
            }
        }
        let payload: usize = (1..=5).map(|n| text(n).len() + text(n + 1).len()).sum();
        for peer in &peers {
            // The worker counts a message after it has written it.
            common::eventually("every message is counted", || {
                peer.stats().deflate.is_none_or(|deflate| deflate.sent == payload as u64)
            });
            if let Some(deflate) = peer.stats().deflate {
                assert!(deflate.sent_compressed < deflate.sent / 2, "{deflate:?}");
            }
        }
        assert_eq!(peers.iter().filter(|peer| peer.stats().deflate.is_some()).count(), 20);
        drop(subscribers);
        app.finish();
    }
}

/// Answers each message twice, compressed and not compressed, and then with the counts.
struct EchoBoth;

impl Handler for EchoBoth {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.send_with(message, Compression::Auto);
        socket.send_with(message, Compression::Never);
        let stats = socket.stats().deflate.expect("negotiated");
        socket.send(format!("{} {}", stats.sent, stats.received).as_str());
    }
}

#[test]
fn a_message_sent_with_compression_never_is_not_compressed() {
    let secret = "a secret, and text of an attacker, ".repeat(1000);
    let deflate = || config(DeflateConfig::default().server_no_context_takeover(false));
    let size = secret.len() as u64;

    // By a handler.
    let server = Server::builder().workers(1).config(deflate()).serve("127.0.0.1:0", |_| EchoBoth).expect("a server");
    let mut subscriber = Subscriber::open(server.local_addr(), Some(("", true)));
    subscriber.raw.send(&common::text(&secret));
    assert!(subscriber.receive() == (secret.clone(), true));
    assert!(subscriber.receive() == (secret.clone(), false));
    assert_eq!(subscriber.receive(), (format!("{size} 0"), false));

    // By other threads and by a client, small and large messages.
    let app = App::start(Mode::Channel, Server::builder().workers(1).config(deflate()), |_, _| {});
    let client = Client::builder().config(deflate()).connect(&format!("ws://{}", app.addr)).expect("connected");
    let mut subscriber = Subscriber::open(app.addr, Some(("", true)));
    let (of_client, peer) = (app.opened(), app.opened());
    for text in [&secret[..200], &secret] {
        for compression in [Compression::Never, Compression::Auto] {
            peer.send_with(text, compression).expect("the connection is open");
            assert!(subscriber.receive() == (text.to_owned(), compression == Compression::Auto));
            client.send_with(text, compression).expect("the connection is open");
            let AppEvent::Message(_, message) = app.next() else { panic!("not a message") };
            assert!(message.as_text() == Some(text));
        }
    }
    // The workers count a message after they have written or delivered it.
    common::eventually("every message is counted", || {
        let both = [client.stats(), of_client.stats()].map(|stats| stats.deflate.expect("negotiated"));
        let [sent, received] = both;
        (sent.sent, received.received) == (size + 200, size + 200)
            && sent.sent_compressed == received.received_compressed
            && sent.sent_compressed < size / 10
            && (sent.received, received.sent) == (0, 0)
    });
    // One of the two large messages was not compressed.
    common::eventually("every byte is counted", || (size + 1..2 * size).contains(&client.stats().bytes_sent));
    drop((client, subscriber));
    app.finish();

    // By a reconnecting client, whose first messages may wait for the connection.
    let app = App::start(Mode::Channel, Server::builder().workers(1).config(deflate()), |_, _| {});
    let url = format!("ws://{}", app.addr);
    let client = Client::builder().config(deflate()).reconnect(&url, Reconnect::new()).expect("a client");
    for compression in [Compression::Never, Compression::Auto] {
        client.send_with(&secret, compression).expect("not closed");
    }
    let peer = app.opened();
    for _ in 0..2 {
        let AppEvent::Message(_, message) = app.next() else { panic!("not a message") };
        assert!(message.as_text() == Some(&secret));
    }
    common::eventually("one of the two was compressed", || {
        peer.stats().deflate.is_some_and(|stats| stats.received == size && stats.received_compressed < size / 10)
    });
    drop(client);
    app.finish();

    // By a blocking socket.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let ours = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    let (theirs, _) = listener.accept().expect("a client");
    let server = thread::spawn(move || {
        let mut socket =
            WebSocket::accept_with(theirs, &config(DeflateConfig::default()), |_| Ok(Accept::new())).expect("accepted");
        let messages = [socket.recv(), socket.recv()].map(|message| message.expect("received").expect("a message"));
        (messages, socket.stats())
    });
    let request = ClientRequest::new(Url::parse("ws://localhost/").expect("a URL"));
    let mut socket = WebSocket::connect_with(request, ours, &config(DeflateConfig::default())).expect("accepted");
    socket.send_with(&secret, Compression::Never).expect("sent");
    assert_eq!(socket.stats().deflate, Some(DeflateStats::default()));
    socket.send_with(&secret, Compression::Auto).expect("sent");
    let (messages, theirs) = server.join().expect("the server");
    assert!(messages.iter().all(|message| message.as_text() == Some(&secret)));
    let (ours, received) = (socket.stats(), theirs.deflate.expect("negotiated"));
    let sent = ours.deflate.expect("negotiated");
    assert_eq!((sent.sent, sent.sent_compressed), (received.received, received.received_compressed));
    assert_eq!((ours.messages_sent, theirs.messages_received), (2, 2));
    assert_eq!((ours.bytes_sent, ours.queued_bytes), (theirs.bytes_received, 0));
    assert!(sent.sent == size && ours.bytes_sent > size && ours.bytes_sent < size + size / 10);
}

/// A compressed message that is half received keeps its connection busy, and what is queued goes before the close.
#[test]
fn a_drain_closes_behind_compressed_messages() {
    for mode in Mode::ALL {
        for workers in [1, 2] {
            let builder = Server::builder().workers(workers).config(config(DeflateConfig::default()));
            let app = App::start(mode, builder, echo);
            let client = Client::builder().config(config(DeflateConfig::default()));
            let client = client.connect(&format!("ws://{}", app.addr)).expect("connected");
            app.opened();
            let drain = thread::spawn({
                let handle = app.handle();
                move || handle.drain(std::time::Duration::from_secs(4))
            });
            let mut writer = client.writer(threadbare::StreamOptions::binary());
            let (first, second) = ("a message ".repeat(10_000), "its end".repeat(10_000));
            std::io::Write::write_all(&mut writer, first.as_bytes()).expect("written");
            std::io::Write::flush(&mut writer).expect("written");
            std::io::Write::write_all(&mut writer, second.as_bytes()).expect("written");
            writer.finish().expect("written");
            let whole = Message::Binary((first + &second).into_bytes());
            assert!(client.recv_timeout(DEADLINE).expect("received") == Some(whole));
            assert_eq!(client.recv_timeout(DEADLINE).expect("closed"), None);
            assert_eq!(client.close_reason().expect("closed").code.0, 1012);
            let report = drain.join().expect("drained");
            assert_eq!((report.idle + report.busy, report.left, report.lost, report.cut), (1, 0, 0, 0), "{report}");
            app.finish();
        }
    }
}
