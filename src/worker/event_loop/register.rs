//! Takes over connections whose opening handshake is complete.

use std::sync::atomic::Ordering;

use mio::Interest;

use crate::protocol::Connection;
use crate::protocol::close::CloseCause;
use crate::protocol::receive::Receive;
use crate::transport::endpoint::Endpoint;
use crate::transport::stream::byte_stream::ByteStream;
use crate::worker::connection::conn::Conn;
use crate::worker::connection::flags::{Flag, Flags};
use crate::worker::connection::phase::Phase;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::drive::Slot;
use crate::worker::event_loop::new_connection::NewConnection;
use crate::worker::event_loop::worker::{NewApp, Worker};
use crate::worker::handle::info::PeerInfo;
use crate::worker::handle::peer::Peer;
use crate::worker::handle::shared::PeerShared;

impl<D: Delivery> Worker<D> {
    /// Takes over the connections whose opening handshake is complete, those that were held back first.
    pub(in crate::worker) fn register_new(&mut self) {
        if !self.held_back.is_empty() {
            self.register_held_back();
        }
        // `is_empty` costs less than a `try_recv` that finds nothing.
        while !self.new_connections.is_empty()
            && let Ok(new_connection) = self.new_connections.try_recv()
        {
            self.register_if_there_is_room(new_connection);
        }
    }

    /// Takes over the connections that were held back, as far as there is room for their events now.
    #[inline(never)]
    pub(super) fn register_held_back(&mut self) {
        for mut new_connection in std::mem::take(&mut self.held_back) {
            // What the poll reported meanwhile was for no connection.
            new_connection.readable = true;
            self.register_if_there_is_room(new_connection);
        }
        self.context.inbox.holds_back.store(!self.held_back.is_empty(), Ordering::Relaxed);
    }

    /// Takes over a connection, unless the application is so far behind with its events that there is no room for
    /// another's. A worker that shuts down takes over all, to close them.
    pub(super) fn register_if_there_is_room(&mut self, new_connection: NewConnection<NewApp<D>>) {
        let app = new_connection.app.as_ref();
        if self.shutdown.is_none() && app.is_some_and(|(app, _)| !self.delivery.can_open(app)) {
            self.context.inbox.holds_back.store(true, Ordering::Relaxed);
            return self.held_back.push(new_connection);
        }
        self.register(new_connection);
    }

    fn register(&mut self, new_connection: NewConnection<NewApp<D>>) {
        let NewConnection { mut stream, watched, readable, end_reported, addr, receive, .. } = new_connection;
        let NewConnection { outcome, agreement, leftover, app, charge, .. } = new_connection;
        let (app, opening) = app.unzip();
        #[cfg(all(target_os = "linux", feature = "handover"))]
        let mut arriving = new_connection.arriving;
        let (registry, context) = (self.poll.registry(), &mut self.context);
        let role = context.handle.role;
        let mut connection = Connection::new(role, context.config.max_message_size as u64).agreed(agreement);
        if let Receive::Fragments { max_size } = receive.unwrap_or(context.config.receive) {
            connection.deliver_fragments(max_size);
        }
        #[cfg(all(target_os = "linux", feature = "handover"))]
        if let Some(arriving) = &mut arriving {
            // It goes on as it was, whatever the configuration says of new ones.
            connection = std::mem::replace(&mut arriving.connection, Connection::new(role, 0));
        } else if context.hands_over {
            connection.keep_exportable();
        }
        let tick = context.tick;
        let (key, interests) = watched.unwrap_or_else(|| (self.slots.keys.allocate_key(), Interest::READABLE));
        let registered = match watched {
            Some(_) => Ok(()),
            None => registry.register(&mut stream, key.token(), interests),
        };
        let info = PeerInfo::new(addr.clone());
        let peer = if D::HANDLES {
            let record = (info, outcome);
            // The rest of the opening handshake may wait in the stream's own layer.
            let queued = stream.pending_bytes();
            Some(Peer::new(PeerShared::new(context.handle.clone(), key, &connection, record, queued)))
        } else {
            context.keep_info(key.index, info, outcome);
            None
        };
        let mut flags = Flags::default();
        flags.set(Flag::WritableRegistered, interests.is_writable());
        flags.set(Flag::HangupReported, end_reported);
        let conn = Conn {
            endpoint: Endpoint::new(stream, connection, leftover),
            phase: Phase::Open,
            // A new registration reports data that has arrived already. A stream that was registered before is not
            // reported again.
            readable,
            waiting: false,
            flags,
            peer,
            opened: tick,
            heard: tick,
            since: tick,
        };
        context.undecoded += conn.endpoint.undecoded();
        context.totals.queued_bytes += conn.endpoint.backlog() as u64;
        context.inbox.metrics.opened.add(1);
        self.slots.insert(key, Slot { conn, app });
        // From here on its parts count by themselves.
        drop(charge);
        if let Err(error) = registered {
            log::error!("{addr}: a connection could not be registered: {error}");
            self.drive(key, |driver, _| driver.end_abnormally("not registered", CloseCause::Aborted));
            return;
        }
        let draining = self.join_drain(key);
        let close = (self.shutdown.is_some() && draining.is_none()).then(|| self.shutdown_frame());
        self.drive(key, |driver, input| {
            driver.state.deadline_changed = true;
            #[cfg(all(target_os = "linux", feature = "handover"))]
            match arriving {
                Some(arriving) => driver.take_over(opening, *arriving),
                None => driver.open(opening),
            }
            #[cfg(not(all(target_os = "linux", feature = "handover")))]
            driver.open(opening);
            if let Some(draining) = draining {
                driver.tell_of_drain(draining);
            }
            if let Some(frame) = close {
                driver.active().start_close(Some(&frame));
                driver.flush(&[]);
            }
            driver.advance(input);
        });
    }
}
