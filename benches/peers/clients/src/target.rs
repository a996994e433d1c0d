//! Where a client connects to, and over what.

use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use threadbare::{ClientBuilder, ClientRequest, Config, Url};

/// The name in the server's certificate.
#[cfg(feature = "tls")]
pub(crate) const NAME: &str = "localhost";

pub(crate) struct Target {
    pub(crate) addr: SocketAddr,
    /// The server's certificate, if it speaks TLS.
    pub(crate) root: Option<PathBuf>,
    /// Whether permessage-deflate is offered by clients that have it.
    #[cfg_attr(not(feature = "deflate"), expect(dead_code))]
    pub(crate) deflate: bool,
}

impl Target {
    pub(crate) fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.addr)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// For clients whose stream is given to them.
    pub(crate) fn url(&self) -> String {
        format!("ws://{}/feed", self.addr)
    }

    /// For the library's, which expects that a stream with TLS has its scheme.
    pub(crate) fn own_url(&self) -> String {
        let scheme = if self.root.is_some() { "wss" } else { "ws" };
        format!("{scheme}://{}/feed", self.addr)
    }

    pub(crate) fn request(&self) -> Result<ClientRequest, Box<dyn Error>> {
        Ok(ClientRequest::new(Url::parse(&self.own_url())?))
    }

    /// The library's settings.
    pub(crate) fn config(&self) -> Config {
        #[cfg(feature = "deflate")]
        if self.deflate {
            return Config::default().deflate(threadbare::DeflateConfig::default());
        }
        Config::default()
    }

    /// The settings of the library's client.
    pub(crate) fn builder(&self) -> Result<ClientBuilder, Box<dyn Error>> {
        let builder = threadbare::Client::builder().no_proxy().config(self.config());
        #[cfg(feature = "tls")]
        if let Some(tls) = self.client_tls()? {
            return Ok(builder.tls(tls));
        }
        Ok(builder)
    }

    #[cfg(feature = "tls")]
    pub(crate) fn client_tls(&self) -> Result<Option<threadbare::ClientTls>, Box<dyn Error>> {
        let Some(root) = &self.root else { return Ok(None) };
        let builder = threadbare::ClientTls::builder().no_default_roots().root_file(root);
        Ok(Some(builder.server_name(NAME).build()?))
    }

    /// The settings of the others.
    #[cfg(feature = "tls")]
    pub(crate) fn rustls(&self) -> Result<Option<std::sync::Arc<rustls::ClientConfig>>, Box<dyn Error>> {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject;

        let Some(root) = &self.root else { return Ok(None) };
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(root)? {
            roots.add(certificate?)?;
        }
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(Some(std::sync::Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
    }
}
