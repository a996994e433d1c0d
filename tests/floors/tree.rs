//! The modules of a crate, and which file imports what from which.
//!
//! A path counts as an import of the file that *defines* the item: the `use` declarations on the way, re-exports among
//! them, are followed (but for `pub use a::*`). Some declarations only pass a name on. These count for the floors,
//! but not for cycles:
//!
//! * `use crate::a;` where `a` is a module: what the file uses through that name, as in `a::B`, counts itself;
//! * `pub use child::B;` of a module below, unless the file uses `B` itself.
//!
//! `mod x;` is no import.

use std::collections::{BTreeMap, BTreeSet};
use std::slice;

use crate::outline::{Declaration, Outline, Path, outline};

/// More `use` declarations in a row than any path goes through.
const MOST_HOPS: usize = 16;

pub(crate) struct File {
    /// Relative to `src/`, with slashes.
    pub(crate) name: String,
    pub(crate) outline: Outline,
    module: Vec<String>,
    /// Only test builds compile it: each `mod` on the way to it, or one above, is under `#[cfg(test)]`.
    pub(crate) test: bool,
}

/// One file names an item of another.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Import {
    /// Indices in [`Tree::files`].
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) line: usize,
    pub(crate) path: String,
    /// It only passes a name on.
    pub(crate) name_only: bool,
}

/// A path that leads out of the crate.
pub(crate) struct External {
    pub(crate) from: usize,
    pub(crate) line: usize,
    pub(crate) path: String,
}

#[derive(Default)]
pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
    pub(crate) imports: BTreeSet<Import>,
    pub(crate) externals: Vec<External>,
    /// Files that no `mod` declares.
    pub(crate) undeclared: Vec<String>,
    /// By path, without test modules. A path has several parts if each is for another build.
    modules: BTreeMap<Vec<String>, Vec<Part>>,
}

/// A module, or what one file has of it.
struct Part {
    file: usize,
    /// The inline modules around it.
    scope: Vec<String>,
}

/// A file that a `mod` declares.
struct Declared {
    name: String,
    module: Vec<String>,
    /// The directory of the modules that it declares.
    directory: String,
    test: bool,
}

/// Where a path leads.
enum Target {
    External(Vec<String>),
    /// The files of a module.
    Module(Vec<usize>),
    /// The files that define an item.
    Item(Vec<usize>),
}

impl Tree {
    /// Of the files of `src/`: their sources by their names.
    pub(crate) fn new(mut sources: BTreeMap<String, String>) -> Tree {
        let mut tree = Tree::default();
        let root = Declared { name: "lib.rs".to_owned(), module: Vec::new(), directory: String::new(), test: false };
        let (mut code, mut tests) = (vec![root], Vec::new());
        // Test modules come last: a file that is declared without `#[cfg(test)]` too is no test.
        while let Some(declared) = code.pop().or_else(|| tests.pop()) {
            let Some(source) = sources.remove(&declared.name) else { continue };
            for child in tree.add(declared, outline(&source)) {
                if child.test { tests.push(child) } else { code.push(child) }
            }
        }
        tree.undeclared = sources.into_keys().collect();
        tree.find_imports();
        tree
    }

    /// Adds a file. Returns where the files of its modules may be.
    fn add(&mut self, declared: Declared, outline: Outline) -> Vec<Declared> {
        let Declared { name, module, directory, test } = declared;
        let file = self.files.len();
        let mut children = Vec::new();
        if !test {
            self.modules.entry(module.clone()).or_default().push(Part { file, scope: Vec::new() });
        }
        for declaration in &outline.modules {
            let scope = [&declaration.scope[..], slice::from_ref(&declaration.name)].concat();
            let path = [&module[..], &scope[..]].concat();
            let test = test || declaration.test;
            if !declaration.inline {
                let places = places(&name, &directory, declaration).into_iter();
                children.extend(places.map(|(name, directory)| Declared {
                    name,
                    module: path.clone(),
                    directory,
                    test,
                }));
            } else if !test {
                self.modules.entry(path).or_default().push(Part { file, scope });
            }
        }
        self.files.push(File { name, outline, module, test });
        children
    }

