//! One connection during its opening handshake.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Instant;

use mio::Interest;

use crate::error::Chain;
use crate::protocol::deflate::{DeflateOption, NegotiatedExtension};
use crate::protocol::handshake::server::{Parsed, Serves};
use crate::protocol::handshake::{Accept, HostPolicy, OriginPolicy, server};
use crate::protocol::http::{HeadLimits, HeadScanner, Request, Response, asks_for_head, refuse};
use crate::protocol::receive::Receive;
use crate::server::control::ServerHandle;
use crate::server::listener::layer::Layer;
use crate::server::reactor::client_addr::{ClientAddr, ClientRules, HeaderStep, Refused};
use crate::server::reactor::exchange::{Exchanges, Receiving};
use crate::server::reactor::metrics::HandshakeMetrics;
use crate::server::reactor::refusal_log::RefusalLog;
use crate::transport::budget::Charge;
use crate::transport::stream::Stream;
use crate::transport::stream::attempt::{Io, attempt};
use crate::transport::stream::byte_stream::{ByteStream, ShutdownProgress};
use crate::worker::handle::info::Outcome;
use crate::worker::slab::Key;

/// At most 64 KiB of input are discarded after a refusal, before the socket is closed. Larger reads more from a client
/// that keeps sending; smaller may lose the refusal, because the kernel resets a connection that is closed with unread
/// input.
const MAX_DRAINED: usize = 64 << 10;

/// The kernel holds about 128 KiB of a larger response. Larger hides the progress of a slow client for longer than its
/// deadline; smaller slows a fast client that is far away.
const SEND_BUFFER: usize = 128 << 10;

/// At most 16 KiB are taken by one read. Larger uses more memory; smaller needs more reads for a large head.
pub(in crate::server) const READ_SIZE: usize = 16 << 10;

/// Decides about requests: the server's policies and the application's hooks.
pub(in crate::server) struct Rules {
    pub(in crate::server) limits: HeadLimits,
    pub(in crate::server) subprotocols: Vec<Arc<String>>,
    pub(in crate::server) origins: OriginPolicy,
    pub(in crate::server) hosts: HostPolicy,
    pub(in crate::server) clients: ClientRules,
    pub(in crate::server) refusal_log: RefusalLog,
    pub(in crate::server) deflate: DeflateOption,
    pub(in crate::server) decide: Decide,
    pub(in crate::server) http: Http,
    pub(in crate::server) max_body_size: usize,
    /// Whether a connection stays open behind a plain response. It does not once the server accepts no more connections.
    pub(in crate::server) keeps_alive: bool,
    /// That of the listeners without one.
    pub(in crate::server) layer: Layer,
    pub(in crate::server) metrics: Arc<HandshakeMetrics>,
}

/// The hook for [`Decide::Now`].
type DecideNow = Box<dyn Fn(&Request) -> Result<Accept, Response> + Send>;

/// How the application decides about an opening handshake.
pub(in crate::server) enum Decide {
    /// On the reactor's thread, at once.
    Now(DecideNow),
    /// From any thread, later.
    Later(Box<dyn Fn(Request, super::pending::Pending) + Send>),
}

/// The hook for [`Http::Now`].
type AnswerNow = Box<dyn Fn(&Request, &ServerHandle) -> Response + Send>;

/// How the application answers plain requests.
pub(in crate::server) enum Http {
    /// It does not: they are refused with 426.
    Refused,
    /// On the reactor's thread, at once.
    Now(AnswerNow),
    /// From any thread, later.
    Later(Box<dyn Fn(Request, super::pending_response::PendingResponse) + Send>),
}

