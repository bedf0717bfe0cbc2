//! Plays every case of `tests/data/eventsource_cases.json` through a socket and a [`Tab`], and through the parser
//! alone, with the bytes split in many ways. Each case was verified with the real Chromium or Firefox.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::common::case_bytes::base64;
use crate::common::wire::{Asked, PATIENCE, Server, wait_for_close, write};
use ninetabs::lab::event_stream::{Parser, ReceivedEvent};
use ninetabs::lab::tab::{Cause, Happens, Reason, Settings, Tab};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    why: String,
    chunks_b64: Vec<String>,
    mime: String,
    expect: Expect,
}

#[derive(Debug, Deserialize)]
struct Expect {
    events: Vec<ReceivedEvent>,
    retry_ms: Option<u64>,
    reconnects: bool,
    last_event_id_header: Option<String>,
}

impl Case {
    fn chunks(&self) -> Vec<Vec<u8>> {
        self.chunks_b64.iter().map(|text| base64(text)).collect()
    }

    fn retry(&self) -> Option<Duration> {
        self.expect.retry_ms.map(Duration::from_millis)
    }
}

fn cases() -> Vec<Case> {
    let cases: Vec<Case> = serde_json::from_str(include_str!("data/eventsource_cases.json")).unwrap();
    assert_eq!(cases.len(), 68);
    cases
}

/// Parses `pieces` as one connection, and returns the events of the page, and the delay and the position of the
/// next request.
fn parse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<ReceivedEvent>, Option<Duration>, String) {
    let mut parser = Parser::default();
    let mut events = Vec::new();
    for piece in pieces {
        parser.feed(piece, |event| events.push(event)).unwrap();
    }
    parser.begin();
    (events, parser.retry(), parser.last_event_id().to_owned())
}

#[test]
fn the_parser_gives_the_same_events_however_the_bytes_are_split() {
    for case in cases().iter().filter(|case| case.expect.reconnects) {
        let whole: Vec<u8> = case.chunks().concat();
        let expected = parse([whole.as_slice()]);
        assert_eq!(expected.0, case.expect.events, "{}: {}", case.name, case.why);
        assert_eq!(expected.1, case.retry(), "{}: {}", case.name, case.why);
        let header = Some(expected.2.trim().to_owned()).filter(|id| !id.is_empty());
        assert_eq!(header, case.expect.last_event_id_header, "{}: {}", case.name, case.why);

        assert_eq!(parse(whole.chunks(1)), expected, "{}, byte by byte", case.name);
        if whole.len() < 1000 {
            for cut in 0..=whole.len() {
                let (front, back) = whole.split_at(cut);
                assert_eq!(parse([front, back]), expected, "{}, cut at {cut}", case.name);
            }
        }
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut rest = whole.as_slice();
            let mut pieces = Vec::new();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(random.usize(1..=rest.len().min(1 + whole.len() / 3)));
                pieces.push(piece);
                rest = after;
            }
            assert_eq!(parse(pieces), expected, "{}, cut at random with seed {seed}", case.name);
        }
    }
}

/// How the server of a case marks the end of its body.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Close,
    Chunked,
}

#[test]
fn a_tab_gets_the_same_events_as_a_browser_if_a_body_ends_with_the_connection() {
    all_cases(Ending::Close);
}

#[test]
fn a_tab_gets_the_same_events_as_a_browser_in_a_chunked_body() {
    all_cases(Ending::Chunked);
}

fn all_cases(ending: Ending) {
    // A case mostly waits, so several run at the same time.
    let (tasks, queue) = crossbeam_channel::unbounded();
    cases().into_iter().for_each(|case| tasks.send(case).unwrap());
    drop(tasks);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| queue.iter().for_each(|case| through_a_socket(case, ending)));
        }
    });
}

