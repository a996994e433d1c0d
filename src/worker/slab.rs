//! A slab: a table whose entries are reused, with keys whose generation tells an old value from a new one.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use mio::Token;

/// Identifies one connection of a worker, and never a later one at the same index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// Hashes [`Key`]s, indices and tokens. The worker allocates them, so that no peer can choose them to collide. The
/// hasher of the standard library prevents collisions that a peer chooses, and costs more.
#[derive(Debug, Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, half: u32) {
        // Fibonacci hashing: the multiplier is 2^64 divided by the golden ratio, which spreads the product's upper
        // bits.
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

/// The lower half of a token is the index. The upper half is the generation, without its top bit.
const TOKEN_BITS: u32 = usize::BITS / 2;

/// The bit that no token of a key has. Tokens with it belong to wakers, listeners, and other sources.
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

/// Allocates the keys of a thread's connections.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// The current generation of each index.
    generations: Vec<u32>,
    free: Vec<u32>,
}

impl Keys {
    /// Returns an unused key. It is in use until it is [released](Keys::release_key).
    pub(crate) fn allocate_key(&mut self) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.generations.push(0);
            (self.generations.len() - 1) as u32
        });
        Key { index, generation: self.generations[index as usize] }
    }

    /// Releases a key. It is never valid again.
    pub(crate) fn release_key(&mut self, key: Key) {
        if let Some(generation) = self.generations.get_mut(key.index as usize)
            && *generation == key.generation
        {
            *generation = generation.wrapping_add(1);
            self.free.push(key.index);
        }
    }

    /// Returns the current key of `index`.
    fn at(&self, index: u32) -> Option<Key> {
        self.generations.get(index as usize).map(|generation| Key { index, generation: *generation })
    }
}

/// A table whose entries are reused.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    entries: Vec<Option<T>>,
    /// Kept apart from the entries, so that the generations need no padding. A key may be allocated before it has a
    /// value.
    pub(crate) keys: Keys,
    len: usize,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Slab<T> {
        Slab { entries: Vec::new(), keys: Keys::default(), len: 0 }
    }

    /// Returns the number of values.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Inserts the value of a key that was allocated.
    pub(crate) fn insert(&mut self, key: Key, value: T) {
        if self.entries.len() <= key.index as usize {
            self.entries.resize_with(key.index as usize + 1, || None);
        }
        self.len += 1;
        self.entries[key.index as usize] = Some(value);
    }

    /// Inserts a value, and returns its key.
    pub(crate) fn add(&mut self, value: T) -> Key {
        let key = self.keys.allocate_key();
        self.insert(key, value);
        key
    }

    /// Returns the value of `key`, unless it was removed.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.index as usize)?;
        if self.keys.generations[key.index as usize] == key.generation { entry.as_mut() } else { None }
    }

    /// Returns the key of `token`, unless its value was removed.
    pub(crate) fn key_of(&self, token: Token) -> Option<Key> {
        let key = self.key_at(index_of(token) as u32)?;
        (key.token() == token).then_some(key)
    }

    /// Removes the value of `key`. The key is never valid again.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        if self.keys.at(key.index)? != key {
            return None;
        }
        let value = self.entries.get_mut(key.index as usize)?.take()?;
        self.keys.release_key(key);
        self.len -= 1;
        Some(value)
    }

    /// Returns the number of entries, with or without a value. Every index is below it.
    pub(crate) fn entries(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Returns the key of the value at `index`, if there is one.
    pub(crate) fn key_at(&self, index: u32) -> Option<Key> {
        self.at(index)?;
        self.keys.at(index)
    }

    /// Returns the value at `index`, if there is one.
    pub(crate) fn at(&self, index: u32) -> Option<&T> {
        self.entries.get(index as usize)?.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher, BuildHasherDefault};

    use super::*;

    #[test]
    fn the_hashes_of_successive_keys_are_spread() {
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
            // The bits that a table of 8,192 buckets uses. Random hashes would fill 3,225 of them.
            assert!(differing(|hash| hash & 0x1FFF) > 2500);
            assert_eq!(differing(|hash| hash >> 57), 128);
        }
    }

    #[test]
    fn a_key_may_be_released_without_a_value() {
        let mut slots = Slab::new();
        let [first, second] = [slots.keys.allocate_key(), slots.keys.allocate_key()];
        assert_eq!((slots.key_of(first.token()), slots.key_of(second.token())), (None, None));
        slots.insert(second, "second");
        assert_eq!((slots.len(), slots.entries()), (1, 2));
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
        assert_eq!((slots.len(), slots.entries()), (1, 1));
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
