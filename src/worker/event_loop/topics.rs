//! Topics, the worker's part: what was published goes to the subscribers, in one write to each that keeps up. The others
//! cost nothing until their sockets have room.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::config::topic_config::Slow;
use crate::worker::connection::gaps::HeldMessage;
use crate::worker::connection::phase::Phase;
use crate::worker::connection::topics::Sweep;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::direct::{Frames, join};
use crate::worker::event_loop::drive::Driver;
use crate::worker::event_loop::worker::Worker;
use crate::worker::slab::Key;
use crate::worker::timer_wheel::TimerWheel;
use crate::worker::topics::registry::SHARDS;
use crate::worker::topics::topic::{Publication, Range, TopicState};

/// One of the 16 tables of topics is searched for old history every 64 ms, so each about once a second. Longer keeps what is
/// too old for longer; shorter wakes the worker more often.
const SWEEP_INTERVAL: Duration = Duration::from_millis(64);

/// Up to 64 KiB of a topic are written to a connection at a time, and no more before its socket has taken that. Larger keeps more
/// memory for each slow subscriber; smaller needs more writes.
const MAX_BATCH: usize = 64 << 10;

impl<D: Delivery> Worker<D> {
    /// Sends what was published to topics, and tells the application what happened to them.
    #[inline]
    pub(super) fn serve_topics(&mut self) {
        if self.context.topics.has_work() {
            self.serve_topics_now();
        }
    }

    #[inline(never)]
    fn serve_topics_now(&mut self) {
        let due = self.context.topics.take_due();
        for place in &due {
            self.serve_topic(*place);
        }
        self.context.topics.give_back_due(due);
        for key in std::mem::take(&mut self.context.topics.again) {
            self.drive(key, |driver, _| driver.catch_up());
        }
    }

    /// Sends the members of a topic what was published.
    fn serve_topic(&mut self, place: u32) {
        let Some((topic, sent, upto)) = self.context.topics.begin(place) else { return };
        let mut publications = std::mem::take(&mut self.context.topics.scratch);
        let range = topic.read(sent, upto, usize::MAX, &mut publications);
        let mut round = Round { place, topic, publications: &[], range, sent, upto: sent };
        let mut rest = &publications[..];
        loop {
            (round.publications, rest) = rest.split_at(batch(rest));
            round.upto = round.range.first - 1 + round.publications.len() as u64;
            self.serve_members(&round);
            if rest.is_empty() {
                break;
            }
            (round.sent, round.range.first) = (round.upto, round.upto + 1);
        }
        publications.clear();
        self.context.topics.scratch = publications;
    }

    fn serve_members(&mut self, round: &Round<'_>) {
        let Round { place, ref topic, publications, range, sent, upto } = *round;
        let has_lost = range.first > sent + 1;
        let frames = publications.iter().map(|publication| Some(&publication.frame));
        let joined = join(frames, self.context.config.max_write_buffer_size).filter(|_| !has_lost);
        let worker = self.context.handle.index;
        let excepted: Vec<Key> = publications
            .iter()
            .filter_map(|publication| publication.except)
            .filter_map(|(of, key)| (of == worker).then_some(key))
            .collect();
        let (mut index, mut delivered) = (0, 0);
        let (mut lowest, mut behind) = (upto, 0);
        while let Some(member) = self.context.topics.member(place, index) {
            let key = member.key;
            if member.cursor == sent
                && let Some(bytes) = joined.as_deref()
                && !excepted.contains(&key)
                && !self.context.topics.gaps.has_any(key.index)
                && self.try_write_direct(
                    key,
                    Frames { bytes, messages: publications.len() as u64, posted: 0, compressible: true },
                )
            {
                self.context.topics.set_cursor(place, index, key, upto);
                delivered += publications.len() as u64;
            } else if (sent..upto).contains(&member.cursor) {
                self.drive(key, |driver, _| driver.send_lacking(place, index, range, topic, publications));
            } else if topic.config.slow == Slow::Disconnect && member.cursor + 1 < range.oldest {
                self.drive(key, |driver, _| driver.disconnect_from(topic));
            }
            // If it has left, another has its place.
            if let Some(member) = self.context.topics.member(place, index).filter(|member| member.key == key) {
                lowest = lowest.min(member.cursor);
                behind += usize::from(member.cursor < upto);
                index += 1;
            }
        }
        if delivered > 0 {
            topic.delivered.fetch_add(delivered, Ordering::Relaxed);
        }
        self.context.topics.end(place, upto, lowest, behind);
    }

