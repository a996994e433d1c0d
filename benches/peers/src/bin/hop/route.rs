//! The methods of sending to a connection from another thread.

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

/// The name of the clients' threads, which distinguishes them from those of the servers.
pub(crate) const CLIENT: &str = "hop-client";

/// An error is reported if something takes longer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Method {
    WakeAndWrite,
    DirectWrite,
    PeerSend,
    PeerSendChannel,
}

impl Method {
    pub(crate) const ALL: [Method; 4] =
        [Method::WakeAndWrite, Method::DirectWrite, Method::PeerSend, Method::PeerSendChannel];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Method::WakeAndWrite => "wake-up + write",
            Method::DirectWrite => "direct write",
            Method::PeerSend => "Peer::send",
            Method::PeerSendChannel => "Peer::send, channel mode",
        }
    }

    /// Whether another thread than the sender writes to the socket.
    pub(crate) fn uses_another_thread(self) -> bool {
        self != Method::DirectWrite
    }
}

/// One connection, its client, and the method of sending to it.
pub(crate) struct Route {
    pub(crate) method: Method,
    end: End,
    text: String,
    arrivals: Receiver<Result<Instant, String>>,
}

/// What the sender holds of the connection.
enum End {
    Bare(BareThread),
    Stream { stream: TcpStream, frame: Vec<u8> },
    // The server lives as long as its peer.
    Peer { peer: Peer, _server: Server },
}

/// A message that is prepared before the clock starts.
pub(crate) struct Ready<'a> {
    route: &'a Route,
    message: Message,
}

impl Route {
    /// Starts a connection whose threads run on the cores of the calling thread.
    pub(crate) fn start(method: Method, size: usize) -> Result<Route, Box<dyn Error>> {
        let frame = Frames::from_server(Opcode::Text, size, 1);
        let frame = frame.piece(0, frame.frame_len()).to_vec();
        let text = String::from_utf8(frame[frame.len() - size..].to_vec())?;
        let (end, client) = match method {
            Method::WakeAndWrite => {
                let (client, stream) = pair()?;
                (End::Bare(BareThread::start(stream, frame.clone())?), client)
            }
            Method::DirectWrite => {
                let (client, stream) = pair()?;
                (End::Stream { stream, frame: frame.clone() }, client)
            }
            Method::PeerSend => {
                let (found, peers) = mpsc::channel();
                let make = move |_: &_| SendPeer(found.clone());
                let server = builder().serve((Ipv4Addr::LOCALHOST, 0), make)?;
                let client = open(&server)?;
                (End::Peer { peer: peers.recv_timeout(TIMEOUT)?, _server: server }, client)
            }
            Method::PeerSendChannel => {
                let server = builder().bind((Ipv4Addr::LOCALHOST, 0))?;
                let client = open(&server)?;
                let Event::Open(peer, _) = server.recv_timeout(TIMEOUT)? else {
                    return Err("the first event is not Event::Open".into());
                };
                (End::Peer { peer, _server: server }, client)
            }
        };
        let (arrived, arrivals) = mpsc::channel();
        thread::Builder::new().name(CLIENT.to_owned()).spawn(move || receive(client, &frame, &arrived))?;
        Ok(Route { method, end, text, arrivals })
    }

    pub(crate) fn ready(&self) -> Ready<'_> {
        Ready { route: self, message: Message::Text(self.text.clone()) }
    }

    /// When the message had arrived completely; `None` if it does not within `timeout`.
    pub(crate) fn arrival(&self, timeout: Duration) -> Result<Option<Instant>, String> {
        match self.arrivals.recv_timeout(timeout) {
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

/// Sends the peer of its connection.
struct SendPeer(Sender<Peer>);

impl Handler for SendPeer {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        // An error means that the route could not be set up.
        let _ = self.0.send(socket.peer());
    }

    fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {}
}

/// The least work of a send through another thread: a thread in epoll, an eventfd to wake it, one write.
struct BareThread {
    waker: Waker,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl BareThread {
    fn start(stream: TcpStream, frame: Vec<u8>) -> io::Result<BareThread> {
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
        Ok(BareThread { waker, stop, thread: Some(thread) })
    }
}

impl Drop for BareThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // If it cannot be woken, it has ended.
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

/// Both ends of a connection over loopback: the client's end, then the server's.
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    server.set_nodelay(true)?;
    Ok((client, server))
}

/// One worker and no pings, because the client expects only what is sent.
fn builder() -> ServerBuilder {
    Server::builder().workers(1).config(Config::default().ping_interval(None))
}

/// Returns a client's socket after the opening handshake.
fn open(server: &Server) -> io::Result<TcpStream> {
    let addr = server.local_addr();
    let mut client = TcpStream::connect(addr)?;
    let request = Request::new(&addr.to_string());
    client.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    let mut byte = [0];
    // Byte by byte, so that no frame is read with the head.
    while !head.ends_with(handshake::END) {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    request.check(&head).map_err(io::Error::other)?;
    Ok(client)
}

/// The client: blocks until a frame has arrived, takes the time, and checks the frame.
fn receive(mut client: TcpStream, frame: &[u8], arrived: &Sender<Result<Instant, String>>) {
    let mut buffer = vec![0; frame.len()];
    loop {
        let arrival = match client.read_exact(&mut buffer) {
            Ok(()) => Ok(Instant::now()),
            Err(error) => Err(error.to_string()),
        };
        let arrival = arrival
            .and_then(|at| if buffer == frame { Ok(at) } else { Err("another frame arrived than was sent".into()) });
        let over = arrival.is_err();
        if arrived.send(arrival).is_err() || over {
            return;
        }
    }
}
