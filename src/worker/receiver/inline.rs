//! A worker without a thread of its own. The application's thread runs it, and takes its events after each iteration.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::protocol::close::CloseReason;
use crate::protocol::frame::MAX_CONTROL_PAYLOAD;
use crate::protocol::http::Request;
use crate::protocol::message::MessageRef;
use crate::transport::spare_inputs::KeptInput;
use crate::worker::channel::block::{Block, EVENT_COST, EventKind, MIN_OWNED_SIZE, Record};
use crate::worker::channel::event::EventRef;
use crate::worker::delivery::delivery::{CloseTiming, Delivery, Incoming, IncomingFragment};
use crate::worker::delivery::socket::Socket;
use crate::worker::event_loop::run::earlier;
use crate::worker::event_loop::worker::{CloseCounts, Worker};
use crate::worker::handle::draining::Draining;
use crate::worker::handle::peer::Peer;
use crate::worker::handle::worker_handle::WorkerHandle;
use crate::worker::slab::Key;
use crate::worker::thread::enter_worker_scope;

/// A block whose payloads took more memory than this is freed.
const MAX_KEPT_BYTES: usize = 512 << 10;

/// The longest header of a frame that a server sends (RFC 6455 5.2).
const MAX_HEADER_SIZE: usize = 10;

/// Keeps the events of one iteration for the thread that runs the worker.
///
/// `ANSWERS` is [`Delivery::ANSWERS`]. A server stops reading from a connection whose queue could not hold the answers.
/// A client reads on, because a server that has stopped reading waits for the client to read.
#[derive(Debug)]
pub(crate) struct InlineDelivery<const ANSWERS: bool> {
    block: Block,
    /// The index of the next event that the application gets.
    next: usize,
    /// The number of the block. A slot with this number has its handle in the block.
    serial: u32,
    /// [`Config::max_event_buffer_size`]: a block that costs this much takes no more messages.
    limit: usize,
    /// [`Config::max_write_buffer_size`], less one pong: the next frame may be a ping, whose pong is ahead of the answers
    /// to the messages before it.
    max_queued: usize,
    /// Connections that wait until the application has taken the block.
    waiting: Vec<Key>,
    /// Connections that waited, and read on in the next iteration.
    resumed: Vec<Key>,
}

/// A connection's part of a block.
#[derive(Debug, Default)]
pub(crate) struct InlineSlot {
    /// The number of the block that has its handle, and the handle's index there.
    serial: u32,
    peer: u32,
    /// The bytes that its queue would hold if the application echoed each of its messages in the block, pongs included.
    echoed: usize,
    /// The number of the block during which the connection was added to those that wait.
    waits: u32,
}

impl<const ANSWERS: bool> InlineDelivery<ANSWERS> {
    pub(crate) fn new(config: &Config) -> InlineDelivery<ANSWERS> {
        InlineDelivery {
            block: Block::default(),
            next: 0,
            serial: 1,
            limit: config.max_event_buffer_size,
            max_queued: config.max_write_buffer_size.saturating_sub(MAX_CONTROL_PAYLOAD + MAX_HEADER_SIZE),
            waiting: Vec::new(),
            resumed: Vec::new(),
        }
    }

    /// Inlined, so that a record is written where it stays. To copy one that was just written costs more than all the rest.
    #[inline(always)]
    fn push(&mut self, slot: &mut InlineSlot, socket: &mut Socket<'_>, cost: usize, kind: EventKind) {
        if slot.serial != self.serial {
            self.add_peer(slot, socket);
        }
        self.block.cost += EVENT_COST + cost;
        self.block.records.push(Record { peer: slot.peer, kind });
    }

    /// Adds the handle of the connection to the block.
    #[inline(never)]
    fn add_peer(&mut self, slot: &mut InlineSlot, socket: &mut Socket<'_>) {
        slot.serial = self.serial;
        slot.peer = self.block.peers.len() as u32;
        let peer = socket.peer();
        slot.echoed = socket.active.queued_and_posted();
        self.block.peers.push(peer);
    }

    /// Adds any message but a short text. Not inlined, so that the code for short texts stays small.
    #[inline(never)]
    fn other_message(&mut self, slot: &mut InlineSlot, socket: &mut Socket<'_>, message: Incoming<'_>) {
        let (kind, cost) = self.block.keep_other(message, &mut socket.active.context.output.pool);
        self.push(slot, socket, cost, kind);
    }

    /// Whether the application has not taken all events.
    fn has_events(&self) -> bool {
        self.next < self.block.records.len()
    }

    /// Whether the next iteration must not wait: for events, for connections that read on, or for those that wait for a
    /// block whose last event the application panicked with.
    fn is_due(&self) -> bool {
        self.has_events() || self.next > 0 || !self.resumed.is_empty()
    }

