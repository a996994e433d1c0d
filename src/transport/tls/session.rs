//! The TLS record layer: sealed bytes in, plain bytes out, and the other way round. Only this file knows rustls' API for
//! connections.

use std::ops::Deref;
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    AppDataRecord, ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedConnectionCommon,
    UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, CommonState, Error, ServerConfig};

use crate::protocol::tls_info::TlsInfo;
use crate::transport::tls::error::TlsError;

/// A record carries at most 2^14 bytes (RFC 8446 5.1).
pub(super) const MAX_RECORD: usize = 1 << 14;

/// A record is at most so much longer than what it carries: header, nonce and tag, with room to spare. rustls says what it
/// needs if it is more.
const MAX_OVERHEAD: usize = 64;

/// A TLS connection without its socket.
pub(crate) enum Session {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// What became of sealed bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Opened {
    /// So many of the sealed bytes are done with. The others are part of a record, or of a message of the handshake, that
    /// is incomplete.
    pub(crate) consumed: usize,
    /// The peer has said that it sends no more (`close_notify`).
    pub(crate) is_end: bool,
}

/// Sealed bytes that are to be sent, in memory that is zeroed once and then used again.
#[derive(Debug, Default)]
pub(crate) struct Sealed {
    /// Longer than what was sealed.
    bytes: Vec<u8>,
    len: usize,
}

impl Sealed {
    /// Begins anew.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// What was sealed.
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Room for at least `size` bytes more.
    fn spare_mut(&mut self, size: usize) -> &mut [u8] {
        let needed = self.len + size;
        if self.bytes.len() < needed {
            self.bytes.resize(needed, 0);
        }
        self.bytes.get_mut(self.len..).unwrap_or_default()
    }
}

/// Takes the plain bytes as they come out of the records.
pub(crate) trait Sink {
    /// Takes the content of a record.
    fn put(&mut self, bytes: &[u8]);
}

impl Session {
    /// A server's session, before the handshake.
    pub(crate) fn server(config: Arc<ServerConfig>) -> Result<Session, TlsError> {
        UnbufferedServerConnection::new(config).map(Session::Server).map_err(TlsError::from)
    }

    /// A client's session, before the handshake.
    pub(crate) fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Session, TlsError> {
        UnbufferedClientConnection::new(config, name).map(Session::Client).map_err(TlsError::from)
    }

    /// Whether the handshake is not complete.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    fn common(&self) -> &CommonState {
        match self {
            Session::Server(connection) => connection,
            Session::Client(connection) => connection,
        }
    }

    /// What was agreed on in the handshake, without the server name.
    pub(crate) fn info(&self) -> TlsInfo {
        let common = self.common();
        TlsInfo {
            version: common.protocol_version().and_then(|version| version.as_str()).unwrap_or("unknown"),
            cipher_suite: common
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or("unknown"),
            server_name: None,
            certificates: common.peer_certificates().unwrap_or_default().iter().map(|one| one.to_vec()).collect(),
        }
    }

    /// Opens as many whole records as `sealed` begins with, and takes the steps of the handshake that they allow. Appends
    /// to `answer` what is to be sent to the peer: the handshake, key updates, alerts.
    ///
    /// After an error nothing more can be opened. `answer` has the alert for the peer then.
    pub(crate) fn open(
        &mut self,
        sealed: &mut [u8],
        plain: &mut impl Sink,
        answer: &mut Sealed,
    ) -> Result<Opened, TlsError> {
        match self {
            Session::Server(connection) => open(&mut **connection, sealed, plain, answer),
            Session::Client(connection) => open(&mut **connection, sealed, plain, answer),
        }
    }

    /// Seals `plain` and appends the records to `sealed`. The handshake must be complete. `kept` are the bytes that
    /// [`open`](Session::open) has not consumed: rustls knows places in them, and must see them in each call.
    pub(crate) fn seal(&mut self, plain: &[u8], sealed: &mut Sealed, kept: &mut Vec<u8>) -> Result<(), TlsError> {
        if plain.is_empty() {
            return Ok(());
        }
        self.write(sealed, kept, plain.len(), What::Data(plain))
    }

    /// Appends `close_notify`: nothing more will be sent. Appends nothing during the handshake. `kept` as in
    /// [`seal`](Session::seal).
    pub(crate) fn seal_end(&mut self, sealed: &mut Sealed, kept: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.is_handshaking() {
            return Ok(());
        }
        self.write(sealed, kept, 0, What::End)
    }

    fn write(&mut self, sealed: &mut Sealed, kept: &mut Vec<u8>, size: usize, what: What<'_>) -> Result<(), TlsError> {
        match self {
            Session::Server(connection) => write(&mut **connection, sealed, kept, size, what),
            Session::Client(connection) => write(&mut **connection, sealed, kept, size, what),
        }
    }
}

/// What a server's connection and a client's have in common, which rustls does not say in a trait.
trait Records: Deref<Target = CommonState> {
    type Data;

