//! One timer wheel for a thread: each connection has at most one deadline in it, its next.

use std::time::{Duration, Instant};

/// How long a tick is. Deadlines are kept to a tick.
const TICK: Duration = Duration::from_millis(TICK_MILLIS);
const TICK_MILLIS: u64 = 32;

const BUCKETS: usize = 512;
const NONE: u32 = u32::MAX;

/// Time as a count of ticks since the wheel was made: four years fit.
pub(crate) type Tick = u32;

/// A hashed timer wheel whose lists run through a table indexed as the connections are: scheduling, rescheduling and
/// cancelling cost the same however many there are, and nothing is allocated for a deadline.
#[derive(Debug)]
pub(crate) struct TimerWheel {
    epoch: Instant,
    /// The tick that [`advance`](Deadlines::advance) has come to, and when the next one begins.
    current: Tick,
    next: Instant,
    /// The tick up to which deadlines were served.
    served: Tick,
    /// No deadline is before this tick, though one that was may be cancelled; [`NONE`] if there is none at all.
    earliest: Tick,
    /// When that tick is over.
    due: Option<Instant>,
    heads: [u32; BUCKETS],
    /// Which buckets have a deadline.
    occupied: [u64; BUCKETS / 64],
    links: Vec<Link>,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    next: u32,
    previous: u32,
    /// When; [`NONE`] where nothing is scheduled.
    at: Tick,
}

impl TimerWheel {
    pub(crate) fn new(now: Instant) -> TimerWheel {
        let (heads, occupied) = ([NONE; BUCKETS], [0; BUCKETS / 64]);
        TimerWheel {
            epoch: now,
            current: 0,
            next: now + TICK,
            served: 0,
            earliest: NONE,
            due: None,
            heads,
            occupied,
            links: Vec::new(),
        }
    }

    /// The tick that `now` lies in, for whoever asks more often than the time moves on, and never goes back.
    #[inline]
    pub(crate) fn advance(&mut self, now: Instant) -> Tick {
        if now >= self.next {
            self.enter_tick(now);
        }
        self.current
    }

    #[inline(never)]
    fn enter_tick(&mut self, now: Instant) {
        self.current = self.tick(now);
        self.next = self.epoch + TICK * (self.current + 1);
    }

    /// The tick that `now` lies in.
    pub(crate) fn tick(&self, now: Instant) -> Tick {
        let since = now.saturating_duration_since(self.epoch);
        ((since.as_secs() * 1000 + u64::from(since.subsec_millis())) / TICK_MILLIS) as Tick
    }

    /// How many ticks cover `duration`.
    pub(crate) fn ticks(duration: Duration) -> Tick {
        let ticks = duration.as_nanos().div_ceil(TICK.as_nanos());
        Tick::try_from(ticks).unwrap_or(NONE / 2).min(NONE / 2)
    }

    /// Sets the one deadline of `index`.
    #[inline(never)]
    pub(crate) fn schedule(&mut self, index: u32, at: Tick) {
        self.cancel(index);
        if self.links.len() <= index as usize {
            self.links.resize(index as usize + 1, Link { next: NONE, previous: NONE, at: NONE });
        }
        // A tick that was served is not looked at again before the wheel has turned.
        let at = at.clamp(self.served + 1, NONE - 1);
        let bucket = bucket(at);
        let next = std::mem::replace(&mut self.heads[bucket], index);
        self.links[index as usize] = Link { next, previous: NONE, at };
        if next != NONE {
            self.links[next as usize].previous = index;
        }
        self.occupied[bucket / 64] |= 1 << (bucket % 64);
        if at < self.earliest {
            self.expect(at);
        }
    }

    fn expect(&mut self, earliest: Tick) {
        self.earliest = earliest;
        // A deadline is over when its tick is.
        self.due = (earliest != NONE).then(|| self.epoch + TICK * (earliest + 1));
    }

    /// Removes the deadline of `index`, if it has one.
    #[inline(never)]
    pub(crate) fn cancel(&mut self, index: u32) {
        let Some(link) = self.links.get_mut(index as usize) else { return };
        let Link { next, previous, at } = std::mem::replace(link, Link { next: NONE, previous: NONE, at: NONE });
        if at == NONE {
            return;
        }
        if next != NONE {
            self.links[next as usize].previous = previous;
        }
        if previous != NONE {
            self.links[previous as usize].next = next;
            return;
        }
        let bucket = bucket(at);
        self.heads[bucket] = next;
        if next == NONE {
            self.occupied[bucket / 64] &= !(1 << (bucket % 64));
        }
    }

