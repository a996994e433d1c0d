//! Masking keys for what a client sends.

use std::fmt;

use crate::protocol::mask::MaskingKey;

/// How many keys are drawn from the system at once: a system call for each frame would cost more than the frame.
const DRAWN: usize = 256;

/// Masking keys from the operating system's random number generator, fresh for each frame.
///
/// RFC 6455 5.3: the key "MUST be derived from a strong source of entropy" and "needs to be unpredictable", so that no
/// page can choose the bytes that a client puts on the wire.
#[derive(Default)]
pub(crate) struct MaskingKeys {
    drawn: Vec<MaskingKey>,
}

impl MaskingKeys {
    /// A key that no frame had before.
    pub(crate) fn next_key(&mut self) -> MaskingKey {
        loop {
            match self.drawn.pop() {
                // A key of zeros would leave the payload as it is.
                Some([0, 0, 0, 0]) => {}
                Some(key) => return key,
                None => self.draw(),
            }
        }
    }

    fn draw(&mut self) {
        let mut bytes = [0; DRAWN * 4];
        if let Err(error) = getrandom::fill(&mut bytes) {
            // Only on a system without a random number generator; a client must not go on with keys that can be
            // guessed.
            panic!("the operating system gives no random numbers: {error}");
        }
        self.drawn.extend(bytes.as_chunks::<4>().0);
    }
}

/// Omits the keys. RFC 6455 5.3: an application that knows one before its frame is sent can choose the bytes on the
/// wire.
impl fmt::Debug for MaskingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MaskingKeys(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_27_keys_are_fresh_and_look_random() {
        let mut keys = MaskingKeys::default();
        let drawn: Vec<MaskingKey> = (0..1_000).map(|_| keys.next_key()).collect();
        let mut distinct = drawn.clone();
        distinct.sort_unstable();
        distinct.dedup();
        // Two of a thousand agree once in ten thousand runs, three pairs never.
        assert!(distinct.len() >= 998, "{} distinct keys", distinct.len());
        let ones: u32 = drawn.iter().flatten().map(|byte| byte.count_ones()).sum();
        // 32,000 bits: the mean is 16,000, the standard deviation 90.
        assert!((15_000..17_000).contains(&ones), "{ones} bits are set");
    }
}
