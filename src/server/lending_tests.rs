//! A worker that is lent to the application's thread at every wake-up: whatever that thread does, nobody waits for long.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use crate::{Config, Event, EventRef, Events, Message, Peer, RecvTimeoutError, Server, ServerHandle, WebSocket};

const DEADLINE: Duration = Duration::from_secs(30);

type Client = WebSocket<TcpStream>;

fn start_with(config: Config) -> (Server, ServerHandle, Events) {
    let builder = Server::builder().workers(1).config(config).lends_eagerly();
    let mut server = builder.bind("127.0.0.1:0").expect("a server");
    let (handle, events) = (server.handle(), server.take_events().remove(0));
    (server, handle, events)
}

fn start() -> (Server, ServerHandle, Events) {
    start_with(Config::default())
}

fn open(server: &ServerHandle) -> Client {
    let stream = TcpStream::connect(server.local_addr()).expect("connects");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    WebSocket::connect("ws://localhost/", stream).expect("a connection")
}

fn recv(client: &mut Client) -> String {
    match client.recv().expect("in time") {
        Some(Message::Text(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn echoes(client: &mut Client, text: &str) {
    client.send(text).expect("sent");
    assert_eq!(recv(client), text);
}

/// Has messages echoed until the thread that waits for them runs the worker.
fn until_led(client: &mut Client, events: &Events) {
    let start = Instant::now();
    while !events.lead() {
        assert!(start.elapsed() < DEADLINE, "it was never lent");
        echoes(client, "again");
    }
}

/// An application that echoes, and at the word `block` answers and waits to be released; every peer goes to `peers`.
fn blocking_application(events: Events, released: Receiver<()>, peers: Sender<Peer>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut events = events.iter();
        while let Some(event) = events.next_ref() {
            match event {
                EventRef::Open(peer, _) => peers.send(peer.clone()).expect("the test goes on"),
                EventRef::Message(peer, message) => {
                    let blocks = message.as_message().as_bytes() == b"block";
                    peer.send(message).expect("open");
                    if blocks {
                        released.recv_timeout(DEADLINE).expect("released");
                    }
                }
                EventRef::Close(..) => {}
            }
        }
    })
}

#[test]
fn an_application_that_stays_away_holds_nobody_up() {
    let (server, handle, events) = start();
    let (release, released) = crossbeam_channel::unbounded();
    let (peers, opened) = crossbeam_channel::unbounded();
    let application = blocking_application(events.clone(), released, peers);
    let mut client = open(&handle);
    let peer = opened.recv_timeout(DEADLINE).expect("opened");
    for round in 0..60 {
        until_led(&mut client, &events);
        client.send("block").expect("sent");
        match round % 3 {
            // Its own answer leaves.
            0 => {}
            // So does what others send,
            1 => peer.send("from elsewhere").expect("open"),
            // and who comes is let in.
            _ => drop(open(&handle)),
        }
        let mut expected = vec!["block".to_owned()];
        if round % 3 == 1 {
            expected.push("from elsewhere".to_owned());
        }
        let mut received: Vec<String> = expected.iter().map(|_| recv(&mut client)).collect();
        received.sort();
        assert_eq!(received, expected);
        release.send(()).expect("the application waits");
        echoes(&mut client, "and on");
    }
    drop(client);
    assert!(server.shutdown(DEADLINE).forced <= 1);
    application.join().expect("it ends with the events");
}

#[test]
fn an_application_that_waits_for_room_gets_it() {
    const SIZE: usize = 8 << 10;
    const COUNT: usize = 4_000;
    let (server, handle, events) = start_with(Config::default().max_write_buffer_size(64 << 10));
    let application = thread::spawn({
        let events = events.clone();
        move || {
            for event in &events {
                if let Event::Message(peer, message) = event {
                    let times = if message == Message::Text("much".into()) { COUNT } else { 1 };
                    for _ in 0..times {
                        peer.send(message.clone()).expect("open");
                        if times > 1 {
                            peer.send("x".repeat(SIZE)).expect("open");
                        }
                    }
                }
            }
        }
    });
    let mut client = open(&handle);
    until_led(&mut client, &events);
    client.send("much").expect("sent");
    for _ in 0..COUNT {
        assert_eq!(recv(&mut client), "much");
        assert_eq!(recv(&mut client).len(), SIZE);
    }
    drop(client);
    server.shutdown(DEADLINE);
    application.join().expect("it ends with the events");
}

#[test]
fn two_threads_that_wait_share_the_events() {
    let (server, handle, events) = start();
    let served = Arc::new(AtomicUsize::new(0));
    let applications: Vec<_> = (0..2)
        .map(|_| {
            let (events, served) = (events.clone(), served.clone());
            thread::spawn(move || {
                for event in &events {
                    if let Event::Message(peer, message) = event {
                        served.fetch_add(1, Ordering::Relaxed);
                        peer.send(message).expect("open");
                    }
                }
            })
        })
        .collect();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = open(&handle);
                (0..500).for_each(|n| echoes(&mut client, &format!("message {n}")));
            });
        }
    });
    assert_eq!(served.load(Ordering::Relaxed), 2_000);
    server.shutdown(DEADLINE);
    for application in applications {
        application.join().expect("it ends with the events");
    }
}

