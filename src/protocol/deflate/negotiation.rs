//! The negotiation of permessage-deflate (RFC 7692 5 and 7.1).

use std::fmt;

use crate::protocol::deflate::DeflateConfig;
use crate::protocol::http::{ExtensionOffer, extension_offers};

const NAME: &str = "permessage-deflate";

/// The base-2 logarithm of the largest window, which is the default.
const MAX_WINDOW_BITS: u8 = 15;

/// The base-2 logarithm of the smallest window that zlib compresses with. RFC 7692 7.1.2 also allows 8.
pub(super) const MIN_WINDOW_BITS: u8 = 9;

/// The negotiated parameters.
///
/// ```
/// use threadbare::DeflateConfig;
/// use threadbare::protocol::{Connection, Role};
///
/// let params = DeflateConfig::default().confirm([&b"permessage-deflate"[..]])?.expect("it was accepted");
/// assert!(!params.compress.takeover && params.decompress.takeover);
/// let client = Connection::new(Role::Client, 1 << 20).with_deflate(params);
/// # Ok::<(), threadbare::protocol::deflate::NegotiationError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeflateParams {
    /// The parameters for sent messages.
    pub compress: Direction,
    /// The parameters for received messages.
    pub decompress: Direction,
    /// The compression level, from 1 to 9.
    pub level: u8,
    /// The size in bytes below which a message is not compressed.
    pub threshold: u32,
}

/// The negotiated parameters for one direction.
///
/// ```
/// use threadbare::DeflateConfig;
/// use threadbare::protocol::deflate::Direction;
///
/// let answer = &b"permessage-deflate; server_no_context_takeover"[..];
/// let params = DeflateConfig::default().confirm([answer])?.expect("it was accepted");
/// let Direction { takeover, window_bits, .. } = params.decompress;
/// assert_eq!((takeover, window_bits), (false, 15));
/// # Ok::<(), threadbare::protocol::deflate::NegotiationError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Direction {
    /// Context takeover: whether a message may refer to the messages before it.
    pub takeover: bool,
    /// The base-2 logarithm of the window, from 8 to 15. With 8, which zlib does not support, nothing is compressed.
    pub window_bits: u8,
}

