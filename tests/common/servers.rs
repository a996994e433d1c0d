//! Servers under test.

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use threadbare::{Accept, Event, Handler, MessageRef, Reject, Request, Server, ServerBuilder, ServerHandle, Socket};

use super::{Client, DEADLINE, request};

/// Sends back what it receives.
pub struct Echo;

impl Handler for Echo {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.send(message);
    }
}

/// How events reach the application.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    Handler,
    Channel,
}

/// An echo server that runs until it is dropped.
pub struct Running {
    pub addr: SocketAddr,
    pub handle: ServerHandle,
    server: Option<Server>,
    thread: Option<JoinHandle<()>>,
}

/// How many workers a server under test has where the test does not say: as many as the environment does, for the
/// same must hold with one, which has no reactor beside it.
pub fn workers() -> usize {
    std::env::var("THREADBARE_TEST_WORKERS").map_or(2, |count| count.parse().expect("a number"))
}

/// Starts an echo server with handlers.
pub fn echo(builder: ServerBuilder) -> Running {
    echo_in(Mode::Handler, builder)
}

/// Starts an echo server.
pub fn echo_in(mode: Mode, builder: ServerBuilder) -> Running {
    let builder = builder.workers(workers());
    match mode {
        Mode::Handler => {
            let server = builder.serve("127.0.0.1:0", |_| Echo).expect("a server");
            Running { addr: server.local_addr(), handle: server.handle(), server: Some(server), thread: None }
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
            Running { addr, handle, server: None, thread: Some(thread) }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.server.take());
        self.handle.shutdown(Duration::from_secs(1));
        // A test that fails must not wait for what will not come.
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().expect("the echo thread does not panic");
        }
    }
}

/// Keeps the server from accepting anything: its thread is held in a hook until this is dropped.
pub struct Gate {
    entered: Receiver<()>,
    release: Sender<()>,
}

/// Starts an echo server with a gate, which stands open if the test fails; `decide` has the requests of the others.
pub fn gated(
    mode: Mode,
    builder: ServerBuilder,
    decide: impl Fn(&Request) -> Result<Accept, Reject> + Send + 'static,
) -> (Running, Gate) {
    let (enter, entered) = crossbeam_channel::bounded(1);
    let (release, released) = crossbeam_channel::bounded(1);
    let hook = move |request: &Request| {
        if request.path() != "/gate" {
            return decide(request);
        }
        enter.send(()).expect("somebody waits");
        let _: Result<(), _> = released.recv();
        Ok(Accept::new())
    };
    (echo_in(mode, builder.on_request(hook)), Gate { entered, release })
}

impl Gate {
    /// Returns when the server is held; the client who holds it.
    pub fn hold(&self, addr: SocketAddr) -> Client {
        let mut client = Client::tcp(addr);
        client.send(request("/gate", "").as_bytes());
        self.entered.recv_timeout(DEADLINE).expect("the hook is called");
        client
    }

    /// Lets the server go on.
    pub fn open(&self) {
        self.release.send(()).expect("the hook waits");
    }
}
