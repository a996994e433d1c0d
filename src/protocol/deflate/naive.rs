//! A plain decompressor that follows RFC 1951 bit by bit. Tests compare the fast one with it.

/// Appends the decompressed form of a deflate stream to `history` and returns the largest distance in it. The stream is
/// read up to its last complete block.
pub(super) fn inflate(stream: &[u8], history: &mut Vec<u8>) -> Option<usize> {
    let mut bits = Bits { stream, position: 0 };
    let mut farthest = 0;
    while bits.position + 3 <= stream.len() * 8 {
        let last = bits.take(1)? == 1;
        let distance = match bits.take(2)? {
            0 => stored(&mut bits, history)?,
            1 => compressed(&mut bits, history, &fixed_lengths(), &[5; 30])?,
            2 => {
                let (lengths, distances) = dynamic_lengths(&mut bits)?;
                compressed(&mut bits, history, &lengths, &distances)?
            }
            _ => return None,
        };
        farthest = farthest.max(distance);
        if last {
            return None; // the compressor never sets BFINAL
        }
    }
    Some(farthest)
}

struct Bits<'a> {
    stream: &'a [u8],
    position: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Option<usize> {
        let mut value = 0;
        for place in 0..count {
            let byte = *self.stream.get(self.position / 8)?;
            value |= usize::from(byte >> (self.position % 8) & 1) << place;
            self.position += 1;
        }
        Some(value)
    }
}

fn stored(bits: &mut Bits<'_>, out: &mut Vec<u8>) -> Option<usize> {
    bits.position = bits.position.next_multiple_of(8);
    let (length, check) = (bits.take(16)?, bits.take(16)?);
    if length != !check & 0xffff {
        return None;
    }
    for _ in 0..length {
        out.push(bits.take(8)? as u8);
    }
    Some(0)
}

fn fixed_lengths() -> Vec<u8> {
    (0..288).map(|symbol| [8, 9, 7, 8][[144, 256, 280, 288].iter().position(|end| symbol < *end).unwrap()]).collect()
}

fn dynamic_lengths(bits: &mut Bits<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let (literals, distances, codes) = (bits.take(5)? + 257, bits.take(5)? + 1, bits.take(4)? + 4);
    let mut code = [0; 19];
    for place in &ORDER[..codes] {
        code[*place] = bits.take(3)? as u8;
    }
    let code = Code::new(&code);
    let mut lengths = Vec::new();
    while lengths.len() < literals + distances {
        let (length, times) = match code.read(bits)? {
            16 => (*lengths.last()?, bits.take(2)? + 3),
            17 => (0, bits.take(3)? + 3),
            18 => (0, bits.take(7)? + 11),
            length => (length as u8, 1),
        };
        lengths.extend(std::iter::repeat_n(length, times));
    }
    let distances = lengths.split_off(literals);
    Some((lengths, distances))
}

/// A canonical Huffman code (RFC 1951 3.2.2).
struct Code {
    /// The number of symbols of each length.
    counts: [usize; 16],
    /// The symbols in the order of their codes.
    symbols: Vec<usize>,
}

impl Code {
    fn new(lengths: &[u8]) -> Code {
        let mut counts = [0; 16];
        for length in lengths.iter().filter(|length| **length > 0) {
            counts[usize::from(*length)] += 1;
        }
        let mut symbols: Vec<usize> = (0..lengths.len()).filter(|symbol| lengths[*symbol] > 0).collect();
        symbols.sort_by_key(|symbol| lengths[*symbol]);
        Code { counts, symbols }
    }

    fn read(&self, bits: &mut Bits<'_>) -> Option<usize> {
        let (mut code, mut first, mut before) = (0, 0, 0);
        for count in &self.counts[1..] {
            code |= bits.take(1)?;
            if code < first + count {
                return Some(self.symbols[before + code - first]);
            }
            before += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }
}

fn compressed(bits: &mut Bits<'_>, out: &mut Vec<u8>, lengths: &[u8], distances: &[u8]) -> Option<usize> {
    let (lengths, distances) = (Code::new(lengths), Code::new(distances));
    let mut farthest = 0;
    loop {
        match lengths.read(bits)? {
            literal @ 0..256 => out.push(literal as u8),
            256 => return Some(farthest),
            code => {
                let length = match code - 257 {
                    28 => 258,
                    small @ 0..8 => small + 3,
                    large => (((large % 4) + 4) << (large / 4 - 1)) + 3 + bits.take(large / 4 - 1)?,
                };
                let distance = match distances.read(bits)? {
                    small @ 0..4 => small + 1,
                    large => (((large % 2) + 2) << (large / 2 - 1)) + 1 + bits.take(large / 2 - 1)?,
                };
                farthest = farthest.max(distance);
                for _ in 0..length {
                    out.push(*out.get(out.len().checked_sub(distance)?)?);
                }
            }
        }
    }
}
