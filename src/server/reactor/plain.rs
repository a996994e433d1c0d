//! Plain HTTP beside the opening handshakes: requests that follow each other on a connection, with their content, and the
//! application's responses.

use std::io::Write;
use std::time::Instant;

use crate::protocol::contain::contained;
use crate::protocol::handshake::server::upgrade_required;
use crate::protocol::http::{
    BodyReader, Content, Framing, HeadScanner, HttpVersion, Persistence, Request, Response, refuse,
};
use crate::server::reactor::exchange::{AsksForContent, Receiving};
use crate::server::reactor::handshake::{Handshake, Http, Next, Rules, State};
use crate::server::reactor::pending_response::PendingResponse;
use crate::server::reactor::{Reactor, overloaded};
use crate::transport::clock;
use crate::transport::stream::attempt::{Io, attempt};
use crate::worker::slab::Key;

/// At most 16 requests of a connection are answered in one iteration of the event loop. Larger delays others while one
/// connection sends many requests at once; smaller needs more iterations for them.
const MAX_AT_ONCE: usize = 16;

impl<C> Handshake<C> {
    /// Has a plain request answered, once its content is there.
    pub(super) fn plain(&mut self, rules: &Rules, request: Request) -> Next {
        if matches!(rules.http, Http::Refused) {
            self.refuse(&upgrade_required());
            return Next::Wait;
        }
        self.exchanges.begin(&request);
        if !rules.keeps_alive {
            self.exchanges.end();
        }
        let begun = Framing::of(&request).and_then(|framing| {
            let expects = expects_interim(&request)?;
            let reader = framing.map(|framing| BodyReader::new(framing, rules.max_body_size)).transpose()?;
            Ok((reader, expects))
        });
        match begun {
            Ok((None, _)) => {
                self.exchanges.leave(&self.buffer);
                self.answering(request)
            }
            Ok((Some(reader), expects)) => self.begin_content(request, reader, expects),
            Err(refusal) => {
                self.refuse(&refusal);
                Next::Wait
            }
        }
    }

    fn begin_content(&mut self, request: Request, reader: BodyReader, expects: AsksForContent) -> Next {
        let arrived = std::mem::take(&mut self.buffer);
        // RFC 9110 10.1.1: a 100 may be omitted "if it has already received some or all of the content".
        let asks = if arrived.is_empty() { expects } else { AsksForContent::No };
        self.state = State::Receiving(Box::new(Receiving::new(request, reader, asks)));
        self.exchanges.renew();
        self.write_interim();
        if arrived.is_empty() { Next::Wait } else { self.receive_content(&arrived) }
    }

    /// Writes what the socket takes of the interim response.
    pub(super) fn write_interim(&mut self) {
        let State::Receiving(receiving) = &mut self.state else { return };
        while receiving.wants_room() {
            match attempt(|| self.stream.write(receiving.interim)) {
                Io::Done(size) => receiving.interim = receiving.interim.get(size..).unwrap_or_default(),
                Io::WouldBlock => return,
                Io::End | Io::Failed(_) => {
                    self.state = State::Gone;
                    return;
                }
            }
        }
    }

    /// Takes content that arrived. What comes behind it stays in the buffer.
    pub(super) fn receive_content(&mut self, bytes: &[u8]) -> Next {
        let State::Receiving(receiving) = &mut self.state else { return Next::Wait };
        let read = receiving.reader.read(bytes);
        if receiving.has_begun_interim() && (read.is_err() || receiving.reader.is_done()) {
            self.state = State::Gone;
            return Next::Wait;
        }
        match read {
            Ok(used) if receiving.reader.is_done() => {
                let State::Receiving(receiving) = std::mem::replace(&mut self.state, State::Gone) else {
                    return Next::Wait;
                };
                let Receiving { mut request, reader, .. } = *receiving;
                request.set_body(reader.into_content());
                self.buffer = bytes.get(used..).unwrap_or_default().to_vec();
                self.exchanges.leave(&self.buffer);
                self.answering(request)
            }
            Ok(_) => Next::Wait,
            Err(error) => {
                self.refuse(&Box::<Response>::from(error));
                Next::Wait
            }
        }
    }

    /// Has the application answer a request that is complete.
    fn answering(&mut self, request: Request) -> Next {
        self.state = State::Answering { size: request.size() };
        self.exchanges.renew();
        Next::Answer(request)
    }

    /// Encodes a response.
    pub(super) fn encode(&self, response: &Response) -> Vec<u8> {
        // RFC 9110 9.3.2: the response to HEAD has no body, but its headers have the length of one.
        let content = if self.wants_body { Content::Whole } else { Content::Omitted };
        let persistence = if self.exchanges.keeps_alive() { Persistence::KeepAlive } else { Persistence::Close };
        response.encode_with(Some(clock::today()), content, persistence)
    }

