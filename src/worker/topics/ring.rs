//! A short ring of numbered messages: what some subscriber still lacks, and the history.

use std::collections::VecDeque;

use crate::config::topic_config::{TopicConfig, TopicLimit};

/// A ring that is empty keeps the memory for 64 messages. Larger keeps more for each topic; smaller allocates again for a
/// burst.
const MAX_KEPT: usize = 64;

/// Messages with successive numbers. The oldest are dropped as soon as neither the buffer of those that somebody lacks
/// nor the history has a place for them. Times are in milliseconds, and come from the caller.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    /// The number of the newest message; 0 before the first.
    last: u64,
    /// Everybody has the messages up to this number. `u64::MAX` while nobody is subscribed.
    seen: u64,
    entries: VecDeque<Entry<T>>,
    bytes: usize,
    /// The sizes of all messages that there ever were.
    pushed_bytes: u64,
    buffer: TopicLimit,
    keep: TopicLimit,
    /// The longest time that the history keeps a message.
    age: u64,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    size: usize,
    /// When it was pushed.
    at: u64,
}

impl<T> Ring<T> {
    pub(crate) fn new(config: &TopicConfig) -> Ring<T> {
        let nothing = TopicLimit { messages: 0, bytes: 0 };
        Ring {
            last: 0,
            seen: u64::MAX,
            entries: VecDeque::new(),
            bytes: 0,
            pushed_bytes: 0,
            buffer: config.buffer,
            keep: if config.keeps() { config.keep } else { nothing },
            age: u64::try_from(config.age.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// The number of the newest message; 0 before the first.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// The number of the oldest message that there is; that of the next one if there is none.
    pub(crate) fn oldest(&self) -> u64 {
        self.last + 1 - self.entries.len() as u64
    }

    /// The number of the oldest message that the history has, whatever somebody lacks; that of the next one if it has none.
    pub(crate) fn oldest_kept(&self, now: u64) -> u64 {
        let (mut messages, mut bytes) = (self.entries.len(), self.bytes);
        let has_no_place = |entry: &&Entry<T>| {
            let is_kept =
                now.saturating_sub(entry.at) < self.age && messages <= self.keep.messages && bytes <= self.keep.bytes;
            messages -= 1;
            bytes -= entry.size;
            !is_kept
        };
        self.oldest() + self.entries.iter().take_while(has_no_place).count() as u64
    }

    /// The number of messages that there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The sizes of the messages that there are, together.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The sizes of all messages that there ever were, together.
    pub(crate) fn pushed_bytes(&self) -> u64 {
        self.pushed_bytes
    }

    /// Gives a message the next number.
    pub(crate) fn push(&mut self, value: T, size: usize, now: u64) -> u64 {
        self.last += 1;
        self.bytes += size;
        self.pushed_bytes = self.pushed_bytes.wrapping_add(size as u64);
        self.entries.push_back(Entry { value, size, at: now });
        self.trim(now);
        self.last
    }

    /// The messages behind `after`, each with the time when it was pushed.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) fn behind(&self, after: u64) -> impl Iterator<Item = (&T, u64)> {
        self.entries.range(self.index_behind(after)..).map(|entry| (&entry.value, entry.at))
    }

    #[cfg(all(target_os = "linux", feature = "handover"))]
    fn index_behind(&self, after: u64) -> usize {
        (after.saturating_add(1).clamp(self.oldest(), self.last + 1) - self.oldest()) as usize
    }

    /// Changes the messages behind `after`.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) fn change_behind(&mut self, after: u64, change: impl FnMut(&mut T)) {
        let start = self.index_behind(after);
        self.entries.range_mut(start..).map(|entry| &mut entry.value).for_each(change);
    }

    /// Goes on behind the message with the number `last`, as the ring of another process, of which this one has what is before that or
    /// nothing.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) fn go_on_behind(&mut self, last: u64) {
        if last != self.last {
            self.entries.clear();
            (self.last, self.bytes) = (last, 0);
        }
    }

