//! The documents keep up with the tree: `docs/threats.md` names every test whose name begins with an id and no test that
//! does not exist, and `ARCHITECTURE.md` names every file of `src/` and no file that does not exist.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The names of the functions of a file.
fn functions(file: &Path) -> Vec<String> {
    let source = fs::read_to_string(file).expect("a source");
    let names = source.split("fn ").skip(1);
    names.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()).collect()
}

/// Whether a name begins with an id, such as `p_13_`.
fn has_id(name: &str) -> bool {
    let bytes = name.as_bytes();
    matches!(bytes, [b'p' | b'h' | b't' | b'a' | b'r', b'_', tens, ones, b'_', ..] if tens.is_ascii_digit() && ones.is_ascii_digit())
}

/// The words in backticks of the page's tables.
fn quoted(page: &str) -> Vec<&str> {
    page.lines().filter(|line| line.starts_with('|')).flat_map(|row| row.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn every_test_with_an_id_is_in_the_table() {
    let page = fs::read_to_string(root().join("docs/threats.md")).expect("the page");
    let quoted = quoted(&page);
    for file in [sources(&root().join("tests")), sources(&root().join("src"))].concat() {
        for name in functions(&file).iter().filter(|name| has_id(name)) {
            assert!(quoted.contains(&name.as_str()), "docs/threats.md lacks {name} of {}", file.display());
        }
    }
}

#[test]
fn every_test_in_the_table_exists() {
    let page = fs::read_to_string(root().join("docs/threats.md")).expect("the page");
    let mut named = 0;
    let mut file = None;
    for word in quoted(&page) {
        if word.ends_with(".rs") {
            let path = root().join(word);
            assert!(path.is_file(), "docs/threats.md names {word}, which does not exist");
            file = Some((word, functions(&path)));
        } else if has_id(word) {
            let (path, functions) = file.as_ref().expect("a file before its tests");
            assert!(functions.iter().any(|name| name == word), "{path} has no {word}");
            named += 1;
        }
    }
    assert!(named > 100, "only {named} tests are named: has the form of the table changed?");
}

#[test]
fn every_file_of_tests_is_run() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    let together = fs::read_to_string(root().join("tests/together.rs")).expect("a source");
    for entry in fs::read_dir(root().join("tests")).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
        if path.join("main.rs").is_file() || path.extension().is_some_and(|extension| extension == "rs") {
            let alone = manifest.contains(&format!("{{ name = \"{name}\""));
            let is_module = together.lines().any(|line| line == format!("mod {name};"));
            assert!(alone != is_module, "{} belongs either to tests/together.rs or to Cargo.toml", path.display());
        }
    }
}

/// Files that `ARCHITECTURE.md` need not name: declarations, and tests.
fn is_minor(path: &str) -> bool {
    path.ends_with("mod.rs") || path.ends_with("tests.rs") || path.ends_with("naive.rs")
}

#[test]
fn the_architecture_names_every_file_and_no_other() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the page");
    let src = root().join("src");
    let files: Vec<String> = sources(&src)
        .iter()
        .map(|path| path.strip_prefix(&src).expect("below src").to_str().expect("a name").replace('\\', "/"))
        .collect();
    let words: Vec<&str> = page.split('`').skip(1).step_by(2).filter(|word| word.ends_with(".rs")).collect();
    let names = |word: &str, file: &str| file == word || file.ends_with(&format!("/{word}"));
    for word in words.iter().filter(|word| !word.starts_with("tests/")) {
        assert!(files.iter().any(|file| names(word, file)), "ARCHITECTURE.md names {word}, which does not exist");
    }
    for file in files.iter().filter(|file| !is_minor(file)) {
        assert!(words.iter().any(|word| names(word, file)), "ARCHITECTURE.md does not say what {file} is for");
    }
    assert!(files.len() > 100, "only {} files: is this the right place?", files.len());
}

#[test]
fn the_page_on_proxies_quotes_the_configurations_that_are_tested() {
    let page = fs::read_to_string(root().join("docs/proxies.md")).expect("the page");
    let checks = ["proxies.py", "redis_chat.py"]
        .map(|name| fs::read_to_string(root().join("tests/interop").join(name)).expect("the checks"))
        .concat();
    let mut quoted = 0;
    for entry in fs::read_dir(root().join("docs/proxies")).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8");
        let config = fs::read_to_string(&path).expect("a configuration");
        assert!(page.contains(&format!("\n{config}```\n")), "docs/proxies.md does not quote {name} as it is");
        assert!(checks.contains(&format!("\"{name}\"")), "no script of tests/interop tests {name}");
        quoted += 1;
    }
    let blocks = page.matches("```nginx\n").count() + page.matches("```haproxy\n").count();
    assert_eq!(blocks, quoted, "each configuration of the page is tested");
}
