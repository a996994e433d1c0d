//! What a connection keeps of compressed messages so that another process can go on with them.

/// The largest window (RFC 7692 7.1.2).
pub(super) const WINDOW: usize = 32 << 10;

/// An inflater does not tell its state, but a new one can be given a window, and then be fed the message again.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// The last bytes that were inflated. With context takeover, messages may refer to them.
    recent: Vec<u8>,
    /// Those before the message under way.
    before: Vec<u8>,
    /// What has arrived of the message under way, as it came.
    arrived: Vec<u8>,
}

impl Replay {
    /// A message begins.
    pub(super) fn begin(&mut self) {
        self.arrived.clear();
        self.before.clone_from(&self.recent);
    }

    /// A piece of the message was taken.
    pub(super) fn take(&mut self, piece: &[u8]) {
        self.arrived.extend_from_slice(piece);
    }

    /// The message has ended.
    pub(super) fn end(&mut self) {
        self.arrived = Vec::new();
    }

    /// Something was inflated that later messages may refer to.
    pub(super) fn note(&mut self, inflated: &[u8]) {
        let end = inflated.get(inflated.len().saturating_sub(WINDOW)..).unwrap_or_default();
        let surplus = (self.recent.len() + end.len()).saturating_sub(WINDOW);
        self.recent.drain(..surplus.min(self.recent.len()));
        self.recent.extend_from_slice(end);
    }

    /// The window, and what has arrived of the message behind it.
    pub(super) fn parts(&self, is_in_message: bool) -> (&[u8], &[u8]) {
        if is_in_message { (&self.before, &self.arrived) } else { (&self.recent, &[]) }
    }

    /// Returns the bytes of memory that this takes.
    pub(super) fn memory(&self) -> usize {
        size_of::<Replay>() + self.recent.capacity() + self.before.capacity() + self.arrived.capacity()
    }
}
