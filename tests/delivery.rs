//! Events through channels: order, sharing, waiting and waking.

use crate::common;

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use common::app::App;
use common::servers::Mode;
use common::{Client, DEADLINE, Frame, binary, close, open_with_peer, text};
use crossbeam_channel::{RecvTimeoutError, TryRecvError};
use threadbare::{Config, CowMessage, Event, EventRef, Events, Message, PeerId, Server};

fn number_of(message: &Message) -> usize {
    message.as_text().and_then(|text| text.parse().ok()).expect("a number")
}

#[test]
fn messages_of_a_connection_stay_in_order_over_three_channels() {
    const CLIENTS: usize = 12;
    const MESSAGES: usize = 300;
    let mut server = Server::builder().workers(2).channels(3).bind("127.0.0.1:0").expect("a server");
    let addr = server.local_addr();
    let applications: Vec<_> = server
        .take_events()
        .into_iter()
        .map(|events| {
            thread::spawn(move || {
                let mut next: HashMap<PeerId, usize> = HashMap::new();
                for event in &events {
                    match event {
                        Event::Open(peer, _) => assert_eq!(next.insert(peer.id(), 0), None),
                        Event::Message(peer, message) => {
                            let expected = next.get_mut(&peer.id()).expect("opened on the same channel");
                            assert_eq!(number_of(&message), *expected);
                            *expected += 1;
                            peer.send(message).expect("the connection is open");
                        }
                        Event::Close(peer, _) => assert_eq!(next.get(&peer.id()), Some(&MESSAGES)),
                        _ => {}
                    }
                }
                next.len()
            })
        })
        .collect();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            thread::spawn(move || {
                let mut client = Client::open(addr);
                for start in (0..MESSAGES).step_by(10) {
                    let burst: Vec<u8> = (start..start + 10).flat_map(|number| text(&number.to_string())).collect();
                    client.send(&burst);
                    for number in start..start + 10 {
                        assert_eq!(client.expect_frame(), Frame::text(&number.to_string()));
                    }
                }
                client.send(&close(1000));
                client.expect_close(1000);
            })
        })
        .collect();
    for client in clients {
        client.join().expect("a client");
    }
    drop(server);
    let shares: Vec<usize> = applications.into_iter().map(|thread| thread.join().expect("an application")).collect();
    assert_eq!(shares, [CLIENTS / 3; 3], "the channels have equal numbers of connections");
}

/// The test alternates between both.
#[test]
fn next_ref_borrows_the_events_that_recv_returns_owned() {
    let large = vec![7; 300_000];
    let server = Server::builder().workers(1).bind("127.0.0.1:0").expect("a server");
    let client = thread::spawn({
        let addr = server.local_addr();
        move || {
            let mut client = Client::open(addr);
            client.send(
                &[text("owned"), text("borrowed"), text(""), binary(&large), binary(b"few"), text("κόσμε")].concat(),
            );
            for expected in [Frame::text("owned"), Frame::text("borrowed"), Frame::text(""), Frame::binary(&large)] {
                assert_eq!(client.expect_frame(), expected);
            }
            assert_eq!([client.expect_frame(), client.expect_frame()], [Frame::binary(b"few"), Frame::text("κόσμε")]);
            client.send(&close(1000));
            client.expect_close(1000);
        }
    });
    // `recv` has consumed a part of the batch, or all of it.
    let Ok(Event::Open(opened, _)) = server.recv_timeout(DEADLINE) else { panic!("not open") };
    let Ok(Event::Message(_, message)) = server.recv_timeout(DEADLINE) else { panic!("not a message") };
    opened.send(message).expect("the connection is open");
    let mut events = server.iter();
    let (mut borrowed, mut owned) = (0, 0);
    loop {
        match events.next_ref().expect("the server runs") {
            EventRef::Message(peer, message) => {
                assert_eq!(peer, &opened);
                match message {
                    CowMessage::Borrowed(_) => borrowed += 1,
                    _ => owned += 1,
                }
                peer.send(message).expect("the connection is open");
            }
            EventRef::Close(peer, reason) => {
                assert_eq!((peer, u16::from(reason.code)), (&opened, 1000));
                break;
            }
            event => panic!("{event:?}"),
        }
    }
    client.join().expect("the client");
    assert!(borrowed >= 3 && owned >= 1 && borrowed + owned == 5, "{borrowed} borrowed, {owned} owned");
}

