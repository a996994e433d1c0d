//! The trait of the application's handlers, which are called on the worker's thread.

use crate::protocol::close::CloseReason;
use crate::protocol::fragment::FragmentRef;
use crate::protocol::message::{Assembled, MessageRef};
use crate::transport::loan::AssembledLoan;
use crate::worker::delivery::delivery::{CloseTiming, Delivery, Incoming, IncomingFragment};
use crate::worker::delivery::socket::Socket;
use crate::worker::handle::draining::Draining;
#[cfg(all(target_os = "linux", feature = "handover"))]
use crate::worker::handle::peer::Peer;
use crate::worker::slab::Key;

/// The application's part of one connection, called on the worker's thread.
///
/// Each connection has a handler of its own, which needs no lock for its state. It must not block, because the worker's
/// other connections wait meanwhile. If it panics, its connection is closed with 1011, and it is not called again. No
/// other connection is affected.
///
/// A closure that takes a socket and a message is a handler too. The variables that it owns are the state of its
/// connection:
///
/// ```no_run
/// use threadbare::{MessageRef, Server, Socket};
///
/// let server = Server::builder().serve("127.0.0.1:8080", |_request| {
///     let mut count = 0;
///     move |socket: &mut Socket<'_>, _message: MessageRef<'_>| {
///         count += 1;
///         socket.send(format!("message {count}"));
///     }
/// })?;
/// # Ok::<(), threadbare::BuildError>(())
/// ```
///
/// A type implements the trait, and can also handle the other events:
///
/// ```
/// use threadbare::{Handler, MessageRef, Socket};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
///         socket.send(message);
///     }
/// }
/// ```
pub trait Handler: Send + 'static {
    /// The connection is established.
    ///
    /// ```
    /// use threadbare::{Handler, MessageRef, Socket};
    ///
    /// struct Greeter;
    ///
    /// impl Handler for Greeter {
    ///     fn on_open(&mut self, socket: &mut Socket<'_>) {
    ///         socket.send("welcome");
    ///     }
    ///
    ///     fn on_message(&mut self, _socket: &mut Socket<'_>, _message: MessageRef<'_>) {}
    /// }
    /// ```
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        let _ = socket;
    }

    /// A text or binary message arrived, borrowed from the buffer it was received into.
    ///
    /// ```
    /// use threadbare::{Handler, MessageRef, Socket};
    ///
    /// struct Calculator {
    ///     sum: i64,
    /// }
    ///
    /// impl Handler for Calculator {
    ///     fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
    ///         match message.as_text().map(str::parse::<i64>) {
    ///             Some(Ok(number)) => self.sum = self.sum.wrapping_add(number),
    ///             _ => drop(socket.send("send a number")), // `false` if it is closing
    ///         }
    ///     }
    /// }
    /// ```
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>);

    /// The next bytes of a message arrived, borrowed from the buffer they were received into. Called instead of
    /// [`on_message`](Handler::on_message) on connections that receive fragments ([`Config::receive`](crate::Config::receive)),
    /// also for a message that came whole. It does nothing unless it is implemented. A closure implements `on_message`
    /// alone.
    ///
    /// If the connection ends inside a message, [`on_close`](Handler::on_close) is called, and no last fragment comes.
    ///
    /// ```
    /// use std::fs::File;
    /// use std::io::Write;
    /// use threadbare::{CloseCode, FragmentRef, Handler, MessageRef, Socket};
    ///
    /// /// Writes uploads to a file. A message of 2 GiB takes no more memory than a short one.
    /// struct Upload(File);
    ///
    /// impl Handler for Upload {
    ///     fn on_message(&mut self, _socket: &mut Socket<'_>, _message: MessageRef<'_>) {}
    ///
    ///     fn on_fragment(&mut self, socket: &mut Socket<'_>, fragment: FragmentRef<'_>) {
    ///         if self.0.write_all(fragment.as_bytes()).is_err() {
    ///             let _ = socket.close(CloseCode::INTERNAL_ERROR, "the disk is full");
    ///         } else if fragment.is_last() {
    ///             socket.send(format!("{} bytes received", fragment.offset() + fragment.len() as u64));
    ///         }
    ///     }
    /// }
    /// ```
    fn on_fragment(&mut self, socket: &mut Socket<'_>, fragment: FragmentRef<'_>) {
        let _ = (socket, fragment);
    }

    /// A ping arrived. The library answers it with a pong.
    ///
    /// ```
    /// use threadbare::{Handler, MessageRef, Socket};
    ///
    /// struct PingCounter(u64);
    ///
    /// impl Handler for PingCounter {
    ///     fn on_message(&mut self, _socket: &mut Socket<'_>, _message: MessageRef<'_>) {}
    ///
    ///     fn on_ping(&mut self, _socket: &mut Socket<'_>, _payload: &[u8]) {
    ///         self.0 += 1;
    ///     }
    /// }
    /// ```
    fn on_ping(&mut self, socket: &mut Socket<'_>, payload: &[u8]) {
        let _ = (socket, payload);
    }

    /// A pong arrived.
    ///
    /// ```
    /// use std::time::Instant;
    /// use threadbare::{Handler, MessageRef, Socket};
    ///
    /// struct Timed(Instant);
    ///
    /// impl Handler for Timed {
    ///     fn on_message(&mut self, socket: &mut Socket<'_>, _message: MessageRef<'_>) {
    ///         self.0 = Instant::now();
    ///         let _ = socket.ping(b"timed"); // it may be closing
    ///     }
    ///
    ///     fn on_pong(&mut self, socket: &mut Socket<'_>, payload: &[u8]) {
    ///         if payload == b"timed" {
    ///             println!("{}: {:?}", socket.id(), self.0.elapsed());
    ///         }
    ///     }
    /// }
    /// ```
    fn on_pong(&mut self, socket: &mut Socket<'_>, payload: &[u8]) {
        let _ = (socket, payload);
    }

    /// The server drains, and the connection is closed when its turn comes; see
    /// [`ServerHandle::drain`](crate::ServerHandle::drain). What is sent until then arrives before the close. The handler may
    /// also close the connection itself, once it has ended what it is doing.
    ///
    /// Called again if a second drain has an earlier deadline.
    ///
    /// ```
    /// use threadbare::{Draining, Handler, MessageRef, Socket};
    ///
    /// struct Game;
    ///
    /// impl Handler for Game {
    ///     fn on_message(&mut self, _socket: &mut Socket<'_>, _message: MessageRef<'_>) {}
    ///
    ///     fn on_drain(&mut self, socket: &mut Socket<'_>, _draining: Draining) {
    ///         socket.send("the server restarts soon: this is the last round");
    ///     }
    /// }
    /// ```
    fn on_drain(&mut self, socket: &mut Socket<'_>, draining: Draining) {
        let _ = (socket, draining);
    }

    /// Another process is about to go on with the connection
    /// ([`ServerBuilder::hand_over`](crate::ServerBuilder::hand_over)). Returns what the handler there needs to go on, which
    /// its maker finds in [`Request::handed_over`](crate::Request::handed_over); it may be empty. `None`, which is the default,
    /// leaves the connection here, to be closed with 1012 once the other process serves: a handler with a state that it does
    /// not give would go on with another.
    ///
    /// From here on other threads can not send to the connection, until it is known how the hand-over ends: their messages are handed
    /// back with [`SendError::Full`](crate::SendError::Full). What they have sent before arrives. The handler is dropped when the other
    /// process serves, and [`on_close`](Handler::on_close) is not called. If that process fails before, the handler goes on, and this
    /// may be called again: it must not change the handler. All clients wait meanwhile, so it must be quick. If it panics, the
    /// connection is closed with 1011. A closure is a handler that gives nothing.
    ///
    /// ```
    /// use threadbare::{Handler, MessageRef, Request, Socket};
    ///
    /// struct Counter(u64);
    ///
    /// impl Counter {
    ///     fn new(request: &Request) -> Counter {
    ///         let before = request.handed_over().and_then(|bytes| bytes.try_into().ok());
    ///         Counter(before.map_or(0, u64::from_be_bytes))
    ///     }
    /// }
    ///
    /// impl Handler for Counter {
    ///     fn on_message(&mut self, socket: &mut Socket<'_>, _message: MessageRef<'_>) {
    ///         self.0 += 1;
    ///         socket.send(self.0.to_string());
    ///     }
    ///
    ///     fn hand_over(&mut self) -> Option<Vec<u8>> {
    ///         Some(self.0.to_be_bytes().to_vec())
    ///     }
    /// }
    /// ```
    #[cfg(all(target_os = "linux", feature = "handover"))]
    fn hand_over(&mut self) -> Option<Vec<u8>> {
        None
    }

    /// Called in place of [`on_open`](Handler::on_open), once, if another process has served the connection until now. The
    /// topics that the connection was subscribed to, it is subscribed to. Does nothing unless it is implemented.
    ///
    /// ```
    /// use std::sync::mpsc::Sender;
    /// use threadbare::{Handler, MessageRef, Peer, Socket};
    ///
    /// /// Tells another thread of its connection.
    /// struct Registered(Sender<Peer>);
    ///
    /// impl Handler for Registered {
    ///     fn on_open(&mut self, socket: &mut Socket<'_>) {
    ///         socket.send("welcome");
    ///         let _ = self.0.send(socket.peer()); // the thread may have ended
    ///     }
    ///
    ///     fn on_taken_over(&mut self, socket: &mut Socket<'_>) {
    ///         let _ = self.0.send(socket.peer()); // the client was welcomed before
    ///     }
    ///
    ///     fn on_message(&mut self, _socket: &mut Socket<'_>, _message: MessageRef<'_>) {}
    ///
    ///     fn hand_over(&mut self) -> Option<Vec<u8>> {
    ///         Some(Vec::new())
    ///     }
    /// }
    /// ```
    #[cfg(all(target_os = "linux", feature = "handover"))]
    fn on_taken_over(&mut self, socket: &mut Socket<'_>) {
        let _ = socket;
    }

    /// The connection has ended, or the peer has started the closing handshake. Nothing more can be sent. Called once.
    ///
    /// ```
    /// use threadbare::{CloseReason, Handler, MessageRef, Socket};
    ///
    /// struct Logged;
    ///
    /// impl Handler for Logged {
    ///     fn on_message(&mut self, _socket: &mut Socket<'_>, _message: MessageRef<'_>) {}
    ///
    ///     fn on_close(&mut self, socket: &mut Socket<'_>, reason: &CloseReason) {
    ///         println!("{} left: {reason}", socket.addr());
    ///     }
    /// }
    /// ```
    fn on_close(&mut self, socket: &mut Socket<'_>, reason: &CloseReason) {
        let _ = (socket, reason);
    }
}