    /// Has the application be told that the members of a topic, or of all, have missed messages: behind what was published before,
    /// and before what was published later.
    pub(super) fn tell_gaps(&mut self, topic: Option<&Arc<TopicState>>, missed: u64) {
        self.send_to_many();
        if !self.context.topics.tells_gaps() {
            return;
        }
        let worker = self.context.handle.index;
        let places = match topic {
            Some(topic) => topic.place(worker).into_iter().collect(),
            None => self.context.topics.places(),
        };
        for place in places {
            let mut index = 0;
            while let Some(member) = self.context.topics.member(place, index) {
                let Some(local) = self.context.topics.at(place) else { break };
                let (topic, sent) = (local.topic.clone(), local.sent);
                self.drive(member.key, |driver, _| {
                    driver.active().tell_gap_behind(&topic, member.cursor, sent, missed);
                });
                index += 1;
            }
        }
    }

    /// Tells the application what happened to topics in this iteration.
    #[inline]
    pub(super) fn tell_topic_events(&mut self) {
        if let Some(observer) = &self.context.topics.observer {
            observer.dispatch();
        }
    }

    /// Begins to look for history that is too old.
    pub(super) fn begin_sweep(&mut self) {
        let at = self.context.tick + TimerWheel::ticks(SWEEP_INTERVAL);
        self.context.topics.sweep = Some(Sweep { at, shard: 0, without: 0 });
    }

    /// Looks for history that is too old, if it is time.
    #[inline]
    pub(super) fn sweep_topics(&mut self) {
        if self.context.topics.sweep.is_some_and(|sweep| sweep.at <= self.context.tick) {
            self.sweep_topics_now();
        }
    }

    #[inline(never)]
    fn sweep_topics_now(&mut self) {
        let (Some(sweep), Some(observer)) = (self.context.topics.sweep, &self.context.topics.observer) else { return };
        let topics = &observer.topics;
        let without = if topics.registry.sweep(sweep.shard, topics.millis()) { 0 } else { sweep.without + 1 };
        if without >= SHARDS && topics.registry.end_sweeping(topics.millis()) {
            self.context.topics.sweep = None;
            return;
        }
        let at = self.context.tick + TimerWheel::ticks(SWEEP_INTERVAL);
        self.context.topics.sweep = Some(Sweep { at, shard: (sweep.shard + 1) % SHARDS, without });
    }

    /// When the worker is to look for history that is too old.
    pub(super) fn sweep_due(&self) -> Option<Instant> {
        self.context.topics.sweep.map(|_| self.now + SWEEP_INTERVAL)
    }
}

/// What is sent to the members of a topic: the messages behind `sent`, up to `upto`.
struct Round<'a> {
    place: u32,
    topic: Arc<TopicState>,
    publications: &'a [Publication],
    range: Range,
    sent: u64,
    upto: u64,
}

/// How many of the messages are sent together: 64 KiB of frames, and one at least.
fn batch(publications: &[Publication]) -> usize {
    let mut size = 0;
    let fitting = publications.iter().take_while(|publication| {
        size += publication.frame.plain().len();
        size <= MAX_BATCH
    });
    fitting.count().max(1).min(publications.len())
}

