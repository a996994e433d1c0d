//! Panics of the application's hooks and values, each of which concerns one handshake.

use crate::protocol::contain::contained;
use crate::protocol::http::Response;
use crate::server::reactor::Reactor;
use crate::server::reactor::handshake::{Decide, Http};
use crate::worker::slab::Key;

impl<C: Send + 'static> Reactor<C> {
    /// Calls `act`, which works on the handshake of `key`. The application's values may panic as they are dropped. Then
    /// this handshake ends, and no other is affected.
    pub(super) fn contain(&mut self, key: Key, act: impl FnOnce(&mut Reactor<C>)) {
        // What is left of the handshake may panic as well.
        let ended = contained(|| act(self)).or_else(|panic| contained(|| self.remove(key)).and(Err(panic)));
        if let Err(panic) = ended {
            log::error!("a value of the application panicked as it was dropped: {panic}");
        }
    }

    pub(super) fn hook_panicked(&mut self, key: Key, panic: &str) {
        log::error!("a handshake hook panicked: {panic}");
        if let Some(handshake) = self.handshakes.get_mut(key) {
            handshake.refuse(&Response::new(500));
            self.after(key);
        }
    }
}

impl<C> Drop for Reactor<C> {
    /// Drops the application's values one by one. If two panicked in one drop, the process would be aborted.
    fn drop(&mut self) {
        for index in 0..self.handshakes.entries() {
            let Some(handshake) = self.handshakes.key_at(index).and_then(|key| self.handshakes.remove(key)) else {
                continue;
            };
            if handshake.admitted {
                self.rules.clients.release(&handshake.client);
            }
            report(contained(|| drop(handshake)));
        }
        // Their hooks are the application's.
        for acceptor in std::mem::take(&mut self.acceptors) {
            report(contained(|| drop(acceptor)));
        }
        let decide = Decide::Now(Box::new(|_| Err(Response::new(503))));
        let decide = std::mem::replace(&mut self.rules.decide, decide);
        report(contained(|| drop(decide)));
        let http = std::mem::replace(&mut self.rules.http, Http::Refused);
        report(contained(|| drop(http)));
        let admit = std::mem::replace(&mut self.admit, Box::new(|_| None));
        report(contained(|| drop(admit)));
    }
}

fn report(dropped: Result<(), String>) {
    if let Err(panic) = dropped {
        log::error!("a hook or a value of the application panicked as it was dropped: {panic}");
    }
}
