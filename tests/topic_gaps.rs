//! Gaps in topics: what the application sends for one arrives where it is, behind what came before and ahead of what follows.

use crate::common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::app::{App, echo, fill_send_queue};
use common::bridge::TestBridge;
use common::servers::Mode;
use common::{Client, DEADLINE, Frame, eventually, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{
    BridgeMessage, Config, EventRef, LocalTopics, Server, ServerBuilder, Since, Slow, TopicConfig, TopicEvent,
};

/// A server that sends `gap N` to who has missed N messages.
fn telling(slow: Slow) -> ServerBuilder {
    Server::builder()
        .config(Config::default().max_write_buffer_size(64 << 10))
        .topics(move |_| TopicConfig::default().slow(slow).buffer(16, 1 << 20))
        .on_topic(|event| {
            if let TopicEvent::Gap(peer, _, missed) = event {
                peer.send(format!("gap {missed}")).expect("the connection is open");
            }
        })
}

fn numbered(number: usize, size: usize) -> String {
    format!("{number:>size$}")
}

fn text_of(frame: Frame) -> String {
    String::from_utf8(frame.payload).expect("text")
}

/// The next message, whatever pings come before it.
fn next_text(client: &mut Client) -> String {
    loop {
        let frame = client.expect_frame();
        if frame.opcode == Opcode::Text {
            return text_of(frame);
        }
    }
}

/// Receives up to the message with the number `last`: each follows the one before, or a gap of the right size. Returns how
/// many gaps there were.
fn receive_until(client: &mut Client, last: usize) -> usize {
    let (mut next, mut gaps) = (1, 0);
    while next <= last {
        let text = next_text(client);
        if let Some(missed) = text.strip_prefix("gap ") {
            next += missed.parse::<usize>().expect("a number");
            gaps += 1;
        } else {
            assert_eq!(text.trim().parse(), Ok(next), "behind {gaps} gaps");
            next += 1;
        }
    }
    gaps
}

#[test]
fn a_slow_subscriber_is_told_of_a_gap_before_what_follows_it() {
    for (slow, mode) in [Slow::Skip, Slow::Latest].into_iter().flat_map(|slow| Mode::ALL.map(|mode| (slow, mode))) {
        for (workers, size) in [(1, 500), (1, 20_000), (2, 20_000)] {
            let app = App::start(mode, telling(slow).workers(workers), echo);
            let mut stalled = Client::open_with_small_buffer(app.addr);
            let peer = app.opened();
            peer.subscribe("room").expect("subscribed");
            let mut other = Client::open(app.addr);
            app.opened().subscribe("room").expect("subscribed");
            let topic = app.handle().topic("room").expect("a name");
            let count = (16 << 20) / size;
            for number in 1..=count {
                topic.publish(numbered(number, size));
                assert_eq!(text_of(other.expect_frame()).trim().parse(), Ok(number));
            }
            drop(other);
            let gaps = receive_until(&mut stalled, count);
            assert!(gaps > 0, "{slow:?}, {mode:?}");
            let stats = topic.stats();
            assert_eq!(stats.skipped, peer.stats().dropped);
            eventually("what all have is freed", || topic.stats().messages == 0);
            app.finish();
        }
    }
}

/// However much is published meanwhile, a message follows each gap.
#[test]
fn gaps_do_not_follow_each_other_while_much_is_published() {
    for slow in [Slow::Skip, Slow::Latest] {
        let app = App::start(Mode::Handler, telling(slow).workers(1), echo);
        let mut client = Client::open_with_small_buffer(app.addr);
        app.opened().subscribe("room").expect("subscribed");
        let mut other = Client::open(app.addr);
        app.opened().subscribe("room").expect("subscribed");
        let topic = app.handle().topic("room").expect("a name");
        let is_over = Arc::new(AtomicBool::new(false));
        let publisher = thread::spawn({
            let is_over = is_over.clone();
            move || {
                let mut number = 0;
                while !is_over.load(Ordering::Relaxed) {
                    number += 1;
                    topic.publish(numbered(number, 20_000));
                    // So that nothing is lost because the worker has not come to it.
                    other.expect_frame();
                }
            }
        });
        let (mut next, mut gaps) = (1, 0);
        while gaps < 5 {
            let text = next_text(&mut client);
            if let Some(missed) = text.strip_prefix("gap ") {
                next += missed.parse::<usize>().expect("a number");
                gaps += 1;
                assert_eq!(next_text(&mut client).trim().parse(), Ok(next), "a message follows");
            } else {
                assert_eq!(text.trim().parse(), Ok(next));
            }
            next += 1;
        }
        is_over.store(true, Ordering::Relaxed);
        publisher.join().expect("no panic");
        drop(client);
        app.finish();
    }
}

/// Says three messages, a gap of 3, two messages, a gap of unknown size in all topics, and a message, in a batch or in single calls.
fn play(topics: &LocalTopics, in_batch: bool) {
    let say = |number: usize| BridgeMessage::binary(NUMBERS[number].as_bytes());
    if in_batch {
        let mut batch = topics.batch();
        (1..=3).for_each(|number| batch.deliver("room", &say(number)));
        batch.gap(Some("elsewhere"), Some(9));
        batch.gap(Some("room"), Some(3));
        (7..=8).for_each(|number| batch.deliver("room", &say(number)));
        batch.gap(None, None);
        batch.deliver("room", &say(9));
    } else {
        (1..=3).for_each(|number| topics.deliver("room", &say(number)));
        topics.gap(Some("elsewhere"), Some(9));
        topics.gap(Some("room"), Some(3));
        (7..=8).for_each(|number| topics.deliver("room", &say(number)));
        topics.gap(None, None);
        topics.deliver("room", &say(9));
    }
}

const NUMBERS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// What a subscriber receives of [`play`].
const PLAYED: [&str; 8] = ["1", "2", "3", "gap 3", "7", "8", "gap 0", "9"];

fn receive_played(client: &mut Client) {
    let received: Vec<_> = PLAYED.iter().map(|_| text_of(client.expect_frame())).collect();
    assert_eq!(received, PLAYED);
}

#[test]
fn the_gaps_of_a_bridge_are_told_where_they_are() {
    for mode in Mode::ALL {
        for (workers, in_batch) in [(1, true), (1, false), (3, true), (3, false)] {
            let bridge = TestBridge::default();
            let app = App::start(mode, telling(Slow::Skip).workers(workers).bridge(bridge.clone()), echo);
            let mut clients: Vec<_> = (0..6).map(|_| Client::open(app.addr)).collect();
            for _ in &clients {
                app.opened().subscribe("room").expect("subscribed");
            }
            for _ in 0..20 {
                play(bridge.topics(), in_batch);
                clients.iter_mut().for_each(receive_played);
            }
            app.finish();
        }
    }
}

/// A subscriber that is behind is told once it has what was published before the gap.
#[test]
fn the_gaps_of_a_bridge_are_told_to_a_slow_subscriber_where_they_are() {
    for mode in Mode::ALL {
        let bridge = TestBridge::default();
        let app = App::start(mode, telling(Slow::Skip).workers(1).bridge(bridge.clone()), echo);
        let mut stalled = Client::open_with_small_buffer(app.addr);
        let peer = app.opened();
        let mut other = Client::open(app.addr);
        let other_peer = app.opened();
        let filled = fill_send_queue(&peer, 1 << 20, (&other_peer, &mut other));
        peer.subscribe("room").expect("subscribed");
        other_peer.subscribe("room").expect("subscribed");
        eventually("they are subscribed", || !peer.topics().is_empty() && !other_peer.topics().is_empty());
        play(bridge.topics(), true);
        receive_played(&mut other);
        for _ in 0..filled {
            assert_eq!(stalled.expect_frame().payload.len(), 1 << 20);
        }
        receive_played(&mut stalled);
        app.finish();
    }
}

/// What others have published while nobody here was subscribed did not come.
#[test]
fn who_comes_back_is_told_between_the_history_and_what_is_new() {
    for mode in Mode::ALL {
        let builder = telling(Slow::Skip).workers(1).bridge(TestBridge::default());
        let builder = builder.topics(|_| TopicConfig::default().keep(10, 1 << 20, Duration::MAX));
        let app = App::start(mode, builder, echo);
        let mut client = Client::open(app.addr);
        let peer = app.opened();
        let topic = app.handle().topic("room").expect("a name");
        peer.subscribe("room").expect("subscribed");
        let position = topic.publish("1").position.expect("there is a history");
        assert_eq!(client.expect_frame(), Frame::text("1"));
        peer.unsubscribe("room");
        eventually("it has left", || topic.subscribers() == 0);
        topic.publish("2");
        peer.subscribe_since("room", Since::Position(position)).expect("subscribed");
        // The gap is where the bridge was asked again.
        assert_eq!(client.expect_frame(), Frame::text("2"));
        topic.publish("3");
        assert_eq!(
            [client.expect_frame(), client.expect_frame()],
            [Frame::text("gap 0"), Frame::text("3")],
            "{mode:?}"
        );
        app.finish();
    }
}

#[test]
fn an_event_loop_of_the_application_is_told_of_gaps_where_they_are() {
    common::logged::install();
    let bridge = TestBridge::default();
    let mut event_loop = telling(Slow::Skip).bridge(bridge.clone()).bind_inline("127.0.0.1:0").expect("an event loop");
    let addr = event_loop.local_addr();
    let client = thread::spawn(move || subscribe_and_receive(addr));
    while !client.is_finished() {
        let polled = event_loop.poll(Some(Duration::from_millis(50)), |event| match event {
            EventRef::Open(peer, _) => drop(peer.subscribe("room").expect("subscribed")),
            EventRef::Message(..) => play(bridge.topics(), true),
            _ => {}
        });
        polled.expect("a poll");
    }
    client.join().expect("the client");
}

fn subscribe_and_receive(addr: SocketAddr) {
    let mut client = Client::open(addr);
    client.stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    for _ in 0..10 {
        client.send(&text("play"));
        receive_played(&mut client);
    }
}
