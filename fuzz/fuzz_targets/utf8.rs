//! UTF-8 that arrives in pieces: the same as the standard library says of the whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use threadbare::protocol::utf8::Validator;

fuzz_target!(|data: &[u8]| {
    let [size, bytes @ ..] = data else { return };
    let mut validator = Validator::default();
    let fed: Result<(), _> = bytes.chunks(usize::from(*size).max(1)).try_for_each(|piece| validator.feed(piece));
    assert_eq!(fed.and_then(|()| validator.finish()).is_ok(), std::str::from_utf8(bytes).is_ok());
});