    /// Sets the sizes of all messages that there ever were, in another process too.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) fn set_pushed_bytes(&mut self, pushed_bytes: u64) {
        self.pushed_bytes = pushed_bytes;
    }

    /// Notes that every subscriber has the messages up to this number, or that nobody is subscribed if it is `u64::MAX`.
    pub(crate) fn set_seen(&mut self, seen: u64, now: u64) {
        self.seen = seen;
        self.trim(now);
    }

    /// The messages behind `after`, up to and with `upto`.
    pub(crate) fn between(&self, after: u64, upto: u64) -> impl Iterator<Item = &T> {
        let oldest = self.oldest();
        let start = (after.saturating_add(1)).max(oldest) - oldest;
        let end = (upto.min(self.last) + 1).max(oldest) - oldest;
        self.entries.range(start.min(end) as usize..end as usize).map(|entry| &entry.value)
    }

    /// Drops the oldest messages that have no place any more.
    pub(crate) fn trim(&mut self, now: u64) {
        while let Some(front) = self.entries.front() {
            let is_lacked = self.oldest() > self.seen;
            // The newest has a place, whatever its size.
            let is_buffered = is_lacked && (self.entries.len() == 1 || self.is_within(self.buffer));
            let is_kept = now.saturating_sub(front.at) < self.age && self.is_within(self.keep);
            if is_buffered || is_kept {
                break;
            }
            self.bytes -= front.size;
            self.entries.pop_front();
        }
        if self.entries.is_empty() && self.entries.capacity() > MAX_KEPT {
            self.entries = VecDeque::new();
        }
    }

    fn is_within(&self, limit: TopicLimit) -> bool {
        self.entries.len() <= limit.messages && self.bytes <= limit.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn numbers(ring: &Ring<u64>, after: u64, upto: u64) -> Vec<u64> {
        ring.between(after, upto).copied().collect()
    }

    #[test]
    fn what_everybody_has_is_freed_and_what_somebody_lacks_is_bounded() {
        let mut ring = Ring::new(&TopicConfig::default().buffer(3, 100));
        assert_eq!((ring.push(1, 10, 0), ring.len()), (1, 0), "nobody is subscribed");
        ring.set_seen(1, 0);
        (2..=4).for_each(|number| assert_eq!(ring.push(number, 10, 0), number));
        assert_eq!((numbers(&ring, 0, u64::MAX), ring.bytes()), (vec![2, 3, 4], 30));
        ring.push(5, 10, 0);
        assert_eq!((numbers(&ring, 0, u64::MAX), ring.oldest()), (vec![3, 4, 5], 3), "three at most");
        ring.push(6, 90, 0);
        assert_eq!((numbers(&ring, 0, u64::MAX), ring.bytes()), (vec![5, 6], 100), "100 bytes at most");
        ring.push(7, 1000, 0);
        assert_eq!(numbers(&ring, 0, u64::MAX), [7], "the newest has a place, whatever its size");
        ring.set_seen(7, 0);
        assert_eq!((ring.len(), ring.bytes(), ring.oldest(), ring.last()), (0, 0, 8, 7));
    }

    #[test]
    fn the_history_is_bounded_by_number_size_and_age() {
        let config = TopicConfig::default().keep(3, 100, Duration::from_millis(50));
        let mut ring = Ring::new(&config);
        (1..=5).for_each(|number| assert_eq!(ring.push(number, 10, number), number));
        assert_eq!(numbers(&ring, 0, u64::MAX), [3, 4, 5]);
        assert_eq!((numbers(&ring, 3, 4), numbers(&ring, 5, 9), numbers(&ring, 9, 9)), (vec![4], vec![], vec![]));
        ring.trim(53);
        assert_eq!(numbers(&ring, 0, u64::MAX), [4, 5], "the third is 50 ms old");
        ring.push(6, 95, 54);
        assert_eq!(numbers(&ring, 0, u64::MAX), [6]);
        ring.push(7, 101, 54);
        assert!(numbers(&ring, 0, u64::MAX).is_empty(), "larger than the history");
    }

    #[test]
    fn what_somebody_lacks_is_not_of_the_history() {
        let config = TopicConfig::default().keep(3, 100, Duration::from_millis(50));
        let mut ring = Ring::new(&config);
        assert_eq!(ring.oldest_kept(0), 1);
        ring.set_seen(0, 0);
        (1..=5).for_each(|number| assert_eq!(ring.push(number, 10, number), number));
        assert_eq!((ring.oldest(), ring.oldest_kept(5)), (1, 3), "three at most");
        assert_eq!((ring.oldest(), ring.oldest_kept(53), ring.oldest_kept(60)), (1, 4, 6), "50 ms old at most");
        ring.push(6, 85, 6);
        assert_eq!((ring.oldest(), ring.oldest_kept(6)), (1, 5), "100 bytes at most");
        let mut without = Ring::new(&TopicConfig::default());
        without.set_seen(0, 0);
        without.push(1, 10, 0);
        assert_eq!((without.oldest(), without.oldest_kept(0)), (1, 2));
    }

    proptest! {
        /// What is there is always the newest, without a hole; it is within one of the two bounds, and whatever is within
        /// them is there.
        #[test]
        fn the_ring_has_the_newest_that_have_a_place(
            buffer in 1..6_usize, keep in 0..6_usize, bytes in 0..200_usize, age in 0..40_u64,
            acts in proptest::collection::vec((0..3_u8, 0..60_usize, 0..20_u64), 1..60),
        ) {
            let config = TopicConfig::default().buffer(buffer, bytes).keep(keep, bytes, Duration::from_millis(age));
            let mut ring = Ring::new(&config);
            let (mut now, mut seen, mut all) = (0, u64::MAX, Vec::new());
            for (act, size, step) in acts {
                now += step;
                match act {
                    0 => {
                        seen = if step == 0 { u64::MAX } else { ring.last().saturating_sub(step / 4) };
                        ring.set_seen(seen, now);
                    }
                    _ => {
                        all.push((size, now));
                        prop_assert_eq!(ring.push(all.len() as u64, size, now), all.len() as u64);
                    }
                }
                let there = numbers(&ring, 0, u64::MAX);
                let first = ring.oldest();
                prop_assert_eq!(&there, &(first..=all.len() as u64).collect::<Vec<_>>());
                let sizes: usize = all[first as usize - 1..].iter().map(|(size, _)| size).sum();
                prop_assert_eq!(ring.bytes(), sizes);
                if let Some((_, at)) = all.get(first as usize - 1) {
                    let lacked = first > seen && (there.len() == 1 || (there.len() <= buffer && sizes <= bytes));
                    let kept = config.keeps() && there.len() <= keep && sizes <= bytes && now - at < age;
                    prop_assert!(lacked || kept);
                }
            }
        }
    }
}
