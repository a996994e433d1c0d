//! Accepts connections while there is room for more, and begins their handshakes or turns them away.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use crate::server::reactor::handshake::Handshake;
use crate::server::reactor::{MAX_TURNED_AWAY, Reactor, overloaded};
use crate::transport::budget::Charge;
use crate::transport::stream::Stream;
use crate::worker::slab::Key;

impl<C: Send + 'static> Reactor<C> {
    /// Accepts the connections that wait, unless the server has no room for them.
    pub(super) fn accept(&mut self, now: Instant) {
        if self.stopping.is_none() && self.is_behind() {
            return self.acceptors.iter_mut().for_each(|acceptor| acceptor.postpone(now));
        }
        let mut accepted = std::mem::take(&mut self.accepted);
        for acceptor in &mut self.acceptors {
            acceptor.accept(now, &mut accepted);
        }
        for (stream, addr) in accepted.drain(..) {
            self.accepted(stream, addr, now);
        }
        self.accepted = accepted;
    }

    /// Whether the server is short of memory, or a worker holds back the connections that it has been given already.
    fn is_behind(&self) -> bool {
        self.budget.is_exceeded() || self.workers.iter().any(|worker| worker.inbox.holds_back.load(Ordering::Relaxed))
    }

    fn accepted(&mut self, stream: TcpStream, addr: SocketAddr, now: Instant) {
        // On Linux the socket inherits this from its listener. If the socket is broken, the first write fails.
        if cfg!(not(target_os = "linux")) {
            let _ = stream.set_nodelay(true);
        }
        let stream = Stream::Tcp(stream);
        if self.stopping.is_none() && self.connection_limit.acquire(addr.ip()) {
            let handshake = Handshake::new(stream, addr, &self.rules.limits, Charge::new(&self.budget, 0), true);
            let key = self.handshakes.add(handshake);
            self.contain(key, |reactor| {
                // A request that has arrived already is answered before the socket is registered. That saves the system
                // calls that register it here and deregister it when a worker takes it over.
                if !reactor.shares_poll {
                    reactor.read(key, now);
                }
                reactor.watch(key, reactor.config.handshake_timeout);
            });
        } else if self.turned_away < MAX_TURNED_AWAY {
            self.turned_away += 1;
            let mut handshake = Handshake::new(stream, addr, &self.rules.limits, Charge::new(&self.budget, 0), false);
            handshake.refuse(&overloaded());
            let key = self.handshakes.add(handshake);
            self.watch(key, self.config.close_timeout);
        }
    }

    /// Registers the socket of a handshake that is not complete yet, and sets its deadline.
    fn watch(&mut self, key: Key, timeout: Duration) {
        let Some(handshake) = self.handshakes.get_mut(key) else { return };
        let (poll_key, interests) = (self.keys.allocate_key(), handshake.interests());
        handshake.watched = Some((poll_key, interests));
        self.watched.insert(poll_key.token(), key);
        if let Err(error) = self.registry.register(&mut handshake.stream, poll_key.token(), interests) {
            log::error!("a connection could not be registered: {error}");
            return self.remove(key);
        }
        // A refusal has set its own deadline.
        if !handshake.ending {
            self.schedule(key, timeout);
        }
    }
}
