//! A worker without a thread: the application's thread runs it, and is told its events as they come.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::protocol::close::CloseReason;
use crate::protocol::http::Request;
use crate::worker::channel::block::{Block, EVENT_COST, EventKind, Record};
use crate::worker::channel::event::EventRef;
use crate::worker::delivery::delivery::{CloseTiming, Delivery, Incoming};
use crate::worker::delivery::socket::Socket;
use crate::worker::event_loop::run::earlier;
use crate::worker::event_loop::worker::{CloseCounts, Worker};
use crate::worker::handle::peer::Peer;
use crate::worker::handle::worker_handle::WorkerHandle;
use crate::worker::slab::Key;
use crate::worker::thread::enter_worker_scope;

/// A block that has grown beyond this is given back.
const MAX_KEPT_BYTES: usize = 512 << 10;

/// The longest header of a frame that a server sends (RFC 6455 5.2).
const MAX_HEADER_SIZE: usize = 10;

/// Keeps the events of one iteration for the thread that runs the worker, which takes them at its end.
///
/// `ANSWERS` is [`Delivery::ANSWERS`]: a server reads no more from a connection than its queue has room for answers. A
/// client reads whatever it has queued, because its server may do the same.
#[derive(Debug)]
pub(crate) struct InlineDelivery<const ANSWERS: bool> {
    block: Block,
    /// The first event that the application was not told yet.
    next: usize,
    /// Counts blocks, so that a connection knows whether it has its place in this one.
    serial: u32,
    /// A block takes more events while it costs less than this.
    limit: usize,
    /// A connection's queue takes more while it holds less than this.
    max_queued: usize,
    /// Connections that wait for the end of the block, and those that have waited.
    waiting: Vec<Key>,
    resumed: Vec<Key>,
}

/// What a connection knows of its place in a block.
#[derive(Debug, Default)]
pub(crate) struct InlineSlot {
    /// In which block its handle lies, and where.
    serial: u32,
    peer: u32,
    /// How many bytes its queue would hold if each of its messages there was echoed.
    echoed: usize,
    /// The block in which it was noted as waiting.
    waits: u32,
}

impl<const ANSWERS: bool> InlineDelivery<ANSWERS> {
    pub(crate) fn new(config: &Config) -> InlineDelivery<ANSWERS> {
        InlineDelivery {
            block: Block::default(),
            next: 0,
            serial: 1,
            limit: config.max_event_buffer_size,
            max_queued: config.max_write_buffer_size,
            waiting: Vec::new(),
            resumed: Vec::new(),
        }
    }

    #[inline]
    fn push(&mut self, slot: &mut InlineSlot, socket: &mut Socket<'_>, cost: usize, kind: EventKind) {
        if slot.serial != self.serial {
            slot.serial = self.serial;
            slot.peer = self.block.peers.len() as u32;
            let peer = socket.peer();
            slot.echoed = peer.queued_bytes();
            self.block.peers.push(peer);
        }
        self.block.cost += EVENT_COST + cost;
        self.block.records.push(Record { peer: slot.peer, kind });
    }

    /// Whether there are events that the application was not told yet.
    fn has_events(&self) -> bool {
        self.next < self.block.records.len()
    }

    /// Whether there is something to do at once.
    fn is_due(&self) -> bool {
        self.has_events() || !self.resumed.is_empty()
    }

