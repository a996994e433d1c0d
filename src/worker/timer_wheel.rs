//! The timer wheel of a thread. It has at most one deadline for each connection, the next one.

use std::time::{Duration, Instant};

/// A tick is 32 ms. Larger makes deadlines less exact; smaller wakes the thread more often.
const TICK: Duration = Duration::from_millis(TICK_MILLIS);
const TICK_MILLIS: u64 = 32;

const BUCKETS: usize = 512;
const NONE: u32 = u32::MAX;

/// Time as a count of ticks since the wheel was made. It overflows after four years.
pub(crate) type Tick = u32;

/// A hashed timer wheel. Its lists are linked through a table with one entry for each connection, so that to schedule
/// and to cancel a deadline takes constant time, and no allocation.
#[derive(Debug)]
pub(crate) struct TimerWheel {
    epoch: Instant,
    /// The tick of the last [`advance`](TimerWheel::advance), and when the next tick begins.
    current: Tick,
    next: Instant,
    /// The tick up to which deadlines have expired.
    expired: Tick,
    /// No deadline is before this tick. The deadline that was in it may have been canceled. [`NONE`] if there is none.
    earliest: Tick,
    /// When the tick `earliest` is over.
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
    /// The tick of the deadline; [`NONE`] if none is scheduled.
    at: Tick,
}

impl TimerWheel {
    pub(crate) fn new(now: Instant) -> TimerWheel {
        let (heads, occupied) = ([NONE; BUCKETS], [0; BUCKETS / 64]);
        TimerWheel {
            epoch: now,
            current: 0,
            next: now + TICK,
            expired: 0,
            earliest: NONE,
            due: None,
            heads,
            occupied,
            links: Vec::new(),
        }
    }

    /// Returns the tick that contains `now`, which must not be earlier than in the last call. Costs less than
    /// [`tick`](TimerWheel::tick) if it is called several times in one tick.
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

    /// Returns the tick that contains `now`.
    pub(crate) fn tick(&self, now: Instant) -> Tick {
        let since = now.saturating_duration_since(self.epoch);
        ((since.as_secs() * 1000 + u64::from(since.subsec_millis())) / TICK_MILLIS) as Tick
    }

    /// Returns the tick in which a wait that begins `now` is over. A wait that is too long for the wheel ends with it.
    pub(crate) fn after(&self, now: Instant, wait: Duration) -> Tick {
        self.tick(now).saturating_add(TimerWheel::ticks(wait))
    }

    /// Returns the smallest number of ticks that is not shorter than `duration`.
    pub(crate) fn ticks(duration: Duration) -> Tick {
        let ticks = duration.as_nanos().div_ceil(TICK.as_nanos());
        Tick::try_from(ticks).unwrap_or(NONE / 2).min(NONE / 2)
    }

    /// Returns how long that many ticks take.
    pub(crate) fn duration(ticks: Tick) -> Duration {
        TICK.saturating_mul(ticks)
    }

    /// Sets the deadline of `index`, instead of the one that it has.
    #[inline(never)]
    pub(crate) fn schedule(&mut self, index: u32, at: Tick) {
        self.cancel(index);
        if self.links.len() <= index as usize {
            self.links.resize(index as usize + 1, Link { next: NONE, previous: NONE, at: NONE });
        }
        // The bucket of a tick that has expired is not visited before the wheel has gone around once.
        let at = at.clamp(self.expired + 1, NONE - 1);
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
        // A deadline expires at the end of its tick.
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

    /// Returns when the thread must wake; `None` if nothing is scheduled. It may wake for a deadline that was canceled,
    /// and for one that lies a whole round of the wheel or more ahead, once a round.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Returns the first tick that may have a deadline.
    fn first_occupied(&self) -> Option<Tick> {
        let start = bucket(self.expired + 1);
        (0..=BUCKETS / 64).find_map(|word| {
            let at = start / 64 + word;
            let mut bits = self.occupied[at % (BUCKETS / 64)];
            if word == 0 {
                bits &= u64::MAX << (start % 64);
            }
            (bits != 0).then(|| {
                let ahead = at * 64 + bits.trailing_zeros() as usize - start;
                self.expired + 1 + ahead as Tick
            })
        })
    }

    /// Removes every deadline that has passed in the tick `now`, and appends its index to `expired`.
    pub(crate) fn expire_until(&mut self, now: Tick, expired: &mut Vec<u32>) {
        if self.may_expire(now) {
            self.expire_through(now - 1, expired);
        }
    }

    /// Whether a tick has ended since the last [`expire_until`](TimerWheel::expire_until), so that deadlines may have
    /// passed.
    #[inline]
    pub(crate) fn may_expire(&self, now: Tick) -> bool {
        now > self.expired + 1
    }

    fn expire_through(&mut self, now: Tick, expired: &mut Vec<u32>) {
        let ticks = (now - self.expired).min(BUCKETS as u32);
        for tick in now - ticks + 1..=now {
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
        self.expired = now;
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
    fn a_canceled_deadline_wakes_the_thread_once_at_most() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start);
        wheel.schedule(1, 10);
        wheel.schedule(2, 300);
        wheel.cancel(1);
        let early = wheel.due().expect("one is scheduled");
        assert!(expired(&mut wheel, early).is_empty());
        assert_eq!(wheel.due(), Some(start + TICK * 301));
        wheel.cancel(2);
        assert!(expired(&mut wheel, start + TICK * 301).is_empty());
        assert_eq!(wheel.due(), None);
    }

    #[test]
    fn within_a_tick_time_is_not_converted_again() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start);
        for tick in [3, 4, 9] {
            assert_eq!(wheel.advance(start + TICK * tick + TICK / 2), tick);
            assert_eq!(wheel.next, start + TICK * (tick + 1));
        }
    }

    #[test]
    fn a_wait_that_is_too_long_for_the_wheel_does_not_overflow() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start);
        // After three years, of the four that the wheel counts.
        let now = start + Duration::from_secs(3 * 365 * 24 * 3600);
        assert_eq!(wheel.after(now, Duration::MAX), Tick::MAX);
        wheel.advance(now);
        let at = wheel.after(now, Duration::MAX);
        wheel.schedule(1, at);
        assert!(wheel.due().is_some_and(|due| due > now));
    }

    #[test]
    fn advance_returns_the_tick_that_contains_the_time() {
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
        assert!(expired(&mut wheel, start + Duration::from_millis(9_990)).is_empty());
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
