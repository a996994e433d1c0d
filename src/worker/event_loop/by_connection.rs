//! Sorts the commands of the inbox by connection.

use crate::worker::slab::{Key, KeyMap};

/// The end of a chain of commands.
pub(super) const END: u32 = u32::MAX;

/// The tables for sorting. They are kept to reuse their memory.
#[derive(Debug, Default)]
pub(super) struct CommandsByConnection {
    /// The connections that have commands.
    pub(super) chains: Vec<CommandChain>,
    /// The index of each connection's chain. A table with an entry for every connection would be larger.
    pub(super) indices: KeyMap<Key, usize>,
    /// For each command, the next one for the same connection, or [`END`].
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
        let index = *self.indices.entry(to).or_insert(self.chains.len());
        match self.chains.get_mut(index) {
            Some(chain) => {
                self.next[chain.last as usize] = command;
                chain.last = command;
            }
            None => self.chains.push(CommandChain { to, first: command, last: command }),
        }
    }
}
