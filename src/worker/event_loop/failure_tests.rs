//! A worker that fails: its connections are closed, and nobody waits for it.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::error::SendTimeoutError;
use crate::protocol::Role;
use crate::protocol::close::CloseReason;
use crate::protocol::deflate::NegotiatedExtension;
use crate::transport::stream::Stream;
use crate::worker::connection_limit::ConnectionLimit;
use crate::worker::delivery::delivery::{CloseTiming, Delivery, Incoming, IncomingFragment};
use crate::worker::delivery::socket::Socket;
use crate::worker::event_loop::new_connection::NewConnection;
use crate::worker::event_loop::worker::{Worker, WorkerParts};
use crate::worker::handle::inbox::Command;
use crate::worker::handle::peer::Peer;
use crate::worker::slab::Key;

const DEADLINE: Duration = Duration::from_secs(30);

/// A delivery with a fault, which shows once the test asks for it.
struct Faulty {
    fails: Arc<AtomicBool>,
    peers: crossbeam_channel::Sender<Peer>,
    reasons: crossbeam_channel::Sender<CloseReason>,
}

impl Delivery for Faulty {
    type Connection = ();
    type Opening = ();

    const HANDLES: bool = true;
    const ANSWERS: bool = false;

    fn open(&mut self, (): &mut (), socket: &mut Socket<'_>, (): ()) {
        self.peers.send(socket.peer()).expect("the test");
    }

    fn message(&mut self, (): &mut (), _: &mut Socket<'_>, _: Incoming<'_>) {}

    fn fragment(&mut self, (): &mut (), _: &mut Socket<'_>, _: IncomingFragment<'_>) {}

    fn ping(&mut self, (): &mut (), _: &mut Socket<'_>, _: &[u8]) {}

    fn pong(&mut self, (): &mut (), _: &mut Socket<'_>, _: &[u8]) {}

    fn close(&mut self, (): &mut (), _: &mut Socket<'_>, reason: CloseReason) -> CloseTiming {
        self.reasons.send(reason).expect("the test");
        CloseTiming::AfterAnswers
    }

    fn has_room(&mut self, (): &mut (), _: Key) -> bool {
        true
    }

    fn resume(&mut self, _: &mut Vec<Key>) {}

    fn end_iteration(&mut self) {
        assert!(!self.fails.load(Ordering::SeqCst), "the fault");
    }

    fn receiver_dropped(&self, (): &()) -> bool {
        false
    }
}

#[test]
fn r_07_a_worker_that_fails_closes_its_connections_and_wakes_their_senders() {
    let parts = WorkerParts::new(Role::Server, Arc::default()).expect("a poll");
    let inbox = parts.inbox.clone();
    let (to_worker, new_connections) = crossbeam_channel::unbounded();
    let (to_test, peers) = crossbeam_channel::unbounded();
    let (reasons, told) = crossbeam_channel::unbounded();
    let fails = Arc::<AtomicBool>::default();
    let delivery = Faulty { fails: fails.clone(), peers: to_test, reasons };
    let limit = Arc::new(ConnectionLimit::new(usize::MAX, None));
    // No timeout ends the wait of the sender.
    let config = Config::default().write_timeout(Duration::from_secs(3600));
    let worker =
        Worker::new(parts, 0, [inbox.clone()].into(), Arc::new(config), delivery, new_connections, limit.clone());
    let worker = std::thread::spawn(move || worker.run());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let connect = || {
        let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connects");
        let (stream, addr) = listener.accept().expect("a client");
        stream.set_nonblocking(true).expect("a socket");
        client.set_read_timeout(Some(DEADLINE)).expect("a socket");
        assert!(limit.acquire(addr.ip()));
        inbox.load.fetch_add(1, Ordering::Relaxed);
        let new_connection = NewConnection {
            charge: None,
            stream: Stream::Tcp(mio::net::TcpStream::from_std(stream)),
            watched: None,
            readable: false,
            end_reported: false,
            addr: addr.into(),
            #[cfg(all(target_os = "linux", feature = "handover"))]
            arriving: None,
            outcome: Default::default(),
            agreement: NegotiatedExtension::default(),
            receive: None,
            leftover: Vec::new(),
            app: Some(((), ())),
        };
        to_worker.send(new_connection).expect("the worker runs");
        inbox.notify();
        (client, peers.recv_timeout(DEADLINE).expect("it is open"))
    };
    let (mut client, idle) = connect();
    let (_does_not_read, full) = connect();
    let (waits, start) = (full.clone(), Instant::now());
    let sender = std::thread::spawn(move || {
        loop {
            match full.send_timeout(vec![0; 1 << 20], 2 * DEADLINE) {
                Ok(()) => {}
                Err(error) => return error,
            }
        }
    });
    // From here on the sender waits, or is about to.
    while waits.queued_bytes() < 1 << 20 {
        std::thread::yield_now();
    }
    fails.store(true, Ordering::SeqCst);
    assert!(inbox.send(Command::Resume { to: None }));

    let ended = worker.join().expect("the panic is contained");
    assert_eq!((ended.failed, ended.clean, ended.forced), (1, 0, 2));
    assert!(matches!(sender.join().expect("no panic"), SendTimeoutError::Disconnected(_)));
    assert!(start.elapsed() < DEADLINE, "the sender was woken");
    let mut received = Vec::new();
    client.read_to_end(&mut received).expect("FIN");
    assert_eq!(received[..4], [0x88, 16, 3, 243], "a close frame with 1011");
    for _ in 0..2 {
        assert_eq!(told.recv_timeout(DEADLINE).expect("the application is told").code.0, 1011);
    }
    assert_eq!(limit.count(), 0);
    assert!(inbox.is_retired() && !inbox.send(Command::Resume { to: None }));
    assert!(idle.send("x").is_err());
}
