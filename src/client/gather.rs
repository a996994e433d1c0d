//! The whole messages of a client that receives fragments.

use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

use crate::config::Config;
use crate::error::{RecvTimeoutError, TryRecvError};
use crate::protocol::close::{CloseCause, CloseReason};
use crate::protocol::gathered::Gathered;
use crate::protocol::receive::Receive;
use crate::worker::channel::event::Event;
use crate::worker::receiver::events::Events;

/// Receives a client's events, with whole messages in place of fragments.
#[derive(Debug)]
pub(super) struct Gather {
    /// What one thread at a time has, so that no two threads receive fragments of the same message. `None` if the client
    /// receives whole messages.
    turn: Option<(Sender<Gathered>, Receiver<Gathered>)>,
    max_message_size: usize,
}

/// The turn of a thread, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) gathered: Gathered,
    next: &'a Sender<Gathered>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // There is room for it, because it was taken out.
        let _ = self.next.try_send(std::mem::take(&mut self.gathered));
    }
}

impl Gather {
    pub(super) fn new(config: &Config) -> Gather {
        let turn = matches!(config.receive, Receive::Fragments { .. }).then(|| {
            let (next, turn) = crossbeam_channel::bounded(1);
            let _ = next.try_send(Gathered::default());
            (next, turn)
        });
        Gather { turn, max_message_size: config.max_message_size }
    }

    /// Whether the client receives fragments.
    #[inline]
    pub(super) fn gathers(&self) -> bool {
        self.turn.is_some()
    }

    /// As [`Events::wait`].
    pub(super) fn wait(&self, events: &Events, deadline: Option<Instant>) -> Result<Event, RecvTimeoutError> {
        let Some(mut turn) = self.turn(deadline)? else { return events.wait(deadline) };
        loop {
            if let Some(event) = self.gather(&mut turn, events.wait(deadline)?) {
                return Ok(event);
            }
        }
    }

    /// As [`Events::try_recv`]. There is nothing while another thread receives.
    pub(super) fn try_recv(&self, events: &Events) -> Result<Event, TryRecvError> {
        let Some((next, turn)) = &self.turn else { return events.try_recv() };
        let mut turn = Turn { gathered: turn.try_recv().map_err(|_| TryRecvError::Empty)?, next };
        loop {
            if let Some(event) = self.gather(&mut turn, events.try_recv()?) {
                return Ok(event);
            }
        }
    }

    /// Waits for the turn of this thread; `None` if none is needed.
    pub(super) fn turn(&self, deadline: Option<Instant>) -> Result<Option<Turn<'_>>, RecvTimeoutError> {
        let Some((next, turn)) = &self.turn else { return Ok(None) };
        let gathered = match deadline {
            Some(deadline) => turn.recv_deadline(deadline).map_err(|_| RecvTimeoutError::Timeout)?,
            None => turn.recv().map_err(|_| RecvTimeoutError::Disconnected)?,
        };
        Ok(Some(Turn { gathered, next }))
    }

    /// The event, or the message that this fragment completes. A message that is too large closes the connection.
    fn gather(&self, turn: &mut Turn<'_>, event: Event) -> Option<Event> {
        let Event::Fragment(peer, fragment) = event else {
            if let Event::Close(..) = event {
                // What there is of a message ends with its connection, and is no part of the next one's first.
                turn.gathered = Gathered::default();
            }
            return Some(event);
        };
        match turn.gathered.add(fragment, self.max_message_size) {
            Ok(message) => message.map(|message| Event::Message(peer, message)),
            Err(error) => {
                let (code, text) = (error.close_code(), error.to_string());
                // An error means that it is closing already.
                let _ = peer.close(code, &text);
                Some(Event::Close(peer, CloseReason::new(code, text, CloseCause::Failed)))
            }
        }
    }
}
