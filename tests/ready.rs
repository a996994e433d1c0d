//! Connections that are ready at once: their answers leave together, and each gets its own.

mod common;

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{Client, DEADLINE, Frame, binary, close, eventually, ping, text};
use crossbeam_channel::{Receiver, Sender};
use threadbare::{Handler, MessageRef, Peer, Server, Socket};

/// Much longer than answers wait for others.
const LONG: Duration = Duration::from_millis(20);

/// What the handlers of a server share.
struct Shared {
    /// The worker is in a callback, and waits there to be let go on.
    entered: Sender<()>,
    go_on: Receiver<()>,
    peers: Mutex<Vec<Peer>>,
    /// A callback took long, so that the next one wants to hear that the answer is out.
    is_late: AtomicBool,
    arrived: Receiver<()>,
}

/// Echoes, and holds its worker up where it is told to.
struct Echo(Arc<Shared>);

impl Handler for Echo {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        self.0.peers.lock().expect("no panic").push(socket.peer());
    }

    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        match message.as_text() {
            Some("stop") => {
                self.0.entered.send(()).expect("somebody waits");
                self.0.go_on.recv_timeout(DEADLINE).expect("let go on");
            }
            Some("slow") if self.0.is_late.swap(true, Ordering::SeqCst) => {
                self.0.arrived.recv_timeout(DEADLINE).expect("the answer before this one leaves first");
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

/// A server with one worker, which can be held up until several of its connections are ready.
struct Stage {
    server: Server,
    shared: Arc<Shared>,
    stopper: Client,
    entered: Receiver<()>,
    go_on: Sender<()>,
    arrived: Sender<()>,
}

impl Stage {
    fn new() -> Stage {
        let (entered_sender, entered) = crossbeam_channel::unbounded();
        let (go_on, go_on_receiver) = crossbeam_channel::unbounded();
        let (arrived, arrived_receiver) = crossbeam_channel::unbounded();
        let shared = Arc::new(Shared {
            entered: entered_sender,
            go_on: go_on_receiver,
            peers: Mutex::default(),
            is_late: AtomicBool::new(false),
            arrived: arrived_receiver,
        });
        let handlers = shared.clone();
        let builder = Server::builder().workers(1);
        let server = builder.serve("127.0.0.1:0", move |_request| Echo(handlers.clone())).expect("a server");
        let stopper = Client::open(server.local_addr());
        Stage { server, shared, stopper, entered, go_on, arrived }
    }

    fn client(&self) -> Client {
        Client::open(self.server.local_addr())
    }

    /// Does something while the worker can not, so that it finds all of that at once.
    fn meanwhile(&mut self, act: impl FnOnce()) {
        self.stopper.send(&text("stop"));
        self.entered.recv_timeout(DEADLINE).expect("the worker comes by");
        act();
        self.go_on.send(()).expect("the worker waits");
        assert_eq!(self.stopper.expect_frame(), Frame::text("stop"));
    }
}

#[test]
fn each_of_many_gets_its_own_answers() {
    const CLIENTS: usize = 45;
    const ROUNDS: usize = 20;
    let mut stage = Stage::new();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| stage.client()).collect();
    // Some are too long to wait for others, or leave from where they were received; up to four of them fit into a socket.
    let sizes = [1, 125, 126, 4_000, 15_000, 20_000];
    let messages = |client: usize, round: usize| {
        (0..(client + round) % 5)
            .map(move |number| vec![(client * 7 + round + number) as u8; sizes[(client + number) % sizes.len()]])
    };
    for round in 0..ROUNDS {
        stage.meanwhile(|| {
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
    stage.meanwhile(|| {
        clients.iter_mut().for_each(|client| client.send(&[text("the end"), close(1000)].concat()));
    });
    for client in &mut clients {
        assert_eq!(client.expect_frame(), Frame::text("the end"));
        client.expect_close(1000);
    }
}

/// Full sockets take some of what waited, which then goes on behind what they took.
#[test]
fn answers_that_a_socket_takes_in_part_arrive_whole_and_in_order() {
    const CLIENTS: usize = 8;
    let mut stage = Stage::new();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::narrow(stage.server.local_addr())).collect();
    eventually("all open", || stage.shared.peers.lock().expect("no panic").len() == CLIENTS + 1);
    let peers = stage.shared.peers.lock().expect("no panic")[1..].to_vec();
    let message = |number: usize| format!("{number:>15000}");
    let mut sent = [0; CLIENTS];
    // Each answer that comes too much for a socket waits for others at first.
    while peers.iter().any(|peer| peer.queued_bytes() == 0) {
        assert!(sent.iter().all(|sent| *sent < 5_000), "no socket takes so much that nobody reads: {sent:?}");
        stage.meanwhile(|| {
            for ((client, peer), sent) in clients.iter_mut().zip(&peers).zip(&mut sent) {
                if peer.queued_bytes() == 0 {
                    client.send(&text(&message(*sent)));
                    *sent += 1;
                }
            }
        });
        eventually("all answered", || {
            peers.iter().zip(&sent).all(|(peer, sent)| peer.stats().messages_sent == *sent as u64)
        });
    }
    for (client, sent) in clients.iter_mut().zip(sent) {
        for number in 0..sent {
            assert_eq!(client.expect_frame(), Frame::text(&message(number)));
        }
        client.send(&text("the end"));
        assert_eq!(client.expect_frame(), Frame::text("the end"), "and nothing before it");
    }
    for (peer, sent) in peers.iter().zip(sent) {
        let bytes = (sent * 15_004 + 9) as u64;
        eventually("every byte on record", || peer.stats().bytes_sent == bytes && peer.queued_bytes() == 0);
    }
}

/// Answers do not wait while callback after callback takes its time.
#[test]
fn an_answer_leaves_before_the_next_callback_if_its_own_took_long() {
    let mut stage = Stage::new();
    let clients: Vec<Client> = (0..2).map(|_| stage.client()).collect();
    let (mut first, mut second) = (&clients[0].stream, &clients[1].stream);
    stage.meanwhile(|| {
        first.write_all(&text("slow")).expect("written");
        second.write_all(&text("slow")).expect("written");
    });
    thread::scope(|scope| {
        for mut client in clients {
            let arrived = stage.arrived.clone();
            scope.spawn(move || {
                assert_eq!(client.expect_frame(), Frame::text("slow"));
                arrived.send(()).expect("a server");
            });
        }
    });
}
