//! When somebody is slow: a client, an application, a handler, a silent peer.
//!
//! # A client that does not read
//!
//! Its messages are queued up to
//! [`max_write_buffer_size`](crate::Config::max_write_buffer_size). This is a high-water mark: a message is taken while
//! less is queued, whatever its own size. What happens above the mark depends on where the message comes from:
//!
//! * A handler's answer is taken, and the worker reads no more from this connection until the queue is below the mark.
//! * For a message from another thread and for a broadcast, the policy decides:
//!
//! | [`SlowConsumer`] | `send` from another thread | a broadcast |
//! | --- | --- | --- |
//! | `Refuse`, the default of a server | takes answers to events, then returns [`SendError::Full`] | leaves the connection out, and counts it |
//! | `Block`, the default of a client | waits for room | leaves the connection out, and counts it |
//! | `Drop` | drops this message, and counts it in [`Stats::dropped`] | the same |
//! | `Disconnect` | closes the connection with 1008 | the same |
//!
//! The policy of [`Config::slow_consumer`] holds for all connections, [`Peer::set_slow_consumer`] sets that of one, and
//! [`SendOptions::slow_consumer`] that of one message, or of a [`Prepared`] one and its broadcasts. The narrowest decides:
//!
//! ```
//! use threadbare::{Message, Peer, Prepared, SendError, SlowConsumer};
//!
//! fn join(player: &Peer, viewer: &Peer) -> Result<(), SendError<Message>> {
//!     player.set_slow_consumer(SlowConsumer::Disconnect); // a game without a move is over
//!     viewer.set_slow_consumer(SlowConsumer::Drop); // a viewer may miss something
//!     player.send_with("somebody is typing", SlowConsumer::Drop)?; // this may be missed by everybody
//!     let typing = Prepared::with("somebody is typing", SlowConsumer::Drop);
//!     let _ = viewer.send_prepared(&typing); // an error says that the viewer has left
//!     Ok(())
//! }
//! ```
//!
//! **Messages that are soon out of date**, such as prices, positions and progress, need not be dropped or refused. With
//! [`SendOptions::latest`] a message takes the place of one with the same key that was not sent yet. A client that reads
//! fast gets every one, a client that reads slowly the newest, and a client that does not read costs one message for each
//! key:
//!
//! ```
//! use threadbare::{Prepared, SendOptions, ServerHandle};
//!
//! fn publish(everyone: &ServerHandle, instrument: u32, price: &str) {
//!     let latest = SendOptions::new().latest(u64::from(instrument));
//!     everyone.broadcast_prepared(&Prepared::with(price, latest)); // or `peer.send_with(price, latest)`
//! }
//! ```
//!
//! * While anything else waits to be written to the connection, such messages wait beside its queue. They are sent when
//!   all of that is written, in the order in which their keys came. So they may arrive after messages without a key that
//!   were sent later, but never before one that the same thread sent earlier, and no value arrives after a newer one.
//! * Up to 1,024 keys and [`max_write_buffer_size`](crate::Config::max_write_buffer_size) may wait at a connection. For a
//!   further key the policy decides; a key that waits is always replaced.
//! * [`Stats::replaced`] counts what was replaced. A close frame follows what waits.
//! * They do not raise the queue above the mark, so that `write_timeout` does not begin because of them. A client that
//!   reads nothing at all answers no pings either, and is dropped after [`pong_timeout`](crate::Config::pong_timeout).
//!
//! A client that takes less than [`min_write_progress`](crate::Config::min_write_progress) in each
//! [`write_timeout`](crate::Config::write_timeout) while its queue is above the mark is closed with 1008, whatever the
//! policy. Control frames always have room.
//!
//! With `Refuse`, the worker reads no more from a connection whose queue is above the mark, as it does for a handler.
//! The events that were read before may still be answered: their answers are taken until twice
//! [`max_event_buffer_size`](crate::Config::max_event_buffer_size) more is queued. So a loop that sends one answer to
//! each event loses none, and no client holds up another. `Full` is for what a client did not ask for:
//! the messages of other clients, or a feed. Leave such a message out, or choose a policy for it:
//!
//! ```no_run
//! use threadbare::{Config, Event, Server, SlowConsumer};
//!
//! let config = Config::default().max_write_buffer_size(256 << 10).slow_consumer(SlowConsumer::Disconnect);
//! let server = Server::builder().config(config).bind("127.0.0.1:8080")?;
//! let everyone = server.handle();
//! for event in &server {
//!     if let Event::Message(_, message) = event {
//!         everyone.broadcast(message);
//!     }
//! }
//! # Ok::<(), threadbare::BuildError>(())
//! ```
//!
//! # An application that does not take its events
//!
//! Above
//! [`max_event_buffer_size`](crate::Config::max_event_buffer_size) the workers stop reading from the connections behind
//! that receiver that have their share of what waits, and TCP makes those clients wait. Connections that send little are
//! served on, so that their pings and closes are answered. New ones wait until there is room. Nothing is lost and nothing is reordered. Connections behind other
//! receivers go on. Writing and deadlines go on too. A connection that is not read is not pinged.
//!
//! # A handler that blocks
//!
//! The worker's other connections wait. With a single worker, handshakes wait too. Use
//! events, or give the work to another thread and answer through a [`Peer`]:
//!
//! ```
//! use std::sync::mpsc::SyncSender;
//! use threadbare::{CloseCode, Handler, Message, MessageRef, Peer, Socket};
//!
//! /// Gives each message to a thread that may block.
//! struct Queries {
//!     jobs: SyncSender<(Peer, Message)>,
//! }
//!
//! impl Handler for Queries {
//!     fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
//!         if self.jobs.try_send((socket.peer(), message.into())).is_err() {
//!             // The thread has more to do than the channel holds, and the worker must not wait for it.
//!             let _ = socket.close(CloseCode::TRY_AGAIN_LATER, "busy"); // it may be closing already
//!         }
//!     }
//! }
//! ```
//!
//! # A silent peer
//!
//! The worker pings a peer after [`ping_interval`](crate::Config::ping_interval) of silence. If it
//! hears nothing for [`pong_timeout`](crate::Config::pong_timeout) more, the connection ends with code 1006. A peer that
//! still takes what was sent before the ping has more time. A [`WebSocket`] has no worker and is not pinged: set the
//! timeouts of its stream.
//!
//! [`Config::slow_consumer`]: crate::Config::slow_consumer
//! [`Peer::set_slow_consumer`]: crate::Peer::set_slow_consumer
//! [`Peer`]: crate::Peer
//! [`Prepared`]: crate::Prepared
//! [`SendError::Full`]: crate::SendError::Full
//! [`SendOptions::latest`]: crate::SendOptions::latest
//! [`SendOptions::slow_consumer`]: crate::SendOptions::slow_consumer
//! [`SlowConsumer`]: crate::SlowConsumer
//! [`Stats::dropped`]: crate::Stats::dropped
//! [`Stats::replaced`]: crate::Stats::replaced
//! [`WebSocket`]: crate::WebSocket
