//! The value that an application keeps from the opening handshake.

use core::any::Any;
use core::fmt;
use std::sync::Arc;

use crate::protocol::contain::Kept;

/// A value of a type that the application chooses, in a [`Kept`].
#[derive(Clone)]
pub(crate) struct Data(Arc<dyn Any + Send + Sync>);

impl Data {
    pub(crate) fn new<T: Any + Send + Sync>(value: T) -> Data {
        Data(Arc::new(Kept::new(value)))
    }

    /// Returns the value if it is a `T`.
    pub(crate) fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.downcast_ref::<Kept<T>>()?.get()
    }
}

/// Compares the pointers, because the values cannot be compared.
impl PartialEq for Data {
    fn eq(&self, other: &Data) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Data {}

/// Omits the value, which may contain secrets.
impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Data(..)")
    }
}
