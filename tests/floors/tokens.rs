//! Splits Rust source into tokens, and marks those that only a test build compiles.
//!
//! The sources compile and are formatted by rustfmt, so this lexer need not reject anything.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An identifier or a keyword; a raw identifier with its `r#`.
    Word,
    Literal,
    Lifetime,
    /// One character of punctuation, or `::`, `->`, `=>`.
    Sign,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'s> {
    pub(crate) kind: Kind,
    pub(crate) text: &'s str,
    pub(crate) line: usize,
    pub(crate) last_line: usize,
    /// No white space and no comment stands before it: tells `Vec<u8>` from `a < b`.
    adjacent: bool,
    /// Only a test build compiles it.
    pub(crate) test: bool,
}

impl Token<'_> {
    pub(crate) fn is(&self, text: &str) -> bool {
        self.text == text && self.kind != Kind::Literal
    }

    pub(crate) fn is_word(&self) -> bool {
        self.kind == Kind::Word
    }

    fn opens(&self) -> bool {
        self.is("(") || self.is("[") || self.is("{")
    }

    fn closes(&self) -> bool {
        self.is(")") || self.is("]") || self.is("}")
    }
}

/// The tokens of a source file, without comments. Those under `#[cfg(test)]` are marked.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = split(source);
    mark_tests(&mut tokens);
    tokens
}

/// The index behind the group that opens at `at`.
pub(crate) fn group(tokens: &[Token<'_>], at: usize) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        if token.opens() {
            depth += 1;
        } else if token.closes() {
            depth -= 1;
            if depth == 0 {
                return index + 1;
            }
        }
    }
    tokens.len()
}

fn split(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut at, mut line, mut adjacent) = (0, 1, false);
    while at < source.len() {
        let (kind, length) = first(&source[at..]);
        let text = &source[at..at + length];
        let last_line = line + text.matches('\n').count();
        if let Some(kind) = kind {
            tokens.push(Token { kind, text, line, last_line, adjacent, test: false });
        }
        adjacent = kind.is_some();
        line = last_line;
        at += length;
    }
    tokens
}

/// The kind of what `rest` starts with, `None` for white space and comments, and its length in bytes.
fn first(rest: &str) -> (Option<Kind>, usize) {
    let until = |stop: fn(char) -> bool| rest.find(stop).unwrap_or(rest.len());
    let start = rest.chars().next().unwrap_or(' ');
    if start.is_whitespace() {
        return (None, until(|c| !c.is_whitespace()));
    }
    if rest.starts_with("//") {
        return (None, until(|c| c == '\n'));
    }
    if rest.starts_with("/*") {
        return (None, block_comment(rest));
    }
    if let Some(length) = string(rest).or_else(|| character(rest)) {
        return (Some(Kind::Literal), length);
    }
    if let Some(name) = rest.strip_prefix('\'') {
        return (Some(Kind::Lifetime), 1 + name.find(is_no_word).unwrap_or(name.len()));
    }
    if start.is_ascii_digit() {
        let length = until(is_no_word);
        let fraction = rest[length..].strip_prefix('.').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        let fraction = fraction.map_or(0, |digits| 1 + digits.find(is_no_word).unwrap_or(digits.len()));
        return (Some(Kind::Literal), length + fraction);
    }
    if !is_no_word(start) {
        let raw = if rest.starts_with("r#") { 2 } else { 0 };
        return (Some(Kind::Word), raw + rest[raw..].find(is_no_word).unwrap_or(rest.len() - raw));
    }
    let long = ["::", "->", "=>"].iter().any(|sign| rest.starts_with(sign));
    (Some(Kind::Sign), if long { 2 } else { start.len_utf8() })
}

