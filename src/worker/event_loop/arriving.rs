//! The state of a connection that another process has served.

use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crate::protocol::deflate::Codec;
use crate::protocol::state::{StateError, StateReader, StateWriter};
use crate::protocol::{Connection, PeerAddr, Role};
use crate::worker::handle::hand_over::MAX_BATCH;
use crate::worker::slab::Key;
use crate::worker::topics::topic::Reservation;
use crate::worker::topics::travel::Origin;

/// The version of the format of connections. Another is refused: the two programs must agree on every byte.
pub(crate) const STATE_VERSION: u16 = 3;

/// A subprotocol, a topic or a path is never longer.
const MAX_NAME: usize = 64 << 10;

/// A connection is subscribed to fewer topics.
const MAX_TOPICS: u32 = 1 << 20;

/// A connection that comes from another process.
#[derive(Debug)]
pub(crate) struct Arriving {
    /// What it is called there.
    pub(crate) id: u64,
    pub(crate) connection: Connection,
    /// What was received and not decoded.
    pub(crate) input: Vec<u8>,
    /// What the socket has not taken.
    pub(crate) output: Vec<u8>,
    /// A ping that is not answered yet.
    pub(crate) late_ping: Option<Vec<u8>>,
    pub(crate) clocks: Clocks,
    pub(crate) addr: PeerAddr,
    pub(crate) subprotocol: Option<String>,
    /// The head of the request that opened the connection.
    pub(crate) head: Vec<u8>,
    /// Its topics, each with the number of the last message that it was sent, once they are known.
    pub(crate) topics: Vec<(String, u64)>,
    /// Its subscriptions here, once it is this process's.
    pub(crate) reservations: Vec<Reservation>,
    /// What it was in the process before: its worker there, and its key.
    pub(crate) origin: Origin,
}

/// How long ago things happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clocks {
    /// Since the connection was established.
    pub(crate) opened: Duration,
    /// Since something was last heard of the peer.
    pub(crate) heard: Duration,
    /// Since its output began to wait, or last moved.
    pub(crate) since: Duration,
}

impl Clocks {
    pub(super) fn export(self, out: &mut StateWriter) {
        [self.opened, self.heard, self.since].into_iter().for_each(|duration| out.duration(duration));
    }
}

impl Arriving {
    /// Where the states of the connections are in what one message says of them, in the order of their descriptors.
    pub(crate) fn places(states: &[u8]) -> Result<Vec<Range<usize>>, StateError> {
        let mut reader = StateReader::new(states, STATE_VERSION)?;
        let mut places = Vec::with_capacity(MAX_BATCH);
        while !reader.is_empty() {
            if places.len() == MAX_BATCH {
                return Err(StateError::Invalid("the number of connections"));
            }
            let size = reader.bytes()?.len();
            let end = states.len() - reader.len();
            places.push(end - size..end);
        }
        Ok(places)
    }

    /// Reads what a worker has exported of one connection. `max_message_size` is that of messages that are assembled.
    pub(crate) fn import(state: &[u8], max_message_size: u64, codec: &mut Codec) -> Result<Arriving, StateError> {
        let mut state = StateReader::of(state);
        let arriving = Arriving {
            id: state.u64()?,
            connection: Connection::import(&mut state, Role::Server, max_message_size, codec)?,
            input: state.bytes()?.to_vec(),
            late_ping: state.option(|state| Ok(state.bytes_within(125, "a ping")?.to_vec()))?,
            clocks: Clocks { opened: state.duration()?, heard: state.duration()?, since: state.duration()? },
            addr: import_addr(&mut state)?,
            subprotocol: state.option(|state| Ok(state.text()?.to_owned()))?,
            head: state.bytes()?.to_vec(),
            topics: Vec::new(),
            reservations: Vec::new(),
            origin: import_origin(&mut state)?,
            output: state.bytes()?.to_vec(),
        };
        state.end()?;
        Ok(arriving)
    }
}

/// Appends topics, each with the number of the last message that a connection was sent.
pub(crate) fn export_topics<S: AsRef<str>>(topics: &[(S, u64)], out: &mut StateWriter) {
    out.u32(topics.len() as u32);
    for (topic, cursor) in topics {
        out.bytes(topic.as_ref().as_bytes());
        out.u64(*cursor);
    }
}

/// Appends what a connection is here.
pub(crate) fn export_origin((worker, key): Origin, out: &mut StateWriter) {
    [u32::from(worker), key.index, key.generation].into_iter().for_each(|number| out.u32(number));
}

pub(crate) fn import_origin(state: &mut StateReader<'_>) -> Result<Origin, StateError> {
    let worker = u16::try_from(state.u32()?).map_err(|_| StateError::Invalid("a worker"))?;
    Ok((worker, Key { index: state.u32()?, generation: state.u32()? }))
}

pub(crate) fn import_topics(state: &mut StateReader<'_>) -> Result<Vec<(String, u64)>, StateError> {
    let count = state.u32()?;
    if count > MAX_TOPICS {
        return Err(StateError::Invalid("the number of topics"));
    }
    (0..count).map(|_| Ok((state.text()?.to_owned(), state.u64()?))).collect()
}

const IP: u8 = 0;
const UNIX: u8 = 1;
const UNNAMED: u8 = 2;
const UNKNOWN: u8 = 3;