fn through_a_socket(case: Case, ending: Ending) {
    let Case { name, why, mime, expect, .. } = &case;
    let about = format!("{name} ({ending:?}): {why}");
    let (tell, asked) = mpsc::channel::<Asked>();
    let (mime, chunks) = (mime.clone(), case.chunks());
    let server = Server::start(move |request, stream| {
        tell.send(request.clone()).unwrap();
        if request.number > 0 {
            return wait_for_close(stream);
        }
        let coding = if matches!(ending, Ending::Chunked) { "Transfer-Encoding: chunked\r\n" } else { "" };
        write(stream, format!("HTTP/1.1 200 OK\r\nContent-Type: {mime}\r\n{coding}\r\n"));
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            match ending {
                Ending::Close => write(stream, chunk),
                Ending::Chunked => {
                    write(stream, format!("{:x}\r\n", chunk.len()));
                    write(stream, chunk);
                    write(stream, "\r\n");
                }
            }
            thread::sleep(Duration::from_millis(2));
        }
        if matches!(ending, Ending::Chunked) {
            write(stream, "0\r\n\r\n");
        }
    });
    // This is short, because many cases have no `retry:`, and their second request should arrive soon.
    let default = Duration::from_millis(5);
    let settings = Settings { name: name.clone(), reconnect_after: default, ..Settings::default() };
    let tab = Tab::open(&server.url("/stream"), settings).unwrap();

    let mut events = Vec::new();
    let reconnects = loop {
        let happening = tab.happenings().recv_timeout(PATIENCE);
        match happening.unwrap_or_else(|error| panic!("{about}: {error}, after {events:?}")).what {
            Happens::Event(event) => events.push(event),
            Happens::Ended { cause, reconnect_in } => {
                assert!(matches!(cause, Cause::Finished), "{about}: {cause}");
                assert_eq!(reconnect_in, case.retry().unwrap_or(default), "{about}");
                break true;
            }
            Happens::Failed { reason } => {
                assert!(matches!(reason, Reason::MimeType(_)), "{about}: {reason}");
                break false;
            }
            Happens::Connecting { .. } | Happens::FirstByte { .. } | Happens::Opened { .. } => {}
        }
    };
    assert_eq!(events, expect.events, "{about}");
    assert_eq!(reconnects, expect.reconnects, "{about}");
    assert_eq!(tab.progress().events as usize, expect.events.len(), "{about}");

    let first = asked.recv_timeout(PATIENCE).unwrap();
    assert_eq!(first.header("Accept"), Some("text/event-stream"), "{about}");
    assert_eq!((first.header("Last-Event-ID"), first.header("Accept-Encoding")), (None, None), "{about}");
    if expect.reconnects {
        let second = asked.recv_timeout(PATIENCE).unwrap();
        assert_eq!(second.header("Last-Event-ID"), expect.last_event_id_header.as_deref(), "{about}");
    } else {
        tab.close();
        assert_eq!(server.accepted(), 1, "{about}");
    }
}

/// The result of a tab whose server gives one answer.
#[derive(Debug, PartialEq, Eq)]
enum Becomes {
    /// The tab gets events with these data, and then reconnects.
    Gets(&'static [&'static str]),
    /// The tab reconnects without an event.
    ComesBack,
    /// The tab fails permanently, with a reason that contains these words.
    FailsFor(&'static str),
}
use Becomes::{ComesBack, FailsFor, Gets};

const EVENT: &[u8] = b"id: 1\ndata: a\n\n";
const A: Becomes = Gets(&["a"]);

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    [head.replace('\n', "\r\n").as_bytes(), b"\r\n\r\n", body].concat()
}

/// An answer with 200 and these fields in addition to its content type.
fn stream(fields: &str, body: &[u8]) -> Vec<u8> {
    answer(&format!("HTTP/1.1 200 OK\nContent-Type: text/event-stream{fields}"), body)
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, text).unwrap();
    encoder.finish().unwrap()
}

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, text).unwrap();
    encoder.finish().unwrap()
}

fn bare_deflate(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, text).unwrap();
    encoder.finish().unwrap()
}

/// Opens a tab on a server that gives this answer to each connection.
fn becomes(bytes: Vec<u8>) -> (Vec<String>, Result<Cause, Reason>) {
    let server = Server::start(move |_, stream| write(stream, &bytes));
    let settings = Settings { reconnect_after: PATIENCE, ..Settings::default() };
    let tab = Tab::open(&server.url("/"), settings).unwrap();
    let mut events = Vec::new();
    loop {
        match tab.happenings().recv_timeout(PATIENCE).expect("the tab reports what happens").what {
            Happens::Event(event) => events.push(event.data),
            Happens::Ended { cause, .. } => return (events, Ok(cause)),
            Happens::Failed { reason } => return (events, Err(reason)),
            _ => {}
        }
    }
}

