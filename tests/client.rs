//! `Client`: sending, receiving and closing.

use crate::common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use common::app::TICK;
use common::{DEADLINE, accept};
use threadbare::{
    Client, ClientError, ClientPool, CloseCause, CloseCode, Config, Event, Handler, Message, MessageRef,
    SendTimeoutError, Server, Socket, TrySendError,
};

struct Echo;

impl Handler for Echo {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        if message.as_text() == Some("close me") {
            socket.close(CloseCode(4001), "as requested").expect("the connection is open");
        } else {
            socket.send(message);
        }
    }
}

fn server() -> Server {
    common::logged::install();
    let config = Config::default().max_message_size(20 << 20);
    Server::builder().workers(1).config(config).serve("127.0.0.1:0", |_| Echo).expect("a server")
}

fn url(addr: SocketAddr) -> String {
    format!("ws://{addr}/")
}

#[test]
fn messages_of_every_size_are_echoed() {
    let server = server();
    let client =
        Client::builder().config(Config::default().max_message_size(20 << 20)).connect(&url(server.local_addr()));
    let client = client.expect("connected");
    for size in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20, 16 << 20] {
        let message = Message::Binary((0..size).map(|n| (n % 251) as u8).collect());
        client.send(message.clone()).expect("sent");
        assert!(client.recv_timeout(DEADLINE).expect("received") == Some(message), "{size} bytes");
    }
    assert_eq!(client.try_recv(), Err(ClientError::Empty));
    assert_eq!(client.recv_timeout(Duration::from_millis(5)), Err(ClientError::Timeout));
    let reason = client.finish(DEADLINE).expect("in time");
    assert_eq!((reason.code, reason.cause), (CloseCode::NORMAL_CLOSURE, CloseCause::Local));
    assert!(client.send("late").is_err() && client.recv() == Ok(None));
}

/// A read takes less than most of these messages have, and the stacks of all threads are small.
#[test]
fn a_small_machine_echoes_messages_of_every_size() {
    common::logged::install();
    let config = Config::small().read_buffer_size(1 << 10).thread_stack_size(128 << 10);
    let server = Server::builder().config(config.clone()).workers(2).serve("127.0.0.1:0", |_| Echo).expect("a server");
    let client = Client::builder().config(config).connect(&url(server.local_addr())).expect("connected");
    for size in [0, 1, 125, 126, 1_023, 1_024, 1_025, 5_000, 65_535, 65_536] {
        let message = Message::Binary((0..size).map(|n| (n % 251) as u8).collect());
        client.send(message.clone()).expect("sent");
        assert!(client.recv_timeout(DEADLINE).expect("received") == Some(message), "{size} bytes");
    }
    client.send(vec![0; 65_537]).expect("sent");
    assert_eq!(client.recv_timeout(DEADLINE), Ok(None));
    assert_eq!(client.close_reason().map(|reason| reason.code), Some(CloseCode::MESSAGE_TOO_BIG));
}

#[test]
fn a_sender_thread_and_a_receiver_thread_share_one_client() {
    const COUNT: u32 = 1_000_000;
    let server = server();
    let client = Arc::new(Client::connect(&url(server.local_addr())).expect("connected"));
    let sender = thread::spawn({
        let client = client.clone();
        move || (0..COUNT).for_each(|n| client.send(n.to_be_bytes().to_vec()).expect("sent"))
    });
    let mut messages = client.iter();
    for n in 0..COUNT {
        assert_eq!(messages.next(), Some(Ok(Message::Binary(n.to_be_bytes().to_vec()))));
    }
    sender.join().expect("the sender");
}

#[test]
fn clients_share_a_pool_that_outlives_its_handle() {
    let server = server();
    let pool = ClientPool::new(1, Config::default()).expect("a pool");
    let connect = || Client::builder().pool(&pool).connect(&url(server.local_addr())).expect("connected");
    let clients: Vec<Client> = (0..50).map(|_| connect()).collect();
    for (n, client) in clients.iter().enumerate() {
        client.send(n.to_string()).expect("sent");
    }
    for (n, client) in clients.iter().enumerate() {
        assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(Message::from(n.to_string()))));
    }
    drop(pool);
    clients[7].send("hello").expect("sent");
    assert_eq!(clients[7].recv_timeout(DEADLINE), Ok(Some(Message::from("hello"))));
    drop(clients);
    common::eventually("all connections are removed", || server.handle().connections() == 0);
}

