//! Tokens (RFC 9110 5.6.2), and names that are compared without regard to case.

/// RFC 9110 5.6.2: `token = 1*tchar`.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_tchar)
}

pub(super) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Compares what most often differs in length, and else is written the same way too.
#[inline]
pub(crate) fn same_but_for_case(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && (one == other || one.eq_ignore_ascii_case(other))
}
