//! Messages between two processes, over a Unix socket, with descriptors.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, send, sendmsg,
};

use crate::server::hand_over::{MAX_LISTENERS, MORE_DESCRIPTORS};
use crate::worker::handle::hand_over::MAX_BATCH;

/// A message begins with its kind and the length of what follows.
const HEADER: usize = 9;

/// A message has at most so many descriptors. Linux takes up to 253.
const MAX_DESCRIPTORS: usize = if MAX_BATCH > MAX_LISTENERS { MAX_BATCH } else { MAX_LISTENERS };

/// A connection with more than 1 GiB of state and output stays: it would hold up the others.
pub(super) const MAX_BODY: u64 = 1 << 30;

/// Memory is reserved in steps of 64 KiB, as bytes arrive.
const STEP: usize = 64 << 10;

/// A connection to the other process. Everything has to be done by its deadline.
#[derive(Debug)]
pub(super) struct Channel {
    stream: UnixStream,
    deadline: Instant,
}

/// A message as it arrived.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) kind: u8,
    pub(super) body: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

impl Channel {
    pub(super) fn new(stream: UnixStream, deadline: Instant) -> Channel {
        let mut channel = Channel { stream, deadline };
        channel.set_deadline(deadline);
        channel
    }

    /// Sets until when everything has to be done. A single call may take as long again, if the one before it came late.
    pub(super) fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
        // Zero would be no limit.
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        // These fail for no socket.
        let _ = self.stream.set_read_timeout(Some(left));
        let _ = self.stream.set_write_timeout(Some(left));
    }

    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Whether the other process has ended the conversation.
    pub(super) fn has_ended(&self) -> bool {
        self.await_end(Duration::ZERO)
    }

    /// Waits until the other process ends the conversation; `false` if it has not within this time.
    pub(super) fn await_end(&self, timeout: Duration) -> bool {
        await_any([self.stream.as_fd()], PollFlags::RDHUP, timeout)[0]
    }

    /// Begins no call after the deadline.
    fn limit_next(&self) -> io::Result<()> {
        if Instant::now() >= self.deadline { Err(timed_out()) } else { Ok(()) }
    }

    /// The error of a call that had until the deadline.
    fn judge(&self, error: Errno) -> io::Error {
        if error == Errno::AGAIN { timed_out() } else { error.into() }
    }

    /// Sends a message.
    pub(super) fn send(&mut self, kind: u8, body: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut header = [kind; HEADER];
        header[1..].copy_from_slice(&(body.len() as u64).to_be_bytes());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "more descriptors than one message takes"));
        }
        self.limit_next()?;
        // The descriptors go with the first byte. Linux takes at least that.
        let pieces = [IoSlice::new(&header), IoSlice::new(body)];
        let sent = retry_on_intr(|| sendmsg(&self.stream, &pieces, &mut control, SendFlags::NOSIGNAL));
        let mut sent = sent.map_err(|error| self.judge(error))?;
        while sent < HEADER + body.len() {
            let rest = if sent < HEADER { &header[sent..] } else { &body[sent - HEADER..] };
            self.limit_next()?;
            let more = retry_on_intr(|| send(&self.stream, rest, SendFlags::NOSIGNAL));
            sent += more.map_err(|error| self.judge(error))?;
        }
        Ok(())
    }

    /// Receives a message, whose content has at most `limit` bytes. Memory grows with what has arrived.
    pub(super) fn receive(&mut self, limit: u64) -> io::Result<Received> {
        let mut header = [0; HEADER];
        let (mut filled, mut descriptors) = (0, Vec::new());
        while filled < HEADER {
            self.limit_next()?;
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut room = [IoSliceMut::new(&mut header[filled..])];
            let read = retry_on_intr(|| recvmsg(&self.stream, &mut room, &mut control, RecvFlags::CMSG_CLOEXEC));
            let read = read.map_err(|error| self.judge(error))?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = message {
                    descriptors.extend(received);
                }
            }
            if read.flags.contains(ReturnFlags::CTRUNC) {
                let lost = format!("descriptors were lost: {MORE_DESCRIPTORS}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, lost));
            }
            if read.bytes == 0 {
                return Err(ended());
            }
            filled += read.bytes;
        }
        let [kind, size @ ..] = header;
        let size = u64::from_be_bytes(size);
        if size > limit {
            let error = format!("a message of {size} bytes, where {limit} are the most");
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(Received { kind, body: self.receive_body(size as usize)?, descriptors })
    }

    fn receive_body(&mut self, size: usize) -> io::Result<Vec<u8>> {
        let (mut body, mut filled) = (Vec::new(), 0);
        while filled < size {
            if filled == body.len() {
                body.resize(size.min(filled + STEP.max(filled)), 0);
            }
            self.limit_next()?;
            match (&self.stream).read(&mut body[filled..]) {
                Ok(0) => return Err(ended()),
                Ok(read) => filled += read,
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::INTR) => {}
                    Some(error) => return Err(self.judge(error)),
                    None => return Err(error),
                },
            }
        }
        Ok(body)
    }

    /// Has the other process send nothing more, and receives what it has sent before. Linux decides under one lock whether a
    /// message was sent before this or fails there.
    pub(super) fn close_and_receive(&mut self, limit: u64) -> Option<Received> {
        // The socket may be closed at the other end.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        self.set_deadline(Instant::now() + super::GREETING_TIMEOUT);
        self.receive(limit).ok()
    }
}

