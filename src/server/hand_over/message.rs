//! What the two processes say to each other.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use crate::protocol::state::{StateError, StateReader, StateWriter};
use crate::server::hand_over::{MAGIC, PROTOCOL_VERSION};
use crate::server::listener::socket_file::FileIdentity;
use crate::server::reactor::hand_over_command::SharedListener;
use crate::worker::event_loop::arriving::{export_addr, export_topics, import_addr, import_topics};
use crate::worker::handle::hand_over::{Addition, Change};

/// The kinds of messages.
pub(super) mod kind {
    /// The new process asks for everything.
    pub(in crate::server::hand_over) const HELLO: u8 = 1;
    /// The old process gives the listeners.
    pub(in crate::server::hand_over) const LISTENERS: u8 = 2;
    /// The old process gives nothing, and says why.
    pub(in crate::server::hand_over) const REFUSED: u8 = 3;
    /// The new process could serve.
    pub(in crate::server::hand_over) const READY: u8 = 4;
    /// Connections, with their descriptors.
    pub(in crate::server::hand_over) const CONNECTIONS: u8 = 5;
    /// These were all.
    pub(in crate::server::hand_over) const ALL_SENT: u8 = 6;
    /// The new process has them.
    pub(in crate::server::hand_over) const HELD: u8 = 7;
    /// What a connection was sent since.
    pub(in crate::server::hand_over) const ADDITION: u8 = 8;
    /// The new process may serve.
    pub(in crate::server::hand_over) const COMMIT: u8 = 9;
    /// The new process serves: nothing belongs to the old one any more.
    pub(in crate::server::hand_over) const COMMITTED: u8 = 10;
    /// Topics of the old process: their messages, as far as the new one does not have them.
    pub(in crate::server::hand_over) const TOPICS: u8 = 20;
    /// These were all for now.
    pub(in crate::server::hand_over) const TOPICS_SENT: u8 = 21;
    /// The new process has them, and its bridge has subscribed them.
    pub(in crate::server::hand_over) const TOPICS_HELD: u8 = 22;
    /// What the bridge of the old process says to that of the new one.
    pub(in crate::server::hand_over) const BRIDGE: u8 = 23;
}

/// A message other than connections and additions has at most 64 KiB.
pub(super) const MAX_SMALL: u64 = 64 << 10;

/// What the new process says first.
pub(super) fn hello() -> Vec<u8> {
    let mut hello = MAGIC.to_vec();
    hello.extend_from_slice(&PROTOCOL_VERSION.to_be_bytes());
    hello
}

/// Checks what the new process has said first.
///
/// # Errors
/// It is something else, or another version.
pub(super) fn check_hello(body: &[u8]) -> Result<(), String> {
    let Some(version) = body.strip_prefix(MAGIC).and_then(|rest| <[u8; 2]>::try_from(rest).ok()) else {
        return Err("what has connected is no server of this library".into());
    };
    match u16::from_be_bytes(version) {
        PROTOCOL_VERSION => Ok(()),
        other => Err(format!("it speaks version {other}, and this process version {PROTOCOL_VERSION}")),
    }
}

/// The addresses of listeners, in order.
pub(super) fn export_listeners(listeners: &[SharedListener]) -> Vec<u8> {
    let mut out = StateWriter::new(PROTOCOL_VERSION);
    for listener in listeners {
        export_addr(&listener.addr, &mut out);
        out.option(listener.file.as_ref(), |out, file| {
            out.bytes(file.path.as_os_str().as_bytes());
            out.u64(file.device);
            out.u64(file.inode);
        });
    }
    out.into_bytes()
}

/// Reads the addresses of listeners that came with these sockets.
pub(super) fn import_listeners(body: &[u8], sockets: Vec<OwnedFd>) -> Result<Vec<SharedListener>, StateError> {
    let mut state = StateReader::new(body, PROTOCOL_VERSION)?;
    let mut listeners = Vec::new();
    for socket in sockets {
        let (addr, file) = (import_addr(&mut state)?, state.option(import_file)?);
        listeners.push(SharedListener { addr, file, socket });
    }
    state.end()?;
    Ok(listeners)
}

fn import_file(state: &mut StateReader<'_>) -> Result<FileIdentity, StateError> {
    let path = OsStr::from_bytes(state.bytes()?).into();
    Ok(FileIdentity { path, device: state.u64()?, inode: state.u64()? })
}

pub(super) fn export_addition(addition: &Addition) -> Vec<u8> {
    let mut out = StateWriter::new(PROTOCOL_VERSION);
    out.u64(addition.id);
    let more = match &addition.change {
        Change::More { output, topics } => Some((output, topics)),
        Change::Stays => None,
    };
    out.option(more, |out, (output, topics)| {
        out.bytes(output);
        export_topics(topics, out);
    });
    out.into_bytes()
}

pub(super) fn import_addition(body: &[u8]) -> Result<Addition, StateError> {
    let mut state = StateReader::new(body, PROTOCOL_VERSION)?;
    let id = state.u64()?;
    let more = state.option(|state| Ok((state.bytes()?.to_vec(), import_topics(state)?)))?;
    state.end()?;
    let change = more.map_or(Change::Stays, |(output, topics)| Change::More { output, topics });
    Ok(Addition { id, change })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_version_of_this_library_is_served() {
        assert_eq!(check_hello(&hello()), Ok(()));
        let mut other = hello();
        other[9] = 7;
        assert_eq!(check_hello(&other), Err("it speaks version 7, and this process version 2".into()));
        for garbage in [&b""[..], b"GET / HTTP/1.1", &hello()[..9], &[hello(), vec![0]].concat()] {
            assert_eq!(check_hello(garbage), Err("what has connected is no server of this library".into()));
        }
    }

    #[test]
    fn an_addition_comes_back() {
        let topics = vec![("a".to_owned(), 7), ("ä/ö".to_owned(), u64::MAX)];
        for change in [Change::Stays, Change::More { output: b"frames".to_vec(), topics }] {
            let body = export_addition(&Addition { id: 7, change });
            let read = import_addition(&body).expect("an addition");
            assert_eq!(export_addition(&read), body);
            for cut in 0..body.len() {
                assert_eq!(import_addition(&body[..cut]).unwrap_err(), StateError::Truncated);
            }
        }
    }
}
