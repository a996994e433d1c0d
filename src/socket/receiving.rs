//! Receiving over a [`WebSocket`]: reads, and the frames in its receive buffer, until there is a message or a fragment of one.

use std::io::{self, Read, Write};
use std::ops::Range;

use crate::protocol::Received;
use crate::protocol::close::{CloseCause, CloseFrame, CloseReason};
use crate::protocol::connection::WholeFrame;
use crate::protocol::fragment::{Fragment, FragmentRef};
use crate::protocol::message::{Message, MessageRef};
use crate::socket::codecs::with_codec;
use crate::socket::input::{Expected, INPUT_SIZE};
use crate::socket::{SocketError, WebSocket};
use crate::transport::endpoint::ReadOutcome;

impl<S: Read + Write> WebSocket<S> {
    /// Receives as [`recv`](WebSocket::recv) does, and calls `prepare` before each read, to set its timeout.
    pub(super) fn recv_with(
        &mut self,
        prepare: impl Fn(&S) -> Result<(), SocketError>,
    ) -> Result<Option<Message>, SocketError> {
        loop {
            match self.find(&prepare)? {
                None => return Ok(None),
                Some(Found::Whole(frame)) => return self.take_message(&frame).map(Some),
                Some(Found::Kept(Data::Message(message))) => return Ok(Some(message)),
                Some(Found::Kept(data)) => {
                    let fragment = self.own(data);
                    if let Some(message) = self.gather(fragment)? {
                        return Ok(Some(message));
                    }
                }
            }
        }
    }

    /// Receives as [`recv_with`](WebSocket::recv_with), a message or a fragment of one.
    pub(super) fn next_data(
        &mut self,
        prepare: impl Fn(&S) -> Result<(), SocketError>,
    ) -> Result<Option<Data>, SocketError> {
        match self.find(prepare)? {
            None => Ok(None),
            Some(Found::Whole(frame)) => Ok(Some(Data::Message(self.take_message(&frame)?))),
            Some(Found::Kept(data)) => Ok(Some(data)),
        }
    }

