//! TLS 1.3 with as little work as possible, for the floor and the load generator: rustls does the handshake, and then the
//! records are opened and sealed in place by ring.
//!
//! Everything is encrypted with AES-128-GCM, keys are agreed on by X25519, and the certificate is for a P-256 key.
//! Both ends are of this package or servers that are measured. So what else TLS has (key updates, other ciphers, alerts) is
//! an error here.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::error::Unspecified;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, ring as provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{
    ClientConfig, ConnectionTrafficSecrets, DigitallySignedStruct, ExtractedSecrets, ServerConfig, SignatureScheme,
};

/// The name that clients ask for, and that the certificate has.
pub const NAME: &str = "localhost";

/// A record carries at most this much (RFC 8446 5.1).
const MAX_RECORD: usize = 1 << 14;

/// The header of a record (RFC 8446 5.2): type, version, length.
const HEADER: usize = 5;
const APPLICATION_DATA: u8 = 23;
const HANDSHAKE: u8 = 22;
const TAG: usize = 16;

/// Writes a new certificate and its key into a directory, as `chain.pem` and `key.pem`.
///
/// # Errors
///
/// A file cannot be written.
pub fn write_certificate(directory: &Path) -> io::Result<()> {
    let certified = rcgen::generate_simple_self_signed([NAME.to_owned()]).map_err(io::Error::other)?;
    fs::create_dir_all(directory)?;
    fs::write(directory.join("chain.pem"), certified.cert.pem())?;
    fs::write(directory.join("key.pem"), certified.signing_key.serialize_pem())
}

fn only_cipher() -> Arc<CryptoProvider> {
    let cipher_suites = vec![provider::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let kx_groups = vec![provider::kx_group::X25519];
    Arc::new(CryptoProvider { cipher_suites, kx_groups, ..provider::default_provider() })
}

/// The floor's settings: those of the library, without what the floor does not need.
///
/// # Errors
///
/// A file cannot be read, or is not what it should be.
pub fn server_config(chain: &Path, key: &Path) -> io::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(chain).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    let config = ServerConfig::builder_with_provider(only_cipher())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .with_no_client_auth();
    let mut config = config.with_single_cert(chain.map_err(io::Error::other)?, key).map_err(io::Error::other)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = provider::Ticketer::new().map_err(io::Error::other)?;
    config.send_tls13_tickets = 1;
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

/// The load generator's settings. It trusts everybody, and each of its handshakes is a whole one.
///
/// # Errors
///
/// None that is known.
pub fn client_config() -> io::Result<Arc<ClientConfig>> {
    let mut config = ClientConfig::builder_with_provider(only_cipher())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Everybody))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

/// Trusts every server: the load generator is to be quick, and sends nothing that is secret.
#[derive(Debug)]
struct Everybody;

impl ServerCertVerifier for Everybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A handshake that is under way.
pub struct Handshake {
    stream: TcpStream,
    session: Session,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    /// Data that came with the end of the handshake.
    early: Vec<u8>,
}

enum Session {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// What a step of the handshake led to.
enum Step {
    Next,
    /// More must be received.
    Blocked,
    Done,
}

impl Handshake {
    /// # Errors
    ///
    /// None that is known.
    pub fn client(stream: TcpStream, config: &Arc<ClientConfig>) -> io::Result<Handshake> {
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        let session = UnbufferedClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        Ok(Handshake::new(stream, Session::Client(session)))
    }

    /// # Errors
    ///
    /// None that is known.
    pub fn server(stream: TcpStream, config: &Arc<ServerConfig>) -> io::Result<Handshake> {
        let session = UnbufferedServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        Ok(Handshake::new(stream, Session::Server(session)))
    }

    fn new(stream: TcpStream, session: Session) -> Handshake {
        Handshake { stream, session, incoming: Vec::new(), outgoing: Vec::new(), early: Vec::new() }
    }