impl<F: FnMut(&mut Socket<'_>, MessageRef<'_>) + Send + 'static> Handler for F {
    #[inline]
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        self(socket, message);
    }
}

/// Calls a [`Handler`] on the worker's thread.
#[derive(Debug)]
pub(crate) struct HandlerDelivery<H>(pub(crate) std::marker::PhantomData<fn() -> H>);

impl<H: Handler> Delivery for HandlerDelivery<H> {
    type Connection = H;
    type Opening = ();

    const HANDLES: bool = false;

    const ANSWERS: bool = true;

    fn open(&mut self, handler: &mut H, socket: &mut Socket<'_>, (): ()) {
        handler.on_open(socket);
    }

    #[cfg(all(target_os = "linux", feature = "handover"))]
    fn take_over(&mut self, handler: &mut H, socket: &mut Socket<'_>, (): ()) {
        handler.on_taken_over(socket);
    }

    #[cfg(all(target_os = "linux", feature = "handover"))]
    fn hand_over(&mut self, handler: &mut H, _: Option<&Peer>) -> Option<Vec<u8>> {
        handler.hand_over()
    }

    #[inline]
    fn message(&mut self, handler: &mut H, socket: &mut Socket<'_>, message: Incoming<'_>) {
        match message {
            Incoming::Borrowed(message) => handler.on_message(socket, message),
            Incoming::Assembled(message) => deliver_assembled(handler, socket, message),
        }
    }

