//! A plain HTTP request that the application answers from another thread.

use std::fmt;

use crate::protocol::http::Response;
use crate::server::control::ServerHandle;
use crate::server::reactor::command::{ReactorCommand, ReactorHandle};
use crate::worker::slab::Key;

/// A plain HTTP request that waits for the application's response. Any thread can respond, within
/// [`handshake_timeout`](crate::Config::handshake_timeout) of the request; later the answer is 503. If it is dropped without
/// a response, the answer is 500.
///
/// ```no_run
/// use threadbare::{Response, Server};
///
/// let server = Server::builder()
///     .http_deferred(|request, pending| {
///         std::thread::spawn(move || match request.path() {
///             "/report" => pending.respond(Response::new(200).json("a report that takes a while")),
///             _ => pending.respond(Response::new(404)),
///         });
///     })
///     .bind("127.0.0.1:0")?;
/// # Ok::<(), threadbare::BuildError>(())
/// ```
pub struct PendingResponse {
    key: Key,
    reactor: ReactorHandle,
    server: ServerHandle,
    responded: bool,
}

impl PendingResponse {
    pub(in crate::server) fn new(key: Key, reactor: ReactorHandle, server: ServerHandle) -> PendingResponse {
        PendingResponse { key, reactor, server, responded: false }
    }

    /// Answers the request.
    ///
    /// ```
    /// use threadbare::{PendingResponse, Response};
    ///
    /// fn answer(pending: PendingResponse, found: Option<String>) {
    ///     match found {
    ///         Some(json) => pending.respond(Response::new(200).json(json)),
    ///         None => pending.respond(Response::new(404)),
    ///     }
    /// }
    /// ```
    pub fn respond(mut self, response: Response) {
        self.answer(response);
    }

    /// Returns the handle of the server that received the request.
    ///
    /// ```
    /// use threadbare::{PendingResponse, Response};
    ///
    /// fn count(pending: PendingResponse) {
    ///     let connections = pending.server().connections();
    ///     pending.respond(Response::new(200).text(&format!("{connections}\n")));
    /// }
    /// ```
    #[must_use]
    pub fn server(&self) -> &ServerHandle {
        &self.server
    }

    fn answer(&mut self, response: Response) {
        self.responded = true;
        self.reactor.send(ReactorCommand::Respond(self.key, Box::new(response)));
    }
}

impl Drop for PendingResponse {
    fn drop(&mut self) {
        if !self.responded {
            self.answer(Response::new(500));
        }
    }
}

impl fmt::Debug for PendingResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingResponse").finish_non_exhaustive()
    }
}
