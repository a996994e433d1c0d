//! UTF-8 validation of text, whole or in pieces.

/// The text is not UTF-8 (RFC 6455 8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUtf8;

use ascii::{AsAsciiStr, AsciiStr};

/// Shorter texts are looked at as ASCII first, which most of them are.
const MAX_ASCII_SIZE: usize = 512;

/// The standard library looks at so many bytes of a text at once, and at what is left of a longer one byte by byte.
const ASCII_BLOCK: usize = 64;

/// With so many bytes left, the vectors for all of UTF-8 are faster.
const MAX_ASCII_REST: usize = 32;

/// The text, if it is UTF-8.
#[inline]
pub(crate) fn from_utf8(bytes: &[u8]) -> Option<&str> {
    // Apart, so that short texts are seen to be short once.
    let ascii = if bytes.len() < ASCII_BLOCK { bytes.as_ascii_str().ok() } else { long_ascii(bytes) };
    match ascii {
        Some(text) => Some(text.as_str()),
        None => simdutf8::basic::from_utf8(bytes).ok(),
    }
}

/// A text of a block and more, if that it is ASCII is seen sooner than that it is UTF-8, and it is.
#[inline]
fn long_ascii(bytes: &[u8]) -> Option<&AsciiStr> {
    let is_seen_sooner = bytes.len() < MAX_ASCII_SIZE && bytes.len() % ASCII_BLOCK < MAX_ASCII_REST;
    if is_seen_sooner { bytes.as_ascii_str().ok() } else { None }
}

/// A validator that remembers a character cut in two, so that a text can be checked as it arrives and is refused
/// at its first wrong byte.
#[derive(Clone, Copy, Debug, Default)]
pub struct Validator {
    /// The beginning of a character whose end has not arrived: at most three bytes.
    cut: [u8; 4],
    cut_len: u8,
}

impl Validator {
    /// Checks the next piece.
    ///
    /// # Errors
    /// [`InvalidUtf8`] as soon as no continuation could make the text valid.
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
            // `error_len` is `None` only where the input ends inside a character that may yet become valid.
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

    /// Checks that the text does not end inside a character.
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
    fn p_07_refuses_at_the_first_wrong_byte() {
        // Autobahn 6.4: "κόσμε", then a character above U+10FFFF, then more.
        let text = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited";
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(first_error(&bytes), Some(12), "F4 may begin a character; 90 after it may not follow");
        assert_eq!(first_error(&[&text[..12], &text[12..]]), Some(1));
    }

    #[test]
    fn a_character_cut_by_the_end_is_invalid() {
        assert_eq!(first_error(&[b"abc\xe2\x82"]), Some(1));
        assert_eq!(first_error(&[b"abc\xe2\x82", b"\xac"]), None);
        assert_eq!(first_error(&[b"\xed\xa0"]), Some(0), "a surrogate is refused before its third byte");
    }

    #[test]
    fn one_byte_that_is_not_ascii_is_seen_wherever_it_is() {
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
