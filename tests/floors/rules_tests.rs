//! Each rule is seen to fail on a small made-up crate, and to pass on one like it.

use crate::rules::{Floors, cycles, forbidden_names, long_files, names_out_of_place, undeclared_files};
use crate::tree::Tree;

const GROUND_UP: Floors = Floors { folder: "", sets: &[&["low"], &["left", "right"]], above: &["lib.rs"], table: "T" };
const INNER: Floors =
    Floors { folder: "left", sets: &[&["cellar"], &["hall"], &["attic"]], above: &["mod.rs"], table: "INNER" };

fn tree(sources: &[(&str, &str)]) -> Tree {
    Tree::new(sources.iter().map(|(name, source)| ((*name).to_owned(), (*source).to_owned())).collect())
}

/// A crate with the floors `low`, `left` and `right`.
fn floors(low: &str, left: &str, right: &str) -> Tree {
    let lib = "mod low; mod left; mod right; pub use left::Left; struct Top;";
    tree(&[("lib.rs", lib), ("low.rs", low), ("left.rs", left), ("right.rs", right)])
}

/// `left`, with floors inside.
fn inner(cellar: &str, hall: &str, attic: &str) -> Tree {
    let sources = [
        ("lib.rs", "mod left;"),
        ("left/mod.rs", "mod attic; mod cellar; mod hall; pub use attic::Attic; struct Own;"),
        ("left/cellar.rs", cellar),
        ("left/hall.rs", hall),
        ("left/attic.rs", attic),
    ];
    tree(&sources)
}

/// One message for each of `starts`, which starts with it.
#[track_caller]
fn assert_found(violations: &[String], starts: &[&str]) {
    let matches = violations.len() == starts.len()
        && starts.iter().all(|start| violations.iter().any(|violation| violation.starts_with(start)));
    assert!(matches, "expected {starts:#?}\nfound {violations:#?}");
}

#[test]
fn imports_of_floors_below_and_of_the_own_floor_are_allowed() {
    let left = "mod part; use crate::low::Low; use self::part::Part; use std::right::No; fn f() { crate::low::f(); }";
    let sources = [
        ("lib.rs", "mod low; mod left; use crate::left::Left;"),
        ("low.rs", ""),
        ("left.rs", left),
        ("left/part.rs", "use super::Left; use crate::Left as _;"),
    ];
    assert_found(&GROUND_UP.violations(&tree(&sources)), &[]);
}

#[test]
fn imports_of_a_floor_above_are_found() {
    let low = "mod part;\nuse crate::left::Left;\nfn f() { crate::right::f() }\nuse crate::right;";
    let expected = [
        "src/low.rs:2 imports `crate::left::Left` of src/left.rs. The floor `low` may import no other floor.",
        "src/low.rs:3 imports `crate::right::f` of src/right.rs.",
        "src/low.rs:4 imports `crate::right` of src/right.rs.",
    ];
    assert_found(&GROUND_UP.violations(&floors(low, "", "")), &expected);
}

#[test]
fn an_import_behind_a_test_item_is_found_and_one_inside_is_exempt() {
    let low =
        "#[cfg(test)]\nmod tests { use crate::left::Left; }\n#[cfg(test)]\nuse crate::right::f;\nuse crate::left::g;";
    assert_found(&GROUND_UP.violations(&floors(low, "", "")), &["src/low.rs:5 imports `crate::left::g`"]);
}

#[test]
fn a_file_of_tests_may_import_anything() {
    let sources = |declaration| {
        [
            ("lib.rs", "mod low; mod left;"),
            ("low.rs", declaration),
            ("low/part.rs", "use crate::left::Left;"),
            ("left.rs", ""),
        ]
    };
    assert_found(&GROUND_UP.violations(&tree(&sources("#[cfg(test)] mod part;"))), &[]);
    assert_found(&GROUND_UP.violations(&tree(&sources("mod part;"))), &["src/low/part.rs:1 imports"]);
}

