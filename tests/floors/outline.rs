//! What the guard needs to know of one source file: the modules that it declares, and the paths that it names.

use std::collections::BTreeSet;

use crate::tokens::{Kind, Token, group, tokens};

/// A source file, as far as the rules look at it. Of test items only the declared modules are in it.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    pub(crate) modules: Vec<Declaration>,
    pub(crate) paths: Vec<Path>,
    /// Each identifier with its line.
    pub(crate) words: Vec<(String, usize)>,
    /// Names that the code uses, other than in a `use`.
    pub(crate) used: BTreeSet<String>,
    /// Lines that hold code: no comment, no blank line, no test item.
    pub(crate) code_lines: usize,
}

/// `mod name;` or `mod name { .. }`.
#[derive(Debug)]
pub(crate) struct Declaration {
    /// The inline modules around it.
    pub(crate) scope: Vec<String>,
    pub(crate) name: String,
    /// `mod name { .. }`.
    pub(crate) inline: bool,
    /// `#[path = ".."]`.
    pub(crate) path: Option<String>,
    pub(crate) test: bool,
}

/// A path, of a `use` or in the code.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    /// The inline modules around it.
    pub(crate) scope: Vec<String>,
    /// The first is empty if the path starts with `::`.
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// The name that a `use` gives to it.
    pub(crate) name: Option<String>,
    /// `use a::*`.
    pub(crate) glob: bool,
    /// A `use` with a visibility.
    pub(crate) reexport: bool,
}

impl Path {
    pub(crate) fn is_use(&self) -> bool {
        self.name.is_some() || self.glob
    }

    /// As it is written, but for a `use` of several: `crate::a::B`.
    pub(crate) fn text(&self) -> String {
        let text = self.segments.join("::");
        if self.glob { format!("{text}::*") } else { text }
    }
}

pub(crate) fn outline(source: &str) -> Outline {
    let tokens = tokens(source);
    let mut reader =
        Reader { tokens: &tokens, at: 0, scopes: Vec::new(), depth: 0, path: None, outline: Outline::default() };
    while reader.at < tokens.len() {
        reader.step();
    }
    let lines = tokens.iter().filter(|token| !token.test).flat_map(|token| token.line..=token.last_line);
    reader.outline.code_lines = lines.collect::<BTreeSet<_>>().len();
    reader.outline
}

struct Reader<'t, 's> {
    tokens: &'t [Token<'s>],
    at: usize,
    /// The inline modules around, each with the depth of its braces.
    scopes: Vec<(String, usize)>,
    depth: usize,
    /// Of a `#[path = ".."]` whose module has not come yet.
    path: Option<String>,
    outline: Outline,
}

impl<'s> Reader<'_, 's> {
    fn step(&mut self) {
        let token = self.tokens[self.at];
        match token.text {
            "{" => self.depth += 1,
            "}" => {
                self.depth = self.depth.saturating_sub(1);
                self.scopes.pop_if(|(_, depth)| *depth > self.depth);
            }
            "mod" if self.is_word(1) && (self.is(2, ";") || self.is(2, "{")) => return self.module(),
            "path" if self.is(1, "=") && self.at > 0 && self.tokens[self.at - 1].is("[") => {
                let value = self.ahead(2).filter(|value| value.kind == Kind::Literal);
                self.path = value.map(|value| value.text.trim_matches('"').to_owned());
            }
            // `use<'a>` in a type is no import.
            "use" if token.is_word() && !self.is(1, "<") => return self.import(),
            // `pub(in crate::a)` is no import.
            "pub" if self.is(1, "(") && self.is(2, "in") => {
                self.at = group(self.tokens, self.at + 1);
                return;
            }
            _ if token.is_word() => return self.path_or_word(),
            _ => {}
        }
        self.at += 1;
    }

    fn ahead(&self, count: usize) -> Option<Token<'s>> {
        self.tokens.get(self.at + count).copied()
    }

    fn is(&self, count: usize, text: &str) -> bool {
        self.ahead(count).is_some_and(|token| token.is(text))
    }

    fn is_word(&self, count: usize) -> bool {
        self.ahead(count).is_some_and(|token| token.is_word())
    }

    fn scope(&self) -> Vec<String> {
        self.scopes.iter().map(|(name, _)| name.clone()).collect()
    }

    fn module(&mut self) {
        let (token, name) = (self.tokens[self.at], word(&self.tokens[self.at + 1]));
        let inline = self.is(2, "{");
        let path = self.path.take();
        let declaration = Declaration { scope: self.scope(), name: name.clone(), inline, path, test: token.test };
        self.outline.modules.push(declaration);
        self.at += 3;
        if inline {
            self.depth += 1;
            self.scopes.push((name, self.depth));
        }
    }

    fn import(&mut self) {
        let token = self.tokens[self.at];
        let reexport = self.at > 0 && (self.tokens[self.at - 1].is("pub") || self.tokens[self.at - 1].is(")"));
        self.at += 1;
        let mut paths = Vec::new();
        self.tree(Vec::new(), &mut paths);
        if !token.test {
            let scope = self.scope();
            let path = |path: Path| Path { scope: scope.clone(), reexport, ..path };
            self.outline.paths.extend(paths.into_iter().map(path));
        }
    }

    /// One tree of a `use`, behind `prefix`; the reader stands at its end then.
    fn tree(&mut self, prefix: Vec<String>, paths: &mut Vec<Path>) {
        let mut segments = prefix;
        let (mut name, mut glob) = (None, false);
        let mut line = 0;
        while let Some(token) = self.ahead(0) {
            line = if line == 0 { token.line } else { line };
            match token.text {
                ";" | "," | "}" => break,
                "{" => {
                    self.at += 1;
                    while !self.is(0, "}") && self.at < self.tokens.len() {
                        self.tree(segments.clone(), paths);
                        self.at += usize::from(self.is(0, ","));
                    }
                    self.at += 1;
                    return;
                }
                "*" => glob = true,
                "::" if segments.is_empty() => segments.push(String::new()),
                "as" => {
                    self.at += 1;
                    name = self.ahead(0).map(|token| word(&token));
                }
                // `use a::{self}` imports `a`.
                "self" if !segments.is_empty() => {}
                _ if token.is_word() => {
                    line = token.line;
                    self.note_word(&token);
                    segments.push(word(&token));
                }
                _ => {}
            }
            self.at += 1;
        }
        let name = if glob { None } else { name.or_else(|| segments.last().cloned()) };
        paths.push(Path { scope: Vec::new(), segments, line, name, glob, reexport: false });
    }

    fn note_word(&mut self, token: &Token<'_>) {
        if !token.test {
            self.outline.words.push((word(token), token.line));
        }
    }

    /// A path of several segments, or one word.
    fn path_or_word(&mut self) {
        let first = self.tokens[self.at];
        let before = |count: usize| self.at.checked_sub(count).map(|at| self.tokens[at]);
        let is_before = |count: usize, text: &str| before(count).is_some_and(|token| token.is(text));
        let is_global = is_before(1, "::") && !before(2).is_some_and(|token| token.is_word() || token.is(">"));
        let is_member = is_before(1, ".") || is_before(1, "fn");
        let is_continued = is_before(1, "::") && !is_global;

        let mut segments = if is_global { vec![String::new()] } else { Vec::new() };
        segments.push(word(&first));
        self.note_word(&first);
        self.at += 1;
        while self.is(0, "::") && self.is_word(1) {
            let token = self.tokens[self.at + 1];
            self.note_word(&token);
            segments.push(word(&token));
            self.at += 2;
        }
        if first.test {
            return;
        }
        if !is_member && !is_continued {
            self.outline.used.insert(word(&first));
        }
        if segments.len() > 1 && !is_member && !is_continued {
            let (scope, line) = (self.scope(), first.line);
            self.outline.paths.push(Path { scope, segments, line, name: None, glob: false, reexport: false });
        }
    }
}

