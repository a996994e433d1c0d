//! What a request line may be: its method, its target and its version (RFC 9112 3).

/// Returns whether the request that begins with these bytes has the method HEAD.
pub(crate) fn asks_for_head(received: &[u8]) -> bool {
    // RFC 9112 2.2: one empty line before the request line is ignored.
    received.strip_prefix(b"\r\n").unwrap_or(received).starts_with(b"HEAD ")
}

/// Returns whether this is a request line whose version is neither HTTP/1.0 nor HTTP/1.1.
pub(super) fn names_other_version(head: &[u8]) -> bool {
    let line = head.trim_ascii_start().split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut parts = line.split(|byte| *byte == b' ').skip(2);
    matches!((parts.next(), parts.next()), (Some([b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']), None))
}

/// Returns the head of an HTTP/1.2 request, or of a later minor version, as one of HTTP/1.1. RFC 9110 2.5: a recipient
/// processes it "as if it were in the highest minor version within that major version to which the recipient is
/// conformant".
pub(super) fn as_http_1_1(head: &[u8]) -> Option<Vec<u8>> {
    let skipped = if head.starts_with(b"\r\n") { 2 } else { 0 };
    let end = skipped + head.get(skipped..)?.iter().position(|byte| *byte == b'\r')?;
    let minor = end.checked_sub(1)?;
    let is_later = matches!(head.get(..end)?, [.., b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9']);
    let mut head = is_later.then(|| head.to_vec())?;
    *head.get_mut(minor)? = b'1';
    Some(head)
}

/// Returns whether `target` has only characters of a URI (RFC 3986 3.3 and 3.4), no fragment, and whole percent-encodings.
///
/// It may also have the characters that browsers send though RFC 3986 excludes them: the URL standard of the WHATWG leaves
/// `|`, `^`, `[` and `]` as they are, and in a query the grave accent and braces.
pub(super) fn is_target(target: &[u8]) -> bool {
    let mut bytes = target.iter().copied();
    let mut in_query = false;
    while let Some(byte) = bytes.next() {
        let valid = match byte {
            b'%' => {
                [bytes.next(), bytes.next()].iter().all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit()))
            }
            b'?' => {
                in_query = true;
                true
            }
            b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b'@' => true,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => true,
            b'|' | b'^' | b'[' | b']' => true,
            b'`' | b'{' | b'}' => in_query,
            _ => byte.is_ascii_alphanumeric(),
        };
        if !valid {
            return false;
        }
    }
    true
}
