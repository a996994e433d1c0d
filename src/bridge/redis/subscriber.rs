//! The thread that receives what other nodes publish, for the topics that have subscribers here.

use std::convert::Infallible;
use std::str;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::bridge::local::LocalTopics;
use crate::bridge::redis::link::{Link, LinkError, Waits, text_of};
#[cfg(all(target_os = "linux", feature = "handover"))]
use crate::bridge::redis::relay;
use crate::bridge::redis::resp::{self, Garbage, NoReply, Parsed, Reader, Reply};
use crate::bridge::redis::retry::Retry;
use crate::bridge::redis::shared::{Lane, Shared};

/// A command names at most 500 topics. More would keep Redis from others for longer; fewer would make more commands after a
/// reconnect.
const MAX_NAMES: usize = 500;

/// Receives until the bridge is stopped.
pub(super) fn run(shared: &Shared, local: &LocalTopics, lane: &Lane, mut waits: Waits) {
    let mut retry = Retry::default();
    let mut subscriber = Subscriber { shared, local, lane, had_outage: false };
    loop {
        let error = match shared.dialler.connect(&mut waits, &lane.cancel) {
            Ok(mut link) => {
                retry.connected(shared);
                let Err(error) = subscriber.receive(&mut link, &mut waits);
                shared.counts.subscribed.store(false, Ordering::Relaxed);
                shared.topics.lose();
                error
            }
            Err(error) => error,
        };
        subscriber.had_outage = true;
        if !retry.pause(&error, shared, lane, &mut waits) {
            break;
        }
    }
}

struct Subscriber<'a> {
    shared: &'a Shared,
    local: &'a LocalTopics,
    lane: &'a Lane,
    /// Something may have been lost, and the node's topics do not know that.
    had_outage: bool,
}

/// What arrives on a connection with subscriptions.
pub(super) enum Pushed<'a> {
    Message {
        channel: &'a [u8],
        payload: &'a [u8],
    },
    Subscribed {
        channel: &'a [u8],
    },
    Unsubscribed,
    Pong(
        #[cfg_attr(
            not(all(target_os = "linux", feature = "handover")),
            expect(dead_code, reason = "only a hand-over asks for something")
        )]
        &'a [u8],
    ),
    Refused(&'a [u8]),
}

impl Subscriber<'_> {
    fn receive(&mut self, link: &mut Link, waits: &mut Waits) -> Result<Infallible, LinkError> {
        let mut feeds = self.shared.feeds();
        let wanted = self.shared.topics.all();
        feeds.begin(&wanted);
        drop(feeds);
        self.command(link, b"SUBSCRIBE", &wanted)?;
        self.report_confirmed();
        loop {
            if self.lane.is_stopped() {
                return Err(LinkError::Stopped);
            }
            self.apply_changes(link)?;
            self.deliver(link)?;
            #[cfg(all(target_os = "linux", feature = "handover"))]
            if self.shared.catches_up.take_asked() {
                let mut ping = Vec::new();
                resp::command(&mut ping, &[b"PING", relay::CAUGHT_UP]);
                link.send(&ping)?;
            }
            link.ping_if_silent()?;
            link.flush()?;
            if !link.read(waits)? {
                link.wait(waits, None)?;
            }
        }
    }

    fn apply_changes(&mut self, link: &mut Link) -> Result<(), LinkError> {
        let mut feeds = self.shared.feeds();
        let changes = self.shared.topics.take_changes();
        if changes.is_empty() {
            return Ok(());
        }
        let mut names: [Vec<Arc<str>>; 2] = Default::default();
        for change in changes {
            if feeds.change(&change) {
                names[usize::from(change.wanted)].push(change.topic);
            }
        }
        drop(feeds);
        let [unwanted, wanted] = names;
        self.command(link, b"UNSUBSCRIBE", &unwanted)?;
        self.command(link, b"SUBSCRIBE", &wanted)
    }

    /// Sends a command about topics, in pieces.
    fn command(&self, link: &mut Link, verb: &[u8], topics: &[Arc<str>]) -> Result<(), LinkError> {
        let mut bytes = Vec::new();
        for some in topics.chunks(MAX_NAMES) {
            resp::begin_command(&mut bytes, 1 + some.len());
            resp::bulk(&mut bytes, verb);
            for topic in some {
                resp::bulk(&mut bytes, self.shared.channel(topic).as_bytes());
            }
        }
        link.send(&bytes)
    }

    /// Delivers all that has arrived whole.
    fn deliver(&mut self, link: &mut Link) -> Result<(), LinkError> {
        let mut batch = self.local.batch();
        let mut result = Ok(true);
        while matches!(result, Ok(true)) {
            result = match link.take(pushed) {
                Ok(Some(Pushed::Message { channel, payload })) => {
                    if let Some(topic) = self.shared.topic(channel) {
                        self.shared.feeds().receive(topic, payload, None, &mut batch);
                    }
                    Ok(true)
                }
                Ok(Some(Pushed::Subscribed { channel })) => {
                    match self.shared.topic(channel).is_some_and(|topic| self.shared.feeds().confirm(topic)) {
                        true => Ok(true),
                        false => Err(LinkError::Garbage(Garbage::Unexpected)),
                    }
                }
                #[cfg(all(target_os = "linux", feature = "handover"))]
                Ok(Some(Pushed::Pong(relay::CAUGHT_UP))) => {
                    self.shared.catches_up.done();
                    Ok(true)
                }
                Ok(Some(Pushed::Unsubscribed | Pushed::Pong(_))) => Ok(true),
                Ok(Some(Pushed::Refused(text))) => Err(LinkError::Refused(text_of(text))),
                Ok(None) => Ok(false),
                Err(error) => Err(error),
            };
        }
        drop(batch);
        self.shared.feeds().count();
        self.report_confirmed();
        result.map(|_| ())
    }

    /// Once everything is subscribed, tells of the outage before.
    fn report_confirmed(&mut self) {
        let feeds = self.shared.feeds();
        let (is_confirmed, is_empty) = (feeds.is_confirmed(), feeds.is_empty());
        drop(feeds);
        if !is_confirmed {
            return;
        }
        if std::mem::take(&mut self.had_outage) && !is_empty {
            self.local.gap(None, None);
        }
        self.shared.counts.subscribed.store(true, Ordering::Relaxed);
    }
}

