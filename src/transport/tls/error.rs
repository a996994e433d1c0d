//! What can be wrong with TLS.

use std::fmt;

/// TLS failed, or can not begin.
///
/// ```no_run
/// use threadbare::{Client, ConnectError, TlsError};
///
/// match Client::connect("wss://example.com/feed") {
///     Err(ConnectError::Tls { source: TlsError::Expired, .. }) => println!("their certificate has expired"),
///     Err(error) => println!("{error}"),
///     Ok(client) => drop(client),
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsError {
    /// This build has no TLS: none of the features for it is enabled.
    Unavailable,
    /// The peer does not speak TLS. A client should use `ws://` at that port, or find the port for `wss://`.
    NotTls,
    /// The certificate was issued by nobody who is trusted. The issuer's certificate is to be added to the roots, or an
    /// intermediate certificate is missing from the server's chain.
    UnknownIssuer,
    /// The certificate has expired, or the clock of this system is wrong.
    Expired,
    /// The certificate is not valid yet, or the clock of this system is wrong.
    NotYetValid,
    /// The certificate is for other names.
    WrongName {
        /// The name that the client asked for.
        expected: String,
        /// The names that the certificate has.
        presented: Vec<String>,
    },
    /// The peers have no version of TLS in common. This library speaks TLS 1.2 and 1.3.
    NoSharedVersion,
    /// The peers have no cipher suite or key exchange in common.
    NoSharedCipher,
    /// The peer has no application protocol in common with this end, which speaks `http/1.1` (RFC 7301).
    NoSharedProtocol,
    /// The server asks for a certificate of the client, which has none or another.
    CertificateRequired,
    /// The certificate is wrong in another way.
    Certificate(String),
    /// The peer ended the connection with this alert (RFC 8446 6).
    Alert(String),
    /// A certificate, a key or a set of roots can not be used.
    Setup(String),
    /// A record of the peer can not be opened, or breaks the protocol.
    Protocol(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Unavailable => f.write_str(
                "this build has no TLS: enable the feature rustls-tls-native-roots or rustls-tls-webpki-roots",
            ),
            TlsError::NotTls => f.write_str("the other end does not speak TLS at that port: use ws://, or another port"),
            TlsError::UnknownIssuer => f.write_str(
                "the certificate's issuer is not trusted: add the issuer's certificate to the roots, or have the server \
                 send its whole chain",
            ),
            TlsError::Expired => f.write_str("the certificate has expired, or this system's clock is wrong"),
            TlsError::NotYetValid => f.write_str("the certificate is not valid yet, or this system's clock is wrong"),
            TlsError::WrongName { expected, presented } if presented.is_empty() => {
                write!(f, "the certificate is not for {expected}, and has no names")
            }
            TlsError::WrongName { expected, presented } => {
                write!(f, "the certificate is not for {expected}, but for {}", presented.join(", "))
            }
            TlsError::NoSharedVersion => {
                f.write_str("the other end has no version of TLS in common with this one, which has 1.2 and 1.3")
            }
            TlsError::NoSharedCipher => f.write_str("the other end has no cipher suite, or no key exchange, in common with this one"),
            TlsError::NoSharedProtocol => {
                f.write_str("the other end refuses http/1.1, which WebSocket needs (ALPN, RFC 7301)")
            }
            TlsError::CertificateRequired => {
                f.write_str("the server asks for a client's certificate that it accepts: give the client one")
            }
            TlsError::Certificate(why) => write!(f, "the certificate is refused: {why}"),
            TlsError::Alert(alert) => write!(f, "the other end ended TLS with the alert {alert}"),
            TlsError::Setup(why) => f.write_str(why),
            TlsError::Protocol(why) => write!(f, "the other end broke TLS: {why}"),
        }
    }
}

impl std::error::Error for TlsError {}

#[cfg(feature = "rustls-tls")]
impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> TlsError {
        use rustls::{AlertDescription as Alert, Error, PeerIncompatible};
        match error {
            Error::InvalidCertificate(error) => TlsError::from(error),
            Error::AlertReceived(Alert::ProtocolVersion) => TlsError::NoSharedVersion,
            Error::AlertReceived(Alert::CertificateRequired) => TlsError::CertificateRequired,
            // RFC 8446 6.2: the sender could not negotiate an acceptable set of security parameters.
            Error::AlertReceived(Alert::HandshakeFailure | Alert::InsufficientSecurity) => TlsError::NoSharedCipher,
            Error::AlertReceived(Alert::NoApplicationProtocol) | Error::NoApplicationProtocol => {
                TlsError::NoSharedProtocol
            }
            Error::AlertReceived(alert) => TlsError::Alert(alert.as_str().unwrap_or("unknown").to_owned()),
            Error::NoCertificatesPresented => TlsError::CertificateRequired,
            Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled,
            ) => TlsError::NoSharedVersion,
            Error::PeerIncompatible(
                PeerIncompatible::NoCipherSuitesInCommon
                | PeerIncompatible::NoKxGroupsInCommon
                | PeerIncompatible::NoSignatureSchemesInCommon,
            ) => TlsError::NoSharedCipher,
            other => TlsError::Protocol(other.to_string()),
        }
    }
}

#[cfg(feature = "rustls-tls")]
impl From<rustls::CertificateError> for TlsError {
    fn from(error: rustls::CertificateError) -> TlsError {
        use rustls::CertificateError as Wrong;
        match error {
            Wrong::UnknownIssuer => TlsError::UnknownIssuer,
            Wrong::Expired | Wrong::ExpiredContext { .. } => TlsError::Expired,
            Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => TlsError::NotYetValid,
            Wrong::NotValidForName => TlsError::WrongName { expected: "that name".to_owned(), presented: Vec::new() },
            Wrong::NotValidForNameContext { expected, presented } => {
                let presented = presented.iter().map(|name| bare(name)).collect();
                TlsError::WrongName { expected: expected.to_str().into_owned(), presented }
            }
            Wrong::BadSignature => TlsError::Certificate(
                "a signature is wrong: the trusted issuer of that name has another key, or the server has not the \
                 certificate's key"
                    .to_owned(),
            ),
            other => TlsError::Certificate(other.to_string()),
        }
    }
}

/// A name as a certificate has it, out of a description such as `DnsName("example.com")` or `IpAddress(127.0.0.1)`.
#[cfg(feature = "rustls-tls")]
fn bare(description: &str) -> String {
    let inside = |before: &str, after: &str| description.strip_prefix(before)?.strip_suffix(after);
    if let Some(address) = inside("IpAddress(", ")") {
        // IPv6 has several ways to write an address.
        return address.parse().map_or(address.to_owned(), |address: std::net::IpAddr| address.to_string());
    }
    inside("DnsName(\"", "\")").unwrap_or(description).to_owned()
}