fn is_no_word(c: char) -> bool {
    !(c.is_alphanumeric() || c == '_')
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let step = &rest.as_bytes()[at..];
        if step.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if step.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of the string literal that `rest` starts with: `"..."`, `r#"..."#`, and these behind `b` or `c`.
fn string(rest: &str) -> Option<usize> {
    let unprefixed = rest.strip_prefix(['b', 'c']).unwrap_or(rest);
    let prefix = rest.len() - unprefixed.len();
    if let Some(raw) = unprefixed.strip_prefix('r') {
        let hashes = raw.find(|c| c != '#')?;
        let body = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = body.find(&end).map_or(body.len(), |at| at + end.len());
        return Some(prefix + 1 + hashes + 1 + length);
    }
    let body = unprefixed.strip_prefix('"')?;
    Some(prefix + 1 + quoted(body, b'"'))
}

/// The length of the character literal that `rest` starts with, `'a'` or `b'a'`; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix("b'").or_else(|| rest.strip_prefix('\''))?;
    let prefix = rest.len() - body.len();
    let mut characters = body.chars();
    let escaped = characters.next()? == '\\';
    (escaped || characters.next() == Some('\'')).then(|| prefix + quoted(body, b'\''))
}

/// The length up to and with the closing quote.
fn quoted(body: &str, quote: u8) -> usize {
    let mut bytes = body.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        if byte == b'\\' {
            bytes.next();
        } else if byte == quote {
            return at + 1;
        }
    }
    body.len()
}