/// Reads what a connection with subscriptions gets.
pub(super) fn pushed<'a>(reader: &mut Reader<'a>) -> Parsed<Pushed<'a>> {
    let elements = match reader.reply()? {
        Reply::Array(elements) => elements,
        // Without subscriptions a PING is answered as on other connections.
        Reply::Bulk(text) => return Ok(Pushed::Pong(text)),
        Reply::Simple(b"PONG") => return Ok(Pushed::Pong(b"")),
        Reply::Error(text) => return Ok(Pushed::Refused(text)),
        _ => return Err(NoReply::Garbage(Garbage::Unexpected)),
    };
    match (reader.bulk()?, elements) {
        (b"message", 3) => Ok(Pushed::Message { channel: reader.bulk()?, payload: reader.bulk()? }),
        (kind @ (b"subscribe" | b"unsubscribe"), 3) => {
            let channel = match reader.reply()? {
                Reply::Bulk(channel) => channel,
                Reply::Nil => b"",
                _ => return Err(NoReply::Garbage(Garbage::Unexpected)),
            };
            match reader.reply()? {
                Reply::Integer(_) if kind == b"subscribe" => Ok(Pushed::Subscribed { channel }),
                Reply::Integer(_) => Ok(Pushed::Unsubscribed),
                _ => Err(NoReply::Garbage(Garbage::Unexpected)),
            }
        }
        (b"pong", 2) => reader.bulk().map(Pushed::Pong),
        _ => Err(NoReply::Garbage(Garbage::Unexpected)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_subscribed_connection_gets_is_understood() {
        let read = |bytes: &'static [u8]| pushed(&mut Reader::new(bytes, 100));
        assert!(matches!(
            read(b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\np\r\n"),
            Ok(Pushed::Message { channel: b"c", payload: b"p" })
        ));
        assert!(matches!(
            read(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"),
            Ok(Pushed::Subscribed { channel: b"c" })
        ));
        assert!(matches!(read(b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"), Ok(Pushed::Unsubscribed)));
        assert!(matches!(read(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"), Ok(Pushed::Pong(_))));
        assert!(matches!(read(b"+PONG\r\n"), Ok(Pushed::Pong(_))));
        assert!(matches!(read(b"-NOPERM no\r\n"), Ok(Pushed::Refused(b"NOPERM no"))));
        for garbage in [
            &b":1\r\n"[..],
            b"*2\r\n$7\r\nmessage\r\n",
            b"*3\r\n:7\r\n",
            b"*3\r\n$8\r\npmessage\r\n",
            b"*3\r\n$7\r\nmessage\r\n$-1\r\n",
            b"*9\r\n$9\r\nsubscribe\r\n",
        ] {
            assert!(matches!(read(garbage), Err(NoReply::Garbage(_))), "{garbage:?}");
        }
    }
}
