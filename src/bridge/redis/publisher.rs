//! The thread that sends: one pipeline at a time, whose replies it awaits before the next.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::bridge::redis::link::{Link, LinkError, Waits, text_of};
use crate::bridge::redis::queue::Chunk;
use crate::bridge::redis::resp::{Garbage, Reply};
use crate::bridge::redis::retry::Retry;
use crate::bridge::redis::shared::{Lane, Shared};
use crate::bridge::stats::add;

/// Nothing is due: the publisher waits for others, or for the connection.
const FAR: Duration = Duration::from_secs(3600);

/// Commands that are on their way.
#[derive(Debug)]
struct Pipeline {
    chunk: Chunk,
    answered: usize,
}

impl Pipeline {
    fn unanswered(&self) -> usize {
        self.chunk.ends.len() - self.answered
    }

    /// The commands without an answer.
    fn rest(&self) -> &[u8] {
        let from = self.answered.checked_sub(1).map_or(0, |last| self.chunk.ends[last]);
        &self.chunk.bytes[from..]
    }
}

/// Sends until the bridge is stopped.
pub(super) fn run(shared: &Shared, lane: &Lane, mut waits: Waits) {
    let mut retry = Retry::default();
    let mut pipeline = None;
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
fn give_up(pipeline: &mut Option<Pipeline>, shared: &Shared) {
    if let Some(pipeline) = pipeline.take() {
        add(&shared.counts.unacknowledged, pipeline.unanswered() as u64);
        shared.queue.give_back(pipeline.chunk);
    }
}

enum Never {}

fn publish(
    link: &mut Link,
    pipeline: &mut Option<Pipeline>,
    shared: &Shared,
    lane: &Lane,
    waits: &mut Waits,
) -> Result<Never, LinkError> {
    loop {
        let current = match pipeline.take().or_else(|| shared.queue.take().map(|chunk| Pipeline { chunk, answered: 0 }))
        {
            Some(current) => pipeline.insert(current),
            None if shared.queue.is_closed() => return Err(LinkError::Stopped),
            None => {
                idle(link, waits)?;
                continue;
            }
        };
        link.send(current.rest())?;
        while current.unanswered() > 0 {
            if !take_answer(link, current, shared)? && !link.read()? {
                link.flush()?;
                link.wait(waits, lane.deadline().unwrap_or_else(|| Instant::now() + FAR))?;
                if lane.deadline().is_some_and(|deadline| Instant::now() >= deadline) {
                    return Err(LinkError::Stopped);
                }
            }
        }
        if let Some(done) = pipeline.take() {
            shared.queue.give_back(done.chunk);
        }
    }
}

/// What an engine says to a command.
enum Answer {
    Taken,
    Refused(String),
    Unexpected,
}

/// Takes the next answer. `false` if none has arrived.
fn take_answer(link: &mut Link, pipeline: &mut Pipeline, shared: &Shared) -> Result<bool, LinkError> {
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
    pipeline.answered += 1;
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
        if !link.read()? {
            break;
        }
    }
    link.ping_if_silent()?;
    link.flush()?;
    link.wait(waits, Instant::now() + FAR)
}