#[test]
fn a_close_by_the_server_is_received_after_the_messages_before_it() {
    let server = server();
    let client = Client::connect(&url(server.local_addr())).expect("connected");
    client.send("first").expect("sent");
    client.send("close me").expect("sent");
    assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(Message::from("first"))));
    assert_eq!(client.recv_timeout(DEADLINE), Ok(None));
    let reason = client.close_reason().expect("closed");
    assert_eq!(
        (reason.code, reason.reason.as_str(), reason.cause),
        (CloseCode(4001), "as requested", CloseCause::Peer)
    );
    assert_eq!((client.recv(), client.try_recv(), client.recv_timeout(DEADLINE)), (Ok(None), Ok(None), Ok(None)));
    assert_eq!(client.iter().count(), 0);
    common::eventually("the connection is removed", || server.handle().connections() == 0);
}

/// RFC 6455 5.5.1 forbids to send data behind a close frame, not to receive it. The buffer of events is smaller than the
/// answers, so that reading stops on the way.
#[test]
fn the_answers_that_arrive_behind_the_clients_close_are_received() {
    const ANSWERS: usize = 40;
    let server = server();
    for max_event_buffer_size in [4 << 20, 20_000] {
        for _ in 0..20 {
            let config = Config::default().max_event_buffer_size(max_event_buffer_size);
            let client =
                Client::builder().no_proxy().config(config).connect(&url(server.local_addr())).expect("connected");
            for number in 0..ANSWERS {
                client.send(vec![number as u8; 10_000]).expect("sent");
            }
            client.close(CloseCode::NORMAL_CLOSURE, "").expect("open");
            let answers: Vec<_> = client.iter().map(|message| message.expect("a message")).collect();
            assert_eq!(answers.len(), ANSWERS);
            for (number, answer) in answers.iter().enumerate() {
                assert!(*answer == Message::Binary(vec![number as u8; 10_000]), "answer {number} differs");
            }
            let reason = client.close_reason().expect("closed");
            assert_eq!((reason.code, reason.cause), (CloseCode::NORMAL_CLOSURE, CloseCause::Local));
        }
    }
}

#[test]
fn a_server_that_does_not_answer_pings_is_timed_out() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let silent = thread::spawn(move || accept(&listener, b"\x81\x05early"));
    let interval = Duration::from_millis(200);
    let config = Config::default().ping_interval(interval).pong_timeout(interval);
    let start = Instant::now();
    let client = Client::builder().config(config).connect(&url(addr)).expect("connected");
    let _stream = silent.join().expect("the server");
    // H-01: the bytes after the 101 are the first message.
    assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(Message::from("early"))));
    let Err(ClientError::Failed(reason)) = client.recv_timeout(DEADLINE) else { panic!("not closed") };
    assert_eq!((reason.code, reason.cause), (CloseCode::ABNORMAL_CLOSURE, CloseCause::TimedOut));
    assert!(start.elapsed() >= 2 * interval - TICK, "{:?}", start.elapsed());
    let failed = ClientError::Failed(reason);
    assert_eq!(client.recv(), Err(failed.clone()));
    assert_eq!(client.try_recv(), Err(failed.clone()));
    assert_eq!(client.iter().collect::<Vec<_>>(), [Err(failed)]);
}

#[test]
fn select_receives_a_clients_events() {
    let server = server();
    let client = Client::connect(&url(server.local_addr())).expect("connected");
    let ticks = crossbeam_channel::never::<()>();
    client.send("selected").expect("sent");
    crossbeam_channel::select! {
        recv(client.events().as_channel()) -> batch => {
            let events: Vec<_> = batch.expect("a batch").collect();
            assert!(matches!(&events[..], [threadbare::Event::Message(_, message)] if message.as_text() == Some("selected")));
        },
        recv(ticks) -> _ => unreachable!("never"),
        default(DEADLINE) => panic!("no event"),
    }
}

