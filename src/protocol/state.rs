//! The state of connections as bytes, for another process that goes on with them.
//!
//! Numbers are big-endian. What has a length is preceded by it, as 64 bits, which are compared with what there is before
//! they are used. Nothing is allocated that has not arrived.

use core::fmt;
use core::time::Duration;

/// Why bytes are not the state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StateError {
    /// They end too early.
    Truncated,
    /// They go on behind the end.
    Trailing,
    /// The format has another version than this one.
    Version {
        /// What was met.
        met: u16,
        /// What this build reads.
        known: u16,
    },
    /// A value that no connection has. The text names it.
    Invalid(&'static str),
    /// The state needs something that is not in this build. The text names it.
    #[cfg_attr(feature = "deflate", expect(dead_code, reason = "all that there is, is in this build"))]
    Unsupported(&'static str),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::Truncated => f.write_str("the state of a connection ends too early"),
            StateError::Trailing => f.write_str("the state of a connection is too long"),
            StateError::Version { met, known } => {
                write!(f, "the state of a connection has version {met}, and version {known} is known")
            }
            StateError::Invalid(what) => write!(f, "the state of a connection is none that there is: {what}"),
            StateError::Unsupported(what) => {
                write!(f, "the state of a connection needs {what}, which this build does not have")
            }
        }
    }
}

impl core::error::Error for StateError {}

/// Appends values to the state.
#[derive(Debug, Default)]
pub(crate) struct StateWriter(Vec<u8>);

