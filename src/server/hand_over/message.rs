//! What the two processes say to each other.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use crate::protocol::state::{StateError, StateReader, StateWriter};
use crate::server::hand_over::{MAGIC, PROTOCOL_VERSION};
use crate::server::listener::socket_file::FileIdentity;
use crate::server::reactor::hand_over_command::SharedListener;
use crate::worker::event_loop::arriving::{export_addr, export_topics, import_addr, import_topics};
use crate::worker::handle::hand_over::{Addition, Change, Rest};

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
    /// The rest of connections that were sent.
    pub(in crate::server::hand_over) const ADDITIONS: u8 = 8;
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

/// The rest of connections, as one message.
pub(super) fn additions() -> StateWriter {
    StateWriter::new(PROTOCOL_VERSION)
}

/// Appends the rest of a connection.
pub(super) fn export_addition(Addition { id, change }: &Addition, out: &mut StateWriter) {
    out.u64(*id);
    let rest = match change {
        Change::Goes(rest) => Some(rest),
        Change::Stays => None,
    };
    out.option(rest, |out, Rest { data, output, topics }| {
        out.bytes(data);
        out.bytes(output);
        export_topics(topics, out);
    });
}

/// Reads the rest of connections.
pub(super) fn import_additions(body: &[u8], mut take: impl FnMut(Addition)) -> Result<(), StateError> {
    let mut state = StateReader::new(body, PROTOCOL_VERSION)?;
    while !state.is_empty() {
        let id = state.u64()?;
        let rest = state.option(|state| {
            let (data, output) = (state.bytes()?.to_vec(), state.bytes()?.to_vec());
            Ok(Rest { data, output, topics: import_topics(state)? })
        })?;
        take(Addition { id, change: rest.map_or(Change::Stays, Change::Goes) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_version_of_this_library_is_served() {
        assert_eq!(check_hello(&hello()), Ok(()));
        let mut other = hello();
        other[9] = 7;
        assert_eq!(check_hello(&other), Err("it speaks version 7, and this process version 3".into()));
        for garbage in [&b""[..], b"GET / HTTP/1.1", &hello()[..9], &[hello(), vec![0]].concat()] {
            assert_eq!(check_hello(garbage), Err("what has connected is no server of this library".into()));
        }
    }

    #[test]
    fn additions_come_back() {
        let topics = vec![("a".to_owned(), 7), ("ä/ö".to_owned(), u64::MAX)];
        let rest = Rest { data: b"state".to_vec(), output: b"frames".to_vec(), topics };
        let mut body = additions();
        let mut ends = vec![body.len()];
        for change in [Change::Stays, Change::Goes(rest)] {
            export_addition(&Addition { id: 7, change }, &mut body);
            ends.push(body.len());
        }
        let (mut again, body) = (additions(), body.into_bytes());
        import_additions(&body, |addition| export_addition(&addition, &mut again)).expect("additions");
        assert_eq!(again.into_bytes(), body);
        for cut in 0..body.len() {
            let expected = if ends.contains(&cut) { Ok(()) } else { Err(StateError::Truncated) };
            assert_eq!(import_additions(&body[..cut], drop), expected, "cut at {cut}");
        }
    }
}