#[test]
fn imports_of_a_floor_of_the_same_set_are_found() {
    let found = GROUND_UP.violations(&floors("", "use crate::right::Right;", ""));
    assert_found(
        &found,
        &["src/left.rs:1 imports `crate::right::Right` of src/right.rs. The floor `left` may import only `low`."],
    );
}

#[test]
fn a_reexport_does_not_hide_the_floor_of_an_item() {
    let found = GROUND_UP.violations(&floors("use crate::Left;", "", ""));
    assert_found(&found, &["src/low.rs:1 imports `crate::Left` of src/left.rs."]);
    let found = GROUND_UP.violations(&floors("pub use crate::right::Right;", "", ""));
    assert_found(&found, &["src/low.rs:1 imports `crate::right::Right` of src/right.rs."]);
}

#[test]
fn imports_of_what_is_above_all_floors_are_found() {
    let found = GROUND_UP.violations(&floors("", "use crate::Top;", ""));
    assert_found(&found, &["src/left.rs:1 imports `crate::Top` of src/lib.rs, which is above all floors."]);
}

#[test]
fn modules_on_no_floor_are_found() {
    let sources =
        [("lib.rs", "mod low; mod new; #[cfg(test)] mod tests;"), ("low.rs", ""), ("new.rs", ""), ("tests.rs", "")];
    assert_found(&GROUND_UP.violations(&tree(&sources)), &["src/: on no floor: `new`. Add each to `T`"]);
}

#[test]
fn inner_floors_import_only_inner_floors_below() {
    let hall = "use crate::left::cellar::C; use super::cellar::D;";
    assert_found(&INNER.violations(&inner("use crate::left;", hall, "use super::{cellar, hall};")), &[]);
    let expected = [
        "src/left/cellar.rs:1 imports `super::hall::H` of src/left/hall.rs. The floor `cellar` may import no other floor.",
        "src/left/hall.rs:1 imports `crate::left::Attic` of src/left/attic.rs. The floor `hall` may import only `cellar`.",
        "src/left/hall.rs:2 imports `super::Own` of src/left/mod.rs, which is above all floors.",
    ];
    let found = INNER.violations(&inner("use super::hall::H;", "use crate::left::Attic;\nuse super::Own;", ""));
    assert_found(&found, &expected);
}

#[test]
fn inner_floors_say_nothing_of_other_folders() {
    let sources = [
        ("lib.rs", "mod left; mod leftover;"),
        ("left/mod.rs", "mod hall;"),
        ("left/hall.rs", "use crate::leftover::X;"),
        ("leftover.rs", "use crate::left::hall::H;"),
    ];
    assert_found(&INNER.violations(&tree(&sources)), &[]);
}

#[test]
fn cycles_are_found_with_the_lines_that_make_them() {
    let sources = [
        ("lib.rs", "mod a; mod b; mod c; mod d;"),
        ("a.rs", "use crate::b::B;\nfn f() { crate::b::f() }"),
        ("b.rs", "\nuse crate::c::C;"),
        ("c.rs", "use crate::a::A;"),
        ("d.rs", "use crate::a::A;"),
    ];
    let expected = "src/a.rs -> src/b.rs -> src/c.rs -> src/a.rs
    src/a.rs:1 imports `crate::b::B` of src/b.rs
    src/a.rs:2 imports `crate::b::f` of src/b.rs
    src/b.rs:2 imports `crate::c::C` of src/c.rs
    src/c.rs:1 imports `crate::a::A` of src/a.rs";
    assert_eq!(cycles(&tree(&sources)), [expected]);
}

#[test]
fn cycles_that_share_an_import_with_a_shorter_one_are_listed_in_short() {
    let sources = [
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::b::B; use crate::c::C;"),
        ("b.rs", "use crate::a::A; use crate::c::C;"),
        ("c.rs", "use crate::a::A;"),
    ];
    let expected = [
        "src/a.rs -> src/b.rs -> src/a.rs\n",
        "src/a.rs -> src/c.rs -> src/a.rs\n",
        "1 more share an import with one of these, the shortest first:\n    src/a.rs -> src/b.rs -> src/c.rs -> src/a.rs",
    ];
    assert_found(&cycles(&tree(&sources)), &expected);
}

