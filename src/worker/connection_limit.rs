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

    /// Counts one more connection; `false` if there are too many already. `address` is `None` if the peer has no IP address.
    /// Only the thread that accepts calls this, so that the count does not exceed the limit.
    pub(crate) fn acquire(&self, address: impl Into<Option<IpAddr>>) -> bool {
        if self.count.load(Ordering::Relaxed) >= self.limit {
            return false;
        }
        if self.per_address != usize::MAX
            && let Some(address) = address.into()
        {
            let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
            let count = addresses.entry(address).or_default();
            if *count >= self.per_address {
                return false;
            }
            *count += 1;
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Counts one connection less. `address` is `None` if the peer has no IP address.
    pub(crate) fn release(&self, address: impl Into<Option<IpAddr>>) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        if self.per_address != usize::MAX
            && let Some(address) = address.into()
        {
            let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = addresses.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    addresses.remove(&address);
                }
            }
        }
    }

    /// Returns the number of connections.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
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
}
