//! Reads the head of a request.

use super::{HttpVersion, Parts, Request};
use crate::protocol::http::head::{Head, Span, scan_whole};
use crate::protocol::http::request_line::{as_http_1_1, is_target, names_other_version};
use crate::protocol::http::response::{Response, refuse};
use crate::protocol::http::scanner::{HeadError, HeadLimits, HeadScanner};
use crate::protocol::peer_addr::PeerAddr;

/// Up to 16 header lines are parsed without an allocation, which is enough for the request of a browser. Larger uses
/// more stack; smaller adds allocations.
const USUAL_HEADERS: usize = 16;

impl Request {
    /// Parses a complete head, including the empty line at its end, within the default [`HeadLimits`]. `addr` is the
    /// client's address.
    ///
    /// The error is the response to send. Only the syntax of the head is checked here, not whether it is an opening
    /// handshake.
    ///
    /// ```
    /// use threadbare::Request;
    ///
    /// let head = b"GET /chat HTTP/1.1\r\nHost: example.com\r\n\r\n";
    /// assert!(Request::parse(head, ([127, 0, 0, 1], 50_000).into()).is_ok());
    /// let refusal = Request::parse(b"hello\r\n\r\n", ([127, 0, 0, 1], 50_000).into()).expect_err("it is malformed");
    /// assert_eq!(refusal.status(), 400);
    /// ```
    pub fn parse(head: &[u8], addr: PeerAddr) -> Result<Request, Box<Response>> {
        Request::parse_within(head, addr, &HeadLimits::default())
    }

    pub(crate) fn parse_within(head: &[u8], addr: PeerAddr, limits: &HeadLimits) -> Result<Request, Box<Response>> {
        Request::parse_scanned(head, &scan_whole(head, HeadScanner::new(*limits))?, addr)
    }

    /// Parses a head whose end `scanner` has found, within the limits of `scanner`.
    pub(crate) fn parse_scanned(head: &[u8], scanner: &HeadScanner, addr: PeerAddr) -> Result<Request, Box<Response>> {
        let request = match Request::read(head, scanner, addr.clone()) {
            Err(Unread::Version) => match as_http_1_1(head) {
                Some(head) => Request::read(&head, scanner, addr)?,
                None => return Err(Unread::Version.into()),
            },
            request => request?,
        };
        if request.target().len() > scanner.limits().max_target_size {
            return Err(HeadError::TargetTooLong.into());
        }
        if !is_target(request.target().as_bytes()) {
            return Err(refuse(400, "The request target is malformed."));
        }
        Ok(request)
    }

    /// Parses a request that this client sends. It has no limits, because the application made it, and a target that a
    /// server may refuse.
    pub(crate) fn of_client(head: &[u8], addr: PeerAddr) -> Result<Request, Box<Response>> {
        let limits = HeadLimits { max_head_size: usize::MAX, max_headers: usize::MAX, max_target_size: usize::MAX };
        Ok(Request::read(head, &scan_whole(head, HeadScanner::new(limits))?, addr)?)
    }

    /// Parses a head, and checks its syntax but not its target.
    fn read(head: &[u8], scanner: &HeadScanner, addr: PeerAddr) -> Result<Request, Unread> {
        let (mut usual, mut many) = ([httparse::EMPTY_HEADER; USUAL_HEADERS], Vec::new());
        let lines = scanner.header_lines()?;
        let headers = match usual.get_mut(..lines) {
            Some(headers) => headers,
            None => {
                many.resize(lines, httparse::EMPTY_HEADER);
                &mut many
            }
        };
        let mut parsed = httparse::Request::new(headers);
        // RFC 9112 2.2, 3, 5: httparse also refuses obs-fold (5.2) and whitespace before the colon (5.1).
        parsed.parse(head).map_err(|error| match error {
            httparse::Error::Version if names_other_version(head) => Unread::Version,
            _ => Unread::Head(HeadError::Malformed),
        })?;

        let method = parsed.method.unwrap_or_default();
        let target = parsed.path.unwrap_or_default();
        let parts = Parts {
            method: Span::of(method.as_bytes(), head)?,
            target: Span::of(target.as_bytes(), head)?,
            version: if parsed.version == Some(1) { HttpVersion::Http11 } else { HttpVersion::Http10 },
            head: Head::new(head, parsed.headers)?,
            addr,
            socket_addr: None,
            data: None,
            tls: None,
            body: Box::default(),
            #[cfg(all(target_os = "linux", feature = "handover"))]
            handed_over: None,
        };
        Ok(Request { parts: Box::new(parts) })
    }
}

/// Why a request head can not be read.
enum Unread {
    /// It has another version than HTTP/1.0 and HTTP/1.1.
    Version,
    Head(HeadError),
}

impl From<HeadError> for Unread {
    fn from(error: HeadError) -> Unread {
        Unread::Head(error)
    }
}

impl From<Unread> for Box<Response> {
    fn from(unread: Unread) -> Box<Response> {
        match unread {
            Unread::Version => refuse(505, "HTTP/1.1 is spoken here."), // RFC 9110 15.6.6
            Unread::Head(error) => error.into(),
        }
    }
}
