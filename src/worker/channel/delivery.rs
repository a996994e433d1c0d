//! Delivery to application threads: through channels that connections share, or through one for each connection.

use std::num::NonZero;

use crate::protocol::close::{CloseFrame, CloseReason};
use crate::protocol::http::Request;
use crate::transport::spare_inputs::KeptInput;
use crate::worker::channel::sender::{BlockCursor, EventSender};
use crate::worker::delivery::delivery::{CloseTiming, Delivery, Incoming, IncomingFragment};
use crate::worker::delivery::socket::Socket;
use crate::worker::handle::draining::Draining;
#[cfg(all(target_os = "linux", feature = "handover"))]
use crate::worker::handle::peer::Peer;
use crate::worker::slab::Key;

/// Sends the events of a server's connections to several channels, each connection's always to the same one.
pub(crate) struct ChannelDelivery {
    senders: Vec<EventSender>,
    /// Whether the end of this iteration woke a thread.
    woke: bool,
}

/// Which channel a connection's events go to.
#[derive(Debug)]
pub(crate) struct ChannelSlot {
    /// The channel's index plus 1, so that an `Option` of this takes no more memory.
    number: NonZero<u16>,
    cursor: BlockCursor,
}

impl ChannelSlot {
    pub(crate) fn new(channel: u16) -> ChannelSlot {
        ChannelSlot { number: NonZero::<u16>::MIN.saturating_add(channel), cursor: BlockCursor::default() }
    }

    fn channel(&self) -> usize {
        usize::from(self.number.get()) - 1
    }
}

impl ChannelDelivery {
    /// There is at least one sender, and one for the channel of each connection.
    pub(crate) fn new(senders: Vec<EventSender>) -> ChannelDelivery {
        ChannelDelivery { senders, woke: false }
    }

    fn of(&mut self, connection: &ChannelSlot) -> &mut EventSender {
        &mut self.senders[connection.channel()]
    }
}

impl Delivery for ChannelDelivery {
    type Connection = ChannelSlot;
    type Opening = Request;

    const HANDLES: bool = true;

    const ANSWERS: bool = false;

    fn open(&mut self, connection: &mut ChannelSlot, socket: &mut Socket<'_>, request: Request) {
        if self.receiver_dropped(connection) {
            socket.active.start_close(Some(&CloseFrame::going_away()));
        } else {
            self.of(connection).open(&mut connection.cursor, socket, request);
        }
    }

    fn can_open(&mut self, connection: &ChannelSlot) -> bool {
        self.of(connection).finds_room()
    }

    #[inline(always)]
    fn message(&mut self, connection: &mut ChannelSlot, socket: &mut Socket<'_>, message: Incoming<'_>) {
        self.of(connection).message(&mut connection.cursor, socket, message);
    }

    fn fragment(&mut self, connection: &mut ChannelSlot, socket: &mut Socket<'_>, fragment: IncomingFragment<'_>) {
        self.of(connection).fragment(&mut connection.cursor, socket, fragment);
    }

    fn keep_input(&mut self, connection: &mut ChannelSlot, input: KeptInput) {
        self.of(connection).keep_input(input);
    }

