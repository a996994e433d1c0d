//! Validates text: whole messages, and messages that arrive in pieces.

use divan::counter::BytesCount;
use divan::{Bencher, bench, black_box};
use threadbare::protocol::utf8::Validator;

const SIZES: [usize; 5] = [32, 125, 1 << 10, 16 << 10, 64 << 10];

/// The header length of a short masked frame. The standard library validates aligned text faster, so payloads begin here.
const HEADER: usize = 6;

/// The payload of a TCP segment over Ethernet.
const PIECE: usize = 1448;

#[derive(Clone, Copy, Debug)]
enum Script {
    Ascii,
    /// Mostly ASCII, like German or French.
    Mixed,
    /// Three bytes for each character.
    Chinese,
}

const CASES: [(Script, usize); 15] = {
    let scripts = [Script::Ascii, Script::Mixed, Script::Chinese];
    let mut cases = [(Script::Ascii, 0); 15];
    let mut index = 0;
    while index < 15 {
        cases[index] = (scripts[index / 5], SIZES[index % 5]);
        index += 1;
    }
    cases
};

fn main() {
    for (script, size) in CASES {
        let text = text(script, size);
        assert_eq!(text.len(), size);
        assert!(whole(&text) && in_pieces(&text, PIECE) && in_pieces(&text, 7), "{script:?} of {size} bytes is valid");
        let mut wrong = text;
        wrong[size - 3] = 0xff;
        assert!(!whole(&wrong) && !in_pieces(&wrong, PIECE) && !in_pieces(&wrong, 7), "FF is never valid");
    }
    divan::main();
}

/// Exactly `size` bytes, filled up with spaces where a character does not fit.
fn text(script: Script, size: usize) -> Vec<u8> {
    let pattern = match script {
        Script::Ascii => "Small messages are what a server has most of. ",
        Script::Mixed => "Größere Nachrichten über zwölf Ländergrenzen hinweg, à la carte. ",
        Script::Chinese => "一个线程拥有许多连接而不需要异步运行时",
    };
    let mut text = String::new();
    for character in pattern.chars().cycle() {
        if text.len() + character.len_utf8() > size {
            break;
        }
        text.push(character);
    }
    let mut text = text.into_bytes();
    text.resize(size, b' ');
    text
}

/// Validates a message that is whole in the input.
fn whole(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok()
}

/// Validates a message that arrives in pieces, by reads or by fragments.
fn in_pieces(text: &[u8], piece: usize) -> bool {
    let mut validator = Validator::default();
    text.chunks(piece).all(|piece| validator.feed(piece).is_ok()) && validator.finish().is_ok()
}

#[bench(args = CASES)]
fn whole_message(bencher: Bencher<'_, '_>, (script, size): (Script, usize)) {
    let frame = [vec![0; HEADER], text(script, size)].concat();
    bencher.counter(BytesCount::new(size)).bench_local(|| whole(black_box(&frame[HEADER..])));
}

#[bench(args = CASES)]
fn pieces_of_1448(bencher: Bencher<'_, '_>, (script, size): (Script, usize)) {
    let frame = [vec![0; HEADER], text(script, size)].concat();
    bencher.counter(BytesCount::new(size)).bench_local(|| in_pieces(black_box(&frame[HEADER..]), PIECE));
}

#[bench(args = CASES)]
fn pieces_of_7(bencher: Bencher<'_, '_>, (script, size): (Script, usize)) {
    let frame = [vec![0; HEADER], text(script, size)].concat();
    bencher.counter(BytesCount::new(size)).bench_local(|| in_pieces(black_box(&frame[HEADER..]), 7));
}
