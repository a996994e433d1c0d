//! The thread that receives what other nodes append to the streams of topics, from where it stood.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::str;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::bridge::local::{LocalBatch, LocalTopics};
use crate::bridge::redis::link::{Link, LinkError, Waits, text_of};
use crate::bridge::redis::resp::{self, Garbage, NoReply, Parsed, Reader, Reply};
use crate::bridge::redis::retry::Retry;
use crate::bridge::redis::shared::{Lane, Shared};
use crate::bridge::stats::add;

/// A read takes at most 100 messages of each topic. More lets one topic hold up the others; fewer makes more reads.
const COUNT: &[u8] = b"100";

/// A read without messages ends after 1 s. It is ended early for a new topic, unless Redis does not let this user do so: then
/// longer would let the topic wait longer. Shorter makes more reads while nothing comes.
const BLOCK: &[u8] = b"1000";

/// Receives until the bridge is stopped.
pub(super) fn run(shared: &Shared, local: &LocalTopics, lane: &Lane, mut waits: Waits) {
    let mut retry = Retry::default();
    let mut subscriber =
        StreamReader { shared, local, lane, positions: HashMap::new(), too_large: HashSet::new(), progress: None };
    loop {
        let error = match Pair::connect(shared, lane, &mut waits) {
            Ok(mut pair) => {
                retry.connected(shared);
                let Err(error) = subscriber.receive(&mut pair, &mut waits);
                shared.counts.subscribed.store(false, Ordering::Relaxed);
                shared.topics.lose();
                error
            }
            Err(error) => error,
        };
        if !retry.pause(&error, shared, lane, &mut waits) {
            break;
        }
    }
}

/// A connection that waits in a read, and one that ends that wait.
struct Pair {
    reads: Link,
    control: Link,
    /// The command that ends the wait; nothing if Redis does not let this user do so.
    unblock: Vec<u8>,
}

impl Pair {
    fn connect(shared: &Shared, lane: &Lane, waits: &mut Waits) -> Result<Pair, LinkError> {
        let mut reads = shared.dialler.connect(waits, &lane.cancel)?;
        reads.send(b"*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n")?;
        let id = await_reply(&mut reads, waits, lane, |reader| match reader.reply()? {
            Reply::Integer(id) => Ok(Some(id)),
            // This user may not ask.
            Reply::Error(_) => Ok(None),
            _ => Err(NoReply::Garbage(Garbage::Unexpected)),
        })?;
        let mut unblock = Vec::new();
        if let Some(id) = id {
            resp::command(&mut unblock, &[b"CLIENT", b"UNBLOCK", id.to_string().as_bytes()]);
        }
        Ok(Pair { reads, control: shared.dialler.connect(waits, &lane.cancel)?, unblock })
    }

    /// Drops what Redis answers on the second connection: it only matters that something comes.
    fn drain_control(&mut self, waits: &Waits) -> Result<(), LinkError> {
        loop {
            while self.control.take(|reader| reader.reply().map(|_| ()))?.is_some() {}
            if !self.control.read(waits)? {
                break;
            }
        }
        self.control.ping_if_silent()?;
        self.control.flush()
    }
}

/// Waits for a reply.
fn await_reply<T>(
    link: &mut Link,
    waits: &mut Waits,
    lane: &Lane,
    parse: impl Fn(&mut Reader<'_>) -> Parsed<T>,
) -> Result<T, LinkError> {
    loop {
        if lane.is_stopped() {
            return Err(LinkError::Stopped);
        }
        if let Some(parsed) = link.take(|reader| parse(reader))? {
            return Ok(parsed);
        }
        if !link.read(waits)? {
            link.flush()?;
            link.wait(waits, None)?;
        }
    }
}

struct StreamReader<'a> {
    shared: &'a Shared,
    local: &'a LocalTopics,
    lane: &'a Lane,
    /// The id of the last entry that was read, of each topic.
    positions: HashMap<Arc<str>, String>,
    /// The topics whose last entries are too large to be read. The next connection does not look at these.
    too_large: HashSet<Arc<str>>,
    /// How far the reply to a read has come.
    progress: Option<Progress>,
}

/// What is still to come of a reply.
#[derive(Debug, Default)]
struct Progress {
    streams: u64,
    entries: u64,
    topic: Option<Arc<str>>,
    /// The entry whose fields are to come, and how many.
    entry: Option<(String, u64)>,
}

