//! The sequence numbers of one topic that were seen: which message is next, which is a duplicate, how many are missing.

use crate::bridge::envelope::NodeId;

/// At most 256 nodes are remembered for a topic: 6 KiB. More would let forged ids take more memory; fewer would forget nodes
/// of a large cluster. The one that was silent for longest is forgotten, and is then heard like a new one.
const MAX_NODES: usize = 256;

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is to be delivered, after this many that were lost.
    Deliver { missed: u64 },
    /// It, or a later one, was seen before.
    Duplicate,
}

/// The last sequence number of each node. One topic has one tracker.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    /// Sorted by id.
    nodes: Vec<Heard>,
    /// Counts the messages, as a clock.
    arrivals: u64,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    node: NodeId,
    sequence: u64,
    at: u64,
}

impl Tracker {
    /// Notes a message. The first of a node is the beginning, wherever its sequence stands.
    pub(super) fn note(&mut self, node: NodeId, sequence: u64) -> Arrival {
        self.arrivals += 1;
        let at = self.arrivals;
        match self.nodes.binary_search_by_key(&node, |heard| heard.node) {
            Ok(index) => {
                let heard = &mut self.nodes[index];
                heard.at = at;
                let Some(ahead) = sequence.checked_sub(heard.sequence).filter(|ahead| *ahead > 0) else {
                    return Arrival::Duplicate;
                };
                heard.sequence = sequence;
                Arrival::Deliver { missed: ahead - 1 }
            }
            Err(_) => {
                self.forget_one_of_many();
                let index = self.nodes.partition_point(|heard| heard.node < node);
                self.nodes.insert(index, Heard { node, sequence, at });
                Arrival::Deliver { missed: 0 }
            }
        }
    }

    /// The nodes that were heard, each with its last sequence number.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) fn heard(&self) -> impl Iterator<Item = (NodeId, u64)> {
        self.nodes.iter().map(|heard| (heard.node, heard.sequence))
    }

    fn forget_one_of_many(&mut self) {
        if self.nodes.len() >= MAX_NODES
            && let Some(oldest) = (0..self.nodes.len()).min_by_key(|index| self.nodes[*index].at)
        {
            self.nodes.remove(oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn node(number: u64) -> NodeId {
        NodeId::new(number << 16)
    }

    #[test]
    fn gaps_are_counted_and_duplicates_dropped_for_each_node() {
        let mut tracker = Tracker::default();
        let mut note = |number, sequence| tracker.note(node(number), sequence);
        assert_eq!(note(1, 5), Arrival::Deliver { missed: 0 }, "a new node starts where it starts");
        assert_eq!(note(1, 6), Arrival::Deliver { missed: 0 });
        assert_eq!(note(2, 1), Arrival::Deliver { missed: 0 });
        assert_eq!(note(1, 10), Arrival::Deliver { missed: 3 });
        for late in [10, 9, 7, 1] {
            assert_eq!(note(1, late), Arrival::Duplicate);
        }
        assert_eq!(note(1, 11), Arrival::Deliver { missed: 0 }, "a duplicate changes nothing");
        assert_eq!(note(2, 2), Arrival::Deliver { missed: 0 });
        assert_eq!(note(2, u64::MAX), Arrival::Deliver { missed: u64::MAX - 3 });
        assert_eq!(note(2, 3), Arrival::Duplicate);
    }

    #[test]
    fn forged_nodes_take_bounded_memory_and_the_silent_are_forgotten_first() {
        let mut tracker = Tracker::default();
        for number in 0..10_000 {
            tracker.note(node(1), number + 1);
            tracker.note(node(1_000_000 - number), 1);
            assert!(tracker.nodes.len() <= MAX_NODES);
        }
        assert_eq!(tracker.note(node(1), 10_002), Arrival::Deliver { missed: 1 }, "who speaks is remembered");
        assert_eq!(tracker.note(node(1_000_000), 9), Arrival::Deliver { missed: 0 }, "who is forgotten is new");
        assert!(tracker.nodes.is_sorted_by_key(|heard| heard.node));
    }

    proptest! {
        /// What arrives of each node's 1, 2, 3, ... in any selection and with repetitions adds up.
        #[test]
        fn delivered_and_missed_add_up_to_what_was_sent(arrivals in proptest::collection::vec((0..4_u64, 1..40_u64), 0..200)) {
            let mut tracker = Tracker::default();
            let mut first = HashMap::new();
            let mut last: HashMap<u64, u64> = HashMap::new();
            let mut total: HashMap<u64, u64> = HashMap::new();
            for (number, sequence) in arrivals {
                let known = last.get(&number).copied();
                match tracker.note(node(number), sequence) {
                    Arrival::Duplicate => prop_assert!(known.is_some_and(|known| sequence <= known)),
                    Arrival::Deliver { missed } => {
                        prop_assert!(known.is_none_or(|known| sequence > known));
                        first.entry(number).or_insert(sequence);
                        last.insert(number, sequence);
                        *total.entry(number).or_default() += 1 + missed;
                    }
                }
            }
            for (number, total) in total {
                prop_assert_eq!(total, last[&number] - first[&number] + 1);
            }
        }
    }
}
