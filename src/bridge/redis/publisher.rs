//! The thread that sends: a pipeline of commands, whose replies it awaits before much more.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use crate::bridge::redis::link::{Link, LinkError, Waits, text_of};
use crate::bridge::redis::queue::{Chunk, Queue};
use crate::bridge::redis::resp::{Garbage, Reply};
use crate::bridge::redis::retry::Retry;
use crate::bridge::redis::shared::{Lane, Shared};
use crate::bridge::stats::add;

/// While fewer than 64 commands are unanswered, more are sent. More may be lost at once with a connection; fewer has the thread sleep
/// once more where the first message of many has woken it and left alone.
const FEW: usize = 64;

/// Unless they have 64 KiB: what the socket does not take is kept twice.
const MUCH: usize = 64 << 10;

/// Commands that are on their way, in their order.
#[derive(Debug, Default)]
struct Pipeline {
    chunks: VecDeque<Chunk>,
    /// How many commands of the first chunk have an answer.
    answered: usize,
}

impl Pipeline {
    fn unanswered(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.ends.len()).sum::<usize>() - self.answered
    }

    /// Whether more may be sent before there are more answers.
    fn has_room(&self) -> bool {
        self.unanswered() < FEW && self.chunks.iter().map(|chunk| chunk.bytes.len()).sum::<usize>() < MUCH
    }

    /// Sends a chunk. It counts as unanswered if that fails.
    fn send(&mut self, chunk: Chunk, link: &mut Link) -> Result<(), LinkError> {
        let sent = link.send(&chunk.bytes);
        self.chunks.push_back(chunk);
        sent
    }

    /// The commands without an answer, in pieces.
    fn rest(&self) -> impl Iterator<Item = &[u8]> {
        let first = self.chunks.front();
        let from = self.answered.checked_sub(1).and_then(|last| first?.ends.get(last).copied()).unwrap_or(0);
        let skipped = std::iter::once(from).chain(std::iter::repeat(0));
        self.chunks.iter().zip(skipped).map(|(chunk, from)| &chunk.bytes[from..])
    }

    /// Notes an answer. Returns the chunk that has all of them.
    fn note_answer(&mut self) -> Option<Chunk> {
        self.answered += 1;
        if self.chunks.front()?.ends.len() > self.answered {
            return None;
        }
        self.answered = 0;
        self.chunks.pop_front()
    }
}

/// Sends until the bridge is stopped.
pub(super) fn run(shared: &Shared, lane: &Lane, mut waits: Waits) {
    let mut retry = Retry::default();
    let mut pipeline = Pipeline::default();
    loop {
        let error = match shared.dialler.connect(&mut waits, &lane.cancel) {
            Ok(mut link) => {
                retry.connected(shared);
                shared.counts.publishing.store(true, Ordering::Relaxed);
                let Err(error) = publish(&mut link, &mut pipeline, shared, lane, &mut waits);
                shared.counts.publishing.store(false, Ordering::Relaxed);
                error
            }
            Err(error) => error,
        };
        if !shared.resends {
            give_up(&mut pipeline, shared);
        }
        if !retry.pause(&error, shared, lane, &mut waits) {
            break;
        }
    }
    give_up(&mut pipeline, shared);
    add(&shared.counts.unacknowledged, shared.queue.drain());
}

/// Counts the commands without an answer as possibly lost.
fn give_up(pipeline: &mut Pipeline, shared: &Shared) {
    let lost = std::mem::take(pipeline);
    add(&shared.counts.unacknowledged, lost.unanswered() as u64);
    lost.chunks.into_iter().for_each(|chunk| shared.queue.give_back(chunk));
}

fn publish(
    link: &mut Link,
    pipeline: &mut Pipeline,
    shared: &Shared,
    lane: &Lane,
    waits: &mut Waits,
) -> Result<Infallible, LinkError> {
    for bytes in pipeline.rest() {
        link.send(bytes)?;
    }
    loop {
        if lane.deadline().is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(LinkError::Stopped);
        }
        while take_answer(link, pipeline, shared)? {}
        while pipeline.has_room()
            && let Some(chunk) = shared.queue.take()
        {
            pipeline.send(chunk, link)?;
        }
        if pipeline.chunks.is_empty() {
            match shared.queue.take_or_sleep() {
                Some(chunk) => pipeline.send(chunk, link)?,
                None if shared.queue.is_closed() => return Err(LinkError::Stopped),
                None => {
                    idle(link, waits)?;
                    gather(&shared.queue);
                }
            }
        } else if !link.read(waits)? {
            link.flush()?;
            link.wait(waits, lane.deadline())?;
        }
    }
}

