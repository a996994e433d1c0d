//! What the server's application does on one connection, whichever way its events come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use threadbare::{CloseCode, CloseReason, Message, MessageRef, Peer, Socket};

use crate::board::{fail, lock};
use crate::ledger::{Entry, Instance, OWN_CODES};
use crate::message::{Sequence, Stream, message, parse, size};
use crate::random::Random;
use crate::round::Round;

/// A connection that can be answered.
pub(crate) trait Out {
    /// Whether the library accepted the message.
    fn send(&mut self, message: Message) -> bool;
    fn ping(&mut self);
    fn close(&mut self, code: CloseCode);
    fn abort(&mut self);
    fn shout(&mut self, _: Message) {}
}

impl Out for Socket<'_> {
    fn send(&mut self, message: Message) -> bool {
        Socket::send(self, message)
    }

    fn ping(&mut self) {
        let _ = Socket::ping(self, b"server");
    }

    fn close(&mut self, code: CloseCode) {
        let _ = Socket::close(self, code, "by the application");
    }

    fn abort(&mut self) {
        Socket::abort(self);
    }

    fn shout(&mut self, message: Message) {
        self.broadcast(message);
    }
}

impl Out for &Peer {
    fn send(&mut self, message: Message) -> bool {
        Peer::send(self, message).is_ok()
    }

    fn ping(&mut self) {
        let _ = Peer::ping(self, b"server");
    }

    fn close(&mut self, code: CloseCode) {
        let _ = Peer::close(self, code, "by the application");
    }

    fn abort(&mut self) {
        Peer::abort(self);
    }
}

/// Whether the callback panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Return,
    Panic,
}

/// The application's state of a connection.
pub(crate) struct Talk {
    round: Arc<Round>,
    entry: Arc<Entry>,
    pub(crate) instance: Arc<Instance>,
    /// What the upper half of the numbers of its messages is.
    number: u64,
    received: Sequence,
    random: Random,
    panicked: bool,
}

impl Talk {
    /// Begins, and greets the client. `path` ends in the connection's number.
    pub(crate) fn open(round: &Arc<Round>, path: &str, out: &mut dyn Out, peer: Option<Peer>) -> Talk {
        let id = path.rsplit('/').next().and_then(|id| id.parse().ok());
        let entry = round.ledger.entry(id.unwrap_or_else(|| fail(&format!("no number in {path:?}"))));
        let instance = Arc::new(Instance::default());
        let mut instances = lock(&entry.instances);
        let number = instances.len() as u64;
        instances.push(instance.clone());
        drop(instances);
        let mut random = Random::new(round.seed ^ (entry.id << 32) ^ number);
        if let Some(peer) = peer
            && random.percent(60)
        {
            // An error says that the round has ended.
            let _ = round.peers.try_send((peer, instance.clone(), number));
        }
        let mut talk = Talk {
            round: round.clone(),
            entry,
            instance,
            number,
            received: Sequence::default(),
            random,
            panicked: false,
        };
        talk.answer(out, 64);
        talk
    }

    pub(crate) fn message(&mut self, out: &mut dyn Out, message: MessageRef<'_>) -> Then {
        self.note(message);
        self.round.progress();
        match self.random.below(1_000) {
            0..850 => self.answer(out, message.len()),
            850..900 => {}
            900..960 => {
                for _ in 0..self.random.below(8) {
                    let size = size(&mut self.random, !self.round.plan.lossy);
                    self.answer(out, size);
                }
            }
            960..980 => out.ping(),
            980..987 => {
                let number = self.round.shouted.fetch_add(1, Ordering::SeqCst);
                let size = size(&mut self.random, false);
                out.shout(crate::message::message(Stream::Shouted, number, size, true));
            }
            987..993 => {
                self.answer(out, 1_000);
                out.close(CloseCode(OWN_CODES.start() + self.random.below(10) as u16));
                if !self.round.plan.lossy && self.random.percent(50) {
                    // Not sent any more.
                    self.answer(out, 100);
                }
            }
            993..996 => {
                self.instance.aborted.store(true, Ordering::SeqCst);
                out.abort();
            }
            996..999 if self.round.plan.panics => {
                self.panicked = true;
                return Then::Panic;
            }
            _ if self.round.plan.ends_in_callback => {
                if let Some(handle) = lock(&self.round.handle).clone() {
                    handle.shutdown(Duration::from_millis(self.random.below(300)));
                }
            }
            _ => {}
        }
        Then::Return
    }

    pub(crate) fn closed(&mut self, reason: &CloseReason) -> Then {
        let told = lock(&self.instance.end).replace(reason.clone());
        if let Some(told) = told {
            self.wrong(&format!("the application is told twice of the end: {told:?}, {reason:?}"));
        }
        if self.round.plan.panics && self.random.percent(2) { Then::Panic } else { Then::Return }
    }

    /// Notes a panic after which no event need come.
    pub(crate) fn ends_by_panic(&self) {
        lock(&self.instance.end).get_or_insert_with(|| {
            CloseReason::new(CloseCode::INTERNAL_ERROR, "a callback panicked", threadbare::CloseCause::Panicked)
        });
    }

    fn note(&mut self, message: MessageRef<'_>) {
        if let Some(reason) = &*lock(&self.instance.end) {
            self.wrong(&format!("a message after the end: {message:?} after {reason:?}"));
        }
        let number = match parse(message) {
            Ok(None) => None,
            Ok(Some((Stream::Client, number))) => Some(number),
            Ok(Some((stream, number))) => self.wrong(&format!("{stream:?} {number} from a client")),
            Err(error) => self.wrong(&error),
        };
        if let (0, true, Some(number)) = (self.received.count, self.entry.reconnects, number) {
            self.instance.first.store(number, Ordering::SeqCst);
            self.received.begin(number);
        }
        if let Err(error) = self.received.note(number, false) {
            self.wrong(&error);
        }
        self.instance.received.store(self.received.count, Ordering::SeqCst);
    }

    fn answer(&mut self, out: &mut dyn Out, size: usize) {
        let answer = message_of(Stream::Answer, &self.instance.answered, self.number, size, self.random.percent(50));
        if out.send(answer) {
            self.instance.answered.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn wrong(&self, what: &str) -> ! {
        fail(&format!("connection {} of {}, at the server: {what}", self.entry.id, self.entry.kind))
    }
}

/// The next message to the client of instance `instance`, of which `sent` were sent.
pub(crate) fn message_of(stream: Stream, sent: &AtomicU64, instance: u64, size: usize, is_text: bool) -> Message {
    let number = (instance << 32) | sent.load(Ordering::SeqCst);
    message(stream, number, if size == 0 { 0 } else { size.max(17) }, is_text)
}
