//! Header values that are lists of tokens (RFC 9110 5.6.1) or of extension offers (RFC 6455 9.1).

use std::borrow::Cow;

use super::token::{is_tchar, same_but_for_case};

/// One extension that the client offers in `Sec-WebSocket-Extensions`, with its parameters (RFC 6455 9.1).
///
/// ```
/// use threadbare::Request;
///
/// let head = b"GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Extensions: x-zip; level=9; fast\r\n\r\n";
/// let request = Request::parse(head, ([127, 0, 0, 1], 50_000).into()).expect("a well-formed head");
/// let offer = request.extensions().next().expect("one extension");
/// assert_eq!(offer.name(), "x-zip");
/// assert!(offer.params().eq([("level", Some("9")), ("fast", None)]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionOffer<'a> {
    name: &'a str,
    params: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

impl<'a> ExtensionOffer<'a> {
    /// Returns the name of the extension, such as `permessage-deflate`.
    ///
    /// ```
    /// use threadbare::Request;
    ///
    /// fn can_compress(request: &Request) -> bool {
    ///     request.extensions().any(|offer| offer.name() == "permessage-deflate")
    /// }
    /// ```
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Returns the parameters in their order. Quoted values are returned without quotes.
    ///
    /// ```
    /// use threadbare::ExtensionOffer;
    ///
    /// fn has_param(offer: &ExtensionOffer<'_>, wanted: &str) -> bool {
    ///     offer.params().any(|(name, _value)| name == wanted)
    /// }
    /// ```
    pub fn params(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.params.iter().map(|(name, value)| (*name, value.as_deref()))
    }
}

/// A list does not conform to its grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MalformedList;

/// Returns whether `wanted` is an element of the list in these header lines, case-insensitively.
pub(crate) fn contains_token<'a>(mut lines: impl Iterator<Item = &'a [u8]>, wanted: &str) -> bool {
    let is_wanted = |element: &[u8]| same_but_for_case(element, wanted.as_bytes());
    // Most of these lists have one element.
    lines.any(|line| is_wanted(line) || line.split(|byte| *byte == b',').any(|element| is_wanted(element.trim_ascii())))
}

/// Returns the tokens of the list in one header line. The iterator ends after the first error.
pub(crate) fn tokens(line: &[u8]) -> impl Iterator<Item = Result<&str, MalformedList>> {
    let mut cursor = Cursor::new(line);
    core::iter::from_fn(move || cursor.element(Cursor::token))
}

/// Returns the offers in one line of `Sec-WebSocket-Extensions`. The iterator ends after the first error.
pub(crate) fn extension_offers(line: &[u8]) -> impl Iterator<Item = Result<ExtensionOffer<'_>, MalformedList>> {
    let mut cursor = Cursor::new(line);
    core::iter::from_fn(move || cursor.element(Cursor::extension))
}

/// Parses a line in one pass from left to right.
struct Cursor<'a> {
    rest: &'a [u8],
    #[cfg(test)]
    looked_at: usize,
}

impl<'a> Cursor<'a> {
    fn new(line: &'a [u8]) -> Cursor<'a> {
        Cursor {
            rest: line,
            #[cfg(test)]
            looked_at: 0,
        }
    }

    /// Parses the next element of a comma-separated list.
    ///
    /// RFC 9110 5.6.1.2: "A recipient MUST parse and ignore a reasonable number of empty list elements". The limit on
    /// the size of a head bounds their number.
    fn element<T>(
        &mut self,
        parse: impl Fn(&mut Self) -> Result<T, MalformedList>,
    ) -> Option<Result<T, MalformedList>> {
        self.skip_whitespace();
        while self.eat(b',') {
            self.skip_whitespace();
        }
        if self.rest.is_empty() {
            return None;
        }
        let element = parse(self).and_then(|element| {
            self.skip_whitespace();
            if self.rest.is_empty() || self.eat(b',') { Ok(element) } else { Err(MalformedList) }
        });
        if element.is_err() {
            self.rest = &[];
        }
        Some(element)
    }

    /// Parses `extension = extension-token *( ";" extension-param )` (RFC 6455 9.1).
    fn extension(&mut self) -> Result<ExtensionOffer<'a>, MalformedList> {
        let name = self.token()?;
        let mut params = Vec::new();
        self.skip_whitespace();
        while self.eat(b';') {
            self.skip_whitespace();
            let name = self.token()?;
            self.skip_whitespace();
            let value = if self.eat(b'=') { Some(self.param_value()?) } else { None };
            params.push((name, value));
            self.skip_whitespace();
        }
        Ok(ExtensionOffer { name, params })
    }

