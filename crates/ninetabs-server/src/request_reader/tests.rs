use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::*;

/// The CPU time of this thread. Other load on the machine hardly affects it.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs().try_into().unwrap_or(0))
}

/// The CPU time of reading these bytes `times` times, in pieces of this size.
fn cost(bytes: &[u8], times: usize, piece: usize, max_head_bytes: usize) -> Duration {
    let began = cpu_time();
    for _ in 0..times {
        let mut reader = RequestReader::new(max_head_bytes, u64::MAX);
        let mut whole = 0;
        for piece in <[u8]>::chunks(bytes, piece) {
            reader.push(piece);
            while reader.parse().expect("the request is not refused") {
                reader.take();
                whole += 1;
            }
        }
        assert!(whole >= 1, "no request was complete");
    }
    cpu_time() - began
}

/// The cost per byte in one long request (`many`), divided by the cost per byte in short requests (`few`). Both read
/// about the same number of bytes, in alternating runs. The result is the lowest of several runs.
fn growth(few: &[u8], many: &[u8], piece: usize, max_head_bytes: usize) -> f64 {
    let run = || {
        let few = cost(few, many.len().div_ceil(few.len()), piece, max_head_bytes);
        let many = cost(many, 1, piece, max_head_bytes);
        many.as_secs_f64() / few.as_secs_f64().max(1e-6)
    };
    (0..5).map(|_| run()).reduce(f64::min).unwrap_or(f64::MAX)
}

/// The size of the large requests, as a multiple of the small ones. If the cost of a request were quadratic, the cost
/// per byte would grow by this factor.
const TIMES: usize = 64;
/// The maximum growth of the cost per byte.
const MOST: f64 = 2.0;

#[test]
fn a_head_in_small_pieces_takes_time_in_proportion_to_its_length() {
    let lines = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X:1\r\n".repeat(count));
    let value = |bytes: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "v".repeat(bytes));
    let target = |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "t".repeat(bytes));
    let empty = |count: usize| format!("{}GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n".repeat(count));
    // Up to the largest value that --max-head-bytes accepts.
    for most in [114_688, 16_777_216] {
        for (what, few, many) in [
            ("lines", lines(300), lines(300 * TIMES)),
            ("a value", value(1_200), value(1_200 * TIMES)),
            ("a target", target(190), target(190 * TIMES)),
            ("empty lines", empty(800), empty(800 * TIMES)),
        ] {
            for piece in [1, 5] {
                let growth = growth(few.as_bytes(), many.as_bytes(), piece, most);
                assert!(growth < MOST, "{what} in pieces of {piece}, limit {most}: {growth:.2} times");
            }
        }
    }
}

#[test]
fn a_body_in_small_pieces_takes_time_in_proportion_to_its_length() {
    let counted = |bytes: usize| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n{}", "b".repeat(bytes))
    };
    let chunked = |body: String| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}0\r\n\r\n")
    };
    let chunks = |count: usize| chunked("1\r\nx\r\n".repeat(count));
    let chunk = |bytes: usize| chunked(format!("{bytes:x}\r\n{}\r\n", "b".repeat(bytes)));
    let extension = |bytes: usize| chunked(format!("1;{}\r\nx\r\n", "e".repeat(bytes)));
    for (what, few, many) in [
        ("counted", counted(1_500), counted(1_500 * TIMES)),
        ("chunks", chunks(1_500), chunks(1_500 * TIMES)),
        ("one chunk", chunk(1_500), chunk(1_500 * TIMES)),
        ("an extension", extension(60), extension(60 * TIMES)),
    ] {
        for piece in [1, 7] {
            let growth = growth(few.as_bytes(), many.as_bytes(), piece, 114_688);
            assert!(growth < MOST, "{what} in pieces of {piece}: {growth:.2} times");
        }
    }
}

