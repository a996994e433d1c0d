//! Records that no library would make.

use std::io::{Read, Write};
use std::net::TcpStream;

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets, ProtocolVersion};

use crate::raw::{RawClient, RawServer};

/// The content type of messages of the handshake.
pub const HANDSHAKE: u8 = 22;

const DATA: u8 = 23;

/// A peer that seals whatever it is told to. Its session was agreed on with [`provider`](crate::provider), and secrets
/// must be extractable.
#[derive(Debug)]
pub struct Crafted {
    /// The socket.
    pub stream: TcpStream,
    is_tls12: bool,
    send: Direction,
    receive: Direction,
}

#[derive(Debug)]
struct Direction {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Direction {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Direction {
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else { panic!("another cipher suite") };
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key.as_ref()).expect("a key"));
        Direction { key, iv: iv.as_ref().try_into().expect("12 bytes"), sequence }
    }

    /// The nonce of the next record, and its number.
    fn nonce(&mut self) -> ([u8; 12], [u8; 8]) {
        let (mut nonce, sequence) = (self.iv, self.sequence.to_be_bytes());
        for (byte, number) in nonce[4..].iter_mut().zip(sequence) {
            *byte ^= number;
        }
        self.sequence += 1;
        (nonce, sequence)
    }
}

impl Crafted {
    /// Takes over from a client.
    #[must_use]
    pub fn of_client(client: RawClient) -> Crafted {
        let version = client.tls.conn.protocol_version();
        let secrets = client.tls.conn.dangerous_extract_secrets().expect("it is allowed");
        Crafted::new(client.tls.sock, version, secrets)
    }

    /// Takes over from a server's end.
    #[must_use]
    pub fn of_server(server: RawServer) -> Crafted {
        let version = server.tls.conn.protocol_version();
        let secrets = server.tls.conn.dangerous_extract_secrets().expect("it is allowed");
        Crafted::new(server.tls.sock, version, secrets)
    }

    fn new(stream: TcpStream, version: Option<ProtocolVersion>, secrets: ExtractedSecrets) -> Crafted {
        let is_tls12 = version == Some(ProtocolVersion::TLSv1_2);
        Crafted { stream, is_tls12, send: Direction::new(secrets.tx), receive: Direction::new(secrets.rx) }
    }

    /// The record with this content.
    pub fn seal(&mut self, content_type: u8, content: &[u8]) -> Vec<u8> {
        let (nonce, sequence) = self.send.nonce();
        let mut sealed = content.to_vec();
        if self.is_tls12 {
            let size = u16::try_from(sealed.len()).expect("a record").to_be_bytes();
            let associated = [&sequence[..], &[content_type, 3, 3], &size].concat();
            let unique = Nonce::assume_unique_for_key(nonce);
            self.send.key.seal_in_place_append_tag(unique, Aad::from(associated), &mut sealed).expect("sealed");
            let size = u16::try_from(sealed.len() + 8).expect("a record").to_be_bytes();
            return [&[content_type, 3, 3][..], &size, &nonce[4..], &sealed].concat();
        }
        sealed.push(content_type);
        let size = u16::try_from(sealed.len() + 16).expect("a record").to_be_bytes();
        let header = [DATA, 3, 3, size[0], size[1]];
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.send.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut sealed).expect("sealed");
        [&header[..], &sealed].concat()
    }

    /// Sends a record with this content.
    ///
    /// # Errors
    /// The other end has ended the connection.
    pub fn send(&mut self, content_type: u8, content: &[u8]) -> std::io::Result<()> {
        let sealed = self.seal(content_type, content);
        self.stream.write_all(&sealed)
    }

    /// Sends a record with data.
    ///
    /// # Errors
    /// The other end has ended the connection.
    pub fn send_data(&mut self, data: &[u8]) -> std::io::Result<()> {
        self.send(DATA, data)
    }

    /// Receives a record, and returns its content type and content; `None` at the end of the stream.
    pub fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 5];
        self.stream.read_exact(&mut header).ok()?;
        let mut sealed = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
        self.stream.read_exact(&mut sealed).ok()?;
        let (mut nonce, sequence) = self.receive.nonce();
        if self.is_tls12 {
            nonce[4..].copy_from_slice(&sealed[..8]);
            let sealed = &mut sealed[8..];
            let size = u16::try_from(sealed.len() - 16).expect("a record").to_be_bytes();
            let associated = [&sequence[..], &header[..3], &size].concat();
            let nonce = Nonce::assume_unique_for_key(nonce);
            let content = self.receive.key.open_in_place(nonce, Aad::from(associated), sealed).expect("sealed for us");
            return Some((header[0], content.to_vec()));
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let content = self.receive.key.open_in_place(nonce, Aad::from(header), &mut sealed).expect("sealed for us");
        // RFC 8446 5.4: zeros may follow the content type.
        let end = content.iter().rposition(|byte| *byte != 0).expect("a content type");
        Some((content[end], content[..end].to_vec()))
    }

    /// Receives up to the end of the stream, and returns the alert that came last: its level and its description.
    pub fn last_alert(&mut self) -> Option<[u8; 2]> {
        let mut alert = None;
        while let Some((content_type, content)) = self.receive() {
            alert = if content_type == 21 { content.try_into().ok() } else { alert };
        }
        alert
    }
}