impl StreamReader<'_> {
    fn receive(&mut self, pair: &mut Pair, waits: &mut Waits) -> Result<Infallible, LinkError> {
        self.progress = None;
        let mut feeds = self.shared.feeds();
        let wanted = self.shared.topics.all();
        feeds.begin(&wanted);
        drop(feeds);
        self.positions.retain(|topic, _| wanted.contains(topic));
        self.find_positions(&wanted, pair, waits)?;
        self.too_large.clear();
        self.shared.counts.subscribed.store(true, Ordering::Relaxed);
        loop {
            if self.lane.is_stopped() {
                return Err(LinkError::Stopped);
            }
            self.apply_changes(pair, waits)?;
            pair.drain_control(waits)?;
            if self.positions.is_empty() {
                pair.reads.ping_if_silent()?;
                while pair.reads.read(waits)? {
                    while pair.reads.take(|reader| reader.reply().map(|_| ()))?.is_some() {}
                }
                pair.reads.wait(waits, None)?;
                continue;
            }
            self.request(&mut pair.reads)?;
            self.await_entries(pair, waits)?;
        }
    }

    fn apply_changes(&mut self, pair: &mut Pair, waits: &mut Waits) -> Result<(), LinkError> {
        let mut added = Vec::new();
        let mut feeds = self.shared.feeds();
        for change in self.shared.topics.take_changes() {
            if !feeds.change(&change) {
                continue;
            }
            self.positions.remove(&change.topic);
            if change.wanted {
                added.push(change.topic);
            }
        }
        drop(feeds);
        self.find_positions(&added, pair, waits)
    }

    /// Has the topics begin where their streams end, unless they were read before.
    fn find_positions(&mut self, topics: &[Arc<str>], pair: &mut Pair, waits: &mut Waits) -> Result<(), LinkError> {
        let is_known = |topic: &&Arc<str>| self.too_large.contains(*topic) && self.positions.contains_key(*topic);
        let (known, asked): (Vec<_>, Vec<_>) = topics.iter().partition(is_known);
        known.into_iter().for_each(|topic| self.begin(topic, None));
        for some in asked.chunks(MAX_COMMANDS) {
            let mut bytes = Vec::new();
            for topic in some {
                resp::command(
                    &mut bytes,
                    &[b"XREVRANGE", self.shared.channel(topic).as_bytes(), b"+", b"-", b"COUNT", b"1"],
                );
            }
            pair.reads.send(&bytes)?;
            for topic in some {
                match await_reply(&mut pair.reads, waits, self.lane, last_entry)? {
                    Ok(None) => self.begin(topic, Some(BEGINNING)),
                    Ok(Some((id, fields))) => {
                        self.begin(topic, Some(&id));
                        let read =
                            await_reply(&mut pair.reads, waits, self.lane, |reader| payload(reader, fields).map(drop));
                        if let Err(LinkError::Garbage(Garbage::LongBulk { .. })) = read {
                            self.too_large.insert((*topic).clone());
                        }
                        read?;
                    }
                    Err(text) if text.starts_with("WRONGTYPE") => {
                        self.positions.remove(*topic);
                        self.shared.feeds().confirm(topic);
                        add(&self.shared.counts.garbage, 1);
                        log::warn!("{} has no stream for the topic {topic:?}: {text}", self.shared.dialler.target);
                    }
                    Err(text) => return Err(LinkError::Refused(text)),
                }
            }
        }
        Ok(())
    }

    /// Has a topic begin behind the last entry of its stream, unless it was read before, as it was if that entry is not known.
    fn begin(&mut self, topic: &Arc<str>, last: Option<&str>) {
        let mut feeds = self.shared.feeds();
        let begin =
            || feeds.position(topic).or_else(|| last.map(str::to_owned)).unwrap_or_else(|| BEGINNING.to_owned());
        let position = self.positions.entry(topic.clone()).or_insert_with(begin);
        if last.is_some_and(|last| order(position) > order(last)) {
            // The stream was made anew, with a clock that is behind. What comes twice is dropped.
            BEGINNING.clone_into(position);
        }
        #[cfg(all(target_os = "linux", feature = "handover"))]
        feeds.begin_at(topic, position);
        feeds.confirm(topic);
    }

    /// Asks for what follows the positions.
    fn request(&mut self, link: &mut Link) -> Result<(), LinkError> {
        #[cfg(all(target_os = "linux", feature = "handover"))]
        for (topic, position) in self.shared.feeds().take_rewinds() {
            if let Some(known) = self.positions.get_mut(&topic) {
                *known = position;
            }
        }
        let mut bytes = Vec::new();
        resp::begin_command(&mut bytes, 6 + 2 * self.positions.len());
        for word in [&b"XREAD"[..], b"COUNT", COUNT, b"BLOCK", BLOCK, b"STREAMS"] {
            resp::bulk(&mut bytes, word);
        }
        for topic in self.positions.keys() {
            resp::bulk(&mut bytes, self.shared.channel(topic).as_bytes());
        }
        for id in self.positions.values() {
            resp::bulk(&mut bytes, id.as_bytes());
        }
        link.send(&bytes)
    }

    /// Whether there is something else to ask for than before.
    fn has_other_topics(&self) -> bool {
        #[cfg(all(target_os = "linux", feature = "handover"))]
        if self.shared.feeds().has_rewinds() {
            return true;
        }
        self.shared.topics.has_changes()
    }

    /// Waits for the reply, and delivers it as it arrives.
    fn await_entries(&mut self, pair: &mut Pair, waits: &mut Waits) -> Result<(), LinkError> {
        let mut unblocked = false;
        loop {
            if self.lane.is_stopped() {
                return Err(LinkError::Stopped);
            }
            if self.deliver(&mut pair.reads)? {
                return Ok(());
            }
            if !pair.reads.read(waits)? {
                if !unblocked && self.has_other_topics() {
                    unblocked = true;
                    pair.control.send(&pair.unblock)?;
                }
                pair.drain_control(waits)?;
                pair.reads.flush()?;
                pair.reads.wait(waits, None)?;
            }
        }
    }

    /// Delivers what has arrived. `true` once the reply is complete.
    fn deliver(&mut self, link: &mut Link) -> Result<bool, LinkError> {
        let local = self.local;
        let mut batch = local.batch();
        let result = loop {
            match self.step(link, &mut batch) {
                Ok(Step::More) => {}
                Ok(Step::Incomplete) => break Ok(false),
                Ok(Step::Done) => break Ok(true),
                Err(error) => break Err(error),
            }
        };
        drop(batch);
        self.shared.feeds().count();
        result
    }

    /// Takes the next part of a reply that belongs together.
    fn step(&mut self, link: &mut Link, batch: &mut LocalBatch<'_>) -> Result<Step, LinkError> {
        let Some(progress) = &mut self.progress else {
            return match link.take(reply_head)? {
                None => Ok(Step::Incomplete),
                Some(Ok(0)) => Ok(Step::Done),
                Some(Ok(streams)) => {
                    self.progress = Some(Progress { streams, ..Progress::default() });
                    Ok(Step::More)
                }
                Some(Err(text)) => Err(LinkError::Refused(text)),
            };
        };
        if let Some((id, fields)) = &progress.entry {
            let topic = progress.topic.clone().unwrap_or_default();
            let shared = self.shared;
            let taken = link.take(|reader| payload(reader, *fields));
            if let Ok(None) = taken {
                return Ok(Step::Incomplete);
            }
            // Also if it is too large: it would come again and again.
            if let Some(position) = self.positions.get_mut(&topic) {
                position.clone_from(id);
            }
            match taken? {
                Some(Some(bytes)) => shared.feeds().receive(&topic, bytes, Some(id), batch),
                _ => add(&shared.counts.garbage, 1),
            }
            progress.entry = None;
            return Ok(Step::More);
        }
        if progress.entries > 0 {
            let Some(entry) = link.take(entry_head)? else { return Ok(Step::Incomplete) };
            progress.entries -= 1;
            progress.entry = Some(entry);
        } else if progress.streams > 0 {
            let shared = self.shared;
            let Some((topic, entries)) = link.take(|reader| {
                let (key, entries) = stream_head(reader)?;
                Ok((shared.topic(key).map(Arc::from), entries))
            })?
            else {
                return Ok(Step::Incomplete);
            };
            progress.streams -= 1;
            progress.entries = entries;
            progress.topic = topic;
        } else {
            self.progress = None;
            return Ok(Step::Done);
        }
        Ok(Step::More)
    }
}

