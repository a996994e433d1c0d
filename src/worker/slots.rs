//! Connections by index, with a generation that tells an old name from a new one.

use std::hint::black_box;

use mio::Token;

/// Names one connection of a worker, and never another one that comes to use its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// Half of a token names the place; the other half the generation, but for its top bit.
const TOKEN_BITS: u32 = usize::BITS / 2;

/// The bit that no token of a key has: it marks those of a worker's guest.
pub(crate) const GUEST: usize = 1 << (usize::BITS - 1);

impl Key {
    /// The name under which the connection's socket is registered.
    pub(crate) fn token(self) -> Token {
        Token((self.index as usize | (self.generation as usize) << TOKEN_BITS) & !GUEST)
    }
}

fn index_of(token: Token) -> usize {
    token.0 & ((1 << TOKEN_BITS) - 1)
}

/// A table whose places are used again.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    places: Vec<Option<T>>,
    /// Of each place; apart, where they need no padding.
    generations: Vec<u32>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Slots<T> {
        Slots { places: Vec::new(), generations: Vec::new(), free: Vec::new(), len: 0 }
    }

    /// How many are in use.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Reserves a place and names it; `make` builds what it holds.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Key {
        self.len += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.generations.push(0);
            (self.places.len() - 1) as u32
        });
        let key = Key { index, generation: self.generations[index as usize] };
        self.places[index as usize] = Some(make(key));
        key
    }

    /// What `key` names, if it is still there.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let generation = *self.generations.get(key.index as usize)?;
        if generation == key.generation { self.places[key.index as usize].as_mut() } else { None }
    }

    /// The name that `token` stands for, if what it named is still there.
    pub(crate) fn key_of(&self, token: Token) -> Option<Key> {
        let key = self.key_at(index_of(token) as u32)?;
        (key.token() == token).then_some(key)
    }

    /// Looks at what `token` stands for, so that it is at hand: which index that is.
    pub(crate) fn fetch(&self, token: Token) -> usize {
        let index = index_of(token);
        black_box((self.generations.get(index).copied(), self.places.get(index).map(Option::is_some)));
        index
    }

    /// Takes out what `key` names; the name is never valid again.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let generation = self.generations.get_mut(key.index as usize)?;
        if *generation != key.generation {
            return None;
        }
        let value = self.places[key.index as usize].take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(key.index);
        self.len -= 1;
        Some(value)
    }

    /// How many places there are, used or not.
    pub(crate) fn places(&self) -> u32 {
        self.places.len() as u32
    }

    /// The name of what is at `index` now.
    pub(crate) fn key_at(&self, index: u32) -> Option<Key> {
        let generation = *self.generations.get(index as usize)?;
        self.places[index as usize].is_some().then_some(Key { index, generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_name_never_reaches_a_new_tenant() {
        let mut slots = Slots::new();
        let first = slots.insert_with(|_| "first");
        assert_eq!(slots.key_of(first.token()), Some(first));
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert_with(|_| "second");
        assert_eq!(second.index, first.index);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.key_of(first.token()), None);
        assert_eq!(slots.get_mut(second), Some(&mut "second"));
        assert_eq!((slots.len(), slots.places()), (1, 1));
    }

    #[test]
    fn no_name_is_taken_for_a_guests() {
        let mut slots = Slots::new();
        let mut key = slots.insert_with(|_| ());
        for generation in [0, 1, u32::MAX >> 1, u32::MAX] {
            slots.generations[0] = generation;
            key.generation = generation;
            assert_eq!(key.token().0 & GUEST, 0);
            assert_eq!(slots.key_of(key.token()), Some(key));
        }
    }
}