/// Appends an address.
pub(crate) fn export_addr(addr: &PeerAddr, out: &mut StateWriter) {
    let (kind, text) = match addr {
        PeerAddr::Ip(addr) => (IP, addr.to_string().into_bytes()),
        PeerAddr::Unix(Some(path)) => (UNIX, path.as_os_str().as_bytes().to_vec()),
        PeerAddr::Unix(None) => (UNNAMED, Vec::new()),
        PeerAddr::Unknown => (UNKNOWN, Vec::new()),
    };
    out.u8(kind);
    out.bytes(&text);
}

pub(crate) fn import_addr(state: &mut StateReader<'_>) -> Result<PeerAddr, StateError> {
    const INVALID: StateError = StateError::Invalid("an address");
    let kind = state.u8()?;
    let text = state.bytes_within(MAX_NAME, "an address")?;
    match kind {
        IP => {
            let addr = std::str::from_utf8(text).ok().and_then(|text| text.parse::<SocketAddr>().ok());
            addr.map(PeerAddr::Ip).ok_or(INVALID)
        }
        UNIX => Ok(PeerAddr::Unix(Some(std::ffi::OsStr::from_bytes(text).into()))),
        UNNAMED => Ok(PeerAddr::Unix(None)),
        UNKNOWN => Ok(PeerAddr::Unknown),
        _ => Err(INVALID),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn import_all(states: &[u8]) -> Result<Vec<Arriving>, StateError> {
        let places = Arriving::places(states)?;
        places.into_iter().map(|place| Arriving::import(&states[place], 1 << 20, &mut Codec::new())).collect()
    }

    fn import(states: &[u8]) -> Result<Arriving, StateError> {
        let mut arriving = import_all(states)?;
        Ok(arriving.remove(0))
    }

    /// What a worker exports.
    fn export(addr: &PeerAddr, bytes: &[u8], clocks: Clocks) -> Vec<u8> {
        let mut out = StateWriter::new(STATE_VERSION);
        let place = out.begin();
        out.u64(7);
        assert!(Connection::new(Role::Server, 1 << 20).export(&mut out));
        out.bytes(bytes);
        out.option(Some(&b"ping"[..]), StateWriter::bytes);
        clocks.export(&mut out);
        export_addr(addr, &mut out);
        out.option(Some(&b"chat"[..]), StateWriter::bytes);
        out.bytes(b"head");
        export_origin((3, Key { index: 5, generation: 8 }), &mut out);
        out.pieces(2 * bytes.len(), [bytes, bytes].into_iter());
        out.end(place);
        out.into_bytes()
    }

    #[test]
    fn every_part_comes_back() {
        let clocks =
            Clocks { opened: Duration::from_secs(90_000), heard: Duration::from_millis(1), since: Duration::ZERO };
        for addr in PeerAddr::one_of_each_kind() {
            let state = export(&addr, b"data", clocks);
            let arriving = import(&state).expect("what was exported");
            assert_eq!((arriving.id, arriving.addr, arriving.clocks), (7, addr, clocks));
            assert_eq!(&arriving.input[..], b"data");
            assert_eq!((&arriving.output[..], arriving.late_ping), (&b"datadata"[..], Some(b"ping".to_vec())));
            assert_eq!((arriving.subprotocol, &arriving.head[..]), (Some("chat".to_owned()), &b"head"[..]));
            let (worker, key) = arriving.origin;
            assert_eq!((worker, key.index, key.generation), (3, 5, 8));
            // Behind the version there may be none.
            for cut in (0..state.len()).filter(|cut| *cut != 2) {
                assert!(import_all(&state[..cut]).is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_message_has_as_many_connections_as_descriptors_at_most() {
        let clocks = Clocks { opened: Duration::ZERO, heard: Duration::ZERO, since: Duration::ZERO };
        let one = export(&PeerAddr::Unknown, b"", clocks);
        let many = |count| [&one[..2], &one[2..].repeat(count)].concat();
        for count in [0, 1, MAX_BATCH] {
            assert_eq!(import_all(&many(count)).expect("what was exported").len(), count);
        }
        let error = import_all(&many(MAX_BATCH + 1)).expect_err("too many");
        assert_eq!(error, StateError::Invalid("the number of connections"));
    }

    #[test]
    fn another_version_is_refused_whatever_follows() {
        let clocks = Clocks { opened: Duration::ZERO, heard: Duration::ZERO, since: Duration::ZERO };
        let mut state = export(&PeerAddr::Unknown, b"", clocks);
        state[1] += 1;
        let error = import(&state).expect_err("another version");
        assert_eq!(error, StateError::Version { met: STATE_VERSION + 1, known: STATE_VERSION });
    }

    proptest! {
        #[test]
        fn no_state_panics(bytes: Vec<u8>, wrong in 0..80_usize, byte: u8) {
            let _ = import_all(&bytes);
            let _ = import_all(&[&STATE_VERSION.to_be_bytes()[..], &bytes].concat());
            let clocks = Clocks { opened: Duration::ZERO, heard: Duration::ZERO, since: Duration::ZERO };
            let mut state = export(&PeerAddr::Unknown, &bytes, clocks);
            if let Some(place) = state.get_mut(wrong) {
                *place = byte;
            }
            let _ = import_all(&state);
        }
    }
}
