//! Text of the peer, or of the application, in one line of a log.

use core::fmt::{self, Write};

/// Formats a text so that it stays in its line and can not steer a terminal: control characters, and those that break a
/// line or turn the direction of writing, are written as escapes.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(is_steering) {
            let (before, from) = rest.split_at(at);
            f.write_str(before)?;
            let mut characters = from.chars();
            if let Some(character) = characters.next() {
                character.escape_default().try_for_each(|escape| f.write_char(escape))?;
            }
            rest = characters.as_str();
        }
        f.write_str(rest)
    }
}

fn is_steering(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_steers_is_escaped() {
        let escaped = |text| Escaped(text).to_string();
        assert_eq!(escaped("Grüße, \"you\" \\ 好"), "Grüße, \"you\" \\ 好");
        assert_eq!(escaped("a\r\nb\x1b[31m\u{9b}\0"), "a\\r\\nb\\u{1b}[31m\\u{9b}\\u{0}");
        assert_eq!(escaped("\u{202e}cba\u{2028}"), "\\u{202e}cba\\u{2028}");
        assert_eq!(escaped(""), "");
    }
}
