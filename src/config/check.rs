//! Which settings are refused.

use std::fmt;

use super::Config;
use crate::protocol::receive::Receive;

impl Config {
    /// Returns an error for the first invalid setting.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("max_message_size", self.max_message_size, 1),
            ("max_write_buffer_size", self.max_write_buffer_size, 1),
            ("fragment_size", self.fragment_size, 1),
            ("max_event_buffer_size", self.max_event_buffer_size, 1),
            // "GET / HTTP/1.1" and the four headers that RFC 6455 4.1 demands take over 100 bytes.
            ("max_head_size", self.max_head_size, 256),
            ("max_headers", self.max_headers, 5),
            ("max_connections", self.max_connections, 1),
            // A frame's header and a short message.
            ("read_buffer_size", self.read_buffer_size, 1 << 10),
            // A worker takes more than half of this in a build without optimization.
            ("thread_stack_size", self.thread_stack_size.unwrap_or(usize::MAX), 128 << 10),
            ("max_connections_per_address", self.max_connections_per_address.unwrap_or(1), 1),
            ("max_topics", self.max_topics, 1),
            ("max_subscriptions", self.max_subscriptions, 1),
        ];
        let one = self.max_message_size.saturating_add(self.max_write_buffer_size);
        if self.max_memory.is_some_and(|bytes| bytes < one) {
            let met = self.max_memory.unwrap_or_default();
            let needed = "at least max_message_size and max_write_buffer_size together";
            return Err(ConfigError::new("max_memory", met, needed));
        }
        if self.receive == (Receive::Fragments { max_size: Some(0) }) {
            return Err(ConfigError::new("max_size of fragments", 0, "at least 1"));
        }
        for (name, value, least) in sizes {
            if value < least {
                return Err(ConfigError { name, met: value.to_string(), needed: format!("at least {least}") });
            }
        }
        let times = [
            ("handshake_timeout", Some(self.handshake_timeout)),
            ("ping_interval", self.ping_interval),
            ("pong_timeout", Some(self.pong_timeout)),
            ("close_timeout", Some(self.close_timeout)),
            ("write_timeout", Some(self.write_timeout)),
            ("max_lifetime", self.max_lifetime),
            ("slow_callback", self.slow_callback),
        ];
        for (name, value) in times {
            if value.is_some_and(|value| value.is_zero()) {
                return Err(ConfigError { name, met: "0".into(), needed: "more than zero".into() });
            }
        }
        #[cfg(feature = "deflate")]
        if let Some((name, met, needed)) = self.deflate.config.as_ref().and_then(crate::DeflateConfig::fault) {
            return Err(ConfigError::new(name, met, needed));
        }
        Ok(())
    }
}

/// The largest number of workers, and of channels. Each takes a thread, or memory, from the start.
const MAX_THREADS: usize = 1024;

/// Returns an error if `count`, the setting called `name`, is no number of threads or of channels.
pub(crate) fn check_threads(name: &'static str, count: usize) -> Result<(), ConfigError> {
    if (1..=MAX_THREADS).contains(&count) {
        return Ok(());
    }
    Err(ConfigError { name, met: count.to_string(), needed: format!("1 to {MAX_THREADS}") })
}

/// A setting is invalid.
///
/// ```
/// use std::time::Duration;
/// use threadbare::{BuildError, Config, Server};
///
/// let config = Config::default().close_timeout(Duration::ZERO);
/// let Err(BuildError::Config(error)) = Server::builder().config(config).bind("127.0.0.1:0") else {
///     panic!("the setting is invalid");
/// };
/// assert_eq!(error.to_string(), "close_timeout is 0, but must be more than zero");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    name: &'static str,
    met: String,
    needed: String,
}

impl ConfigError {
    pub(crate) fn new(name: &'static str, met: impl fmt::Display, needed: &str) -> ConfigError {
        ConfigError { name, met: met.to_string(), needed: needed.to_owned() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, but must be {}", self.name, self.met, self.needed)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn invalid_settings_are_refused() {
        assert_eq!(Config::default().check(), Ok(()));
        let refused = |config: Config| config.check().unwrap_err().to_string();
        assert_eq!(refused(Config::default().max_head_size(10)), "max_head_size is 10, but must be at least 256");
        assert_eq!(
            refused(Config::default().close_timeout(Duration::ZERO)),
            "close_timeout is 0, but must be more than zero"
        );
        assert_eq!(
            refused(Config::default().receive(Receive::Fragments { max_size: Some(0) })),
            "max_size of fragments is 0, but must be at least 1"
        );
        assert!(Config::default().ping_interval(None).check().is_ok());
    }
}