    fn param_value(&mut self) -> Result<Cow<'a, str>, MalformedList> {
        self.skip_whitespace();
        if !self.eat(b'"') {
            return self.token().map(Cow::Borrowed);
        }
        let mut value = Cow::Borrowed(self.tchars()?);
        while self.eat(b'\\') {
            let escaped = self.take_tchar().ok_or(MalformedList)?;
            value.to_mut().push(char::from(escaped));
            let more = self.tchars()?;
            value.to_mut().push_str(more);
        }
        // RFC 6455 9.1: "the value after quoted-string unescaping MUST conform to the 'token' ABNF".
        if self.eat(b'"') && !value.is_empty() { Ok(value) } else { Err(MalformedList) }
    }

    fn token(&mut self) -> Result<&'a str, MalformedList> {
        self.tchars().and_then(|token| if token.is_empty() { Err(MalformedList) } else { Ok(token) })
    }

    fn tchars(&mut self) -> Result<&'a str, MalformedList> {
        core::str::from_utf8(self.take_while(is_tchar)).map_err(|_| MalformedList)
    }

    fn take_tchar(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first().filter(|(byte, _)| is_tchar(**byte))?;
        self.rest = rest;
        Some(byte)
    }

    fn skip_whitespace(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t'));
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().position(|byte| !wanted(*byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        #[cfg(test)]
        (self.looked_at += length + 1);
        taken
    }

    fn eat(&mut self, wanted: u8) -> bool {
        #[cfg(test)]
        (self.looked_at += 1);
        match self.rest.split_first() {
            Some((byte, rest)) if *byte == wanted => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offers(line: &str) -> Result<Vec<String>, MalformedList> {
        extension_offers(line.as_bytes())
            .map(|offer| {
                let offer = offer?;
                let params: Vec<_> =
                    offer.params().map(|(name, value)| format!("{name}={}", value.unwrap_or("-"))).collect();
                Ok(format!("{}[{}]", offer.name(), params.join(" ")))
            })
            .collect()
    }

    #[test]
    fn token_lists_are_parsed() {
        let list = |line: &'static str| tokens(line.as_bytes()).collect::<Result<Vec<_>, _>>();
        assert_eq!(list("chat, superchat"), Ok(vec!["chat", "superchat"]));
        assert_eq!(list(" , a,,\tb\t ,"), Ok(vec!["a", "b"]));
        assert_eq!(list(""), Ok(vec![]));
        for bad in ["a b", "a;b", "a,\"b\"", "caf\u{e9}", "a/b", ";a"] {
            assert_eq!(list(bad), Err(MalformedList), "{bad}");
        }
    }

    #[test]
    fn tokens_are_found_case_insensitively_in_several_lines() {
        let lines = [b"keep-alive".as_slice(), b"foo ,\tUPGRADE"];
        assert!(contains_token(lines.into_iter(), "upgrade"));
        assert!(!contains_token([b"notupgrade, upgrades, up grade".as_slice()].into_iter(), "upgrade"));
    }

    #[test]
    fn extension_lists_are_parsed() {
        assert_eq!(
            offers("permessage-deflate; client_max_window_bits; server_max_window_bits=10, foo"),
            Ok(vec!["permessage-deflate[client_max_window_bits=- server_max_window_bits=10]".into(), "foo[]".into()])
        );
        assert_eq!(offers(r#"a;b="1\0" ; c = d,,"#), Ok(vec!["a[b=10 c=d]".into()]));
        assert_eq!(offers("constructor"), Ok(vec!["constructor[]".into()]));
        for bad in [
            ",;constructor",
            "a;",
            "a;;b",
            "a;b=",
            "a;b=\"",
            "a;b=\"\"",
            "a;b=\"x y\"",
            "a;b=\"x",
            "a;b=\"x\\",
            "a b",
            "a=b",
            "a;b=\"c\"d",
            "\u{e9}",
            "a;b=\"\\\"\"",
        ] {
            assert_eq!(offers(bad), Err(MalformedList), "{bad}");
        }
    }

    #[test]
    fn a_04_lists_are_parsed_in_linear_time() {
        let hostile: [(&str, &str, &str); 7] = [
            ("b", " ", "x"),
            ("a; b=\"", "\\c", "\""),
            ("", ",", ""),
            ("", " ,", ""),
            ("a", ";b", ""),
            ("a", ";b=\"c\"", ""),
            ("", "a, ", ""),
        ];
        for (start, repeated, end) in hostile {
            let line = [start, &repeated.repeat(30_000), end].concat();
            for parse in [Cursor::extension, |cursor: &mut Cursor<'_>| {
                cursor.token().map(|_| ExtensionOffer { name: "", params: vec![] })
            }] {
                let mut cursor = Cursor::new(line.as_bytes());
                while cursor.element(parse).is_some() {}
                assert!(
                    cursor.looked_at <= 5 * line.len() + 16,
                    "{start} {repeated}: {} for {}",
                    cursor.looked_at,
                    line.len()
                );
            }
        }
    }

    proptest! {
        #[test]
        fn a_03_no_list_panics(
            line in proptest::collection::vec(
                prop_oneof![prop::sample::select(b",;=\"\\ a".to_vec()), any::<u8>()],
                0..200,
            ),
        ) {
            let _ = extension_offers(&line).count();
            let _ = tokens(&line).count();
            let _ = contains_token([line.as_slice()].into_iter(), "upgrade");
        }

        #[test]
        fn offers_are_parsed_as_they_were_written(
            names in proptest::collection::vec("[a-z-]{1,9}", 1..5),
            value in "[!-~&&[^\\\\\",;=()/:<>?@\\[\\]{}]]{1,9}",
            separator in "[ \t]{0,3},[ \t,]{0,3}",
        ) {
            let line = names.iter().map(|name| format!("{name};p=\"{value}\"")).collect::<Vec<_>>().join(&separator);
            let expected: Vec<_> = names.iter().map(|name| format!("{name}[p={value}]")).collect();
            prop_assert_eq!(offers(&line), Ok(expected));
        }
    }
}
