//! What a connection keeps while it has plain HTTP requests: the content that arrives, and what holds from one request to the
//! next.

use crate::protocol::http::{BodyReader, HttpVersion, Request, contains_token};

/// A connection is closed behind its 1,000th plain request, as nginx does. Larger keeps a client at one server for longer after
/// others have come; smaller has busy clients connect more often.
const MAX_REQUESTS: u32 = 1000;

/// The interim response that asks for the content of a request (RFC 9110 15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A request whose content is arriving.
pub(in crate::server) struct Receiving {
    pub(super) request: Request,
    pub(super) reader: BodyReader,
    /// What is left to write of the interim response.
    pub(super) interim: &'static [u8],
}

impl Receiving {
    pub(super) fn new(request: Request, reader: BodyReader, asks_for_content: AsksForContent) -> Receiving {
        let interim = match asks_for_content {
            AsksForContent::Yes => CONTINUE,
            AsksForContent::No => &[],
        };
        Receiving { request, reader, interim }
    }

    /// The bytes of memory that it takes.
    pub(super) fn memory(&self) -> usize {
        self.request.size() + self.reader.memory()
    }

    /// Whether it waits for room to write.
    pub(super) fn wants_room(&self) -> bool {
        !self.interim.is_empty()
    }

    /// Whether a part of the interim response was written, which no other response can follow.
    pub(super) fn has_begun_interim(&self) -> bool {
        !self.interim.is_empty() && self.interim.len() < CONTINUE.len()
    }
}

/// Whether the client waits for the interim response before it sends the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AsksForContent {
    Yes,
    No,
}

/// What holds from one plain request of a connection to the next.
#[derive(Default)]
pub(in crate::server) struct Exchanges {
    /// The number of requests that were answered.
    answered: u32,
    /// The connection stays open behind the response that is written, or is to be written.
    keep_alive: bool,
    /// The buffer has bytes behind a request that were not looked at yet.
    unscanned: bool,
    /// Something has begun for which the client, or the application, has the whole `handshake_timeout`.
    renew_deadline: bool,
}

impl Exchanges {
    /// Notes that the head of a request has come, and decides whether the connection stays open behind its response.
    pub(super) fn begin(&mut self, request: &Request) {
        // RFC 9112 9.3. The `keep-alive` of HTTP/1.0 is not supported.
        self.keep_alive = request.version() == HttpVersion::Http11
            && !contains_token(request.field_values("Connection"), "close")
            && self.answered.saturating_add(1) < MAX_REQUESTS;
    }

    /// Notes that the first bytes of a request have come.
    pub(super) fn arrive(&mut self) {
        // The first request has what is left since accept.
        self.renew_deadline |= self.has_begun();
    }

    /// Notes that the client, or the application, has the whole `handshake_timeout` from now on.
    pub(super) fn renew(&mut self) {
        self.renew_deadline = true;
    }

    /// Returns whether the deadline is to be set anew, once.
    pub(super) fn take_renewal(&mut self) -> bool {
        std::mem::take(&mut self.renew_deadline)
    }

    /// Notes whether bytes came behind a request.
    pub(super) fn leave(&mut self, behind: &[u8]) {
        self.unscanned = !behind.is_empty();
    }

    pub(super) fn has_unscanned(&self) -> bool {
        self.unscanned
    }

    /// Returns whether there are bytes that were not looked at, once.
    pub(super) fn take_unscanned(&mut self) -> bool {
        std::mem::take(&mut self.unscanned)
    }

    /// Returns whether requests were answered already.
    pub(super) fn has_begun(&self) -> bool {
        self.answered > 0
    }

    pub(super) fn keeps_alive(&self) -> bool {
        self.keep_alive
    }

    /// Notes that a response was written behind which the connection stays open.
    pub(super) fn complete(&mut self) {
        self.answered = self.answered.saturating_add(1);
        self.renew_deadline = true;
    }

    /// Has the connection end behind its next response, or the one that is written.
    pub(super) fn end_behind_response(&mut self) {
        self.keep_alive = false;
    }

    /// Has the connection end with its next response, for which there is no new deadline.
    pub(super) fn end(&mut self) {
        (self.keep_alive, self.renew_deadline) = (false, false);
    }
}
