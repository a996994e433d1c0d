//! `Prepared` messages that are control frames: each way to send them does what `send` does with the same message.

use crate::common;

use std::time::Duration;

use common::{Client, DEADLINE, Frame, open_with_peer, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{
    CloseCode, CloseFrame, Config, Event, Message, MessageRef, Prepared, SendError, SendOptions, SendTimeoutError,
    Server, SlowConsumer, Socket, TrySendError,
};

fn ping() -> Prepared {
    Prepared::new(Message::Ping(b"still there?".to_vec()))
}

fn pong() -> Prepared {
    Prepared::new(Message::Pong(b"here".to_vec()))
}

fn close() -> Prepared {
    Prepared::new(Message::Close(Some(CloseFrame::new(CloseCode(4000), "enough").expect("valid"))))
}

/// RFC 6455 5.5: control frames carry at most 125 bytes. 7.4.1: 1005 must not be sent.
fn invalid() -> [Prepared; 3] {
    let close = CloseFrame { code: CloseCode::NO_STATUS_RECEIVED, reason: String::new() };
    [Message::Ping(vec![7; 126]), Message::Pong(vec![7; 126]), Message::Close(Some(close))].map(Prepared::new)
}

/// Receives the ping, the pong, `text` and the close frame, and completes the closing handshake.
fn expect_all(client: &mut Client, what: &str) {
    let control = |opcode, payload: &[u8]| Frame { fin: true, rsv: 0, opcode, payload: payload.to_vec() };
    assert_eq!(client.expect_frame(), control(Opcode::Ping, b"still there?"), "{what}");
    assert_eq!(client.expect_frame(), control(Opcode::Pong, b"here"), "{what}");
    assert_eq!(client.expect_frame(), Frame::text("text"), "{what}");
    client.answer_close(4000);
}

#[test]
fn a_peer_sends_prepared_control_frames() {
    let server = Server::builder().workers(1).bind("127.0.0.1:0").expect("a server");
    let (mut client, peer) = open_with_peer(&server);
    for invalid in invalid() {
        assert_eq!(peer.send_prepared(&invalid), Err(SendError::Invalid(())));
        assert_eq!(peer.try_send_prepared(&invalid), Err(TrySendError::Invalid(())));
        assert_eq!(peer.send_prepared_timeout(&invalid, Duration::ZERO), Err(SendTimeoutError::Invalid(())));
    }
    peer.send_prepared(&ping()).expect("sent");
    peer.try_send_prepared(&pong()).expect("sent");
    peer.send_prepared_timeout(&Prepared::new("text"), DEADLINE).expect("sent");
    peer.send_prepared(&close()).expect("sent");
    for prepared in [ping(), pong(), Prepared::new("text"), close()] {
        assert_eq!(peer.send_prepared(&prepared), Err(SendError::Disconnected(())), "behind the close");
    }
    expect_all(&mut client, "a peer");
    assert_eq!(peer.stats().messages_sent, 1, "a control frame is no message");
}

#[test]
fn a_handlers_socket_sends_prepared_control_frames() {
    let server = Server::builder().workers(1).serve("127.0.0.1:0", |_| {
        |socket: &mut Socket<'_>, _: MessageRef<'_>| {
            assert!(invalid().iter().all(|invalid| !socket.send_prepared(invalid)));
            for prepared in [ping(), pong(), Prepared::new("text"), close()] {
                assert!(socket.send_prepared(&prepared));
            }
            for prepared in [ping(), pong(), Prepared::new("text"), close()] {
                assert!(!socket.send_prepared(&prepared), "behind the close");
            }
        }
    });
    let server = server.expect("a server");
    let mut client = Client::open(server.local_addr());
    client.send(&text("now"));
    expect_all(&mut client, "a socket");
}

#[test]
fn a_broadcast_of_a_control_frame_reaches_every_connection() {
    for workers in [1, 2] {
        let server = Server::builder().workers(workers).bind("127.0.0.1:0").expect("a server");
        let mut clients: Vec<_> = (0..6).map(|_| open_with_peer(&server).0).collect();
        let handle = server.handle();
        for prepared in invalid().into_iter().chain([ping(), pong(), Prepared::new("text")]) {
            handle.broadcast_prepared(&prepared);
        }
        handle.broadcast_prepared(&close());
        handle.broadcast("behind the close");
        handle.broadcast(Message::Ping(Vec::new()));
        clients.iter_mut().for_each(|client| expect_all(client, "a server's broadcast"));
        // Each was closed by this end, and in order.
        let clean = std::iter::from_fn(|| server.recv_timeout(DEADLINE).ok())
            .filter(|event| matches!(event, Event::Close(_, reason) if reason.is_clean()));
        assert_eq!(clean.take(6).count(), 6);
    }
}

#[test]
fn a_handler_broadcasts_control_frames() {
    let server = Server::builder().workers(2).serve("127.0.0.1:0", |_| {
        |socket: &mut Socket<'_>, _: MessageRef<'_>| {
            socket.broadcast(Message::Ping(vec![7; 126]));
            socket.broadcast(Message::Ping(b"still there?".to_vec()));
            socket.broadcast(Message::Pong(b"here".to_vec()));
            socket.broadcast("text");
            socket.broadcast(Message::Close(Some(CloseFrame::new(CloseCode(4000), "enough").expect("valid"))));
            socket.broadcast("behind the close");
        }
    });
    let server = server.expect("a server");
    let mut clients: Vec<_> = (0..6).map(|_| Client::open(server.local_addr())).collect();
    for client in &mut clients {
        // The worker has the connection once it has answered.
        client.send(&common::ping(b"ready"));
        assert_eq!(client.expect_frame(), Frame::pong(b"ready"));
    }
    clients[0].send(&text("now"));
    clients.iter_mut().for_each(|client| expect_all(client, "a handler's broadcast"));
}

#[test]
fn a_prepared_close_may_have_no_code() {
    let server = Server::builder().workers(1).bind("127.0.0.1:0").expect("a server");
    let (mut client, peer) = open_with_peer(&server);
    peer.send_prepared(&Prepared::new(Message::Close(None))).expect("sent");
    let frame = client.expect_frame();
    assert_eq!((frame.opcode, frame.payload), (Opcode::Close, Vec::new()));
}

/// A key and a policy are for messages: a control frame is neither replaced nor dropped.
#[test]
fn a_prepared_control_frame_is_sent_whatever_its_options_say_of_messages() {
    /// More than the queue has room for.
    const SIZE: usize = 200_000;
    let config = Config::default().max_write_buffer_size(SIZE / 2);
    let server = Server::builder().workers(1).config(config).serve("127.0.0.1:0", |_| {
        |socket: &mut Socket<'_>, _: MessageRef<'_>| {
            assert!(socket.send(vec![7; SIZE]));
            let options = SendOptions::new().latest(1).slow_consumer(SlowConsumer::Drop);
            for payload in [b"1", b"2"] {
                assert!(socket.send_prepared(&Prepared::with(Message::Ping(payload.to_vec()), options)));
            }
            let ping = Message::Ping(b"3".to_vec());
            assert!(socket.send_prepared(&Prepared::with(ping, SlowConsumer::Drop)));
            let stats = socket.stats();
            assert_eq!((stats.replaced, stats.dropped), (0, 0));
            socket.send_prepared(&Prepared::with("a message", SlowConsumer::Drop));
            assert_eq!(socket.stats().dropped, 1);
        }
    });
    let server = server.expect("a server");
    let mut client = Client::open(server.local_addr());
    client.send(&text("now"));
    assert_eq!(client.expect_frame(), Frame::binary(&vec![7; SIZE]));
    for payload in [b"1", b"2", b"3"] {
        let frame = client.expect_frame();
        assert_eq!((frame.opcode, &frame.payload[..]), (Opcode::Ping, &payload[..]));
    }
}
