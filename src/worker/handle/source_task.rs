//! A message whose parts a thread of the library reads from a source.

use std::io::{self, Read};
use std::ops::ControlFlow;

use crate::config::stream_options::StreamOptions;
use crate::protocol::Last;
use crate::protocol::contain::contained;
use crate::protocol::frame::Opcode;
use crate::protocol::utf8::Validator;
use crate::transport::message_writer::{invalid_text, read_part};
use crate::worker::handle::outgoing_message::OutgoingMessage;
use crate::worker::handle::stream_outcome::{OnEnd, StreamOutcome};
use crate::worker::handle::stream_pool::{ConnectionId, Next, StreamTask};

/// At most 8 parts are read of a message before another has its turn. More keeps that waiting for longer; fewer has the threads
/// look more often what is next.
const MAX_PARTS: usize = 8;

/// A message whose parts are read from a source.
pub(crate) struct SourceTask {
    message: OutgoingMessage,
    source: Box<dyn Read + Send>,
    /// The size of the parts.
    size: usize,
    /// The check of a text.
    validator: Option<Validator>,
    /// The bytes of the parts that were posted.
    posted: u64,
    on_end: Option<OnEnd>,
}

impl SourceTask {
    /// A message whose first part, an empty one, is with its worker.
    pub(crate) fn new(
        message: OutgoingMessage,
        source: Box<dyn Read + Send>,
        options: &StreamOptions,
        on_end: Option<OnEnd>,
    ) -> Box<SourceTask> {
        let size = options.fragment_size.unwrap_or(message.peer().shared.worker.config.fragment_size);
        let validator = (options.opcode == Opcode::Text).then(Validator::default);
        Box::new(SourceTask { message, source, size, validator, posted: 0, on_end })
    }

    /// Reads a part; `None` at the end of the source.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut part = self.message.take_buffer();
        read_part(&mut self.source, &mut part, self.size)?;
        if let Some(validator) = &mut self.validator {
            let checked = if part.is_empty() { validator.finish() } else { validator.feed(&part) };
            checked.map_err(|_| invalid_text())?;
        }
        Ok((!part.is_empty()).then_some(part))
    }

    /// Reads a part and posts it. Breaks with how the message ended; with `None` if the connection has ended it.
    fn send_part(&mut self) -> ControlFlow<Option<StreamOutcome>> {
        // What is not posted was ended by the connection.
        ControlFlow::Break(match contained(|| self.read()) {
            Ok(Ok(Some(mut part))) => {
                let size = part.len() as u64;
                if self.message.post(&mut part, Last::No) {
                    self.posted += size;
                    return ControlFlow::Continue(());
                }
                None
            }
            Ok(Ok(None)) => {
                let sent = StreamOutcome::Sent(self.posted);
                self.message.post(&mut Vec::new(), Last::Yes).then_some(sent)
            }
            Ok(Err(error)) => {
                log::debug!("{}: the source of a message failed: {error}", self.message.peer().addr());
                Some(StreamOutcome::SourceFailed(error))
            }
            Err(panic) => {
                log::error!("{}: the source of a message panicked: {panic}", self.message.peer().addr());
                Some(StreamOutcome::SourceFailed(io::Error::other(format!("the source panicked: {panic}"))))
            }
        })
    }

    /// Drops the source, and tells the application how the message ended; `None` if the connection has ended it.
    fn end_with(self, outcome: Option<StreamOutcome>) {
        let SourceTask { message, source, on_end, .. } = self;
        let outcome = outcome.unwrap_or_else(|| {
            if message.is_too_slow() { StreamOutcome::TooSlow } else { StreamOutcome::Disconnected }
        });
        drop(message);
        if let Err(panic) = contained(|| drop(source)) {
            log::error!("the source of a message panicked as it was dropped: {panic}");
        }
        if let Some(on_end) = on_end
            && let Err(panic) = contained(|| on_end(outcome))
        {
            log::error!("a callback for the end of a message panicked: {panic}");
        }
    }
}

impl StreamTask for SourceTask {
    fn connection(&self) -> ConnectionId {
        let shared = &self.message.peer().shared;
        (shared.worker.index, shared.key)
    }

    fn step(mut self: Box<Self>) -> Next {
        for _ in 0..MAX_PARTS {
            if self.message.is_over() {
                self.end();
                return Next::Done;
            }
            if !self.message.is_ready() {
                return Next::Parked(self);
            }
            if let ControlFlow::Break(outcome) = self.send_part() {
                self.end_with(outcome);
                return Next::Done;
            }
        }
        Next::Ready(self)
    }

    fn watch(&self) -> Box<dyn FnOnce() -> bool> {
        let (peer, state) = (self.message.peer().clone(), self.message.look());
        Box::new(move || {
            peer.shared.queued.set_awaited();
            state.is_changed(&peer)
        })
    }

    fn end(self: Box<Self>) {
        self.end_with(None);
    }
}
