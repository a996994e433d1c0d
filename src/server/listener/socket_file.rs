//! The file of a Unix socket: how it is made, and removed.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The name that a socket has until it listens. Dropped, it removes the file.
pub(super) struct TemporaryName {
    path: PathBuf,
    /// The file, once there is one.
    file: Option<SocketFile>,
}

impl TemporaryName {
    /// Makes a name that no other file has, in the directory of `path`.
    pub(super) fn beside(path: &Path) -> io::Result<TemporaryName> {
        let mut random = [0; 4];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        TemporaryName::numbered(path, u32::from_ne_bytes(random))
    }

    /// The name that the next process has at `path`, until it has taken over from the one that listens there. There is one such
    /// process at a time, so that a file of that name is none of a process that lives.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) fn of_successor(path: &Path) -> io::Result<TemporaryName> {
        // FNV-1a.
        let hash = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        TemporaryName::numbered(path, name.iter().fold(0x811C_9DC5, hash))
    }

    fn numbered(path: &Path, number: u32) -> io::Result<TemporaryName> {
        // The path is short, for a socket's has 107 bytes at most.
        let name = OsString::from(format!(".{number:08x}"));
        // Absolute, because the process may change its directory before it removes the file.
        Ok(TemporaryName { path: std::path::absolute(path)?.with_file_name(name), file: None })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Notes that the file is there, and sets the permissions before anybody can connect.
    pub(super) fn is_made(&mut self, mode: Option<u32>) -> io::Result<()> {
        let own = fs::symlink_metadata(&self.path)?;
        self.file = Some(SocketFile(FileIdentity { path: self.path.clone(), device: own.dev(), inode: own.ino() }));
        mode.map_or(Ok(()), |mode| fs::set_permissions(&self.path, fs::Permissions::from_mode(mode)))
    }

    /// Gives the socket its name, in place of another socket.
    pub(super) fn rename_to(mut self, path: &Path) -> io::Result<SocketFile> {
        let path = std::path::absolute(path)?;
        check_place(&path)?;
        fs::rename(&self.path, &path)?;
        let mut file = self.file.take().ok_or(io::ErrorKind::NotFound)?;
        file.0.path = path;
        Ok(file)
    }
}

/// Fails if something is at `path` that is no socket, and so must not be replaced by one.
pub(in crate::server) fn check_place(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "what is there is no socket"))
        }
        _ => Ok(()),
    }
}

/// Which file a socket has: another one of the same name has other numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) struct FileIdentity {
    pub(in crate::server) path: PathBuf,
    pub(in crate::server) device: u64,
    pub(in crate::server) inode: u64,
}

/// The file of a socket that listens. Dropped, it removes the file, unless another has taken its place.
#[derive(Debug)]
pub(in crate::server) struct SocketFile(FileIdentity);

#[cfg(all(target_os = "linux", feature = "handover"))]
impl SocketFile {
    /// Which file this is, for a process that goes on with the socket.
    pub(in crate::server) fn identity(&self) -> FileIdentity {
        self.0.clone()
    }

    /// Takes the file from the process that had it.
    pub(super) fn take(identity: FileIdentity) -> SocketFile {
        SocketFile(identity)
    }

    /// Removes what the next process has left beside the file, if it was killed.
    pub(in crate::server) fn remove_successor(&self) {
        if let Ok(name) = TemporaryName::of_successor(&self.0.path) {
            // There is none if it was not killed.
            let _ = fs::remove_file(name.path());
        }
    }

    /// Leaves the file to another process.
    pub(in crate::server) fn leave(mut self) {
        // No file has it.
        (self.0.device, self.0.inode) = (u64::MAX, u64::MAX);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let FileIdentity { path, device, inode } = &self.0;
        let is_own = |there: &fs::Metadata| (there.dev(), there.ino()) == (*device, *inode);
        // A file that is gone needs no removal.
        if fs::symlink_metadata(path).is_ok_and(|there| is_own(&there))
            && let Err(error) = fs::remove_file(path)
        {
            log::warn!("unix:{} can not be removed: {error}", path.display());
        }
    }
}
