//! Taking connections over from another process, the worker's part.
//!
//! Until the other process has let go of them, they are held: the poll watches their sockets, and nothing is read, written or
//! told to the application. Then what is left to do for each is little, because all clients wait for it.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use mio::Interest;
use mio::event::{Event, Source};
use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;

use crate::protocol::PeerAddr;
use crate::protocol::close::{CloseCause, CloseCode};
use crate::protocol::contain::contained;
use crate::protocol::http::{HeadLimits, Request};
use crate::protocol::state::StateError;
use crate::transport::stream::Stream;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::arriving::Arriving;
use crate::worker::event_loop::drive::Driver;
use crate::worker::event_loop::held_state::{Held, SharedMaker};
use crate::worker::event_loop::new_connection::NewConnection;
use crate::worker::event_loop::worker::{NewApp, Worker};
use crate::worker::handle::hand_over::{Arrivals, Change, Changes, Preparation, Rest};
use crate::worker::handle::info::Outcome;
use crate::worker::slab::Key;
use crate::worker::timer_wheel::TimerWheel;

impl<D: Delivery> Worker<D> {
    /// Has `make` make the application's part of connections of another process, before the worker runs.
    pub(crate) fn set_maker(&mut self, make: SharedMaker<NewApp<D>>) {
        self.held.make = Some(make);
    }

    /// Holds connections of another process.
    #[cold]
    pub(super) fn hold_all(&mut self, arrivals: &mut Arrivals) {
        let mut result = Ok(());
        for (place, socket) in arrivals.connections.drain(..) {
            result = result.and_then(|()| self.hold(&arrivals.states[place], socket));
        }
        // The thread that waits for it may have given up.
        let _ = arrivals.held.send(result);
    }

    /// Holds a connection of another process, and has the poll watch it.
    fn hold(&mut self, state: &[u8], socket: OwnedFd) -> Result<(), StateError> {
        let max_message_size = self.context.config.max_message_size as u64;
        let mut arriving = Arriving::import(state, max_message_size, &mut self.context.codec)?;
        let mut stream = stream_of(socket)?;
        let addr = arriving.addr.clone();
        let subprotocol = arriving.subprotocol.take().map(Arc::new);
        let head = Some(std::mem::take(&mut arriving.head).into());
        let key = self.slots.keys.allocate_key();
        let watched = self.poll.registry().register(&mut stream, key.token(), Interest::READABLE);
        watched.map_err(|error| {
            log::error!("{addr}: a connection can not be watched: {error}");
            StateError::Invalid("a socket that can not be watched")
        })?;
        self.connection_limit.add(addr.ip());
        self.context.inbox.load.fetch_add(1, Ordering::Relaxed);
        self.held.connections.push(NewConnection {
            stream,
            watched: Some((key, Interest::READABLE)),
            readable: false,
            end_reported: false,
            addr,
            outcome: Outcome { subprotocol, head, data: None },
            agreement: Default::default(),
            receive: None,
            leftover: std::mem::take(&mut arriving.input),
            app: None,
            arriving: Some(Box::new(arriving)),
            charge: None,
        });
        Ok(())
    }

    /// Makes the application's part of the connections that are held, now that all of them is known, and leaves those that stay.
    #[cold]
    pub(super) fn prepare_held(&mut self, preparation: &Preparation) {
        // The thread that waits for it may have given up.
        let _ = preparation.prepared.send(self.prepare_all(&preparation.changes));
    }

    fn prepare_all(&mut self, changes: &Changes) -> Result<(), StateError> {
        let connections = std::mem::take(&mut self.held.connections);
        self.held.connections.reserve_exact(connections.len());
        for mut new_connection in connections {
            let Some(arriving) = new_connection.arriving.as_mut().filter(|_| !changes.is_given_up()) else { continue };
            match changes.take(arriving.id)? {
                Change::Stays => self.give_back(new_connection),
                Change::Goes(Rest { data, output, topics }) => {
                    arriving.output.extend_from_slice(&output);
                    arriving.topics = topics;
                    let head = new_connection.outcome.head.as_deref().unwrap_or_default();
                    new_connection.app = self.make(head, &arriving.addr, data);
                    self.held.connections.push(new_connection);
                }
            }
        }
        Ok(())
    }

    /// Makes the application's part of a connection; `None` if that is not possible.
    fn make(&self, head: &[u8], addr: &PeerAddr, data: Vec<u8>) -> Option<NewApp<D>> {
        // It was within the limits of the process that has sent it.
        let limits = HeadLimits { max_head_size: usize::MAX, max_headers: usize::MAX, max_target_size: usize::MAX };
        let made = contained(|| {
            let mut request = Request::parse_within(head, addr.clone(), &limits).ok()?;
            request.set_handed_over(data);
            let make = self.held.make.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
            make(request)
        });
        match made {
            Ok(Some(app)) => return Some(app),
            Ok(None) => log::error!("{addr}: a connection is closed: its request can not be read"),
            Err(panic) => log::error!("{addr}: a connection is closed: its handler was not made: {panic}"),
        }
        None
    }

