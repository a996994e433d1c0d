//! The payloads that are sent.

/// The sizes around each change of the form of the payload length (RFC 6455 5.2), and large ones.
pub(crate) const SIZES: [usize; 10] = [0, 1, 125, 126, 127, 65_535, 65_536, 65_537, 1 << 20, 16 << 20];

const PATTERN: &str = "aé€😀"; // one, two, three and four bytes in UTF-8

/// A text of exactly `size` bytes, with characters of every length. It compresses well.
pub(crate) fn text(size: usize) -> String {
    let mut text = PATTERN.repeat(size / PATTERN.len());
    text.push_str(&"é".repeat(size % PATTERN.len() / 2));
    text.push_str(&"z".repeat(size - text.len()));
    text
}

/// Bytes in which a part that is shifted, swapped or repeated is noticed. They compress a little.
pub(crate) fn binary(size: usize) -> Vec<u8> {
    (0..size.div_ceil(3) as u32).flat_map(|number| number.to_be_bytes().into_iter().skip(1)).take(size).collect()
}

/// The high bytes of a xorshift generator, which do not compress. The servers have the same generator.
pub(crate) fn noise(size: usize) -> Vec<u8> {
    let mut state: u32 = 2_463_534_242;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}
