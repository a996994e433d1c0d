//! How many connections there are, in all and from each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Counts connections from accept until their socket is closed, and says when there are too many.
#[derive(Debug)]
pub(crate) struct Admission {
    limit: usize,
    per_address: usize,
    count: AtomicUsize,
    /// Empty while there is no limit per address.
    addresses: Mutex<HashMap<IpAddr, usize>>,
}

impl Admission {
    pub(crate) fn new(limit: usize, per_address: Option<usize>) -> Admission {
        let per_address = per_address.unwrap_or(usize::MAX);
        Admission { limit, per_address, count: AtomicUsize::new(0), addresses: Mutex::default() }
    }

    /// Counts one more, unless there are too many already. Called by one thread, the one that accepts.
    pub(crate) fn admit(&self, address: IpAddr) -> bool {
        if self.count.load(Ordering::Relaxed) >= self.limit {
            return false;
        }
        if self.per_address != usize::MAX {
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

    /// Counts one less.
    pub(crate) fn release(&self, address: IpAddr) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        if self.per_address != usize::MAX {
            let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = addresses.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    addresses.remove(&address);
                }
            }
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_14_connections_are_counted_in_all_and_by_address() {
        let admission = Admission::new(3, Some(2));
        let [one, two] = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])];
        assert!(admission.admit(one) && admission.admit(one) && !admission.admit(one));
        assert!(admission.admit(two) && !admission.admit(two), "three in all");
        admission.release(one);
        assert!(admission.admit(two) && admission.count() == 3);
    }
}
