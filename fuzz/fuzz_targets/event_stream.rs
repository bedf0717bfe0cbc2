//! An EventSource's stream: the same events come of it however it is cut.
//!
//! The first two bytes say how long the pieces are. What is looked for is a panic: of
//! the code under it, or of the properties in `cuts`.
#![no_main]

#[allow(dead_code)] // The other targets use the rest of it.
#[path = "../../tests/common/cuts.rs"]
mod cuts;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let [first, second, bytes @ ..] = input {
        cuts::same_events(bytes, &[usize::from(*first), usize::from(*second) * 64]);
    }
});
