//! The messages of `/duplex`, which have a number and different contents.

use threadbare::Message;

use crate::payload;
use crate::report::{Failure, expect};
use crate::target::summary;

/// The length of the sender's letter and nine digits.
pub(crate) const HEAD: usize = 10;
const STEPS: usize = 997;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Makes and checks messages of one size.
pub(crate) struct Numbered {
    size: usize,
    binary: Vec<u8>,
    text: String,
}

impl Numbered {
    pub(crate) fn new(size: usize) -> Numbered {
        let binary = payload::noise(size - HEAD + STEPS);
        let text = binary.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 63)])).collect();
        Numbered { size, binary, text }
    }

    /// Messages with even numbers are text, the others binary.
    pub(crate) fn message(&self, sender: char, number: usize) -> Message {
        let head = format!("{sender}{number:09}");
        let body = number % STEPS..number % STEPS + self.size - HEAD;
        if number.is_multiple_of(2) {
            Message::Text(head + &self.text[body])
        } else {
            Message::Binary([head.as_bytes(), &self.binary[body]].concat())
        }
    }
}

/// Checks that the messages of one sender are received in order, complete and once.
pub(crate) struct SequenceCheck<'a> {
    numbered: &'a Numbered,
    sender: char,
    pub(crate) count: usize,
}

impl<'a> SequenceCheck<'a> {
    pub(crate) fn new(numbered: &'a Numbered, sender: char) -> SequenceCheck<'a> {
        SequenceCheck { numbered, sender, count: 0 }
    }

    pub(crate) fn check(&mut self, message: &Message) -> Result<(), Failure> {
        let wanted = self.numbered.message(self.sender, self.count);
        expect(*message == wanted, || format!("expected {}, received {}", summary(&wanted), summary(message)))?;
        self.count += 1;
        Ok(())
    }
}
