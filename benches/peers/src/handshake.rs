//! The opening handshake with one fixed key, so that the floor need not compute its answer.

/// RFC 6455 1.3, from whose example the key is.
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The end of a head.
pub const END: &[u8] = b"\r\n\r\n";

/// What a client asks.
#[must_use]
pub fn request(host: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// What the floor answers.
#[must_use]
pub fn response() -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    )
}

/// Whether a complete response head accepts the request.
///
/// # Errors
///
/// What it says instead.
pub fn check(head: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(head);
    let first = text.lines().next().unwrap_or_default();
    if !first.starts_with("HTTP/1.1 101") {
        return Err(format!("the server refuses the handshake: {first:?}"));
    }
    if !text.contains(ACCEPT) {
        return Err("the server's Sec-WebSocket-Accept is wrong or missing".to_owned());
    }
    Ok(())
}