#[test]
fn declarations_and_names_that_are_passed_on_make_no_cycle() {
    let sources = |mod_rs| [("lib.rs", "mod a;"), ("a/mod.rs", mod_rs), ("a/b.rs", "use super::A; use crate::a;")];
    assert_found(&cycles(&tree(&sources("mod b; pub use b::B; struct A; #[cfg(test)] use b::C;"))), &[]);
    let cycle = "src/a/b.rs -> src/a/mod.rs -> src/a/b.rs";
    assert_found(&cycles(&tree(&sources("mod b; pub use b::B; struct A(B);"))), &[cycle]);
    assert_found(&cycles(&tree(&sources("mod b; use b::B; struct A;"))), &[cycle]);
    assert_found(&cycles(&tree(&sources("mod b; struct A(b::B);"))), &[cycle]);
}

#[test]
fn files_with_too_many_lines_of_code_are_found() {
    let tests = "#[cfg(test)]\nmod tests {\n}\n";
    let lib = |lines| format!("//! Doc.\n\n{}{tests}", "use a;\n".repeat(lines));
    assert_found(&long_files(&tree(&[("lib.rs", &lib(10))]), 10), &[]);
    assert_found(&long_files(&tree(&[("lib.rs", &lib(12))]), 10), &["src/lib.rs has 12 lines of code, 2 too many."]);
}

#[test]
fn files_that_no_module_declares_are_found() {
    let found = undeclared_files(&tree(&[("lib.rs", "// mod a;"), ("a.rs", "")]));
    assert_found(&found, &["src/a.rs is declared by no `mod`."]);
}

#[test]
fn input_and_output_are_found_however_they_are_imported() {
    let violations =
        |low: &str| forbidden_names(&floors(low, "use std::io;", ""), "low", &["std::io", "mio"], &["Instant"]);
    assert_found(&violations("use std::ionic; use core::io; fn instant() { self.mio } // Instant \n"), &[]);
    assert_found(&violations("#[cfg(test)] use std::io; const S: &str = \"std::io, Instant\";"), &[]);
    assert_found(&violations("\nuse std::{fmt, io::{self as x}};"), &["src/low.rs:2 names `std::io`."]);
    assert_found(&violations("fn f() { ::std::io::stdin(); }"), &["src/low.rs:1 names `std::io::stdin`."]);
    assert_found(&violations("use std as s; fn f(_: s::io::Error) {}"), &["src/low.rs:1 names `std::io::Error`."]);
    assert_found(&violations("fn f(_: mio::Poll) {}"), &["src/low.rs:1 names `mio::Poll`."]);
    assert_found(&violations("fn f() { x::Instant::now() }"), &["src/low.rs:1 names `Instant`."]);
}

#[test]
fn names_are_found_outside_of_their_places() {
    let names = ["std::io::ErrorKind::Block"];
    let block = "use std::io; fn f() { io::ErrorKind::Block }";
    let violations = |left: &str, right: &str| names_out_of_place(&floors("", left, right), &names, &["left.rs"]);
    assert_found(&violations(block, ""), &[]);
    assert_found(&violations(block, "#[cfg(test)] use std::io::ErrorKind::Block; fn f() { Io::Block }"), &[]);
    let expected = ["src/right.rs:2 names `std::io::ErrorKind::Block`, which only these may do: left.rs."];
    assert_found(&violations(block, "\nuse std::io::ErrorKind::{Block as B, Other};"), &expected);
    assert_found(&violations(block, "use std::io::ErrorKind as Kind;\nfn f() { Kind::Block }"), &expected);
    assert_found(&violations("// Block", ""), &["src/left.rs names none of"]);

    let sources =
        [("lib.rs", "mod low; mod lower;"), ("low/mod.rs", "mod a;"), ("low/a.rs", block), ("lower.rs", block)];
    assert_found(&names_out_of_place(&tree(&sources), &names, &["low/"]), &["src/lower.rs:1 names"]);
}
