//! An EventSource's stream yields the same events however it is cut into pieces.
//!
//! The first two bytes of the input set the length of the pieces. The target fails on a panic, in the parser
//! or in one of the properties in `cuts`.
#![no_main]

#[allow(dead_code)] // The other targets use the remaining functions.
#[path = "../../tests/common/cuts.rs"]
mod cuts;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let [first, second, bytes @ ..] = input {
        cuts::same_events(bytes, &[usize::from(*first), usize::from(*second) * 64]);
    }
});
