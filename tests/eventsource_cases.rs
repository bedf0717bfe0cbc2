//! Every case of `tests/data/eventsource_cases.json`, each of which agreed with real
//! Chromium or real Firefox: through a socket and a [`Tab`], and through the parser
//! alone, however the bytes are cut.

#[path = "common/wire.rs"]
mod wire;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ninetabs::lab::event_stream::{Event, Parser};
use ninetabs::lab::tab::{Cause, Reason, Settings, Tab, What};
use serde::Deserialize;
use wire::{Asked, PATIENCE, Server, wait_for_close, write};

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
    events: Vec<Event>,
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

fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0u32, 0);
    for digit in text.bytes().filter(|byte| *byte != b'=') {
        bits = bits << 6 | ALPHABET.iter().position(|known| *known == digit).unwrap() as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

/// Parses `pieces` as one connection and says what a page and the next request see.
fn parse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Option<Duration>, String) {
    let mut parser = Parser::default();
    let mut events = Vec::new();
    for piece in pieces {
        parser.feed(piece, |event| events.push(event)).unwrap();
    }
    parser.begin();
    (events, parser.retry(), parser.last_event_id().to_owned())
}

#[test]
fn the_parser_gives_the_same_however_the_bytes_are_cut() {
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
fn a_tab_sees_what_a_browser_sees_when_the_connection_is_the_end() {
    all_cases(Ending::Close);
}

#[test]
fn a_tab_sees_what_a_browser_sees_through_the_chunked_coding() {
    all_cases(Ending::Chunked);
}

fn all_cases(ending: Ending) {
    // Most of a case is waiting for pauses, so a few run side by side.
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
    // Short, so that the second request of the many cases without `retry:` comes soon.
    let default = Duration::from_millis(5);
    let settings = Settings { name: name.clone(), reconnect_after: default, ..Settings::default() };
    let tab = Tab::open(&server.url("/stream"), settings).unwrap();

    let mut events = Vec::new();
    let reconnects = loop {
        let happening = tab.happenings().recv_timeout(PATIENCE);
        match happening.unwrap_or_else(|error| panic!("{about}: {error}, after {events:?}")).what {
            What::Event(event) => events.push(event),
            What::Ended { cause, reconnect_in } => {
                assert!(matches!(cause, Cause::Finished), "{about}: {cause}");
                assert_eq!(reconnect_in, case.retry().unwrap_or(default), "{about}");
                break true;
            }
            What::Failed { reason } => {
                assert!(matches!(reason, Reason::MimeType(_)), "{about}: {reason}");
                break false;
            }
            What::Connecting { .. } | What::FirstByte { .. } | What::Opened { .. } => {}
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
