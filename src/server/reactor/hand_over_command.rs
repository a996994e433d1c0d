//! What the threads that hand a server over ask of the reactor.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::protocol::PeerAddr;
use crate::server::listener::socket_file::FileIdentity;

/// What the threads that hand over ask of the reactor.
pub(in crate::server) enum HandOverCommand {
    /// Say what the listeners are, for another process.
    ShareListeners(Sender<io::Result<Vec<SharedListener>>>),
    /// Accept nothing for now. The sender is dropped when no opening handshake is under way any more, or at the time.
    Pause(Sender<()>, Instant),
    /// Accept again.
    Unpause,
    /// Close the listeners, which another process has.
    ReleaseListeners,
    /// Accept from here on: the listeners of another process are this one's.
    OwnListeners,
}

/// A listening socket that is given to another process.
#[derive(Debug)]
pub(in crate::server) struct SharedListener {
    pub(in crate::server) addr: PeerAddr,
    /// The file of a Unix socket that the library has made.
    pub(in crate::server) file: Option<FileIdentity>,
    pub(in crate::server) socket: OwnedFd,
}

/// Nothing is accepted.
#[derive(Debug, Default)]
pub(in crate::server) struct Pause {
    /// Dropped when no opening handshake is under way any more, or at the time.
    pub(super) waiting: Option<(Sender<()>, Instant)>,
}