#[test]
fn select_receives_events_and_another_channel() {
    let server = Server::builder().workers(1).bind("127.0.0.1:0").expect("a server");
    let (ticks, other) = crossbeam_channel::unbounded();
    let (mut client, peer) = open_with_peer(&server);
    let mut ticked = 0;
    for number in 0..200 {
        let message = number.to_string();
        if number % 2 == 0 {
            ticks.send(number).expect("a receiver");
        } else {
            client.send(&text(&message));
        }
        crossbeam_channel::select! {
            recv(server.events().expect("not taken").as_channel()) -> batch => for event in batch.expect("events") {
                let Event::Message(peer, message) = event else { panic!("{event:?}") };
                peer.send(message).expect("the connection is open");
            },
            recv(other) -> tick => {
                assert_eq!(tick, Ok(number));
                ticked += 1;
            }
            default(DEADLINE) => panic!("no event"),
        }
        if number % 2 == 1 {
            assert_eq!(client.expect_frame(), Frame::text(&message));
        }
    }
    assert_eq!((ticked, peer.stats().messages_received), (100, 100));
}

/// Sends `count` messages in one write, which usually become one batch.
fn send_burst(client: &mut Client, count: usize) {
    client.send(&(0..count).flat_map(|number| text(&number.to_string())).collect::<Vec<_>>());
}

#[test]
fn an_iterator_dropped_midway_loses_no_event() {
    let server = Server::builder().workers(1).bind("127.0.0.1:0").expect("a server");
    let (mut client, _peer) = open_with_peer(&server);
    send_burst(&mut client, 100);
    let mut numbers = Vec::new();
    let take = |event| match event {
        Event::Message(_, message) => number_of(&message),
        other => panic!("{other:?}"),
    };
    // Every method of receiving takes a few.
    for _ in 0..10 {
        numbers.extend(server.iter().take(3).map(take));
        numbers.extend(server.recv_timeout(DEADLINE).map(take));
        numbers.extend(server.events().expect("not taken").iter().take(2).map(take));
        numbers.extend(server.recv_deadline(Instant::now() + DEADLINE).map(take));
        numbers.extend(server.recv().map(take));
        numbers.extend(server.try_recv().map(take));
    }
    let left = 100 - numbers.len();
    numbers.extend(server.iter().take(left).map(take));
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
}

/// The iterator has a part of a batch, for which another thread waits.
#[test]
fn an_iterator_dropped_midway_wakes_a_waiting_receiver() {
    let server = Server::builder().workers(1).bind("127.0.0.1:0").expect("a server");
    let events = server.events().expect("not taken").clone();
    let (mut client, _peer) = open_with_peer(&server);
    for _ in 0..20 {
        send_burst(&mut client, 2);
        let mut iter = events.iter();
        let first = iter.next().expect("an event");
        if let Event::Message(_, message) = &first {
            assert_eq!(number_of(message), 0);
        }
        let (ready, waits) = crossbeam_channel::bounded(1);
        let (woken, is_woken) = crossbeam_channel::bounded(1);
        let waiter = thread::spawn({
            let events = events.clone();
            move || {
                ready.send(()).expect("a receiver");
                events.recv_timeout(DEADLINE * 2).expect("the rest of the batch");
                woken.send(()).expect("a receiver");
            }
        });
        waits.recv().expect("the waiter");
        // The other thread has time to begin to wait. No event is available: the iterator holds the batch.
        assert_eq!(events.recv_timeout(Duration::from_millis(5)).err(), Some(RecvTimeoutError::Timeout));
        drop(iter);
        // A waiter that is not woken finds the event at its deadline, which is later.
        is_woken.recv_timeout(DEADLINE).expect("the waiter is woken");
        waiter.join().expect("the waiter");
    }
}

