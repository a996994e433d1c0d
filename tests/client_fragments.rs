//! Clients that receive fragments: `recv_reader`, and whole messages all the same.

use crate::common;

use std::io::{self, BufRead, Read};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use common::DEADLINE;
use common::large::{Checked, LARGE, send_large};
use common::server_end::{ServerEnd, listen};
use threadbare::{
    Client, ClientError, ClientPool, CloseCause, CloseCode, Config, Message, Receive, Reconnect, ReconnectingClient,
};

fn config() -> Config {
    let config = Config::default().receive(Receive::Fragments { max_size: None });
    config.max_message_size(100).max_event_buffer_size(512 << 10)
}

/// A client, and the server that the test plays.
fn pair(config: Config) -> (Client, ServerEnd) {
    let (listener, url) = listen();
    connect(&listener, || Client::builder().config(config).no_proxy().connect(&url).expect("connected"))
}

fn connect<C: Send>(listener: &TcpListener, client: impl FnOnce() -> C + Send) -> (C, ServerEnd) {
    std::thread::scope(|scope| {
        let server = scope.spawn(|| ServerEnd::accept(listener));
        (client(), server.join().expect("no panic"))
    })
}

/// The error of the client that a read failed with.
fn source(error: &io::Error) -> &ClientError {
    error.get_ref().and_then(|source| source.downcast_ref()).expect("an error of the client")
}

fn read_text(client: &Client) -> String {
    let mut text = String::new();
    let mut reader = client.recv_reader_timeout(DEADLINE).expect("a message").expect("not closed");
    reader.read_to_string(&mut text).expect("UTF-8");
    text
}

/// A reader that stops reading stops its own connection, with bounded memory, and none of the others of its worker.
#[test]
fn a_large_message_is_read_as_it_arrives_and_while_nobody_reads_only_its_connection_waits() {
    let (listener, url) = listen();
    let pool = ClientPool::new(1, config()).expect("a pool");
    let open = || connect(&listener, || Client::builder().pool(&pool).no_proxy().connect(&url).expect("connected"));
    let ((client, server), (other, mut other_server)) = (open(), open());
    let sender = send_large(&server.stream, LARGE, false);
    let mut reader = client.recv_reader_timeout(DEADLINE).expect("a message").expect("not closed");
    assert!(!reader.is_text());
    // The reader has the first receive buffer, and the second waits for it.
    common::eventually("the channel is full", || client.stats().bytes_received >= 128 << 10);
    for _ in 0..20 {
        other_server.send(b"\x81\x02hi");
        assert_eq!(read_text(&other), "hi");
    }
    let read = client.stats().bytes_received;
    assert!(read < 1 << 20 && !sender.is_finished(), "{read} bytes were read");
    let mut checked = Checked::new();
    loop {
        let bytes = reader.fill_buf().expect("more, or the end");
        if bytes.is_empty() {
            break;
        }
        checked.add(bytes);
        let size = bytes.len();
        reader.consume(size);
    }
    assert_eq!(checked.received, LARGE);
    sender.join().expect("no panic").expect("all of it was read");
}

#[test]
fn messages_are_read_one_after_the_other_or_received_whole() {
    for config in [config(), Config::default()] {
        let (client, mut server) = pair(config);
        server.send(b"\x01\x03one\x80\x05, two\x81\x00\x81\x05whole\x01\x05whole\x80\x04 too\x02\x01x\x80\x00");
        assert_eq!(read_text(&client), "one, two");
        assert_eq!(read_text(&client), "");
        assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(Message::from("whole"))));
        assert_eq!(client.recv(), Ok(Some(Message::from("whole too"))));
        assert_eq!(client.recv(), Ok(Some(Message::Binary(b"x".to_vec()))));
        assert_eq!(client.try_recv(), Err(ClientError::Empty));
        assert_eq!(client.recv_timeout(Duration::from_millis(1)), Err(ClientError::Timeout));
        server.send(b"\x88\x02\x03\xe8");
        assert!(client.recv_reader().expect("a clean end").is_none());
        assert_eq!(client.recv(), Ok(None));
    }
}

