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
    if payload.len() < MIN_WIDE_SIZE { xor::<64>(payload, key) } else { xor_wide(payload, key) }
}

/// The same loop, compiled for wider vectors than every processor of the target has.
#[inline(never)]
fn xor_wide(payload: &mut [u8], key: MaskingKey) {
    dispatch!(Level::new(), _ => xor::<128>(payload, key));
}

/// The loop over chunks is what the compiler turns into vector instructions. What it leaves is masked in ever smaller
/// steps rather than in loops, which the compiler would unroll further than they go.
#[inline(always)]
fn xor<const CHUNK: usize>(payload: &mut [u8], key: MaskingKey) {
    let word = u32::from_ne_bytes(key);
    let double = (u64::from(word) << 32) | u64::from(word);
    let (chunks, mut rest) = payload.as_chunks_mut::<CHUNK>();
    for chunk in chunks {
        xor_lanes(chunk, double);
    }
    if CHUNK > 64 {
        rest = xor_step::<64>(rest, double);
    }
    rest = xor_step::<32>(rest, double);
    rest = xor_step::<16>(rest, double);
    rest = xor_step::<8>(rest, double);
    xor_short(rest, word);
}

/// Masks the first `SIZE` of fewer than twice as many bytes, if they are as many: what is left.
#[inline(always)]
fn xor_step<const SIZE: usize>(payload: &mut [u8], double: u64) -> &mut [u8] {
    let (chunks, rest) = payload.as_chunks_mut::<SIZE>();
    if let [chunk] = chunks {
        xor_lanes(chunk, double);
    }
    rest
}

#[inline(always)]
fn xor_lanes(bytes: &mut [u8], double: u64) {
    for lane in bytes.as_chunks_mut::<8>().0 {
        *lane = (u64::from_ne_bytes(*lane) ^ double).to_ne_bytes();
    }
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
