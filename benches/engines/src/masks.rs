//! Unmasking functions to compare with.

/// Byte by byte.
pub fn naive(payload: &mut [u8], key: [u8; 4]) {
    for (index, byte) in payload.iter_mut().enumerate() {
        *byte ^= key[index % 4];
    }
}

/// The function of fastwebsockets, which is public.
pub fn fastwebsockets(payload: &mut [u8], key: [u8; 4]) {
    ::fastwebsockets::unmask(payload, key);
}

/// The function of tungstenite, which is not public: a copy of `apply_mask_fast32` in `src/protocol/frame/mask.rs` of
/// tungstenite 0.30.0 (<https://github.com/snapview/tungstenite-rs>), by its authors, licensed MIT OR Apache-2.0. They took it
/// from the crate ws. Only the comments are new.
pub fn tungstenite(buf: &mut [u8], mask: [u8; 4]) {
    let mask_u32 = u32::from_ne_bytes(mask);

    // SAFETY: any four bytes are a valid u32.
    let (prefix, words, suffix) = unsafe { buf.align_to_mut::<u32>() };
    apply_mask_fallback(prefix, mask);
    let head = prefix.len() & 3;
    let mask_u32 = if head > 0 {
        if cfg!(target_endian = "big") {
            mask_u32.rotate_left(8 * head as u32)
        } else {
            mask_u32.rotate_right(8 * head as u32)
        }
    } else {
        mask_u32
    };
    for word in words.iter_mut() {
        *word ^= mask_u32;
    }
    apply_mask_fallback(suffix, mask_u32.to_ne_bytes());
}

#[inline]
fn apply_mask_fallback(buf: &mut [u8], mask: [u8; 4]) {
    for (i, byte) in buf.iter_mut().enumerate() {
        *byte ^= mask[i & 3];
    }
}