    fn find_imports(&mut self) {
        let (mut imports, mut externals) = (BTreeSet::new(), Vec::new());
        for (from, file) in self.files.iter().enumerate().filter(|(_, file)| !file.test) {
            for path in &file.outline.paths {
                let module = [&file.module[..], &path.scope[..]].concat();
                if !path.is_use() && self.is_imported_item(&module, &path.segments[0]) {
                    continue;
                }
                let (files, is_module) = match self.resolve(&module, &path.segments, path.is_use(), MOST_HOPS) {
                    Target::External(segments) => {
                        externals.push(External { from, line: path.line, path: segments.join("::") });
                        continue;
                    }
                    // A module is no value and no type, so that code which ends in its name means an item of that name.
                    Target::Module(files) => (files, path.name.is_some()),
                    Target::Item(files) => (files, false),
                };
                for to in files.into_iter().filter(|to| *to != from) {
                    let is_above = module.starts_with(&self.files[to].module);
                    let is_below = self.files[to].module.starts_with(&module);
                    let is_used = path.name.as_ref().is_some_and(|name| file.outline.used.contains(name));
                    let name_only = is_module || path.reexport && is_below && !is_used;
                    if !(is_module && is_above) {
                        imports.insert(Import { from, to, line: path.line, path: path.text(), name_only });
                    }
                }
            }
        }
        (self.imports, self.externals) = (imports, externals);
    }

    /// Whether a `use` of the module imports an item by this name. `A::new` then is no import of its own.
    fn is_imported_item(&self, module: &[String], name: &str) -> bool {
        let imports = |path: &&Path| path.name.as_deref() == Some(name);
        let target = self.paths(module).find(imports).map(|path| self.resolve(module, &path.segments, true, MOST_HOPS));
        matches!(target, Some(Target::Item(_)))
    }

    /// Where a path leads that stands in `module`.
    fn resolve(&self, module: &[String], segments: &[String], is_use: bool, hops: usize) -> Target {
        match self.absolute(module, segments, is_use, hops) {
            Ok(path) => self.locate(&path, hops),
            Err(segments) => Target::External(segments),
        }
    }

    /// The path from the root of this crate, or as an error the one out of it.
    fn absolute(
        &self,
        module: &[String],
        segments: &[String],
        is_use: bool,
        hops: usize,
    ) -> Result<Vec<String>, Vec<String>> {
        let (first, rest) = segments.split_first().expect("a path has a segment");
        let below = |module: &[String], rest: &[String]| [module, rest].concat();
        match first.as_str() {
            "crate" => Ok(rest.to_vec()),
            "self" | "super" => {
                let words = segments.iter().take_while(|word| *word == "self" || *word == "super").count();
                let ups = segments[..words].iter().filter(|word| *word == "super").count();
                Ok(below(&module[..module.len().saturating_sub(ups)], &segments[words..]))
            }
            "" => Err(rest.to_vec()),
            _ if self.modules.contains_key(&below(module, &segments[..1])) => Ok(below(module, segments)),
            _ => {
                // `use a::a;` does not name itself.
                let names_it =
                    |path: &&Path| path.name.as_ref() == Some(first) && !(is_use && path.segments[0] == *first);
                match self.paths(module).find(names_it) {
                    Some(path) if hops > 0 => self.absolute(module, &below(&path.segments, rest), true, hops - 1),
                    _ => Err(segments.to_vec()),
                }
            }
        }
    }

    /// The files that define what the path from the root names.
    fn locate(&self, path: &[String], hops: usize) -> Target {
        let length = (0..=path.len()).rev().find(|length| self.modules.contains_key(&path[..*length]));
        let (module, rest) = path.split_at(length.expect("the root is a module"));
        let own = self.modules[module].iter().map(|part| part.file).collect();
        let Some((name, rest)) = rest.split_first() else { return Target::Module(own) };

        let declarations = self.paths(module).filter(|path| path.name.as_ref() == Some(name) && hops > 0);
        let targets = declarations.map(|declaration| {
            let segments = [&declaration.segments[..], rest].concat();
            self.resolve(module, &segments, true, hops - 1)
        });
        let (mut files, mut external, mut is_module) = (Vec::new(), None, false);
        for target in targets {
            match target {
                // A macro of this file that a `use` gives a path.
                Target::External(segments) if segments.len() == 1 => files.extend(&own),
                Target::External(segments) => external = Some(segments),
                Target::Module(found) => {
                    is_module = true;
                    files.extend(found);
                }
                Target::Item(found) => files.extend(found),
            }
        }
        match external {
            Some(segments) if files.is_empty() => Target::External(segments),
            _ if files.is_empty() => Target::Item(own),
            _ if is_module => Target::Module(files),
            _ => Target::Item(files),
        }
    }