    fn ping(&mut self, _: &mut ChannelSlot, _: &mut Socket<'_>, _: &[u8]) {}

    fn pong(&mut self, _: &mut ChannelSlot, _: &mut Socket<'_>, _: &[u8]) {}

    fn close(&mut self, connection: &mut ChannelSlot, socket: &mut Socket<'_>, reason: CloseReason) -> CloseTiming {
        self.of(connection).close(&mut connection.cursor, socket, reason)
    }

    fn drain(&mut self, connection: &mut ChannelSlot, socket: &mut Socket<'_>, draining: Draining) {
        self.of(connection).drain(&mut connection.cursor, socket, draining);
    }

    fn unseen(&self, connection: &ChannelSlot) -> Option<u64> {
        self.senders.get(connection.channel()).and_then(EventSender::unseen)
    }

    fn has_seen(&self, connection: &ChannelSlot, mark: u64) -> bool {
        self.senders.get(connection.channel()).is_none_or(|events| events.has_seen(mark))
    }

    fn has_room(&mut self, connection: &mut ChannelSlot, key: Key) -> bool {
        self.of(connection).has_room(&mut connection.cursor, key)
    }

    #[cfg(all(target_os = "linux", feature = "handover"))]
    fn hand_over(&mut self, _: &mut ChannelSlot, peer: Option<&Peer>) -> Option<Vec<u8>> {
        peer?.given()
    }

    #[cfg(all(target_os = "linux", feature = "handover"))]
    fn is_handled(&self) -> bool {
        self.senders.iter().all(EventSender::is_handled)
    }

    #[inline]
    fn read_size(&self, connection: &ChannelSlot) -> usize {
        self.senders.get(connection.channel()).map_or(usize::MAX, EventSender::read_size)
    }

    fn resume(&mut self, ready: &mut Vec<Key>) {
        for events in &mut self.senders {
            events.resume(ready);
        }
    }

    fn end_iteration(&mut self) {
        self.woke = false;
        for events in &mut self.senders {
            events.send_batch();
            self.woke |= std::mem::take(&mut events.woke);
        }
    }

    fn has_woken(&self) -> bool {
        self.woke
    }

    fn holds_answers(&self) -> bool {
        self.senders.iter().any(EventSender::holds_answers)
    }

    fn receiver_dropped(&self, connection: &ChannelSlot) -> bool {
        self.senders.get(connection.channel()).is_none_or(EventSender::receiver_dropped)
    }
}

/// Sends each connection's events to a channel of its own.
#[derive(Debug)]
pub(crate) struct OwnChannelDelivery;

/// A connection's own channel.
#[derive(Debug)]
pub(crate) struct OwnChannel {
    events: EventSender,
    cursor: BlockCursor,
    /// Whether the connection is closed when the last receiver is dropped.
    closes_with_receiver: bool,
}

impl OwnChannel {
    pub(crate) fn new(events: EventSender) -> OwnChannel {
        OwnChannel { events, cursor: BlockCursor::default(), closes_with_receiver: true }
    }

    /// The channel of a connection that somebody watches, and closes. When the last receiver is dropped, what arrives is
    /// thrown away.
    pub(crate) fn watched(events: EventSender) -> OwnChannel {
        OwnChannel { closes_with_receiver: false, ..OwnChannel::new(events) }
    }
}

impl Delivery for OwnChannelDelivery {
    type Connection = OwnChannel;
    type Opening = Request;

    const HANDLES: bool = true;

    const ANSWERS: bool = false;

    fn open(&mut self, connection: &mut OwnChannel, socket: &mut Socket<'_>, request: Request) {
        if connection.events.set_owner(socket) && connection.closes_with_receiver {
            socket.active.start_close(Some(&CloseFrame::going_away()));
        } else {
            connection.events.open(&mut connection.cursor, socket, request);
        }
    }

    fn message(&mut self, connection: &mut OwnChannel, socket: &mut Socket<'_>, message: Incoming<'_>) {
        connection.events.message(&mut connection.cursor, socket, message);
    }

    fn fragment(&mut self, connection: &mut OwnChannel, socket: &mut Socket<'_>, fragment: IncomingFragment<'_>) {
        connection.events.fragment(&mut connection.cursor, socket, fragment);
    }

    fn keep_input(&mut self, connection: &mut OwnChannel, input: KeptInput) {
        connection.events.keep_input(input);
    }

    fn ping(&mut self, _: &mut OwnChannel, _: &mut Socket<'_>, _: &[u8]) {}

    fn pong(&mut self, _: &mut OwnChannel, _: &mut Socket<'_>, _: &[u8]) {}

    fn close(&mut self, connection: &mut OwnChannel, socket: &mut Socket<'_>, reason: CloseReason) -> CloseTiming {
        connection.events.close(&mut connection.cursor, socket, reason)
    }

    fn has_room(&mut self, connection: &mut OwnChannel, key: Key) -> bool {
        connection.events.finds_room() && connection.events.has_window_for_buffers(&mut connection.cursor, key)
    }

    fn read_size(&self, connection: &OwnChannel) -> usize {
        connection.events.read_size()
    }

    fn resume(&mut self, _: &mut Vec<Key>) {
        // The receiver sends `Command::Resume` to the one connection that it made room for.
    }

    fn served(&mut self, connection: &mut OwnChannel) {
        connection.events.send_batch();
    }

    fn end_iteration(&mut self) {}

    fn receiver_dropped(&self, connection: &OwnChannel) -> bool {
        connection.closes_with_receiver && connection.events.receiver_dropped()
    }
}
