//! Panics of the application's code, which end where that code is called or its values are dropped.

use core::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::protocol::escaped::Escaped;

/// Calls `act`, which runs code of the application or drops its values. If that panics, returns the panic's text.
#[inline(always)]
pub(crate) fn contained<T>(act: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(act)).map_err(end)
}

/// Returns the text of a panic, and drops its payload. That is a value of the application too, and may panic as it is
/// dropped. The payload of such a panic is leaked: its drop could panic as well, without an end.
#[cold]
fn end(payload: Box<dyn Any + Send>) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text");
    // It may have text of a peer.
    let text = Escaped(text).to_string();
    if let Err(next) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        core::mem::forget(next);
    }
    text
}

/// A value that the application gave into the library's keeping. The last handle to it may be dropped by any thread, so
/// a panic of its drop ends here.
pub(crate) struct Kept<T>(Option<T>);

impl<T> Kept<T> {
    pub(crate) fn new(value: T) -> Kept<T> {
        Kept(Some(value))
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        // The process's panic hook has reported it.
        let _ = contained(|| drop(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(Bomb);
        }
    }

    #[test]
    fn a_payload_that_panics_as_it_is_dropped_is_contained() {
        assert_eq!(contained(|| std::panic::panic_any(Bomb)).map(|()| 1), Err("no text".to_owned()));
        assert_eq!(contained(|| panic!("{}", "one")).map(|()| 1), Err("one".to_owned()));
        assert_eq!(contained(|| 1), Ok(1));
    }

    #[test]
    fn a_kept_value_may_panic_as_it_is_dropped() {
        drop(Kept::new(Bomb));
        // Also while another panic unwinds.
        let unwound = contained(|| {
            let _kept = Kept::new(Bomb);
            panic!("another");
        });
        assert_eq!(unwound.map(|()| 1), Err("another".to_owned()));
    }
}
