//! Bytes that several connections send, in memory that counts once.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use crate::transport::budget::{Charge, MemoryBudget};

/// Bytes that several connections send. However many do, their memory counts once, to the first budget that they are
/// charged to.
#[derive(Clone, Debug)]
pub(crate) struct SharedBytes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes: Arc<[u8]>,
    charge: OnceLock<Charge>,
}

impl SharedBytes {
    /// Charges the memory to `budget`, unless it is charged already or the application has it as well.
    pub(crate) fn charge(&self, budget: &Arc<MemoryBudget>) {
        self.charge_with(|bytes| Charge::new(budget, bytes));
    }

    /// Charges the memory to the budget that `other` is charged to, if it is.
    #[cfg(feature = "deflate")]
    pub(crate) fn charge_like(&self, other: &SharedBytes) {
        if let Some(charge) = other.0.charge.get() {
            self.charge_with(|bytes| charge.another(bytes));
        }
    }

    fn charge_with(&self, charge: impl FnOnce(usize) -> Charge) {
        self.0.charge.get_or_init(|| {
            let is_the_applications = Arc::strong_count(&self.0.bytes) > 1;
            charge(if is_the_applications { 0 } else { self.0.bytes.len() })
        });
    }
}

impl From<Arc<[u8]>> for SharedBytes {
    fn from(bytes: Arc<[u8]>) -> SharedBytes {
        SharedBytes(Arc::new(Inner { bytes, charge: OnceLock::new() }))
    }
}

impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> SharedBytes {
        SharedBytes::from(Arc::from(bytes))
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_counts_once_until_the_last_is_dropped() {
        let budget = Arc::new(MemoryBudget::new(1000));
        let bytes = SharedBytes::from(vec![7; 300]);
        assert_eq!(budget.used(), 0, "not charged yet");
        let clones = [bytes.clone(), bytes.clone()];
        clones.iter().for_each(|bytes| bytes.charge(&budget));
        drop(bytes);
        assert_eq!(budget.used(), 300);
        drop(clones);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn memory_that_the_application_has_as_well_does_not_count() {
        let budget = Arc::new(MemoryBudget::new(1000));
        let applications: Arc<[u8]> = Arc::from(vec![7; 300]);
        let bytes = SharedBytes::from(applications.clone());
        bytes.charge(&budget);
        assert_eq!((budget.used(), &bytes[..2]), (0, &applications[..2]));
        let only = SharedBytes::from(Arc::<[u8]>::from(vec![7; 300]));
        only.charge(&budget);
        assert_eq!(budget.used(), 300);
    }
}