impl DeflateConfig {
    /// Accepts the first acceptable offer of a client. Returns the negotiated parameters and the value of the server's
    /// `Sec-WebSocket-Extensions`.
    ///
    /// An offer with unknown, repeated or invalid parameters is declined (RFC 7692 7.1), and so is an offer that
    /// requires a window of 256 bytes.
    ///
    /// ```
    /// use threadbare::{DeflateConfig, Request};
    ///
    /// let head = b"GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    /// let request = Request::parse(head, ([127, 0, 0, 1], 50_000).into()).expect("a well-formed head");
    /// let (params, answer) = DeflateConfig::default().accept(request.extensions()).expect("an acceptable offer");
    /// assert_eq!(answer, "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
    /// assert_eq!(params.compress.window_bits, 15);
    /// ```
    pub fn accept<'r>(&self, offers: impl IntoIterator<Item = ExtensionOffer<'r>>) -> Option<(DeflateParams, String)> {
        let offers = offers.into_iter().filter(|offer| is_name(offer.name()));
        offers.filter_map(|offer| Parameters::parse(&offer).ok()).find_map(|offer| self.answer(&offer))
    }

    fn answer(&self, offer: &Parameters) -> Option<(DeflateParams, String)> {
        let server_bits = offer.server_max_window_bits.unwrap_or(MAX_WINDOW_BITS).min(self.server_max_window_bits);
        if server_bits < MIN_WINDOW_BITS {
            return None;
        }
        let answer = Parameters {
            server_no_context_takeover: offer.server_no_context_takeover || self.server_no_context_takeover,
            client_no_context_takeover: offer.client_no_context_takeover || self.client_no_context_takeover,
            // RFC 7692 7.1.2.1: an offer with the parameter is accepted "with the same or smaller value"; the server
            // may also send the parameter without an offer.
            server_max_window_bits: (offer.server_max_window_bits.is_some() || server_bits < MAX_WINDOW_BITS)
                .then_some(server_bits),
            // RFC 7692 7.1.2.2: the parameter is only for clients that have offered it.
            client_max_window_bits: match offer.client_max_window_bits {
                Some(bits) if self.client_max_window_bits < bits.unwrap_or(MAX_WINDOW_BITS) => {
                    Some(Some(self.client_max_window_bits))
                }
                _ => None,
            },
        };
        let client_bits = answer.client_max_window_bits.or(offer.client_max_window_bits).flatten();
        let params = self.params(
            Direction { takeover: !answer.server_no_context_takeover, window_bits: server_bits },
            Direction {
                takeover: !answer.client_no_context_takeover,
                window_bits: client_bits.unwrap_or(MAX_WINDOW_BITS),
            },
        );
        Some((params, answer.to_string()))
    }

    /// Returns the value of the client's `Sec-WebSocket-Extensions`, which offers this configuration.
    ///
    /// ```
    /// use threadbare::DeflateConfig;
    ///
    /// assert!(DeflateConfig::default().offer().starts_with("permessage-deflate; server_no_context_takeover"));
    /// ```
    #[must_use]
    pub fn offer(&self) -> String {
        let limit = |bits: u8| (bits < MAX_WINDOW_BITS).then_some(bits);
        let offer = Parameters {
            server_no_context_takeover: self.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover,
            server_max_window_bits: limit(self.server_max_window_bits),
            // Without a value, the server may choose one.
            client_max_window_bits: Some(limit(self.client_max_window_bits)),
        };
        offer.to_string()
    }

    /// Checks the server's answer to [`offer`](Self::offer). Returns the negotiated parameters, or `None` if the server
    /// declined compression. `lines` are the values of its `Sec-WebSocket-Extensions`.
    ///
    /// ```
    /// use threadbare::DeflateConfig;
    ///
    /// let config = DeflateConfig::default();
    /// let params = config.confirm([&b"permessage-deflate; server_max_window_bits=12"[..]])?.expect("it was accepted");
    /// assert_eq!(params.decompress.window_bits, 12);
    /// assert_eq!(config.confirm([])?, None); // the server does not compress
    /// # Ok::<(), threadbare::protocol::deflate::NegotiationError>(())
    /// ```
    ///
    /// # Errors
    /// The answer does not match the offer: _Fail the WebSocket Connection_ (RFC 7692 7.1). It is no error if the
    /// server omits the parameters that the offer requests of it, because its messages can be decompressed anyway.
    pub fn confirm<'r>(
        &self,
        lines: impl IntoIterator<Item = &'r [u8]>,
    ) -> Result<Option<DeflateParams>, NegotiationError> {
        let mut confirmed = None;
        for extension in lines.into_iter().flat_map(extension_offers) {
            let extension = extension.map_err(|_| NegotiationError::Malformed)?;
            // RFC 6455 4.1: an extension "that was not present in the client's handshake" fails the connection.
            if !is_name(extension.name()) {
                return Err(NegotiationError::NotOffered(extension.name().to_owned()));
            }
            let answer = Parameters::parse(&extension)?;
            if confirmed.replace(self.agree(&answer)?).is_some() {
                return Err(NegotiationError::Twice);
            }
        }
        Ok(confirmed)
    }

    fn agree(&self, answer: &Parameters) -> Result<DeflateParams, NegotiationError> {
        let too_large = |name: &str| Err(NegotiationError::Parameter(name.to_owned()));
        let server_bits = match answer.server_max_window_bits {
            Some(bits) if bits > self.server_max_window_bits => return too_large(SERVER_MAX_WINDOW_BITS),
            bits => bits.unwrap_or(MAX_WINDOW_BITS),
        };
        let client_bits = match answer.client_max_window_bits {
            // RFC 7692 7.1.2.2: in an answer the parameter must have a value.
            Some(None) => return too_large(CLIENT_MAX_WINDOW_BITS),
            Some(Some(bits)) if bits > self.client_max_window_bits => return too_large(CLIENT_MAX_WINDOW_BITS),
            Some(Some(bits)) => bits,
            None => self.client_max_window_bits,
        };
        let client_takeover = !(answer.client_no_context_takeover || self.client_no_context_takeover);
        Ok(self.params(
            Direction { takeover: client_takeover, window_bits: client_bits },
            Direction { takeover: !answer.server_no_context_takeover, window_bits: server_bits },
        ))
    }

    fn params(&self, compress: Direction, decompress: Direction) -> DeflateParams {
        DeflateParams { compress, decompress, level: self.level, threshold: self.threshold }
    }
}

