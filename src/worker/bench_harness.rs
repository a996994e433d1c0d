//! A worker that runs without a thread, a poll and a socket, so that a benchmark can measure the code that a server's
//! messages take. It is not part of the public interface, and may change or be removed in any release.
#![allow(missing_debug_implementations)] // an engine is never printed

use std::io;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::config::Config;
use crate::protocol::Role;
use crate::protocol::deflate::NegotiatedExtension;
use crate::protocol::http::Request;
use crate::transport::stream::Stream;
pub use crate::transport::stream::memory::MemoryStream;
use crate::worker::channel::delivery::{ChannelDelivery, ChannelSlot};
use crate::worker::channel::sender::EventSender;
use crate::worker::channel::state::ChannelState;
use crate::worker::connection_limit::ConnectionLimit;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::delivery::handler::{Handler, HandlerDelivery};
use crate::worker::event_loop::new_connection::NewConnection;
use crate::worker::event_loop::worker::{NewApp, Worker, WorkerParts};
use crate::worker::receiver::events::Events;
use crate::worker::slab::Key;

const ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// A worker with one connection, whose messages go to a handler.
pub struct HandlerEngine<H: Handler>(Engine<HandlerDelivery<H>>);

impl<H: Handler> HandlerEngine<H> {
    /// Makes a connection that receives `arriving`.
    ///
    /// # Errors
    /// The system provides no further poll.
    pub fn new(arriving: &[u8], handler: H) -> io::Result<HandlerEngine<H>> {
        Engine::new(
            WorkerParts::new(Role::Server, Arc::default())?,
            arriving,
            HandlerDelivery(PhantomData),
            (handler, ()),
        )
        .map(HandlerEngine)
    }

    /// Receives the bytes once more, as after an event of the poll, and runs the worker until it is idle.
    pub fn serve(&mut self) {
        self.0.serve();
    }

    /// The bytes that the connection wrote meanwhile.
    pub fn written(&mut self) -> &[u8] {
        self.0.memory().written()
    }
}

/// A worker with one connection, whose messages go to a channel.
pub struct ChannelEngine(Engine<ChannelDelivery>);

impl ChannelEngine {
    /// Makes a connection that receives `arriving`, and the application's end of its channel of events.
    ///
    /// # Errors
    /// The system provides no further poll.
    pub fn new(arriving: &[u8]) -> io::Result<(ChannelEngine, Events)> {
        let request = Request::parse(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", ADDR.into());
        let request = request.map_err(|_| io::ErrorKind::InvalidData)?;
        let parts = WorkerParts::new(Role::Server, Arc::default())?;
        let state = Arc::new(ChannelState::new(Config::default().max_event_buffer_size, Arc::default()));
        // Set once, here.
        let _ = state.workers.set([parts.inbox.clone()].into());
        let (sender, receiver) = crossbeam_channel::unbounded();
        let delivery = ChannelDelivery::new(vec![EventSender::new(sender, state.clone())]);
        let engine = Engine::new(parts, arriving, delivery, (ChannelSlot::new(0), request))?;
        Ok((ChannelEngine(engine), Events::new(receiver, state)))
    }

    /// Receives the bytes once more, as after an event of the poll, and sends the events to the channel.
    pub fn serve(&mut self) {
        self.0.serve();
    }
}

struct Engine<D: Delivery> {
    worker: Worker<D>,
    key: Key,
}

impl<D: Delivery> Engine<D> {
    fn new(parts: WorkerParts, arriving: &[u8], delivery: D, app: NewApp<D>) -> io::Result<Engine<D>> {
        let siblings = [parts.inbox.clone()].into();
        let (to_worker, new_connections) = crossbeam_channel::unbounded();
        let connection_limit = Arc::new(ConnectionLimit::new(1, None));
        let config = Arc::new(Config::default());
        let mut worker = Worker::new(parts, 0, siblings, config, delivery, new_connections, connection_limit);
        let new_connection = NewConnection {
            charge: None,
            stream: Stream::Memory(MemoryStream::new(arriving)),
            watched: None,
            readable: false,
            end_reported: false,
            addr: ADDR.into(),
            #[cfg(all(target_os = "linux", feature = "handover"))]
            arriving: None,
            outcome: crate::worker::handle::info::Outcome::default(),
            agreement: NegotiatedExtension::default(),
            receive: None,
            leftover: Vec::new(),
            app: Some(app),
        };
        to_worker.send(new_connection).map_err(|_| io::ErrorKind::BrokenPipe)?;
        worker.register_new();
        let key = worker.slots.key_at(0).ok_or(io::ErrorKind::NotConnected)?;
        let mut engine = Engine { worker, key };
        // Delivers the open event.
        engine.run_until_idle();
        Ok(engine)
    }

    fn serve(&mut self) {
        self.memory().rewind();
        self.worker.drive(self.key, |driver, input| {
            driver.conn.readable = true;
            driver.advance(input);
        });
        self.run_until_idle();
    }

    fn run_until_idle(&mut self) {
        while !self.worker.ready.is_empty() {
            self.worker.drive_ready_list();
        }
        self.worker.delivery.end_iteration();
    }

    fn memory(&mut self) -> &mut MemoryStream {
        match self.worker.slots.get_mut(self.key).map(|conn| &mut conn.conn.endpoint.stream) {
            Some(Stream::Memory(memory)) => memory,
            _ => panic!("the connection has ended"),
        }
    }
}