#[test]
fn pipelined_requests_take_time_in_proportion_to_their_number() {
    let requests = |count: usize| "GET /up HTTP/1.1\r\nHost: a\r\n\r\n".repeat(count);
    let (few, many) = (requests(500), requests(500 * TIMES));
    // Everything in one piece, which is more than a connection reads in one call.
    let growth = growth(few.as_bytes(), many.as_bytes(), usize::MAX, 114_688);
    assert!(growth < MOST, "{growth:.2} times");
}

#[test]
fn the_version_and_method_of_a_refused_request_are_still_known() {
    for method in ["GET", "HEAD", "POST"] {
        for version in ["1.0", "1.1"] {
            for begun in ["", "\r\n"] {
                for rest in [
                    // Refused because of the head, the framing, or the body.
                    "Host: a b\r\n\r\n",
                    "X : 1\r\n",
                    "Host: a\r\nContent-Length: x\r\n\r\n",
                    "Host: a\r\nContent-Length: 1001\r\n\r\n",
                    "Host: a\r\nTransfer-Encoding: identity\r\n\r\n",
                    "Host: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
                    "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n",
                ] {
                    let request = format!("{begun}{method} / HTTP/{version}\r\n{rest}");
                    for piece in [1, request.len()] {
                        let mut reader = RequestReader::new(114_688, 1_000);
                        let refused = request.as_bytes().chunks(piece).any(|piece| {
                            reader.push(piece);
                            reader.parse().is_err()
                        });
                        assert!(refused, "{request:?}");
                        assert_eq!(reader.version() == Version::Http11, version == "1.1", "{request:?}");
                        assert_eq!(reader.is_for_head(), method == "HEAD", "{request:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn an_incomplete_head_takes_memory_in_proportion_to_its_length() {
    // This must hold for any limit.
    let mut reader = RequestReader::new(16_777_216, 1_000);
    let lines = "X:1\r\n".repeat(10_000);
    reader.push(b"GET / HTTP/1.1\r\n");
    assert_eq!(reader.parse(), Ok(false));
    for piece in lines.as_bytes().chunks(100) {
        reader.push(piece);
        assert_eq!(reader.parse(), Ok(false));
    }
    assert!(reader.buffer.capacity() <= 2 * (lines.len() + 100), "{}", reader.buffer.capacity());
}

#[test]
fn all_the_memory_of_a_request_is_counted_in_every_phase() {
    let fields = 10_000;
    let lines = "X:\r\n".repeat(fields);
    // At least the names, and the two offsets of each field.
    let head_bytes = fields * (1 + 2 * mem::size_of::<usize>());
    let body = "b".repeat(5_000);
    for (framing, body) in [
        (format!("Content-Length: {}", body.len()), body.clone()),
        ("Transfer-Encoding: chunked".into(), format!("1388\r\n{body}\r\n0\r\n\r\n")),
    ] {
        let mut reader = RequestReader::new(114_688, 10_000);
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n{lines}\r\n");
        reader.push(&head.as_bytes()[..head.len() - 1]);
        assert_eq!(reader.parse(), Ok(false));
        assert!(reader.held_bytes() >= head.len() - 1, "{framing}: {}", reader.held_bytes());
        // The head is complete, and no byte of the body has arrived.
        reader.push(b"\n");
        assert_eq!(reader.parse(), Ok(false));
        let held = reader.held_bytes();
        assert!((head_bytes..2 * head_bytes).contains(&held), "{framing}: {held}");
        assert_eq!(reader.buffer.capacity(), 0, "{framing}: the buffer of the head was not freed");
        reader.settle();
        assert_eq!(reader.held_bytes(), held, "{framing}");
        reader.push(&body.as_bytes()[..4_000]);
        assert_eq!(reader.parse(), Ok(false));
        assert!(reader.held_bytes() >= held + 3_900, "{framing}: {}", reader.held_bytes());
        reader.push(&body.as_bytes()[4_000..]);
        assert_eq!(reader.parse(), Ok(true));
        assert!(reader.held_bytes() >= held + 5_000, "{framing}: {}", reader.held_bytes());
        assert!(reader.take().is_some());
        assert_eq!(reader.held_bytes(), 0, "{framing}: memory is still held after the request was taken");
    }
}
