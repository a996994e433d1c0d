//! The content of a received response, from the bytes after its head (RFC 9112 6.3 and 7.1).

use super::list::tokens;
use super::request::HttpVersion;
use super::response_head::ResponseHead;

/// At most 16 KiB are read for the beginning of a body. Larger reads more from a server that sends long chunk extensions;
/// smaller may end within a body of tiny chunks.
const MAX_RECEIVED: usize = 16 << 10;

/// The content of a response as far as it has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) content: Vec<u8>,
    /// No more of it is to come, or is wanted, or can be decoded.
    pub(crate) complete: bool,
}

/// Where the content ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    /// At the end of the connection.
    Close,
}

impl Body {
    /// Reads at most `most` bytes of content. `received` is everything received after the head.
    pub(crate) fn read(head: &ResponseHead, received: &[u8], most: usize) -> Body {
        let mut body = match Framing::of(head) {
            Framing::Length(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                Body {
                    content: received.get(..length).unwrap_or(received).to_vec(),
                    complete: received.len() >= length,
                }
            }
            Framing::Chunked => Body::decode_chunks(received, most),
            Framing::Close => Body { content: received.to_vec(), complete: false },
        };
        body.content.truncate(most);
        body.complete |= body.content.len() == most || received.len() >= MAX_RECEIVED;
        body
    }

    /// Decodes `chunked-body = *chunk last-chunk trailer-section CRLF` (RFC 9112 7.1) as far as it has arrived. The
    /// trailer section is not waited for.
    fn decode_chunks(mut rest: &[u8], most: usize) -> Body {
        let mut content = Vec::new();
        let complete = loop {
            let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else { break false };
            let (line, data) = rest.split_at(end);
            let data = data.get(2..).unwrap_or_default();
            // A size that is malformed ends what can be decoded.
            let Some(size) = chunk_size(line) else { break true };
            if size == 0 || content.len() >= most {
                break true;
            }
            content.extend_from_slice(data.get(..size).unwrap_or(data));
            let Some(after) = data.get(size..) else { break false };
            match after {
                [b'\r', b'\n', next @ ..] => rest = next,
                [] | [b'\r'] => break false,
                _ => break true,
            }
        };
        Body { content, complete }
    }
}

impl Framing {
    /// Determines the length of the content (RFC 9112 6.3).
    fn of(head: &ResponseHead) -> Framing {
        // Item 1: these statuses have no content, "regardless of the header fields present in the message".
        if matches!(head.status(), 100..=199 | 204 | 304) {
            return Framing::Length(0);
        }
        let mut codings = head.field_values("Transfer-Encoding").peekable();
        if codings.peek().is_some() {
            // Item 4: chunked is decoded; with another final coding, the content ends with the connection. RFC 9112 6.1:
            // so it is with a transfer coding in HTTP/1.0.
            let codings: Result<Vec<_>, _> = codings.flat_map(tokens).collect();
            return match codings.as_deref() {
                Ok([only]) if only.eq_ignore_ascii_case("chunked") && head.version() == HttpVersion::Http11 => {
                    Framing::Chunked
                }
                _ => Framing::Close,
            };
        }
        match (head.content_length(), head.field_values("Content-Length").next()) {
            (Some(length), _) => Framing::Length(length),
            (None, None) => Framing::Close,
            // Item 5: with an invalid length, a client "MUST [...] discard the received response". The status is told.
            (None, Some(_)) => Framing::Length(0),
        }
    }
}