/// Compares without case, for peers differ in how they write the name.
fn is_name(name: &str) -> bool {
    name.eq_ignore_ascii_case(NAME)
}

const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// The parameters of an offer or of the answer to one (RFC 7692 7.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// The parameter, and its value, which an offer may omit.
    client_max_window_bits: Option<Option<u8>>,
}

impl Parameters {
    /// Parses the parameters. RFC 7692 7.1: an unknown or repeated parameter, or one with an invalid value, makes the
    /// whole offer or answer invalid.
    fn parse(extension: &ExtensionOffer<'_>) -> Result<Parameters, NegotiationError> {
        let mut found = Parameters::default();
        for (name, value) in extension.params() {
            let valid = match (name, value) {
                (SERVER_NO_CONTEXT_TAKEOVER, None) => !std::mem::replace(&mut found.server_no_context_takeover, true),
                (CLIENT_NO_CONTEXT_TAKEOVER, None) => !std::mem::replace(&mut found.client_no_context_takeover, true),
                (SERVER_MAX_WINDOW_BITS, Some(value)) => {
                    let bits = window_bits(value);
                    bits.is_some() && found.server_max_window_bits.replace(bits.unwrap_or_default()).is_none()
                }
                (CLIENT_MAX_WINDOW_BITS, value) => {
                    let bits = value.and_then(window_bits);
                    bits.is_some() == value.is_some() && found.client_max_window_bits.replace(bits).is_none()
                }
                _ => false,
            };
            if !valid {
                return Err(NegotiationError::Parameter(name.to_owned()));
            }
        }
        Ok(found)
    }
}

/// Parses "a decimal integer value without leading zeroes between 8 to 15, inclusive" (RFC 7692 7.1.2.1).
fn window_bits(value: &str) -> Option<u8> {
    let bits = value.parse().ok().filter(|bits| (8..=MAX_WINDOW_BITS).contains(bits))?;
    let digits_only = value.bytes().all(|byte| byte.is_ascii_digit());
    (digits_only && !value.starts_with('0')).then_some(bits)
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        if self.server_no_context_takeover {
            write!(f, "; {SERVER_NO_CONTEXT_TAKEOVER}")?;
        }
        if self.client_no_context_takeover {
            write!(f, "; {CLIENT_NO_CONTEXT_TAKEOVER}")?;
        }
        if let Some(bits) = self.server_max_window_bits {
            write!(f, "; {SERVER_MAX_WINDOW_BITS}={bits}")?;
        }
        match self.client_max_window_bits {
            Some(Some(bits)) => write!(f, "; {CLIENT_MAX_WINDOW_BITS}={bits}"),
            Some(None) => write!(f, "; {CLIENT_MAX_WINDOW_BITS}"),
            None => Ok(()),
        }
    }
}

/// Why a server's answer to an offer of permessage-deflate is invalid.
///
/// ```
/// use threadbare::DeflateConfig;
/// use threadbare::protocol::deflate::NegotiationError;
///
/// let error = DeflateConfig::default().confirm([&b"x-zip"[..]]).expect_err("it was not offered");
/// assert_eq!(error, NegotiationError::NotOffered("x-zip".into()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NegotiationError {
    /// The answer is not a list of extensions (RFC 6455 9.1).
    Malformed,
    /// The answer contains an extension that was not offered.
    NotOffered(String),
    /// The answer accepts the extension twice.
    Twice,
    /// The parameter with this name is unknown, repeated, invalid, or exceeds the offer.
    Parameter(String),
}

impl fmt::Display for NegotiationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NegotiationError::Malformed => f.write_str("the list of extensions is malformed"),
            NegotiationError::NotOffered(name) => write!(f, "the extension {name:?} was not offered"),
            NegotiationError::Twice => write!(f, "{NAME} is accepted twice"),
            NegotiationError::Parameter(name) => write!(f, "the parameter {name:?} of {NAME} is not acceptable"),
        }
    }
}

impl std::error::Error for NegotiationError {}

#[cfg(test)]
#[path = "negotiation_tests.rs"]
mod tests;
