//! A message of any size, which is never in memory as a whole.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The text that has the other end begin to send.
pub const GO: &str = "go";

/// A message that repeats a piece.
#[derive(Clone)]
pub struct Large {
    pub piece: Arc<[u8]>,
    /// A multiple of the piece's size.
    pub size: u64,
}

impl Large {
    /// Reads the piece from a file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is empty.
    pub fn from_file(piece: &Path, size: u64) -> io::Result<Large> {
        let piece = fs::read(piece)?;
        if piece.is_empty() || !size.is_multiple_of(piece.len() as u64) {
            return Err(io::Error::other(format!("{size} bytes are no multiple of {}", piece.len())));
        }
        Ok(Large { piece: piece.into(), size })
    }

    /// How often the piece is repeated.
    #[must_use]
    pub fn times(&self) -> u64 {
        self.size / self.piece.len() as u64
    }

    /// Reads the message from its start, as from a file.
    #[must_use]
    pub fn source(&self) -> Source {
        Source { message: self.clone(), offset: 0 }
    }
}

/// Made by [`Large::source`].
pub struct Source {
    message: Large,
    offset: u64,
}

impl io::Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Large { piece, size } = &self.message;
        if self.offset == *size {
            return Ok(0);
        }
        // The message ends with a piece.
        let rest = &piece[(self.offset % piece.len() as u64) as usize..];
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        self.offset += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::Large;

    #[test]
    fn a_source_has_the_whole_message() {
        let mut read = Vec::new();
        Large { piece: (*b"abc").into(), size: 9 }.source().read_to_end(&mut read).unwrap();
        assert_eq!(read, b"abcabcabc");
    }
}
