//! Whose connection a handshake is: the address of the client, as listed proxies tell it, and the address under which the
//! connection counts.

use std::net::IpAddr;
use std::sync::Arc;

use crate::protocol::PeerAddr;
use crate::protocol::http::{ForwardedHeader, Request};
use crate::protocol::proxy_header::ProxyHeaderError;
use crate::protocol::trusted::Trusted;
use crate::server::reactor::proxy_header::AwaitedHeader;
use crate::worker::connection_limit::ConnectionLimit;

/// Which proxies are believed, and how many connections each client may have.
pub(in crate::server) struct ClientRules {
    /// Their connections begin with a PROXY header.
    pub(in crate::server) proxy_protocol: Trusted,
    /// Their requests have this header.
    pub(in crate::server) forwarded: Option<(ForwardedHeader, Trusted)>,
    pub(in crate::server) connection_limit: Arc<ConnectionLimit>,
    /// Whether connections keep the heads of their requests, for another process.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(in crate::server) keeps_heads: bool,
}

/// The addresses of a connection.
#[derive(Debug)]
pub(in crate::server) struct ClientAddr {
    /// The other end of the socket.
    socket: PeerAddr,
    /// Who sends the requests: the other end of the socket, or the client that a PROXY header names.
    sender: PeerAddr,
    /// The client, as far as it is known. Once a head is read it is final, and counted.
    addr: PeerAddr,
    /// The address under which the connection counts. A proxy's is not counted before it says whose connection it is.
    counted: Option<IpAddr>,
    /// The PROXY header, until it has arrived whole.
    header: Option<AwaitedHeader>,
}

/// What came of the bytes at the start of a connection.
pub(in crate::server) enum HeaderStep<'b> {
    /// The PROXY header is incomplete.
    Incomplete,
    /// These bytes are of the request: there is no PROXY header, or they are behind it.
    Request(&'b [u8]),
    /// The proxy sent something else.
    Wrong(ProxyHeaderError),
    /// The client has too many connections. These bytes are behind the header.
    TooMany(&'b [u8]),
}

/// Why a request is refused that came through a proxy.
#[derive(Debug)]
pub(in crate::server) enum Refused {
    /// The client has too many connections.
    TooMany,
    /// The header that names it is malformed.
    Malformed,
}

impl ClientRules {
    /// Counts one more connection; `None` if there are too many already.
    pub(in crate::server) fn admit(&self, socket: &PeerAddr) -> Option<ClientAddr> {
        let header = self.proxy_protocol.contains(socket).then(AwaitedHeader::default);
        let counted = if header.is_some() { None } else { self.counted(socket) };
        self.connection_limit.acquire(counted).then(|| ClientAddr {
            counted,
            header,
            ..ClientAddr::turned_away(socket.clone())
        })
    }

    /// The address under which a connection counts before its head is read. A proxy that names the client in the head is
    /// not counted.
    fn counted(&self, sender: &PeerAddr) -> Option<IpAddr> {
        let is_proxy = self.forwarded.as_ref().is_some_and(|(_, proxies)| proxies.contains(sender));
        sender.ip().filter(|_| !is_proxy)
    }

    /// Counts one connection less.
    pub(in crate::server) fn release(&self, client: &ClientAddr) {
        self.connection_limit.release(client.counted);
    }
}

impl ClientAddr {
    /// The addresses of a connection that is not counted, and gets no more than a refusal.
    pub(in crate::server) fn turned_away(socket: PeerAddr) -> ClientAddr {
        ClientAddr { sender: socket.clone(), addr: socket.clone(), socket, counted: None, header: None }
    }

    /// The client's address, as far as it is known.
    pub(in crate::server) fn addr(&self) -> &PeerAddr {
        &self.addr
    }

    /// The address of who sends the requests.
    pub(in crate::server) fn sender(&self) -> &PeerAddr {
        &self.sender
    }

    /// Whether a PROXY header is missing.
    pub(in crate::server) fn awaits_header(&self) -> bool {
        self.header.is_some()
    }

    /// Takes the PROXY header off the bytes that arrived on the socket, if one is to come, and counts its client.
    pub(in crate::server) fn take_header<'b>(&mut self, rules: &ClientRules, bytes: &'b [u8]) -> HeaderStep<'b> {
        let Some(header) = &mut self.header else { return HeaderStep::Request(bytes) };
        match header.receive(bytes) {
            Ok(None) => HeaderStep::Incomplete,
            Err(error) => HeaderStep::Wrong(error),
            Ok(Some((header, behind))) => {
                self.header = None;
                if let Some(client) = header.client() {
                    self.sender = PeerAddr::from(client);
                    self.addr = self.sender.clone();
                }
                let counted = rules.counted(&self.sender);
                if self.recount(rules, counted) { HeaderStep::Request(behind) } else { HeaderStep::TooMany(behind) }
            }
        }
    }

    /// Finds the client of a request, counts it, and tells the request.
    pub(in crate::server) fn read_head(&mut self, rules: &ClientRules, request: &mut Request) -> Result<(), Refused> {
        if let Some((header, proxies)) = &rules.forwarded {
            let client = header.client(request, &self.sender, proxies).map_err(|_| Refused::Malformed)?;
            self.addr = client.clone();
            request.set_client_addr(client);
        }
        if self.addr != self.socket {
            request.set_socket_addr(self.socket.clone());
        }
        if self.recount(rules, self.addr.ip()) { Ok(()) } else { Err(Refused::TooMany) }
    }

    /// Counts the connection under another address; `false` if there are too many from there.
    fn recount(&mut self, rules: &ClientRules, address: Option<IpAddr>) -> bool {
        let counted = rules.connection_limit.recount(self.counted, address);
        if counted {
            self.counted = address;
        }
        counted
    }

    /// Takes the address, under which the connection counts from now on.
    pub(in crate::server) fn into_addr(self) -> PeerAddr {
        debug_assert_eq!(self.counted, self.addr.ip(), "it is released by its address");
        self.addr
    }

    /// The bytes of memory that an incomplete header takes.
    pub(in crate::server) fn memory(&self) -> usize {
        self.header.as_ref().map_or(0, AwaitedHeader::memory)
    }
}
