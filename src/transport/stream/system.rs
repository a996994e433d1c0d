//! The system calls that read from a socket of the library and write to it.
//!
//! No write raises SIGPIPE: its default disposition ends the process, and that is what a program that is not written in
//! Rust has. POSIX lets a write say so with MSG_NOSIGNAL; Apple's systems have an option of the socket instead, which
//! [`prevent_sigpipe`] sets.

use std::io::{self, IoSlice};
use std::time::Duration;

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
pub(crate) fn prevent_sigpipe(stream: &impl std::os::fd::AsFd) {
    // It fails only for a socket that has ended, and the first write to that fails.
    let _ = socket2::SockRef::from(stream).set_nosigpipe(true);
}

/// Each write says so itself, and Windows has no signals.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn prevent_sigpipe<S>(_: &S) {}

/// Returns whether the peer's system has yet to acknowledge some of what was written, or had at the call before. After a
/// call that says so, the kernel ends the connection with [`io::ErrorKind::TimedOut`] once nothing was acknowledged for
/// `patience`.
#[cfg(target_os = "linux")]
pub(super) fn awaits_acknowledgement(stream: &TcpStream, patience: Duration) -> io::Result<bool> {
    use rustix::net::sockopt::{set_tcp_user_timeout, tcp_user_timeout};
    let awaited = tcp_user_timeout(stream)? > 0;
    let awaits = holds_unacknowledged(stream)?;
    if awaits != awaited {
        let millis = i32::try_from(patience.as_millis()).map_or(i32::MAX as u32, |millis| millis.max(1) as u32);
        set_tcp_user_timeout(stream, if awaits { millis } else { 0 })?;
    }
    Ok(awaits || awaited)
}

/// The system says nothing about what it holds.
#[cfg(not(target_os = "linux"))]
pub(super) fn awaits_acknowledgement(_: &TcpStream, _: Duration) -> io::Result<bool> {
    Ok(false)
}

/// Whether the kernel holds bytes that the peer has not acknowledged, other than a few small frames. The number of these
/// bytes (SIOCOUTQ) can not be asked for without unsafe code. But a poll reports room while at most two thirds of the send
/// buffer are in use: here of the smallest buffer that there is, 4608 bytes. A buffer whose size was set does not grow by
/// itself any more, so this is not for a connection that works well.
#[cfg(target_os = "linux")]
fn holds_unacknowledged(stream: &TcpStream) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::net::sockopt::{set_socket_send_buffer_size, socket_send_buffer_size};
    let size = socket_send_buffer_size(stream)?;
    set_socket_send_buffer_size(stream, 1)?;
    let mut fds = [PollFd::new(stream, PollFlags::OUT)];
    let polled = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })));
    // The kernel doubles what is set.
    set_socket_send_buffer_size(stream, size / 2)?;
    polled?;
    Ok(!fds[0].revents().contains(PollFlags::OUT))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(3600);

    #[test]
    fn bytes_that_the_peer_has_no_room_for_are_not_acknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut peer = std::net::TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        let (socket, _) = listener.accept().expect("accepted");
        socket.set_nonblocking(true).expect("a socket");
        let mut stream = TcpStream::from_std(socket);
        let asks = |stream: &TcpStream| awaits_acknowledgement(stream, PATIENCE).expect("a socket");
        let buffer_size = |stream: &TcpStream| rustix::net::sockopt::socket_send_buffer_size(stream).expect("a socket");
        assert!(!asks(&stream), "nothing was written");
        let size = buffer_size(&stream);
        stream.write_all(b"ping").expect("room");
        assert!(!asks(&stream), "a small frame does not count");
        assert_eq!(buffer_size(&stream), size, "the buffer is as it was");

        let mut written = 4;
        while let Ok(size) = stream.write(&[7; 64 << 10]) {
            written += size;
        }
        assert!(asks(&stream) && asks(&stream));
        let mut received = vec![0; written];
        peer.read_exact(&mut received).expect("all of it");
        let start = Instant::now();
        while holds_unacknowledged(&stream).expect("a socket") {
            assert!(start.elapsed() < Duration::from_secs(30), "it was acknowledged");
            std::thread::yield_now();
        }
        assert!(asks(&stream), "it awaited some at the call before");
        assert!(!asks(&stream));
        assert_eq!(buffer_size(&stream), size, "the buffer is as it was");
    }
}