    /// Until when the thread may sleep; `None` if nothing is scheduled. It may be woken for a deadline that was cancelled,
    /// and for one of a later turn of the wheel, once per turn.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The first tick that may have a deadline.
    fn first_occupied(&self) -> Option<Tick> {
        let start = bucket(self.served + 1);
        (0..=BUCKETS / 64).find_map(|word| {
            let at = start / 64 + word;
            let mut bits = self.occupied[at % (BUCKETS / 64)];
            if word == 0 {
                bits &= u64::MAX << (start % 64);
            }
            (bits != 0).then(|| {
                let ahead = at * 64 + bits.trailing_zeros() as usize - start;
                self.served + 1 + ahead as Tick
            })
        })
    }

    /// Takes out every deadline that has passed in the tick `now` and hands its index to `expired`, which collects them.
    pub(crate) fn expire_until(&mut self, now: Tick, expired: &mut Vec<u32>) {
        if self.may_expire(now) {
            self.serve(now - 1, expired);
        }
    }

    /// Whether the time has moved on since [`expire`](Deadlines::expire) was asked last: a thread that works would ask more
    /// often than it does.
    #[inline]
    pub(crate) fn may_expire(&self, now: Tick) -> bool {
        now > self.served + 1
    }

    fn serve(&mut self, now: Tick, expired: &mut Vec<u32>) {
        let turns = (now - self.served).min(BUCKETS as u32);
        for tick in now - turns + 1..=now {
            let mut index = self.heads[bucket(tick)];
            while index != NONE {
                let Link { next, at, .. } = self.links[index as usize];
                if at <= now {
                    self.cancel(index);
                    expired.push(index);
                }
                index = next;
            }
        }
        self.served = now;
        if self.earliest <= now {
            self.expect(self.first_occupied().unwrap_or(NONE));
        }
    }
}

fn bucket(tick: Tick) -> usize {
    tick as usize % BUCKETS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expired(wheel: &mut TimerWheel, now: Instant) -> Vec<u32> {
        let mut indices = Vec::new();
        wheel.expire_until(wheel.tick(now), &mut indices);
        indices.sort_unstable();
        indices
    }

    #[test]
    fn one_that_was_cancelled_wakes_once_at_most() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start);
        wheel.schedule(1, 10);
        wheel.schedule(2, 300);
        wheel.cancel(1);
        let early = wheel.due().expect("one is scheduled");
        assert_eq!(expired(&mut wheel, early), []);
        assert_eq!(wheel.due(), Some(start + TICK * 301));
        wheel.cancel(2);
        assert_eq!(expired(&mut wheel, start + TICK * 301), []);
        assert_eq!(wheel.due(), None);
    }

    #[test]
    fn the_tick_that_was_come_to_is_the_one_that_the_time_lies_in() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start);
        for micros in (0..TICK_MILLIS * 5_000).step_by(500).chain([3_600_000_000, 90_000_000_000]) {
            let now = start + Duration::from_micros(micros);
            assert_eq!(wheel.advance(now), wheel.tick(now), "after {micros} us");
        }
    }

    #[test]
    fn a_deadline_passes_once_and_not_before_its_time() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start);
        assert_eq!(wheel.due(), None);
        let ten = TimerWheel::ticks(Duration::from_secs(10));
        wheel.schedule(3, ten);
        wheel.schedule(4, ten + 600);
        wheel.schedule(5, ten);
        wheel.cancel(5);
        assert_eq!(expired(&mut wheel, start + Duration::from_millis(9_990)), []);
        let due = wheel.due().expect("scheduled") - start;
        assert!(due < Duration::from_millis(10_090), "{due:?}");
        assert_eq!(expired(&mut wheel, start + Duration::from_millis(10_100)), [3]);
        assert_eq!(expired(&mut wheel, start + Duration::from_secs(60)), [4]);
        assert_eq!(wheel.due(), None);
    }

    proptest! {
        #[test]
        fn every_deadline_passes_in_its_tick(
            schedule in proptest::collection::vec((0_u32..20, 1_u32..3000), 1..60), step in 1_u32..700,
        ) {
            let start = Instant::now();
            let mut wheel = TimerWheel::new(start);
            let mut oracle = std::collections::BTreeMap::new();
            for (index, at) in schedule {
                wheel.schedule(index, at);
                oracle.insert(index, at);
            }
            let mut tick = 0;
            while !oracle.is_empty() {
                tick += step;
                let due: Vec<u32> = oracle.iter().filter(|(_, at)| **at < tick).map(|(index, _)| *index).collect();
                oracle.retain(|_, at| *at >= tick);
                prop_assert_eq!(expired(&mut wheel, start + TICK * tick), due);
            }
            prop_assert_eq!(wheel.due(), None);
        }
    }
}
