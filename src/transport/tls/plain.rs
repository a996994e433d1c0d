//! Plain bytes on their way out of the records, and into them.

use std::io::{IoSlice, IoSliceMut};

use crate::transport::tls::session::{MAX_RECORD, Sink};

/// Plain bytes on their way to the reader.
pub(super) struct Plain<'a, 'b> {
    pub(super) rooms: &'a mut [IoSliceMut<'b>],
    /// How many bytes are in the rooms.
    pub(super) filled: usize,
    /// What the rooms have no room for.
    pub(super) rest: Vec<u8>,
}

impl Plain<'_, '_> {
    pub(super) fn total(&self) -> usize {
        self.filled + self.rest.len()
    }

    /// Copies as much of `bytes` as there is room for, and returns how much.
    pub(super) fn fill(&mut self, bytes: &[u8]) -> usize {
        let mut skipped = self.filled;
        let mut rest = bytes;
        for room in &mut *self.rooms {
            let Some(room) = room.get_mut(skipped..) else {
                skipped -= room.len();
                continue;
            };
            skipped = 0;
            let size = room.len().min(rest.len());
            let (now, later) = rest.split_at(size);
            room[..size].copy_from_slice(now);
            rest = later;
        }
        let size = bytes.len() - rest.len();
        self.filled += size;
        size
    }
}

impl Sink for Plain<'_, '_> {
    fn put(&mut self, bytes: &[u8]) {
        let size = self.fill(bytes);
        self.rest.extend_from_slice(&bytes[size..]);
    }
}

/// Plain bytes to be sealed.
pub(super) struct Slices<'a, 'b> {
    pub(super) slices: &'a [IoSlice<'b>],
    pub(super) index: usize,
    /// How much of that slice is done with.
    pub(super) offset: usize,
    /// How much of all of them is not.
    pub(super) left: usize,
}

impl<'a> Slices<'a, '_> {
    /// The next at most `most` bytes; `None` if there are no more. Small slices are gathered, so that they share a record;
    /// large ones are taken where they are.
    pub(super) fn next<'c>(&mut self, gathered: &'c mut Vec<u8>, most: usize) -> Option<&'c [u8]>
    where
        'a: 'c,
    {
        gathered.clear();
        let most_gathered = most.min(MAX_RECORD);
        while gathered.len() < most_gathered {
            let Some(slice) = self.slices.get(self.index) else { break };
            let rest = &slice[self.offset..];
            let is_last = self.index + 1 == self.slices.len();
            if gathered.is_empty() && (is_last || rest.len() >= most_gathered) {
                let size = rest.len().min(most);
                // What is left of a slice behind whole records shares one with the next slice.
                let size = if is_last || size < MAX_RECORD { size } else { size / MAX_RECORD * MAX_RECORD };
                self.advance(size, rest.len());
                return (size > 0).then(|| &rest[..size]);
            }
            let size = rest.len().min(most_gathered - gathered.len());
            gathered.extend_from_slice(&rest[..size]);
            self.advance(size, rest.len());
        }
        (!gathered.is_empty()).then_some(&gathered[..])
    }

    fn advance(&mut self, size: usize, rest: usize) {
        (self.index, self.offset) = if size == rest { (self.index + 1, 0) } else { (self.index, self.offset + size) };
        self.left -= size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: usize = 64 << 10;
    const WINDOW_SLACK: usize = 1 << 10;

    /// The sizes of the pieces that slices of these sizes are sealed in. Their contents are checked.
    fn pieces(sizes: &[usize], most: usize) -> Vec<usize> {
        let total = sizes.iter().sum();
        let bytes: Vec<u8> = (0..total).map(|at| (at % 251) as u8).collect();
        let mut rest = &bytes[..];
        let slices: Vec<_> = sizes
            .iter()
            .map(|size| {
                let (slice, later) = rest.split_at(*size);
                rest = later;
                IoSlice::new(slice)
            })
            .collect();
        let mut from = Slices { slices: &slices, index: 0, offset: 0, left: total };
        let (mut gathered, mut joined, mut pieces) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(piece) = from.next(&mut gathered, most) {
            joined.extend_from_slice(piece);
            pieces.push(piece.len());
        }
        assert_eq!(from.left, 0, "{sizes:?}");
        assert!(joined == bytes, "{sizes:?}");
        pieces
    }

    #[test]
    fn small_slices_share_a_record_and_large_ones_are_not_moved() {
        assert!(pieces(&[], WINDOW).is_empty());
        assert!(pieces(&[0, 0], WINDOW).is_empty());
        assert_eq!(pieces(&[100], WINDOW), [100]);
        assert_eq!(pieces(&[2, 0, 30, 2, 30], WINDOW), [64]);
        assert_eq!(pieces(&[10, 64 << 10], WINDOW + WINDOW_SLACK), [MAX_RECORD, (48 << 10) + 10]);
        assert_eq!(pieces(&[20 << 10, 10, 20], WINDOW), [MAX_RECORD, (4 << 10) + 30]);
        assert_eq!(pieces(&[200 << 10], WINDOW), [WINDOW, WINDOW, WINDOW, 8 << 10]);
    }
}
