//! Ending, from another thread, a wait for the network that has a deadline but should not last until then.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{fmt, io};

use mio::{Poll, Token, Waker};

/// The token of the waker; no attempt has it.
const WAKE: Token = Token(usize::MAX);

/// Once raised, it ends the current wait and every later one.
#[derive(Default)]
pub(crate) struct CancelToken {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    raised: bool,
    /// Ends the present wait, or one that is over.
    wake: Option<Box<dyn Fn() + Send>>,
}

impl CancelToken {
    /// Ends every wait, from now on.
    pub(crate) fn raise(&self) {
        let mut inner = self.lock();
        inner.raised = true;
        if let Some(wake) = &inner.wake {
            // Kept: a waker that is dropped takes its event along.
            wake();
        }
    }

    /// An error once it is raised.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.lock().raised { Err(cancelled()) } else { Ok(()) }
    }

    /// Has `wake` called when it is raised, in place of the one before.
    pub(crate) fn watch(&self, wake: impl Fn() + Send + 'static) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.raised {
            return Err(cancelled());
        }
        inner.wake = Some(Box::new(wake));
        Ok(())
    }

    /// Has `poll` return when it is raised.
    pub(crate) fn watch_poll(&self, poll: &Poll) -> io::Result<()> {
        let waker = Waker::new(poll.registry(), WAKE)?;
        self.watch(move || {
            if let Err(error) = waker.wake() {
                log::error!("a connecting thread could not be woken: {error}");
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupt").field("raised", &self.lock().raised).finish_non_exhaustive()
    }
}

/// Not of the kind `Interrupted`, which is for system calls that are to be tried again.
pub(crate) fn cancelled() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the client was closed while it was connecting")
}
