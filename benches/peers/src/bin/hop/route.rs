//! The ways from one thread to the client of a connection that another thread serves.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};
use peers::frames::{Frames, Opcode};
use peers::handshake::{self, Request};
use serde::Serialize;
use threadbare::{Config, Event, Handler, Message, MessageRef, Peer, Server, ServerBuilder, Socket};

/// What the threads of the clients are called, by which they are told from those of the servers.
pub(crate) const CLIENT: &str = "hop-client";

/// Nothing takes longer, unless something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    WakeAndWrite,
    DirectWrite,
    PeerSend,
    PeerSendChannel,
}

impl Way {
    pub(crate) const ALL: [Way; 4] = [Way::WakeAndWrite, Way::DirectWrite, Way::PeerSend, Way::PeerSendChannel];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Way::WakeAndWrite => "wake-up + write",
            Way::DirectWrite => "direct write",
            Way::PeerSend => "Peer::send",
            Way::PeerSendChannel => "Peer::send, channel mode",
        }
    }

    /// Whether another thread writes than the one that sends.
    pub(crate) fn hands_over(self) -> bool {
        self != Way::DirectWrite
    }
}

/// One connection, its client, and how to send to it.
pub(crate) struct Route {
    pub(crate) way: Way,
    end: End,
    text: String,
    arrivals: Receiver<Result<Instant, String>>,
}

/// Where a message is handed in.
enum End {
    Bare(Bare),
    Stream { stream: TcpStream, frame: Vec<u8> },
    // The server lives as long as it is sent to.
    Peer { peer: Peer, _server: Server },
}

/// A message on its way out: whatever can be made ready before the clock runs.
pub(crate) struct Ready<'a> {
    route: &'a Route,
    message: Message,
}

impl Route {
    /// What it starts runs on the cores of the calling thread.
    pub(crate) fn start(way: Way, size: usize) -> Result<Route, Box<dyn Error>> {
        let frame = Frames::from_server(Opcode::Text, size, 1);
        let frame = frame.piece(0, frame.frame_len()).to_vec();
        let text = String::from_utf8(frame[frame.len() - size..].to_vec())?;
        let (end, client) = match way {
            Way::WakeAndWrite => {
                let (client, stream) = pair()?;
                (End::Bare(Bare::start(stream, frame.clone())?), client)
            }
            Way::DirectWrite => {
                let (client, stream) = pair()?;
                (End::Stream { stream, frame: frame.clone() }, client)
            }
            Way::PeerSend => {
                let (found, peers) = mpsc::channel();
                let make = move |_: &_| Keeper(found.clone());
                let server = builder().serve((Ipv4Addr::LOCALHOST, 0), make)?;
                let client = open(&server)?;
                (End::Peer { peer: peers.recv_timeout(PATIENCE)?, _server: server }, client)
            }
            Way::PeerSendChannel => {
                let server = builder().bind((Ipv4Addr::LOCALHOST, 0))?;
                let client = open(&server)?;
                let Event::Open(peer, _) = server.recv_timeout(PATIENCE)? else {
                    return Err("the first event is not that the connection is open".into());
                };
                (End::Peer { peer, _server: server }, client)
            }
        };
        let (arrived, arrivals) = mpsc::channel();
        thread::Builder::new().name(CLIENT.to_owned()).spawn(move || receive(client, &frame, &arrived))?;
        Ok(Route { way, end, text, arrivals })
    }

    pub(crate) fn ready(&self) -> Ready<'_> {
        Ready { route: self, message: Message::Text(self.text.clone()) }
    }

    /// When the message was there in full, if it is by now.
    pub(crate) fn arrival(&self, patience: Duration) -> Result<Option<Instant>, String> {
        match self.arrivals.recv_timeout(patience) {
            Ok(arrival) => arrival.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err("the client has ended".to_owned()),
        }
    }
}

impl Ready<'_> {
    pub(crate) fn send(self) -> Result<(), String> {
        match &self.route.end {
            End::Bare(bare) => bare.waker.wake().map_err(|error| error.to_string()),
            End::Stream { stream, frame } => write_at_once(stream, frame).map_err(|error| error.to_string()),
            End::Peer { peer, .. } => peer.send(self.message).map_err(|error| error.to_string()),
        }
    }
}

/// Hands its connection out.
struct Keeper(Sender<Peer>);

impl Handler for Keeper {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        // Nobody waits for it any more if the route could not be set up.
        let _ = self.0.send(socket.peer());
    }

    fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {}
}

/// The least that handing over takes: a thread in an epoll, an eventfd to wake it, one write.
struct Bare {
    waker: Waker,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bare {
    fn start(stream: TcpStream, frame: Vec<u8>) -> io::Result<Bare> {
        let mut poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), Token(0))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || {
            let mut events = Events::with_capacity(16);
            loop {
                match poll.poll(&mut events, None) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return eprintln!("error: the bare thread: {error}"),
                    Ok(()) if stopped.load(Ordering::Relaxed) => return,
                    Ok(()) => {}
                }
                if let Err(error) = write_at_once(&stream, &frame) {
                    return eprintln!("error: the bare thread: {error}");
                }
            }
        };
        let thread = thread::Builder::new().name("hop-bare".to_owned()).spawn(work)?;
        Ok(Bare { waker, stop, thread: Some(thread) })
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It has ended by itself if it can not be woken.
        if self.waker.wake().is_ok() {
            let _ = self.thread.take().map(JoinHandle::join);
        }
    }
}

fn write_at_once(mut stream: &TcpStream, frame: &[u8]) -> io::Result<()> {
    match stream.write(frame)? {
        written if written == frame.len() => Ok(()),
        written => Err(io::Error::other(format!("{written} of {} bytes were written at once", frame.len()))),
    }
}

/// Both ends of a connection over loopback: the client's and the server's.
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    server.set_nodelay(true)?;
    Ok((client, server))
}

/// One worker, and no pings: the client reads what was sent and nothing else.
fn builder() -> ServerBuilder {
    Server::builder().workers(1).config(Config::default().ping_interval(None))
}

/// A client's socket after the opening handshake.
fn open(server: &Server) -> io::Result<TcpStream> {
    let addr = server.local_addr();
    let mut client = TcpStream::connect(addr)?;
    let request = Request::new(&addr.to_string());
    client.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    let mut byte = [0];
    // Byte by byte, so that no frame is read with it.
    while !head.ends_with(handshake::END) {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    request.check(&head).map_err(io::Error::other)?;
    Ok(client)
}

/// The client: blocks until a frame is there, notes the time, and looks whether it is the right one.
fn receive(mut client: TcpStream, frame: &[u8], arrived: &Sender<Result<Instant, String>>) {
    let mut buffer = vec![0; frame.len()];
    loop {
        let arrival = match client.read_exact(&mut buffer) {
            Ok(()) => Ok(Instant::now()),
            Err(error) => Err(error.to_string()),
        };
        let arrival =
            arrival.and_then(|at| if buffer == frame { Ok(at) } else { Err("not the frame that was sent".into()) });
        let over = arrival.is_err();
        if arrived.send(arrival).is_err() || over {
            return;
        }
    }
}
