//! HTTP requests, and responses that must arrive complete and be followed by FIN, not by RST.

use std::net::{Shutdown, SocketAddr};

use super::Client;

/// A response after which the server closed the connection.
#[derive(Debug)]
pub struct HttpResponse {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl HttpResponse {
    /// Parses everything that was received on a connection as exactly one response.
    pub fn parse(bytes: &[u8]) -> HttpResponse {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no complete head: {:?}", bytes.escape_ascii().to_string())) + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).expect("a head in UTF-8");
        assert!(head.starts_with("HTTP/1.1 "), "{head}");
        let status = head[9..12].parse().expect("a status");
        HttpResponse { status, head, body: bytes[end..].to_vec() }
    }

    /// The values of all header lines of this name.
    pub fn header_values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The value of the header line of this name; panics if there are two.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.header_values(name);
        let value = values.next();
        assert_eq!(values.next(), None, "{name} is repeated: {}", self.head);
        value
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    /// Asserts `Connection: close` in one line, a `Date`, and a body as long as `Content-Length` says; no body in a response to `HEAD`.
    pub fn assert_complete(&self, with_body: bool) {
        let options = self.header("Connection").expect("one line").split(", ");
        assert!(options.into_iter().any(|option| option == "close"), "{}", self.head);
        assert!(self.header("Date").is_some_and(|date| date.ends_with(" GMT")), "{}", self.head);
        let length: usize = self.header("Content-Length").expect("a length").parse().expect("a number");
        assert_eq!(self.body.len(), if with_body { length } else { 0 }, "{}", self.head);
    }
}

impl Client {
    /// Receives a complete response, followed by FIN.
    pub fn response(&mut self) -> HttpResponse {
        let response = HttpResponse::parse(&self.read_to_end());
        response.assert_complete(true);
        response
    }

    /// As [`response`](Client::response), to a `HEAD` request.
    pub fn response_to_head(&mut self) -> HttpResponse {
        let response = HttpResponse::parse(&self.read_to_end());
        response.assert_complete(false);
        response
    }

    /// Receives a response whose length its head tells, and nothing behind it.
    pub fn next_response(&mut self) -> HttpResponse {
        let head = self.head();
        let mut response = HttpResponse::parse(head.as_bytes());
        let length = response.header("Content-Length").map_or(0, |length| length.parse().expect("a number"));
        while self.buffer.len() < length {
            assert!(self.read() > 0, "the connection ended inside a response: {head}");
        }
        response.body = self.buffer.drain(..length).collect();
        response
    }

    /// As [`next_response`](Client::next_response), to a `HEAD` request.
    pub fn next_response_to_head(&mut self) -> HttpResponse {
        HttpResponse::parse(self.head().as_bytes())
    }

    /// Sends FIN.
    pub fn shutdown_write(&self) {
        self.stream.shutdown(Shutdown::Write).expect("a socket");
    }
}

/// Sends `bytes` in one write on a new connection, and receives the response.
pub fn send_request(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> HttpResponse {
    let mut client = Client::tcp(addr);
    client.send(bytes.as_ref());
    client.response()
}

/// As [`send_request`], with one write for each byte.
pub fn send_request_bytewise(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> HttpResponse {
    let mut client = Client::tcp(addr);
    for byte in bytes.as_ref() {
        client.send(&[*byte]);
    }
    client.response()
}

/// The request of an opening handshake, whose lines a test can change.
#[derive(Clone)]
pub struct UpgradeRequest {
    pub request_line: String,
    pub headers: Vec<(&'static str, String)>,
}

impl UpgradeRequest {
    pub fn new() -> UpgradeRequest {
        let headers = [
            ("Host", "localhost"),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
        ];
        UpgradeRequest {
            request_line: "GET / HTTP/1.1".into(),
            headers: headers.into_iter().map(|(name, value)| (name, value.into())).collect(),
        }
    }

    /// Replaces the request line.
    pub fn request_line(mut self, line: impl Into<String>) -> UpgradeRequest {
        self.request_line = line.into();
        self
    }

    /// Appends a header line.
    pub fn add(mut self, name: &'static str, value: impl Into<String>) -> UpgradeRequest {
        self.headers.push((name, value.into()));
        self
    }

    /// Removes the header lines of this name.
    pub fn remove(mut self, name: &str) -> UpgradeRequest {
        self.headers.retain(|(known, _)| *known != name);
        self
    }

    /// Replaces the header lines of this name by one.
    pub fn replace(self, name: &'static str, value: impl Into<String>) -> UpgradeRequest {
        self.remove(name).add(name, value)
    }

    pub fn head(&self) -> String {
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{}\r\n{headers}\r\n", self.request_line)
    }
}
