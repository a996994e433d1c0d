//! Percent-encoding of what users write in a path or a query.

/// Returns path and query with the characters percent-encoded that a URL can not have, as the URL standard of the WHATWG has
/// browsers do for `ws` and `wss` (its path and special-query percent-encode sets), in UTF-8.
///
/// A `%` stays as it is, so that nothing is encoded twice. A backslash is encoded: browsers take it for a slash in a path, and
/// servers differ.
pub(super) fn encode(target: &str) -> String {
    let mut encoded = String::with_capacity(target.len());
    let mut in_query = false;
    for character in target.chars() {
        in_query |= character == '?';
        if must_be_encoded(character, in_query) {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                encoded.push('%');
                encoded.extend([byte >> 4, byte & 15].into_iter().filter_map(|digit| HEX.get(usize::from(digit))));
            }
        } else {
            encoded.push(character);
        }
    }
    encoded
}

fn must_be_encoded(character: char, in_query: bool) -> bool {
    match character {
        '!' | '$'..='&' | '('..=';' | '=' | '?'..='[' | ']' | '_' | 'a'..='z' | '|' | '~' => false,
        '\'' => in_query,
        '^' | '`' | '{' | '}' => !in_query,
        _ => true,
    }
}

/// RFC 3986 2.1: "URI producers and normalizers should use uppercase hexadecimal digits".
const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_encoded_as_browsers_do() {
        for (written, sent) in [
            ("/caf\u{e9}?q=a b", "/caf%C3%A9?q=a%20b"),
            ("/a b/\u{1f600}\u{3000}", "/a%20b/%F0%9F%98%80%E3%80%80"),
            ("/%20%e9%C3%A9?%20", "/%20%e9%C3%A9?%20"),
            ("/100%", "/100%"),
            ("/\"<>`{}^|[]'", "/%22%3C%3E%60%7B%7D%5E|[]'"),
            ("/?\"<>`{}^|[]'", "/?%22%3C%3E`{}^|[]%27"),
            ("/a\\b?c\\d", "/a%5Cb?c%5Cd"),
            ("/-._~!$&'()*+,;=:@/", "/-._~!$&'()*+,;=:@/"),
            ("/?-._~!$&()*+,;=:@/?", "/?-._~!$&()*+,;=:@/?"),
            ("/\u{85}\u{a0}\u{2028}", "/%C2%85%C2%A0%E2%80%A8"),
        ] {
            assert_eq!(encode(written), sent, "{written:?}");
            assert_eq!(encode(sent), sent, "what is encoded stays as it is");
        }
    }

    #[test]
    fn every_character_of_ascii_is_sent_or_encoded() {
        for byte in b' '..=b'~' {
            let written = format!("/{0}?{0}", char::from(byte));
            let sent = encode(&written);
            assert!(sent.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\".contains(&byte)) || byte == b'#');
        }
        assert_eq!(encode("/#"), "/%23");
    }
}
