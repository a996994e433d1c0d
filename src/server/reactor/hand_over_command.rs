//! What the threads that hand a server over ask of the reactor.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::protocol::PeerAddr;
use crate::transport::stream::Stream;
use crate::worker::event_loop::arriving::Arriving;

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
    /// Go on with the connections of another process, and accept from here on.
    TakeOver(Vec<Arrived>),
}

/// A listening socket that is given to another process.
#[derive(Debug)]
pub(in crate::server) struct SharedListener {
    pub(in crate::server) addr: PeerAddr,
    pub(in crate::server) socket: OwnedFd,
}

/// A connection of another process, with its socket.
pub(in crate::server) type Arrived = (Stream, Arriving);

/// Nothing is accepted.
#[derive(Debug, Default)]
pub(in crate::server) struct Pause {
    /// Dropped when no opening handshake is under way any more, or at the time.
    pub(super) waiting: Option<(Sender<()>, Instant)>,
}
