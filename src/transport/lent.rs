//! Memory that is lent to an output, by its addresses.

use std::ops::Range;

/// The addresses of lent memory, by which a payload that is in it is recognized.
#[derive(Debug, Default)]
pub(super) struct Lent(pub(super) Range<usize>);

impl Lent {
    #[inline(always)]
    pub(super) fn new(bytes: &[u8]) -> Lent {
        let start = bytes.as_ptr().addr();
        Lent(start..start + bytes.len())
    }

    /// Returns the range of `bytes` in the lent memory, if it is part of it.
    pub(super) fn position(&self, bytes: &[u8]) -> Option<Range<usize>> {
        let Lent(inner) = Lent::new(bytes);
        let is_inside = self.0.start <= inner.start && inner.end <= self.0.end;
        is_inside.then(|| inner.start - self.0.start..inner.end - self.0.start)
    }
}
