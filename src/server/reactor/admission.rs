//! Accepts connections while there is room for more, and begins their handshakes or turns them away.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::server::reactor::acceptor::{Acceptor, Incoming};
use crate::server::reactor::client_addr::ClientAddr;
use crate::server::reactor::handshake::Handshake;
use crate::server::reactor::{MAX_TURNED_AWAY, Reactor, overloaded};
use crate::transport::budget::Charge;
use crate::worker::slab::Key;

/// Before a listener is closed, what waits is accepted in 1,000 turns at most. Larger may accept for long from clients
/// that connect faster; smaller resets connections of a long queue.
const MAX_LAST_ACCEPTS: usize = 1000;

impl<C: Send + 'static> Reactor<C> {
    /// Accepts the connections that wait, unless the server has no room for them.
    pub(super) fn accept(&mut self, now: Instant) {
        if self.stopping.is_none() && self.is_behind() {
            return self.acceptors.iter_mut().for_each(|acceptor| acceptor.postpone(now));
        }
        self.accept_waiting(now);
    }

    fn accept_waiting(&mut self, now: Instant) {
        let mut accepted = std::mem::take(&mut self.accepted);
        for acceptor in &mut self.acceptors {
            acceptor.accept(now, &mut accepted);
        }
        for incoming in accepted.drain(..) {
            self.accepted(incoming, now);
        }
        self.accepted = accepted;
    }

    /// Whether the server is short of memory, or a worker holds back the connections that it has been given already.
    fn is_behind(&self) -> bool {
        self.is_paused()
            || self.budget.is_exceeded()
            || self.workers.iter().any(|worker| worker.inbox.holds_back.load(Ordering::Relaxed))
    }

    /// Accepts what waits at listeners that no other process has, and closes all listeners.
    pub(super) fn close_listeners(&mut self, now: Instant) {
        if self.release_if_paused() {
            return;
        }
        for acceptor in &mut self.acceptors {
            if acceptor.leaves_waiting() {
                acceptor.close(&self.registry);
            } else {
                acceptor.ready();
            }
        }
        for _ in 0..MAX_LAST_ACCEPTS {
            if !self.acceptors.iter().any(Acceptor::has_more) {
                break;
            }
            self.accept_waiting(now);
        }
        self.acceptors.iter_mut().for_each(|acceptor| acceptor.close(&self.registry));
    }

    fn accepted(&mut self, Incoming { stream, addr, layer }: Incoming, now: Instant) {
        self.rules.metrics.accepted.add(1);
        let Some(stream) = layer.over(stream, &self.rules.layer) else { return };
        let is_handshaking = stream.is_handshaking();
        let admitted = if self.stopping.is_none() { self.rules.clients.admit(&addr) } else { None };
        if let Some(client) = admitted {
            let handshake = Handshake::new(stream, client, &self.rules, Charge::new(&self.budget, 0), true);
            let key = self.handshakes.add(handshake);
            self.contain(key, |reactor| {
                // A request that has arrived already is answered before the socket is registered. That saves the system
                // calls that register it here and deregister it when a worker takes it over.
                if !reactor.shares_poll && !is_handshaking {
                    reactor.read(key, now);
                }
                reactor.watch(key, reactor.config.handshake_timeout);
            });
        } else if self.turned_away < MAX_TURNED_AWAY {
            self.turned_away += 1;
            let client = ClientAddr::turned_away(addr);
            let mut handshake = Handshake::new(stream, client, &self.rules, Charge::new(&self.budget, 0), false);
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

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};
    use std::net::TcpStream;
    use std::time::{Duration, Instant};

    use crate::config::Config;
    use crate::server::Server;
    use crate::server::reactor::MAX_TURNED_AWAY;

    const DEADLINE: Duration = Duration::from_secs(30);

    /// Whether the server answers before it ends the connection.
    fn is_answered(client: &mut TcpStream) -> bool {
        client.set_read_timeout(Some(DEADLINE)).expect("a socket");
        let mut status = [0; 12];
        match client.read_exact(&mut status) {
            Ok(()) => {
                assert_eq!(&status, b"HTTP/1.1 503");
                true
            }
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
                false
            }
        }
    }

    /// T-14: those that are turned away are counted, as long as they stay.
    #[test]
    fn t_14_a_limited_number_of_connections_is_turned_away_with_an_answer() {
        let config = Config::default().max_connections(1).close_timeout(DEADLINE).handshake_timeout(DEADLINE);
        let server = Server::builder().workers(2).config(config).bind("127.0.0.1:0").expect("a server");
        let connect = || TcpStream::connect(server.local_addr()).expect("connects");
        let _admitted = connect();
        let mut clients: Vec<TcpStream> = (0..MAX_TURNED_AWAY + 5).map(|_| connect()).collect();
        let answered = clients.iter_mut().filter_map(|client| is_answered(client).then_some(())).count();
        assert_eq!(answered, MAX_TURNED_AWAY);
        drop(clients);
        // They make room for others as the server sees them leave.
        let deadline = Instant::now() + DEADLINE;
        while !is_answered(&mut connect()) {
            assert!(Instant::now() < deadline, "nobody is answered any more");
        }
    }
}
