//! When the turn of each connection comes to be closed, while a server drains. Times and the seed of the random numbers are
//! arguments.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use crate::worker::slab::Key;

/// Turns are at multiples of 10 ms after the beginning. Longer closes more connections at once; shorter wakes the worker more
/// often.
const STEP: Duration = Duration::from_millis(10);

/// When each connection is closed.
#[derive(Debug)]
pub(super) struct DrainPlan {
    begun: Instant,
    last_turn: Instant,
    turns: BinaryHeap<Reverse<Turn>>,
    random: Random,
}

/// The turn of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    at: Instant,
    index: u32,
    generation: u32,
    /// What the application must have come to before.
    unseen: Option<u64>,
}

impl DrainPlan {
    /// A plan without connections, for the time from `begun` to `last_turn`.
    pub(super) fn new(begun: Instant, last_turn: Instant, seed: u64) -> DrainPlan {
        DrainPlan { begun, last_turn, turns: BinaryHeap::new(), random: Random(seed) }
    }

    /// Gives each of these connections a turn, in their order: the time is divided evenly among them, and the turn of each is
    /// at a random time in its part.
    pub(super) fn spread(&mut self, keys: &[Key], now: Instant) {
        let left = self.last_turn.saturating_duration_since(now);
        for (place, key) in keys.iter().enumerate() {
            let share = (place as f64 + self.random.fraction()) / keys.len() as f64;
            self.set(*key, now + left.mul_f64(share), None);
        }
    }

    /// Gives a connection a turn at a random time that is left.
    pub(super) fn add(&mut self, key: Key, now: Instant) -> Instant {
        let left = self.last_turn.saturating_duration_since(now);
        let at = now + left.mul_f64(self.random.fraction());
        self.set(key, at, None)
    }

    /// Gives a connection whose turn has come another one, for it is busy; `false` if no time is left.
    pub(super) fn postpone(&mut self, key: Key, now: Instant) -> bool {
        let is_possible = now + STEP <= self.last_turn;
        if is_possible {
            self.add(key, now + STEP);
        }
        is_possible
    }

    /// As [`postpone`](DrainPlan::postpone), until the application has come to the events up to this mark: the next turn comes
    /// soon.
    pub(super) fn await_application(&mut self, key: Key, now: Instant, unseen: u64) -> bool {
        let is_possible = now + STEP <= self.last_turn;
        if is_possible {
            self.set(key, now + STEP, Some(unseen));
        }
        is_possible
    }

    fn set(&mut self, key: Key, at: Instant, unseen: Option<u64>) -> Instant {
        let steps = at.saturating_duration_since(self.begun).as_nanos() / STEP.as_nanos();
        let at = self.begun + STEP.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX));
        self.turns.push(Reverse(Turn { at, index: key.index, generation: key.generation, unseen }));
        at
    }

    /// The turns that have been given, in no order.
    pub(super) fn turns(&self) -> impl Iterator<Item = (Key, Instant)> {
        self.turns.iter().map(|Reverse(turn)| (turn.key(), turn.at))
    }

    /// Whether a turn has come.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due().is_some_and(|due| due <= now)
    }

    /// When the next turn comes.
    pub(super) fn due(&self) -> Option<Instant> {
        self.turns.peek().map(|Reverse(turn)| turn.at)
    }

    /// Takes a connection whose turn has come, and what the application was to come to before.
    pub(super) fn take(&mut self, now: Instant) -> Option<(Key, Option<u64>)> {
        let turn = self.turns.peek().filter(|Reverse(turn)| turn.at <= now)?.0;
        self.turns.pop();
        Some((turn.key(), turn.unseen))
    }
}

impl Turn {
    fn key(&self) -> Key {
        Key { index: self.index, generation: self.generation }
    }
}

