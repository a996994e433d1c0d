//! Unmasking: the function of threadbare, a byte loop, and the functions of other libraries, each called through a pointer.

use std::fmt;
use std::hint::black_box;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, bench};
use threadbare_engines::{mask_fastwebsockets, mask_naive, mask_tungstenite};

type Mask = fn(&mut [u8], [u8; 4]);

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The offsets from a boundary of 64 bytes: a payload begins 6, 8 or 14 bytes after its frame, which may begin anywhere.
const OFFSETS: usize = 16;

const SIZES: [usize; 10] = [4, 8, 16, 32, 64, 125, 1 << 10, 16 << 10, 64 << 10, 1 << 20];

fn main() {
    for size in SIZES.into_iter().chain(0..=200) {
        for offset in 0..OFFSETS {
            let mut oracle = buffer(size);
            mask_naive(&mut oracle.at(offset)[..size], KEY);
            for mask in [threadbare::protocol::mask::apply, mask_tungstenite, mask_fastwebsockets] {
                let mut masked = buffer(size);
                mask(&mut masked.at(offset)[..size], KEY);
                assert!(masked.at(0) == oracle.at(0), "{size} bytes at an offset of {offset}");
            }
        }
    }
    divan::main();
}

/// Bytes with room for every offset from a boundary of 64.
struct Buffer {
    bytes: Vec<u8>,
    boundary: usize,
}

fn buffer(size: usize) -> Buffer {
    let mut bytes = vec![0; size + OFFSETS + 64];
    let boundary = bytes.as_ptr().addr().wrapping_neg() % 64;
    bytes.truncate(boundary + size + OFFSETS);
    for (n, byte) in bytes[boundary..].iter_mut().enumerate() {
        *byte = (n * 7 + n / 3) as u8;
    }
    Buffer { bytes, boundary }
}

impl Buffer {
    fn at(&mut self, offset: usize) -> &mut [u8] {
        &mut self.bytes[self.boundary + offset..]
    }
}

/// Measures a size at every offset. The time is of 16 calls.
macro_rules! at_every_offset {
    ($name:ident, $mask:expr) => {
        #[bench(args = SIZES)]
        fn $name(bencher: Bencher<'_, '_>, size: usize) {
            let mut buffers: Vec<Buffer> = (0..buffers_for(size)).map(|_| buffer(size)).collect();
            let mask: Mask = black_box($mask);
            bencher.counter(ItemsCount::new(OFFSETS)).counter(BytesCount::new(OFFSETS * size)).bench_local(|| {
                for offset in 0..OFFSETS {
                    let place = offset % buffers.len();
                    mask(black_box(&mut buffers[place].at(offset)[..size]), KEY);
                }
            });
        }
    };
}

/// Short payloads are in different buffers. Otherwise a call would wait for the bytes that the previous one wrote, and the
/// wait would be measured. For long payloads the wait is short, and 16 of them would not fit in the cache.
fn buffers_for(size: usize) -> usize {
    if size <= 1 << 10 { OFFSETS } else { 1 }
}

at_every_offset!(threadbare, threadbare::protocol::mask::apply);
at_every_offset!(naive, mask_naive);
at_every_offset!(tungstenite, mask_tungstenite);
at_every_offset!(fastwebsockets, mask_fastwebsockets);

/// Measures each offset separately, with `--include-ignored`. The time is of 16 calls.
mod by_offset {
    use super::{Bencher, mask_fastwebsockets, mask_tungstenite};
    use super::{BytesCount, KEY, Mask, OFFSETS, SIZES, bench, black_box, buffer, fmt};

    struct Place {
        size: usize,
        offset: usize,
    }

    impl fmt::Display for Place {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{} at {}", self.size, self.offset)
        }
    }

    fn places() -> impl Iterator<Item = Place> {
        SIZES.into_iter().flat_map(|size| (0..OFFSETS).map(move |offset| Place { size, offset }))
    }

    fn at_one_offset(bencher: Bencher<'_, '_>, place: &Place, mask: Mask) {
        let mut buffer = buffer(place.size);
        let mask = black_box(mask);
        bencher.counter(BytesCount::new(16 * place.size)).bench_local(|| {
            for _ in 0..16 {
                mask(black_box(&mut buffer.at(place.offset)[..place.size]), KEY);
            }
        });
    }

    #[bench(ignore, args = places())]
    fn threadbare(bencher: Bencher<'_, '_>, place: &Place) {
        at_one_offset(bencher, place, threadbare::protocol::mask::apply);
    }

    #[bench(ignore, args = places())]
    fn tungstenite(bencher: Bencher<'_, '_>, place: &Place) {
        at_one_offset(bencher, place, mask_tungstenite);
    }

    #[bench(ignore, args = places())]
    fn fastwebsockets(bencher: Bencher<'_, '_>, place: &Place) {
        at_one_offset(bencher, place, mask_fastwebsockets);
    }
}
