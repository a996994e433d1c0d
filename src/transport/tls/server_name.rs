//! The name of the server that a client asks for.
//!
//! rustls tells it to what chooses the certificate, in the middle of the handshake, and has no method for it in the API
//! that this library uses. So it is noted then, for the connection that the thread works on.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

thread_local! {
    static ASKED_FOR: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// Takes the name that the client asked for in the handshake step that the thread did last, if that was the step.
pub(super) fn take_asked_for() -> Option<Box<str>> {
    ASKED_FOR.take()
}

/// Notes the name, and has another choose the certificate.
#[derive(Debug)]
pub(super) struct NotesServerName(pub(super) Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for NotesServerName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        ASKED_FOR.set(hello.server_name().map(|name| name.to_ascii_lowercase().into()));
        self.0.resolve(hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}