#[test]
fn receiving_ends_at_its_deadline_or_at_the_end_of_the_server() {
    const WAIT: Duration = Duration::from_millis(50);
    let mut server = Server::builder().workers(1).bind("127.0.0.1:0").expect("a server");
    assert_eq!(server.try_recv().err(), Some(TryRecvError::Empty));
    let start = Instant::now();
    assert_eq!(server.recv_timeout(WAIT).err(), Some(RecvTimeoutError::Timeout));
    assert_eq!(server.recv_deadline(Instant::now() + WAIT).err(), Some(RecvTimeoutError::Timeout));
    assert!(start.elapsed() >= 2 * WAIT);
    assert_eq!(server.recv_timeout(Duration::ZERO).err(), Some(RecvTimeoutError::Timeout));
    assert_eq!(server.recv_deadline(start).err(), Some(RecvTimeoutError::Timeout), "long past");
    let (mut client, _peer) = open_with_peer(&server);
    client.send(&text("now"));
    // Without a deadline.
    assert!(matches!(server.recv_timeout(Duration::MAX), Ok(Event::Message(..))));
    client.send(&[text("before the end"), close(1000)].concat());
    let events = server.take_events().remove(0);
    assert_eq!(server.try_recv().err(), Some(TryRecvError::Disconnected), "the receivers were taken out of the server");
    client.expect_close(1000);
    drop(client);
    drop(server);
    // Events from before the end of the server can still be received.
    assert!(matches!(events.recv(), Ok(Event::Message(..))));
    assert!(matches!(events.recv_timeout(DEADLINE), Ok(Event::Close(..))));
    assert!(events.recv().is_err());
    assert_eq!(events.try_recv().err(), Some(TryRecvError::Disconnected));
    assert_eq!(events.recv_timeout(DEADLINE).err(), Some(RecvTimeoutError::Disconnected));
    assert_eq!(events.iter().count(), 0);
}

#[test]
fn dropping_the_server_wakes_waiting_receivers() {
    for _ in 0..20 {
        let mut server = Server::builder().workers(2).bind("127.0.0.1:0").expect("a server");
        let events = server.take_events().remove(0);
        let waiters: Vec<_> = (0..3)
            .map(|method| {
                let events = events.clone();
                thread::spawn(move || match method {
                    0 => assert!(events.recv().is_err()),
                    1 => assert_eq!(events.iter().count(), 0),
                    _ => assert!(events.as_channel().recv().is_err()),
                })
            })
            .collect();
        drop(server);
        for waiter in waiters {
            waiter.join().expect("a waiter");
        }
    }
}

#[test]
fn two_threads_share_a_receiver_and_get_every_event_once() {
    const CLIENTS: usize = 4;
    const MESSAGES: usize = 2000;
    let mut server = Server::builder().workers(2).bind("127.0.0.1:0").expect("a server");
    let events = server.take_events().remove(0);
    let receive = |events: Events, by_iter: bool| {
        move || {
            let mut got = Vec::new();
            let mut record = |event| match event {
                Event::Message(_, message) => got.push(message.as_text().expect("text").to_owned()),
                Event::Open(..) => got.push("open".into()),
                Event::Close(..) => got.push("close".into()),
                _ => {}
            };
            if by_iter {
                events.iter().for_each(&mut record);
            } else {
                while let Ok(event) = events.recv() {
                    record(event);
                }
            }
            got
        }
    };
    let threads = [thread::spawn(receive(events.clone(), false)), thread::spawn(receive(events, true))];
    let addr = server.local_addr();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client_number| {
            thread::spawn(move || {
                let mut client = Client::open(addr);
                for number in 0..MESSAGES {
                    client.send(&text(&format!("{client_number} {number}")));
                }
                client.send(&close(1000));
                client.expect_close(1000);
            })
        })
        .collect();
    for client in clients {
        client.join().expect("a client");
    }
    drop(server);
    let mut got: Vec<String> = threads.into_iter().flat_map(|thread| thread.join().expect("a receiver")).collect();
    let mut expected: Vec<String> =
        (0..CLIENTS).flat_map(|client| (0..MESSAGES).map(move |number| format!("{client} {number}"))).collect();
    expected.extend([vec!["open".to_owned(); CLIENTS], vec!["close".to_owned(); CLIENTS]].concat());
    got.sort_unstable();
    expected.sort_unstable();
    assert!(got == expected, "{} of {} events", got.len(), expected.len());
}

