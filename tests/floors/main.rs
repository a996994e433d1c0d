//! Guards the layout of `src/`: a floor imports only the floors below it, files do not import each other in a cycle,
//! and the protocol floor knows nothing of the machine.
//!
//! What only test builds compile is exempt. The tables below are meant to be edited, where the layout changes for a
//! reason.

mod outline;
mod rules;
mod rules_tests;
mod tokens;
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use rules::{Floors, cycles, forbidden_names, long_files, names_out_of_place, undeclared_files};
use tree::Tree;

/// From the ground up. Floors of one set do not import each other.
const FLOORS: &[&[&str]] = &[
    &["protocol", "stats"],
    &["config"],
    &["error"],
    &["transport"],
    &["worker", "bridge"],
    &["server", "client", "socket"],
];

/// The files and folders of `src/worker/`, likewise.
const WORKER_FLOORS: &[&[&str]] = &[
    &["slab", "timer_wheel", "connection_limit", "thread", "panic"],
    &["topics"],
    &["handle"],
    &["connection"],
    &["delivery"],
    &["event_loop", "channel"],
    &["receiver"],
    &["bench_harness"],
];

const MOST_LINES: usize = 400;

/// What the protocol floor may not name: bytes in, events and bytes out. `core` does no input or output, so that it may
/// name `core::net::IpAddr`; an `Arc` is memory that others share, and waits for nobody.
const OUTSIDE: [&str; 20] = [
    "std::net",
    "std::io",
    "std::thread",
    "std::time",
    "std::sync::Barrier",
    "std::sync::Condvar",
    "std::sync::LazyLock",
    "std::sync::Mutex",
    "std::sync::OnceLock",
    "std::sync::RwLock",
    "std::sync::mpsc",
    "std::fs",
    "std::env",
    "std::process",
    "mio",
    "crossbeam_channel",
    "log",
    "getrandom",
    "socket2",
    "rustix",
];

const NOT_READY: [&str; 2] = ["std::io::ErrorKind::WouldBlock", "std::io::ErrorKind::Interrupted"];

/// What may see that an operation was not ready or was interrupted: the transport, and what polls or accepts.
const SEE_NOT_READY: [&str; 4] =
    ["transport/", "worker/event_loop/run.rs", "server/reactor/thread.rs", "server/reactor/acceptor.rs"];

static TREE: LazyLock<Tree> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = BTreeMap::new();
    read(&root, "", &mut sources);
    let tree = Tree::new(sources);
    assert!(!tree.imports.is_empty(), "the guard finds no imports: it is broken");
    tree
});

/// Reads the sources of a directory, by their names behind `prefix`.
fn read(directory: &Path, prefix: &str, sources: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8");
        if path.is_dir() {
            read(&path, &format!("{prefix}{name}/"), sources);
        } else if name.ends_with(".rs") {
            sources.insert(format!("{prefix}{name}"), fs::read_to_string(&path).expect("a source"));
        }
    }
}

#[track_caller]
fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "found:\n\n{}\n", violations.join("\n"));
}

#[test]
fn a_floor_imports_only_floors_below() {
    let floors = Floors {
        folder: "",
        sets: FLOORS,
        above: &[
            "lib.rs",
            "fuzzing.rs",
            "guide.rs",
            "guide/clients.rs",
            "guide/deploying.rs",
            "guide/hand_over.rs",
            "guide/large_messages.rs",
            "guide/monitoring.rs",
            "guide/recipes.rs",
            "guide/slow.rs",
            "guide/small.rs",
            "guide/tls.rs",
            "guide/topics.rs",
        ],
        table: "FLOORS",
    };
    assert_none(&floors.violations(&TREE));
}

#[test]
fn a_floor_of_the_worker_imports_only_floors_below() {
    let floors = Floors { folder: "worker", sets: WORKER_FLOORS, above: &["mod.rs"], table: "WORKER_FLOORS" };
    assert_none(&floors.violations(&TREE));
}

#[test]
fn files_do_not_import_each_other_in_a_cycle() {
    assert_none(&cycles(&TREE));
}

#[test]
fn a_file_has_at_most_400_lines_of_code() {
    assert_none(&long_files(&TREE, MOST_LINES));
}

#[test]
fn each_file_is_declared_by_a_module() {
    assert_none(&undeclared_files(&TREE));
}

#[test]
fn the_protocol_floor_does_no_input_or_output() {
    assert_none(&forbidden_names(&TREE, "protocol", &OUTSIDE, &["Instant", "SystemTime"]));
}

/// a wall clock that is set back or forth must change nothing but `Date`.
#[test]
fn no_floor_asks_the_wall_clock_but_for_date() {
    assert_none(&names_out_of_place(
        &TREE,
        &["std::time::SystemTime", "std::time::UNIX_EPOCH"],
        &["transport/clock.rs"],
    ));
    for floor in ["config.rs", "error.rs", "worker", "server", "client", "socket"] {
        assert_none(&forbidden_names(&TREE, floor, &[], &["SystemTime", "UNIX_EPOCH"]));
    }
}

#[test]
fn only_the_transport_floor_and_the_threads_own_polls_see_would_block() {
    assert_none(&names_out_of_place(&TREE, &NOT_READY, &SEE_NOT_READY));
}