/// Marks each item under a `#[cfg(test)]`, with its attributes; and what `#![cfg(test)]` stands in.
fn mark_tests(tokens: &mut [Token<'_>]) {
    let mut at = 0;
    while at < tokens.len() {
        let (start, mut test) = (at, false);
        while starts_with(&tokens[at..], &["#", "["]) {
            let end = group(tokens, at + 1);
            test |= is_test_attribute(&tokens[at + 1..end]);
            at = end;
        }
        let end = if test {
            item_end(tokens, at)
        } else if starts_with(&tokens[at..], &["#", "!", "["])
            && is_test_attribute(&tokens[at + 2..group(tokens, at + 2)])
        {
            enclosing_end(tokens, at)
        } else {
            start
        };
        tokens[start..end].iter_mut().for_each(|token| token.test = true);
        at = at.max(end).max(start + 1);
    }
}

fn starts_with(tokens: &[Token<'_>], signs: &[&str]) -> bool {
    tokens.len() >= signs.len() && tokens.iter().zip(signs).all(|(token, sign)| token.is(sign))
}

/// Whether an attribute, in its brackets, is a `cfg` that only a test build satisfies.
fn is_test_attribute(attribute: &[Token<'_>]) -> bool {
    match attribute {
        [_, cfg, open, predicate @ .., _, _] if cfg.is("cfg") && open.is("(") => needs_test(predicate),
        _ => false,
    }
}

fn needs_test(predicate: &[Token<'_>]) -> bool {
    match predicate {
        [word] => word.is("test"),
        [word, _, list @ .., _] if word.is("all") => arguments(list).into_iter().any(needs_test),
        [word, _, list @ .., _] if word.is("any") => arguments(list).into_iter().all(needs_test),
        _ => false,
    }
}

/// What stands between the commas of a list.
fn arguments<'t, 's>(list: &'t [Token<'s>]) -> Vec<&'t [Token<'s>]> {
    let mut depth = 0;
    let comma = |token: &Token<'_>| {
        depth += i32::from(token.opens()) - i32::from(token.closes());
        depth == 0 && token.is(",")
    };
    list.split(comma).filter(|argument| !argument.is_empty()).collect()
}

/// The index of the closing bracket of what encloses `at`.
fn enclosing_end(tokens: &[Token<'_>], at: usize) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        depth += i32::from(token.opens()) - i32::from(token.closes());
        if depth < 0 {
            return index;
        }
    }
    tokens.len()
}

/// The index behind the item that starts at `at`, its attributes left out: of an item of a module, a statement, a
/// field, a variant, a parameter or an arm of a `match`.
fn item_end(tokens: &[Token<'_>], at: usize) -> usize {
    let qualifiers = ["pub", "default", "async", "unsafe", "const", "extern"];
    let mut head = at;
    while head < tokens.len()
        && (qualifiers.iter().any(|word| tokens[head].is(word)) || head > at && is_abi(tokens, head))
    {
        let restricted = tokens[head].is("pub") && tokens.get(head + 1).is_some_and(|next| next.is("("));
        head = if restricted { group(tokens, head + 1) } else { head + 1 };
    }
    let Some(keyword) = tokens.get(head) else { return tokens.len() };
    let one_of = |words: &[&str]| words.iter().any(|word| keyword.is(word));
    let named = tokens.get(head + 1).is_some_and(Token::is_word);
    let before = |word: &str| tokens[at..head].iter().any(|token| token.is(word));
    if one_of(&["use", "static", "type", "let", "crate"]) || keyword.is_word() && before("const") && !keyword.is("fn") {
        end_at(tokens, at, &[";"])
    } else if one_of(&["fn", "mod", "struct", "enum", "trait", "impl", "macro_rules"])
        || keyword.is("union") && named
        || before("extern")
    {
        end_at(tokens, at, &[";", "}"])
    } else {
        element_end(tokens, at)
    }
}

/// Whether the token is the `"C"` of `extern "C"`.
fn is_abi(tokens: &[Token<'_>], at: usize) -> bool {
    tokens[at].kind == Kind::Literal && tokens[at - 1].is("extern")
}

/// The index behind the first of `ends` that is in no group.
fn end_at(tokens: &[Token<'_>], at: usize, ends: &[&str]) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        depth += i32::from(token.opens()) - i32::from(token.closes());
        if depth < 0 {
            return index;
        }
        if depth == 0 && ends.iter().any(|end| token.is(end)) {
            return index + 1;
        }
    }
    tokens.len()
}

/// The end of what a comma or a semicolon ends, the end of the list around it, or its own block.
fn element_end(tokens: &[Token<'_>], at: usize) -> usize {
    let (mut depth, mut generics) = (0, 0);
    for index in at..tokens.len() {
        let token = &tokens[index];
        depth += i32::from(token.opens()) - i32::from(token.closes());
        if depth < 0 {
            return index;
        }
        if depth > 0 {
            continue;
        }
        if token.is("<") && token.adjacent && opens_generics(&tokens[index - 1], generics) {
            generics += 1;
        } else if token.is(">") && generics > 0 {
            generics -= 1;
        } else if token.is(";") || token.is(",") && generics == 0 {
            return index + 1;
        } else if token.is("}") {
            match tokens.get(index + 1) {
                Some(next) if next.is(",") || next.is(";") => return index + 2,
                Some(next) if ["else", ".", "?", "=", "=>", "|"].iter().any(|more| next.is(more)) => {}
                _ => return index + 1,
            }
        }
    }
    tokens.len()
}

fn opens_generics(before: &Token<'_>, generics: usize) -> bool {
    before.is_word() || before.is("::") || before.is("<") && generics > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of a source without its test items.
    fn kept(source: &str) -> String {
        let kept = tokens(source).into_iter().filter(|token| !token.test);
        kept.map(|token| token.text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn strings_characters_and_comments_hide_what_they_hold() {
        let source = r####"a /* b /* c */ "d */ "e // \" f" r#"g " h"# b"i\\" br##"j"# k"## c"l" 'm' '\'' b'n' '"' o // p
            'q r'static '\u{1F600}' s"####;
        let words = tokens(source).into_iter().filter(Token::is_word).map(|token| token.text).collect::<Vec<_>>();
        assert_eq!(words, ["a", "o", "r", "s"]);
    }

    #[test]
    fn numbers_lifetimes_and_raw_words_are_tokens() {
        let texts = |source| split(source).into_iter().map(|token| token.text).collect::<Vec<_>>();
        assert_eq!(texts("0..n"), ["0", ".", ".", "n"]);
        assert_eq!(texts("1.5f32"), ["1.5f32"]);
        assert_eq!(texts("&'a str"), ["&", "'a", "str"]);
        assert_eq!(texts("r#type::x->y=>z"), ["r#type", "::", "x", "->", "y", "=>", "z"]);
    }

    #[test]
    fn lines_are_counted_through_comments_and_strings() {
        let lines = |source| split(source).into_iter().map(|token| (token.line, token.last_line)).collect::<Vec<_>>();
        assert_eq!(lines("a /*\n*/ b\n\"c\nd\" // e\nf"), [(1, 1), (2, 2), (3, 4), (5, 5)]);
    }

    #[test]
    fn only_the_item_under_the_attribute_is_dropped() {
        for item in [
            "mod tests;",
            "mod tests { fn f() { \"}\"; '}'; } }",
            "use a::{b, c};",
            "pub(in a::b) fn f<T: Into<u8>>(x: [u8; 3]) -> u8 { if x { 1 } else { 2 } }",
            "pub const unsafe extern \"C\" fn f();",
            "const X: [A; 2] = [A { a: 1 }, A { a: 2 }];",
            "static X: A = { A };",
            "struct X(u8, u8);",
            "struct X<T> where T: Y { a: u8 }",
            "impl<T> X for Y<T> { fn f() {} }",
            "macro_rules! x { () => {}; }",
            "extern \"C\" { fn f(); }",
            "extern crate x;",
            "thread_local! { static X: u8 = 1; }",
            "(self.x += 1);",
            "let x = if y { 1 } else { 2 };",
            "if x { 1 } else { 2 }",
            "#[path = \"x.rs\"] mod tests;",
        ] {
            assert_eq!(kept(&format!("a ; #[cfg(test)] {item} b ;")), "a ; b ;", "{item}");
            assert_eq!(kept(&format!("{{ a ; #[x] #[cfg(all(test, y))] {item} }}")), "{ a ; }", "{item}");
        }
    }

    #[test]
    fn only_the_element_under_the_attribute_is_dropped() {
        for element in [
            "x: u8",
            "pub(super) x: HashMap<A, Vec<(B, C)>>",
            "x: fn(A, B) -> C",
            "x: A { a, b }",
            "x",
            "X { a: u8, b: u8 }",
            "X { .. } => f(a, b)",
            "X => { f(a, b) }",
        ] {
            let list = |last: &str| format!("{{ a , #[cfg(test)] {element}{last} }}");
            assert_eq!(kept(&list(", b : c")), "{ a , b : c }", "{element}");
            assert_eq!(kept(&list(",")), "{ a , }", "{element}");
            assert_eq!(kept(&list("")), "{ a , }", "{element}");
        }
        assert_eq!(kept("match x { #[cfg(test)] X => { a } Y => b }"), "match x { Y => b }");
        assert_eq!(kept("f(#[cfg(test)] a < b, c)"), "f ( c )");
    }

    #[test]
    fn what_other_builds_compile_too_is_kept() {
        for attribute in ["cfg(not(test))", "cfg(any(test, x))", "cfg(feature = \"test\")", "cfg_attr(test, x)", "test"]
        {
            assert!(kept(&format!("#[{attribute}] fn f() {{}}")).ends_with("fn f ( ) { }"), "{attribute}");
        }
        for attribute in ["cfg(any(test, all(test, x)))", "cfg(all(x, any(y, z), test))"] {
            assert_eq!(kept(&format!("#[{attribute}] fn f() {{}} a")), "a", "{attribute}");
        }
    }

    #[test]
    fn an_inner_attribute_drops_what_it_stands_in() {
        assert_eq!(kept("#![cfg(test)] use a; fn f() {}"), "");
        assert_eq!(kept("mod x { #![cfg(test)] use a; } b"), "mod x { } b");
        assert_eq!(kept("#![deny(x)] use a;"), "# ! [ deny ( x ) ] use a ;");
    }
}
