//! Masking of payload data, in place (RFC 6455 5.3).

use fearless_simd::{Level, dispatch};

/// A masking key: 32 bits chosen at random for each frame that a client sends.
pub type MaskingKey = [u8; 4];

/// Shorter payloads are not worth asking what the processor can do.
const MIN_WIDE_SIZE: usize = 512;

/// XORs `payload` with `key`, repeated; applying it twice gives the bytes back.
///
/// ```
/// let mut payload = *b"\x7f\x9f\x4d\x51\x58"; // RFC 6455 5.7, a masked "Hello"
/// threadbare::protocol::mask::apply(&mut payload, [0x37, 0xfa, 0x21, 0x3d]);
/// assert_eq!(&payload, b"Hello");
/// ```
#[inline]
pub fn apply(payload: &mut [u8], key: MaskingKey) {
    if payload.len() < MIN_WIDE_SIZE { xor::<16>(payload, key) } else { xor_wide(payload, key) }
}

/// The same loops, compiled for wider vectors than every processor of the target has.
#[inline(never)]
fn xor_wide(payload: &mut [u8], key: MaskingKey) {
    dispatch!(Level::new(), _ => xor::<32>(payload, key));
}

/// The loop over chunks is what the compiler turns into vector instructions: the smaller they are, the less is left to
/// single words of a short payload; larger ones keep wide vectors filled.
#[inline(always)]
fn xor<const CHUNK: usize>(payload: &mut [u8], key: MaskingKey) {
    let word = u32::from_ne_bytes(key);
    let double = (u64::from(word) << 32) | u64::from(word);
    let (chunks, rest) = payload.as_chunks_mut::<CHUNK>();
    for chunk in chunks {
        let (lanes, _) = chunk.as_chunks_mut::<8>();
        for lane in lanes {
            *lane = (u64::from_ne_bytes(*lane) ^ double).to_ne_bytes();
        }
    }
    let (chunks, rest) = rest.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ double).to_ne_bytes();
    }
    xor_short(rest, word);
}

/// Fewer than eight bytes.
#[inline(always)]
fn xor_short(payload: &mut [u8], word: u32) {
    let rest = match payload.split_at_mut_checked(4) {
        Some((first, rest)) => {
            if let [chunk] = first.as_chunks_mut::<4>().0 {
                *chunk = (u32::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
            }
            rest
        }
        None => payload,
    };
    for (byte, key) in rest.iter_mut().zip(word.to_ne_bytes()) {
        *byte ^= key;
    }
}

/// The key as it stands `offset` bytes into a payload, for a payload that arrives in pieces.
#[must_use]
pub fn rotated(mut key: MaskingKey, offset: u64) -> MaskingKey {
    key.rotate_left((offset % 4) as usize);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(payload: &mut [u8], key: MaskingKey) {
        for (index, byte) in payload.iter_mut().enumerate() {
            *byte ^= key[index % 4];
        }
    }

    #[test]
    fn equals_the_byte_loop_at_every_length_and_alignment() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let source: Vec<u8> = (0..400).map(|n| (n * 7 + n / 3) as u8).collect();
        for offset in 0..64 {
            for len in 0..=257 {
                let (mut ours, mut oracle) = (source.clone(), source.clone());
                apply(&mut ours[offset..offset + len], key);
                naive(&mut oracle[offset..offset + len], key);
                assert_eq!(ours, oracle, "offset {offset}, length {len}");
            }
        }
    }

    #[test]
    fn pieces_with_a_rotated_key_equal_the_whole() {
        let key = [1, 2, 3, 4];
        for cut in 0..=40 {
            let (mut whole, mut pieces) = ([0xa5; 40], [0xa5; 40]);
            apply(&mut whole, key);
            let (head, tail) = pieces.split_at_mut(cut);
            apply(head, key);
            apply(tail, rotated(key, cut as u64));
            assert_eq!(whole, pieces, "cut at {cut}");
        }
    }
}