/// A pipeline asks for the ends of at most 500 streams. More would keep Redis from others for longer; fewer would make more
/// round trips after a reconnect.
const MAX_COMMANDS: usize = 500;

enum Step {
    More,
    Incomplete,
    Done,
}

const UNEXPECTED: NoReply = NoReply::Garbage(Garbage::Unexpected);

/// Reads the head of the last entry from a reply with at most one entry, or the text of an error.
fn last_entry(reader: &mut Reader<'_>) -> Parsed<Result<Option<(String, u64)>, String>> {
    match reader.reply()? {
        Reply::Array(0) => Ok(Ok(None)),
        Reply::Array(1) => entry_head(reader).map(|head| Ok(Some(head))),
        Reply::Error(text) => Ok(Err(text_of(text))),
        _ => Err(UNEXPECTED),
    }
}

/// Reads how many streams follow, or the text of an error.
fn reply_head(reader: &mut Reader<'_>) -> Parsed<Result<u64, String>> {
    match reader.reply()? {
        Reply::Nil => Ok(Ok(0)),
        Reply::Array(streams) => Ok(Ok(streams)),
        Reply::Error(text) => Ok(Err(text_of(text))),
        _ => Err(UNEXPECTED),
    }
}

/// Reads a stream's key, and how many entries follow.
fn stream_head<'a>(reader: &mut Reader<'a>) -> Parsed<(&'a [u8], u64)> {
    reader.array_of(2)?;
    let key = reader.bulk()?;
    match reader.reply()? {
        Reply::Array(entries) => Ok((key, entries)),
        _ => Err(UNEXPECTED),
    }
}