fn check(rows: Vec<(&str, Vec<u8>, Becomes)>) {
    let (tasks, queue) = crossbeam_channel::unbounded();
    rows.into_iter().for_each(|row| tasks.send(row).unwrap());
    drop(tasks);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for (name, bytes, expected) in queue.iter() {
                    let (events, left) = becomes(bytes);
                    let is_so = match &expected {
                        Gets(data) => left.is_ok() && events == *data,
                        ComesBack => left.is_ok() && events.is_empty(),
                        FailsFor(words) => left.as_ref().is_err_and(|why| why.to_string().contains(words)),
                    };
                    assert!(is_so, "{name}: expected {expected:?}, got {events:?}, {left:?}");
                }
            });
        }
    });
}

/// Each row was tested with an EventSource in Chromium 156. If the stream of a row opens here, it also opens in
/// Chromium. If a row fails permanently here, Chromium either fails as well or, in rows marked with "retry",
/// reconnects forever. This client does not repeat a request whose answer cannot improve.
#[test]
fn heads_that_chromium_accepts_are_accepted() {
    let head = |status_line: &str| {
        let head = format!("{status_line}\nContent-Type: text/event-stream");
        answer(&head, EVENT)
    };
    let many = |count: usize| (0..count).map(|n| format!("\nX-{n}: y")).collect::<String>();
    let long = |bytes: usize| format!("\nX: {}", "y".repeat(bytes));
    check(vec![
        ("HTTP/1.0", head("HTTP/1.0 200 OK"), A),
        ("HTTP/2.0", head("HTTP/2.0 200 OK"), A),
        ("HTTP/3.0", head("HTTP/3.0 200 OK"), A),
        ("HTTP/1.2", head("HTTP/1.2 200 OK"), A),
        ("HTTP/0.9 in a status line", head("HTTP/0.9 200 OK"), A),
        ("lower case", head("http/1.1 200 OK"), A),
        ("no version", head("HTTP 200 OK"), A),
        ("no reason", head("HTTP/1.1 200"), A),
        ("an empty reason", head("HTTP/1.1 200 "), A),
        ("a reason with a non-ASCII letter", head("HTTP/1.1 200 \u{e4}"), A),
        ("no status", head("HTTP/1.1"), A),
        ("not a number", head("HTTP/1.1 OK"), A),
        ("two blanks", head("HTTP/1.1  200 OK"), A),
        ("four digits", head("HTTP/1.1 2000 OK"), FailsFor("2000")),
        ("two digits", head("HTTP/1.1 20 OK"), FailsFor("20")),
        ("a leading zero", head("HTTP/1.1 0200 OK"), A),
        ("300 fields", stream(&many(300), EVENT), A),
        ("5000 fields", stream(&many(5000), EVENT), A),
        ("250 KB", stream(&long(250_000), EVENT), A),
        ("more than 256 KiB, retry", stream(&long(270_000), EVENT), FailsFor("larger than")),
        ("a blank line before", [b"\r\n", head("HTTP/1.1 200 OK").as_slice()].concat(), A),
        ("two blank lines before", [b"\r\n\r\n", head("HTTP/1.1 200 OK").as_slice()].concat(), A),
        ("three bytes before", [b"abc", head("HTTP/1.1 200 OK").as_slice()].concat(), A),
        ("four bytes before", [b"abcd", head("HTTP/1.1 200 OK").as_slice()].concat(), A),
        (
            "five bytes before, retry",
            [b"abcde", head("HTTP/1.1 200 OK").as_slice()].concat(),
            FailsFor("HTTP"),
        ),
        ("bare LF", b"HTTP/1.1 200 OK\nContent-Type: text/event-stream\n\nid: 1\ndata: a\n\n".to_vec(), A),
        (
            "a CR as a line end",
            b"HTTP/1.1 200 OK\r\nX: a\rContent-Type: text/event-stream\r\n\r\ndata: a\n\n".to_vec(),
            A,
        ),
        ("a folded value", answer("HTTP/1.1 200 OK\nContent-Type:\n text/event-stream", EVENT), A),
        (
            "a fold after the status line",
            answer("HTTP/1.1 200 OK\n X: y\nContent-Type: text/event-stream", EVENT),
            A,
        ),
        ("a blank before the colon", answer("HTTP/1.1 200 OK\nContent-Type : text/event-stream", EVENT), A),
        ("a line without a colon", stream("\ngarbage line", EVENT), A),
        ("no name", stream("\n: x", EVENT), A),
        ("a name with a blank", stream("\nX y: z", EVENT), A),
        ("a control byte", stream("\nX: a\u{1}b", EVENT), A),
        ("a non-ASCII letter", stream("\nX: \u{e4}", EVENT), A),
        ("a NUL, retry", stream("\nX: a\0b", EVENT), FailsFor("NUL")),
        ("HTTP/0.9, retry", EVENT.to_vec(), FailsFor("not HTTP")),
        ("ICY", answer("ICY 200 OK\nContent-Type: text/event-stream", EVENT), FailsFor("not HTTP")),
        ("SSH, retry", b"SSH-2.0-x\r\n\r\n".to_vec(), FailsFor("not HTTP")),
        (
            "interim answers",
            [
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
                stream("", EVENT).as_slice(),
            ]
            .concat(),
            A,
        ),
        (
            "thirty interim answers",
            ["HTTP/1.1 100 Continue\r\n\r\n".repeat(30).as_bytes(), &stream("", EVENT)].concat(),
            A,
        ),
        (
            "bytes after an interim answer",
            [b"HTTP/1.1 102 X\r\n\r\nabc", stream("", EVENT).as_slice()].concat(),
            A,
        ),
        ("101, retry", head("HTTP/1.1 101 Switching"), FailsFor("101")),
        ("201", head("HTTP/1.1 201 X"), FailsFor("201")),
        ("204", head("HTTP/1.1 204 X"), FailsFor("204")),
        ("205", head("HTTP/1.1 205 X"), FailsFor("205")),
        ("404, cut off in its head", b"HTTP/1.1 404 Not Found\r\nConte".to_vec(), FailsFor("404")),
        ("200, cut off in its head", b"HTTP/1.1 200 OK\r\nContent-Type: text/event-st".to_vec(), ComesBack),
        ("the alert of a TLS server", b"\x15\x03\x01\x00\x02\x02\x46".to_vec(), FailsFor("not HTTP")),
        ("cut off in the first word", b"HTT".to_vec(), ComesBack),
        ("nothing", Vec::new(), ComesBack),
    ]);
}

