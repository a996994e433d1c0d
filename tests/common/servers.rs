//! Echo servers.

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use threadbare::{Accept, Event, Handler, MessageRef, Request, Response, Server, ServerBuilder, ServerHandle, Socket};

use super::{Client, DEADLINE, logged, request};

/// Sends back what it receives.
pub struct Echo;

impl Handler for Echo {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.send(message);
    }
}

/// How events reach the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A handler on the worker's thread.
    Handler,
    /// A channel to a thread of the application.
    Channel,
}

impl Mode {
    pub const ALL: [Mode; 2] = [Mode::Handler, Mode::Channel];
}

/// An echo server that runs until it is dropped.
pub struct EchoServer {
    pub addr: SocketAddr,
    pub handle: ServerHandle,
    server: Option<Server>,
    thread: Option<JoinHandle<()>>,
}

/// The number of workers of a server, unless the test sets it. `THREADBARE_TEST_WORKERS=1` runs the same tests with one
/// worker, which accepts connections itself, without a reactor thread.
pub fn worker_count() -> usize {
    std::env::var("THREADBARE_TEST_WORKERS").map_or(2, |count| count.parse().expect("a number"))
}

/// Starts an echo server with handlers.
pub fn echo_server(builder: ServerBuilder) -> EchoServer {
    echo_server_in(Mode::Handler, builder)
}

/// Starts an echo server.
pub fn echo_server_in(mode: Mode, builder: ServerBuilder) -> EchoServer {
    logged::install();
    let builder = builder.workers(worker_count());
    match mode {
        Mode::Handler => {
            let server = builder.serve("127.0.0.1:0", |_| Echo).expect("a server");
            EchoServer { addr: server.local_addr(), handle: server.handle(), server: Some(server), thread: None }
        }
        Mode::Channel => {
            let server = builder.bind("127.0.0.1:0").expect("a server");
            let (addr, handle) = (server.local_addr(), server.handle());
            let thread = std::thread::spawn(move || {
                for event in &server {
                    if let Event::Message(peer, message) = event {
                        let _ = peer.send(message); // the peer may be gone
                    }
                }
            });
            EchoServer { addr, handle, server: None, thread: Some(thread) }
        }
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        drop(self.server.take());
        self.handle.shutdown(Duration::from_secs(1));
        // A test that failed may have left the thread blocked.
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().expect("the echo thread does not panic");
        }
    }
}

/// Blocks the thread that accepts, in the server's request hook, until it is unblocked or this is dropped.
pub struct AcceptBlocker {
    entered: Receiver<()>,
    release: Sender<()>,
}

/// Starts an echo server whose accepting thread can be blocked. Requests of other clients go to `decide`.
pub fn with_accept_blocker(
    mode: Mode,
    builder: ServerBuilder,
    decide: impl Fn(&Request) -> Result<Accept, Response> + Send + 'static,
) -> (EchoServer, AcceptBlocker) {
    let (enter, entered) = crossbeam_channel::bounded(1);
    let (release, released) = crossbeam_channel::bounded(1);
    let hook = move |request: &Request| {
        if request.path() != "/block" {
            return decide(request);
        }
        enter.send(()).expect("the test waits for the hook");
        // An error says that the test has ended.
        let _: Result<(), _> = released.recv();
        Ok(Accept::new())
    };
    (echo_server_in(mode, builder.on_request(hook)), AcceptBlocker { entered, release })
}

impl AcceptBlocker {
    /// Blocks the accepting thread, and returns the client whose request blocks it.
    pub fn block(&self, addr: SocketAddr) -> Client {
        let mut client = Client::tcp(addr);
        client.send(request("/block", "").as_bytes());
        self.entered.recv_timeout(DEADLINE).expect("the hook is called");
        client
    }

    /// Lets the accepting thread continue.
    pub fn unblock(&self) {
        self.release.send(()).expect("the hook is blocked");
    }
}
