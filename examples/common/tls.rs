//! TLS in the examples: the certificate of a server, and whom a client trusts.

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;

use threadbare::{ClientBuilder, ServerBuilder, ServerHandle, TlsError};
#[cfg(feature = "rustls-tls")]
use threadbare::{ClientTls, Tls};

/// Why a flag is refused, if this build has no TLS.
#[cfg(not(feature = "rustls-tls"))]
const NO_TLS: &str = "build with --features rustls-tls-webpki-roots";

/// The flags `--cert FILE` and `--key FILE` of a server.
#[derive(Clone, Debug, Default)]
pub struct Certificate {
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Certificate {
    /// Takes the value of `--cert`: the certificate chain in PEM, the server's own first.
    pub fn set_cert(&mut self, file: OsString) {
        self.cert = Some(file.into());
    }

    /// Takes the value of `--key`: the private key in PEM.
    pub fn set_key(&mut self, file: OsString) {
        self.key = Some(file.into());
    }

    /// Checks that there are both flags or neither.
    ///
    /// # Errors
    ///
    /// There is one without the other, or this build has no TLS.
    pub fn check(&self) -> Result<(), lexopt::Error> {
        match (&self.cert, &self.key) {
            (None, None) => Ok(()),
            #[cfg(not(feature = "rustls-tls"))]
            _ => Err(format!("--cert and --key: {NO_TLS}").into()),
            #[cfg(feature = "rustls-tls")]
            (Some(_), Some(_)) => Ok(()),
            #[cfg(feature = "rustls-tls")]
            (Some(_), None) => Err("--cert needs --key FILE, the private key of the certificate".into()),
            #[cfg(feature = "rustls-tls")]
            (None, Some(_)) => Err("--key needs --cert FILE, the certificate of the private key".into()),
        }
    }

    /// The settings of TLS, if there are the flags.
    ///
    /// # Errors
    ///
    /// The files can not be used.
    #[cfg(feature = "rustls-tls")]
    pub fn tls(&self) -> Result<Option<Tls>, TlsError> {
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Tls::from_pem_files(cert, key).map(Some),
            _ => Ok(None),
        }
    }

    /// Has the server speak TLS, if there are the flags.
    ///
    /// # Errors
    ///
    /// The files can not be used.
    pub fn apply(&self, builder: ServerBuilder) -> Result<ServerBuilder, TlsError> {
        #[cfg(feature = "rustls-tls")]
        if let Some(tls) = self.tls()? {
            return Ok(builder.tls(tls));
        }
        Ok(builder)
    }

    /// `wss` if there are the flags, or else `ws`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.cert.is_some() { "wss" } else { "ws" }
    }

    /// As [`announce`](crate::announce), with `wss` if the server speaks TLS.
    ///
    /// # Errors
    ///
    /// The handler for signals can not be installed, or nothing can be printed.
    pub fn announce(&self, handle: ServerHandle) -> Result<(), Box<dyn Error>> {
        crate::announce_urls(self.scheme(), handle)
    }
}

/// The flags `--ca FILE` and `--insecure` of a client.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    ca: Option<PathBuf>,
    insecure: bool,
}

impl Trust {
    /// Takes the value of `--ca`: certificates in PEM of issuers who are trusted too.
    pub fn set_ca(&mut self, file: OsString) {
        self.ca = Some(file.into());
    }

    /// Takes `--insecure`: any certificate is accepted.
    pub fn set_insecure(&mut self) {
        self.insecure = true;
    }

    /// Checks the flags against the URL.
    ///
    /// # Errors
    ///
    /// There is a flag, and the URL is not of TLS, or this build has none.
    pub fn check(&self, url: &str) -> Result<(), lexopt::Error> {
        if self.ca.is_none() && !self.insecure {
            return Ok(());
        }
        if !url.starts_with("wss:") {
            return Err("--ca and --insecure are for wss:// URLs".into());
        }
        #[cfg(not(feature = "rustls-tls"))]
        return Err(format!("--ca and --insecure: {NO_TLS}").into());
        #[cfg(feature = "rustls-tls")]
        Ok(())
    }

    /// Whom a client is to trust, if there is a flag. Warns on stderr of a client that trusts anybody.
    ///
    /// # Errors
    ///
    /// The file can not be used.
    #[cfg(feature = "rustls-tls")]
    pub fn tls(&self) -> Result<Option<ClientTls>, TlsError> {
        if self.ca.is_none() && !self.insecure {
            return Ok(None);
        }
        let mut tls = ClientTls::builder();
        if let Some(ca) = &self.ca {
            tls = tls.root_file(ca);
        }
        if self.insecure {
            eprintln!("warning: --insecure accepts any certificate, and so anybody who answers for the server");
            tls = tls.danger_accept_any_certificate();
        }
        tls.build().map(Some)
    }

    /// Has the client trust accordingly.
    ///
    /// # Errors
    ///
    /// The file can not be used.
    pub fn apply(&self, builder: ClientBuilder) -> Result<ClientBuilder, TlsError> {
        #[cfg(feature = "rustls-tls")]
        if let Some(tls) = self.tls()? {
            return Ok(builder.tls(tls));
        }
        Ok(builder)
    }
}