/// The thread looks at most 64 times whether more messages are coming. More delays the first of many; fewer sends them in more
/// pieces.
const MAX_LOOKS: usize = 64;

/// Lets the thread that has woken this one go on, while it publishes more: what it publishes then leaves in one write, and is
/// answered in one read.
fn gather(queue: &Queue) {
    let first = queue.pushed();
    let mut before = first;
    for _ in 0..MAX_LOOKS {
        thread::yield_now();
        let pushed = queue.pushed();
        if pushed == before || pushed - first >= FEW as u64 {
            return;
        }
        before = pushed;
    }
}

/// What an engine says to a command.
enum Answer {
    Taken,
    Refused(String),
    Unexpected,
}

/// Takes the next answer. `false` if none has arrived, or none is awaited.
fn take_answer(link: &mut Link, pipeline: &mut Pipeline, shared: &Shared) -> Result<bool, LinkError> {
    if pipeline.chunks.is_empty() {
        return Ok(false);
    }
    let answer = link.take(|reader| {
        Ok(match reader.reply()? {
            Reply::Integer(_) | Reply::Bulk(_) => Answer::Taken,
            Reply::Error(text) => Answer::Refused(text_of(text)),
            _ => Answer::Unexpected,
        })
    })?;
    match answer {
        None => return Ok(false),
        Some(Answer::Taken) => add(&shared.counts.sent, 1),
        Some(Answer::Refused(text)) if shared.resends && is_passing(&text) => return Err(LinkError::Refused(text)),
        Some(Answer::Refused(text)) => {
            add(&shared.counts.rejected, 1);
            log::warn!("{} does not take a message: {text}", shared.dialler.target);
        }
        Some(Answer::Unexpected) => return Err(LinkError::Garbage(Garbage::Unexpected)),
    }
    if let Some(done) = pipeline.note_answer() {
        shared.queue.give_back(done);
    }
    Ok(true)
}

/// Whether the same command may be taken later.
fn is_passing(error: &str) -> bool {
    let code = error.split(' ').next().unwrap_or_default();
    matches!(
        code,
        "LOADING" | "READONLY" | "MASTERDOWN" | "TRYAGAIN" | "BUSY" | "OOM" | "MISCONF" | "NOREPLICAS" | "CLUSTERDOWN"
    )
}

/// Waits for something to send. Meanwhile nothing may arrive but PONG.
fn idle(link: &mut Link, waits: &mut Waits) -> Result<(), LinkError> {
    loop {
        while let Some(is_pong) = link.take(|reader| Ok(reader.reply()? == Reply::Simple(b"PONG")))? {
            if !is_pong {
                return Err(LinkError::Garbage(Garbage::Unexpected));
            }
        }
        if !link.read(waits)? {
            break;
        }
    }
    link.ping_if_silent()?;
    link.flush()?;
    link.wait(waits, None)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bridge::BridgeMessage;
    use crate::bridge::envelope::NodeId;
    use crate::bridge::redis::queue::Form;

    /// What gathers goes on when nobody publishes, and when somebody publishes all the time.
    #[test]
    fn gathering_comes_to_an_end() {
        let queue = Queue::new(NodeId::new(0), Form::Publish, String::new(), 1 << 20, 100);
        gather(&queue);
        let is_over = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    assert!(queue.push("t", &BridgeMessage::text("x")).0.is_queued());
                    queue.take().into_iter().for_each(|chunk| queue.give_back(chunk));
                }
            });
            while queue.pushed() < 10_000 {
                gather(&queue);
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn what_has_no_answer_is_known_to_the_byte() {
        let queue = Queue::new(NodeId::new(0), Form::Publish, String::new(), 1 << 20, 100);
        let mut pipeline = Pipeline::default();
        let mut all = Vec::new();
        for count in [2, 1, 3] {
            for _ in 0..count {
                assert!(queue.push("t", &BridgeMessage::text("x")).0.is_queued());
            }
            let chunk = queue.take().expect("messages");
            all.extend_from_slice(&chunk.bytes);
            pipeline.chunks.push_back(chunk);
        }
        let size = all.len() / 6;
        for answered in 0..6 {
            assert_eq!(pipeline.unanswered(), 6 - answered);
            assert_eq!(pipeline.rest().collect::<Vec<_>>().concat(), all[answered * size..]);
            let done = pipeline.note_answer();
            assert_eq!(done.is_some(), [1, 2, 5].contains(&answered), "after {answered}");
            done.into_iter().for_each(|chunk| queue.give_back(chunk));
        }
        assert!(pipeline.chunks.is_empty() && pipeline.rest().next().is_none());
        assert_eq!(queue.backlog(), (0, Duration::ZERO));
    }
}
