//! What one process says to another that takes its server over.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| threadbare::fuzzing::hand_over(data));