#[test]
fn framings_that_chromium_accepts_are_accepted() {
    let chunked = |fields: &str, body: &[u8]| stream(&format!("\nTransfer-Encoding: chunked{fields}"), body);
    let chunks: &[u8] = b"f\r\nid: 1\ndata: a\n\n\r\n0\r\n\r\n";
    let of = |size: &str| [size.as_bytes(), b"\r\n", EVENT, b"\r\n0\r\n\r\n"].concat();
    let more: &[u8] = b"id: 1\ndata: a\n\ndata: more\n\n";
    let gzipped = gzip(EVENT);
    let gzipped = [format!("{:x}\r\n", gzipped.len()).as_bytes(), &gzipped, b"\r\n0\r\n\r\n"].concat();
    check(vec![
        ("a length twice in a list", stream("\nContent-Length: 15, 15", more), A),
        ("a length twice", stream("\nContent-Length: 15\nContent-Length: 15", more), A),
        ("an empty element", stream("\nContent-Length: 15,", more), A),
        ("two lengths in a list, retry", stream("\nContent-Length: 15, 16", EVENT), FailsFor("15 and 16")),
        (
            "two lengths, retry",
            stream("\nContent-Length: 15\nContent-Length: 16", EVENT),
            FailsFor("15 and 16"),
        ),
        (
            "two spellings, retry",
            stream("\nContent-Length: 15\nContent-Length: 015", EVENT),
            FailsFor("15 and 015"),
        ),
        ("a signed length", stream("\nContent-Length: +3", EVENT), A),
        ("not a number", stream("\nContent-Length: abc", EVENT), A),
        ("an empty length", stream("\nContent-Length:", EVENT), A),
        ("a length beyond 64 bits", stream("\nContent-Length: 99999999999999999999999", EVENT), A),
        ("a body shorter than its length", stream("\nContent-Length: 99", EVENT), A),
        ("leading zeros", chunked("", &of("0000000000000000000000f")), A),
        ("extensions", chunked("", &of("f;a=b;c=\"d\"")), A),
        ("blanks after the size", chunked("", &of("f  ")), A),
        ("trailers", chunked("", b"f\r\nid: 1\ndata: a\n\n\r\n0;x\r\nX: y\r\n\r\n"), A),
        ("chunks with bare LF", chunked("", b"f\nid: 1\ndata: a\n\n\n0\n\n"), A),
        ("a blank before the size, retry", chunked("", &of(" f")), FailsFor("hexadecimal")),
        ("a prefix, retry", chunked("", &of("0xf")), FailsFor("hexadecimal")),
        ("a sign, retry", chunked("", &of("+f")), FailsFor("hexadecimal")),
        ("not a size, retry", chunked("", &of("zz")), FailsFor("hexadecimal")),
        ("a size of 64 bits, retry", chunked("", &of("ffffffffffffffff")), FailsFor("2^63")),
        ("an invalid size after an event", chunked("", b"f\r\nid: 1\ndata: a\n\n\r\nzz\r\n"), A),
        ("CHUNKED", stream("\nTransfer-Encoding: CHUNKED", chunks), A),
        ("chunks and a length", chunked("\nContent-Length: 3", chunks), A),
        ("chunks and two lengths", chunked("\nContent-Length: 3\nContent-Length: 4", chunks), A),
        ("identity", stream("\nTransfer-Encoding: identity", EVENT), A),
        ("identity and chunked", stream("\nTransfer-Encoding: identity, chunked", chunks), A),
        ("chunked twice", stream("\nTransfer-Encoding: chunked, chunked", chunks), A),
        ("chunked in two fields", chunked("\nTransfer-Encoding: chunked", chunks), A),
        ("an empty coding", stream("\nTransfer-Encoding:", EVENT), A),
        (
            "chunked with HTTP/2.0",
            answer("HTTP/2.0 200 OK\nContent-Type: text/event-stream\nTransfer-Encoding: chunked", chunks),
            A,
        ),
        (
            "HTTP/1.0 has no chunks",
            answer("HTTP/1.0 200 OK\nContent-Type: text/event-stream\nTransfer-Encoding: chunked", chunks),
            A,
        ),
        (
            "gzip inside the chunks, which Chromium does not decode",
            stream("\nTransfer-Encoding: gzip, chunked", &gzipped),
            A,
        ),
        // Chromium ignores a coding that it does not know.
        ("an unknown coding", stream("\nTransfer-Encoding: foo", EVENT), FailsFor("\"foo\"")),
        (
            "an unknown coding after chunked",
            stream("\nTransfer-Encoding: chunked, foo", chunks),
            FailsFor("\"foo\""),
        ),
    ]);
}

