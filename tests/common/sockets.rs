//! Unix sockets in a directory of the test's own.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A directory that is removed when this is dropped.
pub struct TestDir(PathBuf);

impl TestDir {
    pub fn new() -> TestDir {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("threadbare-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a directory");
        TestDir(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The names of all files, sorted.
    pub fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("a directory").map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("it is there");
    }
}

/// What a server is told to listen on.
pub fn address(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// The URL of a server on a Unix socket.
pub fn url(path: &Path) -> String {
    format!("ws+unix:{}:/", path.display())
}

/// A name in Linux's abstract namespace, which no other test has.
pub fn abstract_name() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("@threadbare-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

pub fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}