    /// Calls `on_event` with each event that is left, and returns their number. If `on_event` panics, its event is not
    /// delivered again. Messages of a connection that the application has dropped meanwhile are left out.
    fn deliver(&mut self, mut on_event: impl FnMut(EventRef<'_>)) -> usize {
        let mut count = 0;
        while self.next < self.block.records.len() {
            let index = self.next;
            self.next += 1;
            // Apart from the others: what several branches return goes through memory, and is copied there.
            if let Some((peer, text)) = self.block.lend_text(index) {
                if !is_dropped(peer) {
                    count += 1;
                    on_event(EventRef::Message(peer, MessageRef::Text(text).into()));
                }
            } else if let Some(event) = self.block.lend_other(index)
                && !is_unwanted(&event)
            {
                count += 1;
                on_event(event);
            }
        }
        if self.next > 0 {
            self.clear();
        }
        count
    }

    fn clear(&mut self) {
        self.block.clear();
        if self.block.texts.capacity() + self.block.bytes.capacity() > MAX_KEPT_BYTES {
            self.block = Block::default();
        }
        self.next = 0;
        self.serial = self.serial.wrapping_add(1).max(1);
        self.resumed.append(&mut self.waiting);
    }
}

/// Whether this is a message, or a fragment of one, of a connection that the application has dropped.
fn is_unwanted(event: &EventRef<'_>) -> bool {
    matches!(event, EventRef::Message(peer, _) | EventRef::Fragment(peer, _) if is_dropped(peer))
}

/// Whether the application has dropped the connection.
#[inline(always)]
fn is_dropped(peer: &Peer) -> bool {
    peer.shared.queued.is_aborted()
}

impl<const ANSWERS: bool> Delivery for InlineDelivery<ANSWERS> {
    type Connection = InlineSlot;
    type Opening = Request;

    const HANDLES: bool = true;

    const ANSWERS: bool = ANSWERS;

    fn open(&mut self, slot: &mut InlineSlot, socket: &mut Socket<'_>, request: Request) {
        let cost = request.size();
        self.block.apart += cost;
        self.push(slot, socket, cost, EventKind::Open(request));
    }

    #[inline(always)]
    fn message(&mut self, slot: &mut InlineSlot, socket: &mut Socket<'_>, message: Incoming<'_>) {
        let size = message.len();
        match message {
            Incoming::Borrowed(MessageRef::Text(text)) if size < MIN_OWNED_SIZE => {
                let kind = self.block.keep_text(text);
                self.push(slot, socket, size, kind);
            }
            other => self.other_message(slot, socket, other),
        }
        slot.echoed += size + MAX_HEADER_SIZE;
    }

    fn fragment(&mut self, slot: &mut InlineSlot, socket: &mut Socket<'_>, fragment: IncomingFragment<'_>) {
        let size = fragment.as_ref().len();
        let (kind, cost) = self.block.keep_fragment(fragment, &mut socket.active);
        self.push(slot, socket, cost, kind);
        slot.echoed += size + MAX_HEADER_SIZE;
    }

    fn keep_input(&mut self, _: &mut InlineSlot, input: KeptInput) {
        self.block.keep_input(input);
    }

    fn ping(&mut self, slot: &mut InlineSlot, _: &mut Socket<'_>, payload: &[u8]) {
        if slot.serial == self.serial {
            // The pong is ahead of the answers.
            slot.echoed += payload.len() + MAX_HEADER_SIZE;
        }
    }

    fn pong(&mut self, _: &mut InlineSlot, _: &mut Socket<'_>, _: &[u8]) {}

    fn close(&mut self, slot: &mut InlineSlot, socket: &mut Socket<'_>, reason: CloseReason) -> CloseTiming {
        self.push(slot, socket, 0, EventKind::Close(Box::new(reason)));
        CloseTiming::AfterAnswers
    }

    fn drain(&mut self, slot: &mut InlineSlot, socket: &mut Socket<'_>, draining: Draining) {
        self.push(slot, socket, 0, EventKind::Drain(Box::new(draining)));
    }

    fn unseen(&self, slot: &InlineSlot) -> Option<u64> {
        (slot.serial == self.serial).then(|| u64::from(self.serial))
    }

    fn has_seen(&self, _: &InlineSlot, mark: u64) -> bool {
        mark != u64::from(self.serial)
    }

    #[inline]
    fn has_room(&mut self, slot: &mut InlineSlot, key: Key) -> bool {
        let is_full = ANSWERS && slot.serial == self.serial && slot.echoed >= self.max_queued;
        if self.block.cost < self.limit && !is_full {
            return true;
        }
        if slot.waits != self.serial {
            slot.waits = self.serial;
            self.waiting.push(key);
        }
        false
    }

    fn resume(&mut self, ready: &mut Vec<Key>) {
        ready.append(&mut self.resumed);
    }

    fn end_iteration(&mut self) {}

    fn receiver_dropped(&self, _: &InlineSlot) -> bool {
        false
    }
}

/// A worker that the application's thread runs.
pub(crate) struct InlineWorker<const ANSWERS: bool> {
    worker: Worker<InlineDelivery<ANSWERS>>,
    /// The application waits for the poll's descriptor.
    is_nested: Cell<bool>,
    /// How the connections ended, once the worker has ended.
    ended: Option<CloseCounts>,
}

impl<const ANSWERS: bool> InlineWorker<ANSWERS> {
    /// The calling thread runs the worker, until another thread polls it.
    pub(crate) fn new(worker: Worker<InlineDelivery<ANSWERS>>) -> InlineWorker<ANSWERS> {
        worker.context.handle.set_runner();
        InlineWorker { worker, is_nested: Cell::new(false), ended: None }
    }

