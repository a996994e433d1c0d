//! The clients of a round: each kind, and each way to end.

use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use threadbare::{
    Client, ClientBuilder, ClientLoop, ClientPool, ClientRequest, CloseCode, EventRef, MessageRef, Peer, PeerId,
    Reconnect, SendError, SlowConsumer, Url, WebSocket,
};

use crate::board::{Actor, fail, lock, spawn};
use crate::common;
use crate::ledger::{End, Entry};
use crate::links::{Link, Received, Sent};
use crate::message::{Sequence, Stream, message, parse, size};
use crate::plan::{ClientKind, config};
use crate::random::Random;
use crate::round::Round;
use crate::security::{self, SCHEME};

/// How long a client waits for the end of a connection that it has closed, while neither end receives a message. The
/// timeouts of the connection are shorter, but they do not run while what was sent before the close makes progress.
const END: Duration = Duration::from_secs(10);

pub(crate) fn run(round: &Arc<Round>, actor: &Arc<Actor>, kind: ClientKind, mut random: Random) {
    for _ in 0..1 + random.below(4) {
        round.progress();
        match kind {
            ClientKind::Client => {
                if let Some((client, entry)) = connect(round, actor, "Client", &builder(&mut random), &mut random) {
                    Talker::new(round, actor, entry).converse(client, &mut random);
                }
            }
            ClientKind::Duplex => {
                if let Some((client, entry)) = connect(round, actor, "Duplex", &builder(&mut random), &mut random) {
                    duplex(round, actor, &client, entry, &mut random);
                }
            }
            ClientKind::Pool => pool(round, actor, &mut random),
            ClientKind::Reconnecting => reconnecting(round, actor, &mut random),
            ClientKind::Blocking => blocking(round, actor, &mut random),
            ClientKind::Inline => inline(round, actor, &mut random),
            ClientKind::Rude => rude(round, actor, &mut random),
        }
    }
}

fn builder(random: &mut Random) -> ClientBuilder {
    let policy = random.pick(&[None, None, Some(SlowConsumer::Refuse)]);
    security::client(Client::builder().no_proxy().config(config(random, policy)).timeout(Duration::from_secs(5)))
}

/// The URL of a new connection. Some are refused.
fn url(round: &Round, id: u64, random: &mut Random) -> String {
    let path = match random.below(100) {
        0..90 => "talk",
        90..93 => "panic",
        93..96 => "refuse",
        96..98 => "make",
        _ => "forget",
    };
    format!("{SCHEME}://{}/{path}/{id}", round.addr)
}

fn connect(
    round: &Round,
    actor: &Actor,
    kind: &'static str,
    builder: &ClientBuilder,
    random: &mut Random,
) -> Option<(Client, Arc<Entry>)> {
    let id = round.next_id();
    let entry = round.ledger.add(id, kind, false);
    actor.does("connects", id, 0);
    // The server may have ended, or refuse.
    let client = builder.connect(&url(round, id, random)).ok()?;
    Some((client, entry))
}

/// What a client received on one connection.
struct Reader {
    lossy: bool,
    entry: Arc<Entry>,
    answers: Sequence,
    pushed: Sequence,
    broadcast: Option<u64>,
}

impl Reader {
    fn new(round: &Round, entry: Arc<Entry>) -> Reader {
        let (answers, pushed) = Default::default();
        Reader { lossy: round.plan.lossy, entry, answers, pushed, broadcast: None }
    }

    fn note(&mut self, message: MessageRef<'_>) {
        let noted = match parse(message) {
            Ok(None) => self.answers.note(None, self.lossy),
            Ok(Some((Stream::Answer, number))) => self.answers.note(Some(number), self.lossy),
            Ok(Some((Stream::Pushed, number))) => self.pushed.note(Some(number), self.lossy),
            Ok(Some((Stream::Broadcast, number))) => {
                let last = self.broadcast.replace(number);
                // The worker of the next connection may be behind that of the last.
                let in_order = self.entry.reconnects || last.is_none_or(|last| last < number);
                if in_order { Ok(()) } else { Err(format!("{number} after {last:?}")) }
            }
            Ok(Some((Stream::Shouted, _))) => Ok(()),
            Ok(Some((Stream::Client, number))) => Err(format!("message {number} of a client")),
            Err(error) => Err(error),
        };
        if let Err(error) = noted {
            fail(&format!("connection {} of {}, at the client: {error}", self.entry.id, self.entry.kind));
        }
        self.entry.answers_received.store(self.answers.count, Ordering::SeqCst);
        self.entry.pushed_received.store(self.pushed.count, Ordering::SeqCst);
    }