/// The text of an identifier, raw or not.
fn word(token: &Token<'_>) -> String {
    token.text.strip_prefix("r#").unwrap_or(token.text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(source: &str) -> Vec<String> {
        let show = |path: &Path| {
            let scope = path.scope.iter().map(|name| format!("{name}/")).collect::<String>();
            let name = path.name.as_ref().map(|name| format!(" as {name}")).unwrap_or_default();
            let reexport = if path.reexport { "pub " } else { "" };
            format!("{}: {scope}{reexport}{}{name}", path.line, path.text())
        };
        outline(source).paths.iter().map(show).collect()
    }

    #[test]
    fn a_use_is_taken_apart() {
        let source =
            "use a;\nuse crate::a::{self, b::{C, D as E},\n    f::*};\npub(super) use ::g::H;\npub use i::J as _;";
        let expected = [
            "1: a as a",
            "2: crate::a as a",
            "2: crate::a::b::C as C",
            "2: crate::a::b::D as E",
            "3: crate::a::f::*",
            "4: pub ::g::H as H",
            "5: pub i::J as _",
        ];
        assert_eq!(paths(source), expected);
    }

    #[test]
    fn paths_in_code_are_found_and_what_only_looks_like_one_is_not() {
        let source = "
            pub(in crate::no) fn f(x: impl A + use<'_>) -> Vec<crate::a::B> { // crate::no
                ::c::d(self.e::<super::F>(), <G as crate::h::I>::no, \"crate::no\", J::<K>::no)
            }
            #[cfg(test)]
            use crate::no;
            mod inner { use super::l; }";
        assert_eq!(
            paths(source),
            ["2: crate::a::B", "3: ::c::d", "3: super::F", "3: crate::h::I", "7: inner/super::l as l"]
        );
    }

    #[test]
    fn declared_modules_say_where_they_are_and_whether_they_are_tests() {
        let source = "mod a; pub mod b { mod c; } #[cfg(test)] #[path = \"e.rs\"] mod d; #[cfg(test)] mod f { mod g; }";
        let modules = outline(source).modules;
        let shown = modules.iter().map(|module| (module.name.as_str(), module.scope.join("/"), module.test));
        let expected =
            [("a", "", false), ("b", "", false), ("c", "b", false), ("d", "", true), ("f", "", true), ("g", "f", true)];
        assert!(shown.eq(expected.map(|(name, scope, test)| (name, scope.to_owned(), test))), "{modules:?}");
        assert_eq!(modules[3].path.as_deref(), Some("e.rs"));
        assert!(modules[1].inline && !modules[2].inline);
    }

    #[test]
    fn lines_of_code_are_counted_without_comments_blank_lines_and_tests() {
        let source = "//! Doc.\n\nuse a; // code\n/// Doc.\nfn f() {\n    \"a\n\n    b\"\n}\n/* no\n*/\n#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(outline(source).code_lines, 6);
    }

    #[test]
    fn a_name_counts_as_used_outside_of_imports_only() {
        let used = outline("pub use a::B; mod c; fn d() { self.e(); F::G }").used;
        assert!(["B", "c", "d", "e", "G"].iter().all(|name| !used.contains(*name)), "{used:?}");
        assert!(used.contains("F"));
    }
}
