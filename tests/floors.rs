//! A floor imports only the floors below it, and the protocol floor knows nothing of the machine.

use std::fs;
use std::path::{Path, PathBuf};

/// From the ground up. What is not listed (`config`, `error`) any floor but the first may use.
const FLOORS: [&str; 6] = ["protocol", "transport", "worker", "server", "client", "socket"];

/// What the protocol floor may not name: bytes in, events and bytes out.
const OUTSIDE: [&str; 14] = [
    "std::net",
    "std::io",
    "std::thread",
    "std::time",
    "std::sync",
    "std::fs",
    "std::env",
    "Instant",
    "SystemTime",
    "mio::",
    "crossbeam",
    "log::",
    "getrandom",
    "socket2",
];

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

/// The code of a file: no comments, nothing behind the first test module.
fn code(path: &Path) -> String {
    let source = fs::read_to_string(path).expect("a source");
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The files of each floor.
fn floors() -> Vec<(&'static str, Vec<PathBuf>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = sources(&root);
    let floor = |name: &'static str| {
        let own = |path: &&PathBuf| {
            let relative = path.strip_prefix(&root).expect("below src");
            relative.starts_with(name) || relative == Path::new(&format!("{name}.rs"))
        };
        (name, files.iter().filter(own).cloned().collect::<Vec<_>>())
    };
    FLOORS.into_iter().map(floor).collect()
}

#[test]
fn a_floor_imports_only_floors_below() {
    for (height, (name, files)) in floors().into_iter().enumerate() {
        assert!(!files.is_empty(), "the floor `{name}` has no files");
        for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
            let code = code(file);
            for above in &FLOORS[height + 1..] {
                assert!(!code.contains(&format!("crate::{above}")), "{} imports the floor `{above}`", file.display());
            }
            if height == 0 {
                for shared in ["crate::config", "crate::error"] {
                    assert!(!code.contains(shared), "{} imports `{shared}`", file.display());
                }
            }
        }
    }
}

#[test]
fn the_protocol_floor_does_no_input_or_output() {
    let (_, files) = floors().remove(0);
    for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
        let code = code(file);
        for name in OUTSIDE {
            assert!(!code.contains(name), "{} names `{name}`", file.display());
        }
    }
}

/// a wall clock that is set back or forth must change nothing.
#[test]
fn no_floor_asks_the_wall_clock() {
    for file in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        assert!(!code(&file).contains("SystemTime"), "{} asks the wall clock", file.display());
    }
}

#[test]
fn only_the_transport_floor_and_the_threads_own_polls_see_would_block() {
    // The listener's accept and a poll interrupted by a signal are the threads' own.
    let polls = ["worker/event_loop/run.rs", "server/reactor/thread.rs", "server/reactor/acceptor.rs"];
    for (name, files) in floors() {
        for file in files.iter().filter(|file| name != "transport" && !polls.iter().any(|poll| file.ends_with(poll))) {
            let code = code(file);
            for kind in ["ErrorKind::WouldBlock", "ErrorKind::Interrupted"] {
                assert!(!code.contains(kind), "{} handles `{kind}`", file.display());
            }
        }
    }
}