    fn ended(&self, end: End) {
        *lock(&self.entry.end) = end;
    }
}

/// One thread that sends and receives on one connection.
struct Talker<'a> {
    round: &'a Round,
    actor: &'a Actor,
    reader: Reader,
    ended: bool,
}

impl<'a> Talker<'a> {
    fn new(round: &'a Round, actor: &'a Actor, entry: Arc<Entry>) -> Talker<'a> {
        Talker { round, actor, reader: Reader::new(round, entry), ended: false }
    }

    fn does(&self, what: &'static str) {
        let entry = &self.reader.entry;
        self.actor.does(what, entry.id, entry.sent.load(Ordering::SeqCst));
    }

    fn converse(mut self, mut link: impl Link, random: &mut Random) {
        for _ in 0..1 + random.below(60) {
            if self.ended {
                return;
            }
            self.round.progress();
            match random.below(100) {
                0..55 => self.send(&mut link, random),
                55..65 => {
                    for _ in 0..random.below(20) {
                        self.send(&mut link, random);
                    }
                }
                65..92 => {
                    for _ in 0..random.below(20) {
                        let wait = Duration::from_millis(random.pick(&[0, 0, 1, 5]));
                        self.receive(&mut link, wait);
                    }
                }
                92..95 => link.ping(),
                95..98 => {
                    self.does("reads nothing");
                    self.round.pause(Duration::from_millis(random.below(60)));
                }
                98 => {
                    self.does("reads nothing for long");
                    self.round.pause(Duration::from_millis(random.below(700)));
                }
                _ => {}
            }
        }
        if !self.ended {
            self.end(link, random);
        }
    }

    fn send(&mut self, link: &mut impl Link, random: &mut Random) {
        if self.ended {
            return;
        }
        self.does("sends");
        let entry = &self.reader.entry;
        let number = entry.sent.load(Ordering::SeqCst);
        let size = size(random, !entry.reconnects);
        match link.send(message(Stream::Client, number, size, random.percent(50)), random.next()) {
            Sent::Accepted => {
                entry.sent.fetch_add(1, Ordering::SeqCst);
            }
            Sent::Full => {
                for _ in 0..50 {
                    self.receive(link, Duration::from_millis(1));
                }
            }
            // The reason is with what is received.
            Sent::Closed => self.read_to_the_end(link),
        }
    }

    /// Returns whether there may be more.
    fn receive(&mut self, link: &mut impl Link, wait: Duration) -> bool {
        if self.ended {
            return false;
        }
        self.does("receives");
        match link.receive(wait) {
            Received::Message(message) => {
                self.reader.note(MessageRef::from(&message));
                return true;
            }
            Received::Nothing => return false,
            Received::Clean => self.reader.ended(End::Received),
            Received::Abnormal(why) => self.reader.ended(End::Abnormal(why)),
        }
        self.ended = true;
        false
    }

    fn read_to_the_end(&mut self, link: &mut impl Link) {
        let mut deadline = Instant::now() + END * crate::slowness();
        let mut received = 0;
        while !self.ended {
            self.receive(link, Duration::from_millis(100));
            let now = self.reader.entry.received();
            if now != received {
                received = now;
                deadline = Instant::now() + END * crate::slowness();
            }
            if Instant::now() > deadline {
                if self.reader.entry.reconnects {
                    return;
                }
                fail(&format!("{} does not end", self.reader.entry));
            }
        }
    }

    fn end(&mut self, mut link: impl Link, random: &mut Random) {
        match random.below(100) {
            0..45 => {
                self.does("closes");
                link.close();
                self.read_to_the_end(&mut link);
            }
            45..65 => {
                self.does("finishes");
                let timeout = Duration::from_millis(random.pick(&[100, 2_000, 5_000]));
                match link.finish(timeout) {
                    Some(true) => self.reader.ended(End::Finished),
                    Some(false) => {}
                    None => {
                        link.close();
                        self.read_to_the_end(&mut link);
                    }
                }
            }
            65..80 => {}
            80..90 => {
                self.does("aborts");
                link.abort();
                if !self.reader.entry.reconnects {
                    self.read_to_the_end(&mut link);
                }
            }
            _ => {
                self.does("waits for the server");
                self.receive(&mut link, Duration::from_millis(50));
            }
        }
        self.does("drops the client");
        drop(link);
        self.does("has dropped the client");
    }
}

