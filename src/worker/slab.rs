//! A table whose places are used again, and keys with a generation that tells an old value from a new one.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use mio::Token;

/// Names one connection of a worker, and never a later one at the same index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// Hashes [`Key`]s, indices and tokens. The worker allocates them, so nobody can choose them to collide, and the standard
/// library's protection against that would be most of what sorting commands costs.
#[derive(Debug, Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, half: u32) {
        // Fibonacci hashing: the multiplier is 2^64 divided by the golden ratio, which spreads the product's upper bits.
        self.0 = (self.0.rotate_left(32) ^ u64::from(half)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_usize(&mut self, token: usize) {
        self.write_u32(token as u32);
        self.write_u32((token as u64 >> 32) as u32);
    }

    fn finish(&self) -> u64 {
        // A `HashMap` takes the bucket from the lower bits and the tag from the upper ones.
        self.0 ^ self.0 >> 32
    }
}

/// A map from keys, indices or tokens.
pub(crate) type KeyMap<N, V> = HashMap<N, V, BuildHasherDefault<KeyHasher>>;

/// The lower half of a token is the index; the upper half the generation, without its top bit.
const TOKEN_BITS: u32 = usize::BITS / 2;

/// No token of a key has this bit. Tokens with it are those of wakers, listeners, and other sources.
pub(crate) const RESERVED: usize = 1 << (usize::BITS - 1);

impl Key {
    /// The token under which the connection's stream is registered.
    pub(crate) fn token(self) -> Token {
        Token((self.index as usize | (self.generation as usize) << TOKEN_BITS) & !RESERVED)
    }
}

fn index_of(token: Token) -> usize {
    token.0 & ((1 << TOKEN_BITS) - 1)
}

/// Allocates the keys of a thread's connections, from their accept to their end.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// Of each index.
    generations: Vec<u32>,
    free: Vec<u32>,
}

impl Keys {
    /// A key that is not in use, and is in use until it is [released](Keys::release_key).
    pub(crate) fn allocate_key(&mut self) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.generations.push(0);
            (self.generations.len() - 1) as u32
        });
        Key { index, generation: self.generations[index as usize] }
    }

    /// Ends the use of a key, which is never valid again.
    pub(crate) fn release_key(&mut self, key: Key) {
        if let Some(generation) = self.generations.get_mut(key.index as usize)
            && *generation == key.generation
        {
            *generation = generation.wrapping_add(1);
            self.free.push(key.index);
        }
    }

    /// The key of `index` now.
    fn at(&self, index: u32) -> Option<Key> {
        self.generations.get(index as usize).map(|generation| Key { index, generation: *generation })
    }
}

/// A table whose places are used again.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Option<T>>,
    /// Apart from the places, where their generations need no padding. Some keys may have no place yet.
    pub(crate) keys: Keys,
    len: usize,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Slab<T> {
        Slab { places: Vec::new(), keys: Keys::default(), len: 0 }
    }

    /// How many places are in use.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Fills the place of a key that was allocated.
    pub(crate) fn insert(&mut self, key: Key, value: T) {
        if self.places.len() <= key.index as usize {
            self.places.resize_with(key.index as usize + 1, || None);
        }
        self.len += 1;
        self.places[key.index as usize] = Some(value);
    }

    /// Fills a place, and returns its key.
    pub(crate) fn add(&mut self, value: T) -> Key {
        let key = self.keys.allocate_key();
        self.insert(key, value);
        key
    }

    /// The value that `key` names, if it is still there.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.places.get_mut(key.index as usize)?;
        if self.keys.generations[key.index as usize] == key.generation { place.as_mut() } else { None }
    }

    /// The key of `token`, if its value is still there.
    pub(crate) fn key_of(&self, token: Token) -> Option<Key> {
        let key = self.key_at(index_of(token) as u32)?;
        (key.token() == token).then_some(key)
    }

    /// Removes the value that `key` names. The key is never valid again.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        if self.keys.at(key.index)? != key {
            return None;
        }
        let value = self.places.get_mut(key.index as usize)?.take()?;
        self.keys.release_key(key);
        self.len -= 1;
        Some(value)
    }

    /// How many places there are, used or not.
    pub(crate) fn places(&self) -> u32 {
        self.places.len() as u32
    }

    /// The key of the value at `index`, if there is one.
    pub(crate) fn key_at(&self, index: u32) -> Option<Key> {
        self.places.get(index as usize)?.as_ref()?;
        self.keys.at(index)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher, BuildHasherDefault};

    use super::*;

    #[test]
    fn the_hashes_of_neighbours_are_spread() {
        let hash = |index, generation| BuildHasherDefault::<KeyHasher>::default().hash_one(Key { index, generation });
        let hash_token =
            |index, generation| BuildHasherDefault::<KeyHasher>::default().hash_one(Key { index, generation }.token());
        for keys in [
            (0..4096).map(|n| hash(n, 0)).collect::<Vec<_>>(),
            (0..4096).map(|n| hash(5, n)).collect(),
            (0..4096).map(|n| hash_token(n, 0)).collect(),
            (0..4096).map(|n| hash_token(5, n)).collect(),
        ] {
            let differing = |part: fn(&u64) -> u64| keys.iter().map(part).collect::<HashSet<_>>().len();
            // What a table of 8,192 buckets looks at: chance alone would fill 3,225 of them.
            assert!(differing(|hash| hash & 0x1FFF) > 2500);
            assert_eq!(differing(|hash| hash >> 57), 128);
        }
    }

    #[test]
    fn a_key_may_be_allocated_before_its_place_is_filled_and_released_without() {
        let mut slots = Slab::new();
        let [first, second] = [slots.keys.allocate_key(), slots.keys.allocate_key()];
        assert_eq!((slots.key_of(first.token()), slots.key_of(second.token())), (None, None));
        slots.insert(second, "second");
        assert_eq!((slots.len(), slots.places()), (1, 2));
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.get_mut(second), Some(&mut "second"));
        slots.keys.release_key(first);
        slots.keys.release_key(first);
        let [third, fourth] = [slots.keys.allocate_key(), slots.keys.allocate_key()];
        assert!(third.index == first.index && third != first);
        assert_eq!(fourth.index, 2);
        assert_eq!((slots.remove(first), slots.remove(third), slots.remove(fourth)), (None, None, None));
        assert_eq!(slots.remove(second), Some("second"));
    }

    #[test]
    fn an_old_key_never_reaches_a_new_value() {
        let mut slots = Slab::new();
        let first = slots.add("first");
        assert_eq!(slots.key_of(first.token()), Some(first));
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.add("second");
        assert_eq!(second.index, first.index);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.key_of(first.token()), None);
        assert_eq!(slots.get_mut(second), Some(&mut "second"));
        assert_eq!((slots.len(), slots.places()), (1, 1));
    }

    #[test]
    fn no_key_has_a_reserved_token() {
        let mut slots = Slab::new();
        let mut key = slots.add(());
        for generation in [0, 1, u32::MAX >> 1, u32::MAX] {
            slots.keys.generations[0] = generation;
            key.generation = generation;
            assert_eq!(key.token().0 & RESERVED, 0);
            assert_eq!(slots.key_of(key.token()), Some(key));
        }
    }
}
