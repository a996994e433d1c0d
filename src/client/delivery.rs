//! Delivers what a client's worker receives: events to the client's channel, and notices about the connection's start
//! and end to a watcher, if it has one.

use crossbeam_channel::Sender;

use crate::client::ending::Alive;
use crate::protocol::close::{CloseCode, CloseReason};
use crate::protocol::http::Request;
use crate::transport::spare_inputs::KeptInput;
use crate::worker::channel::delivery::{OwnChannel, OwnChannelDelivery};
use crate::worker::delivery::delivery::{CloseTiming, Delivery, Incoming, IncomingFragment};
use crate::worker::delivery::socket::Socket;
use crate::worker::handle::peer::Peer;
use crate::worker::slab::Key;

/// A notice to the watcher of a connection. The watcher's channel ends with the connection.
#[derive(Debug)]
pub(super) enum Notice {
    Open(Peer),
    /// The connection ended, and this end had sent a close frame with this code by then.
    Ended(CloseReason, Option<CloseCode>),
}

/// The client's part of a connection.
#[derive(Debug)]
pub(super) struct ClientSlot {
    own: OwnChannel,
    watcher: Option<Sender<Notice>>,
    /// Sent to the watcher after the connection's last events are in the client's channel, so that those of the next
    /// connection come after them.
    ended: Option<(CloseReason, Option<CloseCode>)>,
    /// Dropped with the connection, which ends the wait of a client that was dropped.
    _alive: Alive,
}

impl ClientSlot {
    pub(super) fn new(own: OwnChannel, watcher: Option<Sender<Notice>>, alive: Alive) -> ClientSlot {
        ClientSlot { own, watcher, ended: None, _alive: alive }
    }
}

/// Sends each connection's events to its client.
#[derive(Debug)]
pub(super) struct ClientDelivery;

impl Delivery for ClientDelivery {
    type Connection = ClientSlot;
    type Opening = Request;

    const HANDLES: bool = true;

    const ANSWERS: bool = false;

    fn open(&mut self, slot: &mut ClientSlot, socket: &mut Socket<'_>, request: Request) {
        OwnChannelDelivery.open(&mut slot.own, socket, request);
        if let Some(watcher) = &slot.watcher {
            // An error means that the watcher has ended.
            let _ = watcher.send(Notice::Open(socket.peer()));
        }
    }

    #[inline]
    fn message(&mut self, slot: &mut ClientSlot, socket: &mut Socket<'_>, message: Incoming<'_>) {
        OwnChannelDelivery.message(&mut slot.own, socket, message);
    }

    fn fragment(&mut self, slot: &mut ClientSlot, socket: &mut Socket<'_>, fragment: IncomingFragment<'_>) {
        OwnChannelDelivery.fragment(&mut slot.own, socket, fragment);
    }

    fn keep_input(&mut self, slot: &mut ClientSlot, input: KeptInput) {
        OwnChannelDelivery.keep_input(&mut slot.own, input);
    }

    fn ping(&mut self, slot: &mut ClientSlot, socket: &mut Socket<'_>, payload: &[u8]) {
        OwnChannelDelivery.ping(&mut slot.own, socket, payload);
    }

    fn pong(&mut self, slot: &mut ClientSlot, socket: &mut Socket<'_>, payload: &[u8]) {
        OwnChannelDelivery.pong(&mut slot.own, socket, payload);
    }

    fn close(&mut self, slot: &mut ClientSlot, socket: &mut Socket<'_>, reason: CloseReason) -> CloseTiming {
        if slot.watcher.is_some() {
            let sent = socket.active.conn.endpoint.connection.sent_close_code();
            slot.ended = Some((reason.clone(), sent));
        }
        OwnChannelDelivery.close(&mut slot.own, socket, reason)
    }

    fn has_room(&mut self, slot: &mut ClientSlot, key: Key) -> bool {
        OwnChannelDelivery.has_room(&mut slot.own, key)
    }

    fn read_size(&self, slot: &ClientSlot) -> usize {
        OwnChannelDelivery.read_size(&slot.own)
    }

    fn resume(&mut self, ready: &mut Vec<Key>) {
        OwnChannelDelivery.resume(ready);
    }

    fn served(&mut self, slot: &mut ClientSlot) {
        OwnChannelDelivery.served(&mut slot.own);
        if let (Some((reason, sent)), Some(watcher)) = (slot.ended.take(), &slot.watcher) {
            // As above.
            let _ = watcher.send(Notice::Ended(reason, sent));
        }
    }

    fn end_iteration(&mut self) {
        OwnChannelDelivery.end_iteration();
    }

    fn receiver_dropped(&self, slot: &ClientSlot) -> bool {
        OwnChannelDelivery.receiver_dropped(&slot.own)
    }
}
