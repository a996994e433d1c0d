//! UTF-8 validation of text, as a whole or in pieces.

/// The text is not UTF-8 (RFC 6455 8.1).
///
/// ```
/// use threadbare::ProtocolError;
/// use threadbare::protocol::utf8::{InvalidUtf8, Validator};
///
/// assert_eq!(Validator::default().feed(b"\xff"), Err(InvalidUtf8));
/// assert_eq!(ProtocolError::from(InvalidUtf8), ProtocolError::InvalidUtf8);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUtf8;

use ascii::{AsAsciiStr, AsciiStr};

/// Texts of less than 512 bytes are checked for ASCII first. Larger makes long ASCII texts slower; smaller makes short
/// ones slower.
const MAX_ASCII_SIZE: usize = 512;

/// The standard library checks 64 bytes at once for ASCII, and the remainder of a longer text byte by byte.
const ASCII_BLOCK: usize = 64;

/// From a remainder of 32 bytes on, UTF-8 validation with vectors is faster than the check for ASCII byte by byte.
const MAX_ASCII_REST: usize = 32;

/// Returns the text if it is UTF-8.
#[inline]
pub(crate) fn from_utf8(bytes: &[u8]) -> Option<&str> {
    // A separate branch, so that the compiler knows the size of a short text in `as_ascii_str`.
    let ascii = if bytes.len() < ASCII_BLOCK { bytes.as_ascii_str().ok() } else { long_ascii(bytes) };
    match ascii {
        Some(text) => Some(text.as_str()),
        None => simdutf8::basic::from_utf8(bytes).ok(),
    }
}

/// Returns a text of 64 bytes or more if it is ASCII and the check for ASCII is faster than UTF-8 validation.
#[inline]
fn long_ascii(bytes: &[u8]) -> Option<&AsciiStr> {
    let is_seen_sooner = bytes.len() < MAX_ASCII_SIZE && bytes.len() % ASCII_BLOCK < MAX_ASCII_REST;
    if is_seen_sooner { bytes.as_ascii_str().ok() } else { None }
}

/// Splits the bytes of a character that is not whole off the end of a text.
pub(crate) fn split_cut_character(text: &[u8]) -> (&[u8], &[u8]) {
    // The first byte of a character has as many leading ones as the character has bytes. Of a text that is not UTF-8,
    // one of the two parts is not UTF-8 either.
    let is_cut = |len: &usize| match text.get(text.len().wrapping_sub(*len)) {
        Some(first) => first.leading_ones() as usize > *len,
        None => false,
    };
    let cut = (1..=3).find(is_cut).unwrap_or_default();
    text.split_at_checked(text.len() - cut).unwrap_or_default()
}

/// Validates text as it arrives. It keeps a character that is split between two pieces, and refuses a text at its first
/// invalid byte.
///
/// ```
/// use threadbare::protocol::utf8::Validator;
///
/// let mut text = Validator::default();
/// for piece in "größer".as_bytes().chunks(3) {
///     text.feed(piece)?; // a character may be in two pieces
/// }
/// text.finish()?;
/// # Ok::<(), threadbare::protocol::utf8::InvalidUtf8>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Validator {
    /// The first bytes of a character whose last byte has not arrived: at most three.
    cut: [u8; 4],
    cut_len: u8,
}

