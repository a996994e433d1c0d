//! The commands of the inbox, sorted by connection.

use crate::worker::slab::{Key, KeyMap};

/// The end of a chain of commands.
pub(super) const END: u32 = u32::MAX;

/// What sorting works with, kept for its memory.
#[derive(Debug, Default)]
pub(super) struct CommandsByConnection {
    /// The connections that have commands.
    pub(super) chains: Vec<CommandChain>,
    /// Their places there. A table of all connections would be larger, and is not needed as often.
    pub(super) places: KeyMap<Key, usize>,
    /// Behind each command the next for the same connection.
    pub(super) next: Vec<u32>,
}

/// The commands for one connection.
#[derive(Debug)]
pub(super) struct CommandChain {
    pub(super) to: Key,
    pub(super) first: u32,
    last: u32,
}

impl CommandsByConnection {
    pub(super) fn add(&mut self, to: Key, command: u32) {
        let place = *self.places.entry(to).or_insert(self.chains.len());
        match self.chains.get_mut(place) {
            Some(chain) => {
                self.next[chain.last as usize] = command;
                chain.last = command;
            }
            None => self.chains.push(CommandChain { to, first: command, last: command }),
        }
    }
}
