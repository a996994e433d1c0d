//! How a client reconnects: settings and hooks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::client::builder::ClientBuilder;
use crate::client::reconnect::backoff::Jitter;
use crate::client::reconnect::outage::Outage;
use crate::client::reconnect::schedule::Policy;
use crate::config::ConfigError;
use crate::error::SendError;
use crate::protocol::handshake::client::Agreed;
use crate::protocol::http::ResponseHead;
use crate::protocol::message::{CowMessage, Message};
use crate::worker::handle::peer::Peer;

type RetryHook = Arc<dyn Fn(&Outage) -> bool + Send + Sync>;
type AttemptHook = Box<dyn FnMut(ClientBuilder, u32) -> ClientBuilder + Send>;
type ConnectHook = Box<dyn FnMut(&Session<'_>) + Send>;

/// How a [`ReconnectingClient`](crate::ReconnectingClient) reconnects. The setters chain; what does not fit together is
/// refused by [`ClientBuilder::reconnect`].
///
/// The hooks run on the client's own thread, one at a time. They may block; while one does, nothing is reconnected, and
/// a client that is closed ends behind it. A hook that panics ends its client.
///
/// ```
/// use std::time::Duration;
/// use threadbare::{Jitter, Outage, Reconnect};
///
/// # fn fresh_token() -> String { "secret".into() }
/// let reconnect = Reconnect::new()
///     .initial_delay(Duration::from_millis(500))
///     .max_delay(Duration::from_secs(30))
///     .jitter(Jitter::Equal)
///     .before_attempt(|builder, _attempt| builder.header("Authorization", &fresh_token()))
///     .on_connect(|session| drop(session.send("subscribe: prices")))
///     .retry_if(|outage: &Outage| outage.is_transient());
/// ```
pub struct Reconnect {
    pub(super) policy: Policy,
    pub(super) max_outbox_size: usize,
    pub(super) retry_if: Option<RetryHook>,
    pub(super) before_attempt: Option<AttemptHook>,
    pub(super) on_connect: Option<ConnectHook>,
}

impl Reconnect {
    /// Default settings.
    #[must_use]
    pub fn new() -> Reconnect {
        Reconnect {
            policy: Policy::default(),
            max_outbox_size: 1 << 20,
            retry_if: None,
            before_attempt: None,
            on_connect: None,
        }
    }

    /// The first delay, before chance. Default: 5 s, so that the first attempt comes at a random time within 5 s, which
    /// RFC 6455 7.2.3 calls reasonable for the clients of a server that went down. The very first connection is not
    /// delayed.
    #[must_use]
    pub fn initial_delay(mut self, delay: Duration) -> Reconnect {
        self.policy.backoff.initial = delay;
        self
    }

    /// The longest delay, before chance. Default: 60 s, which a person who waits for a service to come back bears.
    #[must_use]
    pub fn max_delay(mut self, delay: Duration) -> Reconnect {
        self.policy.backoff.max = delay;
        self
    }

    /// How much longer each delay is than the one before. Default: 2, the binary backoff of RFC 6455 7.2.3.
    #[must_use]
    pub fn multiplier(mut self, factor: f64) -> Reconnect {
        self.policy.backoff.multiplier = factor;
        self
    }

    /// How chance enters the delays. Default: [`Jitter::Full`].
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> Reconnect {
        self.policy.backoff.jitter = jitter;
        self
    }

    /// How long a connection must hold to be a success: only then delays and attempts are counted anew. Default: 10 s,
    /// longer than a server takes that accepts everybody and then drops them.
    #[must_use]
    pub fn stable_after(mut self, time: Duration) -> Reconnect {
        self.policy.stable_after = time;
        self
    }

    /// How many attempts are made in a row. Default: as many as it takes, because a client that nobody watches should
    /// be there when its server is.
    #[must_use]
    pub fn max_attempts(mut self, count: u32) -> Reconnect {
        self.policy.max_attempts = Some(count);
        self
    }

    /// How long attempts are made, from the start or from the end of the last connection that held; the last one begins
    /// when the time is over. Default: as long as it takes.
    #[must_use]
    pub fn give_up_after(mut self, time: Duration) -> Reconnect {
        self.policy.give_up_after = Some(time);
        self
    }

    /// The most that is heeded of a server's `Retry-After`; the usual delay comes on top, so that those who were told the
    /// same do not come at once. Default: 5 min, lest a mistaken header silence the client for a day.
    #[must_use]
    pub fn max_retry_after(mut self, time: Duration) -> Reconnect {
        self.policy.max_retry_after = time;
        self
    }

    /// The high-water mark of the messages that wait for a connection, in bytes (a message counts 64 beside its payload):
    /// one is taken while less than this is queued, whatever its own size. Default: 1 MiB.
    #[must_use]
    pub fn max_outbox_size(mut self, bytes: usize) -> Reconnect {
        self.max_outbox_size = bytes;
        self
    }

    /// Decides whether an outage is followed by another attempt. Default: [`Outage::is_transient`]. Whatever it says, a
    /// client that was closed stays closed, and [`max_attempts`](Reconnect::max_attempts) and
    /// [`give_up_after`](Reconnect::give_up_after) hold.
    ///
    /// ```
    /// use threadbare::{CloseCode, Outage, Reconnect};
    ///
    /// // This service says 1000 when it restarts, and 4001 when the account is gone.
    /// let reconnect = Reconnect::new().retry_if(|outage| match outage {
    ///     Outage::Closed(reason) if reason.code == CloseCode::NORMAL_CLOSURE => true,
    ///     Outage::Closed(reason) if reason.code == CloseCode(4001) => false,
    ///     outage => outage.is_transient(),
    /// });
    /// ```
    #[must_use]
    pub fn retry_if(mut self, hook: impl Fn(&Outage) -> bool + Send + Sync + 'static) -> Reconnect {
        self.retry_if = Some(Arc::new(hook));
        self
    }

    /// Called before each attempt, the first included, with the builder that the client was made with and the attempt's
    /// number; the attempt is made with the builder that it returns. A place for a header with a fresh token. The limits
    /// and timeouts of [`ClientBuilder::config`] and the pool stay those of the start.
    #[must_use]
    pub fn before_attempt(
        mut self,
        hook: impl FnMut(ClientBuilder, u32) -> ClientBuilder + Send + 'static,
    ) -> Reconnect {
        self.before_attempt = Some(Box::new(hook));
        self
    }

    /// Called on each new connection before what is queued goes out: a place to subscribe anew.
    #[must_use]
    pub fn on_connect(mut self, hook: impl FnMut(&Session<'_>) + Send + 'static) -> Reconnect {
        self.on_connect = Some(Box::new(hook));
        self
    }

    /// Refuses what could not work.
    pub(in crate::client) fn check(&self) -> Result<(), ConfigError> {
        self.policy.check()?;
        if self.max_outbox_size == 0 {
            return Err(ConfigError::new("max_outbox_size", 0, "at least 1"));
        }
        Ok(())
    }
}

impl Default for Reconnect {
    fn default() -> Reconnect {
        Reconnect::new()
    }
}

impl fmt::Debug for Reconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnect")
            .field("policy", &self.policy)
            .field("max_outbox_size", &self.max_outbox_size)
            .finish_non_exhaustive()
    }
}

/// A new connection of a reconnecting client, as [`Reconnect::on_connect`] sees it.
#[derive(Debug)]
pub struct Session<'a> {
    pub(super) peer: &'a Peer,
    pub(super) agreed: &'a Agreed,
    pub(super) attempt: u32,
    pub(super) number: u64,
}

impl Session<'_> {
    /// Sends a message on this connection, ahead of what is queued; see [`Peer::send`].
    ///
    /// # Errors
    /// The message comes back if the connection has ended; the hook is then called again on the next one.
    pub fn send<'a>(&self, message: impl Into<CowMessage<'a>>) -> Result<(), SendError<Message>> {
        self.peer.send(message)
    }

    /// This connection: of use as long as it lasts, and not for the next one.
    /// [`abort`](Peer::abort) ends it and has the client reconnect.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.peer
    }

    /// The server's answer to the handshake.
    #[must_use]
    pub fn response(&self) -> &ResponseHead {
        self.agreed.response()
    }

    /// The subprotocol that the server chose.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.agreed.subprotocol()
    }

    /// The number of the attempt that succeeded, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Which connection of its client this is, from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
}
