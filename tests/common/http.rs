//! HTTP responses as a client must see them: whole, and followed by FIN, not by RST.

use std::net::{Shutdown, SocketAddr};

use super::Client;

/// A response that ended its connection.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads everything that came before the end of the stream as exactly one response.
    pub fn parse(bytes: &[u8]) -> Answer {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no whole head: {:?}", bytes.escape_ascii().to_string())) + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).expect("a head in UTF-8");
        assert!(head.starts_with("HTTP/1.1 "), "{head}");
        let status = head[9..12].parse().expect("a status");
        Answer { status, head, body: bytes[end..].to_vec() }
    }

    /// The values of all header lines of this name.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The value of the only header line of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.all(name);
        let value = values.next();
        assert_eq!(values.next(), None, "{name} comes twice: {}", self.head);
        value
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    pub fn assert_complete(&self, with_body: bool) {
        assert!(self.all("Connection").any(|option| option == "close"), "{}", self.head);
        let length: usize = self.header("Content-Length").expect("a length").parse().expect("a number");
        assert_eq!(self.body.len(), if with_body { length } else { 0 }, "{}", self.head);
    }
}

impl Client {
    /// The response that ends this connection: complete, then FIN.
    pub fn answer(&mut self) -> Answer {
        let answer = Answer::parse(&self.rest());
        answer.assert_complete(true);
        answer
    }

    /// As [`answer`](Client::answer), to a `HEAD` request.
    pub fn answer_to_head(&mut self) -> Answer {
        let answer = Answer::parse(&self.rest());
        answer.assert_complete(false);
        answer
    }

    /// Sends FIN.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("a socket");
    }
}

/// Sends `bytes` in one write, and reads the response that ends the connection.
pub fn ask(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> Answer {
    let mut client = Client::tcp(addr);
    client.send(bytes.as_ref());
    client.answer()
}

/// As [`ask`], with a write for each byte.
pub fn ask_bytewise(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> Answer {
    let mut client = Client::tcp(addr);
    for byte in bytes.as_ref() {
        client.send(&[*byte]);
    }
    client.answer()
}

/// An opening handshake of which any line can be another.
#[derive(Clone)]
pub struct Upgrade {
    pub line: String,
    pub fields: Vec<(&'static str, String)>,
}

impl Upgrade {
    pub fn new() -> Upgrade {
        let fields = [
            ("Host", "localhost"),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
        ];
        Upgrade {
            line: "GET / HTTP/1.1".into(),
            fields: fields.into_iter().map(|(name, value)| (name, value.into())).collect(),
        }
    }

    /// Another request line.
    pub fn line(mut self, line: impl Into<String>) -> Upgrade {
        self.line = line.into();
        self
    }

    /// One more header line.
    pub fn and(mut self, name: &'static str, value: impl Into<String>) -> Upgrade {
        self.fields.push((name, value.into()));
        self
    }

    pub fn without(mut self, name: &str) -> Upgrade {
        self.fields.retain(|(known, _)| *known != name);
        self
    }

    /// Another value for a header line.
    pub fn with(self, name: &'static str, value: impl Into<String>) -> Upgrade {
        self.without(name).and(name, value)
    }

    pub fn head(&self) -> String {
        let fields: String = self.fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{}\r\n{fields}\r\n", self.line)
    }
}