    /// Tells the application what it was not told yet: how many events. An event during which `on_event` panics is told.
    fn deliver(&mut self, mut on_event: impl FnMut(EventRef<'_>)) -> usize {
        let mut count = 0;
        while self.next < self.block.records.len() {
            self.next += 1;
            if let Some(event) = self.block.lend(self.next - 1) {
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

impl<const ANSWERS: bool> Delivery for InlineDelivery<ANSWERS> {
    type Connection = InlineSlot;
    type Opening = Request;

    const HANDLES: bool = true;

    const ANSWERS: bool = ANSWERS;

    fn open(&mut self, slot: &mut InlineSlot, socket: &mut Socket<'_>, request: Request) {
        self.push(slot, socket, 0, EventKind::Open(request));
    }

    #[inline(always)]
    fn message(&mut self, slot: &mut InlineSlot, socket: &mut Socket<'_>, message: Incoming<'_>) {
        let size = message.len();
        let (kind, cost) = self.block.keep(message, &mut socket.active.context.output.pool);
        self.push(slot, socket, cost, kind);
        slot.echoed += size + MAX_HEADER_SIZE;
    }

    fn ping(&mut self, _: &mut InlineSlot, _: &mut Socket<'_>, _: &[u8]) {}

    fn pong(&mut self, _: &mut InlineSlot, _: &mut Socket<'_>, _: &[u8]) {}

    fn close(&mut self, slot: &mut InlineSlot, socket: &mut Socket<'_>, reason: CloseReason) -> CloseTiming {
        self.push(slot, socket, 0, EventKind::Close(Box::new(reason)));
        CloseTiming::AfterAnswers
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
    /// Somebody waits for the poll's descriptor.
    is_nested: Cell<bool>,
    /// Set once the worker has ended.
    ended: Option<CloseCounts>,
}

impl<const ANSWERS: bool> InlineWorker<ANSWERS> {
    /// The calling thread runs the worker, until another one does.
    pub(crate) fn new(worker: Worker<InlineDelivery<ANSWERS>>) -> InlineWorker<ANSWERS> {
        worker.context.handle.set_runner();
        InlineWorker { worker, is_nested: Cell::new(false), ended: None }
    }

    /// What the handles of the worker's connections have in common.
    pub(crate) fn handle(&self) -> Arc<WorkerHandle> {
        self.worker.context.handle.clone()
    }

    /// Waits until something happens, at most for `timeout`, does what there is to do, and tells `on_event` the events.
    pub(crate) fn poll(
        &mut self,
        timeout: Option<Duration>,
        mut on_event: impl FnMut(EventRef<'_>),
    ) -> io::Result<usize> {
        /// Whatever `on_event` does, the descriptor shows what is left.
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
        // The answers leave.
        self.worker.serve_inbox();
        self.worker.trim();
        self.ended = self.worker.ended();
        if self.ended.is_some() {
            count += self.worker.delivery.deliver(on_event);
        }
        polled.map(|()| count)
    }

    /// Has the descriptor show whatever is left, or comes in from here on.
    fn arm(&mut self) {
        let is_due = match self.ended {
            Some(_) => self.worker.delivery.has_events(),
            None => self.worker.delivery.is_due() || !self.worker.arm(),
        };
        if is_due {
            self.worker.context.inbox.interrupt();
        }
    }

    /// Takes over a connection that was sent to the worker: its handle. Its events are told by the next poll.
    pub(crate) fn register_new(&mut self) -> Option<Peer> {
        let _scope = enter_worker_scope();
        self.worker.take_time();
        self.worker.context.inbox.load.fetch_add(1, Ordering::Relaxed);
        let place = self.worker.delivery.block.peers.len();
        self.worker.register_new();
        if self.is_nested.get() {
            self.arm();
        }
        self.worker.delivery.block.peers.get(place).cloned()
    }

    /// Closes every connection, and runs until that is done or `deadline` has come. The application is told nothing.
    pub(crate) fn shut_down(&mut self, deadline: Instant) -> CloseCounts {
        if self.ended.is_none() {
            let _scope = enter_worker_scope();
            self.worker.take_time();
            self.worker.begin_shutdown(deadline);
        }
        self.run_to_end()
    }

    /// Runs until the end that has begun. The application is told nothing.
    pub(crate) fn run_to_end(&mut self) -> CloseCounts {
        loop {
            if let Err(error) = self.poll(None, |_| {}) {
                log::error!("a worker's poll failed: {error}");
            }
            if let Some(ended) = self.ended {
                return ended;
            }
        }
    }

    /// How the connections ended, once the worker has.
    pub(crate) fn ended(&self) -> Option<CloseCounts> {
        self.ended
    }

    /// Whether the worker has ended and the application was told everything.
    pub(crate) fn is_finished(&self) -> bool {
        self.ended.is_some() && !self.worker.delivery.has_events()
    }

    /// Whether there are events that the application was not told yet.
    pub(crate) fn has_events(&self) -> bool {
        self.worker.delivery.has_events()
    }

    /// How many connections there are.
    pub(crate) fn connections(&self) -> usize {
        self.worker.slots.len()
    }

    /// When something is to be done though nothing comes in.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match self.ended {
            Some(_) => self.worker.delivery.has_events().then_some(self.worker.now),
            None if self.worker.delivery.is_due() => Some(self.worker.now),
            None => self.worker.next_deadline(),
        }
    }

    /// The poll's descriptor, which is kept readable from here on while there is something to do.
    #[cfg(unix)]
    pub(crate) fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        if !self.is_nested.replace(true) {
            // The next poll sets up the rest.
            self.worker.context.inbox.interrupt();
        }
        std::os::fd::AsFd::as_fd(self.worker.poll.registry())
    }
}
