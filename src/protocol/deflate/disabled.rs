//! The types of permessage-deflate in a build without the feature `deflate`.

use crate::protocol::deflate::{DeflateStats, Sink};
use crate::protocol::error::ProtocolError;
use crate::protocol::fragment::Fragment;
use crate::protocol::outgoing::Last;
#[cfg(all(target_os = "linux", feature = "handover"))]
use crate::protocol::state::{StateError, StateReader, StateWriter};

/// The memory for compression that the connections of a thread share. It is empty without the feature `deflate`.
///
/// ```
/// use threadbare::protocol::deflate::Codec;
///
/// assert!(Codec::default().is_empty());
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Codec {}

impl Codec {
    /// Creates an empty codec.
    ///
    /// ```
    /// use threadbare::protocol::deflate::Codec;
    ///
    /// let codec = Codec::new();
    /// ```
    #[must_use]
    pub const fn new() -> Codec {
        Codec {}
    }

    /// Returns `None`: no message is compressed.
    ///
    /// ```
    /// use threadbare::protocol::deflate::Codec;
    ///
    /// assert_eq!(Codec::new().compress(&[0; 1000], 1, 15), None);
    /// ```
    pub fn compress(&mut self, _payload: &[u8], _level: u8, _window_bits: u8) -> Option<&[u8]> {
        None
    }

    /// Returns 0: no message is decompressed.
    ///
    /// ```
    /// use threadbare::protocol::deflate::Codec;
    ///
    /// assert_eq!(Codec::new().take_work(), 0);
    /// ```
    pub fn take_work(&mut self) -> u64 {
        0
    }

    /// Returns `true`: there is no memory to [`trim`](Codec::trim).
    ///
    /// ```
    /// use threadbare::protocol::deflate::Codec;
    ///
    /// assert!(Codec::new().is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        true
    }

    /// Does nothing: there is no memory to free.
    ///
    /// ```
    /// use threadbare::protocol::deflate::Codec;
    ///
    /// Codec::new().trim();
    /// ```
    pub fn trim(&mut self) {}

    /// Does nothing: no fragment is decompressed.
    ///
    /// ```
    /// use threadbare::FragmentRef;
    /// use threadbare::protocol::deflate::Codec;
    ///
    /// Codec::new().reuse(FragmentRef::whole("hello".into()).into_owned());
    /// ```
    pub fn reuse(&mut self, _fragment: Fragment) {}

    pub(in crate::protocol) fn take_fragment_buffer(&mut self) -> Vec<u8> {
        Vec::new()
    }

    pub(in crate::protocol) fn give_fragment_buffer(&mut self, _: Vec<u8>) {}

    pub(crate) fn shed(&mut self) {}

    pub(crate) fn memory(&self) -> usize {
        0
    }
}

/// The permessage-deflate extension of a connection, which does not exist in this build.
#[derive(Debug)]
pub(in crate::protocol) enum Extension {}

impl Extension {
    pub(in crate::protocol) fn memory(&self) -> usize {
        match *self {}
    }

    pub(in crate::protocol) fn begin(&mut self) {
        match *self {}
    }

    pub(in crate::protocol) fn inflate(
        &mut self,
        _: &[u8],
        _: &mut Codec,
        _: Sink<'_>,
    ) -> Result<usize, ProtocolError> {
        match *self {}
    }

    pub(in crate::protocol) fn finish(&mut self, _: &mut Codec, _: Sink<'_>) -> Result<(), ProtocolError> {
        match *self {}
    }

    pub(in crate::protocol) fn compress<'c>(&mut self, _: &[u8], _: &'c mut Codec) -> Option<&'c [u8]> {
        match *self {}
    }

    pub(in crate::protocol) fn compress_fragment<'c>(
        &mut self,
        _: &[u8],
        _: Last,
        _: &'c mut Codec,
    ) -> Option<&'c [u8]> {
        match *self {}
    }

    pub(in crate::protocol) fn shared_window_bits(&self) -> Option<u8> {
        match *self {}
    }

    pub(in crate::protocol) fn is_worthwhile(&self, _: &[u8]) -> bool {
        match *self {}
    }

    pub(in crate::protocol) fn count_shared(&mut self, _: usize, _: usize) {
        match *self {}
    }

    pub(in crate::protocol) fn stats(&self) -> DeflateStats {
        match *self {}
    }

    pub(in crate::protocol) fn begins_to_keep(&mut self) -> bool {
        match *self {}
    }

    pub(in crate::protocol) fn trim(&mut self) -> bool {
        match *self {}
    }

    pub(in crate::protocol) fn abandon(&mut self) {
        match *self {}
    }
}

#[cfg(all(target_os = "linux", feature = "handover"))]
impl Extension {
    pub(in crate::protocol) fn keep_exportable(&mut self) {
        match *self {}
    }

    pub(in crate::protocol) fn export(&self, _: &mut StateWriter, _: bool) -> bool {
        match *self {}
    }

    pub(in crate::protocol) fn import<'s>(_: &mut StateReader<'s>) -> Result<(Extension, &'s [u8]), StateError> {
        Err(StateError::Unsupported("the feature `deflate`"))
    }

    pub(in crate::protocol) fn inflate_again(
        &mut self,
        _: &[u8],
        _: &mut Codec,
        _: Sink<'_>,
    ) -> Result<(), StateError> {
        match *self {}
    }
}