    /// Awaits the next request behind a response. Returns `false` if the connection is to end instead.
    pub(super) fn await_next(&mut self) -> bool {
        if !self.exchanges.keeps_alive() {
            return false;
        }
        self.exchanges.complete();
        self.written_before = 0;
        self.scanner = HeadScanner::new(*self.scanner.limits());
        self.state = State::Reading;
        true
    }

    /// Returns whether it waits for a request of which nothing has come, behind one that was answered.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, State::Reading) && self.exchanges.has_begun() && self.buffer.is_empty() && !self.readable
    }

    /// Returns whether a part of an interim response was written, which no other response can follow.
    pub(super) fn has_begun_interim(&self) -> bool {
        matches!(&self.state, State::Receiving(receiving) if receiving.has_begun_interim())
    }

    /// Returns whether there is more to read than was read.
    fn has_more(&self) -> bool {
        matches!(self.state, State::Reading) && (self.exchanges.has_unscanned() || self.readable)
    }
}

/// Returns whether the client waits for a 100 before it sends its content (RFC 9110 10.1.1).
fn expects_interim(request: &Request) -> Result<AsksForContent, Box<Response>> {
    // "A server that receives a 100-continue expectation in an HTTP/1.0 request MUST ignore that expectation."
    let mut expectations =
        request.field_values("Expect").filter(|_| request.version() == HttpVersion::Http11).peekable();
    if expectations.peek().is_none() {
        return Ok(AsksForContent::No);
    }
    match expectations.all(|value| value.eq_ignore_ascii_case(b"100-continue")) {
        true => Ok(AsksForContent::Yes),
        false => Err(refuse(417, "Only 100-continue can be expected here.")), // RFC 9110 15.5.18
    }
}

impl<C: Send + 'static> Reactor<C> {
    /// Reads requests as far as they have arrived, and answers them or asks the application.
    pub(super) fn read(&mut self, key: Key, now: Instant) {
        for _ in 0..MAX_AT_ONCE {
            let Some(handshake) = self.handshakes.get_mut(key) else { return };
            let (rules, scratch) = (&self.rules, &mut self.scratch);
            match contained(|| handshake.read(rules, scratch, now)) {
                Ok(Next::Wait) => return self.after(key),
                Ok(Next::Decide(request)) => {
                    self.renew_deadline(key);
                    return self.decide(key, request);
                }
                Ok(Next::Answer(request)) => self.answer_plain(key, request),
                Err(panic) => return self.hook_panicked(key, &panic),
            }
            // The response is written, and the connection stays open: the next request may have come.
            if !self.handshakes.get_mut(key).is_some_and(|handshake| handshake.has_more()) {
                return self.after(key);
            }
        }
        self.unread.push(key);
        self.after(key);
    }

    /// Has the application answer a plain request.
    fn answer_plain(&mut self, key: Key, request: Request) {
        let Some(server) = self.server.get() else { return self.reply(key, &overloaded()) };
        match &self.rules.http {
            Http::Refused => self.reply(key, &upgrade_required()),
            Http::Now(hook) => match contained(|| hook(&request, server)) {
                Ok(response) => self.reply(key, &response),
                Err(panic) => self.hook_panicked(key, &panic),
            },
            Http::Later(hook) => {
                let pending = PendingResponse::new(key, self.handle.clone(), server.clone());
                if let Err(panic) = contained(|| hook(request, pending)) {
                    self.hook_panicked(key, &panic);
                }
            }
        }
    }

    fn reply(&mut self, key: Key, response: &Response) {
        if let Some(handshake) = self.handshakes.get_mut(key)
            && matches!(handshake.state, State::Answering { .. })
        {
            handshake.respond(response);
        }
    }

    /// Sends a response that the application made on another thread, and goes on with what came behind its request.
    pub(super) fn responded(&mut self, key: Key, response: &Response, now: Instant) {
        self.reply(key, response);
        self.read(key, now);
    }

    /// Ends the connections that wait for another plain request, and the others behind their next response: their clients are
    /// to go where connections are accepted.
    pub(super) fn end_exchanges(&mut self) {
        self.rules.keeps_alive = false;
        for index in 0..self.handshakes.entries() {
            let Some(key) = self.handshakes.key_at(index) else { continue };
            match self.handshakes.get_mut(key) {
                Some(handshake) if handshake.is_idle() => self.remove(key),
                Some(handshake) => handshake.exchanges.end_behind_response(),
                None => {}
            }
        }
    }

    /// Goes on with connections that had more requests than are answered at once.
    pub(super) fn read_more(&mut self, now: Instant) {
        for key in std::mem::take(&mut self.unread) {
            self.contain(key, |reactor| reactor.read(key, now));
        }
    }
}
