//! One connection during its opening handshake.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::Interest;

use crate::protocol::deflate::{Agreement, Choice};
use crate::protocol::handshake::server::{self, Parsed};
use crate::protocol::handshake::{Accept, HostPolicy, OriginPolicy};
use crate::protocol::http::{HeadLimits, HeadScanner, Request, Response};
use crate::transport::stream::{Io, Stream, attempt};
use crate::worker::slots::Key;

/// Unread input that is thrown away behind a refusal, so that the client sees it: the kernel answers input to a closed
/// socket with RST, which takes what was sent from the client.
const MAX_DRAINED: usize = 64 << 10;

/// The most that one read takes.
pub(super) const READ_SIZE: usize = 16 << 10;

/// Decides about requests: the server's policies and the application's hooks.
pub(super) struct Rules {
    pub(super) limits: HeadLimits,
    pub(super) subprotocols: Vec<Arc<String>>,
    pub(super) origins: OriginPolicy,
    pub(super) hosts: HostPolicy,
    pub(super) deflate: Choice,
    pub(super) decide: Decide,
    pub(super) http: Box<dyn Fn(&Request) -> Response + Send>,
}

/// The hook of [`Decide::Now`].
type DecideNow = Box<dyn Fn(&Request) -> Result<Accept, Response> + Send>;

/// How the application decides about a request that is a handshake.
pub(super) enum Decide {
    /// On the thread that accepts.
    Now(DecideNow),
    /// From another thread, later.
    Later(Box<dyn Fn(Request, super::pending::Pending) + Send>),
}

/// A connection that is not established.
pub(super) struct Handshake<C> {
    pub(super) stream: Stream,
    pub(super) addr: SocketAddr,
    pub(super) state: State<C>,
    /// The head as far as it has arrived, and what came behind it.
    buffer: Vec<u8>,
    scanner: HeadScanner,
    /// The socket may have more to read than was read.
    pub(super) readable: bool,
    /// The socket reported that the client sends no more.
    pub(super) end_reported: bool,
    /// The request was not HEAD.
    wants_body: bool,
    /// The deadline of its end is set.
    pub(super) ending: bool,
    /// It counts towards the limits on connections.
    pub(super) admitted: bool,
    /// The name under which the poll knows the socket, if it does, and what it reports on.
    pub(super) watched: Option<(Key, Interest)>,
}

/// How far it has come.
pub(super) enum State<C> {
    /// The head is incomplete.
    Reading,
    /// The application decides; bytes that follow the head wait in the buffer.
    Deciding(Box<Request>),
    /// The answer goes out; then the connection is established, or ends.
    Writing { answer: Vec<u8>, written: usize, established: Option<Box<Established<C>>> },
    /// FIN is sent; so much more input is thrown away.
    Draining { left: usize },
    /// Established: to be handed to a worker.
    Ready(Box<Established<C>>),
    /// To be dropped.
    Gone,
}

/// An established connection, with the application's part of it.
pub(super) struct Established<C> {
    pub(super) subprotocol: Option<Arc<String>>,
    pub(super) agreement: Agreement,
    pub(super) app: C,
}

/// What the handshake agrees on, and the 101 that says so.
pub(super) struct Agreed {
    answer: Vec<u8>,
    subprotocol: Option<Arc<String>>,
    agreement: Agreement,
}

/// What the reactor is to do next.
pub(super) enum Next {
    /// Wait for the socket, or for the application.
    Wait,
    /// Ask the application.
    Decide(Request),
}

impl Rules {
    /// What is agreed on where the application's decision is this one.
    pub(super) fn agree(&self, request: &Request, decision: Result<Accept, Response>) -> Result<Agreed, Box<Response>> {
        let mut accept = decision?;
        if accept.chosen_subprotocol().is_none() && !self.subprotocols.is_empty() {
            let spoken: Vec<&str> = self.subprotocols.iter().map(|name| name.as_str()).collect();
            if let Some(chosen) = server::select_subprotocol(request, &spoken) {
                accept = accept.subprotocol(chosen);
            }
        }
        let (agreement, extensions) = self.deflate.accept(request);
        let answer = server::respond_with(request, &accept, extensions.as_deref()).map_err(|error| {
            log::error!("{}: the handshake could not be accepted: {error}", request.addr());
            Response::new(500)
        })?;
        let subprotocol = accept.chosen_subprotocol().map(|chosen| {
            let known = self.subprotocols.iter().find(|known| known.as_str() == chosen);
            known.cloned().unwrap_or_else(|| Arc::new(chosen.to_owned()))
        });
        Ok(Agreed { answer, subprotocol, agreement })
    }
}

impl<C> Handshake<C> {
    pub(super) fn new(stream: Stream, addr: SocketAddr, limits: &HeadLimits, admitted: bool) -> Handshake<C> {
        let scanner = HeadScanner::new(*limits);
        Handshake {
            stream,
            addr,
            state: State::Reading,
            buffer: Vec::new(),
            scanner,
            readable: false,
            end_reported: false,
            wants_body: true,
            ending: false,
            admitted,
            watched: None,
        }
    }