/// Returns the size in `chunk-size [ chunk-ext ]` (RFC 9112 7.1). The extensions are ignored.
fn chunk_size(line: &[u8]) -> Option<usize> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    // RFC 9112 7.1: recipients must "prevent parsing errors due to integer conversion overflows".
    usize::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(lines: &str, received: &str) -> (String, bool) {
        let head = ResponseHead::parse(format!("HTTP/1.1 {lines}\r\n\r\n").as_bytes()).unwrap();
        let body = Body::read(&head, received.as_bytes(), 20);
        (String::from_utf8(body.content).unwrap(), body.complete)
    }

    const CHUNKED: &str = "404 Not Found\r\nTransfer-Encoding: Chunked";

    #[test]
    fn h_06_the_end_of_the_content_is_found() {
        for (lines, received, content, complete) in [
            ("204 No Content", "", "", true),
            ("304 Not Modified\r\nContent-Length: 9", "", "", true),
            ("204 No Content\r\nTransfer-Encoding: chunked", "", "", true),
            ("403 F\r\nContent-Length: 0", "", "", true),
            ("403 F\r\nContent-Length: 5", "hell", "hell", false),
            ("403 F\r\nContent-Length: 5", "hello\r\n", "hello", true),
            ("403 F\r\nContent-Length: 5, 5", "hello", "hello", true),
            ("403 F\r\nContent-Length: 5\r\nContent-Length: 6", "", "", true),
            ("403 F\r\nContent-Length: x", "", "", true),
            ("403 F\r\nContent-Length: 99999", "0123456789012345678901", "01234567890123456789", true),
            ("403 F", "hello", "hello", false),
            ("403 F", "0123456789012345678901", "01234567890123456789", true),
            ("403 F\r\nTransfer-Encoding: gzip", "5\r\nhello", "5\r\nhello", false),
            ("403 F\r\nContent-Length: 3\r\nTransfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n", "hello", true),
        ] {
            assert_eq!(read(lines, received), (content.to_owned(), complete), "{lines:?} {received:?}");
        }
        let old = ResponseHead::parse(b"HTTP/1.0 404 N\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        assert_eq!(Body::read(&old, b"5\r\n", 20), Body { content: b"5\r\n".to_vec(), complete: false });
    }

    #[test]
    fn h_06_chunks_are_decoded() {
        for (received, content, complete) in [
            ("", "", false),
            ("5", "", false),
            ("5\r\nhel", "hel", false),
            ("5\r\nhello\r", "hello", false),
            ("5\r\nhello\r\n1;a=\"b\"\r\n!\r\n0\r\n", "hello!", true),
            ("A \r\n0123456789\r\n00\r\nX: trailer\r\n\r\n", "0123456789", true),
            ("5\r\nhello5\r\n", "hello", true),
            ("x\r\nhello", "", true),
            ("\r\nhello", "", true),
            ("-1\r\nhello", "", true),
            ("ffffffffffffffffffff\r\nhello", "", true),
            ("ffffffffffffffff\r\nhello", "hello", false),
        ] {
            assert_eq!(read(CHUNKED, received), (content.to_owned(), complete), "{received:?}");
        }
    }

    #[test]
    fn h_06_endless_chunk_extensions_are_not_read() {
        let (content, complete) = read(CHUNKED, &format!("5;{}", "x".repeat(MAX_RECEIVED)));
        assert_eq!((content.as_str(), complete), ("", true));
    }

    proptest! {
        #[test]
        fn no_chunks_panic_and_what_was_cut_is_read_whole(
            chunks in proptest::collection::vec("[a-z\r\n]{1,9}", 0..5),
            junk in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let head = ResponseHead::parse(format!("HTTP/1.1 {CHUNKED}\r\n\r\n").as_bytes()).unwrap();
            let _ = Body::read(&head, &junk, 20);
            let sent: String = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
            let sent = sent + "0\r\n\r\n";
            let whole = Body::read(&head, sent.as_bytes(), 100);
            prop_assert_eq!(whole, Body { content: chunks.concat().into_bytes(), complete: true });
            for end in 0..sent.len() {
                let part = Body::read(&head, &sent.as_bytes()[..end], 100);
                prop_assert!(chunks.concat().as_bytes().starts_with(&part.content));
                prop_assert!(!part.complete || end >= sent.len() - 2);
            }
        }
    }
}
