//! `Duration::MAX` wherever a duration is taken: it means for ever, and nothing panics, spins or ends early.

mod common;

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use common::http::send_request;
use common::servers::{Mode, echo_server_in};
use common::{Client, Frame, close, serialize_test, text, wait_for_end_of_threads};
use threadbare::{ClientLoop, CloseCode, Config, EventRef, Message, Reconnect, Server, WebSocket};

const EVER: Duration = Duration::MAX;

/// Every duration of the settings.
fn config() -> Config {
    Config::default()
        .handshake_timeout(EVER)
        .ping_interval(EVER)
        .pong_timeout(EVER)
        .close_timeout(EVER)
        .write_timeout(EVER)
        .max_lifetime(EVER)
}

#[test]
fn a_server_with_every_timeout_at_its_maximum_works() {
    let _guard = serialize_test();
    for mode in Mode::ALL {
        for workers in [1, 2] {
            let builder = Server::builder().config(config()).workers(workers);
            let server = echo_server_in(mode, builder);
            let mut client = Client::open(server.addr);
            client.send(&text("hello"));
            assert_eq!(client.expect_frame(), Frame::text("hello"));
            assert_eq!(send_request(server.addr, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 426);
            let half = Client::tcp(server.addr);
            let shutdown = std::thread::spawn({
                let handle = server.handle.clone();
                move || handle.shutdown(EVER)
            });
            client.answer_close(1001);
            drop((client, half));
            assert_eq!(shutdown.join().expect("no panic").forced, 0);
        }
    }
}

#[test]
fn a_server_waits_for_events_for_ever() {
    let _guard = serialize_test();
    let server = Server::builder().config(config()).bind("127.0.0.1:0").expect("a server");
    let mut client = Client::open(server.local_addr());
    let Ok(threadbare::Event::Open(peer, _)) = server.recv_timeout(EVER) else { panic!("no event") };
    peer.send_timeout("hello", EVER).expect("open");
    assert_eq!(client.expect_frame(), Frame::text("hello"));
    client.send(&close(1000));
    assert!(matches!(server.recv_timeout(EVER), Ok(threadbare::Event::Close(..))));
    client.expect_close(1000);
}

#[test]
fn event_loops_with_every_timeout_at_its_maximum_work() {
    let _guard = serialize_test();
    let mut event_loop = Server::builder().config(config()).bind_inline("127.0.0.1:0").expect("a server");
    let url = format!("ws://{}", event_loop.local_addr());
    let client = std::thread::spawn(move || {
        let mut client_loop = ClientLoop::new(config()).expect("a loop");
        let builder = threadbare::Client::builder().no_proxy();
        let peer = builder.connect_inline(&url, &mut client_loop).expect("connects");
        peer.send_timeout("hello", EVER).expect("open");
        let mut closed = false;
        while !closed {
            let on_event = |event: EventRef<'_>| match event {
                EventRef::Message(peer, _) => peer.close(CloseCode::NORMAL_CLOSURE, "").expect("open"),
                EventRef::Close(..) => closed = true,
                _ => {}
            };
            client_loop.poll(EVER, on_event).expect("a poll");
        }
    });
    let mut closed = false;
    while !closed {
        let on_event = |event: EventRef<'_>| match event {
            EventRef::Message(peer, message) => peer.send(message).expect("open"),
            EventRef::Close(..) => closed = true,
            _ => {}
        };
        event_loop.poll(EVER, on_event).expect("a poll");
    }
    client.join().expect("no panic");
    event_loop.shutdown(EVER);
}

#[test]
fn a_web_socket_waits_for_ever() {
    let _guard = serialize_test();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let server = std::thread::spawn(move || {
        let mut socket = WebSocket::accept(listener.accept().expect("a client").0).expect("a handshake");
        while let Some(message) = socket.recv_timeout(EVER).expect("no error") {
            socket.send(&message).expect("open");
        }
    });
    let stream = TcpStream::connect(addr).expect("connects");
    let mut client = WebSocket::connect(&format!("ws://{addr}"), stream).expect("a handshake");
    client.send("hello").expect("open");
    assert_eq!(client.recv_timeout(EVER).expect("no error"), Some(Message::Text("hello".into())));
    client.close(CloseCode::NORMAL_CLOSURE, "").expect("open");
    assert_eq!(client.recv_timeout(EVER).expect("no error"), None);
    drop(client);
    server.join().expect("no panic");
}

#[test]
fn a_reconnecting_client_with_every_duration_at_its_maximum_works() {
    let _guard = serialize_test();
    let server = echo_server_in(Mode::Handler, Server::builder());
    let builder = threadbare::Client::builder().no_proxy().config(config()).timeout(EVER).connect_timeout(EVER);
    let settings = Reconnect::new().max_delay(EVER).stable_after(EVER).give_up_after(EVER).max_retry_after(EVER);
    let client = builder.reconnect(&format!("ws://{}", server.addr), settings.initial_delay(EVER)).expect("a client");
    client.send_timeout("hello", EVER).expect("not closed");
    assert_eq!(client.recv_timeout(EVER).expect("no error"), Some(Message::Text("hello".into())));
    client.finish(EVER).expect("it has ended");
    drop(client);
    // One that waits for its next attempt.
    let client = builder.reconnect("ws://127.0.0.1:1", settings_for_ever()).expect("a client");
    client.wait_state(EVER, |state| matches!(state, threadbare::ConnectionState::Waiting { .. })).expect("it waits");
    client.finish(EVER).expect("it has ended");
    drop((client, server));
    wait_for_end_of_threads("the client");
}

fn settings_for_ever() -> Reconnect {
    Reconnect::new().initial_delay(EVER).max_delay(EVER)
}

#[test]
fn clients_with_every_timeout_at_its_maximum_work_and_their_threads_end() {
    let _guard = serialize_test();
    let server = echo_server_in(Mode::Handler, Server::builder());
    let url = format!("ws://{}", server.addr);
    let builder = threadbare::Client::builder().no_proxy().config(config());
    let builder = builder.resolve_timeout(EVER).connect_timeout(EVER).proxy_timeout(EVER).timeout(EVER);
    let client = builder.connect(&url).expect("connects");
    client.send_timeout("hello", EVER).expect("open");
    assert_eq!(client.recv_timeout(EVER).expect("no error"), Some(Message::Text("hello".into())));
    client.finish(EVER).expect("closed");
    drop(client);
    drop(builder.connect(&url).expect("connects"));
    let pool = threadbare::ClientPool::new(2, config()).expect("a pool");
    drop(threadbare::Client::builder().no_proxy().pool(&pool).connect(&url).expect("connects"));
    drop((pool, server));
    wait_for_end_of_threads("the clients");
}
