//! Policies for clients that do not read: of a connection, and of one message.

use crate::common;

use std::time::Duration;

use common::servers::Mode;
use common::stalled::{HIGH_WATER, Stalled, config, each_setting};
use common::{Client, Frame, close, eventually, text};
use threadbare::{CloseCause, CloseCode, Message, MessageRef, Peer, Prepared, SendError, Server, SlowConsumer, Socket};

const POLICIES: [SlowConsumer; 4] =
    [SlowConsumer::Block, SlowConsumer::Refuse, SlowConsumer::Drop, SlowConsumer::Disconnect];

/// Asserts that a full queue treats a message as the policy says, if `send` sends it; `refused` is what an error has.
fn expect_policy<M: std::fmt::Debug + PartialEq>(
    full: &Stalled,
    policy: SlowConsumer,
    refused: M,
    send: impl Fn() -> Result<(), SendError<M>> + Sync,
) where
    Result<(), SendError<M>>: Send,
{
    let before = full.peer.stats();
    match policy {
        SlowConsumer::Refuse => assert_eq!(send(), Err(SendError::Full(refused))),
        SlowConsumer::Drop => assert_eq!(send(), Ok(())),
        SlowConsumer::Disconnect => assert_eq!(send(), Err(SendError::Disconnected(refused))),
        _ => panic!("a send that waits is tested apart"),
    }
    let dropped = u64::from(policy == SlowConsumer::Drop);
    assert_eq!(full.peer.stats().dropped, before.dropped + dropped, "{policy:?}");
    assert_eq!(full.peer.is_open(), policy != SlowConsumer::Disconnect, "{policy:?}");
}

fn message() -> Message {
    Message::Text("no room".into())
}

/// Asserts that `send`, which sends "late", waits until the client reads.
fn expect_wait(mut full: Stalled, send: fn(&Peer) -> Result<(), SendError<Message>>) {
    let late = std::thread::spawn({
        let peer = full.peer.clone();
        move || send(&peer)
    });
    assert!(full.peer.send_timeout("never", Duration::from_millis(20)).is_err());
    full.drain();
    assert_eq!(late.join().expect("the sender"), Ok(()), "it waited");
    assert_eq!(full.client.expect_frame(), Frame::text("late"));
    drop((full.client, full.other));
    full.app.finish();
}

#[test]
fn a_connection_has_its_own_policy() {
    each_setting(|mode, workers| {
        let mut full = Stalled::new(mode, workers, config().slow_consumer(SlowConsumer::Disconnect)).filled();
        assert_eq!(full.peer.slow_consumer(), SlowConsumer::Disconnect);
        let prepared = Prepared::new("no room");
        for policy in [SlowConsumer::Refuse, SlowConsumer::Drop] {
            full.peer.set_slow_consumer(policy);
            assert_eq!((full.peer.slow_consumer(), full.other.0.slow_consumer()), (policy, SlowConsumer::Disconnect));
            expect_policy(&full, policy, message(), || full.peer.send(message()));
            expect_policy(&full, policy, (), || full.peer.send_prepared(&prepared));
            let before = full.peer.stats().dropped;
            full.app.handle().broadcast("to all");
            assert_eq!(full.other.1.expect_frame(), Frame::text("to all"));
            eventually("the broadcast leaves it out", || full.peer.stats().dropped == before + 1);
            assert!(full.peer.is_open());
        }
        full.peer.set_slow_consumer(SlowConsumer::Block);
        expect_wait(full, |peer| peer.send("late"));
    });
}

#[test]
fn without_a_policy_of_its_own_a_connection_has_the_configured_one() {
    for by_broadcast in [false, true] {
        let mut full = Stalled::new(Mode::Channel, 1, config().slow_consumer(SlowConsumer::Drop)).filled();
        full.peer.set_slow_consumer(SlowConsumer::Refuse);
        full.peer.set_slow_consumer(None);
        assert_eq!(full.peer.slow_consumer(), SlowConsumer::Drop);
        expect_policy(&full, SlowConsumer::Drop, message(), || full.peer.send(message()));
        full.peer.set_slow_consumer(SlowConsumer::Disconnect);
        if by_broadcast {
            full.app.handle().broadcast("to all");
            assert_eq!(full.other.1.expect_frame(), Frame::text("to all"));
        } else {
            expect_policy(&full, SlowConsumer::Disconnect, (), || full.peer.send_prepared(&Prepared::new("no room")));
        }
        let reason = full.app.closed();
        assert_eq!((reason.code, reason.cause), (CloseCode::POLICY_VIOLATION, CloseCause::Failed));
        full.drain();
        assert_eq!(full.client.expect_frame().close_code(), 1008);
        drop((full.client, full.other));
        full.app.finish();
    }
}