#[test]
fn types_are_extracted_as_the_fetch_standard_requires() {
    let of = |value: &str| answer(&format!("HTTP/1.1 200 OK\nContent-Type: {value}"), EVENT);
    check(vec![
        ("twice in a list", of("text/event-stream, text/event-stream"), A),
        ("twice", of("text/event-stream\nContent-Type: text/event-stream"), A),
        ("text/html after it", of("text/event-stream, text/html"), FailsFor("text/html")),
        (
            "a field with text/html after it",
            of("text/event-stream\nContent-Type: text/html"),
            FailsFor("text/html"),
        ),
        ("text/html before it", of("text/html, text/event-stream"), A),
        ("a field with text/html before it", of("text/html\nContent-Type: text/event-stream"), A),
        ("garbage after it", of("text/event-stream, garbage"), A),
        ("garbage before it", of("garbage, text/event-stream"), A),
        ("*/* after it", of("text/event-stream, */*"), A),
        ("an empty field after it", of("text/event-stream\nContent-Type:"), A),
        ("a quoted comma", of("text/event-stream;x=\"a, text/html\""), A),
        ("an open quote", of("text/event-stream;x=\"a, text/html"), A),
        ("a quoted charset", of("text/event-stream;charset=\"utf-8\""), A),
        ("capitals", of("TEXT/Event-Stream; CHARSET=UTF-8"), A),
        ("a semicolon without a parameter", of("text/event-stream;"), A),
        ("blanks around it", of("  text/event-stream ; charset=utf-8 "), A),
        ("no type", answer("HTTP/1.1 200 OK\nX: y", EVENT), FailsFor("text/event-stream")),
    ]);
}

