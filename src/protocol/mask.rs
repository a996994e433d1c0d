//! Masking of payload data in place (RFC 6455 5.3).

use fearless_simd::{Level, dispatch};

/// A masking key: 32 bits chosen at random for each frame that a client sends.
///
/// ```
/// use threadbare::protocol::mask::MaskingKey;
///
/// let key: MaskingKey = [0x37, 0xfa, 0x21, 0x3d]; // of a random number generator
/// ```
pub type MaskingKey = [u8; 4];

/// Payloads of 512 bytes and more are masked with the widest vectors that the processor has. Smaller makes more
/// payloads pay for the detection of the processor's features; larger masks more of them with narrower vectors.
const MIN_WIDE_SIZE: usize = 512;

/// XORs `payload` with `key`, repeated. Applying the same key twice restores the payload.
///
/// ```
/// let mut payload = *b"\x7f\x9f\x4d\x51\x58"; // RFC 6455 5.7, a masked "Hello"
/// threadbare::protocol::mask::apply(&mut payload, [0x37, 0xfa, 0x21, 0x3d]);
/// assert_eq!(&payload, b"Hello");
/// ```
#[inline(always)] // for a short message the call is a noticeable part of the work
pub fn apply(payload: &mut [u8], key: MaskingKey) {
    let double = doubled(key);
    match payload.len() {
        0..=64 => xor_short(payload, double),
        65..MIN_WIDE_SIZE => xor::<64>(payload, double),
        _ => xor_wide(payload, double),
    }
}

/// Returns the key twice in one word, whose lowest byte masks the first byte of the payload.
#[inline(always)]
fn doubled(key: MaskingKey) -> u64 {
    let word = u64::from(u32::from_le_bytes(key));
    word << 32 | word
}

/// Masks the payload with the same loop, compiled for wider vectors than every processor of the target has.
#[inline(never)]
fn xor_wide(payload: &mut [u8], double: u64) {
    dispatch!(Level::new(), _ => xor::<128>(payload, double));
}

/// Masks the payload in chunks, for which the compiler emits vector instructions, and the remainder in smaller chunks.
#[inline(always)]
fn xor<const CHUNK: usize>(payload: &mut [u8], double: u64) {
    let (chunks, rest) = payload.as_chunks_mut::<CHUNK>();
    for chunk in chunks {
        *chunk = xored(chunk, double);
    }
    if CHUNK > 64 { xor::<64>(rest, double) } else { xor_short(rest, double) }
}

/// Masks at most 64 bytes.
#[inline(always)]
fn xor_short(payload: &mut [u8], double: u64) {
    debug_assert!(payload.len() <= 64, "{} bytes", payload.len());
    match payload.len() {
        0..8 => xor_few(payload, double),
        8..16 => xor_ends::<8>(payload, double),
        16..=32 => xor_ends::<16>(payload, double),
        _ => xor_ends::<32>(payload, double),
    }
}

/// Masks between `HALF` and twice `HALF` bytes, as two halves that may overlap.
#[inline(always)]
fn xor_ends<const HALF: usize>(payload: &mut [u8], double: u64) {
    let (Some(start), Some(end)) = (payload.first_chunk::<HALF>(), payload.last_chunk::<HALF>()) else { return };
    // A half is a multiple of eight bytes, so the second half begins at the offset `len % 8` into the key.
    let turned = double.rotate_right(8 * (payload.len() % 8) as u32);
    let (start, end) = (xored(start, double), xored(end, turned));
    if let Some(place) = payload.first_chunk_mut() {
        *place = start;
    }
    if let Some(place) = payload.last_chunk_mut() {
        *place = end;
    }
}

/// Returns the bytes masked. Their number is a multiple of eight.
#[inline(always)]
fn xored<const SIZE: usize>(bytes: &[u8; SIZE], double: u64) -> [u8; SIZE] {
    let mut bytes = *bytes;
    for lane in bytes.as_chunks_mut::<8>().0 {
        *lane = (u64::from_le_bytes(*lane) ^ double).to_le_bytes();
    }
    bytes
}

/// Masks fewer than eight bytes.
#[inline(always)]
fn xor_few(payload: &mut [u8], double: u64) {
    let word = double as u32;
    let rest = match payload.split_at_mut_checked(4) {
        Some((first, rest)) => {
            if let [chunk] = first.as_chunks_mut::<4>().0 {
                *chunk = (u32::from_le_bytes(*chunk) ^ word).to_le_bytes();
            }
            rest
        }
        None => payload,
    };
    for (byte, key) in rest.iter_mut().zip(word.to_le_bytes()) {
        *byte ^= key;
    }
}

/// Returns the key rotated by `offset` bytes, for the piece of a payload that begins at `offset`.
///
/// ```
/// use threadbare::protocol::mask;
///
/// let (key, mut payload) = ([1, 2, 3, 4], *b"in two pieces");
/// let (first, second) = payload.split_at_mut(6);
/// mask::apply(first, key);
/// mask::apply(second, mask::rotated(key, 6));
/// mask::apply(&mut payload, key); // all at once, back again
/// assert_eq!(&payload, b"in two pieces");
/// ```
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
    fn masking_equals_the_byte_loop_at_every_length_and_alignment() {
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
    fn pieces_masked_with_a_rotated_key_equal_the_whole_payload() {
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
