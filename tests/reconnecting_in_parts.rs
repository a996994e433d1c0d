//! Messages in parts through a client that reconnects: each belongs to one connection, whole or not at all.

use crate::common;

use std::io::{self, BufRead, Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use common::DEADLINE;
use common::server_end::{CLOSE, Masked, ServerEnd, listen};
use threadbare::protocol::frame::Opcode;
use threadbare::{
    Client, ClientError, CloseCause, CloseCode, Config, ConnectionState, Ended, Message, MessageRef, Outage, Receive,
    Reconnect, ReconnectingClient, SlowConsumer, StreamOptions,
};

const SOON: Duration = Duration::from_millis(20);

fn config() -> Config {
    Config::default().receive(Receive::Fragments { max_size: None }).fragment_size(1000)
}

/// A client that connects to this listener, again and again.
fn client(config: Config) -> (ReconnectingClient, TcpListener) {
    let (listener, url) = listen();
    let retry = Reconnect::new().initial_delay(Duration::from_millis(1)).max_delay(SOON);
    let client = Client::builder().config(config).no_proxy().reconnect(&url, retry).expect("a thread");
    (client, listener)
}

/// The error of the client that a read failed with.
fn source(error: &io::Error) -> &ClientError {
    error.get_ref().and_then(|source| source.downcast_ref()).expect("an error of the client")
}

/// The text of the next message.
fn read_text(client: &ReconnectingClient) -> String {
    let mut text = String::new();
    let mut reader = client.recv_reader_timeout(DEADLINE).expect("a message").expect("not closed");
    reader.read_to_string(&mut text).expect("UTF-8");
    text
}

fn wait_connected(client: &ReconnectingClient) {
    client.wait_state(DEADLINE, ConnectionState::is_connected).expect("connected");
}

/// Receives the frames of a message, and returns its payload.
fn receive(server: &mut ServerEnd, opcode: Opcode) -> Vec<u8> {
    let mut payload = Vec::new();
    for expected in std::iter::once(opcode).chain(std::iter::repeat(Opcode::Continuation)) {
        let Masked { opcode, fin, payload: bytes, .. } = server.expect_frame();
        assert_eq!(opcode, expected);
        payload.extend_from_slice(&bytes);
        if fin {
            break;
        }
    }
    payload
}

#[test]
fn messages_are_read_one_after_the_other_through_reconnects() {
    for config in [config(), Config::default()] {
        let (client, listener) = client(config);
        for _ in 0..2 {
            let mut server = ServerEnd::accept(&listener);
            server.send(b"\x01\x03one\x80\x05, two\x81\x00\x81\x05whole\x02\x01x\x80\x00");
            assert_eq!(read_text(&client), "one, two");
            assert_eq!(read_text(&client), "");
            assert_eq!(client.recv_timeout(DEADLINE).expect("connected"), Some(Message::from("whole")));
            let mut reader = client.recv_reader().expect("a message").expect("not closed");
            assert!(!reader.is_text());
            assert_eq!(reader.fill_buf().expect("a byte"), b"x");
        }
        // The rest of the last message is discarded.
        let mut server = ServerEnd::accept(&listener);
        server.send(b"\x81\x04last");
        assert_eq!(read_text(&client), "last");
        assert!(matches!(client.recv_reader_timeout(SOON), Err(ClientError::Timeout)));
        server.send(CLOSE);
        assert!(client.recv_reader_deadline(Instant::now() + DEADLINE).expect("a clean end").is_none());
        assert!(client.recv().expect("a clean end").is_none());
    }
}

#[test]
fn a_connection_that_is_lost_inside_a_message_ends_its_reader_alone() {
    let ends: [fn(&ReconnectingClient, ServerEnd) -> Option<ServerEnd>; 3] = [
        |_, _| None,
        |client, server| {
            client.peer().expect("connected").abort();
            Some(server)
        },
        // 1001: the server goes away.
        |_, mut server| {
            server.send(b"\x88\x02\x03\xe9");
            Some(server)
        },
    ];
    for end in ends {
        let (client, listener) = client(config());
        let mut server = ServerEnd::accept(&listener);
        server.send(b"\x01\x04lost");
        let mut reader = client.recv_reader_timeout(DEADLINE).expect("a message").expect("not closed");
        assert_eq!(reader.fill_buf().expect("what has arrived"), b"lost");
        reader.consume(4);
        wait_connected(&client);
        let _server = end(&client, server);
        let mut next = ServerEnd::accept(&listener);
        next.send(b"\x01\x01t\x80\x02wo\x81\x05three");
        for _ in 0..3 {
            let error = reader.read(&mut [0; 10]).expect_err("the message has no end");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            assert!(matches!(source(&error), ClientError::Failed(_)), "{error}");
        }
        drop(reader);
        assert_eq!(read_text(&client), "two");
        assert_eq!(read_text(&client), "three");
    }
}

#[test]
fn what_recv_had_of_a_lost_message_is_not_read() {
    let (client, listener) = client(config());
    let mut server = ServerEnd::accept(&listener);
    server.send(b"\x81\x05begin\x01\x04lost");
    assert_eq!(client.recv_timeout(DEADLINE).expect("connected"), Some(Message::from("begin")));
    assert!(matches!(client.recv_timeout(SOON), Err(ClientError::Timeout)));
    drop(server);
    let mut server = ServerEnd::accept(&listener);
    wait_connected(&client);
    // This takes the end of the first connection.
    assert!(matches!(client.recv_timeout(SOON), Err(ClientError::Timeout)));
    server.send(b"\x01\x01t\x80\x02wo");
    assert_eq!(read_text(&client), "two");
}

#[test]
fn a_reader_goes_on_after_its_deadline() {
    let (client, listener) = client(config());
    let mut server = ServerEnd::accept(&listener);
    server.send(b"\x01\x03one");
    let mut reader = client.recv_reader().expect("a message").expect("not closed");
    reader.set_deadline(Instant::now() + SOON);
    let mut text = Vec::new();
    let error = reader.read_to_end(&mut text).expect_err("the rest was not sent");
    assert_eq!((error.kind(), source(&error)), (io::ErrorKind::TimedOut, &ClientError::Timeout));
    reader.set_deadline(None);
    server.send(b"\x80\x05, two");
    reader.read_to_end(&mut text).expect("the end");
    assert_eq!(text, b"one, two");
}

#[test]
fn a_message_in_parts_waits_for_a_connection_and_for_the_outbox() {
    let (client, listener) = client(config());
    client.send("in the outbox").expect("room");
    let sender = thread::spawn({
        let sender = client.sender();
        move || sender.send_stream(io::repeat(b'x').take(10_000), StreamOptions::text())
    });
    let mut writer = client.writer(StreamOptions::text());
    writer.set_deadline(Instant::now());
    writer.write_all(b"short").expect("gathered");
    assert_eq!(writer.flush().expect_err("no connection").kind(), io::ErrorKind::TimedOut);
    let mut server = ServerEnd::accept(&listener);
    assert_eq!(receive(&mut server, Opcode::Text), b"in the outbox");
    assert_eq!(receive(&mut server, Opcode::Text), [b'x'; 10_000]);
    assert_eq!(sender.join().expect("no panic").expect("sent"), 10_000);
    writer.set_deadline(Instant::now() + DEADLINE);
    writer.finish().expect("nothing was lost");
    assert_eq!(receive(&mut server, Opcode::Text), b"short");
}

#[test]
fn nothing_of_a_message_whose_connection_is_lost_is_sent_again() {
    let (client, listener) = client(config());
    let mut server = ServerEnd::accept(&listener);
    wait_connected(&client);
    let mut writer = client.writer(StreamOptions::binary());
    writer.write_all(&[1; 2_500]).expect("two parts");
    for opcode in [Opcode::Binary, Opcode::Continuation] {
        assert_eq!(server.expect_frame().opcode, opcode);
    }
    drop(server);
    let mut server = ServerEnd::accept(&listener);
    client.send("another").expect("sent or queued");
    assert_eq!(receive(&mut server, Opcode::Text), b"another");
    for _ in 0..2 {
        let error = writer.write_all(&[2; 2_500]).and_then(|()| writer.flush()).expect_err("the connection is lost");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
    }
    assert_eq!(writer.finish().expect_err("it has no end").kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(client.send_stream(&[3; 1_500][..], StreamOptions::binary()).expect("sent"), 1_500);
    assert_eq!(receive(&mut server, Opcode::Binary), [3; 1_500]);
}

#[test]
fn a_writer_or_source_that_ends_half_way_costs_the_connection_and_not_the_client() {
    struct Failing(io::Take<io::Repeat>);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::other("the disk is gone")),
                size => Ok(size),
            }
        }
    }
    let (client, listener) = client(config());
    let states = client.state_changes();
    for fails in [false, true] {
        let mut server = ServerEnd::accept(&listener);
        wait_connected(&client);
        if fails {
            let error = client.send_stream(Failing(io::repeat(1).take(1_500)), StreamOptions::binary());
            assert_eq!(error.expect_err("it fails").to_string(), "the disk is gone");
        } else {
            let mut writer = client.writer(StreamOptions::binary());
            writer.write_all(b"half").and_then(|()| writer.flush()).expect("sent");
        }
        let frames = server.frames();
        assert_eq!(frames.last().map(|close| &close.payload[..2]), Some(&1011_u16.to_be_bytes()[..]));
    }
    let mut server = ServerEnd::accept(&listener);
    client.send_stream(&b"whole"[..], StreamOptions::text()).expect("sent");
    assert_eq!(receive(&mut server, Opcode::Text), b"whole");
    let outages = states.as_channel().try_iter().filter_map(|state| match state {
        ConnectionState::Waiting { why, .. } => Some(why),
        _ => None,
    });
    for outage in outages {
        let Outage::Closed(reason) = &*outage else { panic!("{outage:?}") };
        assert_eq!((reason.code, reason.cause), (CloseCode::INTERNAL_ERROR, CloseCause::Failed));
    }
}