#[test]
fn codings_are_decoded_or_refused_by_name() {
    let coded = |coding: &str, body: &[u8]| stream(&format!("\nContent-Encoding: {coding}"), body);
    let gzipped = gzip(EVENT);
    // An uncompressed block of Brotli.
    let br = [&[0x8b, 0x07, 0x80][..], b"id: 1\ndata: br\n\n", &[0x03]].concat();
    let two = [gzip(b"data: 1\n\n"), gzip(b"data: 2\n\n")].concat();
    let cut = &gzipped[..gzipped.len() - 8];
    check(vec![
        ("gzip", coded("gzip", &gzipped), A),
        ("x-gzip", coded("x-gzip", &gzipped), A),
        ("GZIP", coded("GZIP", &gzipped), A),
        ("gzip followed by garbage", coded("gzip", &[&gzipped, &b"garbage"[..]].concat()), A),
        ("gzip, cut off before its trailer", coded("gzip", cut), A),
        ("gzip of nothing", coded("gzip", b""), ComesBack),
        ("gzip twice", coded("gzip, gzip", &gzip(&gzipped)), A),
        ("gzip in two fields", coded("gzip\nContent-Encoding: gzip", &gzip(&gzipped)), A),
        ("deflate", coded("deflate", &zlib(EVENT)), A),
        ("deflate without a zlib wrapper", coded("deflate", &bare_deflate(EVENT)), A),
        ("deflate, then gzip", coded("deflate, gzip", &gzip(&zlib(EVENT))), A),
        ("br", coded("br", &br), Gets(&["br"])),
        ("identity", coded("identity", EVENT), A),
        ("an empty field", coded("", EVENT), A),
        // In all following rows, Chromium passes on all or part of the bytes without decoding them.
        ("empty elements", coded(",gzip,", &gzipped), A),
        ("identity and gzip", coded("identity, gzip", &gzipped), A),
        ("two members", coded("gzip", &two), Gets(&["1", "2"])),
        ("a body that is not gzip, retry", coded("gzip", EVENT), FailsFor("not valid gzip")),
        ("compress", coded("compress", EVENT), FailsFor("\"compress\"")),
        ("zstd, which Chromium decodes", coded("zstd", EVENT), FailsFor("\"zstd\"")),
        ("an unknown coding", coded("foo", EVENT), FailsFor("\"foo\"")),
        ("too many codings", coded("gzip,gzip,gzip,gzip,gzip", &gzipped), FailsFor("5 nested codings")),
    ]);
}

#[test]
fn redirects_are_followed_as_chromium_follows_them() {
    let to = |status: u16, target: &str| {
        answer(&format!("HTTP/1.1 {status} X\nContent-Length: 0\nLocation: {target}"), b"")
    };
    check(vec![
        ("no target", to(301, ""), FailsFor("301")),
        ("300", to(300, "/x"), FailsFor("300")),
        ("305", to(305, "/x"), FailsFor("305")),
        ("two targets, retry", to(302, "/x\nLocation: /y"), FailsFor("two different values")),
        ("a redirect to itself", to(302, "/x\nLocation: /x"), ComesBack),
        ("not a URL, retry", to(302, "http://[::1/"), FailsFor("http://[::1/")),
        ("https", to(302, "https://127.0.0.1/"), FailsFor("only plain http")),
        ("ftp", to(302, "ftp://127.0.0.1/"), FailsFor("only plain http")),
        ("data, retry", to(302, "data:text/event-stream,data:x%0a%0a"), FailsFor("only plain http")),
    ]);
}
