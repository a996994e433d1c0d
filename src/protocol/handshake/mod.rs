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

/// Returns the value of `Sec-WebSocket-Accept` for a value of `Sec-WebSocket-Key` (RFC 6455 4.2.2).
///
/// ```
/// use threadbare::protocol::handshake::accept_key;
///
/// assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="); // RFC 6455 1.3
/// ```
pub fn accept_key(key: &str) -> String {
    String::from_utf8_lossy(&accept_value(key)).into_owned()
}

/// Like [`accept_key`], without an allocation.
fn accept_value(key: &str) -> [u8; ACCEPT_SIZE] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut value = [0; ACCEPT_SIZE];
    let written = STANDARD.encode_slice(digest, &mut value);
    debug_assert_eq!(written, Ok(ACCEPT_SIZE));
    value
}

/// The size of the 20 bytes of a SHA-1 in base64.
const ACCEPT_SIZE: usize = 28;

/// The GUID of RFC 6455 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_give_their_accept_values() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="); // RFC 6455 1.3
        assert_eq!(accept_key("x3JJHMbDL1EzLkh9GBhXDw=="), "HSmrc0sMlYUkAGmm5OPpG2HaGWk="); // used in many examples
    }
}