    fn fragment(&mut self, handler: &mut H, socket: &mut Socket<'_>, fragment: IncomingFragment<'_>) {
        handler.on_fragment(socket, fragment.as_ref());
        if let IncomingFragment::Owned(fragment) = fragment {
            socket.active.context.codec.reuse(fragment);
        }
    }

    fn ping(&mut self, handler: &mut H, socket: &mut Socket<'_>, payload: &[u8]) {
        handler.on_ping(socket, payload);
    }

    fn pong(&mut self, handler: &mut H, socket: &mut Socket<'_>, payload: &[u8]) {
        handler.on_pong(socket, payload);
    }

    fn close(&mut self, handler: &mut H, socket: &mut Socket<'_>, reason: CloseReason) -> CloseTiming {
        handler.on_close(socket, &reason);
        CloseTiming::Now
    }

    fn drain(&mut self, handler: &mut H, socket: &mut Socket<'_>, draining: Draining) {
        handler.on_drain(socket, draining);
    }

    fn has_room(&mut self, _: &mut H, _: Key) -> bool {
        true
    }

    fn resume(&mut self, _: &mut Vec<Key>) {}

    fn end_iteration(&mut self) {}

    fn receiver_dropped(&self, _: &H) -> bool {
        false
    }
}

/// Not inlined, so that the compiler inlines the callback where short messages are delivered.
#[inline(never)]
fn deliver_assembled(handler: &mut impl Handler, socket: &mut Socket<'_>, message: Assembled) {
    let mut loan = AssembledLoan::new(socket, message);
    let (socket, message) = loan.parts();
    handler.on_message(socket, message);
}