/// One thread receives; another sends, and waits for room.
fn duplex(round: &Round, actor: &Actor, client: &Client, entry: Arc<Entry>, random: &mut Random) {
    let mut reader = Reader::new(round, entry.clone());
    let mut sending = random.fork();
    let ends_by_abort = random.percent(10);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            for _ in 0..sending.below(120) {
                let number = entry.sent.load(Ordering::SeqCst);
                let size = size(&mut sending, true);
                round.progress();
                match client.send(message(Stream::Client, number, size, sending.percent(50))) {
                    Ok(()) => {
                        entry.sent.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(SendError::Full(_)) => {
                        round.pause(Duration::from_millis(1));
                    }
                    Err(_) => break,
                }
            }
            if ends_by_abort {
                client.abort();
            } else {
                let _ = client.close(CloseCode(4_201), "by the sender");
            }
        });
        let end = loop {
            actor.does("receives while it sends", entry.id, entry.sent.load(Ordering::SeqCst));
            match client.recv() {
                Ok(Some(message)) => reader.note(MessageRef::from(&message)),
                Ok(None) => break End::Received,
                Err(error) => break End::Abnormal(format!("{error:?}")),
            }
        };
        reader.ended(end);
        actor.does("joins its sender", entry.id, 0);
        sender.join().expect("no panic");
    });
    actor.does("drops the client", entry.id, 0);
}

fn pool(round: &Arc<Round>, actor: &Arc<Actor>, random: &mut Random) {
    let pool = ClientPool::new(random.pick(&[1, 2]), config(random, None)).expect("a pool");
    let builder = security::client(Client::builder().no_proxy().pool(&pool).timeout(Duration::from_secs(5)));
    let mut threads = Vec::new();
    for index in 0..1 + random.below(4) {
        let (round, builder, mut random) = (round.clone(), builder.clone(), random.fork());
        threads.push(spawn(format!("of a pool {index}"), move |actor| {
            if let Some((client, entry)) = connect(&round, actor, "Pool", &builder, &mut random) {
                Talker::new(&round, actor, entry).converse(client, &mut random);
            }
        }));
    }
    let drops_pool_first = random.percent(50);
    drop(builder);
    if drops_pool_first {
        actor.does("drops the pool", 0, 0);
        drop(pool);
    }
    actor.does("joins the pool's clients", 0, 0);
    for thread in threads {
        thread.join().expect("a panic ends the process");
    }
    actor.does("drops the pool last", 0, 0);
}

fn reconnecting(round: &Round, actor: &Actor, random: &mut Random) {
    let id = round.next_id();
    let entry = round.ledger.add(id, "Reconnecting", true);
    let settings = Reconnect::new()
        .initial_delay(Duration::from_millis(5))
        .max_delay(Duration::from_millis(50))
        .stable_after(Duration::from_secs(2))
        .max_attempts(10)
        .max_retry_after(Duration::from_millis(50))
        .max_outbox_size(random.pick(&[16 << 10, 1 << 20]))
        .on_connect(|session| {
            let _ = session.peer().ping(b"on_connect");
        });
    let builder = Client::builder().no_proxy().config(config(random, None)).timeout(Duration::from_secs(5));
    let builder = security::client(builder);
    let client = builder.reconnect(&url(round, id, random), settings).expect("a client");
    Talker::new(round, actor, entry).converse(client, random);
}

fn blocking(round: &Round, actor: &Actor, random: &mut Random) {
    let id = round.next_id();
    let entry = round.ledger.add(id, "WebSocket", false);
    actor.does("connects", id, 0);
    let Ok(stream) = TcpStream::connect(round.addr) else { return };
    let timeout = |stream: &TcpStream, time| {
        stream.set_read_timeout(Some(time)).expect("a socket");
        stream.set_write_timeout(Some(time)).expect("a socket");
    };
    timeout(&stream, Duration::from_secs(5));
    if random.percent(30) {
        // Smaller than a segment of the loopback interface, the system would send one each few hundred milliseconds.
        socket2::SockRef::from(&stream).set_recv_buffer_size(128 << 10).expect("a socket");
    }
    let url = Url::parse(&url(round, id, random)).expect("a URL");
    let Ok(socket) = WebSocket::connect_with(ClientRequest::new(url), stream, &config(random, None)) else { return };
    timeout(socket.get_ref(), Duration::from_millis(20));
    Talker::new(round, actor, entry).converse(socket, random);
}

/// One connection of a loop.
struct Inlined {
    peer: Peer,
    reader: Reader,
    left: u64,
}

