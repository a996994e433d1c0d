//! Connections that the poll reports together: their answers are written together, and each receives its own.

use crate::common;

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{Client, DEADLINE, Frame, binary, close, eventually, ping, text};
use crossbeam_channel::{Receiver, Sender};
use threadbare::{Handler, MessageRef, Peer, Server, Socket};

/// Much longer than an answer waits for those of other connections.
const LONG: Duration = Duration::from_millis(20);

/// State of all handlers of a server.
struct Shared {
    /// Sent when the worker blocks in a callback.
    blocked: Sender<()>,
    /// Received when the worker may leave the callback.
    unblock: Receiver<()>,
    peers: Mutex<Vec<Peer>>,
    /// A callback was slow: the next one waits until the first one's answer has arrived.
    was_slow: AtomicBool,
    arrived: Receiver<()>,
}

/// An echo handler that blocks the worker for some messages.
struct BlockingEcho(Arc<Shared>);

impl Handler for BlockingEcho {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        self.0.peers.lock().expect("no panic").push(socket.peer());
    }

    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        match message.as_text() {
            Some("block") => {
                self.0.blocked.send(()).expect("the test waits for the worker");
                self.0.unblock.recv_timeout(DEADLINE).expect("the test unblocks the worker");
            }
            Some("slow") if self.0.was_slow.swap(true, Ordering::SeqCst) => {
                self.0
                    .arrived
                    .recv_timeout(DEADLINE)
                    .expect("the first answer arrives before the second callback returns");
            }
            Some("slow") => {
                let began = Instant::now();
                while began.elapsed() < LONG {
                    std::hint::spin_loop();
                }
            }
            _ => {}
        }
        socket.send(message);
    }
}

/// A server whose only worker can be blocked until several of its connections are ready.
struct BlockableServer {
    server: Server,
    shared: Arc<Shared>,
    blocking_client: Client,
    blocked: Receiver<()>,
    unblock: Sender<()>,
    arrived: Sender<()>,
}

impl BlockableServer {
    fn new() -> BlockableServer {
        let (blocked_sender, blocked) = crossbeam_channel::unbounded();
        let (unblock, unblock_receiver) = crossbeam_channel::unbounded();
        let (arrived, arrived_receiver) = crossbeam_channel::unbounded();
        let shared = Arc::new(Shared {
            blocked: blocked_sender,
            unblock: unblock_receiver,
            peers: Mutex::default(),
            was_slow: AtomicBool::new(false),
            arrived: arrived_receiver,
        });
        let handlers = shared.clone();
        let builder = Server::builder().workers(1);
        let server = builder.serve("127.0.0.1:0", move |_request| BlockingEcho(handlers.clone())).expect("a server");
        let blocking_client = Client::open(server.local_addr());
        BlockableServer { server, shared, blocking_client, blocked, unblock, arrived }
    }

    fn client(&self) -> Client {
        Client::open(self.server.local_addr())
    }

    /// Runs `act` while the worker is blocked, so that its next poll reports everything at once.
    fn while_blocked(&mut self, act: impl FnOnce()) {
        self.blocking_client.send(&text("block"));
        self.blocked.recv_timeout(DEADLINE).expect("the worker is blocked");
        act();
        self.unblock.send(()).expect("the worker waits");
        assert_eq!(self.blocking_client.expect_frame(), Frame::text("block"));
    }
}

#[test]
fn connections_that_are_ready_together_receive_their_own_answers() {
    const CLIENTS: usize = 45;
    const ROUNDS: usize = 20;
    let mut server = BlockableServer::new();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| server.client()).collect();
    // The longest are written at once, without waiting for other connections. Four of them fit into a socket buffer.
    let sizes = [1, 125, 126, 4_000, 15_000, 20_000];
    let messages = |client: usize, round: usize| {
        (0..(client + round) % 5)
            .map(move |number| vec![(client * 7 + round + number) as u8; sizes[(client + number) % sizes.len()]])
    };
    for round in 0..ROUNDS {
        server.while_blocked(|| {
            for (index, client) in clients.iter_mut().enumerate() {
                messages(index, round).for_each(|message| client.send(&binary(&message)));
                client.send(&ping(&[index as u8]));
            }
        });
        for (index, client) in clients.iter_mut().enumerate() {
            for message in messages(index, round) {
                assert_eq!(client.expect_frame(), Frame::binary(&message), "client {index}, round {round}");
            }
            assert_eq!(client.expect_frame(), Frame::pong(&[index as u8]), "client {index}, round {round}");
        }
    }
    server.while_blocked(|| {
        clients.iter_mut().for_each(|client| client.send(&[text("the end"), close(1000)].concat()));
    });
    for client in &mut clients {
        assert_eq!(client.expect_frame(), Frame::text("the end"));
        client.expect_close(1000);
    }
}

/// A full socket accepts a part of the answers that were written together.
#[test]
fn answers_after_a_partial_write_arrive_whole_and_in_order() {
    const CLIENTS: usize = 8;
    let mut server = BlockableServer::new();
    let mut clients: Vec<Client> =
        (0..CLIENTS).map(|_| Client::open_with_small_buffer(server.server.local_addr())).collect();
    eventually("all connections are open", || server.shared.peers.lock().expect("no panic").len() == CLIENTS + 1);
    let peers = server.shared.peers.lock().expect("no panic")[1..].to_vec();
    let message = |number: usize| format!("{number:>15000}");
    let mut sent = [0; CLIENTS];
    while peers.iter().any(|peer| peer.queued_bytes() == 0) {
        assert!(sent.iter().all(|sent| *sent < 5_000), "a socket buffers too much: {sent:?}");
        server.while_blocked(|| {
            for ((client, peer), sent) in clients.iter_mut().zip(&peers).zip(&mut sent) {
                if peer.queued_bytes() == 0 {
                    client.send(&text(&message(*sent)));
                    *sent += 1;
                }
            }
        });
        eventually("all messages are answered", || {
            peers.iter().zip(&sent).all(|(peer, sent)| peer.stats().messages_sent == *sent as u64)
        });
    }
    for (client, sent) in clients.iter_mut().zip(sent) {
        for number in 0..sent {
            assert_eq!(client.expect_frame(), Frame::text(&message(number)));
        }
        client.send(&text("the end"));
        assert_eq!(client.expect_frame(), Frame::text("the end"), "no frame before it");
    }
    for (peer, sent) in peers.iter().zip(sent) {
        let bytes = (sent * 15_004 + 9) as u64;
        eventually("every byte is counted", || peer.stats().bytes_sent == bytes && peer.queued_bytes() == 0);
    }
}

/// The second callback returns only when the first one's answer has arrived.
#[test]
fn an_answer_is_written_before_the_next_callback_if_its_own_was_slow() {
    let mut server = BlockableServer::new();
    let clients: Vec<Client> = (0..2).map(|_| server.client()).collect();
    let (mut first, mut second) = (&clients[0].stream, &clients[1].stream);
    server.while_blocked(|| {
        first.write_all(&text("slow")).expect("written");
        second.write_all(&text("slow")).expect("written");
    });
    thread::scope(|scope| {
        for mut client in clients {
            let arrived = server.arrived.clone();
            scope.spawn(move || {
                assert_eq!(client.expect_frame(), Frame::text("slow"));
                arrived.send(()).expect("a server");
            });
        }
    });
}