/// Random numbers of one seed (SplitMix64). They spread turns, and keep no secret.
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// A number from 0 to below 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ mixed >> 31) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> Key {
        Key { index, generation: 1 }
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// Takes all turns, one step after the other: when each came, and whose it was.
    fn run(plan: &mut DrainPlan, begun: Instant) -> Vec<(Duration, u32)> {
        let mut taken = Vec::new();
        while let Some(due) = plan.due() {
            assert!(!plan.is_due(due - Duration::from_nanos(1)) && plan.is_due(due));
            while let Some((key, unseen)) = plan.take(due) {
                assert_eq!(unseen, None);
                taken.push((due - begun, key.index));
            }
        }
        taken
    }

    #[test]
    fn turns_keep_the_order_and_are_spread_evenly_and_not_regularly() {
        let begun = Instant::now();
        let keys: Vec<_> = (0..1_000).map(|number| key(number * 7 % 1_000)).collect();
        for seed in 0..20 {
            let mut plan = DrainPlan::new(begun, begun + 100 * SECOND, seed);
            plan.spread(&keys, begun);
            let taken = run(&mut plan, begun);
            let order: Vec<_> = taken.iter().map(|(_, index)| *index).collect();
            assert_eq!(order, keys.iter().map(|key| key.index).collect::<Vec<_>>());
            for (place, (at, _)) in taken.iter().enumerate() {
                let part = Duration::from_millis(100) * place as u32;
                assert!((part..part + Duration::from_millis(100)).contains(at), "{place} at {at:?}");
            }
            let waits: std::collections::HashSet<_> = taken.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
            assert!(waits.len() > 10, "{waits:?}");
        }
    }

    #[test]
    fn many_turns_share_the_steps() {
        let begun = Instant::now();
        let keys: Vec<_> = (0..10_000).map(key).collect();
        let mut plan = DrainPlan::new(begun, begun + SECOND, 7);
        plan.spread(&keys, begun);
        let mut at_once = std::collections::BTreeMap::<_, usize>::new();
        for (at, _) in run(&mut plan, begun) {
            *at_once.entry(at).or_default() += 1;
        }
        assert_eq!(at_once.len(), 100);
        assert!(at_once.values().all(|count| (99..=101).contains(count)), "{at_once:?}");
    }

    #[test]
    fn a_busy_connection_is_put_off_and_not_beyond_the_last_turn() {
        let begun = Instant::now();
        for seed in 0..100 {
            let mut plan = DrainPlan::new(begun, begun + 10 * SECOND, seed);
            plan.spread(&[key(3)], begun);
            let mut now = begun;
            let mut count = 0;
            while let Some(due) = plan.due() {
                assert!(due >= now, "it does not come back at once");
                now = due;
                assert_eq!(plan.take(now), Some((key(3), None)));
                assert!(!plan.is_due(now));
                count += usize::from(plan.postpone(key(3), now));
            }
            assert!(now - begun <= 10 * SECOND && now - begun > 9 * SECOND, "{:?}", now - begun);
            assert!((1..30).contains(&count), "{count}");
        }
    }

    #[test]
    fn the_application_is_looked_at_again_soon() {
        let begun = Instant::now();
        let mut plan = DrainPlan::new(begun, begun + SECOND, 7);
        assert!(plan.await_application(key(1), begun, 42));
        assert_eq!(plan.due(), Some(begun + STEP));
        assert_eq!(plan.take(begun + STEP), Some((key(1), Some(42))));
        assert!(!plan.await_application(key(1), begun + SECOND, 42), "no time is left");
        assert_eq!(plan.due(), None);
    }

    #[test]
    fn without_time_all_turns_come_at_once() {
        let begun = Instant::now();
        let mut plan = DrainPlan::new(begun, begun, 7);
        plan.spread(&[key(1), key(2)], begun + SECOND);
        plan.add(key(3), begun + SECOND);
        assert!(!plan.postpone(key(4), begun + SECOND));
        let mut taken: Vec<_> = std::iter::from_fn(|| plan.take(begun + SECOND)).map(|(key, _)| key.index).collect();
        taken.sort_unstable();
        assert_eq!(taken, [1, 2, 3]);
    }
}
