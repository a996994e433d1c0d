//! A worker without its thread, its poll and its sockets, so that a benchmark can measure the very path that a server's
//! messages take. No part of the public interface: it may change or go in any release.

use std::io;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::config::Config;
use crate::protocol::Role;
use crate::protocol::deflate::Agreement;
use crate::protocol::http::Request;
use crate::transport::stream::Stream;
use crate::worker::admission::Admission;
use crate::worker::adoption::Adoption;
use crate::worker::channel::{Channelled, Outlet, ToChannels};
use crate::worker::delivery::{Delivery, Handler, ToHandler};
use crate::worker::events::Events;
use crate::worker::shard::Shard;
use crate::worker::slots::Key;
use crate::worker::{Newcomer, Seat, Worker};

pub use crate::transport::memory::Memory;

const ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// A worker with one connection, whose messages go to a handler.
pub struct HandlerEngine<H: Handler>(Engine<ToHandler<H>>);

impl<H: Handler> HandlerEngine<H> {
    /// A connection on which `arriving` comes in.
    ///
    /// # Errors
    /// There is no poll to be had.
    pub fn new(arriving: &[u8], handler: H) -> io::Result<HandlerEngine<H>> {
        Engine::new(Seat::new(Role::Server)?, arriving, ToHandler(PhantomData), (handler, ())).map(HandlerEngine)
    }

    /// Receives the bytes once more, as after an event of the poll, and everything that follows from it.
    pub fn serve(&mut self) {
        self.0.serve();
    }

    /// What the connection wrote meanwhile.
    pub fn written(&mut self) -> &[u8] {
        self.0.memory().written()
    }
}

/// A worker with one connection, whose messages go to a channel.
pub struct ChannelEngine(Engine<ToChannels>);

impl ChannelEngine {
    /// A connection on which `arriving` comes in, and the application's end of the channel, on which it is told.
    ///
    /// # Errors
    /// There is no poll to be had.
    pub fn new(arriving: &[u8]) -> io::Result<(ChannelEngine, Events)> {
        let request = Request::parse(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", ADDR);
        let request = request.map_err(|_| io::ErrorKind::InvalidData)?;
        let seat = Seat::new(Role::Server)?;
        let shard = Arc::new(Shard::new(Config::default().max_event_buffer_size));
        // Set once, here.
        let _ = shard.workers.set([seat.inbox.clone()].into());
        let (sender, receiver) = crossbeam_channel::unbounded();
        let delivery = ToChannels::new(vec![Outlet::new(sender, shard.clone())]);
        let engine = Engine::new(seat, arriving, delivery, (Channelled::new(0), request))?;
        Ok((ChannelEngine(engine), Events::new(receiver, shard)))
    }

    /// Receives the bytes once more, as after an event of the poll, and hands over what they held.
    pub fn serve(&mut self) {
        self.0.serve();
    }
}

struct Engine<D: Delivery> {
    worker: Worker<D>,
    key: Key,
}

impl<D: Delivery> Engine<D> {
    fn new(seat: Seat, arriving: &[u8], delivery: D, app: Newcomer<D>) -> io::Result<Engine<D>> {
        let siblings = [seat.inbox.clone()].into();
        let (adopt, adoptions) = crossbeam_channel::unbounded();
        let admission = Arc::new(Admission::new(1, None));
        let config = Arc::new(Config::default());
        let mut worker = Worker::new(seat, 0, siblings, config, delivery, adoptions, admission);
        let adoption = Adoption {
            stream: Stream::Memory(Memory::new(arriving)),
            watched: None,
            readable: false,
            end_reported: false,
            addr: ADDR,
            subprotocol: None,
            agreement: Agreement::default(),
            leftover: Vec::new(),
            app,
        };
        adopt.send(adoption).map_err(|_| io::ErrorKind::BrokenPipe)?;
        worker.adopt();
        let key = worker.slots.key_at(0).ok_or(io::ErrorKind::NotConnected)?;
        let mut engine = Engine { worker, key };
        // The application is told of the connection.
        engine.turns();
        Ok(engine)
    }

    fn serve(&mut self) {
        self.memory().rewind();
        self.worker.turn(self.key, |turn, input| {
            turn.core.readable = true;
            turn.advance(input);
        });
        self.turns();
    }

    fn turns(&mut self) {
        while !self.worker.ready.is_empty() {
            self.worker.go_on();
        }
        self.worker.delivery.end_turn();
    }

    fn memory(&mut self) -> &mut Memory {
        match self.worker.slots.get_mut(self.key).map(|conn| &mut conn.core.endpoint.stream) {
            Some(Stream::Memory(memory)) => memory,
            _ => panic!("the connection has ended"),
        }
    }
}
