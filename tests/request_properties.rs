//! Properties of the parsers for any input: however the network splits the bytes, the requests (or chunks, or events)
//! are the same, nothing panics, and the number of buffered bytes is limited.
//!
//! The input comes from the case files, both unchanged and damaged. `fuzz/` checks the same properties with generated
//! input.

use crate::common::{case_bytes, cuts};
use std::sync::LazyLock;

use crate::common::case_bytes::Case;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

static REQUESTS: LazyLock<Vec<Case>> = LazyLock::new(case_bytes::requests);
static BODIES: LazyLock<Vec<Case>> = LazyLock::new(case_bytes::chunked_bodies);
static STREAMS: LazyLock<Vec<Case>> = LazyLock::new(case_bytes::event_streams);

/// A way to damage bytes.
#[derive(Debug, Clone)]
enum Damage {
    Change(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    /// Repeats a part.
    Repeat(Index, usize, usize),
    /// Replaces the rest with another case.
    GoOnAs(Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    // Bytes that have a meaning for one of the parsers.
    let telling = prop::sample::select(vec![
        &b"\r\n"[..],
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"\t",
        b":",
        b"0",
        b"0\r\n\r\n",
        b"\xEF\xBB\xBF",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Host: a\r\n",
        b"HTTP/2.0",
        b"data",
        b"id: 1\n",
        b"retry: 1\n",
    ]);
    let piece = prop_oneof![telling.prop_map(<[u8]>::to_vec), vec(any::<u8>(), 1..4)];
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Change(at, byte)),
        (any::<Index>(), piece).prop_map(|(at, piece)| Damage::Insert(at, piece)),
        (any::<Index>(), 1..20_usize).prop_map(|(at, length)| Damage::Remove(at, length)),
        (any::<Index>(), 1..20_usize, 2..2_000_usize)
            .prop_map(|(at, length, times)| Damage::Repeat(at, length, times)),
        (any::<Index>(), any::<Index>()).prop_map(|(at, other)| Damage::GoOnAs(at, other)),
    ]
}

fn damaged(cases: &[Case], chosen: Index, damages: &[Damage]) -> Vec<u8> {
    let mut bytes = chosen.get(cases).bytes.clone();
    for damage in damages {
        let at = |index: &Index| index.index(bytes.len() + 1);
        match damage {
            Damage::Change(index, byte) => {
                let at = at(index);
                bytes.get_mut(at).into_iter().for_each(|it| *it = *byte);
            }
            Damage::Insert(index, piece) => {
                let at = at(index);
                bytes.splice(at..at, piece.iter().copied());
            }
            Damage::Remove(index, length) => {
                let at = at(index);
                bytes.drain(at..(at + length).min(bytes.len()));
            }
            Damage::Repeat(index, length, times) => {
                let at = at(index);
                let part = bytes[at..(at + length).min(bytes.len())].repeat(*times);
                bytes.splice(at..at, part);
            }
            Damage::GoOnAs(index, other) => {
                bytes.truncate(at(index));
                bytes.extend_from_slice(&other.get(cases).bytes);
            }
        }
    }
    // This length exceeds every limit. Longer input would take more time and test nothing more.
    bytes.truncate(20 * 1024);
    bytes
}

/// The index of a case, the damage to it, and the lengths of the pieces into which it is split.
fn how() -> impl Strategy<Value = (Index, Vec<Damage>, Vec<usize>)> {
    (any::<Index>(), vec(damage(), 0..5), vec(prop_oneof![2..100_usize, 1..5_000_usize], 1..8))
}

fn config() -> ProptestConfig {
    // The message of a failure contains the bytes, so no file is written.
    ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn requests_are_the_same_however_they_are_split((chosen, damages, lengths) in how()) {
        cuts::same_requests(&damaged(&REQUESTS, chosen, &damages), &lengths);
    }

    #[test]
    fn chunks_are_the_same_however_they_are_split((chosen, damages, lengths) in how()) {
        cuts::same_chunks(&damaged(&BODIES, chosen, &damages), &lengths);
    }

    #[test]
    fn events_are_the_same_however_they_are_split((chosen, damages, lengths) in how()) {
        cuts::same_events(&damaged(&STREAMS, chosen, &damages), &lengths);
    }
}

#[test]
fn every_case_has_the_same_result_however_it_is_split() {
    let several = [[2].as_slice(), &[7, 5], &[100], &[4_096], &[5_000, 1]];
    for lengths in several {
        assert!(BODIES.len() > 10, "only {} cases have chunks", BODIES.len());
        BODIES.iter().for_each(|case| cuts::same_chunks(&case.bytes, lengths));
        REQUESTS.iter().for_each(|case| cuts::same_requests(&case.bytes, lengths));
        STREAMS.iter().for_each(|case| cuts::same_events(&case.bytes, lengths));
    }
}

#[test]
fn endless_input_is_refused_at_its_limit() {
    let endless = |beginning: &str, part: &str| {
        let bytes = [beginning, &part.repeat(200_000 / part.len())].concat();
        cuts::same_requests(&bytes.as_bytes()[..64 * 1024], &[1_000, 100]);
        cuts::requests(&[bytes.as_bytes()]).refused
    };
    const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = |beginning: &str, part: &str| endless(&format!("{CHUNKED}{beginning}"), part);
    assert_eq!(endless("", "\r\n"), Some(431));
    assert_eq!(endless("GET /", "a"), Some(414));
    assert_eq!(endless("", "A"), Some(414));
    assert_eq!(endless("GET / HTTP/1.1\r\nX: ", "a"), Some(431));
    assert_eq!(endless("GET / HTTP/1.1\r\n", "X: 1\r\n"), Some(431));
    assert_eq!(chunked("", "0"), Some(400));
    assert_eq!(chunked("1;", "a"), Some(400));
    assert_eq!(chunked("", "1\r\nx\r\n"), Some(413));
    assert_eq!(chunked("fffff\r\n", "x"), Some(413));
    assert_eq!(chunked("0\r\n", "X: 1\r\n"), Some(400));
    assert_eq!(chunked("0\r\nX:", "1"), Some(400));
}