/// A sender that is woken may find that another one has filled the queue again: it waits again.
#[test]
fn sends_that_block_at_the_same_time_all_complete() {
    const SENDERS: usize = 4;
    const COUNT: usize = 20_000;
    let server = Server::builder().workers(1).bind("127.0.0.1:0").expect("a server");
    let config = Config::default().max_write_buffer_size(100);
    let client = Client::builder().config(config).connect(&url(server.local_addr())).expect("connected");
    thread::scope(|scope| {
        for _ in 0..SENDERS {
            let sender = client.peer();
            scope.spawn(move || (0..COUNT).for_each(|_| sender.send("a message").expect("room in the end")));
        }
        let mut left = SENDERS * COUNT;
        while left > 0 {
            let event = server.recv_timeout(DEADLINE).expect("more messages");
            left -= usize::from(matches!(event, Event::Message(..)));
        }
    });
}

#[test]
fn send_deadline_fails_at_its_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let config = Config::default().max_write_buffer_size(1);
    // The server reads nothing: what does not fit into the socket buffers stays queued.
    let accepting = thread::spawn(move || accept(&listener, b""));
    let client = Client::builder().config(config).connect(&url(addr)).expect("connected");
    let _stream = accepting.join().expect("the server");
    client.send(vec![0; 64 << 20]).expect("a message of any size is queued below the high-water mark");
    let deadline = Instant::now() + Duration::from_millis(50);
    let error = client.send_deadline("no room", deadline).expect_err("a full queue");
    assert!(matches!(&error, SendTimeoutError::Timeout(message) if message.as_text() == Some("no room")), "{error}");
    assert!(Instant::now() >= deadline && matches!(client.try_send("no"), Err(TrySendError::Full(_))));
    assert_eq!(client.recv_deadline(deadline), Err(ClientError::Timeout));
    client.abort();
}

/// Two messages arrive together. The application takes the second once the server has the answer to the first.
#[test]
fn r_08_a_client_sends_an_answer_before_its_batch_is_consumed() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = url(listener.local_addr().expect("an address"));
    let server = thread::spawn(move || {
        let mut stream = accept(&listener, &[]);
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        stream.read_exact(&mut [0; 8]).expect("the first message");
        stream.write_all(b"\x81\x01a\x81\x01b").expect("sent");
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).expect("the answer");
        stream
    });
    // No ping wakes the worker during the test.
    let config = Config::default().ping_interval(None);
    let client = Client::builder().config(config).connect(&url).expect("connected");
    client.send("go").expect("sent");
    assert_eq!(client.recv(), Ok(Some("a".into())));
    client.send("A").expect("sent");
    drop(server.join().expect("the server"));
    assert_eq!(client.recv(), Ok(Some("b".into())));
}

/// The server's two messages come as one batch. Only a client of which the second is not received yet can show that its
/// message does not wait for that.
#[test]
fn a_message_is_sent_before_the_rest_of_its_batch_is_received() {
    let serve = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = url(listener.local_addr().expect("an address"));
        let (answered, pong) = crossbeam_channel::bounded(1);
        let server = thread::spawn(move || {
            let mut stream = accept(&listener, b"\x81\x03one\x81\x03two\x89\x00");
            stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
            stream.read_exact(&mut [0; 6]).expect("a pong");
            answered.send(()).expect("the test waits");
            stream.read_exact(&mut [0; 6 + 5]).expect("a message");
        });
        (url, server, pong)
    };
    let (url, server, pong) = serve();
    let client = Client::builder().no_proxy().connect(&url).expect("a connection");
    assert_eq!(client.recv().expect("a message"), Some("one".into()));
    // The worker has nothing to do any more.
    pong.recv_timeout(DEADLINE).expect("a pong");
    client.send("early").expect("sent");
    server.join().expect("the message arrives");
    assert_eq!(client.recv().expect("a message"), Some("two".into()));

    let (url, server, pong) = serve();
    let client = Client::builder().no_proxy().reconnect(&url, threadbare::Reconnect::new()).expect("a client");
    assert_eq!(client.recv().expect("a message"), Some("one".into()));
    pong.recv_timeout(DEADLINE).expect("a pong");
    client.send("early").expect("sent");
    server.join().expect("the message arrives");
    assert_eq!(client.recv().expect("a message"), Some("two".into()));
}