/// A connection that is not established yet.
pub(in crate::server) struct Handshake<C> {
    pub(in crate::server) stream: Stream,
    pub(in crate::server) client: ClientAddr,
    pub(in crate::server) state: State<C>,
    /// The head as far as it has arrived, and the bytes after it.
    pub(super) buffer: Vec<u8>,
    pub(super) scanner: HeadScanner,
    /// The socket may have more to read than was read.
    pub(in crate::server) readable: bool,
    /// The socket reported that the client sends no more.
    pub(in crate::server) end_reported: bool,
    /// Whether it waits for its turn to take a step of the handshake of TLS.
    pub(in crate::server) step_due: bool,
    /// Whether the response has a body: the request's method is not HEAD.
    pub(super) wants_body: bool,
    /// How much of the response was written at the last deadline.
    pub(super) written_before: usize,
    /// The plain requests on this connection.
    pub(super) exchanges: Exchanges,
    /// Whether the deadline for the end of a refused handshake is set.
    pub(in crate::server) ending: bool,
    /// Whether it counts towards the limits on connections.
    pub(in crate::server) admitted: bool,
    /// The memory that it takes.
    pub(in crate::server) charge: Charge,
    /// The key under which the socket is registered with the poll, and the interests, if it is.
    pub(in crate::server) watched: Option<(Key, Interest)>,
    /// Whether anything was said to the client.
    pub(super) answered: bool,
    metrics: Arc<HandshakeMetrics>,
}

/// The state of a handshake.
pub(in crate::server) enum State<C> {
    /// The head is incomplete.
    Reading,
    /// The application decides. The bytes after the head wait in the buffer.
    Deciding(Box<Request>),
    /// The content of a plain request is incomplete.
    Receiving(Box<Receiving>),
    /// The application answers a plain request, which takes `size` bytes of memory.
    Answering { size: usize },
    /// The response is being written. Then the connection is established, or ends.
    Writing { answer: Vec<u8>, written: usize, established: Option<Box<Established<C>>> },
    /// FIN was sent. `left` more bytes of input are discarded.
    Draining { left: usize },
    /// The connection is established, and a worker is to take it over.
    Ready(Box<Established<C>>),
    /// The connection is to be dropped.
    Gone,
}

/// An established connection, with the application's part of it.
pub(in crate::server) struct Established<C> {
    pub(in crate::server) outcome: Outcome,
    pub(in crate::server) agreement: NegotiatedExtension,
    pub(in crate::server) receive: Option<Receive>,
    pub(in crate::server) app: C,
    /// The bytes of memory of the request.
    size: usize,
}

/// An accepted handshake: its outcome, and the response 101.
pub(in crate::server) struct Accepted {
    answer: Vec<u8>,
    pub(in crate::server) outcome: Outcome,
    agreement: NegotiatedExtension,
    receive: Option<Receive>,
    /// The bytes of memory of the request.
    size: usize,
}

/// What the reactor is to do next.
pub(in crate::server) enum Next {
    /// Wait for the socket, or for the application.
    Wait,
    /// Ask the application.
    Decide(Request),
    /// Have the application answer.
    Answer(Request),
}

impl Rules {
    /// Makes the response to a handshake from the application's decision. The error is the response of a refusal.
    pub(in crate::server) fn agree(
        &self,
        request: &Request,
        decision: Result<Accept, Response>,
    ) -> Result<Accepted, Box<Response>> {
        let mut accept = decision?;
        if accept.chosen_subprotocol().is_none() && !self.subprotocols.is_empty() {
            let spoken: Vec<&str> = self.subprotocols.iter().map(|name| name.as_str()).collect();
            if let Some(chosen) = server::select_subprotocol(request, &spoken) {
                accept = accept.subprotocol(chosen);
            }
        }
        let (agreement, extensions) = self.deflate.accept(request);
        let answer = server::respond_with(request, &accept, extensions.as_deref()).map_err(|error| {
            log::error!("{}: the handshake could not be accepted: {}", request.addr(), Chain(&error));
            Response::new(500)
        })?;
        let subprotocol = accept.chosen_subprotocol().map(|chosen| {
            let known = self.subprotocols.iter().find(|known| known.as_str() == chosen);
            known.cloned().unwrap_or_else(|| Arc::new(chosen.to_owned()))
        });
        let outcome = self.with_head(Outcome::new(subprotocol, accept.take_data()), request);
        Ok(Accepted { answer, outcome, agreement, receive: accept.chosen_receive(), size: request.size() })
    }
}

