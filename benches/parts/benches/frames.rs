//! Parses and encodes frame headers and whole frames. The time is of one frame.

use divan::counter::BytesCount;
use divan::{Bencher, bench, black_box};
use threadbare::protocol::frame::{self, FrameHeader, Opcode};
use threadbare::protocol::{Connection, Received, Role};

/// One for each form of the length: 7, 16 and 64 bits.
const LENGTHS: [u64; 3] = [125, 1024, 70_000];

const PAYLOADS: [usize; 4] = [32, 125, 1024, 16384];

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn main() {
    for length in LENGTHS {
        for mask in [None, Some(KEY)] {
            let header = FrameHeader::new(Opcode::Binary, length, mask);
            let bytes = encoded(&header);
            assert_eq!(FrameHeader::parse(&bytes), Ok(Some((header, header.size()))));
        }
    }
    for payload in PAYLOADS {
        let mut frame = masked(payload);
        let text = vec![b'a'; payload];
        let mut server = Connection::new(Role::Server, 1 << 20);
        let size = frame.len();
        let Ok((taken, Received::Message(message))) = server.receive(&mut frame) else { panic!("a message") };
        assert_eq!((taken, message.as_bytes()), (size, text.as_slice()));
    }
    divan::main();
}

fn encoded(header: &FrameHeader) -> Vec<u8> {
    let mut bytes = Vec::new();
    header.encode(&mut bytes);
    bytes
}

fn masked(payload: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    frame::encode(&mut frame, Opcode::Text, &vec![b'a'; payload], Some(KEY));
    frame
}

#[bench(args = LENGTHS)]
fn parse_masked(bencher: Bencher<'_, '_>, length: u64) {
    let bytes = encoded(&FrameHeader::new(Opcode::Binary, length, Some(KEY)));
    bencher.bench_local(|| FrameHeader::parse(black_box(&bytes)));
}

#[bench(args = LENGTHS)]
fn parse_unmasked(bencher: Bencher<'_, '_>, length: u64) {
    let bytes = encoded(&FrameHeader::new(Opcode::Binary, length, None));
    bencher.bench_local(|| FrameHeader::parse(black_box(&bytes)));
}

#[bench(args = LENGTHS)]
fn encode_unmasked(bencher: Bencher<'_, '_>, length: u64) {
    let header = FrameHeader::new(Opcode::Binary, length, None);
    let mut out = Vec::with_capacity(64);
    bencher.bench_local(|| {
        out.clear();
        black_box(&header).encode(black_box(&mut out));
    });
}

#[bench(args = PAYLOADS)]
fn encode_frame(bencher: Bencher<'_, '_>, payload: usize) {
    let text = vec![b'a'; payload];
    let mut out = Vec::with_capacity(payload + 16);
    bencher.counter(BytesCount::new(payload)).bench_local(|| {
        out.clear();
        frame::encode(black_box(&mut out), Opcode::Text, black_box(&text), None);
    });
}

#[bench(args = PAYLOADS)]
fn encode_masked_frame(bencher: Bencher<'_, '_>, payload: usize) {
    let text = vec![b'a'; payload];
    let mut out = Vec::with_capacity(payload + 16);
    bencher.counter(BytesCount::new(payload)).bench_local(|| {
        out.clear();
        frame::encode(black_box(&mut out), Opcode::Text, black_box(&text), Some(KEY));
    });
}

/// Receives a text message in one frame: parses, unmasks and validates it. A masking key of zeros costs the same, and leaves
/// the input unchanged for the next time.
#[bench(args = PAYLOADS)]
fn receive(bencher: Bencher<'_, '_>, payload: usize) {
    let mut frame = Vec::new();
    frame::encode(&mut frame, Opcode::Text, &vec![b'a'; payload], Some([0; 4]));
    let mut server = Connection::new(Role::Server, 1 << 20);
    bencher.counter(BytesCount::new(payload)).bench_local(|| {
        let received = server.receive(black_box(&mut frame));
        matches!(black_box(received), Ok((_, Received::Message(_))))
    });
}