    fn process<'c, 'i>(&'c mut self, sealed: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Records for UnbufferedConnectionCommon<ServerConnectionData> {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, sealed: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        self.process_tls_records(sealed)
    }
}

impl Records for UnbufferedConnectionCommon<ClientConnectionData> {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, sealed: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ClientConnectionData> {
        self.process_tls_records(sealed)
    }
}

fn open(
    connection: &mut impl Records,
    sealed: &mut [u8],
    plain: &mut impl Sink,
    answer: &mut Sealed,
) -> Result<Opened, TlsError> {
    let mut opened = Opened::default();
    loop {
        let rest = sealed.get_mut(opened.consumed..).unwrap_or_default();
        let UnbufferedStatus { mut discard, state } = connection.process(rest);
        let (mut is_idle, mut is_data) = (false, false);
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                is_data = true;
                while let Some(record) = traffic.next_record() {
                    discard += take(record?, plain);
                }
            }
            // It may be replayed, and no configuration here allows it.
            Ok(ConnectionState::ReadEarlyData(_)) => return Err(TlsError::Protocol("early data".to_owned())),
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, answer)?,
            // The caller sends the answer in the order in which it was appended.
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => opened.is_end = true,
            Ok(_) => is_idle = true,
            Err(error) => {
                append_alert(connection, answer);
                return Err(error.into());
            }
        }
        opened.consumed = sealed.len().min(opened.consumed + discard);
        // Behind the last data there is nothing to ask for, unless it is to be answered.
        is_idle |= is_data && opened.consumed == sealed.len() && !connection.wants_write();
        if is_idle {
            return Ok(opened);
        }
    }
}

fn take(record: AppDataRecord<'_>, plain: &mut impl Sink) -> usize {
    plain.put(record.payload);
    record.discard
}

/// Appends the alert that an error left behind. rustls hands it out before it looks at what was received.
fn append_alert(connection: &mut impl Records, answer: &mut Sealed) {
    while connection.wants_write()
        && let Ok(ConnectionState::EncodeTlsData(data)) = connection.process(&mut []).state
        && encode(data, answer).is_ok()
    {}
}

/// What rustls is to write.
#[derive(Clone, Copy)]
enum What<'a> {
    Data(&'a [u8]),
    End,
}

/// Appends to `sealed` what rustls writes, behind what it wants to send before. `size` is that of the data.
fn write(
    connection: &mut impl Records,
    sealed: &mut Sealed,
    kept: &mut Vec<u8>,
    size: usize,
    what: What<'_>,
) -> Result<(), TlsError> {
    let most = size + (size / MAX_RECORD + 1) * MAX_OVERHEAD;
    loop {
        let UnbufferedStatus { discard, state } = connection.process(kept);
        let is_written = match state? {
            ConnectionState::WriteTraffic(mut traffic) => {
                encrypt(&mut traffic, sealed, most, what)?;
                true
            }
            ConnectionState::EncodeTlsData(data) => {
                encode(data, sealed)?;
                false
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                false
            }
            // The peer sends no more, and may still receive.
            ConnectionState::PeerClosed => false,
            _ => return Err(TlsError::from(Error::HandshakeNotComplete)),
        };
        if discard > 0 {
            kept.drain(..discard.min(kept.len()));
        }
        if is_written {
            return Ok(());
        }
    }
}

fn encrypt<D>(
    traffic: &mut WriteTraffic<'_, D>,
    sealed: &mut Sealed,
    most: usize,
    what: What<'_>,
) -> Result<(), TlsError> {
    append(sealed, most, |room| {
        let written = match what {
            What::Data(plain) => traffic.encrypt(plain, room),
            What::End => traffic.queue_close_notify(room),
        };
        written.map_err(|error| match error {
            EncryptError::InsufficientSize(needs) => Shortage::Needs(needs.required_size),
            EncryptError::EncryptExhausted => Shortage::Failed,
        })
    })
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, sealed: &mut Sealed) -> Result<(), TlsError> {
    append(sealed, 0, |room| {
        data.encode(room).map_err(|error| match error {
            EncodeError::InsufficientSize(needs) => Shortage::Needs(needs.required_size),
            EncodeError::AlreadyEncoded => Shortage::Failed,
        })
    })
}

enum Shortage {
    Needs(usize),
    Failed,
}

/// Appends what `fill` writes into the room that it is given, which it may find too small once.
fn append(
    sealed: &mut Sealed,
    mut room: usize,
    mut fill: impl FnMut(&mut [u8]) -> Result<usize, Shortage>,
) -> Result<(), TlsError> {
    for _ in 0..2 {
        match fill(sealed.spare_mut(room)) {
            Ok(written) => {
                sealed.len += written;
                return Ok(());
            }
            Err(Shortage::Needs(size)) => room = size,
            Err(Shortage::Failed) => break,
        }
    }
    Err(TlsError::from(Error::EncryptError))
}
