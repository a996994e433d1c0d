//! The opening handshake with a fixed `Sec-WebSocket-Key`, so that the floor need not compute `Sec-WebSocket-Accept`.

use crate::deflated;

/// `Sec-WebSocket-Accept` for the key of the example in RFC 6455 1.3.
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The end of a head.
pub const END: &[u8] = b"\r\n\r\n";

/// A client's request.
pub struct Request {
    text: String,
    deflate: bool,
}

impl Request {
    #[must_use]
    pub fn new(host: &str) -> Request {
        Request { text: request(host, ""), deflate: false }
    }

    /// A request that offers permessage-deflate, and fails if the server declines.
    #[must_use]
    pub fn with_deflate(host: &str) -> Request {
        let extensions = format!("Sec-WebSocket-Extensions: {}\r\n", deflated::OFFER);
        Request { text: request(host, &extensions), deflate: true }
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Checks that a complete response head accepts the request.
    ///
    /// # Errors
    ///
    /// It does not; the text says why.
    pub fn check(&self, head: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(head);
        let first = text.lines().next().unwrap_or_default();
        if !first.starts_with("HTTP/1.1 101") {
            return Err(format!("the server refuses the handshake: {first:?}"));
        }
        if !text.contains(ACCEPT) {
            return Err("the server's Sec-WebSocket-Accept is wrong or missing".to_owned());
        }
        let extensions = text.lines().filter_map(|line| line.split_once(':'));
        let mut extensions = extensions.filter(|(name, _)| name.eq_ignore_ascii_case("Sec-WebSocket-Extensions"));
        match (extensions.next(), self.deflate) {
            (None, false) => Ok(()),
            (Some((_, value)), true) if deflated::is_accepted(value.trim()) => Ok(()),
            (None, true) => Err("the server does not accept permessage-deflate".to_owned()),
            (Some((_, value)), _) => Err(format!("the server responds with the extension {:?}", value.trim())),
        }
    }
}

fn request(host: &str, extensions: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{extensions}\r\n"
    )
}

/// The floor's response.
#[must_use]
pub fn response(deflate: bool) -> String {
    response_to(ACCEPT, deflate)
}

/// The response with this `Sec-WebSocket-Accept`.
#[must_use]
pub fn response_to(accept: &str, deflate: bool) -> String {
    let extensions = if deflate { format!("Sec-WebSocket-Extensions: {}\r\n", deflated::OFFER) } else { String::new() };
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{extensions}\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_that_does_not_match_the_request_is_an_error() {
        let (plain, deflate) = (Request::new("h"), Request::with_deflate("h"));
        assert_eq!(plain.check(response(false).as_bytes()), Ok(()));
        assert_eq!(deflate.check(response(true).as_bytes()), Ok(()));
        assert!(plain.check(response(true).as_bytes()).is_err());
        assert!(deflate.check(response(false).as_bytes()).is_err());
        assert!(plain.check(response(false).replace("s3pP", "s3pp").as_bytes()).is_err());
        assert!(plain.check(b"HTTP/1.1 400 Bad Request\r\n\r\n").is_err());
    }
}