/// Nothing else wakes the worker.
#[test]
fn r_08_every_send_wakes_an_idle_worker() {
    for mode in Mode::ALL {
        let app = App::echo(mode);
        let mut client = Client::open(app.addr);
        let peer = app.opened();
        for number in 0..2000_u32 {
            // From no gap to one in which the worker begins to block in its poll.
            let gap = Instant::now() + Duration::from_micros(u64::from(number % 40) * 5);
            while Instant::now() < gap {
                std::hint::spin_loop();
            }
            let message = number.to_string();
            peer.send(message.as_str()).expect("the connection is open");
            assert_eq!(client.expect_frame(), Frame::text(&message), "{mode:?}");
        }
        app.finish();
    }
}

#[test]
fn r_08_every_message_wakes_an_idle_application() {
    let app = App::echo(Mode::Channel);
    let mut client = Client::open(app.addr);
    for number in 0..2000_u32 {
        let gap = Instant::now() + Duration::from_micros(u64::from(number % 40) * 5);
        while Instant::now() < gap {
            std::hint::spin_loop();
        }
        let message = number.to_string();
        client.send(&text(&message));
        assert_eq!(client.expect_frame(), Frame::text(&message));
    }
    app.finish();
}

/// An application may wait for the effect of its answer before it consumes the rest of the batch, or never consume it.
#[test]
fn r_08_an_answer_is_sent_before_its_batch_is_consumed() {
    // No ping wakes the workers during the test.
    let config = Config::default().ping_interval(None);
    let server = Server::builder().workers(2).config(config).bind("127.0.0.1:0").expect("a server");
    let (mut client, peer) = open_with_peer(&server);
    // The connection of the other worker.
    let (mut other_client, other) = open_with_peer(&server);
    let (events, mut iter) = (server.events().expect("not taken"), server.iter());
    for round in 0..30 {
        send_burst(&mut client, 10);
        let expected = ["first", "second", "third"];
        let mut batch = None;
        for (number, answer) in expected.iter().enumerate() {
            let event = match round % 3 {
                0 => server.recv_timeout(DEADLINE).ok(),
                1 => iter.next(),
                _ => batch.get_or_insert_with(|| events.as_channel().recv_timeout(DEADLINE).expect("a batch")).next(),
            };
            assert!(matches!(&event, Some(Event::Message(_, message)) if number_of(message) == number), "{event:?}");
            peer.send(*answer).expect("the connection is open");
            other.send(*answer).expect("the connection is open");
            assert_eq!(client.expect_frame(), Frame::text(answer));
            assert_eq!(other_client.expect_frame(), Frame::text(answer));
        }
        match round % 3 {
            0 => (3..10).for_each(|_| drop(server.recv_timeout(DEADLINE))),
            1 => (3..10).for_each(|_| drop(iter.next())),
            // The batch is never consumed, nor dropped.
            _ => std::mem::forget(batch),
        }
        peer.send("after").expect("the connection is open");
        assert_eq!(client.expect_frame(), Frame::text("after"));
    }
}

#[test]
fn r_08_messages_of_many_threads_arrive_in_the_order_of_each_thread() {
    const THREADS: usize = 4;
    const MESSAGES: usize = 2000;
    for mode in Mode::ALL {
        let app = App::echo(mode);
        let mut client = Client::open(app.addr);
        let peer = app.opened();
        let senders: Vec<_> = (0..THREADS)
            .map(|sender| {
                let peer = peer.clone();
                thread::spawn(move || {
                    for number in 0..MESSAGES {
                        peer.send(format!("{sender} {number}")).expect("the connection is open");
                        if number % 7 == sender {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut next = [0; THREADS];
        for _ in 0..THREADS * MESSAGES {
            let frame = client.expect_frame();
            let message = String::from_utf8(frame.payload).expect("text");
            let (sender, number) = message.split_once(' ').expect("two numbers");
            let expected = &mut next[sender.parse::<usize>().expect("a number")];
            assert_eq!(number.parse(), Ok(*expected), "{mode:?}: the order of sender {sender}");
            *expected += 1;
        }
        assert_eq!(next, [MESSAGES; THREADS]);
        for sender in senders {
            sender.join().expect("a sender");
        }
        app.finish();
    }
}