#[test]
fn a_message_in_parts_is_refused_where_the_call_does_not_wait_or_the_client_is_closed() {
    let (client, _listener) = client(config().slow_consumer(SlowConsumer::Refuse));
    let refused = client.send_stream(&b"x"[..], StreamOptions::text()).expect_err("no connection");
    assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    client.close(CloseCode::NORMAL_CLOSURE, "").expect("open");
    let closed = client.send_stream(&b"x"[..], StreamOptions::text()).expect_err("closed");
    assert_eq!(closed.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn finish_waits_for_the_message_that_is_sent() {
    let (client, listener) = client(config());
    let mut server = ServerEnd::accept(&listener);
    wait_connected(&client);
    let mut writer = client.writer(StreamOptions::text());
    writer.write_all(b"half ").and_then(|()| writer.flush()).expect("sent");
    assert_eq!(server.expect_frame().payload, b"half ");
    thread::scope(|scope| {
        let finished = scope.spawn(|| client.finish(DEADLINE));
        common::eventually("it closes", || client.peer().is_some_and(|peer| !peer.is_open()));
        writer.finish().expect("sent");
        assert_eq!((server.expect_frame().payload, server.expect_frame().opcode), (b"".to_vec(), Opcode::Close));
        server.send(CLOSE);
        drop(server);
        assert!(matches!(finished.join().expect("no panic"), Ok(Ended::ByApplication(Some(_)))));
    });
}

#[test]
fn next_ref_lends_the_messages_of_one_connection_after_the_other() {
    for config in [config(), Config::default()] {
        let (client, listener) = client(config);
        let mut messages = client.iter();
        for number in 0..3 {
            let mut server = ServerEnd::accept(&listener);
            server.send(b"\x81\x03one\x82\x7e\x80\x00");
            server.send(&[7; 32_768]);
            server.send(b"\x81\x05three\x81\x04four\x01\x04lost");
            assert_eq!(messages.next_ref().expect("a message").expect("connected"), MessageRef::Text("one"));
            let large = messages.next_ref().expect("a message").expect("connected");
            assert_eq!(large, MessageRef::Binary(&[7; 32_768]));
            assert_eq!(messages.next().expect("a message").expect("connected"), Message::from("three"));
            if number == 1 {
                messages = client.iter();
                assert_eq!(client.recv().expect("connected"), Some(Message::from("four")));
            } else {
                assert_eq!(messages.next_ref().expect("a message").expect("connected"), MessageRef::Text("four"));
            }
        }
        let mut server = ServerEnd::accept(&listener);
        server.send(CLOSE);
        assert!(messages.next_ref().is_none() && messages.next().is_none());
    }
}