impl StateWriter {
    /// Begins with the version of the format.
    pub(crate) fn new(version: u16) -> StateWriter {
        let mut state = StateWriter::default();
        state.0.extend_from_slice(&version.to_be_bytes());
        state
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn flag(&mut self, value: bool) {
        self.u8(value.into());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// Appends the pieces of one value.
    pub(crate) fn pieces<'p>(&mut self, size: usize, pieces: impl Iterator<Item = &'p [u8]>) {
        self.u64(size as u64);
        pieces.for_each(|piece| self.0.extend_from_slice(piece));
    }

    /// Appends a duration, in microseconds.
    pub(crate) fn duration(&mut self, duration: Duration) {
        self.u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Appends a value that may be missing.
    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut StateWriter, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// The number of bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Begins a value whose length is not known yet. Returns its place, for [`end`](StateWriter::end).
    pub(crate) fn begin(&mut self) -> usize {
        self.u64(0);
        self.0.len()
    }

    /// Ends the value that begins at this place: says how long it is.
    pub(crate) fn end(&mut self, place: usize) {
        let size = self.0.len().saturating_sub(place) as u64;
        if let Some(length) = self.0.get_mut(..place).and_then(<[u8]>::last_chunk_mut) {
            *length = size.to_be_bytes();
        }
    }

    /// Takes back what was appended since there were `size` bytes.
    pub(crate) fn truncate(&mut self, size: usize) {
        self.0.truncate(size);
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Reads values from the front of the state.
#[derive(Debug)]
pub(crate) struct StateReader<'s>(&'s [u8]);

impl<'s> StateReader<'s> {
    /// Reads the version of the format, which must be this one.
    ///
    /// # Errors
    /// It is another.
    pub(crate) fn new(state: &'s [u8], version: u16) -> Result<StateReader<'s>, StateError> {
        let mut reader = StateReader(state);
        let met = u16::from_be_bytes(reader.array()?);
        if met != version {
            return Err(StateError::Version { met, known: version });
        }
        Ok(reader)
    }

    /// Reads the parts of a value.
    pub(crate) fn of(value: &'s [u8]) -> StateReader<'s> {
        StateReader(value)
    }

    /// The number of bytes that are left.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether everything was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that everything was read.
    pub(crate) fn end(self) -> Result<(), StateError> {
        if self.0.is_empty() { Ok(()) } else { Err(StateError::Trailing) }
    }

    fn array<const SIZE: usize>(&mut self) -> Result<[u8; SIZE], StateError> {
        let (front, rest) = self.0.split_first_chunk().ok_or(StateError::Truncated)?;
        self.0 = rest;
        Ok(*front)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, StateError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, StateError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, StateError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn flag(&mut self) -> Result<bool, StateError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(StateError::Invalid("a flag")),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<&'s [u8], StateError> {
        let size = self.u64()?;
        if size > self.0.len() as u64 {
            return Err(StateError::Truncated);
        }
        let (front, rest) = self.0.split_at_checked(size as usize).ok_or(StateError::Truncated)?;
        self.0 = rest;
        Ok(front)
    }

    /// Reads bytes, at most so many.
    pub(crate) fn bytes_within(&mut self, most: usize, what: &'static str) -> Result<&'s [u8], StateError> {
        let bytes = self.bytes()?;
        if bytes.len() > most { Err(StateError::Invalid(what)) } else { Ok(bytes) }
    }

    pub(crate) fn text(&mut self) -> Result<&'s str, StateError> {
        core::str::from_utf8(self.bytes()?).map_err(|_| StateError::Invalid("text"))
    }

    pub(crate) fn duration(&mut self) -> Result<Duration, StateError> {
        Ok(Duration::from_micros(self.u64()?))
    }

    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut StateReader<'s>) -> Result<T, StateError>,
    ) -> Result<Option<T>, StateError> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn another_version_is_told_by_its_number() {
        let state = StateWriter::new(7).into_bytes();
        assert_eq!(StateReader::new(&state, 8).unwrap_err(), StateError::Version { met: 7, known: 8 });
        assert_eq!(StateReader::new(&state[..1], 7).unwrap_err(), StateError::Truncated);
        assert!(StateReader::new(&state, 7).is_ok_and(|reader| reader.end().is_ok()));
    }

    #[test]
    fn a_length_beyond_what_there_is_allocates_nothing() {
        for size in [1, 1 << 31, u64::MAX] {
            let mut state = StateWriter::new(1);
            state.u64(size);
            let state = state.into_bytes();
            assert_eq!(StateReader::new(&state, 1).and_then(|mut reader| reader.bytes()), Err(StateError::Truncated));
        }
    }

    #[test]
    fn a_value_says_how_long_it_is_once_it_is_there() {
        let mut state = StateWriter::new(1);
        for value in [&b"some"[..], b""] {
            let place = state.begin();
            value.iter().for_each(|byte| state.u8(*byte));
            state.end(place);
        }
        let size = state.len();
        state.u64(7);
        state.truncate(size);
        let mut reader = StateReader::new(state.as_bytes(), 1).expect("the version");
        assert_eq!((reader.bytes(), reader.len()), (Ok(&b"some"[..]), 8));
        assert_eq!((reader.bytes(), reader.is_empty()), (Ok(&b""[..]), true));
    }

    proptest! {
        #[test]
        fn values_come_back_and_no_prefix_does(
            number: u64, flag: bool, bytes: Vec<u8>, micros in 0..u64::MAX, absent: Option<u32>,
        ) {
            let mut state = StateWriter::new(3);
            state.u64(number);
            state.flag(flag);
            state.bytes(&bytes);
            state.duration(Duration::from_micros(micros));
            state.option(absent, StateWriter::u32);
            let state = state.into_bytes();
            let read = |state: &[u8]| -> Result<_, StateError> {
                let mut reader = StateReader::new(state, 3)?;
                let values = (
                    reader.u64()?, reader.flag()?, reader.bytes()?.to_vec(), reader.duration()?,
                    reader.option(StateReader::u32)?,
                );
                reader.end()?;
                Ok(values)
            };
            prop_assert_eq!(read(&state), Ok((number, flag, bytes, Duration::from_micros(micros), absent)));
            for cut in 0..state.len() {
                prop_assert_eq!(read(&state[..cut]), Err(StateError::Truncated));
            }
            prop_assert_eq!(read(&[&state[..], &[0]].concat()), Err(StateError::Trailing));
        }
    }
}