#[test]
fn the_policy_of_a_message_precedes_that_of_its_connection() {
    each_setting(|mode, workers| {
        let mut full = Stalled::new(mode, workers, config()).filled();
        for own in POLICIES {
            full.peer.set_slow_consumer(own);
            for given in [SlowConsumer::Refuse, SlowConsumer::Drop] {
                expect_policy(&full, given, message(), || full.peer.send_with(message(), given));
                let prepared = Prepared::with("no room", given);
                expect_policy(&full, given, (), || full.peer.send_prepared(&prepared));
                let before = full.peer.stats().dropped;
                full.app.handle().broadcast_prepared(&prepared);
                assert_eq!(full.other.1.expect_frame(), Frame::text("no room"));
                eventually("the broadcast leaves it out", || full.peer.stats().dropped == before + 1);
            }
            // A call that says how long it waits does not depend on a policy.
            assert!(full.peer.try_send_prepared(&Prepared::with("no", SlowConsumer::Disconnect)).is_err());
            assert!(full.peer.is_open());
        }
        expect_wait(full, |peer| peer.send_with("late", SlowConsumer::Block));
    });
}

#[test]
fn a_message_may_disconnect_whatever_the_policy_of_its_connection() {
    for by_broadcast in [false, true] {
        let mut full = Stalled::new(Mode::Handler, 1, config().slow_consumer(SlowConsumer::Drop)).filled();
        full.peer.set_slow_consumer(SlowConsumer::Refuse);
        if by_broadcast {
            full.app.handle().broadcast_prepared(&Prepared::with("to all", SlowConsumer::Disconnect));
            assert_eq!(full.other.1.expect_frame(), Frame::text("to all"));
        } else {
            let given = SlowConsumer::Disconnect;
            expect_policy(&full, given, message(), || full.peer.send_with(message(), given));
        }
        assert_eq!(full.app.closed().code, CloseCode::POLICY_VIOLATION);
        full.drain();
        assert_eq!(full.client.expect_frame().close_code(), 1008);
        full.client.send(&close(1008));
        drop((full.client, full.other));
        full.app.finish();
    }
}

/// A handler's answer is queued whatever the size of the output, unless it has a policy.
#[test]
fn an_answer_of_a_handler_may_have_a_policy() {
    let config = config().slow_consumer(SlowConsumer::Drop);
    let server = Server::builder().workers(1).config(config).serve("127.0.0.1:0", |_| {
        |socket: &mut Socket<'_>, message: MessageRef<'_>| {
            socket.send(vec![7; HIGH_WATER]);
            socket.send("queued all the same");
            assert!(!socket.send_with("refused", SlowConsumer::Refuse));
            assert!(!socket.send_with("a worker does not wait", SlowConsumer::Block));
            assert!(socket.send_with("dropped", SlowConsumer::Drop));
            assert!(socket.send_prepared(&Prepared::with("dropped", SlowConsumer::Drop)));
            assert_eq!(socket.stats().dropped, 2);
            assert!(socket.send_with(MessageRef::Ping(b"control"), SlowConsumer::Drop));
            if message.as_text() == Some("disconnect") {
                assert!(!socket.send_with("disconnects", SlowConsumer::Disconnect));
            }
        }
    });
    let server = server.expect("a server");
    for disconnect in [false, true] {
        let mut client = Client::open(server.local_addr());
        client.send(&text(if disconnect { "disconnect" } else { "" }));
        assert_eq!(client.expect_frame().payload.len(), HIGH_WATER);
        assert_eq!(client.expect_frame(), Frame::text("queued all the same"));
        assert_eq!(client.expect_frame().payload, b"control");
        if disconnect {
            assert_eq!(client.expect_frame().close_code(), 1008);
        }
    }
    drop(server);
}

#[test]
fn a_handler_sets_the_policy_of_its_connection() {
    let config = config().slow_consumer(SlowConsumer::Refuse);
    let server = Server::builder().workers(1).config(config).serve("127.0.0.1:0", |_| {
        |socket: &mut Socket<'_>, message: MessageRef<'_>| {
            socket.set_slow_consumer((message.as_text() == Some("drop")).then_some(SlowConsumer::Drop));
            let policy = format!("{:?}", socket.peer().slow_consumer());
            socket.send(&*policy);
        }
    });
    let server = server.expect("a server");
    let mut client = Client::open(server.local_addr());
    for (asked, policy) in [("drop", "Drop"), ("as configured", "Refuse")] {
        client.send(&text(asked));
        assert_eq!(client.expect_frame(), Frame::text(policy));
    }
}
