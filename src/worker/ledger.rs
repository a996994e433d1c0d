//! What is on record about a connection: who its peer is, and what has gone through.

use std::net::SocketAddr;

use crate::worker::address::Address;
use crate::worker::stats::Counters;

/// What is on record about a connection, once: beside the worker's slots where the worker alone asks for it, in the
/// handle where there is one. Only the worker writes, so nothing of it needs a lock.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) counters: Counters,
    addr: Address,
}

impl Ledger {
    pub(crate) fn new(addr: SocketAddr) -> Ledger {
        Ledger { counters: Counters::default(), addr: addr.into() }
    }

    /// Looks at what every turn counts in, so that it is at hand.
    pub(crate) fn fetch(&self) -> u64 {
        self.counters.bytes_received.value()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        (&self.addr).into()
    }
}
