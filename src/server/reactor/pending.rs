//! A handshake that the application decides about from another thread.

use std::fmt;

use crate::protocol::handshake::Accept;
use crate::protocol::http::Response;
use crate::server::reactor::command::{ReactorCommand, ReactorHandle};
use crate::worker::slab::Key;

/// An opening handshake that waits for the application's decision. Any thread can decide, within
/// [`handshake_timeout`](crate::Config::handshake_timeout) of the accept. If it is dropped without a decision, the
/// handshake is answered 500.
///
/// ```no_run
/// use threadbare::{Accept, Event, Response, Server};
///
/// let server = Server::builder()
///     .on_request_deferred(|request, pending| {
///         std::thread::spawn(move || match request.cookie("session") {
///             Some("a session that the database knows") => pending.accept(Accept::new()),
///             _ => pending.reject(Response::new(401).header("WWW-Authenticate", "Bearer")),
///         });
///     })
///     .bind("127.0.0.1:0")?;
/// # Ok::<(), threadbare::BuildError>(())
/// ```
pub struct Pending {
    key: Key,
    reactor: ReactorHandle,
    decided: bool,
}

impl Pending {
    pub(in crate::server) fn new(key: Key, reactor: ReactorHandle) -> Pending {
        Pending { key, reactor, decided: false }
    }

    /// Accepts the handshake.
    ///
    /// ```
    /// use threadbare::{Accept, Pending};
    ///
    /// fn admit(pending: Pending, user: String) {
    ///     pending.accept(Accept::new().data(user)); // for `Peer::data`
    /// }
    /// ```
    pub fn accept(mut self, accept: Accept) {
        self.decide(Ok(accept));
    }

    /// Rejects the handshake with a response.
    ///
    /// ```
    /// use threadbare::{Pending, Response};
    ///
    /// fn refuse(pending: Pending) {
    ///     pending.reject(Response::new(401).header("WWW-Authenticate", "Bearer"));
    /// }
    /// ```
    pub fn reject(mut self, reject: Response) {
        self.decide(Err(reject));
    }

    fn decide(&mut self, decision: Result<Accept, Response>) {
        self.decided = true;
        self.reactor.send(ReactorCommand::Decide(self.key, Box::new(decision)));
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.decided {
            self.decide(Err(Response::new(500)));
        }
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}