    /// The paths that stand in a module.
    fn paths<'t>(&'t self, module: &[String]) -> impl Iterator<Item = &'t Path> {
        let parts = self.modules.get(module).into_iter().flatten();
        parts.flat_map(|part| self.files[part.file].outline.paths.iter().filter(|path| path.scope == part.scope))
    }
}

/// Where the file of a module may be, and the directory of its own modules.
fn places(file: &str, directory: &str, declaration: &Declaration) -> Vec<(String, String)> {
    let scope = declaration.scope.iter().fold(directory.to_owned(), |directory, name| join(&directory, name));
    if let Some(path) = &declaration.path {
        let base = if declaration.scope.is_empty() { parent(file) } else { &scope };
        let name = path.split('/').fold(base.to_owned(), |base, step| join(&base, step));
        let directory = parent(&name).to_owned();
        return vec![(name, directory)];
    }
    let directory = join(&scope, &declaration.name);
    vec![(format!("{directory}.rs"), directory.clone()), (join(&directory, "mod.rs"), directory)]
}

fn join(directory: &str, name: &str) -> String {
    match name {
        "." => directory.to_owned(),
        ".." => parent(directory).to_owned(),
        _ if directory.is_empty() => name.to_owned(),
        _ => format!("{directory}/{name}"),
    }
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(sources: &[(&str, &str)]) -> Tree {
        Tree::new(sources.iter().map(|(name, source)| ((*name).to_owned(), (*source).to_owned())).collect())
    }

    /// As `from -> to`, with a `?` behind those that only pass a name on.
    fn imports(sources: &[(&str, &str)]) -> Vec<String> {
        let tree = tree(sources);
        let name = |file: usize| tree.files[file].name.trim_end_matches(".rs");
        let show = |import: &Import| {
            let mark = if import.name_only { "?" } else { "" };
            format!("{} -> {}{mark}", name(import.from), name(import.to))
        };
        let mut shown = tree.imports.iter().map(show).collect::<Vec<_>>();
        shown.sort();
        shown.dedup();
        shown
    }

    #[test]
    fn files_are_found_as_the_compiler_finds_them() {
        let tree = tree(&[
            ("lib.rs", "mod a; mod b; #[path = \"x/odd.rs\"] mod c; mod d { mod e; }"),
            ("a.rs", "mod f;"),
            ("a/f.rs", ""),
            ("b/mod.rs", "mod g; #[path = \"../up.rs\"] mod h;"),
            ("b/g.rs", ""),
            ("up.rs", ""),
            ("x/odd.rs", "mod i;"),
            ("x/i.rs", ""),
            ("d/e.rs", ""),
            ("forgotten.rs", ""),
        ]);
        assert_eq!(tree.files.len(), 9);
        assert_eq!(tree.undeclared, ["forgotten.rs"]);
        assert!(tree.files.iter().all(|file| !file.test));
    }

    #[test]
    fn a_file_is_a_test_if_only_test_modules_lead_to_it() {
        let tree = tree(&[
            ("lib.rs", "mod a; #[cfg(test)] mod b; #[cfg(test)] #[path = \"a.rs\"] mod c;"),
            ("a.rs", "#[cfg(all(test, unix))] mod tests { mod d; }"),
            ("b.rs", "mod e;"),
            ("b/e.rs", ""),
            ("a/tests/d.rs", ""),
        ]);
        let mut tests = tree.files.iter().filter(|file| file.test).map(|file| file.name.as_str()).collect::<Vec<_>>();
        tests.sort();
        assert_eq!(tests, ["a/tests/d.rs", "b.rs", "b/e.rs"]);
    }

    #[test]
    fn a_path_leads_to_the_file_that_defines_the_item() {
        let rest: [(&str, &str); 3] = [("lib.rs", "mod a; mod b;"), ("a/mod.rs", "mod c; struct A;"), ("a/c.rs", "")];
        let b = |source: &str| imports(&[&rest[..], &[("b.rs", source)]].concat());
        assert_eq!(b("use crate::a::A;"), ["b -> a/mod"]);
        assert_eq!(b("use crate::a::{A, c::C::Variant};"), ["b -> a/c", "b -> a/mod"]);
        assert_eq!(b("use super::a::c::C;"), ["b -> a/c"]);
        assert_eq!(b("fn f() -> crate::a::c::C {}"), ["b -> a/c"]);
        assert_eq!(b("mod inner { use super::super::a::A; }"), ["b -> a/mod"]);
        assert_eq!(b("use crate::a::*;"), ["b -> a/mod"]);
        assert_eq!(b("use crate::a::c; fn f(_: c::C) {}"), ["b -> a/c", "b -> a/c?"]);
        assert_eq!(b("use crate::a; fn f(_: a::c::C) {}"), ["b -> a/c", "b -> a/mod?"]);
        assert_eq!(b("use crate::a as x; use x::c as y; use y::C;"), ["b -> a/c", "b -> a/c?", "b -> a/mod?"]);
        assert_eq!(b("pub use crate::a::c::C as D; fn f() { D::new(); }"), ["b -> a/c"]);
        assert_eq!(b("use std::a; use ::a::A; use self::B; use crate::b; use a::A;"), [""; 0]);
        assert_eq!(b("#[cfg(test)] use crate::a::A; pub(in crate::a) fn f() {} // crate::a::A"), [""; 0]);
    }

    #[test]
    fn imports_and_reexports_on_the_way_are_followed() {
        let sources = [
            ("lib.rs", "mod a; mod b; pub use a::C;"),
            ("a/mod.rs", "mod c; mod d; pub use self::c::{C, make}; pub use std::sync::Arc; use d::D as E;"),
            ("a/c.rs", "use super::{Arc, E};"),
            ("a/d.rs", ""),
            ("b.rs", "use crate::C; use crate::a::Arc; fn f() { crate::a::make::<C>(); }"),
        ];
        let expected = ["a/c -> a/d", "a/mod -> a/c?", "a/mod -> a/d", "b -> a/c", "lib -> a/c?"];
        assert_eq!(imports(&sources), expected);
        let of = |external: &External| external.path.clone();
        assert_eq!(
            tree(&sources).externals.iter().map(of).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>(),
            ["std::sync::Arc"]
        );
    }

    #[test]
    fn a_reexport_counts_in_full_where_the_file_uses_it_or_it_comes_from_elsewhere() {
        let a = |source: &str| imports(&[("lib.rs", "mod a; mod b;"), ("a.rs", source), ("a/c.rs", ""), ("b.rs", "")]);
        assert_eq!(a("mod c; pub use c::C;"), ["a -> a/c?"]);
        assert_eq!(a("mod c; pub use c::C; fn f(_: C) {}"), ["a -> a/c"]);
        assert_eq!(a("pub use crate::b::B;"), ["a -> b"]);
    }

    #[test]
    fn parts_of_a_module_for_different_builds_all_count() {
        let sources = [
            ("lib.rs", "mod a; mod b; mod c; mod d;"),
            ("a.rs", "#[cfg(x)] pub use crate::c::X; #[cfg(not(x))] pub use crate::d::X;"),
            ("b.rs", "use crate::a::X;"),
            ("c.rs", ""),
            ("d.rs", ""),
        ];
        assert_eq!(imports(&sources), ["a -> c", "a -> d", "b -> c", "b -> d"]);
    }

    #[test]
    fn declarations_that_name_each_other_do_not_hang_the_guard() {
        let sources = [("lib.rs", "mod a; mod b;"), ("a.rs", "pub use crate::b::X;"), ("b.rs", "pub use crate::a::X;")];
        assert!(!imports(&sources).is_empty());
    }
}