    /// The bytes that arrived behind the head: the first frames.
    pub(super) fn take_leftover(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// What the poll should report on. The socket has room for an answer, which is no news before one is stuck.
    pub(super) fn interests(&self) -> Interest {
        match self.state {
            State::Writing { .. } => Interest::READABLE | Interest::WRITABLE,
            _ => Interest::READABLE,
        }
    }

    /// The socket has something to read, or its end.
    pub(super) fn read(&mut self, rules: &Rules, scratch: &mut [u8; READ_SIZE]) -> Next {
        while let State::Reading | State::Draining { .. } = self.state {
            match attempt(|| self.stream.read(scratch)) {
                Io::Done(size) => {
                    // An end that was reported is read for; no other event will tell of it.
                    self.readable = size == scratch.len() || self.end_reported;
                    let next = self.received(rules, &scratch[..size]);
                    if matches!(next, Next::Decide(_)) || !self.readable {
                        return next;
                    }
                }
                Io::NotNow => {
                    self.readable = false;
                    break;
                }
                // Whoever hangs up before the answer needs none.
                Io::End | Io::Failed(_) => self.state = State::Gone,
            }
        }
        Next::Wait
    }

    fn received(&mut self, rules: &Rules, bytes: &[u8]) -> Next {
        match &mut self.state {
            State::Draining { left } => {
                *left = left.saturating_sub(bytes.len());
                if *left == 0 {
                    self.state = State::Gone;
                }
            }
            State::Reading => {
                // A head that arrives whole is read where it is.
                let mut before = std::mem::take(&mut self.buffer);
                let received = if before.is_empty() {
                    bytes
                } else {
                    before.extend_from_slice(bytes);
                    &before
                };
                match self.scanner.scan(received) {
                    Ok(None) if before.is_empty() => self.buffer = bytes.to_vec(),
                    Ok(None) => self.buffer = before,
                    Ok(Some(size)) => {
                        let (head, rest) = received.split_at_checked(size).unwrap_or((received, &[]));
                        self.buffer = rest.to_vec();
                        return self.judge(rules, head);
                    }
                    Err(error) => self.refuse(&Box::<Response>::from(error)),
                }
            }
            _ => {}
        }
        Next::Wait
    }

    /// The head is complete.
    fn judge(&mut self, rules: &Rules, head: &[u8]) -> Next {
        self.wants_body = !head.trim_ascii_start().starts_with(b"HEAD ");
        match server::parse_scanned(head, &self.scanner, self.addr) {
            Err(refusal) => self.refuse(&refusal),
            Ok(Parsed::Plain(request)) => match rules.hosts.check(&request) {
                Err(refusal) => self.refuse(&refusal),
                Ok(()) => {
                    let answer = (rules.http)(&request);
                    self.respond(&answer);
                }
            },
            // RFC 6455 4.2.2: an origin that is not acceptable is answered 403; 10.2 says why.
            Ok(Parsed::Upgrade(request)) => {
                match rules.hosts.check(&request).and_then(|()| rules.origins.check(&request)) {
                    Err(refusal) => self.refuse(&refusal),
                    Ok(()) => return Next::Decide(request),
                }
            }
        }
        Next::Wait
    }

    /// The application accepts: the connection is established once the 101 is out.
    pub(super) fn accept(&mut self, agreed: Agreed, app: C) {
        let established = Established { subprotocol: agreed.subprotocol, agreement: agreed.agreement, app };
        self.answer(agreed.answer, Some(Box::new(established)));
    }

    /// Answers with a response that ends the connection.
    pub(super) fn refuse(&mut self, refusal: &Response) {
        log::debug!("{}: handshake refused with {}", self.addr, refusal.status());
        self.respond(refusal);
    }

    fn respond(&mut self, response: &Response) {
        // RFC 9110 9.3.2: the answer to HEAD has no body, though it says how long that would be.
        let bytes = if self.wants_body { response.encode() } else { response.encode_head() };
        self.answer(bytes, None);
    }

    fn answer(&mut self, answer: Vec<u8>, established: Option<Box<Established<C>>>) {
        self.state = State::Writing { answer, written: 0, established };
        self.write();
    }

    /// Writes the answer as far as the socket takes it.
    pub(super) fn write(&mut self) {
        let State::Writing { answer, written, established } = &mut self.state else { return };
        while *written < answer.len() {
            match attempt(|| self.stream.write(&answer[*written..])) {
                Io::Done(size) => *written += size,
                Io::NotNow => return,
                Io::End | Io::Failed(_) => {
                    self.state = State::Gone;
                    return;
                }
            }
        }
        self.state = match established.take() {
            Some(established) => State::Ready(established),
            None if self.stream.shutdown_write().is_ok() => State::Draining { left: MAX_DRAINED },
            None => State::Gone,
        };
    }
}