#[test]
fn a_thread_that_leaves_for_good_is_not_waited_for() {
    let (_server, handle, events) = start();
    let first = thread::spawn({
        let events = events.clone();
        move || {
            while let Ok(Event::Open(peer, _) | Event::Message(peer, _)) = events.recv() {
                if !events.lead() {
                    peer.send("not yet").expect("open");
                    continue;
                }
                peer.send("led").expect("open");
                return;
            }
            panic!("the connection ended");
        }
    });
    let mut client = open(&handle);
    while recv(&mut client) == "not yet" {
        client.send("again").expect("sent");
    }
    first.join().expect("it led");
    client.send("to the next").expect("sent");
    let event = events.recv_timeout(DEADLINE).expect("another thread gets the rest");
    assert!(
        matches!(&event, Event::Message(_, message) if *message == Message::Text("to the next".into())),
        "{event:?}"
    );
    drop(client);
    assert!(matches!(events.recv_timeout(DEADLINE), Ok(Event::Close(..))));
}

#[test]
fn a_thread_that_does_all_itself_needs_the_workers_own() {
    let (_server, handle, events) = start();
    // The handshake needs somebody to answer it while this thread waits for the answer.
    let mut client = open(&handle);
    assert!(matches!(events.recv_timeout(DEADLINE), Ok(Event::Open(..))));
    for n in 0..50 {
        let text = format!("message {n}");
        client.send(text.as_str()).expect("sent");
        match events.recv_timeout(DEADLINE) {
            Ok(Event::Message(peer, message)) => peer.send(message).expect("open"),
            other => panic!("{other:?}"),
        }
        // As here.
        assert_eq!(recv(&mut client), text);
    }
    let timeout = Duration::from_millis(20);
    for _ in 0..10 {
        let start = Instant::now();
        assert!(matches!(events.recv_timeout(timeout), Err(RecvTimeoutError::Timeout)));
        assert!(start.elapsed() >= timeout);
    }
}

#[test]
fn the_application_may_shut_down_what_it_runs() {
    for _ in 0..20 {
        let (_server, handle, events) = start();
        let application = thread::spawn({
            let (handle, events) = (handle.clone(), events.clone());
            move || {
                for event in &events {
                    match event {
                        Event::Message(_, message) if message == Message::Text("stop".into()) => {
                            return handle.shutdown(DEADLINE);
                        }
                        Event::Message(peer, message) => peer.send(message).expect("open"),
                        _ => {}
                    }
                }
                panic!("there was no word");
            }
        });
        let mut client = open(&handle);
        until_led(&mut client, &events);
        client.send("stop").expect("sent");
        assert_eq!(client.recv().expect("a closing handshake"), None);
        let report = application.join().expect("a report");
        assert_eq!((report.clean, report.forced), (1, 0));
    }
}

#[test]
fn a_server_is_shut_down_while_the_application_waits() {
    for _ in 0..20 {
        let (_server, handle, events) = start();
        let (_, released) = crossbeam_channel::unbounded();
        let (peers, _opened) = crossbeam_channel::unbounded();
        let application = blocking_application(events.clone(), released, peers);
        let mut client = open(&handle);
        until_led(&mut client, &events);
        let stopper = thread::spawn(move || handle.shutdown(DEADLINE));
        assert_eq!(client.recv().expect("a closing handshake"), None);
        let report = stopper.join().expect("a report");
        assert_eq!((report.clean, report.forced), (1, 0));
        application.join().expect("it ends with the events");
    }
}
