//! `WebSocket::recv_reader`: a message that is read as it arrives.

use crate::common;

use std::io::{self, BufRead, Read};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use common::large::{Checked, LARGE, send_large};
use common::{Client, Frame, close, masked, ping, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{CloseCode, Config, Message, ProtocolError, Receive, Role, SocketError, WebSocket};

/// A server that the test drives, and its client. No message of more than 100 bytes is received whole.
fn pair(config: Config) -> (Client, WebSocket<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = Client::tcp(listener.local_addr().expect("an address"));
    let stream = listener.accept().expect("the client").0;
    stream.set_read_timeout(Some(common::DEADLINE)).expect("a socket");
    (client, WebSocket::from_established(stream, Role::Server, Vec::new(), &config.max_message_size(100)))
}

fn first(bytes: &[u8]) -> Vec<u8> {
    masked(false, 0, Opcode::Binary, bytes)
}

fn last(bytes: &[u8]) -> Vec<u8> {
    masked(true, 0, Opcode::Continuation, bytes)
}

/// The error of the socket that a read failed with.
fn source(error: &io::Error) -> &SocketError {
    error.get_ref().and_then(|source| source.downcast_ref()).expect("an error of the socket")
}

#[test]
fn a_message_larger_than_any_buffer_is_read_as_it_arrives() {
    let (client, mut server) = pair(Config::default());
    let sender = send_large(&client.stream, LARGE, true);
    let mut reader = server.recv_reader().expect("a message").expect("not closed");
    assert!(!reader.is_text());
    let mut checked = Checked::new();
    loop {
        let bytes = reader.fill_buf().expect("more, or the end");
        if bytes.is_empty() {
            break;
        }
        assert!(bytes.len() <= 1 << 20, "{} bytes are buffered", bytes.len());
        checked.add(bytes);
        let size = bytes.len();
        reader.consume(size);
    }
    assert_eq!(reader.read(&mut [0; 10]).expect("the end"), 0);
    drop(reader);
    assert_eq!((checked.received, server.stats().messages_received), (LARGE, 1));
    sender.join().expect("no panic").expect("all of it was read");
}

#[test]
fn pings_are_answered_while_a_message_is_read() {
    let (mut client, mut server) = pair(Config::default());
    client.send(&[first(b"one"), ping(b"?")].concat());
    let mut reader = server.recv_reader().expect("a message").expect("not closed");
    let mut bytes = [0; 3];
    reader.read_exact(&mut bytes).expect("what has arrived");
    assert_eq!(&bytes, b"one");
    let peer = std::thread::spawn(move || {
        assert_eq!(client.expect_frame(), Frame::pong(b"?"));
        client.send(&last(b", two"));
        client
    });
    let mut rest = String::new();
    reader.read_to_string(&mut rest).expect("the end, after the pong");
    assert_eq!(rest, ", two");
    peer.join().expect("a pong");
}

#[test]
fn messages_that_come_together_are_read_one_by_one() {
    let (mut client, mut server) = pair(Config::default());
    client.send(&[text("größer"), text(""), text("whole"), first(b"abc"), last(b"")].concat());
    let read = |server: &mut WebSocket<TcpStream>| {
        let mut text = String::new();
        let mut reader = server.recv_reader().expect("a message").expect("not closed");
        reader.read_to_string(&mut text).expect("UTF-8");
        (text, reader.is_text())
    };
    assert_eq!(read(&mut server), ("größer".to_owned(), true));
    assert_eq!(read(&mut server), (String::new(), true));
    assert_eq!(server.recv().expect("a message"), Some(Message::from("whole")), "as before");
    let mut reader = server.recv_reader().expect("a message").expect("not closed");
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("the end");
    drop(reader);
    client.send(&close(1000));
    assert!(bytes == b"abc" && server.recv_reader().expect("a clean end").is_none());
}

#[test]
fn the_rest_of_a_message_whose_reader_was_dropped_is_discarded() {
    for next_is_read in [false, true] {
        let (mut client, mut server) = pair(Config::default());
        client.send(&first(b"begun"));
        let mut byte = [0];
        server.recv_reader().expect("a message").expect("not closed").read_exact(&mut byte).expect("a byte");
        client.send(&[masked(false, 0, Opcode::Continuation, &[7; 1000]), last(b"end"), text("next")].concat());
        if next_is_read {
            let mut next = String::new();
            server.recv_reader().expect("a message").expect("not closed").read_to_string(&mut next).expect("text");
            assert_eq!(next, "next");
        } else {
            assert_eq!(server.recv().expect("a message"), Some(Message::from("next")));
        }
        client.send(&binary_of(101));
        assert!(matches!(server.recv(), Err(SocketError::Protocol(ProtocolError::MessageTooBig { size: 101, .. }))));
    }
}

fn binary_of(size: usize) -> Vec<u8> {
    common::binary(&vec![7; size])
}

#[test]
fn a_message_of_which_recv_had_a_part_is_read_from_its_beginning() {
    let (mut client, mut server) = pair(Config::default());
    client.send(&first(b"begun, "));
    assert!(matches!(server.recv_timeout(Duration::from_millis(10)), Err(SocketError::Timeout)));
    client.send(&last(b"ended"));
    let mut bytes = String::new();
    server.recv_reader().expect("a message").expect("not closed").read_to_string(&mut bytes).expect("both");
    assert_eq!(bytes, "begun, ended");
}

#[test]
fn recv_returns_the_message_that_no_reader_came_for_in_time() {
    let (mut client, mut server) = pair(Config::default());
    server.get_ref().set_read_timeout(Some(Duration::from_millis(1))).expect("a socket");
    assert!(matches!(server.recv_reader(), Err(SocketError::Timeout)));
    client.send(&first(b"begun, "));
    assert!(matches!(server.recv_timeout(Duration::from_millis(20)), Err(SocketError::Timeout)));
    client.send(&[last(b"ended"), text("next")].concat());
    let received = |message: Result<Option<Message>, SocketError>| message.expect("in time").expect("not closed");
    assert_eq!(received(server.recv_timeout(common::DEADLINE)).as_bytes(), b"begun, ended");
    assert_eq!(received(server.recv_timeout(common::DEADLINE)), Message::from("next"));
    // The header of a message that is too large for `recv` is accepted while a reader may come for it.
    assert!(matches!(server.recv_reader(), Err(SocketError::Timeout)));
    client.send(&binary_of(101));
    assert!(matches!(server.recv_timeout(common::DEADLINE), Err(SocketError::Protocol(_))));
    assert_eq!(client.expect_frame().close_code(), 1009);
}

#[test]
fn a_reader_goes_on_after_a_timeout_of_the_stream() {
    let (mut client, mut server) = pair(Config::default());
    server.get_ref().set_read_timeout(Some(Duration::from_millis(1))).expect("a socket");
    client.send(&first(b"one"));
    let mut reader = loop {
        match server.recv_reader() {
            Ok(reader) => break reader.expect("not closed"),
            Err(error) => assert!(matches!(error, SocketError::Timeout), "{error}"),
        }
    };
    let mut bytes = Vec::new();
    let error = reader.read_to_end(&mut bytes).expect_err("the rest was not sent");
    assert!(error.kind() == io::ErrorKind::TimedOut && matches!(source(&error), SocketError::Timeout), "{error}");
    client.send(&last(b", two"));
    while let Err(error) = reader.read_to_end(&mut bytes) {
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
    assert_eq!(bytes, b"one, two");
}

#[test]
fn a_connection_that_ends_inside_a_message_is_an_error() {
    let read = |behind: Option<Vec<u8>>, answer: u16| {
        let (mut client, mut server) = pair(Config::default());
        client.send(&first(b"one"));
        let mut reader = server.recv_reader().expect("a message").expect("not closed");
        let client = behind.map(|bytes| {
            client.send(&bytes);
            client
        });
        let mut bytes = Vec::new();
        let error = reader.read_to_end(&mut bytes).expect_err("there is no end");
        assert_eq!(bytes, b"one");
        if let Some(mut client) = client {
            assert_eq!(client.expect_frame().close_code(), answer);
        }
        error
    };
    let lost = read(None, 0);
    assert!(lost.kind() == io::ErrorKind::UnexpectedEof && matches!(source(&lost), SocketError::Io(_)), "{lost}");
    let closed = read(Some(close(1001)), 1001);
    assert!(
        closed.kind() == io::ErrorKind::UnexpectedEof && matches!(source(&closed), SocketError::Closed),
        "{closed}"
    );
    let violated = read(Some(text("interleaved")), 1002);
    let is_protocol = matches!(source(&violated), SocketError::Protocol(ProtocolError::UnfinishedMessage));
    assert!(violated.kind() == io::ErrorKind::InvalidData && is_protocol, "{violated}");
}

#[test]
fn the_limit_of_the_configuration_is_on_the_sum_of_the_fragments() {
    let config = Config::default().receive(Receive::Fragments { max_size: Some(1_000) });
    let (mut client, mut server) = pair(config);
    client.send(&[first(&[7; 600]), last(&[7; 401])].concat());
    let mut bytes = Vec::new();
    let error = server.recv_reader().expect("it begins").expect("not closed").read_to_end(&mut bytes);
    let error = error.expect_err("the sum is above the limit");
    let too_big = ProtocolError::MessageTooBig { size: 1_001, limit: 1_000 };
    assert!(matches!(source(&error), SocketError::Protocol(error) if *error == too_big), "{error}");
    assert_eq!(server.close_reason().map(|reason| reason.code), Some(CloseCode::MESSAGE_TOO_BIG));
    assert_eq!(client.expect_frame().close_code(), 1009);
}
