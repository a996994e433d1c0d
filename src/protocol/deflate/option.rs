//! Whether compression is wanted, and what came of it; in a build without it both are nothing.

use crate::protocol::Connection;
#[cfg(feature = "deflate")]
use crate::protocol::deflate::{DeflateConfig, DeflateParams};
use crate::protocol::handshake::client::{Agreed, HandshakeError};
use crate::protocol::http::Request;

/// Whether an endpoint wants permessage-deflate, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeflateOption {
    #[cfg(feature = "deflate")]
    pub(crate) config: Option<DeflateConfig>,
}

/// What a connection agreed on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NegotiatedExtension {
    #[cfg(feature = "deflate")]
    params: Option<DeflateParams>,
}

#[cfg(feature = "deflate")]
impl DeflateOption {
    /// A server's choice among a client's offers, and the header value that tells it.
    pub(crate) fn accept(&self, request: &Request) -> (NegotiatedExtension, Option<String>) {
        match self.config.as_ref().and_then(|config| config.accept(request.extensions())) {
            Some((params, answer)) => (NegotiatedExtension { params: Some(params) }, Some(answer)),
            None => (NegotiatedExtension::default(), None),
        }
    }

    /// The header value that offers it to a server.
    pub(crate) fn offer(&self) -> Option<String> {
        self.config.as_ref().map(DeflateConfig::offer)
    }

    /// Checks a server's answer to the offer.
    pub(crate) fn confirm(&self, agreed: &Agreed) -> Result<NegotiatedExtension, HandshakeError> {
        let Some(config) = &self.config else { return Ok(NegotiatedExtension::default()) };
        let values =
            agreed.response().headers().filter(|(name, _)| name.eq_ignore_ascii_case("Sec-WebSocket-Extensions"));
        match config.confirm(values.map(|(_, value)| value)) {
            Ok(params) => Ok(NegotiatedExtension { params }),
            Err(error) => Err(HandshakeError::Compression(error.to_string())),
        }
    }
}

#[cfg(not(feature = "deflate"))]
impl DeflateOption {
    pub(crate) fn accept(&self, _: &Request) -> (NegotiatedExtension, Option<String>) {
        (NegotiatedExtension::default(), None)
    }

    pub(crate) fn offer(&self) -> Option<String> {
        None
    }

    pub(crate) fn confirm(&self, _: &Agreed) -> Result<NegotiatedExtension, HandshakeError> {
        Ok(NegotiatedExtension::default())
    }
}

impl Connection {
    /// The connection with what its handshake agreed on.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub(crate) fn agreed(self, agreement: NegotiatedExtension) -> Connection {
        match agreement.params {
            Some(params) => self.with_deflate(params),
            None => self,
        }
    }

    /// The connection with what its handshake agreed on: nothing.
    #[cfg(not(feature = "deflate"))]
    #[must_use]
    pub(crate) fn agreed(self, _: NegotiatedExtension) -> Connection {
        self
    }
}
