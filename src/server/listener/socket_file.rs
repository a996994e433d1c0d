//! The file of a Unix socket: how it is made, and removed.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The name that a socket has until it listens. Dropped, it removes the file.
pub(super) struct TemporaryName {
    path: PathBuf,
    renamed: bool,
}

impl TemporaryName {
    /// Makes a name that no other file has, in the directory of `path`.
    pub(super) fn beside(path: &Path) -> io::Result<TemporaryName> {
        let mut random = [0; 4];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        // The path is short, for a socket's has 107 bytes at most.
        let name = OsString::from(format!(".{:08x}", u32::from_ne_bytes(random)));
        // Absolute, because the process may change its directory before it removes the file.
        Ok(TemporaryName { path: std::path::absolute(path)?.with_file_name(name), renamed: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Sets the permissions, before anybody can connect.
    pub(super) fn set_mode(&self, mode: Option<u32>) -> io::Result<()> {
        mode.map_or(Ok(()), |mode| fs::set_permissions(&self.path, fs::Permissions::from_mode(mode)))
    }

    /// Gives the socket its name, in place of another socket.
    pub(super) fn rename_to(mut self, path: &Path) -> io::Result<SocketFile> {
        let path = std::path::absolute(path)?;
        let own = fs::symlink_metadata(&self.path)?;
        check_place(&path)?;
        fs::rename(&self.path, &path)?;
        self.renamed = true;
        Ok(SocketFile { path, device: own.dev(), inode: own.ino() })
    }
}

impl Drop for TemporaryName {
    fn drop(&mut self) {
        if !self.renamed {
            // There is none if the socket could not be bound.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Fails if something is at `path` that is no socket, and so must not be replaced by one.
pub(super) fn check_place(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "what is there is no socket"))
        }
        _ => Ok(()),
    }
}

/// The file of a socket that listens. Dropped, it removes the file, unless another has taken its place.
#[derive(Debug)]
pub(in crate::server) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

#[cfg(all(target_os = "linux", feature = "handover"))]
impl SocketFile {
    /// Leaves the file to another process.
    pub(in crate::server) fn leave(mut self) {
        // No file has it.
        (self.device, self.inode) = (u64::MAX, u64::MAX);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_own = |there: &fs::Metadata| (there.dev(), there.ino()) == (self.device, self.inode);
        // A file that is gone needs no removal.
        if fs::symlink_metadata(&self.path).is_ok_and(|there| is_own(&there))
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("unix:{} can not be removed: {error}", self.path.display());
        }
    }
}
