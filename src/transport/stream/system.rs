//! The system calls that read from a socket of the library and write to it.
//!
//! No write raises SIGPIPE: its default disposition ends the process, and that is what a program that is not written in
//! Rust has. POSIX lets a write say so with MSG_NOSIGNAL; Apple's systems have an option of the socket instead, which
//! [`prevent_sigpipe`] sets.

use std::io::{self, IoSlice};

use mio::net::TcpStream;

/// Reads by the system call itself: libc's function can be cancelled where there are several threads, and what sees to
/// that takes 20 ns a call.
#[cfg(target_os = "linux")]
pub(super) fn receive(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let (size, _) = rustix::net::recv(stream, buffer, rustix::net::RecvFlags::empty())?;
    Ok(size)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn receive(mut stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    io::Read::read(&mut stream, buffer)
}

/// Writes to the socket. On Linux by the system call itself, as [`receive`] reads.
#[cfg(all(unix, not(target_vendor = "apple")))]
pub(crate) fn send(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(stream, bytes, rustix::net::SendFlags::NOSIGNAL)?)
}

#[cfg(not(all(unix, not(target_vendor = "apple"))))]
pub(crate) fn send(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    io::Write::write(&mut stream, bytes)
}

/// Writes to the socket from several places. `writev` has no flags; `sendmsg` does the same, and has.
#[cfg(all(unix, not(target_vendor = "apple")))]
pub(super) fn send_vectored(stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
    Ok(sendmsg(stream, slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)?)
}

#[cfg(not(all(unix, not(target_vendor = "apple"))))]
pub(super) fn send_vectored(mut stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    io::Write::write_vectored(&mut stream, slices)
}

/// Has no write to an accepted socket raise SIGPIPE. mio sets the option of a socket that connects.
#[cfg(target_vendor = "apple")]
pub(crate) fn prevent_sigpipe(stream: &TcpStream) {
    // It fails only for a socket that has ended, and the first write to that fails.
    let _ = socket2::SockRef::from(stream).set_nosigpipe(true);
}

/// Each write says so itself, and Windows has no signals.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn prevent_sigpipe(_: &TcpStream) {}
