//! What a node puts around a message for the other nodes: bytes in, messages and bytes out.
//!
//! ```text
//! | version: 1 | opcode: 1 | node: 8 | sequence: 8 | payload |
//! ```
//!
//! Numbers are big-endian. The opcode is that of RFC 6455: 1 is text, 2 is binary.

use std::{fmt, str};

use crate::bridge::message::BridgeMessage;

/// How many bytes an envelope adds to the payload.
pub(super) const OVERHEAD: usize = 18;

const VERSION: u8 = 1;
const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// The largest sequence number. No node comes this far, and a forged one can not make a gap that overflows a count.
const MAX_SEQUENCE: u64 = 1 << 56;

/// Who published a message: 6 random bytes for each start of a bridge, and 2 that count how often it began its sequences anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeId(u64);

impl NodeId {
    pub(super) fn new(random: u64) -> NodeId {
        NodeId(random & !RUN)
    }

    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) const fn from_bits(bits: u64) -> NodeId {
        NodeId(bits)
    }

    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) fn to_bits(self) -> u64 {
        self.0
    }

    /// The id under which all sequences begin at 1 again.
    pub(super) fn next_run(self) -> NodeId {
        NodeId(self.0 & !RUN | self.0.wrapping_add(1) & RUN)
    }

    /// Whether both are of one bridge.
    pub(super) fn is_same_bridge(self, other: NodeId) -> bool {
        self.0 & !RUN == other.0 & !RUN
    }
}

/// The part of a node's id that counts.
const RUN: u64 = 0xffff;

/// A message with its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Envelope<'a> {
    pub(super) node: NodeId,
    /// Counts the messages of the node to the topic, from 1.
    pub(super) sequence: u64,
    pub(super) message: BridgeMessage<'a>,
}

impl<'a> Envelope<'a> {
    /// Appends the envelope.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let opcode = if self.message.as_text().is_some() { TEXT } else { BINARY };
        let mut head = [0; OVERHEAD];
        head[0] = VERSION;
        head[1] = opcode;
        head[2..10].copy_from_slice(&self.node.0.to_be_bytes());
        head[10..].copy_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(self.message.payload());
    }

    /// Reads an envelope, and believes nothing.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Envelope<'a>, EnvelopeError> {
        let Some((&[version, opcode, n0, n1, n2, n3, n4, n5, n6, n7, ref sequence @ ..], payload)) =
            bytes.split_first_chunk::<OVERHEAD>()
        else {
            return Err(EnvelopeError::Short(bytes.len()));
        };
        if version != VERSION {
            return Err(EnvelopeError::Version(version));
        }
        let sequence = u64::from_be_bytes(*sequence);
        if !(1..=MAX_SEQUENCE).contains(&sequence) {
            return Err(EnvelopeError::Sequence(sequence));
        }
        let message = match opcode {
            TEXT => BridgeMessage::text(str::from_utf8(payload).map_err(|_| EnvelopeError::Utf8)?),
            BINARY => BridgeMessage::binary(payload),
            other => return Err(EnvelopeError::Opcode(other)),
        };
        Ok(Envelope { node: NodeId(u64::from_be_bytes([n0, n1, n2, n3, n4, n5, n6, n7])), sequence, message })
    }
}

/// Why bytes are no envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EnvelopeError {
    Short(usize),
    Version(u8),
    Opcode(u8),
    Sequence(u64),
    Utf8,
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EnvelopeError::Short(size) => write!(f, "{size} bytes, where an envelope has {OVERHEAD} or more"),
            EnvelopeError::Version(version) => write!(f, "version {version}, where this library has {VERSION}"),
            EnvelopeError::Opcode(opcode) => write!(f, "opcode {opcode}, where text is {TEXT} and binary is {BINARY}"),
            EnvelopeError::Sequence(number) => write!(f, "sequence number {number}, not within 1 and {MAX_SEQUENCE}"),
            EnvelopeError::Utf8 => f.write_str("text that is not UTF-8"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(node: u64, sequence: u64, message: BridgeMessage<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        Envelope { node: NodeId(node), sequence, message }.encode(&mut bytes);
        bytes
    }

    #[test]
    fn what_is_no_envelope_is_refused_by_name() {
        let good = encoded(7, 1, BridgeMessage::text("hello"));
        assert!(Envelope::decode(&good).is_ok());
        for size in 0..OVERHEAD {
            assert_eq!(Envelope::decode(&good[..size]), Err(EnvelopeError::Short(size)));
        }
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Envelope::decode(&bytes).map(|_| ()).unwrap_err()
        };
        for version in (0..=255).filter(|version| *version != VERSION) {
            assert_eq!(changed(0, version), EnvelopeError::Version(version));
        }
        for opcode in (0..=255).filter(|opcode| !matches!(*opcode, TEXT | BINARY)) {
            assert_eq!(changed(1, opcode), EnvelopeError::Opcode(opcode));
        }
        assert_eq!(changed(17, 0), EnvelopeError::Sequence(0));
        assert_eq!(changed(10, 2), EnvelopeError::Sequence(2 << 56 | 1));
        assert_eq!(changed(20, 0xff), EnvelopeError::Utf8);
        assert_eq!(EnvelopeError::Version(9).to_string(), "version 9, where this library has 1");
    }

    #[test]
    fn the_runs_of_a_bridge_are_different_nodes_of_one_bridge() {
        let first = NodeId::new(u64::MAX);
        let second = first.next_run();
        assert_ne!(first, second);
        assert!(first.is_same_bridge(second));
        assert!(!first.is_same_bridge(NodeId::new(1 << 40)));
        let mut last = first;
        for _ in 0..=RUN {
            last = last.next_run();
        }
        assert_eq!(last, first, "the count wraps within its two bytes");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            node in any::<u64>(), sequence in 1..=MAX_SEQUENCE, text in any::<String>(),
            payload in proptest::collection::vec(any::<u8>(), 0..99),
        ) {
            for message in [BridgeMessage::text(&text), BridgeMessage::binary(&payload)] {
                let bytes = encoded(node, sequence, message);
                prop_assert_eq!(bytes.len(), OVERHEAD + message.payload().len());
                prop_assert_eq!(Envelope::decode(&bytes), Ok(Envelope { node: NodeId(node), sequence, message }));
            }
        }

        #[test]
        fn no_bytes_panic_and_what_is_accepted_encodes_to_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut bytes = bytes;
            for version in [None, Some(VERSION)] {
                if let (Some(version), Some(first)) = (version, bytes.first_mut()) {
                    *first = version;
                }
                if let Ok(envelope) = Envelope::decode(&bytes) {
                    let mut again = Vec::new();
                    envelope.encode(&mut again);
                    prop_assert_eq!(&again, &bytes);
                }
            }
        }
    }
}
