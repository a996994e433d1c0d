//! Connections that finished their handshakes, on their way to a worker.

use std::net::SocketAddr;
use std::sync::Arc;

use mio::Interest;

use crate::protocol::Connection;
use crate::protocol::close::CloseCause;
use crate::protocol::deflate::Agreement;
use crate::transport::endpoint::Endpoint;
use crate::transport::stream::Stream;
use crate::worker::core::{Core, Phase};
use crate::worker::delivery::Delivery;
use crate::worker::ledger::Ledger;
use crate::worker::marks::{Mark, Marks};
use crate::worker::peer::Peer;
use crate::worker::shared::Shared;
use crate::worker::slots::Key;
use crate::worker::turn::Conn;
use crate::worker::{Worker, going_away};

/// A connection that a worker is to take over.
pub(crate) struct Adoption<C> {
    pub(crate) stream: Stream,
    /// The name under which the worker's own poll reports on it already, and what it reports.
    pub(crate) watched: Option<(Key, Interest)>,
    /// The socket may have more to read than was read.
    pub(crate) readable: bool,
    /// The socket reported that the peer sends no more.
    pub(crate) end_reported: bool,
    pub(crate) addr: SocketAddr,
    pub(crate) subprotocol: Option<Arc<String>>,
    pub(crate) agreement: Agreement,
    /// Bytes that arrived behind the opening handshake: the first frames.
    pub(crate) leftover: Vec<u8>,
    pub(crate) app: C,
}

impl<D: Delivery> Worker<D> {
    /// Takes over the connections that finished their handshakes.
    pub(super) fn adopt(&mut self) {
        // The question costs less than an attempt.
        while !self.adoptions.is_empty()
            && let Ok(adoption) = self.adoptions.try_recv()
        {
            let Adoption { mut stream, watched, readable, end_reported, addr, .. } = adoption;
            let Adoption { subprotocol, agreement, leftover, app: (app, opening), .. } = adoption;
            let (registry, context) = (self.poll.registry(), &mut self.context);
            let role = context.home.role;
            let connection = Connection::new(role, context.config.max_message_size as u64).agreed(agreement);
            let tick = context.tick;
            let (key, interests) = watched.unwrap_or_else(|| (self.slots.names.take(), Interest::READABLE));
            let registered = match watched {
                Some(_) => Ok(()),
                None => registry.register(&mut stream, key.token(), interests),
            };
            let ledger = Ledger::new(addr);
            let peer = if D::HANDLES {
                let record = (ledger, subprotocol);
                Some(Peer::new(Shared::new(context.home.clone(), key, &connection, record, 0)))
            } else {
                context.keep_record(key.index, ledger, subprotocol);
                None
            };
            let mut marks = Marks::default();
            marks.set(Mark::RoomReported, interests.is_writable());
            marks.set(Mark::EndReported, end_reported);
            let core = Core {
                endpoint: Endpoint::new(stream, connection, leftover),
                phase: Phase::Open,
                // What arrives is reported, at once what is there as the poll is told; but not twice.
                readable,
                waiting: false,
                marks,
                peer,
                opened: tick,
                heard: tick,
                since: tick,
            };
            self.slots.insert(key, Conn { core, app: Some(app) });
            if let Err(error) = registered {
                log::error!("{addr}: a connection could not be registered: {error}");
                self.turn(key, |turn, _| turn.lose("not registered", CloseCause::Aborted));
                continue;
            }
            let shutting_down = self.shutdown.is_some();
            self.turn(key, |turn, input| {
                turn.context.touched_deadline = true;
                turn.open(opening);
                if shutting_down {
                    turn.core.start_close(turn.context, Some(&going_away()));
                    turn.flush(&mut []);
                }
                turn.advance(input);
            });
        }
    }
}
