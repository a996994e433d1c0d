//! The configured and the negotiated compression of a connection. Both are empty without the feature `deflate`.

use crate::protocol::Connection;
#[cfg(feature = "deflate")]
use crate::protocol::deflate::{DeflateConfig, DeflateParams};
use crate::protocol::handshake::client::{Agreed, HandshakeError};
use crate::protocol::http::Request;

/// The configuration of permessage-deflate, if the endpoint uses it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeflateOption {
    #[cfg(feature = "deflate")]
    pub(crate) config: Option<DeflateConfig>,
}

/// The negotiated parameters of permessage-deflate, if it was negotiated.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NegotiatedExtension {
    #[cfg(feature = "deflate")]
    params: Option<DeflateParams>,
}

#[cfg(feature = "deflate")]
impl DeflateOption {
    /// Accepts one of a client's offers. Returns the negotiated parameters and the header value of the answer.
    pub(crate) fn accept(&self, request: &Request) -> (NegotiatedExtension, Option<String>) {
        match self.config.as_ref().and_then(|config| config.accept(request.extensions())) {
            Some((params, answer)) => (NegotiatedExtension { params: Some(params) }, Some(answer)),
            None => (NegotiatedExtension::default(), None),
        }
    }

    /// Returns the header value that offers the extension to a server.
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
    /// Adds the extension that was negotiated in the opening handshake.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub(crate) fn agreed(self, agreement: NegotiatedExtension) -> Connection {
        match agreement.params {
            Some(params) => self.with_deflate(params),
            None => self,
        }
    }

    /// Returns the connection unchanged, because no extension is negotiated in this build.
    #[cfg(not(feature = "deflate"))]
    #[must_use]
    pub(crate) fn agreed(self, _: NegotiatedExtension) -> Connection {
        self
    }
}