    /// Continues as far as the socket allows. Returns whether it is complete. What it has to say at its end leaves with
    /// the first data.
    fn advance(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 4096];
        loop {
            if self.process()? {
                return Ok(true);
            }
            if !flush(&mut self.stream, &mut self.outgoing)? {
                return Ok(false);
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.incoming.extend_from_slice(&chunk[..read]),
                Err(error) if is_not_now(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the steps that are possible without the socket. Returns whether the handshake is complete.
    fn process(&mut self) -> io::Result<bool> {
        loop {
            let Handshake { session, incoming, outgoing, early, .. } = self;
            let (discard, step) = match session {
                Session::Client(session) => step(session.process_tls_records(incoming), outgoing, early),
                Session::Server(session) => step(session.process_tls_records(incoming), outgoing, early),
            }?;
            incoming.drain(..discard);
            match step {
                Step::Next => {}
                Step::Blocked => return Ok(false),
                Step::Done => return Ok(true),
            }
        }
    }

    fn finish(self) -> io::Result<TlsStream> {
        let secrets = match self.session {
            Session::Client(session) => session.dangerous_into_kernel_connection().map(|(secrets, _)| secrets),
            Session::Server(session) => session.dangerous_into_kernel_connection().map(|(secrets, _)| secrets),
        };
        let ExtractedSecrets { tx, rx } = secrets.map_err(io::Error::other)?;
        let Handshake { stream, incoming, outgoing, early, .. } = self;
        let (opening, sealing) = (Half::new(rx)?, Half::new(tx)?);
        Ok(TlsStream { stream, opening, sealing, most: MAX_RECORD, partial: incoming, unsent: outgoing, early })
    }
}

fn step<D>(
    status: UnbufferedStatus<'_, '_, D>,
    outgoing: &mut Vec<u8>,
    early: &mut Vec<u8>,
) -> io::Result<(usize, Step)> {
    let mut discard = status.discard;
    let step = match status.state.map_err(io::Error::other)? {
        ConnectionState::EncodeTlsData(mut data) => {
            let before = outgoing.len();
            if let Err(EncodeError::InsufficientSize(needs)) = data.encode(&mut []) {
                outgoing.resize(before + needs.required_size, 0);
                data.encode(&mut outgoing[before..]).map_err(io::Error::other)?;
            }
            Step::Next
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Step::Next
        }
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record.map_err(io::Error::other)?;
                discard += record.discard;
                early.extend_from_slice(record.payload);
            }
            Step::Next
        }
        ConnectionState::BlockedHandshake => Step::Blocked,
        ConnectionState::WriteTraffic(_) => Step::Done,
        other => return Err(io::Error::other(format!("a handshake led to {other:?}"))),
    };
    Ok((discard, step))
}

/// One direction.
struct Half {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Half {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> io::Result<Half> {
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
            return Err(io::Error::other("the cipher is not AES-128-GCM"));
        };
        let key = UnboundKey::new(&AES_128_GCM, key.as_ref()).map_err(cipher_failed)?;
        let iv = iv.as_ref().try_into().map_err(io::Error::other)?;
        Ok(Half { key: LessSafeKey::new(key), iv, sequence })
    }

    /// RFC 8446 5.3.
    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Appends records with `plain`, at most `most` bytes in each.
    fn seal(&mut self, plain: &[u8], most: usize, sealed: &mut Vec<u8>) -> io::Result<()> {
        for plain in plain.chunks(most) {
            let size = u16::try_from(plain.len() + 1 + TAG).map_err(io::Error::other)?.to_be_bytes();
            let header = [APPLICATION_DATA, 3, 3, size[0], size[1]];
            sealed.extend_from_slice(&header);
            let start = sealed.len();
            sealed.extend_from_slice(plain);
            sealed.push(APPLICATION_DATA);
            let nonce = self.next_nonce();
            let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(header), &mut sealed[start..]);
            sealed.extend_from_slice(tag.map_err(cipher_failed)?.as_ref());
        }
        Ok(())
    }