    /// Returns the state that the handles of the worker's connections share.
    pub(crate) fn handle(&self) -> Arc<WorkerHandle> {
        self.worker.context.handle.clone()
    }

    /// Waits for readiness, at most for `timeout`, runs one iteration, and calls `on_event` with each of its events.
    /// Returns their number.
    pub(crate) fn poll(
        &mut self,
        timeout: Option<Duration>,
        mut on_event: impl FnMut(EventRef<'_>),
    ) -> io::Result<usize> {
        /// Prepares the descriptor for the next wait, even if `on_event` panics.
        struct Arm<'a, const ANSWERS: bool>(&'a mut InlineWorker<ANSWERS>);
        impl<const ANSWERS: bool> Drop for Arm<'_, ANSWERS> {
            fn drop(&mut self) {
                if self.0.is_nested.get() {
                    self.0.arm();
                }
            }
        }
        let _scope = enter_worker_scope();
        self.worker.context.handle.set_runner();
        Arm(self).0.poll_now(timeout, &mut on_event)
    }

    fn poll_now(&mut self, timeout: Option<Duration>, on_event: &mut impl FnMut(EventRef<'_>)) -> io::Result<usize> {
        if self.ended.is_some() {
            return Ok(self.worker.delivery.deliver(on_event));
        }
        let timeout =
            if self.worker.delivery.is_due() { Some(Duration::ZERO) } else { earlier(self.worker.timeout(), timeout) };
        let polled = self.worker.run_once(timeout);
        let mut count = self.worker.delivery.deliver(&mut *on_event);
        // The application's answers are in the inbox.
        self.worker.serve_inbox();
        self.worker.trim();
        self.ended = self.worker.ended();
        if self.ended.is_some() {
            count += self.worker.delivery.deliver(on_event);
        }
        polled.map(|()| count)
    }

    /// Makes the descriptor readable if there is anything to do, and arms it for what comes in later.
    fn arm(&mut self) {
        let is_due = match self.ended {
            Some(_) => self.worker.delivery.has_events(),
            None => self.worker.delivery.is_due() || !self.worker.arm(),
        };
        if is_due {
            self.worker.context.inbox.interrupt();
        }
    }

    /// Takes over a connection that was sent to the worker, and returns its handle. The next poll has its events.
    pub(crate) fn register_new(&mut self) -> Option<Peer> {
        let _scope = enter_worker_scope();
        self.worker.take_time();
        self.worker.context.inbox.load.fetch_add(1, Ordering::Relaxed);
        let index = self.worker.delivery.block.peers.len();
        self.worker.register_new();
        if self.is_nested.get() {
            self.arm();
        }
        self.worker.delivery.block.peers.get(index).cloned()
    }

    /// Closes every connection, and runs the worker until all are closed or `deadline` has passed. Throws events away.
    pub(crate) fn shut_down(&mut self, deadline: Instant) -> CloseCounts {
        if self.ended.is_none() {
            let _scope = enter_worker_scope();
            self.worker.take_time();
            self.worker.begin_shutdown(deadline);
        }
        self.run_to_end()
    }

    /// Runs the worker to the end of a shutdown that has begun. Throws events away.
    pub(crate) fn run_to_end(&mut self) -> CloseCounts {
        // Without connections it has ended already, and nothing would end a wait.
        let mut timeout = Some(Duration::ZERO);
        loop {
            if let Err(error) = self.poll(timeout, |_| {}) {
                log::error!("a worker's poll failed: {error}");
            }
            if let Some(ended) = self.ended {
                return ended;
            }
            timeout = None;
        }
    }

    /// Returns how the connections ended, once the worker has ended.
    pub(crate) fn ended(&self) -> Option<CloseCounts> {
        self.ended
    }

    /// Whether the worker has ended and the application has taken all events.
    pub(crate) fn is_finished(&self) -> bool {
        self.ended.is_some() && !self.worker.delivery.has_events()
    }

    /// Whether the application has not taken all events.
    pub(crate) fn has_events(&self) -> bool {
        self.worker.delivery.has_events()
    }

    /// Returns the number of connections.
    pub(crate) fn connections(&self) -> usize {
        self.worker.slots.len()
    }

    /// Returns when the next iteration is due even if nothing comes in.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match self.ended {
            Some(_) => self.worker.delivery.has_events().then_some(self.worker.now),
            None if self.worker.delivery.is_due() => Some(self.worker.now),
            None => self.worker.next_deadline(),
        }
    }

    /// Returns the poll's descriptor. From the first call on, it is readable while there is something to do.
    #[cfg(unix)]
    pub(crate) fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        if !self.is_nested.replace(true) {
            // The descriptor is readable until the next poll. From then on, each poll arms it.
            self.worker.context.inbox.interrupt();
        }
        std::os::fd::AsFd::as_fd(self.worker.poll.registry())
    }
}
