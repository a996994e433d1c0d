//! The opening handshake (RFC 6455 4).

pub mod client;
pub mod server;

mod accept;
mod data;
mod origin;

pub use accept::{Accept, AcceptError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
pub(crate) use data::Data;
pub use origin::{HostPolicy, OriginPolicy};
pub use server::select_subprotocol;
use sha1::{Digest, Sha1};

/// The value of `Sec-WebSocket-Accept` that answers this value of `Sec-WebSocket-Key` (RFC 6455 4.2.2).
pub fn accept_key(key: &str) -> String {
    String::from_utf8_lossy(&accept_value(key)).into_owned()
}

/// As [`accept_key`], without memory of its own.
fn accept_value(key: &str) -> [u8; ACCEPT_SIZE] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut value = [0; ACCEPT_SIZE];
    let written = STANDARD.encode_slice(digest, &mut value);
    debug_assert_eq!(written, Ok(ACCEPT_SIZE));
    value
}

/// The 20 bytes of a SHA-1 in base64.
const ACCEPT_SIZE: usize = 28;

/// RFC 6455 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rfcs_keys_are_accepted() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="); // RFC 6455 1.3
        assert_eq!(accept_key("x3JJHMbDL1EzLkh9GBhXDw=="), "HSmrc0sMlYUkAGmm5OPpG2HaGWk="); // in wide use
    }
}