/// Waits until one of these descriptors has an event of these kinds, or has ended, or for so long. Returns which.
pub(super) fn await_any<const N: usize>(
    descriptors: [BorrowedFd<'_>; N],
    kinds: PollFlags,
    timeout: Duration,
) -> [bool; N] {
    let deadline = Instant::now() + timeout;
    loop {
        // It is never so long that it does not fit.
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok();
        let mut watched = descriptors.map(|descriptor| PollFd::from_borrowed_fd(descriptor, kinds));
        if poll(&mut watched, left.as_ref()) != Err(Errno::INTR) {
            return watched.map(|watched| !watched.revents().is_empty());
        }
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the other process has ended the conversation")
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the other process does not go on")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn pair() -> (Channel, Channel) {
        let (one, other) = UnixStream::pair().expect("a pair");
        let deadline = Instant::now() + Duration::from_secs(30);
        (Channel::new(one, deadline), Channel::new(other, deadline))
    }

    #[test]
    fn descriptors_and_large_messages_arrive_with_what_they_belong_to() {
        let (mut one, mut other) = pair();
        let thread = std::thread::spawn(move || {
            let (mut ours, theirs) = UnixStream::pair().expect("a pair");
            one.send(1, b"without", &[]).expect("sent");
            one.send(2, &vec![7; 3 << 20], &[theirs.as_fd()]).expect("sent");
            one.send(3, b"", &[]).expect("sent");
            ours.write_all(b"through").expect("written");
        });
        let first = other.receive(100).expect("a message");
        assert_eq!((first.kind, &first.body[..], first.descriptors.len()), (1, &b"without"[..], 0));
        let mut second = other.receive(MAX_BODY).expect("a message");
        assert!(second.kind == 2 && second.body == vec![7; 3 << 20]);
        let mut stream = UnixStream::from(second.descriptors.pop().expect("a descriptor"));
        assert!(second.descriptors.is_empty());
        assert_eq!(other.receive(0).expect("a message").kind, 3);
        let mut through = String::new();
        stream.read_to_string(&mut through).expect("read");
        assert_eq!(through, "through");
        thread.join().expect("no panic");
        assert_eq!(other.receive(0).expect_err("the end").kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_too_large_cut_off_or_late_is_an_error() {
        let (mut one, mut other) = pair();
        one.send(1, b"four", &[]).expect("sent");
        assert_eq!(other.receive(3).expect_err("too large").kind(), io::ErrorKind::InvalidData);
        let (one, mut other) = pair();
        one.stream().write_all(&[1, 0, 0, 0, 0, 0, 0, 0, 9, 1, 2]).expect("written");
        drop(one);
        assert_eq!(other.receive(9).expect_err("cut off").kind(), io::ErrorKind::UnexpectedEof);
        let (_one, mut other) = pair();
        other.set_deadline(Instant::now() + Duration::from_millis(1));
        assert_eq!(other.receive(9).expect_err("late").kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn what_was_sent_before_the_end_arrives_and_what_comes_later_fails() {
        let (mut one, mut other) = pair();
        one.send(9, b"", &[]).expect("sent");
        assert_eq!(other.close_and_receive(0).expect("it was sent").kind, 9);
        let (mut one, mut other) = pair();
        assert!(other.close_and_receive(0).is_none());
        assert!(one.send(9, b"", &[]).is_err());
    }
}
