//! Tokens (RFC 9110 5.6.2), and the case-insensitive comparison of names.

/// Returns whether this is a `token = 1*tchar` (RFC 9110 5.6.2).
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_tchar)
}

pub(super) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Compares two names case-insensitively. It compares the lengths first, because most names differ in length, and then
/// the bytes with their case, because equal names are mostly written with the same case.
#[inline]
pub(crate) fn same_but_for_case(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && (one == other || one.eq_ignore_ascii_case(other))
}