impl<C> Handshake<C> {
    pub(in crate::server) fn new(
        stream: Stream,
        client: ClientAddr,
        rules: &Rules,
        charge: Charge,
        admitted: bool,
    ) -> Handshake<C> {
        let scanner = HeadScanner::new(rules.limits);
        Handshake {
            stream,
            client,
            state: State::Reading,
            buffer: Vec::new(),
            scanner,
            readable: false,
            end_reported: false,
            step_due: false,
            wants_body: true,
            written_before: 0,
            exchanges: Exchanges::default(),
            ending: false,
            admitted,
            charge,
            watched: None,
            answered: false,
            metrics: rules.metrics.clone(),
        }
    }

    /// The bytes of memory that it takes.
    pub(in crate::server) fn memory(&self) -> usize {
        let state = match &self.state {
            State::Reading | State::Draining { .. } | State::Gone => 0,
            State::Deciding(request) => request.size(),
            State::Receiving(receiving) => receiving.memory(),
            State::Answering { size } => *size,
            State::Writing { answer, .. } => answer.capacity(),
            State::Ready(established) => established.size,
        };
        self.buffer.capacity() + self.client.memory() + state + self.stream.memory()
    }

    /// Takes the bytes that arrived after the head: the first frames.
    pub(in crate::server) fn take_leftover(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// The interests that the poll should report. Writability is of interest only when a response could not be written
    /// whole.
    pub(in crate::server) fn interests(&self) -> Interest {
        match &self.state {
            State::Writing { .. } => Interest::READABLE | Interest::WRITABLE,
            State::Receiving(receiving) if receiving.wants_room() => Interest::READABLE | Interest::WRITABLE,
            // The handshake of TLS has something to say.
            _ if self.stream.pending_bytes() > 0 => Interest::READABLE | Interest::WRITABLE,
            _ => Interest::READABLE,
        }
    }

    /// Reads from a socket that is readable, and returns what the reactor is to do next.
    pub(in crate::server) fn read(&mut self, rules: &Rules, scratch: &mut [u8; READ_SIZE], now: Instant) -> Next {
        if self.client.awaits_header()
            && let Some(next) = self.read_proxy_header(rules, scratch, now)
        {
            return next;
        }
        while let State::Reading | State::Receiving(_) | State::Draining { .. } = self.state {
            if self.exchanges.take_unscanned() {
                match self.received(rules, &[], now) {
                    Next::Wait => continue,
                    next => return next,
                }
            }
            if self.exchanges.has_begun() && !self.readable {
                break; // the answer before has left the poll to report more
            }
            match attempt(|| self.stream.read(scratch)) {
                Io::Done(size) => {
                    // After the poll has reported the end, read until it is found: no other event will report it.
                    self.readable = self.stream.has_more(size, scratch.len()) || self.end_reported;
                    let next = self.received(rules, &scratch[..size], now);
                    if !matches!(next, Next::Wait) || !self.readable {
                        return next;
                    }
                }
                Io::WouldBlock => {
                    self.readable = false;
                    break;
                }
                Io::Failed(_) if self.stream.bypass_if_text() => {
                    self.metrics.tls_failed.add(1);
                    self.refuse(&Response::new(400).text("this port speaks TLS: use wss:// or https://\n"));
                }
                // The kernel would answer what arrives after a close with RST, and the client might lose the alert.
                Io::Failed(error) if matches!(self.state, State::Reading) && self.stream.bypass_if_alerted() => {
                    log::debug!("{}: TLS failed: {error}", self.client.addr());
                    self.metrics.tls_failed.add(1);
                    self.answer(Vec::new(), None);
                }
                // A client that closes before the response needs none.
                Io::End | Io::Failed(_) => self.state = State::Gone,
            }
        }
        Next::Wait
    }

    fn received(&mut self, rules: &Rules, bytes: &[u8], now: Instant) -> Next {
        match &mut self.state {
            State::Draining { left } => {
                *left = left.saturating_sub(bytes.len());
                if *left == 0 {
                    self.state = State::Gone;
                }
            }
            State::Receiving(_) => return self.receive_content(bytes),
            State::Reading => {
                // A head that arrives in one read is parsed without a copy.
                let mut before = std::mem::take(&mut self.buffer);
                let received = if before.is_empty() {
                    bytes
                } else {
                    before.extend_from_slice(bytes);
                    &before
                };
                self.wants_body = !asks_for_head(received);
                match self.scanner.scan(received) {
                    Ok(None) if before.is_empty() => {
                        self.buffer = bytes.to_vec();
                        self.exchanges.arrive();
                    }
                    Ok(None) => self.buffer = before,
                    Ok(Some(size)) => {
                        let (head, rest) = received.split_at_checked(size).unwrap_or((received, &[]));
                        self.buffer = rest.to_vec();
                        return self.judge(rules, head, now);
                    }
                    Err(error) => self.refuse(&Box::<Response>::from(error)),
                }
            }
            _ => {}
        }
        Next::Wait
    }

    /// Reads the PROXY header from the socket, before TLS and HTTP see anything. What has arrived behind it goes to them.
    /// `None` if they are to read on.
    fn read_proxy_header(&mut self, rules: &Rules, scratch: &mut [u8; READ_SIZE], now: Instant) -> Option<Next> {
        while let State::Reading = self.state {
            let size = match attempt(|| self.stream.read_socket(scratch)) {
                Io::Done(size) => size,
                Io::WouldBlock => {
                    self.readable = false;
                    return Some(Next::Wait);
                }
                Io::End | Io::Failed(_) => {
                    self.state = State::Gone;
                    break;
                }
            };
            self.readable = size == scratch.len() || self.end_reported;
            match self.client.take_header(&rules.clients, &scratch[..size]) {
                HeaderStep::Incomplete if self.readable => {}
                HeaderStep::Incomplete => return Some(Next::Wait),
                HeaderStep::Request(bytes) if self.stream.begin_with(bytes) => return None,
                HeaderStep::Request([]) => return Some(Next::Wait).filter(|_| !self.readable),
                HeaderStep::Request(bytes) => {
                    let next = self.received(rules, bytes, now);
                    return Some(next).filter(|next| !matches!(next, Next::Wait) || !self.readable);
                }
                // An answer would tell the peer what is spoken here, and a proxy could not read it.
                HeaderStep::Wrong(error) => {
                    rules.refusal_log.log_proxy_header(self.client.addr(), error, now);
                    self.state = State::Gone;
                }
                HeaderStep::TooMany(bytes) => {
                    // With TLS, it is told once that is there.
                    self.stream.begin_with(bytes);
                    self.refuse(&overloaded());
                }
            }
        }
        None
    }

    /// Parses a complete head, and finds out whose it is.
    fn parse(&mut self, rules: &Rules, head: &[u8], serves: Serves) -> Result<Parsed, Box<Response>> {
        let mut parsed = server::parse_scanned(head, &self.scanner, self.client.sender().clone(), serves)?;
        let (Parsed::Plain(request) | Parsed::Upgrade(request)) = &mut parsed;
        match self.client.read_head(&rules.clients, request) {
            Ok(()) => Ok(parsed),
            Err(Refused::TooMany) => Err(Box::new(overloaded())),
            Err(Refused::Malformed) => Err(refuse(400, "Forwarded is malformed.")),
        }
    }

    /// Applies the policies to a complete head.
    fn judge(&mut self, rules: &Rules, head: &[u8], now: Instant) -> Next {
        let serves = if matches!(rules.http, Http::Refused) { Serves::Upgrades } else { Serves::AllRequests };
        #[cfg_attr(not(feature = "rustls-tls"), expect(unused_mut, reason = "TLS adds to the request"))]
        let mut parsed = match self.parse(rules, head, serves) {
            Ok(parsed) => parsed,
            Err(refusal) => {
                self.refuse(&refusal);
                return Next::Wait;
            }
        };
        #[cfg(feature = "rustls-tls")]
        match &mut parsed {
            // Other requests may follow on the connection.
            Parsed::Plain(request) => self.stream.tls_info().into_iter().for_each(|info| request.set_tls(info)),
            Parsed::Upgrade(request) => self.stream.take_tls_info().into_iter().for_each(|info| request.set_tls(info)),
        }
        let allowed = match &parsed {
            Parsed::Plain(request) => rules.hosts.check(request),
            // RFC 6455 4.2.2 and 10.2: an origin that is not acceptable is answered 403.
            Parsed::Upgrade(request) => rules.hosts.check(request).and_then(|()| rules.origins.check(request)),
        };
        match (allowed, parsed) {
            (Err(refusal), _) => {
                rules.refusal_log.log(self.client.addr(), &refusal, now);
                self.refuse(&refusal);
            }
            (Ok(()), Parsed::Plain(request)) => return self.plain(rules, request),
            (Ok(()), Parsed::Upgrade(request)) => {
                self.exchanges.arrive();
                return Next::Decide(request);
            }
        }
        Next::Wait
    }

    /// Accepts the handshake. The connection is established once the 101 is written.
    pub(in crate::server) fn accept(&mut self, accepted: Accepted, app: C) {
        let Accepted { answer, outcome, agreement, receive, size } = accepted;
        self.answer(answer, Some(Box::new(Established { outcome, agreement, receive, app, size })));
    }

    /// Answers with a response that ends the connection.
    pub(in crate::server) fn refuse(&mut self, refusal: &Response) {
        log::debug!("{}: handshake refused with {}", self.client.addr(), refusal.status());
        self.exchanges.end();
        self.respond(refusal);
    }

    pub(super) fn respond(&mut self, response: &Response) {
        let mut status = response.status();
        if let Err(error) = response.check() {
            log::error!("{}: a response is answered with 500: {error}", self.client.addr());
            status = 500;
        }
        self.metrics.count_response(status);
        let bytes = self.encode(response);
        if bytes.len() > SEND_BUFFER {
            self.stream.limit_send_buffer(SEND_BUFFER);
        }
        self.answer(bytes, None);
    }

    /// Returns whether the client has taken at least `size` bytes of a response since the last call, and one at least.
    pub(in crate::server) fn has_progressed(&mut self, size: usize) -> bool {
        match self.state {
            State::Writing { written, established: None, .. } => {
                let taken = written.saturating_sub(self.stream.pending_bytes());
                let before = std::mem::replace(&mut self.written_before, taken);
                taken.saturating_sub(before) >= size.max(1)
            }
            _ => false,
        }
    }

    fn answer(&mut self, answer: Vec<u8>, established: Option<Box<Established<C>>>) {
        self.answered = true;
        self.state = State::Writing { answer, written: 0, established };
        self.write();
    }

    /// Writes as much of the response as the socket takes.
    pub(in crate::server) fn write(&mut self) {
        let State::Writing { answer, written, established } = &mut self.state else { return };
        while *written < answer.len() {
            match attempt(|| self.stream.write(&answer[*written..])) {
                Io::Done(size) => *written += size,
                Io::WouldBlock => return,
                Io::End | Io::Failed(_) => {
                    self.state = State::Gone;
                    return;
                }
            }
        }
        self.state = match established.take() {
            Some(established) => State::Ready(established),
            None if self.await_next() => return,
            None => match self.stream.shutdown_write() {
                Ok(ShutdownProgress::Done) => State::Draining { left: MAX_DRAINED },
                // To be written when the socket has room.
                Ok(ShutdownProgress::Pending) => return,
                Err(_) => State::Gone,
            },
        };
    }

    /// Writes what the handshake of TLS has to say, after the socket reported room.
    pub(in crate::server) fn flush(&mut self) {
        if self.stream.pending_bytes() > 0
            && let Io::Failed(_) = attempt(|| self.stream.flush().map(|()| 1))
        {
            self.state = State::Gone;
        }
    }
}

/// The response 503 (RFC 9110 15.6.4), which says when to try again.
pub(in crate::server) fn overloaded() -> Response {
    Response::new(503).with("Retry-After", "5")
}