/// Several connections on one thread, which polls.
fn inline(round: &Round, actor: &Actor, random: &mut Random) {
    let mut client_loop = ClientLoop::new(config(random, None)).expect("a loop");
    let mut open: HashMap<PeerId, Inlined> = HashMap::new();
    let builder = security::client(Client::builder().no_proxy().timeout(Duration::from_secs(5)));
    for _ in 0..1 + random.below(5) {
        let id = round.next_id();
        let entry = round.ledger.add(id, "ClientLoop", false);
        actor.does("connects in a loop", id, 0);
        if let Ok(peer) = builder.connect_inline(&url(round, id, random), &mut client_loop) {
            let reader = Reader::new(round, entry);
            open.insert(peer.id(), Inlined { peer, reader, left: random.below(80) });
        }
    }
    let deadline = Instant::now() + END * crate::slowness();
    let drops_early = random.percent(10);
    while client_loop.connections() > 0 && Instant::now() < deadline {
        for connection in open.values_mut() {
            for _ in 0..random.below(6) {
                step(round, connection, random);
            }
        }
        actor.does("polls a loop", client_loop.connections() as u64, open.len() as u64);
        let polled = client_loop.poll(Duration::from_millis(random.below(5)), |event| {
            let id = event.peer().id();
            let connection = open.get_mut(&id).unwrap_or_else(|| fail("an event after the end, in a client's loop"));
            match event {
                EventRef::Message(_, message) => connection.reader.note(message.as_message()),
                EventRef::Close(_, reason) => {
                    let end = if reason.is_clean() { End::Received } else { End::Abnormal(format!("{reason:?}")) };
                    connection.reader.ended(end);
                    open.remove(&id);
                }
                _ => {}
            }
        });
        polled.expect("a poll");
        if drops_early && round.steps() > 500 {
            break;
        }
    }
    actor.does("drops a loop", client_loop.connections() as u64, open.len() as u64);
}

/// Sends the next message of a connection, or closes it after the last.
fn step(round: &Round, connection: &mut Inlined, random: &mut Random) {
    round.progress();
    let entry = &connection.reader.entry;
    if connection.left == 0 {
        let _ = connection.peer.close(CloseCode(4_202), "by a loop");
        return;
    }
    let number = entry.sent.load(Ordering::SeqCst);
    let message = message(Stream::Client, number, size(random, true), random.percent(50));
    match connection.peer.send(message) {
        Ok(()) => {
            entry.sent.fetch_add(1, Ordering::SeqCst);
            connection.left -= 1;
        }
        Err(SendError::Full(_)) => {}
        Err(_) => connection.left = 0,
    }
}

/// Breaks off a handshake, a frame or a connection.
fn rude(round: &Round, actor: &Actor, random: &mut Random) {
    let id = round.next_id();
    let entry = round.ledger.add(id, "raw socket", false);
    actor.does("is rude", id, 0);
    let Ok(mut stream) = TcpStream::connect(round.addr) else { return };
    stream.set_write_timeout(Some(Duration::from_millis(200))).expect("a socket");
    let mut bytes = common::request(&format!("/talk/{id}"), "").into_bytes();
    for number in 0..random.below(30) {
        let message = message(Stream::Client, number, size(random, true), random.percent(50));
        match MessageRef::from(&message) {
            MessageRef::Text(text) => bytes.extend(common::text(text)),
            other => bytes.extend(common::binary(other.as_bytes())),
        }
        entry.sent.fetch_add(1, Ordering::SeqCst);
    }
    match random.below(5) {
        0 => bytes.truncate(random.below(bytes.len() as u64) as usize),
        1 => bytes.extend((0..random.below(100)).map(|_| random.next() as u8)),
        2 => bytes.extend(common::ping(&[1; 125])),
        3 => {
            let at = random.below(bytes.len() as u64) as usize;
            bytes.truncate(at.max(bytes.len() / 2));
        }
        _ => {}
    }
    for part in bytes.chunks(1 + random.below(60_000) as usize) {
        if stream.write_all(part).is_err() {
            break;
        }
    }
    round.progress();
    match random.below(4) {
        0 => socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket"),
        1 => {
            let _ = stream.shutdown(std::net::Shutdown::Write);
            round.pause(Duration::from_millis(random.below(100)));
        }
        2 => {
            // What it is sent fills the buffers.
            round.pause(Duration::from_millis(random.below(600)));
        }
        _ => {}
    }
}
