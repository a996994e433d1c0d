//! What was agreed on in a TLS handshake.

use std::fmt;

/// What was agreed on in the TLS handshake of a connection; see [`Request::tls`](crate::Request::tls).
///
/// ```
/// use threadbare::{Accept, Request, Response};
///
/// /// A hook for `ServerBuilder::on_request`.
/// fn admit(request: &Request) -> Result<Accept, Response> {
///     match request.tls() {
///         Some(tls) if tls.certificates().len() > 0 => Ok(Accept::new()),
///         _ => Err(Response::new(403).text("a certificate is needed")),
///     }
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct TlsInfo {
    pub(crate) version: &'static str,
    pub(crate) cipher_suite: &'static str,
    pub(crate) server_name: Option<Box<str>>,
    pub(crate) certificates: Vec<Vec<u8>>,
}

impl TlsInfo {
    /// The version of TLS, such as `TLSv1_3`.
    ///
    /// ```
    /// use threadbare::TlsInfo;
    ///
    /// fn is_modern(info: &TlsInfo) -> bool {
    ///     info.version() == "TLSv1.3"
    /// }
    /// # let _ = is_modern;
    /// ```
    #[must_use]
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// The cipher suite, such as `TLS13_AES_128_GCM_SHA256`.
    ///
    /// ```
    /// use threadbare::TlsInfo;
    ///
    /// fn log(info: &TlsInfo) {
    ///     println!("{}", info.cipher_suite());
    /// }
    /// # let _ = log;
    /// ```
    #[must_use]
    pub fn cipher_suite(&self) -> &'static str {
        self.cipher_suite
    }

    /// The name of the server that the client asked for (RFC 6066 3), in lower case. `None` if it named none, as for an IP
    /// address.
    ///
    /// ```
    /// use threadbare::TlsInfo;
    ///
    /// fn is_for(info: &TlsInfo, host: &str) -> bool {
    ///     info.server_name() == Some(host)
    /// }
    /// # let _ = is_for;
    /// ```
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The client's certificate in DER, then those of its issuers as the client sent them. Empty if the client has none,
    /// or was not asked for one. The certificate was verified.
    ///
    /// ```
    /// use threadbare::TlsInfo;
    ///
    /// /// The certificate of the other end, in DER.
    /// fn own_certificate(info: &TlsInfo) -> Option<&[u8]> {
    ///     info.certificates().next()
    /// }
    /// # let _ = own_certificate;
    /// ```
    pub fn certificates(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.certificates.iter().map(Vec::as_slice)
    }

    /// The bytes of memory that it takes.
    pub(crate) fn size(&self) -> usize {
        let name = self.server_name.as_ref().map_or(0, |name| name.len());
        let certificates = self.certificates.iter().map(|one| one.capacity() + size_of::<Vec<u8>>()).sum::<usize>();
        size_of::<TlsInfo>() + name + certificates
    }
}

impl fmt::Debug for TlsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsInfo")
            .field("version", &self.version)
            .field("cipher_suite", &self.cipher_suite)
            .field("server_name", &self.server_name)
            .field("certificates", &self.certificates.len())
            .finish()
    }
}
