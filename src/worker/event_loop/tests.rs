//! A worker without its thread: how many drives an event costs, however many connections there are, and how long it
//! sleeps.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::net::TcpListener;

use crate::config::Config;
use crate::protocol::close::CloseCode;
use crate::protocol::deflate::{Compression, NegotiatedExtension};
#[cfg(feature = "deflate")]
use crate::protocol::frame::RSV1;
use crate::protocol::frame::{self, FrameHeader, Opcode};
use crate::protocol::http::Request;
use crate::protocol::{Last, Role};
use crate::transport::budget::MemoryBudget;
use crate::transport::chunk::Chunk;
use crate::transport::held::Part;
use crate::transport::parts_state::{PartsState, Stage};
use crate::transport::stream::Stream;
use crate::worker::channel::delivery::{ChannelDelivery, OwnChannel, OwnChannelDelivery};
use crate::worker::channel::event::Event;
use crate::worker::channel::sender::EventSender;
use crate::worker::channel::state::ChannelState;
use crate::worker::connection::phase::Phase;
use crate::worker::connection_limit::ConnectionLimit;
use crate::worker::event_loop::new_connection::NewConnection;
use crate::worker::event_loop::worker::{Worker, WorkerParts};
use crate::worker::handle::latest::KeyedMessage;
use crate::worker::receiver::events::Events;
use crate::worker::timer_wheel::TimerWheel;

/// More than the few that a search through all of them would not be noticed with, and fewer than a process may open.
const CONNECTIONS: usize = 200;

/// The limit of each connection's channel: its open event, and one message.
const LIMIT: usize = 200;

const DEADLINE: Duration = Duration::from_secs(30);

/// A worker whose connections have a channel each, as a client's do; with their receivers, and their peers' sockets.
struct Clients {
    worker: Worker<OwnChannelDelivery>,
    receivers: Vec<Events>,
    peers: Vec<TcpStream>,
}

fn clients() -> Clients {
    clients_with(CONNECTIONS, NegotiatedExtension::default(), &[])
}

/// Clients that have agreed on this extension, and have received these bytes behind the response to their handshake.
fn clients_with(count: usize, agreement: NegotiatedExtension, leftover: &[u8]) -> Clients {
    clients_within(MemoryBudget::default(), count, agreement, leftover)
}

/// Clients that may take so much memory together.
fn clients_within(budget: MemoryBudget, count: usize, agreement: NegotiatedExtension, leftover: &[u8]) -> Clients {
    let parts = WorkerParts::new(Role::Client, Arc::new(budget)).expect("a poll");
    let inboxes: Arc<[_]> = [parts.inbox.clone()].into();
    let (to_worker, new_connections) = crossbeam_channel::unbounded();
    let (config, limit) = (Arc::new(Config::default()), Arc::new(ConnectionLimit::new(usize::MAX, None)));
    let worker = Worker::new(parts, 0, inboxes.clone(), config, OwnChannelDelivery, new_connections, limit);
    let mut clients = Clients { worker, receivers: Vec::new(), peers: Vec::new() };
    let listener = TcpListener::bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let addr = listener.local_addr().expect("an address");
    for _ in 0..count {
        clients.peers.push(TcpStream::connect(addr).expect("connected"));
        let (stream, addr) = eventually(|| listener.accept().ok());
        let request = Request::parse(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", addr.into()).expect("a request");
        // The event that opens a connection counts its request.
        let state = Arc::new(ChannelState::for_one_connection(LIMIT + request.size(), Arc::default()));
        state.workers.set(inboxes.clone()).expect("set once");
        let (sender, receiver) = crossbeam_channel::unbounded();
        clients.receivers.push(Events::new(receiver, state.clone()));
        let new_connection = NewConnection {
            charge: None,
            stream: Stream::Tcp(stream),
            watched: None,
            readable: false,
            end_reported: false,
            addr: addr.into(),
            #[cfg(all(target_os = "linux", feature = "handover"))]
            arriving: None,
            outcome: crate::worker::handle::info::Outcome::default(),
            agreement,
            receive: None,
            leftover: leftover.to_vec(),
            app: Some((OwnChannel::new(EventSender::new(sender, state)), request)),
        };
        to_worker.send(new_connection).expect("a worker");
    }
    clients.worker.register_new();
    clients
}

fn eventually<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < end, "it does not come");
        std::thread::yield_now();
    }
}

