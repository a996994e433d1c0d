//! What an application wants of permessage-deflate.

/// How messages are compressed, and what is asked of the peer.
///
/// The setters chain. A server and a client start from the same defaults, under which an idle connection costs no
/// memory for compression at either end.
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
    /// Whether the server compresses every message by itself, without recourse to the ones before (RFC 7692 7.1.1.1).
    /// Default: true, so that the connections of a thread share one compressor. With `false`, small messages that
    /// resemble each other shrink much further, for 371 KiB a connection at the server while it sends, of which an idle one
    /// keeps 4.
    #[must_use]
    pub fn server_no_context_takeover(mut self, without: bool) -> DeflateConfig {
        self.server_no_context_takeover = without;
        self
    }

    /// Whether the client compresses every message by itself (RFC 7692 7.1.1.2); a server that says so holds every
    /// client to it. Default: true. With `false`, a connection on which a compressed message was received keeps 47 KiB
    /// at the server.
    #[must_use]
    pub fn client_no_context_takeover(mut self, without: bool) -> DeflateConfig {
        self.client_no_context_takeover = without;
        self
    }

    /// The binary logarithm of the window in which the server finds repetitions (RFC 7692 7.1.2.1), 9 to 15. A smaller
    /// one saves the server's memory under context takeover (245 KiB with 9) and compresses less. Default: 15.
    ///
    /// The 8 that the RFC knows too is not offered by any zlib.
    #[must_use]
    pub fn server_max_window_bits(mut self, bits: u8) -> DeflateConfig {
        self.server_max_window_bits = bits;
        self
    }

    /// The binary logarithm of the window in which the client finds repetitions (RFC 7692 7.1.2.2), 9 to 15. A server
    /// can ask that only of clients that say they know how; the others keep to 15. Default: 15.
    #[must_use]
    pub fn client_max_window_bits(mut self, bits: u8) -> DeflateConfig {
        self.client_max_window_bits = bits;
        self
    }

    /// How hard to look for repetitions, from 1 to 9. Default: 1, which takes a third of the time of 2 and a fifth of
    /// that of 6 for most of what they gain: a JSON text of 4 KiB becomes 26 % of its size where they get to 19 and 17.
    #[must_use]
    pub fn level(mut self, level: u8) -> DeflateConfig {
        self.level = level;
        self
    }

    /// The size in bytes below which a message is not compressed. Default: 128, where a JSON text alone shrinks by a
    /// tenth; smaller ones do not repay the work. Under context takeover less may pay.
    #[must_use]
    pub fn threshold(mut self, bytes: u32) -> DeflateConfig {
        self.threshold = bytes;
        self
    }

    /// What could not work, if anything: the setting, its value, and what it must be. Negotiation has no use for such a
    /// configuration.
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
    fn what_could_not_work_is_named() {
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
