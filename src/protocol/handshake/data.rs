//! What the application learned in the opening handshake and keeps.

use core::any::Any;
use core::fmt;
use std::sync::Arc;

/// A value of a type that only the application knows.
#[derive(Clone)]
pub(crate) struct Data(Arc<dyn Any + Send + Sync>);

impl Data {
    pub(crate) fn new<T: Any + Send + Sync>(value: T) -> Data {
        Data(Arc::new(value))
    }

    /// The value, if it is a `T`.
    pub(crate) fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

/// Whether it is the same value, which can not be compared.
impl PartialEq for Data {
    fn eq(&self, other: &Data) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Data {}

/// The value may hold secrets.
impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Data(..)")
    }
}