impl Clients {
    /// Has every connection read until all of them wait for room.
    fn read_until_full(&mut self) {
        for index in 0..CONNECTIONS as u32 {
            let key = self.worker.slots.key_at(index).expect("a connection");
            eventually(|| {
                self.worker.drive(key, |driver, input| {
                    driver.conn.readable = true;
                    driver.advance(input);
                });
                self.worker.slots.get_mut(key)?.conn.waiting.then_some(())
            });
        }
    }

    /// How many drives `act` costs.
    fn drives(&mut self, act: impl FnOnce(&mut Clients)) -> usize {
        let before = self.worker.drives;
        act(self);
        self.worker.drives - before
    }
}

#[test]
fn a_dropped_receiver_drives_its_own_connection_alone() {
    let mut clients = clients();
    for left in (CONNECTIONS - 3..CONNECTIONS).rev() {
        clients.receivers.pop();
        assert_eq!(clients.drives(|clients| clients.worker.drain_inbox()), 1, "{left} are left");
    }
    let rest = clients.receivers.len();
    clients.receivers.clear();
    assert_eq!(clients.drives(|clients| clients.worker.drain_inbox()), rest);
    // Each of them was closed, and so is not driven to be closed again.
    let closing = clients.drives(|clients| clients.worker.for_each(|driver| assert!(!driver.conn.can_send())));
    assert_eq!(closing, CONNECTIONS);
}

