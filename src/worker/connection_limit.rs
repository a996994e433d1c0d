//! Counts the connections, in all and from each IP address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Counts connections from accept until their socket is closed, and refuses those over the limits.
#[derive(Debug)]
pub(crate) struct ConnectionLimit {
    limit: usize,
    per_address: usize,
    count: AtomicUsize,
    /// Empty while there is no limit per address.
    addresses: Mutex<HashMap<IpAddr, usize>>,
}

impl ConnectionLimit {
    pub(crate) fn new(limit: usize, per_address: Option<usize>) -> ConnectionLimit {
        let per_address = per_address.unwrap_or(usize::MAX);
        ConnectionLimit { limit, per_address, count: AtomicUsize::new(0), addresses: Mutex::default() }
    }

    /// Counts one more connection; `false` if there are too many already. `address` is `None` if it is not known yet, or
    /// if the peer has no IP address. Only the thread that accepts calls this, so that the count does not exceed the limit.
    pub(crate) fn acquire(&self, address: impl Into<Option<IpAddr>>) -> bool {
        if self.count.load(Ordering::Relaxed) >= self.limit || !self.recount(None, address.into()) {
            return false;
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Counts one more connection, whatever the limits: it is there.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) fn add(&self, address: Option<IpAddr>) {
        self.count.fetch_add(1, Ordering::Relaxed);
        if let Some(address) = address.filter(|_| self.per_address != usize::MAX) {
            *self.addresses.lock().unwrap_or_else(PoisonError::into_inner).entry(address).or_default() += 1;
        }
    }

    /// Counts a connection under another address than before; `false` if there are too many from there, and then it counts
    /// as before.
    pub(crate) fn recount(&self, from: Option<IpAddr>, to: Option<IpAddr>) -> bool {
        if self.per_address == usize::MAX || from == to {
            return true;
        }
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(to) = to {
            let before = addresses.get(&to).copied().unwrap_or_default();
            if before >= self.per_address {
                return false;
            }
            addresses.insert(to, before + 1);
        }
        if let Some(from) = from
            && let Some(count) = addresses.get_mut(&from)
        {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&from);
            }
        }
        true
    }

    /// Counts one connection less. `address` is `None` if the peer has no IP address.
    pub(crate) fn release(&self, address: impl Into<Option<IpAddr>>) {
        self.recount(address.into(), None);
        // Last, so that a thread that sees that there are none finds room under every address.
        self.count.fetch_sub(1, Ordering::Release);
    }

    /// Returns the number of connections.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_14_connections_are_counted_in_all_and_by_address() {
        let connection_limit = ConnectionLimit::new(3, Some(2));
        let [one, two] = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])];
        assert!(connection_limit.acquire(one) && connection_limit.acquire(one) && !connection_limit.acquire(one));
        assert!(connection_limit.acquire(two) && !connection_limit.acquire(two), "three in all");
        connection_limit.release(one);
        assert!(connection_limit.acquire(two) && connection_limit.count() == 3);
    }

    #[test]
    fn peers_without_an_ip_address_are_counted_in_all_only() {
        let connection_limit = ConnectionLimit::new(2, Some(1));
        assert!(connection_limit.acquire(None) && connection_limit.acquire(None) && !connection_limit.acquire(None));
        connection_limit.release(None);
        assert!(connection_limit.acquire(None) && connection_limit.count() == 2);
    }

    #[test]
    fn a_connection_counts_under_one_address_at_a_time() {
        let limit = ConnectionLimit::new(9, Some(1));
        let [one, two] = [IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2])];
        assert!(limit.acquire(None) && limit.acquire(None) && limit.acquire(two));
        assert!(limit.recount(None, Some(one)), "it is known now");
        assert!(!limit.recount(None, Some(one)), "one is allowed");
        assert!(!limit.recount(Some(one), Some(two)) && !limit.acquire(one), "and counts as before");
        limit.release(two);
        assert!(limit.recount(Some(one), Some(two)) && limit.acquire(one));
        for address in [None, Some(two), Some(one)] {
            limit.release(address);
        }
        assert_eq!((limit.count(), limit.addresses.lock().expect("no panic").len()), (0, 0));
    }
}
