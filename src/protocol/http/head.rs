//! The header lines of a received request or response.

use core::fmt;

use super::scanner::{HeadError, HeadScanner};
use super::token::same_but_for_case;

/// The bytes of a head, and the positions of its header lines in them.
#[derive(Clone)]
pub(super) struct Head {
    bytes: Box<[u8]>,
    fields: Box<[Field]>,
}

impl Head {
    /// Copies a head. `headers` are the header lines that were parsed from `bytes`.
    pub(super) fn new(bytes: &[u8], headers: &[httparse::Header<'_>]) -> Result<Head, HeadError> {
        let mut fields = Vec::with_capacity(headers.len());
        for header in headers {
            fields
                .push(Field { name: Span::of(header.name.as_bytes(), bytes)?, value: Span::of(header.value, bytes)? });
        }
        Ok(Head { bytes: bytes.into(), fields: fields.into() })
    }

    /// Returns the bytes of memory that the head takes.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.fields)
    }

    /// Returns the value of the first header line with this name whose value is UTF-8.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.header_values(name).next()
    }

    /// Returns the values of all header lines with this name, except values that are not UTF-8.
    pub(super) fn header_values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.field_values(name).filter_map(|value| core::str::from_utf8(value).ok())
    }

    /// Returns all header lines in their order.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields().map(|(name, value)| (core::str::from_utf8(name).unwrap_or_default(), value))
    }

    /// Returns the values of all header lines with this name.
    pub(super) fn field_values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.fields().filter(move |(known, _)| same_but_for_case(known, name.as_bytes())).map(|(_, value)| value)
    }

    /// Returns the names and values of all header lines in their order.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (self.bytes(field.name), self.bytes(field.value)))
    }

    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn str(&self, span: Span) -> &str {
        core::str::from_utf8(self.bytes(span)).unwrap_or_default()
    }

    fn bytes(&self, span: Span) -> &[u8] {
        self.bytes.get(span.start as usize..span.end as usize).unwrap_or_default()
    }
}

/// Formats the header lines without the values that must not be logged.
impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self
            .headers()
            .map(|(name, value)| (name, if is_secret(name) { "...".into() } else { String::from_utf8_lossy(value) }));
        f.debug_list().entries(shown).finish()
    }
}

/// Scans `head`, which must be exactly one complete head, with a new scanner.
pub(super) fn scan_whole(head: &[u8], mut scanner: HeadScanner) -> Result<HeadScanner, HeadError> {
    if scanner.scan(head)? != Some(head.len()) {
        return Err(HeadError::NotOneHead);
    }
    Ok(scanner)
}

/// Returns whether the value of this header must not be logged.
pub(crate) fn is_secret(name: &str) -> bool {
    const SECRET: [&str; 4] = ["Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie"];
    SECRET.iter().any(|secret| secret.eq_ignore_ascii_case(name))
}

#[derive(Clone, Copy)]
struct Field {
    name: Span,
    value: Span,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Returns the position of `part` in `whole`. Positions have 32 bits, so a head of 4 GiB is too large.
    pub(super) fn of(part: &[u8], whole: &[u8]) -> Result<Span, HeadError> {
        let find = || {
            let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
            let end = start.checked_add(part.len()).filter(|end| *end <= whole.len())?;
            Some(Span { start: start.try_into().ok()?, end: end.try_into().ok()? })
        };
        find().ok_or(HeadError::TooLarge)
    }
}
