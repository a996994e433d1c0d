//! TLS, by rustls: the record layer between a stream and its socket, and the settings of servers and clients.

pub(crate) mod error;

#[cfg(feature = "rustls-tls")]
pub(crate) mod client_config;
#[cfg(feature = "rustls-tls")]
mod material;
#[cfg(feature = "rustls-tls")]
mod plain;
#[cfg(feature = "rustls-tls")]
pub(crate) mod server_config;
#[cfg(feature = "rustls-tls")]
mod server_name;
#[cfg(feature = "rustls-tls")]
pub(crate) mod session;
#[cfg(feature = "rustls-tls")]
pub(crate) mod stream;
