//! The configuration of permessage-deflate.

/// How messages are compressed, and which parameters are negotiated with the peer.
///
/// The defaults are the same for servers and clients. With them, an idle connection uses no memory for compression at
/// either endpoint.
///
/// ```
/// use threadbare::protocol::deflate::DeflateConfig;
///
/// let config = DeflateConfig::default().threshold(1024).server_no_context_takeover(false);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeflateConfig {
    pub(crate) server_no_context_takeover: bool,
    pub(crate) client_no_context_takeover: bool,
    pub(crate) server_max_window_bits: u8,
    pub(crate) client_max_window_bits: u8,
    pub(crate) level: u8,
    pub(crate) threshold: u32,
}

impl Default for DeflateConfig {
    fn default() -> DeflateConfig {
        DeflateConfig {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: 15,
            client_max_window_bits: 15,
            level: 1,
            threshold: 128,
        }
    }
}

impl DeflateConfig {
    /// Sets whether the server compresses every message independently of the messages before it (RFC 7692 7.1.1.1).
    /// Default: `true`, so that the connections of a thread share one compressor. With `false`, similar small messages
    /// become much smaller, but a connection that sends uses 371 KiB at the server, and an idle one 4 KiB.
    ///
    /// ```
    /// use threadbare::DeflateConfig;
    ///
    /// // Each message is similar to the one before it, and there are few connections.
    /// let config = DeflateConfig::default().server_no_context_takeover(false);
    /// ```
    #[must_use]
    pub fn server_no_context_takeover(mut self, without: bool) -> DeflateConfig {
        self.server_no_context_takeover = without;
        self
    }

    /// Sets whether the client compresses every message independently of the messages before it (RFC 7692 7.1.1.2). A
    /// server with `true` requires this of every client. Default: `true`. With `false`, a connection keeps 47 KiB at
    /// the server after it has received a compressed message.
    ///
    /// ```
    /// use threadbare::DeflateConfig;
    ///
    /// let config = DeflateConfig::default().client_no_context_takeover(false);
    /// assert!(!config.offer().contains("client_no_context_takeover"));
    /// ```
    #[must_use]
    pub fn client_no_context_takeover(mut self, without: bool) -> DeflateConfig {
        self.client_no_context_takeover = without;
        self
    }

    /// Sets the base-2 logarithm of the server's LZ77 window (RFC 7692 7.1.2.1), from 9 to 15. Default: 15. A smaller
    /// window saves memory at the server with context takeover (245 KiB with 9) and compresses worse.
    ///
    /// RFC 7692 also allows 8, which zlib does not support.
    ///
    /// ```
    /// use threadbare::DeflateConfig;
    ///
    /// let config = DeflateConfig::default().server_max_window_bits(11); // a window of 2 KiB
    /// assert!(config.offer().contains("server_max_window_bits=11"));
    /// ```
    #[must_use]
    pub fn server_max_window_bits(mut self, bits: u8) -> DeflateConfig {
        self.server_max_window_bits = bits;
        self
    }

    /// Sets the base-2 logarithm of the client's LZ77 window (RFC 7692 7.1.2.2), from 9 to 15. Default: 15. A server
    /// can request this only of clients that offer the parameter; the others use 15.
    ///
    /// ```
    /// use threadbare::DeflateConfig;
    ///
    /// let config = DeflateConfig::default().client_max_window_bits(11); // a window of 2 KiB
    /// assert!(config.offer().contains("client_max_window_bits=11"));
    /// ```
    #[must_use]
    pub fn client_max_window_bits(mut self, bits: u8) -> DeflateConfig {
        self.client_max_window_bits = bits;
        self
    }

    /// Sets the compression level, from 1 (fastest) to 9 (smallest). Default: 1, which achieves most of the compression
    /// in a fraction of the time of higher levels.
    ///
    /// ```
    /// use threadbare::DeflateConfig;
    ///
    /// let config = DeflateConfig::default().level(6); // smaller messages, for more time
    /// ```
    #[must_use]
    pub fn level(mut self, level: u8) -> DeflateConfig {
        self.level = level;
        self
    }

    /// Sets the size in bytes below which a message is not compressed. Default: 128, because smaller messages hardly
    /// become smaller on their own. With context takeover a smaller threshold can be useful.
    ///
    /// ```
    /// use threadbare::DeflateConfig;
    ///
    /// let config = DeflateConfig::default().threshold(1024); // short messages are sent as they are
    /// ```
    #[must_use]
    pub fn threshold(mut self, bytes: u32) -> DeflateConfig {
        self.threshold = bytes;
        self
    }

    /// Returns the first invalid setting, if there is one: its name, its value, and its valid range. An invalid
    /// configuration cannot be negotiated.
    ///
    /// ```
    /// use threadbare::DeflateConfig;
    ///
    /// assert_eq!(DeflateConfig::default().fault(), None);
    /// let (name, met, _needed) = DeflateConfig::default().level(10).fault().expect("the level is invalid");
    /// assert_eq!((name, met.to_string()), ("level", "10".to_owned()));
    /// ```
    #[must_use]
    pub fn fault(&self) -> Option<(&'static str, u8, &'static str)> {
        let settings = [
            ("server_max_window_bits", self.server_max_window_bits, 9..=15, "9 to 15"),
            ("client_max_window_bits", self.client_max_window_bits, 9..=15, "9 to 15"),
            ("level", self.level, 1..=9, "1 to 9"),
        ];
        let wrong = settings.into_iter().find(|(_, value, range, _)| !range.contains(value));
        wrong.map(|(name, value, _, needed)| (name, value, needed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_invalid_setting_is_returned() {
        assert_eq!(DeflateConfig::default().fault(), None);
        for bits in [0, 8, 16, 255] {
            let fault = |name| Some((name, bits, "9 to 15"));
            assert_eq!(DeflateConfig::default().server_max_window_bits(bits).fault(), fault("server_max_window_bits"));
            assert_eq!(DeflateConfig::default().client_max_window_bits(bits).fault(), fault("client_max_window_bits"));
        }
        assert_eq!(DeflateConfig::default().level(0).fault(), Some(("level", 0, "1 to 9")));
        assert_eq!(DeflateConfig::default().level(10).fault(), Some(("level", 10, "1 to 9")));
    }
}