impl<D: Delivery> Driver<'_, D> {
    /// Sends the connection, which is the member at `index` of the topic at `place`, those of the messages that it lacks. If
    /// its output has a backlog, it is left alone until that is written.
    fn send_lacking(
        &mut self,
        place: u32,
        index: usize,
        range: Range,
        topic: &Arc<TopicState>,
        publications: &[Publication],
    ) {
        let key = self.state.key;
        let Some(member) = self.context.topics.member(place, index).filter(|member| member.key == key) else { return };
        let mut cursor = member.cursor;
        if self.conn.holds_messages() {
            return self.context.topics.set_behind(key.index);
        }
        if !self.conn.can_send() {
            let upto = range.first - 1 + publications.len() as u64;
            return self.context.topics.set_cursor(place, index, key, upto);
        }
        if self.conn.endpoint.backlog() > 0 {
            return self.context.topics.set_behind(key.index);
        }
        if self.context.topics.gaps.has_untold(key.index) {
            // It goes on once the application was told.
            return;
        }
        if cursor + 1 < range.first {
            if topic.config.slow == Slow::Disconnect {
                return self.disconnect_from(topic);
            }
            self.active().note_missed(topic, range.first - 1 - cursor);
            cursor = range.first - 1;
            self.active().tell_gaps_up_to(topic, cursor);
        }
        let mut delivered = 0;
        let has_already = usize::try_from(cursor + 1 - range.first).unwrap_or(usize::MAX);
        for publication in publications.iter().skip(has_already) {
            if self.context.output.len() >= MAX_BATCH.min(self.context.config.max_write_buffer_size) {
                self.context.topics.set_cursor(place, index, key, cursor);
                self.flush(&[]);
                if self.conn.endpoint.backlog() > 0 || !self.conn.can_send() {
                    self.context.topics.set_behind(key.index);
                    break;
                }
            }
            let mut active = self.active();
            if !active.is_left_out_of(publication)
                && !active.hold_behind_gap(topic, publication)
                && active.send_shared(&publication.frame)
            {
                delivered += 1;
            }
            cursor += 1;
            active.tell_gaps_up_to(topic, cursor);
        }
        topic.delivered.fetch_add(delivered, Ordering::Relaxed);
        self.context.topics.set_cursor(place, index, key, cursor);
        self.flush(&[]);
    }

    /// Sends what follows a gap of which the application was told, and what the connection lacks since.
    pub(super) fn gap_told(&mut self) {
        let index = self.state.key.index;
        for HeldMessage { topic, frame } in self.context.topics.gaps.end(index) {
            if self.active().send_shared(&frame) {
                topic.delivered.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.catch_up();
    }

    /// Whether the connection may have subscriptions, or has none: false once the application was told of its end.
    #[inline]
    pub(super) fn receives_topics(&self) -> bool {
        let (index, topics) = (self.state.key.index, &self.context.topics);
        matches!(self.conn.phase, Phase::Open | Phase::Closing)
            || (topics.count(index) == 0 && !topics.gaps.has_any(index))
    }

    /// Closes the connection, which has missed messages of a topic that allows no gap.
    #[cold]
    fn disconnect_from(&mut self, topic: &TopicState) {
        topic.disconnected.fetch_add(1, Ordering::Relaxed);
        self.fail_slow_reader();
        self.flush(&[]);
    }

    /// Sends what the connection lacks of its topics, if its output was the reason, and is written.
    #[inline]
    pub(super) fn catch_up_if_behind(&mut self) {
        if self.conn.endpoint.backlog() == 0 && self.context.topics.take_behind(self.state.key.index) {
            self.catch_up();
        }
    }

    /// Sends what the connection lacks of its topics, as far as its socket takes it.
    #[inline(never)]
    fn catch_up(&mut self) {
        let mut publications = Vec::new();
        let mut number = 0;
        while let Some((place, index)) = self.context.topics.subscription(self.state.key.index, number) {
            number += 1;
            let (Some(member), Some(local)) = (self.context.topics.member(place, index), self.context.topics.at(place))
            else {
                continue;
            };
            let (topic, sent) = (local.topic.clone(), local.sent);
            if member.cursor >= sent {
                continue;
            }
            if self.context.topics.gaps.has_untold(self.state.key.index) {
                return;
            }
            if self.conn.endpoint.backlog() > 0 || self.conn.holds_messages() {
                return self.context.topics.set_behind(self.state.key.index);
            }
            let after = if topic.config.slow == Slow::Latest { sent - 1 } else { member.cursor };
            let range = topic.read(after, sent, MAX_BATCH, &mut publications);
            self.send_lacking(place, index, range, &topic, &publications);
            publications.clear();
            if self.conn.can_send() {
                // The same again, if it lacks more.
                number -= 1;
            }
        }
    }
}
