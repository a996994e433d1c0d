//! How a client reconnects: settings and hooks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::client::builder::ClientBuilder;
use crate::client::reconnect::outage::Outage;
use crate::client::reconnect::schedule::Policy;
use crate::config::ConfigError;
use crate::config::backoff::Jitter;
use crate::error::SendError;
use crate::protocol::handshake::client::Agreed;
use crate::protocol::http::ResponseHead;
use crate::protocol::message::{CowMessage, Message};
use crate::worker::handle::peer::Peer;

type RetryHook = Arc<dyn Fn(&Outage) -> bool + Send + Sync>;
type AttemptHook = Box<dyn FnMut(ClientBuilder, u32) -> ClientBuilder + Send>;
type ConnectHook = Box<dyn FnMut(&Session<'_>) + Send>;

/// How a [`ReconnectingClient`](crate::ReconnectingClient) reconnects. The setters chain. An invalid setting is an
/// error of [`ClientBuilder::reconnect`].
///
/// The hooks run on the client's own thread, one at a time. They may block. While one does, the client does not
/// reconnect, and a client that is closed ends after the hook returns. If a hook panics, the client ends.
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
    ///
    /// ```
    /// use threadbare::Reconnect;
    ///
    /// let reconnect = Reconnect::new().max_attempts(10);
    /// ```
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

    /// The first delay, of which [`jitter`](Reconnect::jitter) makes some random. Default: 5 s, so that the first
    /// attempt to reconnect comes at a random time within 5 s, as RFC 6455 7.2.3 recommends. The very first attempt to
    /// connect is not delayed.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Reconnect;
    ///
    /// let reconnect = Reconnect::new().initial_delay(Duration::from_millis(500)); // there are few clients
    /// ```
    #[must_use]
    pub fn initial_delay(mut self, delay: Duration) -> Reconnect {
        self.policy.backoff.initial = delay;
        self
    }

    /// The longest delay, of which [`jitter`](Reconnect::jitter) makes some random. Default: 60 s, so that a person
    /// does not wait long once the server is back.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Reconnect;
    ///
    /// let reconnect = Reconnect::new().max_delay(Duration::from_secs(10));
    /// ```
    #[must_use]
    pub fn max_delay(mut self, delay: Duration) -> Reconnect {
        self.policy.backoff.max = delay;
        self
    }

    /// By how much each delay is multiplied for the next one. Default: 2, the binary backoff of RFC 6455 7.2.3.
    ///
    /// ```
    /// use threadbare::Reconnect;
    ///
    /// let reconnect = Reconnect::new().multiplier(1.5);
    /// ```
    #[must_use]
    pub fn multiplier(mut self, factor: f64) -> Reconnect {
        self.policy.backoff.multiplier = factor;
        self
    }

    /// How much of each delay is random. Default: [`Jitter::Full`].
    ///
    /// ```
    /// use threadbare::{Jitter, Reconnect};
    ///
    /// let reconnect = Reconnect::new().jitter(Jitter::Equal);
    /// ```
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> Reconnect {
        self.policy.backoff.jitter = jitter;
        self
    }

    /// How long a connection must last before the count of attempts and the delay start again from the beginning.
    /// Default: 10 s, so that a server that accepts every connection and drops it soon after is not connected to all
    /// the time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Reconnect;
    ///
    /// let reconnect = Reconnect::new().stable_after(Duration::from_secs(60));
    /// ```
    #[must_use]
    pub fn stable_after(mut self, time: Duration) -> Reconnect {
        self.policy.stable_after = time;
        self
    }

    /// How many attempts in a row are made before the client ends. Default: no limit, because a client that nobody
    /// supervises should connect whenever its server is back.
    ///
    /// ```
    /// use threadbare::Reconnect;
    ///
    /// let reconnect = Reconnect::new().max_attempts(10);
    /// ```
    #[must_use]
    pub fn max_attempts(mut self, count: u32) -> Reconnect {
        self.policy.max_attempts = Some(count);
        self
    }

    /// How long attempts are made before the client ends. The time counts from the start, or from the end of the last
    /// connection that lasted for [`stable_after`](Reconnect::stable_after). The last attempt begins when the time is
    /// over. Default: no limit.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Reconnect;
    ///
    /// let reconnect = Reconnect::new().give_up_after(Duration::from_secs(60 * 60)); // somebody has to look at it
    /// ```
    #[must_use]
    pub fn give_up_after(mut self, time: Duration) -> Reconnect {
        self.policy.give_up_after = Some(time);
        self
    }

    /// The longest `Retry-After` that is observed; a server that asks for more is tried again after this time. The
    /// usual delay is added, so that clients that were told the same time do not all connect together. Default: 5 min,
    /// so that a mistaken header does not keep the client away for a day.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Reconnect;
    ///
    /// let reconnect = Reconnect::new().max_retry_after(Duration::from_secs(60));
    /// ```
    #[must_use]
    pub fn max_retry_after(mut self, time: Duration) -> Reconnect {
        self.policy.max_retry_after = time;
        self
    }

    /// The high-water mark of the messages that wait for a connection, in bytes. A message counts 64 bytes and its
    /// payload. A message is queued while less than this is queued, whatever its own size. Default: 1 MiB.
    ///
    /// ```
    /// use threadbare::Reconnect;
    ///
    /// let reconnect = Reconnect::new().max_outbox_size(64 << 10); // old messages are of no use
    /// ```
    #[must_use]
    pub fn max_outbox_size(mut self, bytes: usize) -> Reconnect {
        self.max_outbox_size = bytes;
        self
    }

    /// Decides whether an outage is followed by another attempt. Default: [`Outage::is_transient`]. The hook is not
    /// asked about a client that the application closed, and [`max_attempts`](Reconnect::max_attempts) and
    /// [`give_up_after`](Reconnect::give_up_after) apply whatever it returns.
    ///
    /// ```
    /// use threadbare::{CloseCode, Outage, Reconnect};
    ///
    /// // This service closes with 1000 when it restarts, and with 4001 when the account is gone.
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

    /// Sets a hook that is called before each attempt, the first included, with the client's builder and the number of
    /// the attempt. The attempt uses the builder that the hook returns, with a fresh token in a header, for example.
    /// The limits and timeouts of [`ClientBuilder::config`] and the pool can not be changed.
    ///
    /// ```
    /// use threadbare::Reconnect;
    ///
    /// fn fresh_token() -> String {
    ///     "secret".into() // it may block
    /// }
    ///
    /// let reconnect = Reconnect::new().before_attempt(|builder, attempt| {
    ///     println!("attempt {attempt}");
    ///     builder.header("Authorization", &format!("Bearer {}", fresh_token()))
    /// });
    /// ```
    #[must_use]
    pub fn before_attempt(
        mut self,
        hook: impl FnMut(ClientBuilder, u32) -> ClientBuilder + Send + 'static,
    ) -> Reconnect {
        self.before_attempt = Some(Box::new(hook));
        self
    }

    /// Sets a hook that is called on each new connection before the queued messages are sent, to subscribe again, for
    /// example.
    ///
    /// ```
    /// use threadbare::Reconnect;
    ///
    /// let reconnect = Reconnect::new().on_connect(|session| {
    ///     let _ = session.send("subscribe: prices"); // an error says that the connection has ended already
    /// });
    /// ```
    #[must_use]
    pub fn on_connect(mut self, hook: impl FnMut(&Session<'_>) + Send + 'static) -> Reconnect {
        self.on_connect = Some(Box::new(hook));
        self
    }

    /// Returns an error for the first invalid setting.
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
///
/// ```
/// use threadbare::{Reconnect, Session};
///
/// fn subscribe(session: &Session<'_>) {
///     println!("connection {} after attempt {}", session.number(), session.attempt());
///     let _ = session.send("subscribe: prices"); // an error says that the connection has ended already
/// }
///
/// let reconnect = Reconnect::new().on_connect(subscribe);
/// ```
#[derive(Debug)]
pub struct Session<'a> {
    pub(super) peer: &'a Peer,
    pub(super) agreed: &'a Agreed,
    pub(super) attempt: u32,
    pub(super) number: u64,
}

impl Session<'_> {
    /// Sends a message on this connection, before the queued messages; see [`Peer::send`].
    ///
    /// ```
    /// use threadbare::Session;
    ///
    /// fn subscribe(session: &Session<'_>, topics: &[&str]) {
    ///     for topic in topics {
    ///         if session.send(format!("subscribe: {topic}")).is_err() {
    ///             return; // the hook is called again on the next connection
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// Returns the message if the connection has ended. The hook is then called again on the next connection.
    pub fn send<'a>(&self, message: impl Into<CowMessage<'a>>) -> Result<(), SendError<Message>> {
        self.peer.send(message)
    }

    /// A handle to this connection, which can not be used for the next one. [`abort`](Peer::abort) drops the
    /// connection, and the client reconnects.
    ///
    /// ```
    /// use threadbare::Session;
    ///
    /// fn check(session: &Session<'_>) {
    ///     if session.subprotocol() != Some("feed.v2") {
    ///         session.peer().abort(); // another attempt may reach another server
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.peer
    }

    /// The server's response to the opening handshake.
    ///
    /// ```
    /// use threadbare::Session;
    ///
    /// fn print_server(session: &Session<'_>) {
    ///     println!("served by {:?}", session.response().header("Server"));
    /// }
    /// ```
    #[must_use]
    pub fn response(&self) -> &ResponseHead {
        self.agreed.response()
    }

    /// The subprotocol that the server chose.
    ///
    /// ```
    /// use threadbare::Session;
    ///
    /// fn subscribe(session: &Session<'_>) {
    ///     let _ = session.send(match session.subprotocol() {
    ///         Some("feed.v2") => r#"{"subscribe":"prices"}"#,
    ///         _ => "subscribe: prices",
    ///     });
    /// }
    /// ```
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.agreed.subprotocol()
    }

    /// The number of the attempt that succeeded, from 1.
    ///
    /// ```
    /// use threadbare::Reconnect;
    ///
    /// let reconnect = Reconnect::new().on_connect(|session| {
    ///     if session.attempt() > 1 {
    ///         println!("it took {} attempts", session.attempt());
    ///     }
    /// });
    /// ```
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The number of this connection among those of its client, from 1.
    ///
    /// ```
    /// use threadbare::Reconnect;
    ///
    /// let reconnect = Reconnect::new().on_connect(|session| {
    ///     let _ = session.send(if session.number() == 1 { "everything" } else { "what is new" });
    /// });
    /// ```
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
}