#[test]
fn a_receiver_that_is_dropped_before_its_connection_opens_closes_it() {
    let mut clients = clients();
    let sender = crossbeam_channel::unbounded().0;
    let state = Arc::new(ChannelState::for_one_connection(LIMIT, Arc::default()));
    drop(Events::new(crossbeam_channel::unbounded().1, state.clone()));
    let key = clients.worker.slots.key_at(0).expect("a connection");
    let request = Request::parse(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", ([127, 0, 0, 1], 1).into());
    clients.worker.drive(key, |driver, _| {
        *driver.app = Some(OwnChannel::new(EventSender::new(sender, state)));
        driver.open(request.ok());
        assert!(!driver.conn.can_send());
    });
}

#[test]
fn a_receiver_that_makes_room_resumes_its_own_connection_alone() {
    let mut clients = clients();
    // Two messages to each connection: the second has to wait for room in the channel.
    let mut messages = Vec::new();
    for text in ["first", "second"] {
        frame::encode(&mut messages, Opcode::Text, &[text.as_bytes(), &[b'.'; LIMIT]].concat(), None);
    }
    for peer in &mut clients.peers {
        peer.write_all(&messages).expect("written");
    }
    clients.read_until_full();
    assert_eq!(clients.drives(|clients| clients.worker.drive_ready_list()), 0, "none of them has room");
    let mut received = 0;
    eventually(|| {
        // A batch gives its room back when the receiver looks for the next one.
        received += usize::from(matches!(clients.receivers[7].try_recv(), Ok(Event::Message(..))));
        let drives = clients.drives(|clients| {
            clients.worker.drain_inbox();
            clients.worker.drive_ready_list();
        });
        assert!(drives <= 2, "{drives} drives for the room at one connection");
        (received == 2).then_some(())
    });
}

/// Compressed data that inflates to nothing: streams of two bytes, after each of which the inflater is reset; stored blocks;
/// and blocks with codes of their own.
#[cfg(feature = "deflate")]
#[test]
fn t_21_a_drive_ends_after_16_kib_that_inflate_to_nothing() {
    use crate::protocol::deflate::{DeflateConfig, DeflateOption};

    let head = b"GET / HTTP/1.1\r\nHost: localhost\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    let request = Request::parse(head, ([127, 0, 0, 1], 1).into()).expect("a request");
    let (agreement, answer) = DeflateOption { config: Some(DeflateConfig::default()) }.accept(&request);
    assert!(answer.is_some());
    for unit in [&b"\x03\x00"[..], b"\x00\x00\x00\xff\xff", b"\x05\xc0\x81\x08\x00\x00\x00\x00\x20\x7f\xeb\x07"] {
        for frame_size in [120, 12_000, 600_000] {
            // A message that does not end, so that nothing is delivered.
            let mut bytes = Vec::new();
            while bytes.len() < 500_000 {
                let (rsv, opcode) = if bytes.is_empty() { (RSV1, Opcode::Binary) } else { (0, Opcode::Continuation) };
                let payload_len = frame_size as u64;
                FrameHeader { fin: false, rsv, opcode, mask: None, payload_len }.encode(&mut bytes);
                bytes.extend(unit.iter().cycle().take(frame_size));
            }
            let mut clients = clients_with(1, agreement, &bytes);
            let key = clients.worker.slots.key_at(0).expect("a connection");
            let look = |clients: &mut Clients, advance: bool| {
                let mut seen = None;
                clients.worker.drive(key, |driver, input| {
                    if advance {
                        driver.advance(input);
                    }
                    let left = driver.conn.endpoint.take_carry().map_or(0, |mut carry| {
                        let size = carry.filled_mut().len();
                        driver.conn.endpoint.keep_carry(carry);
                        size
                    });
                    seen = Some((left, driver.state.again));
                });
                seen.expect("it was driven")
            };
            // The connection was driven when it was registered.
            let (mut left, mut drives) = (look(&mut clients, false).0, 1);
            while left > 0 {
                let before = left;
                let again;
                (left, again) = look(&mut clients, true);
                drives += 1;
                assert!((1..=20 << 10).contains(&(before - left)), "{} bytes in a drive, {unit:02x?}", before - left);
                assert_eq!(again, left > 0);
            }
            assert!(drives >= 25, "{drives} drives for {} bytes", bytes.len());
        }
    }
}

/// The worker waits for the answers of an application that has not come to the close event. When it stops to wait, answers may
/// be in the inbox: they are sent before the close frame.
#[test]
fn answers_in_the_inbox_are_sent_before_the_close_frame_that_waited_for_them() {
    for closes in [false, true] {
        let mut clients = clients_with(1, NegotiatedExtension::default(), &[]);
        let key = clients.worker.slots.key_at(0).expect("a connection");
        clients.peers[0].write_all(&[0x88, 2, 0x03, 0xe8]).expect("written");
        eventually(|| {
            clients.worker.drive(key, |driver, input| {
                driver.conn.readable = true;
                driver.advance(input);
            });
            (clients.worker.slots.get_mut(key)?.conn.phase == Phase::AwaitingAnswers).then_some(())
        });
        let peer = clients.worker.slots.get_mut(key).and_then(|slot| slot.conn.peer.clone()).expect("a handle");
        peer.send("an answer").expect("the connection awaits answers");
        if closes {
            peer.close(CloseCode::NORMAL_CLOSURE, "").expect("the connection awaits answers");
        }
        clients.worker.context.tick += TimerWheel::ticks(Duration::from_secs(1));
        clients.worker.drive(key, |driver, _| driver.expire_deadline());
        assert!(peer.send("too late").is_err());
        clients.worker.serve_inbox();
        drop(clients.worker);
        let (mut received, mut opcodes) = (Vec::new(), Vec::new());
        clients.peers[0].read_to_end(&mut received).expect("FIN");
        let mut rest = &received[..];
        while let Some((header, size)) = FrameHeader::parse(rest).expect("a frame") {
            opcodes.push(header.opcode);
            rest = &rest[size + header.payload_len as usize..];
        }
        assert_eq!(opcodes, [Opcode::Text, Opcode::Close], "{closes}");
    }
}

/// While the memory is above its limit, a connection is read on that holds no more than its share.
#[test]
fn a_connection_that_holds_its_share_is_not_starved() {
    let mut partial = Vec::new();
    FrameHeader { fin: true, rsv: 0, opcode: Opcode::Binary, mask: None, payload_len: 100_000 }.encode(&mut partial);
    partial.resize(50_000, 0);
    let with_limit = |limit| {
        let mut clients = clients_within(MemoryBudget::new(limit), 1, NegotiatedExtension::default(), &partial);
        let key = clients.worker.slots.key_at(0).expect("a connection");
        let mut seen = None;
        clients.worker.drive(key, |driver, _| seen = Some((driver.conn.memory_with_latest(), driver.is_starved())));
        seen.expect("it was driven")
    };
    let (held, _) = with_limit(usize::MAX);
    assert!(held >= 50_000, "{held}");
    assert_eq!(with_limit(held), (held, false));
    assert_eq!(with_limit(held - 1), (held, true));
}

/// A little above the limit there is time to wait; far above it there is none.
#[test]
fn the_memory_is_looked_at_again_while_it_is_above_its_limit() {
    const LIMIT: usize = 64 << 10;
    for (over, closed) in [(LIMIT / 8, false), (LIMIT / 8 + 1, true)] {
        let mut clients = clients_within(MemoryBudget::new(LIMIT), 1, NegotiatedExtension::default(), &[]);
        let worker = &mut clients.worker;
        worker.check_memory();
        assert_eq!(worker.memory_due(), None);
        let others = worker.context.inbox.budget.used();
        worker.context.charge(0, LIMIT + over - others);
        worker.check_memory();
        assert!(worker.memory_due() > Some(worker.now), "not at once");
        let key = worker.slots.key_at(0);
        let is_open = key.and_then(|key| worker.slots.get_mut(key)).is_some_and(|slot| slot.conn.phase == Phase::Open);
        assert_eq!(is_open, !closed, "{over} bytes above it");
    }
}

/// The one that holds most may be a connection of another worker, which sleeps since before the limit was exceeded.
#[test]
fn the_other_workers_look_as_well_when_the_memory_is_above_its_limit() {
    const LIMIT: usize = 64 << 10;
    let budget = Arc::new(MemoryBudget::new(LIMIT));
    let parts = [(); 2].map(|()| WorkerParts::new(Role::Server, budget.clone()).expect("a poll"));
    let inboxes: Arc<[_]> = parts.each_ref().map(|parts| parts.inbox.clone()).into();
    let (config, limit) = (Arc::new(Config::default()), Arc::new(ConnectionLimit::new(usize::MAX, None)));
    let mut index = 0..;
    let [mut one, mut other] = parts.map(|parts| {
        let new_connections = crossbeam_channel::unbounded().1;
        let (inboxes, index) = (inboxes.clone(), index.next().expect("an index"));
        Worker::new(parts, index, inboxes, config.clone(), OwnChannelDelivery, new_connections, limit.clone())
    });
    let mut events = mio::Events::with_capacity(1);
    let mut is_woken = || {
        other.poll.poll(&mut events, Some(Duration::ZERO)).expect("a poll");
        !events.is_empty()
    };
    one.check_memory();
    assert!(!is_woken(), "nothing is exceeded");
    budget.change(0, LIMIT + 1);
    one.check_memory();
    assert!(is_woken());
    one.check_memory();
    assert!(!is_woken(), "once is enough");
}

/// Each connection that gives up its input is subtracted, and the others are not.
#[test]
fn input_that_is_given_up_is_not_counted_as_undecoded() {
    let mut messages = Vec::new();
    for _ in 0..2 {
        frame::encode(&mut messages, Opcode::Text, &[b'.'; LIMIT], None);
    }
    // A message waits for room in the channel.
    let mut clients = clients_with(3, NegotiatedExtension::default(), &messages);
    let each = clients.worker.context.undecoded / 3;
    assert!((messages.len() / 2..=messages.len()).contains(&each), "{each}");
    let key = clients.worker.slots.key_at(0).expect("a connection");
    clients.worker.drive(key, |driver, _| driver.give_up_input());
    assert_eq!(clients.worker.context.undecoded, 2 * each);
}

/// What a connection holds is what the budget was told of it, and its keyed messages.
#[test]
fn the_connection_that_holds_most_is_closed_if_it_holds_more_than_its_share() {
    const SHARE: usize = 20_000;
    for (charges, keyed, closed) in [
        ([SHARE + 1000, SHARE], 5000, [false, true]),
        ([2 * SHARE, SHARE], 5000, [true, false]),
        ([SHARE + 1, SHARE], 0, [true, false]),
        ([SHARE, SHARE - 1000], 0, [false, false]),
    ] {
        let mut clients = clients_within(MemoryBudget::new(SHARE), 2, NegotiatedExtension::default(), &[]);
        let keys = [0, 1].map(|index| clients.worker.slots.key_at(index).expect("a connection"));
        if keyed > 0 {
            clients.worker.drive(keys[1], |driver, _| {
                let message = KeyedMessage::new(vec![0; keyed].into(), Compression::Auto);
                driver.active().keep_latest(7, message).expect("room");
            });
        }
        for (key, held) in keys.iter().zip(charges) {
            clients.worker.context.charge(key.index, held);
        }
        clients.worker.close_largest_holder();
        let is_closed = |key| clients.worker.slots.get_mut(key).is_none_or(|slot| slot.conn.phase != Phase::Open);
        assert_eq!(keys.map(is_closed), closed, "{charges:?}");
    }
}

/// While the application may be handling several events, the worker waits a moment for the answers to all of them. If
/// nothing comes, it sleeps until it is woken.
#[test]
fn a_worker_that_waits_for_answers_does_not_wake_again_and_again() {
    let parts = WorkerParts::new(Role::Server, Arc::default()).expect("a poll");
    let inbox = parts.inbox.clone();
    let (config, limit) = (Arc::new(Config::default()), Arc::new(ConnectionLimit::new(usize::MAX, None)));
    let state = Arc::new(ChannelState::new(LIMIT, Arc::default()));
    let delivery = ChannelDelivery::new(vec![EventSender::new(crossbeam_channel::unbounded().0, state.clone())]);
    let new_connections = crossbeam_channel::unbounded().1;
    let mut worker = Worker::new(parts, 0, [inbox.clone()].into(), config, delivery, new_connections, limit);
    assert_eq!(worker.timeout(), None, "nothing is due");

    state.long_batches.store(1, Ordering::SeqCst);
    for _ in 0..3 {
        let timeout = worker.timeout();
        assert_eq!(timeout, Some(Duration::from_millis(1)));
        worker.run_once(timeout).expect("a poll");
        assert_eq!(worker.timeout(), None, "nothing came");
        // An answer, which is one of several perhaps.
        inbox.notify();
        worker.run_once(Some(DEADLINE)).expect("a poll");
    }
    state.long_batches.store(0, Ordering::SeqCst);
    assert_eq!(worker.timeout(), None, "nothing is due");
}

/// A part with the opcode of a ping stands for one that can not be compressed.
#[test]
fn a_part_that_can_not_be_sent_fails_the_connection_whether_it_waited_or_not() {
    for (waits, last) in [(false, Last::Yes), (true, Last::Yes), (true, Last::No)] {
        for is_of_handler in [false, true] {
            let mut clients = clients_with(1, NegotiatedExtension::default(), &[]);
            let key = clients.worker.slots.key_at(0).expect("a connection");
            let messages = [Arc::new(PartsState::default()), Arc::new(PartsState::default())];
            let part = |message: usize, opcode, last| {
                let (message, payload) = (messages[message].clone(), Chunk::owned(vec![b'.'], 0, 1));
                Part { message, opcode, payload, last, compression: Compression::Auto }
            };
            clients.worker.drive(key, |driver, _| {
                let mut send = |part| {
                    if is_of_handler {
                        let _ = driver.active().send_part(part);
                    } else {
                        driver.send_part(part);
                    }
                };
                send(part(0, Opcode::Text, Last::No));
                if waits {
                    send(part(1, Opcode::Ping, last));
                }
                send(part(0, if waits { Opcode::Text } else { Opcode::Ping }, Last::Yes));
                driver.flush(&[]);
            });
            let case = format!("it waits: {waits}, {last:?}, of a handler: {is_of_handler}");
            assert!(messages[..=usize::from(waits)].iter().all(|message| message.stage() == Stage::Over), "{case}");
            let slot = clients.worker.slots.get_mut(key).expect("a connection");
            let sent = slot.conn.endpoint.connection.sent_close_code();
            // Where messages can still be sent, the close frame waits for the application's answers.
            let waiting = clients.worker.context.pending_close_frames.get(&key);
            let code = sent.or_else(|| Some(waiting?.as_ref()?.code));
            assert_eq!(code, Some(CloseCode::INTERNAL_ERROR), "{case}");
        }
    }
}