    /// Copies the message at the front of the receive buffer.
    fn take_message(&mut self, frame: &WholeFrame) -> Result<Message, SocketError> {
        match self.endpoint.connection.take_whole(frame, self.input.current.take_front(frame.size())) {
            Ok(message) => {
                self.stats.messages_received += 1;
                Ok(message.into_owned())
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Waits until there is a message, or a fragment of one, and returns where it is; `None` once the closing handshake is
    /// complete. Calls `prepare` before each read.
    pub(super) fn find(
        &mut self,
        prepare: impl Fn(&S) -> Result<(), SocketError>,
    ) -> Result<Option<Found>, SocketError> {
        loop {
            if let Some(reason) = &self.ended {
                return if reason.is_clean() { Ok(None) } else { Err(SocketError::Closed) };
            }
            // RFC 6455 5.5.1 forbids to send data after a close frame, not to receive it.
            let receives = self.delivers_after_close || !self.endpoint.connection.close_sent();
            let received = if self.input.is_empty() {
                match self.flush() {
                    // The peer may read only after this end has read.
                    Ok(()) | Err(SocketError::Timeout) => {}
                    Err(error) => return Err(error),
                }
                prepare(self.get_ref())?;
                self.receive()?
            } else if receives && let Some(frame) = self.endpoint.connection.find_whole(self.input.current.filled_mut())
            {
                return Ok(Some(Found::Whole(frame)));
            } else {
                self.decode()?
            };
            match received {
                Step::Nothing => {}
                Step::Data(data) => {
                    if receives {
                        self.stats.messages_received += u64::from(data.is_end());
                        return Ok(Some(Found::Kept(data)));
                    }
                }
                Step::Ping(payload) => {
                    // RFC 6455 5.5.2: a ping is answered until the peer's close frame came, also after our own, which
                    // forbids data frames alone (5.5.1). The loop ends with the peer's close frame.
                    self.answer_ping(&payload);
                }
                Step::Closed(frame) => self.peer_closed(frame)?,
            }
        }
    }

    /// Decodes the next frame, or part of one, in the receive buffer.
    fn decode(&mut self) -> Result<Step, SocketError> {
        let input = self.input.current.filled_mut();
        match with_codec(&mut self.endpoint, |endpoint, codec| endpoint.connection.receive_general(input, codec)) {
            Ok((size, received)) => {
                if let Received::Fragment(FragmentRef { payload: MessageRef::Binary(payload), offset, is_last }) =
                    received
                {
                    let len = payload.len();
                    self.input.current.consume(size);
                    let range = self.input.current.last_decoded(len);
                    return Ok(Step::Data(Data::Lent(LentFragment { range, offset, is_last })));
                }
                let step = Step::from(received);
                self.input.current.consume(size);
                Ok(step)
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    /// A fragment in memory of its own.
    pub(super) fn own(&self, data: Data) -> Fragment {
        match data {
            Data::Fragment(fragment) => fragment,
            Data::Message(message) => Fragment::new(message, 0, true),
            Data::Lent(LentFragment { range, offset, is_last }) => {
                let bytes = self.input.current.as_slice().get(range).unwrap_or_default();
                FragmentRef { payload: MessageRef::Binary(bytes), offset, is_last }.into_owned()
            }
        }
    }

    /// Reads from the stream once.
    fn receive(&mut self) -> Result<Step, SocketError> {
        // The rest of a large message is read into its own buffer.
        let is_large = self.endpoint.connection.lacks() >= INPUT_SIZE as u64;
        self.input.choose(if self.may_have_more && !is_large { Expected::Much } else { Expected::Unknown });
        match self.endpoint.read(&mut self.input.current, &mut self.output.pool, usize::MAX) {
            ReadOutcome::Bytes { size, direct, more } => {
                self.may_have_more = more;
                self.stats.bytes_received += size as u64;
                if direct == 0 {
                    return Ok(Step::Nothing);
                }
                self.endpoint.connection.advance(direct).map(Step::from).map_err(|error| self.fail(error))
            }
            ReadOutcome::Nothing => {
                self.may_have_more = false;
                Err(SocketError::Timeout)
            }
            ReadOutcome::End => {
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed TCP without a close frame");
                Err(self.broken(error))
            }
            ReadOutcome::Failed(error) => Err(self.broken(error)),
        }
    }

    fn peer_closed(&mut self, frame: Option<CloseFrame>) -> Result<(), SocketError> {
        let local = self.endpoint.connection.close_sent();
        let cause = if local { CloseCause::Local } else { CloseCause::Peer };
        self.endpoint.close(&mut self.output, CloseFrame::answer_to(frame.as_ref()).as_ref());
        self.ended = Some(CloseReason::from_frame(frame, cause));
        self.forget_ping();
        self.flush()
    }
}

/// Where a message, or a fragment of one, is.
pub(super) enum Found {
    /// At the front of the receive buffer.
    Whole(WholeFrame),
    /// In a buffer of its own.
    Kept(Data),
}

/// What one step of receiving returned, without a borrow of the buffer.
enum Step {
    Nothing,
    Data(Data),
    Ping(Vec<u8>),
    Closed(Option<CloseFrame>),
}

/// A message, or a fragment of one.
pub(super) enum Data {
    Message(Message),
    Fragment(Fragment),
    Lent(LentFragment),
}

/// A fragment of a binary message in the receive buffer, until the next read.
#[derive(Debug)]
pub(super) struct LentFragment {
    pub(super) range: Range<usize>,
    offset: u64,
    is_last: bool,
}

impl Data {
    /// How many bytes of the message came before this.
    pub(super) fn offset(&self) -> u64 {
        match self {
            Data::Message(_) => 0,
            Data::Fragment(fragment) => fragment.offset(),
            Data::Lent(fragment) => fragment.offset,
        }
    }

    /// Whether a message ends with this.
    pub(super) fn is_end(&self) -> bool {
        match self {
            Data::Message(_) => true,
            Data::Fragment(fragment) => fragment.is_last(),
            Data::Lent(fragment) => fragment.is_last,
        }
    }
}

impl From<Received<'_>> for Step {
    fn from(received: Received<'_>) -> Step {
        match received {
            Received::Nothing | Received::Pong(_) => Step::Nothing,
            Received::Fragment(fragment) => Step::Data(Data::Fragment(fragment.into_owned())),
            Received::OwnFragment(fragment) => Step::Data(Data::Fragment(fragment)),
            Received::Message(message) => Step::Data(Data::Message(message.into_owned())),
            Received::Assembled(message) => Step::Data(Data::Message(message.into_message())),
            Received::Ping(payload) => Step::Ping(payload.into_owned()),
            Received::Close(frame) => Step::Closed(frame),
        }
    }
}