impl Validator {
    /// Validates the next piece.
    ///
    /// ```
    /// use threadbare::protocol::utf8::Validator;
    ///
    /// let mut text = Validator::default();
    /// assert!(text.feed(b"gr\xc3").is_ok()); // the beginning of a character
    /// assert!(text.feed(b"\xb6\xc3\x9fer").is_ok());
    /// assert!(text.feed(b"\xff").is_err());
    /// ```
    ///
    /// # Errors
    /// [`InvalidUtf8`] as soon as no following bytes could make the text valid.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), InvalidUtf8> {
        let mut rest = piece;
        while self.cut_len > 0 {
            let Some((&byte, tail)) = rest.split_first() else { return Ok(()) };
            rest = tail;
            let Some(slot) = self.cut.get_mut(usize::from(self.cut_len)) else { return Err(InvalidUtf8) };
            *slot = byte;
            self.cut_len += 1;
            match std::str::from_utf8(self.cut.get(..usize::from(self.cut_len)).unwrap_or_default()) {
                Ok(_) => self.cut_len = 0,
                Err(error) if error.error_len().is_some() => return Err(InvalidUtf8),
                Err(_) => {}
            }
        }
        match simdutf8::compat::from_utf8(rest) {
            Ok(_) => Ok(()),
            // `error_len` is `None` only if the input ends inside a character that can still become valid.
            Err(error) if error.error_len().is_some() => Err(InvalidUtf8),
            Err(error) => {
                let tail = rest.get(error.valid_up_to()..).unwrap_or_default();
                for (slot, byte) in self.cut.iter_mut().zip(tail) {
                    *slot = *byte;
                }
                self.cut_len = tail.len() as u8;
                Ok(())
            }
        }
    }

    /// Returns the first bytes of a character whose last byte has not arrived.
    pub(crate) fn held(&self) -> &[u8] {
        self.cut.get(..usize::from(self.cut_len)).unwrap_or_default()
    }

    /// Returns how many bytes that character lacks.
    pub(crate) fn lacks(&self) -> usize {
        let [first, ..] = self.cut;
        if self.cut_len == 0 { 0 } else { (first.leading_ones() as usize).saturating_sub(self.cut_len.into()) }
    }

    /// Validates that the text does not end inside a character.
    ///
    /// ```
    /// use threadbare::protocol::utf8::Validator;
    ///
    /// let mut text = Validator::default();
    /// assert!(text.feed(b"gr\xc3").is_ok());
    /// assert!(text.finish().is_err()); // a byte is missing
    /// ```
    ///
    /// # Errors
    /// [`InvalidUtf8`] if it does.
    pub fn finish(&self) -> Result<(), InvalidUtf8> {
        if self.cut_len == 0 { Ok(()) } else { Err(InvalidUtf8) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn first_error(pieces: &[&[u8]]) -> Option<usize> {
        let mut validator = Validator::default();
        for (index, piece) in pieces.iter().enumerate() {
            if validator.feed(piece).is_err() {
                return Some(index);
            }
        }
        validator.finish().err().map(|InvalidUtf8| pieces.len())
    }

    #[test]
    fn p_07_text_is_refused_at_its_first_invalid_byte() {
        // Autobahn 6.4: "κόσμε", then a character above U+10FFFF, then more.
        let text = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited";
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(first_error(&bytes), Some(12), "F4 may begin a character; 90 after it may not follow");
        assert_eq!(first_error(&[&text[..12], &text[12..]]), Some(1));
    }

    #[test]
    fn a_text_that_ends_inside_a_character_is_refused() {
        assert_eq!(first_error(&[b"abc\xe2\x82"]), Some(1));
        assert_eq!(first_error(&[b"abc\xe2\x82", b"\xac"]), None);
        assert_eq!(first_error(&[b"\xed\xa0"]), Some(0), "a surrogate is refused before its third byte");
    }

    #[test]
    fn one_non_ascii_byte_is_found_at_every_offset() {
        for len in 0..=2 * MAX_ASCII_SIZE / 3 {
            let mut text = vec![b'a'; len];
            assert!(from_utf8(&text).is_some());
            for index in 0..len {
                text[index] = 0x80;
                assert_eq!(from_utf8(&text), None, "byte {index} of {len}");
                text[index] = b'a';
            }
        }
        for len in 2..=MAX_ASCII_SIZE + 2 * ASCII_BLOCK {
            let text = "a".repeat(len - 2);
            for text in [format!("é{text}"), format!("{text}é")] {
                assert_eq!(from_utf8(text.as_bytes()), Some(&*text));
                assert_eq!(from_utf8(&text.as_bytes()[1..]).is_some(), text.starts_with('a') && len > 2);
                assert_eq!(from_utf8(&text.as_bytes()[..len - 1]).is_some(), text.starts_with('é') && len > 2);
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_std_in_any_chunking(bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            ".{0,200}".prop_map(String::into_bytes),
            (".{0,80}", any::<u8>(), ".{0,80}").prop_map(|(a, b, c)| [a.as_bytes(), &[b], c.as_bytes()].concat()),
        ], size in 1_usize..9) {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            let text = std::str::from_utf8(&bytes).ok();
            prop_assert_eq!(first_error(&pieces).is_none(), text.is_some());
            prop_assert_eq!(from_utf8(&bytes), text);
        }
    }
}