#[test]
fn the_rest_of_a_message_whose_reader_was_dropped_is_discarded() {
    let (client, mut server) = pair(config());
    for _ in 0..2 {
        server.send(b"\x02\x03abc");
        let mut byte = [0];
        let mut reader = client.recv_reader().expect("a message").expect("not closed");
        reader.read_exact(&mut byte).expect("a byte");
        drop(reader);
        assert_eq!(client.recv_timeout(Duration::from_millis(1)), Err(ClientError::Timeout));
        server.send(b"\x80\x03def\x81\x04next\x81\x04last");
        assert_eq!(read_text(&client), "next");
        assert_eq!(client.recv(), Ok(Some(Message::from("last"))));
    }
}

#[test]
fn a_reader_has_a_deadline_and_goes_on_after_it() {
    let (client, mut server) = pair(config());
    let error = client.recv_reader_deadline(Instant::now()).expect_err("nothing was sent");
    assert_eq!(error, ClientError::Timeout);
    server.send(b"\x01\x03one");
    let mut reader = client.recv_reader_timeout(DEADLINE).expect("a message").expect("not closed");
    reader.set_deadline(Instant::now() + Duration::from_millis(10));
    let mut text = Vec::new();
    let error = reader.read_to_end(&mut text).expect_err("the rest was not sent");
    assert_eq!((error.kind(), source(&error)), (io::ErrorKind::TimedOut, &ClientError::Timeout));
    // Another thread waits for its turn.
    assert_eq!(client.try_recv(), Err(ClientError::Empty));
    assert_eq!(client.recv_timeout(Duration::from_millis(1)), Err(ClientError::Timeout));
    reader.set_deadline(None);
    server.send(b"\x80\x05, two");
    reader.read_to_end(&mut text).expect("the end");
    assert_eq!(text, b"one, two");
}

#[test]
fn what_recv_had_of_a_message_is_read_first() {
    let (client, mut server) = pair(config());
    server.send(b"\x01\x03one");
    assert_eq!(client.recv_timeout(Duration::from_millis(20)), Err(ClientError::Timeout));
    server.send(b"\x80\x05, two");
    assert_eq!(read_text(&client), "one, two");
}

#[test]
fn an_abort_and_a_lost_connection_end_a_read() {
    let ends: [fn(&Client, ServerEnd) -> Option<ServerEnd>; 3] = [
        |_, _| None,
        |client, server| {
            client.peer().abort();
            Some(server)
        },
        |_, mut server| {
            server.send(b"\x88\x02\x03\xe9");
            Some(server)
        },
    ];
    for end in ends {
        let (client, mut server) = pair(config());
        server.send(b"\x02\x03abc");
        let mut reader = client.recv_reader().expect("a message").expect("not closed");
        let mut bytes = [0; 3];
        reader.read_exact(&mut bytes).expect("what has arrived");
        let _server = end(&client, server);
        let error = reader.read(&mut bytes).expect_err("the message has no end");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(matches!(source(&error), ClientError::Failed(_)), "{error}");
    }
}

#[test]
fn recv_refuses_a_message_that_is_too_large_to_be_whole() {
    let (client, mut server) = pair(config());
    server.send(&[&b"\x02\x64"[..], &[7; 100], b"\x80\x01x"].concat());
    let Err(ClientError::Failed(reason)) = client.recv_timeout(DEADLINE) else { panic!("101 bytes are too many") };
    assert_eq!((reason.code, reason.cause), (CloseCode::MESSAGE_TOO_BIG, CloseCause::Failed));
    assert_eq!(server.expect_frame().payload[..2], 1009_u16.to_be_bytes());
}

#[test]
fn a_reconnecting_client_receives_whole_messages_of_each_connection() {
    let (listener, url) = listen();
    let builder = Client::builder().config(config()).no_proxy();
    let retry = Reconnect::new().initial_delay(Duration::from_millis(1));
    let connect = || connect(&listener, || ());
    let client: ReconnectingClient = builder.reconnect(&url, retry).expect("a thread");
    let ((), mut server) = connect();
    server.send(b"\x01\x03one\x80\x00\x01\x04lost");
    assert_eq!(client.recv_timeout(DEADLINE).expect("connected"), Some(Message::from("one")));
    assert!(matches!(client.recv_timeout(Duration::from_millis(20)), Err(ClientError::Timeout)));
    drop(server);
    let ((), mut server) = connect();
    server.send(b"\x01\x01t\x80\x02wo");
    let received = client.recv_timeout(DEADLINE).expect("connected again");
    assert_eq!(received, Some(Message::from("two")), "nothing of the lost one");
}