/// Reads an entry's id, and how many names and values follow.
fn entry_head(reader: &mut Reader<'_>) -> Parsed<(String, u64)> {
    reader.array_of(2)?;
    let id = reader.bulk()?;
    let is_id = id.len() <= MAX_ID && id.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-');
    match (str::from_utf8(id), reader.reply()?) {
        (Ok(id), Reply::Array(fields)) if is_id => Ok((id.to_owned(), fields)),
        _ => Err(UNEXPECTED),
    }
}

/// Before the first entry of any stream.
const BEGINNING: &str = "0-0";

/// What the order of entries goes by: time and number.
fn order(id: &str) -> (u64, u64) {
    let (time, number) = id.split_once('-').unwrap_or((id, ""));
    (time.parse().unwrap_or(0), number.parse().unwrap_or(0))
}

/// Two numbers of 20 digits, and a hyphen.
const MAX_ID: usize = 41;

/// Reads the fields of an entry. `None` if they are not those of a bridge.
fn payload<'a>(reader: &mut Reader<'a>, fields: u64) -> Parsed<Option<&'a [u8]>> {
    let mut last = None;
    for index in 0..fields {
        let bytes = reader.bulk()?;
        last = (fields == 2 && index == 1).then_some(bytes);
    }
    Ok(last)
}

/// The entries of a reply to a read, as far as it goes.
#[cfg(fuzzing)]
pub(super) fn fuzz(reader: &mut Reader<'_>) {
    let mut entries = || -> Parsed<()> {
        let Ok(streams) = reply_head(reader)? else { return Ok(()) };
        for _ in 0..streams {
            let (_, entries) = stream_head(reader)?;
            for _ in 0..entries {
                let (id, fields) = entry_head(reader)?;
                let _ = order(&id);
                if let Some(bytes) = payload(reader, fields)? {
                    let _ = crate::bridge::envelope::Envelope::decode(bytes);
                }
            }
        }
        Ok(())
    };
    let _ = entries();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ordered_as_numbers() {
        let ids = [BEGINNING, "0-1", "9-0", "9-10", "10-2", "18446744073709551615-0"];
        assert!(ids.is_sorted_by_key(|id| order(id)));
        assert_eq!(order("no id"), order(BEGINNING));
    }

    #[test]
    fn replies_to_reads_are_read_in_parts() {
        let bytes = b"*1\r\n*2\r\n$1\r\nk\r\n*1\r\n*2\r\n$3\r\n7-1\r\n*2\r\n$1\r\nm\r\n$2\r\nhi\r\n";
        let mut reader = Reader::new(bytes, 100);
        assert_eq!(reply_head(&mut reader), Ok(Ok(1)));
        assert_eq!(stream_head(&mut reader), Ok((&b"k"[..], 1)));
        assert_eq!(entry_head(&mut reader), Ok(("7-1".to_owned(), 2)));
        assert_eq!(payload(&mut reader, 2), Ok(Some(&b"hi"[..])));
        assert_eq!(reader.position(), bytes.len());
        let read = |bytes: &'static [u8]| Reader::new(bytes, 100);
        assert_eq!(reply_head(&mut read(b"*-1\r\n")), Ok(Ok(0)));
        assert_eq!(reply_head(&mut read(b"-LOADING x\r\n")), Ok(Err("LOADING x".to_owned())));
        assert_eq!(last_entry(&mut read(b"*0\r\n")), Ok(Ok(None)));
        assert_eq!(
            payload(&mut read(b"$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n"), 4),
            Ok(None),
            "of another program"
        );
        assert_eq!(entry_head(&mut read(b"*2\r\n$3\r\n7 1\r\n*2\r\n")), Err(UNEXPECTED));
        assert_eq!(stream_head(&mut read(b"*3\r\n")), Err(UNEXPECTED));
    }
}
