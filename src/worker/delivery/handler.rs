//! The trait of the application's handlers, which are called on the worker's thread.

use crate::protocol::close::CloseReason;
use crate::protocol::message::{Assembled, MessageRef};
use crate::transport::loan::AssembledLoan;
use crate::worker::delivery::delivery::{CloseTiming, Delivery, Incoming};
use crate::worker::delivery::socket::Socket;
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
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        let _ = socket;
    }

    /// A text or binary message arrived, borrowed from the buffer it was received into.
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>);

    /// A ping arrived. The library answers it with a pong.
    fn on_ping(&mut self, socket: &mut Socket<'_>, payload: &[u8]) {
        let _ = (socket, payload);
    }

    /// A pong arrived.
    fn on_pong(&mut self, socket: &mut Socket<'_>, payload: &[u8]) {
        let _ = (socket, payload);
    }

    /// The connection has ended, or the peer has started the closing handshake. Nothing more can be sent. Called once.
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

    #[inline]
    fn message(&mut self, handler: &mut H, socket: &mut Socket<'_>, message: Incoming<'_>) {
        match message {
            Incoming::Borrowed(message) => handler.on_message(socket, message),
            Incoming::Assembled(message) => deliver_assembled(handler, socket, message),
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
