//! A connection whose opening handshake is complete, on its way to a worker.

use mio::Interest;

use crate::protocol::PeerAddr;
use crate::protocol::deflate::NegotiatedExtension;
use crate::protocol::receive::Receive;
use crate::transport::budget::Charge;
use crate::transport::stream::Stream;
#[cfg(all(target_os = "linux", feature = "handover"))]
use crate::worker::event_loop::arriving::Arriving;
use crate::worker::handle::info::Outcome;
use crate::worker::slab::Key;

/// A connection that a worker is to take over.
pub(crate) struct NewConnection<C> {
    pub(crate) stream: Stream,
    /// The key under which the stream is registered with the worker's poll, and the interests, if it is.
    pub(crate) watched: Option<(Key, Interest)>,
    /// The stream may have more to read than was read.
    pub(crate) readable: bool,
    /// The poll reported that the peer sends no more.
    pub(crate) end_reported: bool,
    pub(crate) addr: PeerAddr,
    pub(crate) outcome: Outcome,
    pub(crate) agreement: NegotiatedExtension,
    /// How messages are received, in place of what the configuration says.
    pub(crate) receive: Option<Receive>,
    /// The bytes that arrived after the opening handshake: the first frames.
    pub(crate) leftover: Vec<u8>,
    /// The application's part; `None` if it could not be made for a connection that another process has served, which is closed.
    pub(crate) app: Option<C>,
    /// What another process has told of the connection, if it comes from there.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) arriving: Option<Box<Arriving>>,
    /// The memory that this takes, if it counts.
    pub(crate) charge: Option<Charge>,
}