    /// Notes an event of a connection that is held, of which there is no other.
    pub(super) fn note_held(&mut self, event: &Event) {
        if !self.held.connections.is_empty() {
            let reported = self.held.reported.entry(event.token()).or_default();
            reported.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
            reported.end |= event.is_read_closed() || event.is_error();
        }
    }

    /// Serves the connections that are held, which are this process's now.
    #[cold]
    pub(super) fn serve_held(&mut self) {
        let Held { connections, reported, .. } = std::mem::take(&mut self.held);
        for mut new_connection in connections {
            let Some(arriving) = &mut new_connection.arriving else { continue };
            if let Some((key, _)) = new_connection.watched {
                let reported = reported.get(&key.token()).copied().unwrap_or_default();
                self.reserve_topics(arriving, key);
                (new_connection.readable, new_connection.end_reported) = (reported.readable, reported.end);
            }
            self.register_if_there_is_room(new_connection);
        }
    }

    /// Reserves the subscriptions of a connection. The application may not have room for its events for a while: until then its topics
    /// keep what it lacks.
    fn reserve_topics(&self, arriving: &mut Arriving, key: Key) {
        let Some(shared) = self.context.topics.shared() else { return };
        let is = (self.context.handle.index, key);
        for (topic, cursor) in std::mem::take(&mut arriving.topics) {
            match shared.resume(&topic, cursor, arriving.origin, is) {
                Ok(reservation) => arriving.reservations.push(reservation),
                Err(error) => log::error!("{}: the subscription to {topic:?} is lost: {error}", arriving.addr),
            }
        }
    }

    /// Leaves a connection to the process that goes on with it.
    fn give_back(&mut self, mut new_connection: NewConnection<NewApp<D>>) {
        // The poll would report on the socket for as long as any process has it.
        if let Some((key, _)) = new_connection.watched {
            if let Err(error) = new_connection.stream.deregister(self.poll.registry()) {
                log::error!("{}: a connection that stays is still watched: {error}", new_connection.addr);
            }
            self.slots.keys.release_key(key);
        }
        self.connection_limit.release(new_connection.addr.ip());
        self.context.inbox.load.fetch_sub(1, Ordering::Relaxed);
        drop_contained(new_connection);
    }

    /// Drops the connections that are held: they are another process's, and this one ends.
    pub(super) fn drop_held(&mut self) {
        std::mem::take(&mut self.held).connections.into_iter().for_each(drop_contained);
    }
}

impl<D: Delivery> Driver<'_, D> {
    /// Goes on with a connection that another process has served. Without an `opening` it is closed: its handler could not be made.
    pub(super) fn take_over(&mut self, opening: Option<D::Opening>, arriving: Arriving) {
        let Arriving { output, late_ping, clocks, reservations, .. } = arriving;
        let at = |ago: Duration| self.context.tick.saturating_sub(TimerWheel::ticks(ago));
        (self.conn.opened, self.conn.heard, self.conn.since) = (at(clocks.opened), at(clocks.heard), at(clocks.since));
        self.conn.endpoint.queue(output, late_ping);
        let Some(opening) = opening else {
            self.fail_with(CloseCode::INTERNAL_ERROR, "internal error", CloseCause::Panicked);
            return self.drain_all();
        };
        for reservation in reservations {
            self.active().join(reservation);
        }
        let (delivery, app, mut socket) = self.parts();
        if let Some(app) = app {
            delivery.take_over(app, &mut socket, opening);
        }
        self.state.deadline_changed = true;
        self.drain_all();
    }

    /// Writes what waits, whichever process has made it.
    fn drain_all(&mut self) {
        self.flush(&[]);
        self.drain();
    }
}

/// Drops a connection that is another process's. The application's part may panic as it is dropped.
fn drop_contained<C>(new_connection: NewConnection<C>) {
    let addr = new_connection.addr.clone();
    if let Err(panic) = contained(|| drop(new_connection)) {
        log::error!("{addr}: a handler panicked as it was dropped: {panic}");
    }
}

/// A connection over a descriptor that another process has sent.
fn stream_of(socket: OwnedFd) -> Result<Stream, StateError> {
    if socket_type(&socket) != Ok(SocketType::STREAM) {
        return Err(StateError::Invalid("a descriptor that is no stream socket"));
    }
    let stream = TcpStream::from(socket);
    // One that blocks would hold up every connection of its worker.
    stream.set_nonblocking(true).map_err(|_| StateError::Invalid("a socket that blocks"))?;
    Ok(Stream::Tcp(mio::net::TcpStream::from_std(stream)))
}
