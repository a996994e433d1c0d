//! What an engine sends to a bridge.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| threadbare::fuzzing::redis(data));