    /// Opens the whole records that `sealed` begins with. Returns how long they are.
    fn open(&mut self, sealed: &mut [u8], mut take: impl FnMut(&mut [u8]) -> io::Result<()>) -> io::Result<usize> {
        let mut done = 0;
        while let [kind, _, _, high, low, rest @ ..] = &mut sealed[done..] {
            let size = u16::from_be_bytes([*high, *low]);
            let Some(record) = rest.get_mut(..usize::from(size)) else { break };
            let header = Aad::from([*kind, 3, 3, *high, *low]);
            let nonce = self.next_nonce();
            let plain = self.key.open_in_place(nonce, header, record).map_err(cipher_failed)?;
            match plain.split_last_mut() {
                Some((&mut APPLICATION_DATA, plain)) => take(plain)?,
                // A ticket.
                Some((&mut HANDSHAKE, _)) => {}
                // An alert says that the client has gone, or that something is wrong.
                other => {
                    return Err(io::Error::other(format!("a record of the kind {:?}", other.map(|(kind, _)| kind))));
                }
            }
            done += HEADER + usize::from(size);
        }
        Ok(done)
    }
}

fn cipher_failed(error: Unspecified) -> io::Error {
    io::Error::other(format!("the cipher: {error}"))
}

/// A stream after its handshake.
pub struct TlsStream {
    stream: TcpStream,
    opening: Half,
    sealing: Half,
    /// The most that is put into a record.
    most: usize,
    /// The beginning of a record that is incomplete.
    partial: Vec<u8>,
    /// Sealed bytes that the socket has not taken.
    unsent: Vec<u8>,
    /// Data that came with the end of the handshake.
    early: Vec<u8>,
}

impl TlsStream {
    fn read(&mut self, buffer: &mut [u8], mut take: impl FnMut(&mut [u8]) -> io::Result<()>) -> io::Result<bool> {
        if !self.early.is_empty() {
            take(&mut std::mem::take(&mut self.early))?;
            return Ok(true);
        }
        let kept = self.partial.len();
        buffer[..kept].copy_from_slice(&self.partial);
        let read = match self.stream.read(&mut buffer[kept..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let may_have_more = kept + read == buffer.len();
        let sealed = &mut buffer[..kept + read];
        let opened = self.opening.open(sealed, take)?;
        if opened < sealed.len() {
            self.partial.clear();
            self.partial.extend_from_slice(&sealed[opened..]);
        } else if kept > 0 {
            self.partial = Vec::new();
        }
        Ok(may_have_more)
    }

    /// Takes all of `plain`, or nothing.
    fn write(&mut self, plain: &[u8], scratch: &mut Vec<u8>) -> io::Result<usize> {
        scratch.clear();
        if !self.unsent.is_empty() {
            if !flush(&mut self.stream, &mut self.unsent)? {
                return Ok(0);
            }
            self.unsent = Vec::new();
        }
        self.sealing.seal(plain, self.most, scratch)?;
        self.write_sealed(scratch)?;
        Ok(plain.len())
    }

    /// As [`write`](TlsStream::write), together with the end of the handshake.
    fn write_first(&mut self, plain: &[u8]) -> io::Result<()> {
        let mut sealed = std::mem::take(&mut self.unsent);
        self.sealing.seal(plain, MAX_RECORD, &mut sealed)?;
        self.write_sealed(&mut sealed)
    }

    fn write_sealed(&mut self, sealed: &mut Vec<u8>) -> io::Result<()> {
        if !flush(&mut self.stream, sealed)? {
            self.unsent.extend_from_slice(sealed);
        }
        Ok(())
    }
}

/// Writes until nothing is left, or the socket is full. Returns whether nothing is left.
fn flush(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(size) => written += size,
            Err(error) if is_not_now(&error) => {
                bytes.drain(..written);
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
    bytes.clear();
    Ok(true)
}

/// A socket that is still being connected is not connected.
fn is_not_now(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}

/// A stream with TLS or without.
pub enum Stream {
    Plain(TcpStream),
    Handshaking(Box<Handshake>),
    Tls(Box<TlsStream>),
    /// A handshake has failed.
    Failed,
}

impl Stream {
    /// Has `registry` report with `token` when the socket may be read or written.
    ///
    /// # Errors
    ///
    /// The system call fails.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let stream = match self {
            Stream::Plain(stream) => stream,
            Stream::Handshaking(handshake) => &mut handshake.stream,
            Stream::Tls(tls) => &mut tls.stream,
            Stream::Failed => return Err(ErrorKind::NotConnected.into()),
        };
        registry.register(stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Does what the handshake of TLS has to do, as far as the socket allows. Returns whether it is complete, if there is
    /// one.
    ///
    /// # Errors
    ///
    /// It fails, or the socket does.
    pub fn is_ready(&mut self) -> io::Result<bool> {
        if let Stream::Handshaking(handshake) = self {
            if !handshake.advance()? {
                return Ok(false);
            }
            if let Stream::Handshaking(handshake) = std::mem::replace(self, Stream::Failed) {
                *self = Stream::Tls(Box::new(handshake.finish()?));
            }
        }
        Ok(true)
    }

    /// Makes the first message of a client's handshake, and does not send it.
    ///
    /// # Errors
    ///
    /// Whatever fails.
    pub fn prepare(&mut self) -> io::Result<()> {
        if let Stream::Handshaking(handshake) = self {
            handshake.process()?;
        }
        Ok(())
    }

    /// Sends the first message of a client's handshake, and reads nothing.
    ///
    /// # Errors
    ///
    /// Whatever fails, or the socket has no room.
    pub fn begin(&mut self) -> io::Result<()> {
        if let Stream::Handshaking(handshake) = self {
            handshake.process()?;
            if !flush(&mut handshake.stream, &mut handshake.outgoing)? {
                return Err(ErrorKind::WouldBlock.into());
            }
        }
        Ok(())
    }

    /// Reads once, and passes on what there is, which may be changed in place. Returns whether the socket may have more.
    ///
    /// # Errors
    ///
    /// The end of the stream, and whatever fails. That there is nothing to read is no error.
    pub fn read(&mut self, buffer: &mut [u8], mut take: impl FnMut(&mut [u8]) -> io::Result<()>) -> io::Result<bool> {
        match self {
            Stream::Plain(stream) => match stream.read(buffer) {
                Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    take(&mut buffer[..read])?;
                    Ok(read == buffer.len())
                }
                Err(error) if is_not_now(&error) => Ok(false),
                Err(error) => Err(error),
            },
            Stream::Tls(stream) => stream.read(buffer, take),
            Stream::Handshaking(_) | Stream::Failed => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Writes once. Returns how much of `bytes` is done with; 0 if the socket is full.
    ///
    /// # Errors
    ///
    /// Whatever fails. That the socket is full is no error.
    pub fn write(&mut self, bytes: &[u8], scratch: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => match stream.write(bytes) {
                Err(error) if is_not_now(&error) => Ok(0),
                written => written,
            },
            Stream::Tls(stream) => stream.write(bytes, scratch),
            Stream::Handshaking(_) | Stream::Failed => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Writes the first bytes, a head of HTTP, for which a socket has room. Returns how much of `bytes` is done with.
    ///
    /// # Errors
    ///
    /// Whatever fails.
    pub fn write_first(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tls(stream) => stream.write_first(bytes).map(|()| bytes.len()),
            _ => self.write(bytes, &mut Vec::new()),
        }
    }

    /// Puts at most so much into a record from now on.
    pub fn limit_records(&mut self, size: usize) {
        if let Stream::Tls(stream) = self {
            stream.most = size.clamp(1, MAX_RECORD);
        }
    }

    /// Writes the sealed bytes that the socket had no room for, as far as it has now. Returns whether none is left.
    ///
    /// # Errors
    ///
    /// Whatever fails.
    pub fn flush(&mut self) -> io::Result<bool> {
        match self {
            Stream::Tls(stream) if !stream.unsent.is_empty() => flush(&mut stream.stream, &mut stream.unsent),
            _ => Ok(true),
        }
    }
}
